"""The kinds of ``c2c analyse``: what caches hold, and what they are worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from c2c.cli import flags
from c2c.cli.flags import ContractFlags, DtypeFlags, OptionalPath, PairFlags, Paths, QuestionFlags, Texts, one_of
from c2c.errors import RefusedError, check_choice
from c2c.evaluation.protocol import CORRECTED, FAILED_SHARE, PROTOCOLS
from c2c.provenance import stamp
from c2c.storage.files import write_atomically

if TYPE_CHECKING:
    from c2c.analysis.run import AnalysisRun

NOT_SETTINGS = ("tasks", "output", "benchmarks", "orders", "clouds")
ROLES = ("receiver", "sharer")


@dataclass(frozen=True, kw_only=True)
class AnalysisFlags(QuestionFlags):
    """Which questions are asked, as `c2c.analysis.run.AnalysisRun` has them."""

    benchmark: Annotated[str, arg(metavar="ID=FILE")]
    """the benchmark and its prepared questions"""
    questions: int
    """how many, by the hash of their id; 0: all"""
    token_budget: int = 4096
    """tokens of a batch, pads and answers included"""
    output: Path
    """records (.parquet) or table (.csv)"""

    @property
    def benchmarks(self) -> Sequence[str]:
        """The one benchmark."""
        if "=" not in self.benchmark:
            remedy = "Write the id, =, and its prepared file"
            raise RefusedError("--benchmark must have the form ID=FILE", self.benchmark, remedy)
        return [self.benchmark]


@dataclass(frozen=True, kw_only=True)
class FuserAnalysisFlags(AnalysisFlags, ContractFlags):
    """The Fusers that an analysis is of."""

    fuser: Annotated[Texts, arg(metavar="FUSER")]
    """folder of trained Fusers"""
    recipe: str
    """recipe of the Fusers"""
    alignment: str
    """token alignment of the Fusers"""
    seed: int
    """training seed of the Fusers"""


def stamp_outputs(run: AnalysisRun, outputs: Sequence[Path], make: Callable[[dict[str, Any]], Any]) -> None:
    """Make the outputs, each with the provenance of the run; `make` gets the notes of the first output's."""
    from contextlib import ExitStack

    from c2c.models.hub import about

    settings = {name: value for name, value in vars(run).items() if name not in NOT_SETTINGS}
    inputs: dict[str, Any] = {"inputs": run.files(), "settings": settings, "sources": [run.tasks]}
    with ExitStack() as stack:
        notes = [stack.enter_context(stamp(path, **inputs)) for path in outputs]
        make(notes[0])
        for note in notes:
            note["models"] = {role: about(place) for role, place in run.models.items()}


@dataclass(frozen=True, kw_only=True)
class EffectiveRank(FuserAnalysisFlags):
    """Effective rank of keys and values by layer and cache; the output is a table (.csv)."""

    def run(self) -> None:
        """Write the ranks."""
        from c2c.analysis.effective_rank import measure_ranks
        from c2c.analysis.run import AnalysisRun

        run, _ = flags.evaluation_from_flags(AnalysisRun, self)
        stamp_outputs(run, [run.output], lambda notes: write_atomically(run.output, as_csv(measure_ranks(run))))


@dataclass(frozen=True, kw_only=True)
class EnrichmentCommand(AnalysisFlags):
    """Answers from a cache that was made behind examples; the output is records (.parquet)."""

    examples: Path
    """prepared questions that serve as examples"""
    shots: int
    """examples in front of a question"""
    orders: Path
    """layers in order, by what chose them (.csv)"""
    role: Annotated[str, one_of(ROLES)] = "receiver"
    """the model that answers"""
    most: int = 10
    """largest K of the best and worst K layers"""

    def run(self) -> None:
        """Write the records and orders."""
        from c2c.analysis.enrichment import EnrichmentRun, enrich

        check_choice("--role", self.role, ROLES)
        run, _ = flags.evaluation_from_flags(EnrichmentRun, self)
        stamp_outputs(run, [run.output, run.orders], lambda notes: enrich(run, notes))


@dataclass(frozen=True, kw_only=True)
class Tsne(FuserAnalysisFlags):
    """Where the caches of questions lie, and what a trained MLP makes of them; the output is points (.csv)."""

    training_questions: int
    """other questions that the MLP learns from"""
    clouds: Path
    """numbers of each cloud (.csv)"""
    perplexity: float = 50
    """of t-SNE"""
    iterations: int = 1000
    """of t-SNE"""
    hidden: int = 1024
    """width of the MLP"""
    steps: int = 1000
    """training steps of the MLP"""
    learning_rate: float = 3e-4
    """of the MLP"""

    def run(self) -> None:
        """Write points and clouds."""
        from c2c.analysis.transformation import TransformationTraining
        from c2c.analysis.tsne import TsneRun, place_caches

        training = TransformationTraining(hidden=self.hidden, steps=self.steps, learning_rate=self.learning_rate)
        run, _ = flags.evaluation_from_flags(TsneRun, self, training=training)
        stamp_outputs(run, [run.output, run.clouds], lambda notes: place_caches(run))


@dataclass(frozen=True, kw_only=True)
class Partial(FuserAnalysisFlags):
    """Answers with a share of each prompt's tokens fused; the output is records (.parquet)."""

    shares: tuple[float, ...]
    """shares, each from 0 to 1"""

    def run(self) -> None:
        """Write the records."""
        from c2c.analysis.partial import PartialRun, answer_partially_fused

        run, _ = flags.evaluation_from_flags(PartialRun, self)
        stamp_outputs(run, [run.output], lambda notes: answer_partially_fused(run, notes))


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Accuracies by method and setting, from records of an analysis."""

    records: Paths
    """records (.parquet)"""
    against: Annotated[str, arg(metavar="METHOD")]
    """the method that all are compared with"""
    output: Path
    """accuracies (.csv)"""
    protocol: Annotated[str, one_of(PROTOCOLS)] = CORRECTED
    """by which answers are marked"""
    failed_share: float = FAILED_SHARE
    """largest share of a method's questions of a benchmark that may have failed"""

    def run(self) -> None:
        """Write the accuracies."""
        from c2c.analysis.accuracy import write_accuracy

        check_choice("--protocol", self.protocol, PROTOCOLS)
        settings = {"against": self.against, "protocol": self.protocol, "failed_share": self.failed_share}
        with stamp(self.output, inputs=self.records, settings=settings):
            write_accuracy(self.records, self.against, self.output, self.protocol, self.failed_share)


@dataclass(frozen=True, kw_only=True)
class Carrier(PairFlags, DtypeFlags):
    """Which tokens can carry a value, before any training."""

    items: Path
    """items of the test bed (.jsonl), such as train.jsonl"""
    questions: int = 100
    """how many, the first ones; 0: all"""
    output: OptionalPath = None
    """the table (.csv)"""

    def run(self) -> None:
        """Print what can carry a value, and write the table."""
        from c2c.evaluation.schema import check_limit
        from c2c.models.hub import about
        from c2c.models.pair import load_models
        from c2c.testbed.carrier import examine_carriers, recommendation, table_text
        from c2c.testbed.items import read_items
        from c2c.testbed.models import Models

        check_limit(self.questions)
        items = read_items(self.items)[: self.questions or None]

        def examine() -> Any:
            frame = examine_carriers(Models.load(*load_models([self.receiver, self.sharer], self.dtype)), items)
            print(table_text(frame), recommendation(frame, items), sep="\n\n")
            return frame

        if self.output is None:
            examine()
            return
        settings = {"questions": self.questions, "dtype": self.dtype}
        with stamp(self.output, inputs=[self.items], settings=settings) as notes:
            write_atomically(self.output, as_csv(examine()))
            notes["models"] = {"receiver": about(self.receiver), "sharer": about(self.sharer)}


def as_csv(frame: Any) -> str:
    """A table as text, with four digits behind the point."""
    return str(frame.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
