"""What the analyses that ask questions have in common: one pair, one benchmark, a sample of its questions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from c2c.errors import RefusedError
from c2c.evaluation.answers.batches import batches_of, check_budget
from c2c.evaluation.answers.store import AnswerStore, open_store
from c2c.evaluation.methods.method import TOKEN_BUDGET
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.tasks import questions_of
from c2c.evaluation.readers.fused import FusedReader
from c2c.evaluation.readers.load import fused_reader
from c2c.evaluation.readers.reader import Reader
from c2c.evaluation.readers.sharer_memory import SharerMemory
from c2c.evaluation.run import EvaluationRun
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair


@dataclass(frozen=True, kw_only=True)
class AnalysisRun(EvaluationRun):
    """One call of ``c2c analyse`` that asks questions; `EvaluationRun` documents the other fields.

    Args:
        questions: How many questions of the benchmark are asked: those with the lowest SHA-256 of
            ``<benchmark>/<id>``, in the order of the file; 0 for all.
        token_budget: Tokens of a batch: rows times the longest, pads and answers included.

    Raises:
        RefusedError: If there is not exactly one benchmark, fewer than 2 questions are wanted, or the budget is none.
    """

    methods: Sequence[str] = ()
    questions: int = 0
    token_budget: int = TOKEN_BUDGET

    def __post_init__(self) -> None:
        super().__post_init__()
        check_budget(self.token_budget)
        if len(self.benchmarks) != 1:
            raise RefusedError(
                "An analysis must ask exactly one benchmark", sorted(self.benchmarks), "Run it once for each"
            )
        if self.questions < 0 or self.questions == 1:
            raise RefusedError(
                "An analysis must ask at least 2 questions", self.questions, "Raise --questions; 0 asks all"
            )

    def store(self) -> AbstractContextManager[AnswerStore]:
        """Where answers are kept until all are there, so that an interrupted run goes on (`open_store`)."""
        return open_store(self.output, self.fingerprint())


def asked(
    run: AnalysisRun, tasks: dict[str, Any], models: Sequence[LoadedModel], *, skip: int = 0, count: int | None = None
) -> list[Question]:
    """The questions of a run, with their options, in the order of the file.

    Args:
        run: Names the benchmark.
        tasks: Of `c2c.evaluation.questions.tasks.load_tasks`.
        models: Those that read them; for chats each needs a template.
        skip: Leave out so many that come first in the order of the sample: other questions than an earlier call's.
        count: How many; the run's number if None.

    Raises:
        RefusedError: If the benchmark has fewer questions, or a model no chat template.
    """
    prompting.check_prompts(run.prompts, models)
    (benchmark,) = run.benchmarks
    everything = questions_of(tasks["tasks"][benchmark], run.prompts, options=True)
    wanted = skip + (run.questions or len(everything) if count is None else count)
    if len(everything) < wanted:
        rule = f"{benchmark} must have as many questions as the analysis takes ({wanted})"
        raise RefusedError(rule, len(everything), "Lower the number of questions")
    drawn = sorted(everything, key=lambda each: digest(f"{benchmark}/{each.doc['id']}"))[skip:wanted]
    return sorted(drawn, key=lambda each: each.number)


def digest(text: str) -> str:
    """SHA-256 of a text as hex digits: an order that has nothing to do with what is ordered."""
    return hashlib.sha256(text.encode()).hexdigest()


def fused(
    run: AnalysisRun, pair: Pair, sharer_reads: str = "matched", memory: SharerMemory | None = None
) -> FusedReader:
    """The reader of the run's fuser; see `c2c.evaluation.readers.load.fused_reader`.

    Raises:
        RefusedError: If the run names no fuser, or one of other models.
    """
    if not run.fuser:
        raise RefusedError("This analysis must be run with a trained fuser", "no --fuser", "Pass the fuser's folder")
    return fused_reader(pair, run.fuser, sharer_reads, run.accept_difference, memory)


def batches(reader: Reader, questions: Sequence[Question], token_budget: int) -> list[list[Question]]:
    """Batches of questions whose prompts stay within the budget."""
    return batches_of(questions, [reader.length(each) + each.max_new_tokens for each in questions], token_budget)
