"""Pins revisions: writes the commit that each branch or tag of the config's tables stands for into the table.

    python -m workflow.pin                     every row of config/ with a hub id
    python -m workflow.pin --only qwen3_06b gsm8k

A commit is asked of the hub; of what a folder of C2C_HUB_MIRROR holds, it is the commit that the folder says it is of.
Rows whose revision is a commit stay as they are. Nothing is written unless every row that is asked for resolves.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from c2c import hub
from c2c.errors import RefusedError
from c2c.files import write_atomically

KINDS = {"models": "model", "benchmarks": "dataset", "training_sets": "dataset"}
"""Tables with hub ids, and what kind of repository those name."""
COMMIT = re.compile(r"[0-9a-f]{40}")

Resolve = Callable[[str, str, str], str]
"""Hub id, revision and kind of repository to a commit."""


def commit_of(hub_id: str, revision: str, kind: str) -> str:
    """The commit that a revision stands for now, in the mirror that has the id, else on the hub.

    Raises:
        RefusedError: The mirror's folder does not say which commit it is of, or the hub does not know or answer.
    """
    if folder := hub.mirrored(hub_id):
        if found := hub.revision_of(folder):
            return found
        remedy = f"Download it with its history (hf download), or take the mirror out of {hub.MIRRORS}"
        raise RefusedError("A mirrored folder that is pinned says of which commit it is", str(folder), remedy)
    from huggingface_hub import HfApi

    try:
        return str(HfApi().repo_info(hub_id, revision=revision, repo_type=kind).sha)
    except Exception as error:
        received = f"{hub_id}, revision {revision}: {type(error).__name__}"
        remedy = "Run this where the hub is reached, and correct the id or the revision"
        raise RefusedError(f"The hub knows the {kind} and its revision", received, remedy) from error


def pin(config: Path, resolve: Resolve = commit_of, only: Collection[str] = ()) -> list[str]:
    """Pin the tables of a folder; returns a line for each row that changed.

    Args:
        config: Folder of the tables.
        resolve: Gives the commit.
        only: Ids of the rows to pin; empty for all.

    Raises:
        RefusedError: A row does not resolve, or no table has an id of `only`.
    """
    texts, changes, seen = {}, [], set[str]()
    commits: dict[tuple[str, str, str], str] = {}
    for table, kind in KINDS.items():
        head, *rows = (config / f"{table}.tsv").read_text(encoding="utf-8").splitlines()
        named, placed = (head.split("\t").index(column) for column in ("hub_id", "revision"))
        for number, row in enumerate(rows):
            cells = row.split("\t")
            seen.add(cells[0])
            if not cells[named] or COMMIT.fullmatch(cells[placed]) or (only and cells[0] not in only):
                continue
            key = (cells[named], cells[placed], kind)
            commits[key] = commits.get(key) or resolve(*key)
            changes.append(f"{table}: {cells[0]}: {cells[placed]} is {commits[key]}")
            cells[placed] = commits[key]
            rows[number] = "\t".join(cells)
        texts[table] = "\n".join([head, *rows]) + "\n"
    if unknown := sorted(set(only) - seen):
        raise RefusedError("What is pinned is a row of a table with hub ids", ", ".join(unknown), "Correct --only")
    for table, text in texts.items():
        write_atomically(config / f"{table}.tsv", text)
    return changes


def main() -> int:
    """Command line; a refusal is printed as one line and ends with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("config"), help="folder of the tables")
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="rows to pin; all by default")
    given = parser.parse_args()
    try:
        changes = pin(given.config, only=given.only)
    except RefusedError as refusal:
        print(f"workflow.pin: {refusal}", file=sys.stderr)
        return 2
    print("\n".join(changes) or "Every revision is a commit already")
    return 0


if __name__ == "__main__":
    sys.exit(main())
