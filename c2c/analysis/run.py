"""The run of an analysis that asks questions: one pair, one benchmark, and a sample of its questions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from c2c.errors import RefusedError
from c2c.evaluation.answers.batches import TOKEN_BUDGET, batches_of, check_budget
from c2c.evaluation.answers.store import AnswerStore, open_store
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.tasks import questions_of
from c2c.evaluation.readers.fused import FusedReader
from c2c.evaluation.readers.load import fused_reader
from c2c.evaluation.readers.prompt_memory import PromptMemory
from c2c.evaluation.readers.reader import Reader
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
        RefusedError: If there is not exactly one benchmark, fewer than 2 questions are asked, or the budget is below 1.
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
        """Where answers are kept until all are there, so that an interrupted run resumes (`open_store`)."""
        return open_store(self.output, self.fingerprint())


def sample_questions(
    run: AnalysisRun, tasks: dict[str, Any], models: Sequence[LoadedModel], *, skip: int = 0, count: int | None = None
) -> list[Question]:
    """The questions of a run, with their options, in the order of the file.

    Args:
        run: With the benchmark.
        tasks: Of `c2c.evaluation.questions.tasks.load_tasks`.
        models: The models that read them; for chats all need a template.
        skip: How many questions to leave out at the start of the sample, so that two calls give different questions.
        count: Number of questions; the run's number if None.

    Raises:
        RefusedError: If the benchmark has fewer questions, or a model no chat template.
    """
    prompting.check_prompts(run.prompts, models)
    (benchmark,) = run.benchmarks
    questions = questions_of(tasks["tasks"][benchmark], run.prompts, options=True, pair=run.pair)
    end = skip + (run.questions or len(questions) if count is None else count)
    if len(questions) < end:
        rule = f"{benchmark} must have as many questions as the analysis takes ({end})"
        raise RefusedError(rule, len(questions), "Lower the number of questions")
    # A hash orders the sample, so that it is spread over subsets, and a larger sample contains a smaller one.
    sample = sorted(questions, key=lambda question: digest(f"{benchmark}/{question.doc['id']}"))[skip:end]
    return sorted(sample, key=lambda question: question.number)


def digest(text: str) -> str:
    """SHA-256 of a text as hex digits: an order that is independent of the contents."""
    return hashlib.sha256(text.encode()).hexdigest()


def run_reader(
    run: AnalysisRun, pair: Pair, sharer_cache: str = "matched", memory: PromptMemory | None = None
) -> FusedReader:
    """The reader of the run's fuser; see `c2c.evaluation.readers.load.fused_reader`.

    Raises:
        RefusedError: If the run names no fuser, or one of other models.
    """
    if not run.fuser:
        raise RefusedError("This analysis must be run with a trained fuser", "no --fuser", "Pass the fuser's folder")
    return fused_reader(pair, run.fuser, sharer_cache, run.accept_difference, memory)


def batches(reader: Reader, questions: Sequence[Question], token_budget: int) -> list[list[Question]]:
    """Batches of questions whose prompts stay within the budget."""
    return batches_of(
        questions, [reader.length(question) + question.max_new_tokens for question in questions], token_budget
    )
