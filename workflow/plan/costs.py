"""The cost of each stage of a run: jobs, operations, hours, memory and disk. Imports no torch."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workflow.plan.stages import STAGES, Estimator, Timing, job_counts
from workflow.settings import Settings

TIMED, ESTIMATED, UNKNOWN = "timed", "estimate", "not timed"
EXA = 1e18
"""Operations of an EFLOP."""
TRAINING = ("store_states", "train_fuser", "train_together")
"""The stages that train the Fusers of pairs."""


@dataclass(frozen=True)
class StageCost:
    """Cost of the jobs of a stage; None for an unknown number.

    Operations are those of all jobs on GPUs, None where time does not follow from them; hours are those of each job.
    Memory is that of one job (of its GPU where it has one), and disk is what all jobs leave. `basis` is where hours,
    memory and disk come from: `TIMED`, `ESTIMATED` or `UNKNOWN`.
    """

    name: str
    jobs: int
    operations: float | None
    job_hours: list[float] | None
    gpus: int
    memory_gb: float | None
    disk_gb: float | None
    basis: str

    @property
    def hours(self) -> float | None:
        """Hours of all jobs."""
        return None if self.job_hours is None else sum(self.job_hours)


def stage_costs(
    settings: Settings, timings: Iterable[Timing], estimator: Estimator | None = None, names: Iterable[str] = ()
) -> list[StageCost]:
    """The cost of every stage, in the order in which the jobs run.

    Args:
        settings: The scale.
        timings: Jobs that were timed.
        estimator: For stages that were not; None leaves their numbers unknown.
        names: Stages that are wanted; empty for all.
    """
    timing_of = {timing.stage: timing for timing in timings if timing.scale == settings.config["scale"]}
    costs = []
    for name, jobs in job_counts(settings, names).items():
        models, basis = STAGES[name].models, UNKNOWN
        gpus = settings.config["gpus_per_job"] if models else 0
        hours = memory = disk = None
        operations = estimator.operations(name) if estimator and gpus else None
        if timing := timing_of.get(name):
            hours, memory, disk = jobs * [timing.minutes / 60], timing.memory_mb / 1000, jobs * timing.output_mb / 1000
            basis = TIMED
        elif estimator:
            # The speed of a machine without a GPU is unknown, so only stages without models are estimated there.
            hours = estimator.job_hours(name) if gpus or not models else None
            memory, disk = STAGES[name].largest_mb(settings) / 1000 if models else None, estimator.disk_gb(name)
            basis = UNKNOWN if hours is None else ESTIMATED
        costs.append(StageCost(name, jobs, operations, hours, gpus, memory, disk, basis))
    return costs


def hours_by_device(costs: Sequence[StageCost]) -> dict[bool, float]:
    """Hours of the jobs on GPUs (True), times the GPUs of a job, and of those without (False), where there are any."""
    hours = {True: 0.0, False: 0.0}
    for stage in costs:
        hours[stage.gpus > 0] += (stage.hours or 0) * (stage.gpus or 1)
    return {on_gpu: number for on_gpu, number in hours.items() if number}


def wall_hours(costs: Sequence[StageCost], gpus: int) -> float:
    """Hours in which jobs that share some GPUs end: the longest first, each where GPUs are free first.

    Jobs wait for no others and are not divided; those without a GPU are left out.
    """
    jobs = [(hours, stage.gpus) for stage in costs if stage.gpus for hours in stage.job_hours or []]
    free = [0.0] * max([gpus, *(job_gpus for _, job_gpus in jobs)])
    for hours, job_gpus in sorted(jobs, reverse=True):
        starts = [heapq.heappop(free) for _ in range(job_gpus)]
        for _ in starts:
            heapq.heappush(free, max(starts) + hours)
    return max(free)
