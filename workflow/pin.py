"""Pins revisions: writes the commit that each branch or tag of the config's tables stands for into the table.

    python -m workflow.pin                             every row of config/ and every benchmark with a hub id
    python -m workflow.pin --only qwen3_06b gsm8k
    python -m workflow.pin --results results/paper     to the commits that a run got; needs no network

A commit is asked of the hub; of what a folder of C2C_HUB_MIRROR holds, it is the commit that the folder says it is of.
Rows whose revision is a commit stay as they are. Nothing is written unless every row that is asked for resolves; of a
run's results, rows that the run did not use stay as they are too.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from benchmarks.catalogue import FOLDER, read_benchmarks
from c2c.errors import RefusedError, exit_code
from c2c.models import hub
from c2c.storage.files import write_atomically
from paper.reading.commits import COMMIT, TABLES, read_fetched
from workflow.validation import read_table

REVISION = re.compile(r"^( +revision: +)\S+", flags=re.MULTILINE)
"""Where the file of a benchmark names its revision."""

Resolve = Callable[[str, str, str], str | None]
"""Hub id, revision and kind of repository to a commit; None leaves the row as it is."""


def commit_of(hub_id: str, revision: str, kind: str) -> str:
    """The commit that a revision stands for now, in the mirror that has the id, else on the hub.

    Raises:
        RefusedError: The mirror's folder does not say which commit it is of, or the hub does not know or answer.
    """
    if folder := hub.mirror_folder(hub_id):
        if commit := hub.revision_of(folder):
            return commit
        remedy = f"Download it with its history (hf download), or take the mirror out of {hub.MIRRORS}"
        raise RefusedError("A mirrored folder that is pinned must say of which commit it is", str(folder), remedy)
    from huggingface_hub import HfApi

    try:
        commit = str(HfApi().repo_info(hub_id, revision=revision, repo_type=kind).sha)
    except Exception as error:
        received = f"{hub_id}, revision {revision}: {type(error).__name__}"
        remedy = "Run this where the hub is reached, and correct the id or the revision"
        raise RefusedError(f"The hub must know the {kind} and its revision", received, remedy) from error
    if not COMMIT.fullmatch(commit):
        remedy = "Check the address of the hub (HF_ENDPOINT)"
        raise RefusedError(f"The hub must name a commit of {hub_id}, 40 hexadecimal digits", commit, remedy)
    return commit


def recorded(results: Path) -> Resolve:
    """Gives the commits that a run got, as its manifests and provenance files record them.

    Raises:
        RefusedError: The results record nothing from the hub, or two commits of one revision.
    """
    fetched = read_fetched(results)
    if not fetched:
        raise RefusedError("A results folder must record what came from the hub", str(results), "Name that of a run")
    commits: dict[tuple[str, str, str], str] = {}
    for row in fetched:
        key = (row.id, row.revision, row.kind)
        if row.commit and commits.setdefault(key, row.commit) != row.commit:
            rule = f"A run must have one commit of {row.id}, revision {row.revision}"
            remedy = f"Pin it by hand, and make {row.place} anew"
            raise RefusedError(rule, f"{commits[key]} and, in {row.place}, {row.commit}", remedy)
    return lambda *key: commits.get(key)


def pin(config: Path, resolve: Resolve = commit_of, only: Collection[str] = ()) -> list[str]:
    """Pin the tables of a folder, and the benchmarks; returns a line for each revision that changed.

    Args:
        config: Folder of the tables; that of the benchmarks is benchmarks/tasks beside it.
        resolve: Gives the commit.
        only: Ids of the rows to pin; empty for all.

    Raises:
        RefusedError: A row does not resolve, or no table has an id of `only`.
    """
    texts, changes, names = dict[Path, str](), [], set[str]()
    commits: dict[tuple[str, str, str], str | None] = {}
    for table, kind in TABLES.items():
        if table == "benchmarks":
            continue
        read_table(config / f"{table}.tsv")  # refuses what is no such table
        head, *rows = (config / f"{table}.tsv").read_text(encoding="utf-8").splitlines()
        id_column, revision_column = (head.split("\t").index(column) for column in ("hub_id", "revision"))
        for number, row in enumerate(rows):
            cells = row.split("\t")
            names.add(cells[0])
            is_commit = COMMIT.fullmatch(cells[revision_column])
            if not cells[id_column] or is_commit or (only and cells[0] not in only):
                continue
            key = (cells[id_column], cells[revision_column], kind)
            if key not in commits:
                commits[key] = resolve(*key)
            if commit := commits[key]:
                changes.append(f"{table}: {cells[0]}: {cells[revision_column]} is {commit}")
                cells[revision_column] = commit
                rows[number] = "\t".join(cells)
        texts[config / f"{table}.tsv"] = "\n".join([head, *rows]) + "\n"
    benchmarks = config.parent / FOLDER
    for name, row in (read_benchmarks([benchmarks]) if benchmarks.is_dir() else {}).items():
        names.add(name)
        if not row["hub_id"] or COMMIT.fullmatch(row["revision"]) or (only and name not in only):
            continue
        key = (row["hub_id"], row["revision"], TABLES["benchmarks"])
        if key not in commits:
            commits[key] = resolve(*key)
        if commit := commits[key]:
            changes.append(f"benchmarks: {name}: {row['revision']} is {commit}")
            path = Path(row["folder"]) / f"{name}.yaml"
            text = path.read_text(encoding="utf-8")
            texts[path] = REVISION.sub(rf"\g<1>{commit}", text, count=1)
    if unknown := sorted(set(only) - names):
        raise RefusedError(
            "What is pinned must be a row of a table with hub ids, or a benchmark", ", ".join(unknown), "Correct --only"
        )
    for path, text in texts.items():
        write_atomically(path, text)
    return changes


def main() -> int:
    """Command line; a refusal is printed as one line and ends with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("config"), help="folder of the tables")
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="rows to pin; all by default")
    parser.add_argument("--results", type=Path, help="take the commits that this run got, instead of asking the hub")
    return exit_code("workflow.pin", lambda: _pin(parser.parse_args()))


def _pin(options: argparse.Namespace) -> None:
    resolve = recorded(options.results) if options.results else commit_of
    changes = pin(options.config, resolve, options.only)
    nothing = "No row is of a revision that the run took" if options.results else "Every revision is a commit already"
    print("\n".join(changes) or nothing)


if __name__ == "__main__":
    sys.exit(main())
