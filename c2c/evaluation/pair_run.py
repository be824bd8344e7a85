"""What generation and latency have in common: one pair, asked benchmarks by methods, perhaps with a trained fuser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from c2c.contract import check_lines
from c2c.errors import RefusedError, check_choice
from c2c.evaluation import schema
from c2c.evaluation.fused import Fused
from c2c.loading import model_name

WITH_FUSER = ("c2c", "c2c_deranged", "c2c_zeroed")


@dataclass(frozen=True, kw_only=True)
class PairRun:
    """A pair, its fuser, and what is asked.

    Args:
        scale: Of the replication.
        pair: Id of the pair.
        receiver: Where the Receiver is.
        sharer: Where the Sharer is.
        methods: Names of methods.
        tasks: Folder of task files.
        benchmarks: Prepared questions of each benchmark.
        output: Parquet file of records.
        fuser: Folder of a trained fuser, for the methods that need one.
        recipe: How the fuser was trained.
        alignment: Token alignment that it was trained with.
        seed: Its training seed.
        accept_difference: Lines of the fuser's contract that may differ, by name.
        prompts: ``plain``, or ``chat``: messages in each model's own chat template.

    Raises:
        RefusedError: If a method or line is unknown, or a method needs a fuser and there is none.
    """

    known_methods: ClassVar[Sequence[str]] = schema.METHODS

    scale: str
    pair: str
    receiver: str
    sharer: str
    methods: Sequence[str]
    tasks: Path
    benchmarks: Mapping[str, Path]
    output: Path
    fuser: str = ""
    recipe: str = ""
    alignment: str = ""
    seed: int | None = None
    accept_difference: Sequence[str] = ()
    prompts: str = "plain"

    def __post_init__(self) -> None:
        check_lines(self.accept_difference)
        check_choice("--prompts", self.prompts, schema.PROMPTS)
        for method in self.methods:
            check_choice("--methods", method, self.known_methods)
            if method in WITH_FUSER and not self.fuser:
                raise RefusedError("This method needs a trained fuser", method, "Pass --fuser with its folder")

    def columns(self, method: str) -> dict[str, Any]:
        """The columns of a record that say who answers; those of the fuser are empty for a method without one."""
        fused = method in WITH_FUSER
        return {
            "scale": self.scale,
            "pair": self.pair,
            "receiver": model_name(self.receiver),
            "sharer": model_name(self.sharer),
            "recipe": self.recipe if fused else "",
            "alignment": self.alignment if fused else "",
            "prompts": self.prompts,
            "method": method,
            "seed": self.seed if fused else None,
        }


def note_contract(reader: object, notes: dict[str, Any] | None) -> None:
    """Put into `notes` what the fuser's contract was held against, if `reader` uses a fuser that has one."""
    if notes is not None and isinstance(reader, Fused) and reader.model.contract_check:
        notes["contract"] = reader.model.contract_check.to_dict()
