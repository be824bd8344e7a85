"""Before anything runs: whether two models can be connected, how they differ, and memory, time and disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from c2c.testbed.experiment.settings import GATE_AND_TEXT, Experiment
from c2c.testbed.experiment.tasks import TaskFolders
from c2c.testbed.items import Item, read_items
from c2c.testbed.models import KEPT_BYTES
from c2c.testbed.records import BOUNDS
from c2c.training.memory import BYTES
from c2c.training.operations import FORWARD
from c2c.training.pair_plan import ModelFacts, cpu_speed, differences

CHARACTERS = 4
"""Of a token, roughly."""
MESSAGES = 8
"""With which a method's channel is asked."""
NEW_TOKENS = 3
"""Of a training text that no other text of its head has; a head is read once."""
TEXTS = 3
"""Of a test item: the Sharer's, the prompt, and the unredacted prompt."""
ANSWER_TOKENS = 10
"""Of an answer: the last token of the prompt, the options, and what is written."""
WRITING_TOKENS = 300
"""Of the channel `text`: a request that is read, and a message whose tokens cost several times as much as reading."""
ROOM_GB = 1.5
"""For the process itself and batches."""


@dataclass(frozen=True)
class ExperimentPlan:
    """What an experiment is expected to take; rough estimates.

    Attributes:
        models: Sizes of both models, by role.
        differences: Lines in which the models differ, with what that means.
        minutes: For all tasks, without trainings by steps.
        memory_gb: Most memory at once.
        disk_gb: Of the folder.
    """

    models: dict[str, dict[str, Any]]
    differences: list[dict[str, str]]
    minutes: float
    memory_gb: float
    disk_gb: float

    def lines(self) -> Iterator[str]:
        """The plan in words."""
        for role, sizes in self.models.items():
            yield (
                f"  {role:9} {sizes['name']}: {sizes['parameters'] / 1e6:,.1f} million parameters, "
                f"{sizes['layers']} layers, {sizes['kv_heads']} KV heads of {sizes['head_dim']}"
            )
        for row in self.differences:
            yield f"  {row['line']:14} {row['receiver']} | {row['sharer']}: {row['meaning']}"
        yield (
            f"  Roughly {max(self.minutes, 1):,.0f} min, {self.memory_gb:,.1f} GB of memory and "
            f"{max(1000 * self.disk_gb, 1):,.0f} MB of disk; channels that are trained by steps take longer."
        )


def plan_experiment(experiment: Experiment, tasks: TaskFolders) -> ExperimentPlan:
    """Read configs, tokenizers and items, and estimate; no weights are read.

    Raises:
        RefusedError: If a model's cache cannot be fused.
    """
    facts = {"receiver": ModelFacts.read(experiment.receiver), "sharer": ModelFacts.read(experiment.sharer)}
    sizes = {role: model.sizes for role, model in facts.items()}
    splits = [
        {split: read_items(folder / f"{split}.jsonl") for split in ("train", "test")}
        for folder in tasks.folders.values()
    ]
    # Tokens that the models read: new ones of training texts, texts of test items, and each answer
    train = NEW_TOKENS * sum(len(its_splits["train"]) for its_splits in splits)
    count = sum(len(its_splits["test"]) for its_splits in splits)
    test = TEXTS * sum(_tokens(its_splits["test"]) for its_splits in splits)
    answers = len(BOUNDS) + len(GATE_AND_TEXT) * MESSAGES + (MESSAGES + 1) * len(experiment.methods)
    both = sizes["receiver"].parameters + sizes["sharer"].parameters
    operations = FORWARD * both * (train + test)
    operations += FORWARD * sizes["receiver"].parameters * ANSWER_TOKENS * answers * count
    operations += FORWARD * sizes["sharer"].parameters * WRITING_TOKENS * count
    cached = BYTES[experiment.dtype] * max(model.cached for model in sizes.values())
    kept = len(sizes) * min(KEPT_BYTES, cached * (train + test))
    rows = count * len(experiment.channels) * MESSAGES
    return ExperimentPlan(
        models={role: {"name": facts[role].name} | asdict(sizes[role]) for role in facts},
        differences=[asdict(row) for row in differences(facts["receiver"], facts["sharer"])],
        minutes=operations / (60e12 * cpu_speed()),
        memory_gb=(BYTES[experiment.dtype] * both + kept) / 1e9 + ROOM_GB,
        disk_gb=(1000 * rows) / 1e9,
    )


def _tokens(items: list[Item]) -> float:
    return sum(len(item.full_prompt) for item in items) / CHARACTERS
