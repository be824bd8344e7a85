"""Prints the jobs and the cost of a whole run of a scale, from nothing, before it starts.

    c2c plan --scale paper                 (the same: python -m workflow.plan.report --scale paper)
    c2c plan --configfile config/config.yaml config/mine.yaml
    python -m workflow.plan.report --measure results/laptop

The last one replaces rows of ``config/timings.csv`` by the means of the jobs in a results folder. Imports no torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from c2c.errors import exit_code
from workflow.load import load_settings
from workflow.plan.stages import PATH, STAGES, Estimator, Timing, job_counts, measure, read_timings, write_timings
from workflow.scales import check_scale, read_config, scale_ids
from workflow.settings import Settings

TIMED, ESTIMATED, UNKNOWN = "timed", "estimate", "not timed"


@dataclass(frozen=True)
class StageCost:
    """Cost of the jobs of a stage; None for an unknown number.

    Hours are those of all jobs, one after the other, memory is that of one job (of its GPU where it has one), and disk
    is what all jobs leave. `basis` is where the numbers come from: `TIMED`, `ESTIMATED` or `UNKNOWN`.
    """

    name: str
    jobs: int
    hours: float | None
    gpus: int
    memory_gb: float | None
    disk_gb: float | None
    basis: str


def stage_costs(settings: Settings, timings: Iterable[Timing], estimator: Estimator | None = None) -> list[StageCost]:
    """The cost of every stage, in the order in which the jobs run; without an estimator, of timed stages alone."""
    timed = {timing.stage: timing for timing in timings if timing.scale == settings.config["scale"]}
    costs = []
    for name, jobs in job_counts(settings).items():
        models, basis = STAGES[name].models, UNKNOWN
        gpus = settings.config["gpus_per_job"] if models else 0
        hours = memory = disk = None
        if timing := timed.get(name):
            hours, memory, disk = jobs * timing.minutes / 60, timing.memory_mb / 1000, jobs * timing.output_mb / 1000
            basis = TIMED
        elif estimator:
            # The speed of a machine without a GPU is unknown, so only stages without models are estimated there.
            hours = estimator.hours(name) if gpus or not models else None
            memory, disk = STAGES[name].largest_mb(settings) / 1000 if models else None, estimator.disk_gb(name)
            basis = UNKNOWN if hours is None else ESTIMATED
        costs.append(StageCost(name, jobs, hours, gpus, memory, disk, basis))
    return costs


def hours_by_device(costs: Sequence[StageCost]) -> dict[bool, float]:
    """Hours of the jobs on GPUs (True), times the GPUs of a job, and of those without (False), where there are any."""
    hours = {True: 0.0, False: 0.0}
    for stage in costs:
        hours[stage.gpus > 0] += (stage.hours or 0) * (stage.gpus or 1)
    return {on_gpu: number for on_gpu, number in hours.items() if number}


def statement(settings: Settings, timings: Iterable[Timing]) -> str:
    """The cost of a whole run, from nothing, as a few lines; stages never timed at its scale are named, not guessed."""
    scale, costs = settings.config["scale"], stage_costs(settings, timings)
    timed = [stage for stage in costs if stage.basis == TIMED]
    parts = ", ".join(f"{stage.name} {stage.jobs}" for stage in costs)
    lines = [f"Scale {scale}: {sum(stage.jobs for stage in costs)} jobs that take time ({parts})."]
    if timed:
        units = {True: "GPU hours", False: "hours of jobs without a GPU"}
        hours = ", ".join(f"{number:.1f} {units[on_gpu]}" for on_gpu, number in hours_by_device(timed).items())
        memory, disk = max(stage.memory_gb or 0 for stage in timed), sum(stage.disk_gb or 0 for stage in timed)
        lines.append(f"By the jobs timed in {PATH}: {hours}, {memory:.1f} GB of memory, {disk:.1f} GB of disk.")
    if untimed := [stage.name for stage in costs if stage.basis != TIMED]:
        lines.append(f"Not timed at this scale yet: {', '.join(untimed)}.")
    if download := model_download_gb(settings):
        lines.append(f"Models to be fetched once: about {download:.1f} GB (2 bytes a parameter).")
    # A scale of the repository has a file of its name; another one is planned from the config files of its run.
    flag = f"--scale {scale}" if scale in scale_ids() else "--configfile, and the config files of this run"
    return "\n".join([*lines, f"By stage, with estimates and the paper's own hours: c2c plan {flag}"])


def lean_hours(settings: Settings, timings: Iterable[Timing], estimator: Estimator) -> dict[bool, float]:
    """GPU hours of a whole run of a scale by `lean`: with all seeds (False), and with the first of each training."""
    hours = {}
    for lean in (False, True):
        of_choice = replace(settings, config={**settings.config, "lean": lean})
        costs = stage_costs(of_choice, timings, replace(estimator, settings=of_choice))
        hours[lean] = hours_by_device(costs).get(True, 0.0)
    return hours


def lean_statement(settings: Settings, timings: Iterable[Timing], estimator: Estimator) -> str:
    """What all seeds cost and what a lean run costs, a line each; empty where both cost the same."""
    hours = lean_hours(settings, timings, estimator)
    if hours[True] >= hours[False]:
        return ""
    return (
        f"{'with all seeds:':26}{hours[False]:>15.1f} GPU hours (lean: false)\n"
        f"{'with one seed each:':26}{hours[True]:>15.1f} GPU hours (lean: true)"
    )


def model_download_gb(settings: Settings) -> float:
    """Size of the models of a scale that are fetched, at 2 bytes a parameter."""
    fetched = [name for name in settings.used_models if settings.models[name]["source"] == "hub"]
    return float(sum(2 * settings.models[name]["parameters_m"] for name in fetched) / 1000)


def paper_total(settings: Settings, estimator: Estimator) -> tuple[float, int]:
    """GPU hours of the paper for trainings of this scale, and the number of trainings with such hours (Table 12)."""
    printed = []
    for run in settings.runs:
        hours = estimator.paper_hours(run.pair, settings.sharer_role(run.recipe))
        steps = settings.training_of(run.pair, run.recipe, run.alignment)["steps"]
        printed += [hours[steps]] if steps in hours else []
    return sum(printed), len(printed)


def plan_lines(settings: Settings, timings: Iterable[Timing], estimator: Estimator) -> Iterator[str]:
    """The plan as lines of text."""
    # A row a stage.
    costs = stage_costs(settings, timings, estimator)
    yield f"Scale {settings.config['scale']}, a whole run from nothing\n"
    yield f"{'stage':26}{'jobs':>6}{'hours':>9}{'GPUs':>6}{'memory':>11}{'disk':>11}  basis"
    for stage in costs:
        hours, memory, disk = _cell(stage.hours), _cell(stage.memory_gb, " GB"), _cell(stage.disk_gb, " GB")
        yield f"{stage.name:26}{stage.jobs:>6}{hours:>9}{stage.gpus or '–':>6}{memory:>11}{disk:>11}  {stage.basis}"
    yield "\nhours: of all jobs of a stage; memory: of its largest job; disk: what all of its jobs leave\n"
    # Totals: hours, the paper's own, disk and downloads.
    for on_gpu, number in hours_by_device(costs).items():
        yield f"{'GPU hours:' if on_gpu else 'hours without a GPU:':26}{number:>15.1f}"
    if sentence := lean_statement(settings, timings, estimator):
        yield sentence
    if uncounted := [stage.name for stage in costs if stage.hours is None]:
        yield f"{'not counted, never timed:':26}{'':>5}{', '.join(uncounted)}"
    paper, trainings = paper_total(settings, estimator)
    if trainings:
        remark = f"{trainings} of the {len(settings.runs)} trainings, or for others of their pair and steps"
        yield f"{'the paper (Table 12):':26}{paper:>15.1f} GPU hours for {remark}"
    yield f"{'disk:':26}{sum(stage.disk_gb or 0 for stage in costs):>15.1f} GB"
    if any(stage.name == "train_fuser" and stage.basis != TIMED for stage in costs):
        yield f"{'and checkpoints:':26}{estimator.checkpoint_gb():>15.1f} GB at most, while all trainings run"
    models, data = model_download_gb(settings), estimator.data_download_gb()
    yield f"{'downloads:':26}{models + data:>15.1f} GB ({models:.1f} models, {data:.1f} data)"
    # What the estimates assume.
    if any(stage.basis == ESTIMATED for stage in costs):
        yield f"\nNever timed at this scale ({PATH}), so these are estimates. They assume:"
        yield from (f"  - {phrase}" for phrase in estimator.assumptions())


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; a refusal ends with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="paper", help="paper, laptop, smoke, … (default: %(default)s)")
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], help="config files instead of a scale")
    parser.add_argument("--measure", type=Path, metavar="RESULTS", help="write the timings of a results folder instead")
    options = parser.parse_args(arguments)

    def run() -> None:
        if options.measure:
            write_timings(measure(options.measure))
        else:
            settings = load_settings(read_config(options.scale, options.configfile))
            check_scale(settings.config)
            print("\n".join(plan_lines(settings, read_timings(), Estimator.of(settings))))

    return exit_code("c2c plan", run)


def _cell(number: float | None, unit: str = "") -> str:
    if number is None:
        return "–"
    return ("<0.1" if 0 < number < 0.05 else f"{number:.1f}") + unit


if __name__ == "__main__":
    sys.exit(main())
