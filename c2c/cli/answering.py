"""Commands that answer benchmarks, time the answers, score records, and train a router."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from c2c.cli import flags
from c2c.cli.flags import DtypeFlags, EvaluationFlags, Paths, Prompts, ReceiverFlags, Texts, one_of
from c2c.evaluation.protocol import CORRECTED, FAILED_SHARE, PROTOCOLS
from c2c.provenance import stamp
from c2c.settings import AUTO, whole_number_or
from c2c.types import COMPILED_STAGES, FUSIONS

TOKEN_BUDGET = 4096
"""Tokens of a batch, where no flag says how many."""


@dataclass(frozen=True, kw_only=True)
class Generate(EvaluationFlags):
    """Answer benchmarks by methods, one record a question and method.

    A run that is killed resumes when the command is repeated.
    """

    fusion: Annotated[str, one_of(FUSIONS)] = "sequential"
    """how the Fusers of several Sharers are used: one after the other, or added up"""
    token_budget: Annotated[str, arg(metavar="INT|auto")] = str(TOKEN_BUDGET)
    """tokens of a batch, pads and answers included; auto: as many as fit into memory"""
    compile: Annotated[str, one_of(COMPILED_STAGES)] = "none"
    """decoding: the steps after a prompt, on a GPU as CUDA graphs"""
    router: str = ""
    """folder of a trained router, for routing_trained"""
    limit: int = 0
    """only the first questions of each benchmark; 0 for all"""

    def run(self) -> None:
        """Write the records with their provenance."""
        from c2c.evaluation.run import GenerationRun

        def answer(run: GenerationRun, notes: dict[str, Any]) -> None:
            # lm-eval and datasets are imported for a run that was not refused.
            from c2c.evaluation.generate import generate

            generate(run, notes)

        budget = whole_number_or(AUTO, self.token_budget, "--token-budget")
        evaluate(GenerationRun, answer, self, token_budget=budget)


@dataclass(frozen=True, kw_only=True)
class Latency(EvaluationFlags):
    """Time methods one question at a time, split into phases."""

    questions: int = 32
    """first questions of each benchmark"""
    repeats: int = 3
    """times that each question is asked"""
    threads: int = 0
    """threads of torch; 0 leaves it to torch"""

    def run(self) -> None:
        """Write the times with their provenance."""
        from c2c.evaluation.latency import LatencyRun, measure_pair

        evaluate(LatencyRun, measure_pair, self)


def evaluate(kind: type[Any], answer: Callable[[Any, dict[str, Any]], Any], command: Any, **values: Any) -> None:
    """Build a `c2c.evaluation.run.EvaluationRun` from flags, and write its records with their provenance."""
    from c2c.models.hub import about

    run, settings = flags.evaluation_from_flags(kind, command, **values)
    with stamp(run.output, inputs=run.files(), settings=settings, sources=[run.tasks]) as notes:
        answer(run, notes)
        notes["models"] = {role: about(place) for role, place in run.models.items()}


@dataclass(frozen=True, kw_only=True)
class TrainRouter(ReceiverFlags, DtypeFlags):
    """Train the router of the method routing_trained from answered questions."""

    records: Path
    """answers of receiver and sharer (.parquet)"""
    tasks: Path
    """folder of task files"""
    benchmarks: Annotated[Texts, arg(metavar="ID=FILE [ID=FILE ...]")]
    """the questions that were answered"""
    output: Path
    """folder of the router"""
    seed: int = 0
    """of the router's training"""
    prompts: Prompts = "plain"
    """plain text, or chat: messages in each model's own chat template"""
    token_budget: int = TOKEN_BUDGET
    """tokens of a batch, pads included"""

    def run(self) -> None:
        """Write the router with its provenance."""
        from c2c.evaluation.methods.routing import RouterTrainingRun, train_router
        from c2c.models.hub import about

        run, settings = flags.evaluation_from_flags(RouterTrainingRun, self)
        inputs = [run.records, *run.benchmarks.values(), *([Path(run.receiver)] if Path(run.receiver).exists() else [])]
        with stamp(run.output, inputs=inputs, settings=settings, sources=[run.tasks]) as notes:
            notes["router"] = train_router(run)
            notes["models"] = {"receiver": about(run.receiver)}


@dataclass(frozen=True, kw_only=True)
class Score:
    """Score records: accuracy and counts by benchmark and method."""

    records: Paths
    """records (.parquet)"""
    output: Path
    """scores (.csv)"""
    protocol: Annotated[str, one_of(PROTOCOLS)] = CORRECTED
    """paper: with the quirks of the reference evaluation"""
    failed_share: float = FAILED_SHARE
    """largest share of a method's questions of a benchmark that may have failed"""

    def run(self) -> None:
        """Write the scores."""
        from c2c.errors import check_choice
        from c2c.evaluation.scoring import score_files

        check_choice("--protocol", self.protocol, PROTOCOLS)
        score_files(self.records, self.output, self.protocol, self.failed_share)
