"""The pair of a finished run of the workflow: its models, its Fusers and its questions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from c2c.errors import RefusedError, check_choice
from c2c.evaluation.questions.task_files import read_task_file, task_path
from c2c.storage.manifests import read_object, read_source

RECIPE = "c2c"
TASKS = Path("benchmarks/tasks")
"""Folder of task files in the repository of the replication."""


@dataclass(frozen=True)
class PairPlaces:
    """Where a pair is.

    Args:
        receiver: Model manifest, folder or hub id.
        sharer: The same of the Sharer.
        fuser: Folder or hub id of the Fusers.
        questions: File of example questions, or None for those of the package.
        tasks: Folder of task files, of which one is of the questions, or None.
    """

    receiver: str
    sharer: str
    fuser: str
    questions: Path | None = None
    tasks: Path | None = None


def pair_of_results(results: Path, pair: str | None = None) -> PairPlaces:
    """The places of a pair whose Fusers a run of the workflow has trained.

    Args:
        results: Folder of the run, such as ``results/smoke``.
        pair: Id of the pair; the first one if None.

    Raises:
        RefusedError: If the folder holds no trained pair, or not this one.
    """
    folders = {folder.relative_to(results / "fusers").parts[0]: folder for folder in reversed([*_fusers(results)])}
    if not folders:
        raise RefusedError(
            "A folder of results must hold the Fusers of a pair",
            str(results),
            "Run make smoke, or name a pair: --receiver, --sharer and --fuser",
        )
    if pair is not None:
        check_choice(f"A pair of {results}", pair, sorted(folders))
    folder = folders[pair or min(folders)]
    # Models are named in the contract by their ids, which their manifests hold
    contract = read_object(folder / "manifest.json", "Train the Fusers again")["contract"]
    manifests = {read_source(path)["id"]: path for path in sorted((results / "models").glob("*.json")) if _is_own(path)}
    models = [contract[role]["id"] for role in ("receiver", "sharer")]
    if absent := [name for name in models if name not in manifests]:
        raise RefusedError(
            f"The models of {folder} must be in the same results", absent, "Finish the run: the same command resumes"
        )
    questions = next(_free_questions(results), None)
    receiver, sharer = (str(manifests[name]) for name in models)
    return PairPlaces(receiver, sharer, str(folder), questions, None if questions is None else TASKS)


def _fusers(results: Path) -> Iterator[Path]:
    """Folders of trained Fusers of the recipe, by pair, alignment and seed."""
    yield from (path.parent for path in sorted(results.glob(f"fusers/*/{RECIPE}/*/seed*/manifest.json")))


def _is_own(path: Path) -> bool:
    return not path.name.endswith(".provenance.json")


def _free_questions(results: Path) -> Iterator[Path]:
    """Prepared questions whose task, in the current folder's repository, asks for free answers."""
    for path in sorted(results.glob("data/benchmarks/*.jsonl")):
        try:
            task_path(TASKS, path.stem)
        except RefusedError:
            continue
        if read_task_file(TASKS, path.stem).get("output_type") == "generate_until":
            yield path
