"""The commits that a run's inputs from the hub are of: as the run recorded them, and as config/ pins them.

What is cited of the scales of `CITED`, and of scales with their basis (`basis_of`), rests on commits that the tables of
config/ name: a branch is another thing tomorrow. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.catalogue import FOLDER, read_benchmarks
from c2c.errors import RefusedError
from c2c.provenance import SUFFIX
from c2c.storage.formats import read_text
from c2c.storage.manifests import read_object
from paper.reading.committed import basis_of

CONFIG = Path(__file__).resolve().parents[2] / "config"
BENCHMARKS = CONFIG.parent / FOLDER
"""Where the benchmarks of this repository are."""
TABLES = {"models": "model", "released": "model", "benchmarks": "dataset", "training_sets": "dataset"}
"""Tables with hub ids (benchmarks have a file each), and what kind of repository those name."""
COMMIT = re.compile(r"[0-9a-f]{40}")
CITED = ("paper",)
"""Scales of which nothing is cited whose inputs are not pinned, nor of any other scale with their basis."""
MANIFESTS = ("models/*.json", "released/*.json")
STAMPS = tuple(
    f"data/{place}{SUFFIX}"
    for place in ("benchmarks/*.jsonl", "training/*/train.jsonl", "training_questions/*.jsonl", "shots/*.jsonl")
)
"""Provenance files, below a results folder, of what is prepared from data sets."""
FROM_HUB = ("hub", "mirror")
"""Sources that stand for an id of the hub."""
MAKE_AGAIN = "Remove the file, and run the workflow again"


@dataclass(frozen=True)
class Fetched:
    """A model, fusers or a data set that a run took by a hub id.

    Args:
        id: ``owner/name``.
        kind: ``model`` or ``dataset``.
        revision: What was asked for.
        commit: What that was; None where nothing said so, as in a mirror without history.
        place: The file that records it, below the results folder.
    """

    id: str
    kind: str
    revision: str
    commit: str | None
    place: str


def read_fetched(results: Path) -> list[Fetched]:
    """What a run took by hub ids, from the manifests and provenance files in its results folder.

    Raises:
        RefusedError: One of them is no JSON object, or does not say what it is of.
    """
    return [*_of_manifests(results), *_of_stamps(results)]


def _of_manifests(results: Path) -> Iterator[Fetched]:
    for path in (path for pattern in MANIFESTS for path in sorted(results.glob(pattern))):
        if not path.name.endswith(SUFFIX):
            yield from _fetched(read_object(path, MAKE_AGAIN), "model", str(path.relative_to(results)))


def _of_stamps(results: Path) -> Iterator[Fetched]:
    for path in (path for pattern in STAMPS for path in sorted(results.glob(pattern))):
        about = read_object(path, MAKE_AGAIN).get("data", [])
        for source in about if isinstance(about, list) else [about]:
            yield from _fetched(source, "dataset", str(path.relative_to(results)))


def _fetched(about: Any, kind: str, place: str) -> Iterator[Fetched]:
    has_id = isinstance(about, dict) and isinstance(about.get("id"), str)
    if not has_id:
        raise RefusedError(f"{place} must name the id of what it is of", about, MAKE_AGAIN)
    if about.get("source") in FROM_HUB:
        revision = about.get("resolved")
        commit = revision if isinstance(revision, str) and COMMIT.fullmatch(revision) else None
        yield Fetched(about["id"], kind, str(about.get("revision")), commit, place)


def read_pinned(config: Path = CONFIG) -> set[tuple[str, str]]:
    """Ids and commits that the tables of a config folder, and the benchmarks next to it, name.

    Raises:
        RefusedError: A table is missing, or lacks a column.
    """
    folder = config.parent / FOLDER
    rows = read_benchmarks([folder] if folder.is_dir() else []).values()
    commits = {(row["hub_id"], row["revision"]) for row in rows if COMMIT.fullmatch(row["revision"] or "")}
    for table in (table for table in TABLES if table != "benchmarks"):
        path = config / f"{table}.tsv"
        rows = [line.split("\t") for line in read_text(path, "Restore the table").splitlines()]
        if not rows or not {"hub_id", "revision"} <= set(rows[0]):
            raise RefusedError(f"{path.name} must have the columns hub_id and revision", rows[:1], "Restore the table")
        id_column, revision_column = rows[0].index("hub_id"), rows[0].index("revision")
        commits |= {
            (row[id_column], row[revision_column])
            for row in rows[1:]
            if COMMIT.fullmatch("".join(row[revision_column : revision_column + 1]))
        }
    return commits


def read_revisions(results: Path | None = None, config: Path = CONFIG) -> dict[str, str]:
    """The revision of each model of the hub by its id: the commit that a run recorded, else what the table names.

    Raises:
        RefusedError: As `read_fetched` and `read_pinned`.
    """
    rows = [line.split("\t") for line in read_text(config / "models.tsv", "Restore the table").splitlines()]
    id_column, revision_column = rows[0].index("hub_id"), rows[0].index("revision")
    revisions = {
        row[id_column]: row[revision_column]
        for row in rows[1:]
        if len(row) > revision_column and row[id_column] and row[revision_column]
    }
    sources = read_fetched(results) if results else []
    return revisions | {source.id: source.commit for source in sources if source.kind == "model" and source.commit}


def check_pinned(results: Path, config: Path = CONFIG) -> None:
    """Refuse to cite a run with a basis of `CITED` whose inputs are not all of the commits that the tables name.

    Args:
        results: Folder of one scale's results; its verdicts name the basis. Any other basis is accepted.
        config: Folder of the tables.

    Raises:
        RefusedError: With each input that is not.
    """
    scale = results.resolve().name
    if (basis_of(results) or scale) not in CITED:
        return
    rule = f"What is cited of the scale {scale} must rest on commits that config/ names"
    sources, commits = read_fetched(results), read_pinned(config)
    if not sources:
        remedy = "Run the scale, and cite the results that the run leaves"
        raise RefusedError(rule, f"{results}, which records none", remedy)
    # A branch, or a commit that no table names, may be other data tomorrow.
    loose = [source for source in sources if source.commit is None or (source.id, source.commit) not in commits]
    if loose:
        titles = list(dict.fromkeys(f"{source.id} at {source.commit or source.revision}" for source in loose))
        remedy = (
            f"Pin what the run got: python -m workflow.pin --results {results}. What came from a folder without "
            "history must be fetched again, at a commit"
        )
        raise RefusedError(rule, titles, remedy)
