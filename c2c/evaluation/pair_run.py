"""What generation and latency have in common: one pair, asked benchmarks by methods, perhaps with a trained fuser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from c2c.checkpoints.checkpoint import CONFIG, MANIFEST
from c2c.checkpoints.released_manifest import alignment_of, is_published
from c2c.errors import RefusedError, check_choice
from c2c.evaluation import schema
from c2c.evaluation.readers.several import FusedBySeveral
from c2c.models.contract import check_lines, check_precision
from c2c.models.loading import model_name
from c2c.rosetta import RosettaModel
from c2c.storage.folders import current
from c2c.storage.manifests import read_object
from c2c.types import DTYPES, PROMPTS

WITH_FUSER = ("c2c", "c2c_deranged", "c2c_zeroed", "t_c2c", "t_c2c_deranged")


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
        dtype: Precision of the models.

    Raises:
        RefusedError: If a method, line or dtype is unknown, a method needs a fuser and there is none, or the fuser's
            folder names another recipe, alignment or seed.
    """

    known_methods: ClassVar[Sequence[str]] = schema.PAIR_METHODS

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
    dtype: str = "float32"

    def __post_init__(self) -> None:
        schema.check_ids(scale=self.scale, pair=self.pair)
        check_lines(self.accept_difference)
        check_choice("--prompts", self.prompts, PROMPTS)
        check_choice("--dtype", self.dtype, DTYPES)
        for method in self.methods:
            check_choice("--methods", method, self.known_methods)
            if method in WITH_FUSER and not self.fuser:
                raise RefusedError(
                    "This method must be run with a trained fuser", method, "Pass --fuser with its folder"
                )
        if self.fuser and set(self.methods) & set(WITH_FUSER):
            check_fusers_precision(self.fuser, self.dtype, self.accept_difference)
        # An analysis names no methods: its kind uses the fuser.
        if self.fuser and (not self.methods or set(self.methods) & set(WITH_FUSER)):
            check_labels(self.fuser, recipe=self.recipe, alignment=self.alignment, seed=self.seed)

    def columns(self, method: str) -> dict[str, Any]:
        """The columns of a record that say who answers; those of the fuser are empty for a method without one."""
        fused = method in WITH_FUSER
        trained = fused or (method == "receiver" and self.recipe == schema.SINGLE)
        alignment = self.alignment
        if fused and is_published(self.fuser):
            alignment = alignment_of(self.fuser)
        return {
            "scale": self.scale,
            "pair": self.pair,
            "receiver": model_name(self.receiver),
            "sharer": model_name(self.sharer),
            "recipe": self.recipe if trained else "",
            "alignment": alignment if fused else "",
            "prompts": self.prompts,
            "method": method,
            "seed": self.seed if trained else None,
        }


def check_fusers_precision(fuser: str | Path, dtype: str, accept: Sequence[str] = ()) -> None:
    """Refuse, before a model is loaded, a precision in which trained Fusers cannot be used.

    Raises:
        RefusedError: As `c2c.models.contract.check_precision`, or if their manifest cannot be read.
    """
    manifest = Path(fuser) / MANIFEST
    contract = read_object(manifest).get("contract") if manifest.is_file() else None
    if isinstance(contract, dict):  # else whoever loads them says what is wrong
        check_precision(contract, dtype, accept)


def check_labels(fuser: str | Path, *, recipe: str, alignment: str, seed: int | None) -> None:
    """Refuse labels under which records would name a fuser that was trained otherwise.

    Published fusers, and folders that do not say how they were trained, go with any label.

    Args:
        fuser: Folder of trained Fusers.
        recipe: How they are said to be trained; Fusers that were kept at a step are ``<recipe>@<step>``.
        alignment: Token alignment.
        seed: Training seed.

    Raises:
        RefusedError: With each label that is missing or another one than the folder names.
    """
    config = current(Path(fuser)) / CONFIG
    about = read_object(config).get("about") if not is_published(fuser) and config.is_file() else None
    if not isinstance(about, dict):  # else whoever loads them says what is wrong
        return
    named = {label: about[label] for label in ("recipe", "alignment", "seed") if about.get(label) is not None}
    if "recipe" in named and about.get("step") is not None:
        named["recipe"] = f"{named['recipe']}@{about['step']}"
    labels = {"recipe": recipe, "alignment": alignment, "seed": seed}
    wrong = [f"{label} {labels[label]!r}, not {value!r}" for label, value in named.items() if labels[label] != value]
    if wrong:
        flags = " ".join(f"--{label} {str(value)[:80]}" for label, value in named.items())
        rule = f"Records must name how their fuser was trained, as {CONFIG} in its folder does"
        raise RefusedError(rule, wrong, f"Pass {flags}, or the fuser that you mean")


def note_contract(reader: object, notes: dict[str, Any] | None) -> None:
    """Put into `notes` what the fuser's contract was held against, if `reader` uses a fuser that has one."""
    model = getattr(reader.parts[0] if isinstance(reader, FusedBySeveral) else reader, "model", None)
    if notes is not None and isinstance(model, RosettaModel) and model.contract_check:
        notes["contract"] = model.contract_check.to_dict()
