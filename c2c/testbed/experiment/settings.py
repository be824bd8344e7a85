"""What an experiment measures, and how much of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from c2c.errors import RefusedError, check_choice
from c2c.models.loading import model_name
from c2c.testbed.card.records import IDENTITY, MARGIN, RANDOM_STATES, TEXT

GATE_AND_TEXT = (IDENTITY, RANDOM_STATES, TEXT)
"""Channels of every experiment: those of the gate, and text as the reference."""
QUESTIONS = "questions"
"""Name of the task that is made of the user's questions."""


class Size(NamedTuple):
    """How much is measured: items of each split, trainings, and generated tasks."""

    test: int
    train: int
    validation: int
    seeds: int
    tasks: tuple[str, ...]


SIZES: Mapping[str, Size] = {
    "tiny": Size(100, 400, 20, 1, ("redacted_word", "unredacted_word")),
    "small": Size(150, 1200, 60, 1, ("redacted_word", "redacted_code", "unredacted_word")),
    "full": Size(400, 4000, 100, 3, ("redacted_word", "redacted_code", "unredacted_word")),
}
"""Tiny takes a minute or two with tiny models, small about a quarter of an hour with models below a billion parameters
on two cores, and full nine times as long."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Settings of ``c2c experiment``.

    Args:
        receiver: The Receiver: folder, manifest or hub id.
        sharer: The Sharer.
        output: Folder of the items, records and report.
        data: The user's questions (`c2c.testbed.experiment.questions`).
        methods: Channels that are measured besides `GATE_AND_TEXT`.
        size: One of `SIZES`.
        seed: Of the first training; further ones follow it.
        settings: Settings of channels that differ from their own.
        margin: Of equivalence, in points.
        dtype: Precision of the models.
        is_example: Whether the models are those of `c2c.testbed.experiment.example`.

    Raises:
        RefusedError: If a size is unknown, a method is named twice or is none that is measured, or the margin cannot
            be.
    """

    receiver: str
    sharer: str
    output: Path
    data: Path | None = None
    methods: Sequence[str] = ("ridge",)
    size: str = "small"
    seed: int = 0
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    margin: float = MARGIN
    dtype: str = "float32"
    is_example: bool = False

    def __post_init__(self) -> None:
        check_choice("--size", self.size, SIZES)
        if not self.methods or len(set(self.methods)) < len(self.methods):
            rule = "--method must name a channel, and each of several once"
            raise RefusedError(rule, list(self.methods), "Drop the repetition")
        if shared := set(self.methods) & set(GATE_AND_TEXT):
            rule = "--method must name channels that are not part of every experiment"
            raise RefusedError(rule, sorted(shared), "Leave them out: they are measured anyway")
        if not self.margin > 0:
            raise RefusedError("--margin must be above 0", self.margin, "State the greatest harmless difference")

    @property
    def amount(self) -> Size:
        """How much is measured."""
        return SIZES[self.size]

    @property
    def channels(self) -> tuple[str, ...]:
        """All channels, the reference and the gate first."""
        return (*GATE_AND_TEXT, *self.methods)

    @property
    def pair(self) -> str:
        """Title of the pair, and its id in records."""
        names = (Path(model).name if Path(model).exists() else model_name(model) for model in self.models)
        return " from ".join(names)

    @property
    def models(self) -> tuple[str, str]:
        """Receiver and Sharer."""
        return self.receiver, self.sharer

    @property
    def seeds(self) -> range:
        """Seeds of the trainings."""
        return range(self.seed, self.seed + self.amount.seeds)
