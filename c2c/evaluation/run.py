"""One evaluation: a Receiver, its Sharers and their Fusers, and the questions that methods answer with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from c2c.checkpoints.checkpoint_folder import CONFIG, MANIFEST
from c2c.checkpoints.released_folder import is_released, released_alignment
from c2c.errors import RefusedError, check_choice
from c2c.evaluation import schema
from c2c.evaluation.answers.batches import TOKEN_BUDGET, check_budget
from c2c.evaluation.methods.declarations import DECLARATIONS, MOST_SHARERS, methods_for
from c2c.evaluation.questions.task_files import task_files
from c2c.models.contract import PARTS, check_lines, check_precision
from c2c.models.loading import model_name, model_state
from c2c.provenance import file_hash
from c2c.settings import AUTO
from c2c.storage.folders import current
from c2c.storage.manifests import read_object
from c2c.types import COMPILED_STAGES, DTYPES, FUSIONS, PROMPTS

DEFAULT_RECIPE = "c2c"
"""The recipe that the records of a group leave out: there the column ``recipe`` names the fusion."""
PLACES = ("receiver", "sharers", "fusers", "router", "tasks", "benchmarks", "output")
"""Fields that say where something is. Answers depend on what is there, not on the place."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRun:
    """Who answers which questions: a Receiver with one Sharer (a pair) or with several (a group).

    Args:
        scale: Of the replication.
        pair: Id of the pair or group.
        receiver: Where the Receiver is: folder, model manifest or hub id.
        sharers: Where each Sharer is.
        methods: Names of methods.
        tasks: Folder of task files.
        benchmarks: Prepared questions of each benchmark.
        output: Parquet file of records.
        fusers: Folder of the Fusers of each Sharer, in the same order; empty if no method needs them.
        fusion: How the Fusers of several Sharers work together: ``sequential`` or ``parallel``.
        recipe: How the Fusers were trained.
        alignment: Token alignment that they were trained with.
        seed: Their training seed.
        accept_difference: Lines of the Fusers' contracts that may differ, by name: ``sharer.rope``, and
            ``sharer_2.rope`` where there are several Sharers.
        prompts: ``plain``, or ``chat``: messages in each model's own chat template.
        dtype: Precision of the models.

    Raises:
        RefusedError: If a name is unknown, there are too many Sharers, a method needs Fusers and a Sharer has none, or
            a folder of Fusers names another recipe, alignment or seed.
    """

    most_sharers: ClassVar[int] = 1

    scale: str
    pair: str
    receiver: str
    sharers: Sequence[str]
    methods: Sequence[str]
    tasks: Path
    benchmarks: Mapping[str, Path]
    output: Path
    fusers: Sequence[str] = ()
    fusion: str = "sequential"
    recipe: str = ""
    alignment: str = ""
    seed: int | None = None
    accept_difference: Sequence[str] = ()
    prompts: str = "plain"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        schema.check_ids(scale=self.scale, pair=self.pair)
        check_choice("--prompts", self.prompts, PROMPTS)
        check_choice("--dtype", self.dtype, DTYPES)
        check_choice("--fusion", self.fusion, FUSIONS)
        if not 1 <= len(self.sharers) <= self.most_sharers:
            rule = f"This command must be run with {_count(self.most_sharers)}"
            raise RefusedError(rule, len(self.sharers), "Name them after --sharer")
        check_lines(self.accept_difference, _contract_lines(len(self.sharers)))
        for method in self.methods:
            check_choice("--methods", method, self.methods_for(len(self.sharers)))
        self._check_fusers()

    @classmethod
    def methods_for(cls, sharers: int) -> Sequence[str]:
        """Methods that can be run with this number of Sharers."""
        return methods_for(sharers)

    def _check_fusers(self) -> None:
        # An analysis names no methods: its kind uses the Fusers.
        users = [method for method in self.methods if DECLARATIONS[method].fusers]
        if users and not self.fusers:
            raise RefusedError("This method must be run with trained Fusers", users[0], "Pass --fuser with its folder")
        if self.fusers and len(self.fusers) != len(self.sharers):
            rule, received = (
                "Each Sharer must have its Fusers",
                f"{len(self.sharers)} Sharers, {len(self.fusers)} folders",
            )
            raise RefusedError(rule, received, "Name them in the same order: --sharer A B --fuser A B")
        if not users and self.methods:
            return
        for number, fuser in enumerate(self.fusers, start=1):
            # The contract of one Sharer calls it `sharer`; that of several numbers them.
            accept = [line.replace(f"sharer_{number}.", "sharer.") for line in self.accept_difference]
            check_fusers_precision(fuser, self.dtype, accept)
            check_labels(fuser, recipe=self.recipe, alignment=self.alignment, seed=self.seed)

    @property
    def sharer(self) -> str:
        """The only Sharer, of a run that takes one."""
        (sharer,) = self.sharers
        return sharer

    @property
    def fuser(self) -> str:
        """The folder of the only Sharer's Fusers, of a run that takes one Sharer; empty if there are none."""
        return self.fusers[0] if self.fusers else ""

    @property
    def models(self) -> dict[str, str]:
        """Where each model is, by its name in the contract: ``receiver``; ``sharer``, or ``sharer_1``, ``sharer_2``."""
        return {
            "receiver": self.receiver,
            **dict(zip(_part_names("sharer", len(self.sharers)), self.sharers, strict=True)),
        }

    def files(self) -> list[Path]:
        """Models and Fusers that are files or folders here, and the questions: what the records are made from."""
        places = [*map(Path, self.models.values()), *self.dependencies()]
        return [*(path for path in places if path.exists()), *self.benchmarks.values()]

    def dependencies(self) -> list[Path]:
        """Files and folders that answers depend on, other than the models and the questions."""
        return [Path(fuser) for fuser in self.fusers]

    def fingerprint(self) -> str:
        """Hash of everything that an answer depends on: settings, questions, prompts, models and Fusers."""
        paths = [*self.benchmarks.values(), *task_files(self.tasks, self.benchmarks), *self.dependencies()]
        hashes: list[Any] = [file_hash(path) if path.exists() else str(path) for path in paths]
        hashes += [model_state(model) for model in self.models.values()]
        # Places do not count, but what lies there does: its hash is in `hashes`.
        settings = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in PLACES}
        content = [hashes, sorted(self.benchmarks), settings]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def columns(self, method: str) -> dict[str, Any]:
        """The columns of a record that say who answers; those of the Fusers are empty for a method without them."""
        fused = method in DECLARATIONS and DECLARATIONS[method].fusers
        # A fine-tuned Receiver is trained too, and answers by the method `receiver`.
        trained = fused or (method == "receiver" and self.recipe == schema.SINGLE)
        alignment, recipe = self.alignment, self.recipe
        # Released fusers name their alignment themselves.
        if fused and is_released(self.fusers[0]):
            alignment = released_alignment(self.fusers[0])
        if len(self.sharers) > 1:
            recipe = self.fusion if self.recipe == DEFAULT_RECIPE else f"{self.recipe}_{self.fusion}"
        return {
            "scale": self.scale,
            "pair": self.pair,
            "receiver": model_name(self.receiver),
            "sharer": schema.TOGETHER.join(map(model_name, self.sharers)),
            "recipe": recipe if trained else "",
            "alignment": alignment if fused else "",
            "prompts": self.prompts,
            "method": method,
            "seed": self.seed if trained else None,
        }


@dataclass(frozen=True, kw_only=True)
class GenerationRun(EvaluationRun):
    """What one call of ``c2c generate`` answers.

    Args:
        token_budget: Tokens of a batch: rows times the longest, pads and answers included; ``auto`` for as many as fit.
        limit: Only the first questions of each benchmark; 0 for all.
        router: Folder of a trained router, for a method that needs one.
        compile: ``decoding`` compiles the steps by which answers and messages are written; ``none`` does not.

    Raises:
        RefusedError: If the budget is too small, the router is missing, or `EvaluationRun` is refused.
    """

    most_sharers: ClassVar[int] = MOST_SHARERS

    token_budget: int | str = TOKEN_BUDGET
    limit: int = 0
    router: str = ""
    compile: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.token_budget, str):
            check_budget(self.token_budget)
        elif self.token_budget != AUTO:
            raise RefusedError("A token budget must be auto or a whole number", self.token_budget, "Correct it")
        schema.check_limit(self.limit)
        check_choice("--compile", self.compile, COMPILED_STAGES)
        for method in self.methods:
            if DECLARATIONS[method].router and not self.router:
                rule = f"{method} must be run with a router"
                raise RefusedError(rule, "no --router", "Pass the folder of c2c train-router")

    def dependencies(self) -> list[Path]:
        """The Fusers and the router, where there are any."""
        return [*super().dependencies(), *([Path(self.router)] if self.router else [])]


def _count(most: int) -> str:
    return "one Sharer" if most == 1 else f"1 to {most} Sharers"


def _part_names(part: str, sharers: int) -> list[str]:
    """Names of a part of the contract that each Sharer has."""
    return [part] if sharers == 1 else [f"{part}_{number}" for number in range(1, sharers + 1)]


def _contract_lines(sharers: int) -> list[str]:
    """Names of the lines of the contracts of this number of Sharers."""
    names = {part: ["receiver"] if part == "receiver" else _part_names(part, sharers) for part in PARTS}
    return [f"{name}.{line}" for part, lines in PARTS.items() for name in names[part] for line in lines]


def check_fusers_precision(fuser: str | Path, dtype: str, accept: Sequence[str] = ()) -> None:
    """Refuse, before a model is loaded, a precision in which trained Fusers cannot be used.

    Raises:
        RefusedError: As `c2c.models.contract.check_precision`, or if their manifest cannot be read.
    """
    manifest = current(Path(fuser)) / MANIFEST
    contract = read_object(manifest).get("contract") if manifest.is_file() else None
    if isinstance(contract, dict):  # loading the Fusers refuses anything else
        check_precision(contract, dtype, accept)


def check_labels(fuser: str | Path, *, recipe: str, alignment: str, seed: int | None) -> None:
    """Refuse labels under which records would name Fusers that were trained otherwise.

    Released Fusers, and folders that do not name their training, go with any label.

    Args:
        fuser: Folder of trained Fusers.
        recipe: How they are said to be trained; Fusers that were kept at a step are ``<recipe>@<step>``.
        alignment: Token alignment.
        seed: Training seed.

    Raises:
        RefusedError: With each label that is missing or another one than the folder names.
    """
    config = current(Path(fuser)) / CONFIG
    about = read_object(config).get("about") if not is_released(fuser) and config.is_file() else None
    if not isinstance(about, dict):  # loading the Fusers refuses anything else
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
