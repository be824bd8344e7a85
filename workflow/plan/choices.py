"""Leaner runs of a scale, and frozen models that are read once: what each choice costs. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from workflow.config import FROZEN
from workflow.plan.costs import TRAINING, hours_by_device, stage_costs, wall_hours
from workflow.plan.stages import Estimator, Timing
from workflow.settings import Settings

ENOUGH_STEPS = 300
"""A step of the paper's Table 12 after which no pair answers MMLU-Redux notably better."""


@dataclass(frozen=True)
class ChoiceCost:
    """Cost of a choice of what to run.

    Args:
        name: The choice in words.
        trainings: Trainings of Fusers.
        gpu_hours: GPU hours of all jobs, by how trainings read the frozen models: each of `FROZEN`.
        wall_hours: Hours on the GPUs that the jobs share, by the same.
        operations: Operations of all jobs, by the same.
        memory_gb: Memory of the largest job, by the same.
        disk_gb: What all jobs leave on the disk, by the same.
    """

    name: str
    trainings: int
    gpu_hours: Mapping[str, float]
    wall_hours: Mapping[str, float]
    operations: Mapping[str, float]
    memory_gb: Mapping[str, float]
    disk_gb: Mapping[str, float]


def choices(settings: Settings) -> dict[str, Settings]:
    """What can be run of a scale, by its name in words: the whole, then ever less of it."""
    full, lean = (replace(settings, config={**settings.config, "lean": lean}) for lean in (False, True))
    by_name = {
        "all seeds": full,
        "one seed each (lean: true)": lean,
        f"one seed each, at most {ENOUGH_STEPS} steps": with_at_most(lean, ENOUGH_STEPS),
    }
    if settings.config.get("released"):
        by_name["released fusers only"] = released_alone(settings)
    return by_name


def with_at_most(settings: Settings, steps: int) -> Settings:
    """A scale whose trainings have no more than some steps, and which keeps earlier steps alone."""

    def with_fewer_steps(training: Mapping[str, Any]) -> dict[str, Any]:
        limits = {"steps": min(training["steps"], steps)} if "steps" in training else {}
        if "keep_steps" in training:
            limits["keep_steps"] = [step for step in training["keep_steps"] if step < steps]
        return {**training, **limits}

    config = {**settings.config, "training": with_fewer_steps(settings.config["training"])}
    for part in ("runs", "latent"):
        entries = config.get(part, [])
        config[part] = [{**entry, "training": with_fewer_steps(entry.get("training", {}))} for entry in entries]
    return replace(settings, config=config)


def with_frozen(settings: Settings, frozen: str) -> Settings:
    """A scale all of whose trainings of Fusers read the frozen models in one way: one of `FROZEN`."""

    def without(training: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in training.items() if name != "frozen"}

    runs = [{**entry, "training": without(entry.get("training", {}))} for entry in settings.config["runs"]]
    training = {**settings.config["training"], "frozen": frozen}
    return replace(settings, config={**settings.config, "runs": runs, "training": training})


def released_alone(settings: Settings) -> Settings:
    """A scale that trains nothing: released fusers, and the models of their pairs alone, answer."""
    empty_lists = {name: [] for name in ("runs", "single", "agents", "groups", "latent")}
    return replace(settings, config={**settings.config, **empty_lists, "latency": None, "analysis": None})


def choice_costs(
    settings: Settings, timings: Iterable[Timing], estimator: Estimator, gpus: int = 1
) -> list[ChoiceCost]:
    """The cost of each choice, with jobs that share some GPUs."""
    timings, rows = list(timings), []
    for name, choice in choices(settings).items():
        # Stages other than those of training cost the same either way.
        all_stages = stage_costs(choice, timings, replace(estimator, settings=choice))
        other_stages = [stage for stage in all_stages if stage.name not in TRAINING]
        costs = {}
        for frozen in FROZEN:
            way = with_frozen(choice, frozen)
            costs[frozen] = other_stages + stage_costs(way, timings, replace(estimator, settings=way), TRAINING)
        rows.append(
            ChoiceCost(
                name,
                len(choice.runs),
                {frozen: hours_by_device(stages).get(True, 0.0) for frozen, stages in costs.items()},
                {frozen: wall_hours(stages, gpus) for frozen, stages in costs.items()},
                {frozen: sum(stage.operations or 0 for stage in stages) for frozen, stages in costs.items()},
                {frozen: max(stage.memory_gb or 0 for stage in stages) for frozen, stages in costs.items()},
                {frozen: sum(stage.disk_gb or 0 for stage in stages) for frozen, stages in costs.items()},
            )
        )
    return rows
