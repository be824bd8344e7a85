"""Generate the records of one Receiver that reads several Sharers, with Fusers that were trained alone (Table 13)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.errors import RefusedError, check_choice
from c2c.evaluation import schema
from c2c.evaluation.answers.batches import check_budget
from c2c.evaluation.answers.store import AnswerStore, check_free
from c2c.evaluation.methods.method import TOKEN_BUDGET, Method
from c2c.evaluation.pair_run import check_fusers_precision, check_labels
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.task_files import task_files
from c2c.evaluation.readers.several import several_reader
from c2c.evaluation.readers.sharer_memory import SharerMemory
from c2c.evaluation.run import answer_all
from c2c.models.loading import LoadedModel, load_model, model_state
from c2c.provenance import file_hash
from c2c.types import DTYPES, FUSIONS, PROMPTS

DEFAULT_RECIPE = "c2c"
"""Recipe of Fusers where a run names none."""


@dataclass(frozen=True, kw_only=True)
class GroupRun:
    """What one call of ``c2c generate-group`` answers.

    Args:
        scale: Of the replication.
        pair: Id of the group, which stands where records name a pair.
        receiver: Where the Receiver is.
        sharers: Where each Sharer is.
        fusers: Folder of each Sharer's Fusers.
        fusion: ``sequential`` or ``parallel``; it is the recipe of the records.
        recipe: That of the Fusers where it is another than ``c2c``; then records have ``<recipe>_<fusion>``.
        methods: Some of `schema.GROUP_METHODS`; ``c2c_zeroed_2`` gives the second Sharer a cache of zeros.
        tasks: Folder of task files.
        benchmarks: Prepared questions of each benchmark.
        output: Parquet file of records.
        alignment: Token alignment that the Fusers were trained with.
        seed: Their training seed.
        accept_difference: Lines of the Fusers' contracts that may differ, by name.
        prompts: ``plain`` or ``chat``.
        dtype: Precision of the models.
        token_budget: Tokens of a batch.
        limit: Only the first questions of each benchmark; 0 for all.

    Raises:
        RefusedError: If a name is unknown, Sharers and Fusers are not two or more of each, one a Sharer, or the folder
            of one's Fusers names another recipe, alignment or seed.
    """

    scale: str
    pair: str
    receiver: str
    sharers: Sequence[str]
    fusers: Sequence[str]
    fusion: str = "sequential"
    recipe: str = ""
    methods: Sequence[str]
    tasks: Path
    benchmarks: Mapping[str, Path]
    output: Path
    alignment: str
    seed: int
    accept_difference: Sequence[str] = ()
    prompts: str = "plain"
    dtype: str = "float32"
    token_budget: int = TOKEN_BUDGET
    limit: int = 0

    def __post_init__(self) -> None:
        schema.check_ids(scale=self.scale, pair=self.pair)
        schema.check_limit(self.limit)
        check_budget(self.token_budget)
        check_choice("--fusion", self.fusion, FUSIONS)
        check_choice("--prompts", self.prompts, PROMPTS)
        check_choice("--dtype", self.dtype, DTYPES)
        for number, fuser in enumerate(self.fusers, start=1):
            # Here a Sharer's line has its number: sharer_2.weights_sha256.
            accept = [line.replace(f"sharer_{number}.", "sharer.") for line in self.accept_difference]
            check_fusers_precision(fuser, self.dtype, accept)
            check_labels(fuser, recipe=self.recipe or DEFAULT_RECIPE, alignment=self.alignment, seed=self.seed)
        if not 2 <= len(self.sharers) <= schema.MOST_SHARERS or len(self.sharers) != len(self.fusers):
            rule = f"A group must have 2 to {schema.MOST_SHARERS} Sharers, and the Fusers of each"
            received = f"{len(self.sharers)} Sharers, {len(self.fusers)} folders of Fusers"
            raise RefusedError(rule, received, "Name them in the same order: --sharers A B --fusers A B")
        known = [name for name in schema.GROUP_METHODS if _zeroed_one(name) < len(self.sharers)]
        for method in self.methods:
            check_choice("--methods", method, known)

    def files(self) -> list[Path]:
        """Models and Fusers that are files or folders here, and the questions."""
        given = [Path(each) for each in (self.receiver, *self.sharers, *self.fusers)]
        return [*(path for path in given if path.exists()), *self.benchmarks.values()]

    def fingerprint(self) -> str:
        """Hash of everything that an answer depends on: arguments, questions, prompts, models and Fusers."""
        files = [*map(Path, self.fusers), *self.benchmarks.values(), *task_files(self.tasks, self.benchmarks)]
        hashes: list[Any] = [file_hash(path) for path in files]
        hashes += [model_state(each) for each in (self.receiver, *self.sharers)]
        arguments = [self.pair, self.receiver, *self.sharers, *self.fusers, self.fusion, *self.methods, self.alignment]
        arguments += [self.recipe] if self.recipe else []
        arguments += [
            str(self.seed),
            str(self.token_budget),
            str(self.limit),
            self.prompts,
            self.dtype,
            *self.accept_difference,
        ]
        return hashlib.sha256(json.dumps([hashes, arguments]).encode()).hexdigest()[:16]

    def columns(self, receiver: str, sharers: Sequence[str], method: str) -> dict[str, Any]:
        """The columns of a record that say who answers."""
        return {
            "scale": self.scale,
            "pair": self.pair,
            "receiver": receiver,
            "sharer": schema.TOGETHER.join(sharers),
            "recipe": f"{self.recipe}_{self.fusion}" if self.recipe else self.fusion,
            "alignment": self.alignment,
            "prompts": self.prompts,
            "method": method,
            "seed": self.seed,
        }


def generate_group(run: GroupRun, notes: dict[str, Any] | None = None) -> pd.DataFrame:
    """Answer all questions by all methods with all Sharers, and write the records.

    Args:
        run: What is answered.
        notes: Gets what provenance should know: ``contract``.

    Returns:
        The records (`c2c.evaluation.schema.RECORD_SCHEMA`).

    Raises:
        RefusedError: If an input is missing or does not fit.
    """
    check_free(run.output)
    receiver, *sharers = (load_model(each, run.dtype) for each in (run.receiver, *run.sharers))
    prompting.check_prompts(run.prompts, [receiver, *sharers])
    names = [each.name for each in sharers]
    return answer_all(run, partial(_methods, run, receiver, sharers), partial(run.columns, receiver.name, names), notes)


def _methods(
    run: GroupRun, receiver: LoadedModel, sharers: Sequence[LoadedModel], store: AnswerStore
) -> dict[str, Method]:
    memories = [SharerMemory(each) for each in sharers]
    built = {}
    for name in run.methods:
        reader = several_reader(
            receiver,
            sharers,
            run.fusers,
            _reads(name, len(sharers)),
            fusion=run.fusion,
            accept=run.accept_difference,
            memories=memories,
        )
        built[name] = Method(name, reader, run.token_budget, store)
        built[name].panel = (receiver, *sharers)
    return built


def _zeroed_one(method: str) -> int:
    """Number of the one Sharer, from 0, whose cache a method replaces by zeros; -1 for other methods."""
    return schema.ZEROED_ONE.index(method) if method in schema.ZEROED_ONE else -1


def _reads(method: str, sharers: int) -> list[str]:
    """What each Sharer reads in a method."""
    if method in schema.ZEROED_ONE:
        return ["zeroed" if number == _zeroed_one(method) else "matched" for number in range(sharers)]
    return [{"c2c": "matched", "c2c_deranged": "deranged", "c2c_zeroed": "zeroed"}[method]] * sharers
