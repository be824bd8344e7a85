"""Flags that several commands share, as dataclasses to inherit from, and the runs that are built from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, dataclass, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from tyro.conf import OmitArgPrefixes, arg

from c2c.errors import RefusedError
from c2c.settings import rule_of
from c2c.training.config import TrainingConfig
from c2c.types import DTYPES, PROMPTS

Run = TypeVar("Run")


def one_of(names: Sequence[str]) -> Any:
    """Shows in the help which names a flag may have; the run that gets the value refuses others."""
    return arg(metavar="{" + ",".join(names) + "}")


OptionalPath = Annotated[Path | None, arg(metavar="PATH")]
OptionalText = Annotated[str | None, arg(metavar="STR")]
OptionalNumber = Annotated[int | None, arg(metavar="INT")]
Dtype = Annotated[str, one_of(DTYPES)]
Prompts = Annotated[str, one_of(PROMPTS)]
Texts = tuple[str, ...]
Paths = tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class ReceiverFlags:
    """The model that answers."""

    receiver: str
    """Receiver: folder, model manifest or hub id"""


@dataclass(frozen=True, kw_only=True)
class PairFlags(ReceiverFlags):
    """The two models of a pair."""

    sharer: str
    """Sharer: folder, model manifest or hub id"""


@dataclass(frozen=True, kw_only=True)
class DtypeFlags:
    """Precision of models."""

    dtype: Dtype = "float32"
    """precision of the models; float16 only with Fusers that were trained in it"""


@dataclass(frozen=True, kw_only=True)
class ContractFlags:
    """Differences from a contract that are accepted."""

    accept_difference: Annotated[Texts, arg(metavar="[LINE ...]")] = ()
    """lines of the fuser's contract in which these models may differ from those that it was trained for"""


@dataclass(frozen=True, kw_only=True)
class SetFlags:
    """Training and validation set."""

    data: OptionalPath = None
    """training set (JSON lines: id, prompt and response, or messages; optionally private and opening)"""
    validation: OptionalPath = None
    """validation set, same format"""
    tokenised: Annotated[Paths, arg(metavar="TRAIN VALIDATION")] = ()
    """instead of the two: both sets as c2c tokenise wrote them (.parquet)"""


@dataclass(frozen=True, kw_only=True)
class QuestionFlags(ReceiverFlags, DtypeFlags):
    """Who is asked, as `c2c.evaluation.run.EvaluationRun` has it, and where the tasks are."""

    scale: str
    """scale of the replication, noted in each record"""
    pair: str
    """id of the pair, noted in each record"""
    sharer: Annotated[Texts, arg(metavar="SHARER [SHARER ...]")]
    """Sharer: folder, model manifest or hub id; several answer together, where the command takes several"""
    tasks: Path
    """folder of task files, one a benchmark"""
    prompts: Prompts = "plain"
    """plain text, or chat: messages in each model's own chat template"""


@dataclass(frozen=True, kw_only=True)
class EvaluationFlags(QuestionFlags, ContractFlags):
    """The benchmarks, the methods that answer them, and the records."""

    benchmarks: Annotated[Texts, arg(metavar="ID=FILE [ID=FILE ...]")]
    """prepared questions of each benchmark"""
    methods: Annotated[Texts, arg(metavar="METHOD [METHOD ...]")]
    """who answers and with what message: see docs/glossary.md"""
    output: Path
    """records (.parquet)"""
    fuser: Annotated[Texts, arg(metavar="[FUSER ...]")] = ()
    """folder of the Fusers of each Sharer, in the same order, for the methods that need them"""
    recipe: str = ""
    """recipe of the Fusers"""
    alignment: str = ""
    """token alignment of the Fusers"""
    seed: OptionalNumber = None
    """training seed of the Fusers"""


def _training_field(field: Field[Any]) -> tuple[str, Any, Any]:
    """Name, type and default of the flag of a setting."""
    rule, default = rule_of(field), field.default
    # A rule's own parser runs later, so that its refusal is reported as all others are.
    kind = str if rule.parse else type(default)
    text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    shown = arg(help=rule.help, metavar="{" + ",".join(rule.choices) + "}" if rule.choices else None)
    return field.name, Annotated[kind, shown], text if rule.parse else default


if TYPE_CHECKING:
    TrainingFlags = Any
else:
    TrainingFlags = Annotated[
        make_dataclass("TrainingFlags", map(_training_field, fields(TrainingConfig)), frozen=True, kw_only=True),
        OmitArgPrefixes,
        arg(name=""),
    ]
"""A flag for each field of `TrainingConfig`, with the help of its rule."""


def training_config(flags: Any, **values: Any) -> TrainingConfig:
    """The settings of a training from `TrainingFlags`, with some values in place of those of the flags."""
    settings: dict[str, Any] = {}
    for field in fields(TrainingConfig):
        value, parse = values.get(field.name, getattr(flags, field.name)), rule_of(field).parse
        settings[field.name] = parse(value) if parse and isinstance(value, str) else value
    return TrainingConfig(**settings)


def run_from_flags(kind: type[Run], flags: Any, **values: Any) -> Run:
    """A run with the values of the flags that have the names of its fields, and with `values` before those."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in vars(flags).items() if name in names} | values)


def benchmark_files(arguments: Sequence[str], flag: str = "--benchmarks") -> dict[str, Path]:
    """Read ``ID=FILE`` arguments of a flag as files of prepared questions by benchmark.

    Raises:
        RefusedError: If an argument has another form.
    """
    files = {}
    for argument in arguments:
        name, separator, path = argument.partition("=")
        if not separator:
            remedy = "Write the benchmark's id, =, and its prepared file"
            raise RefusedError(f"{flag} must have the form ID=FILE", argument, remedy)
        files[name] = Path(path)
    return files


def evaluation_from_flags(kind: type[Run], flags: Any, **more: Any) -> tuple[Run, dict[str, Any]]:
    """A run of `c2c.evaluation`, and the settings for its provenance; `more` comes before the values of flags."""
    plurals = {"sharer": "sharers", "fuser": "fusers"}
    values = {plurals.get(flag, flag): value for flag, value in vars(flags).items()} | more
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    values = {name: value for name, value in values.items() if name in names}
    settings = {name: value for name, value in values.items() if name not in ("tasks", "output")}
    return kind(**values | {"benchmarks": benchmark_files(flags.benchmarks)}), settings
