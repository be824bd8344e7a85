"""Prints the jobs and the cost of a whole run of a scale, from nothing, before it starts.

    c2c plan --scale paper                 (the same: python -m workflow.plan.report --scale paper)
    c2c plan --configfile config/config.yaml config/mine.yaml
    c2c plan --device h100 --gpus 8        (a device of config/devices.csv; jobs that share 8 GPUs)
    c2c plan --speed results/speed/speed.json
    python -m workflow.plan.report --measure results/laptop

``--speed`` takes the training step that ``python -m benchmarks.speed`` timed on a GPU, in place of the paper's hours.
The last one replaces rows of ``config/timings.csv`` by the means of the jobs in a results folder. Imports no torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from c2c.errors import RefusedError, check_choice, exit_code
from workflow.config import FROZEN
from workflow.load import load_settings
from workflow.plan.choices import ChoiceCost, choice_costs
from workflow.plan.costs import ESTIMATED, EXA, TIMED, TRAINING, hours_by_device, stage_costs, wall_hours
from workflow.plan.devices import DEVICES, PAPER_DEVICE, read_devices, read_measurement
from workflow.plan.stages import PATH, Estimator, Timing, measure, read_timings, write_timings
from workflow.scales import check_scale, read_config, scale_ids
from workflow.settings import Settings


def statement(settings: Settings, timings: Iterable[Timing]) -> str:
    """The cost of a whole run, from nothing, as a few lines; stages never timed at its scale are named, not guessed."""
    scale, costs = settings.config["scale"], stage_costs(settings, timings)
    timed_stages = [stage for stage in costs if stage.basis == TIMED]
    parts = ", ".join(f"{stage.name} {stage.jobs}" for stage in costs)
    lines = [f"Scale {scale}: {sum(stage.jobs for stage in costs)} jobs that take time ({parts})."]
    if timed_stages:
        units = {True: "GPU hours", False: "hours of jobs without a GPU"}
        hours = ", ".join(f"{number:.1f} {units[on_gpu]}" for on_gpu, number in hours_by_device(timed_stages).items())
        memory, disk = (
            max(stage.memory_gb or 0 for stage in timed_stages),
            sum(stage.disk_gb or 0 for stage in timed_stages),
        )
        lines.append(f"By the jobs timed in {PATH}: {hours}, {memory:.1f} GB of memory, {disk:.1f} GB of disk.")
    if untimed_names := [stage.name for stage in costs if stage.basis != TIMED]:
        lines.append(f"Not timed at this scale yet: {', '.join(untimed_names)}.")
    if download := model_download_gb(settings):
        lines.append(f"Models to be fetched once: about {download:.1f} GB (2 bytes a parameter).")
    # A scale of the repository has a file of its name; another one is planned from the config files of its run.
    flag = f"--scale {scale}" if scale in scale_ids() else "--configfile, and the config files of this run"
    return "\n".join([*lines, f"By stage, with estimates and the paper's own hours: c2c plan {flag}"])


def model_download_gb(settings: Settings) -> float:
    """Size of the models of a scale that are fetched, at 2 bytes a parameter."""
    hub_models = [name for name in settings.used_models if settings.models[name]["source"] == "hub"]
    return float(sum(2 * settings.models[name]["parameters_m"] for name in hub_models) / 1000)


def paper_total(settings: Settings, estimator: Estimator) -> tuple[float, int]:
    """GPU hours of the paper for trainings of this scale, and the number of trainings with such hours (Table 12)."""
    paper_hours = []
    for run in settings.runs:
        hours = estimator.paper_hours(run.pair, settings.sharer_role(run.recipe))
        steps = settings.training_of(run.pair, run.recipe, run.alignment)["steps"]
        paper_hours += [hours[steps]] if steps in hours else []
    return sum(paper_hours), len(paper_hours)


def plan_lines(settings: Settings, timings: Iterable[Timing], estimator: Estimator, gpus: int = 1) -> Iterator[str]:
    """The plan as lines of text; `gpus` are those that jobs share."""
    # A row a stage.
    timings = list(timings)
    costs = stage_costs(settings, timings, estimator)
    yield f"Scale {settings.config['scale']}, a whole run from nothing\n"
    yield f"{'stage':26}{'jobs':>6}{'EFLOP':>10}{'hours':>9}{'GPUs':>6}{'memory':>11}{'disk':>11}  basis"
    for stage in costs:
        operations = _cell(None if stage.operations is None else stage.operations / EXA)
        hours, memory, disk = _cell(stage.hours), _cell(stage.memory_gb, " GB"), _cell(stage.disk_gb, " GB")
        numbers = f"{operations:>10}{hours:>9}{stage.gpus or '–':>6}{memory:>11}{disk:>11}"
        yield f"{stage.name:26}{stage.jobs:>6}{numbers}  {stage.basis}"
    yield "\nhours: of all jobs of a stage; memory: of its largest job; disk: what all of its jobs leave\n"
    # Totals: operations, hours, the paper's own, disk and downloads.
    if operations_total := sum(stage.operations or 0 for stage in costs):
        yield f"{'operations:':26}{operations_total / EXA:>15.1f} EFLOP"
    for on_gpu, number in hours_by_device(costs).items():
        yield f"{'GPU hours:' if on_gpu else 'hours without a GPU:':26}{number:>15.1f}"
    if gpus > 1 and any(stage.gpus for stage in costs):
        yield f"{f'wall hours on {gpus} GPUs:':26}{wall_hours(costs, gpus):>15.1f}"
    if gaps := [stage.name for stage in costs if stage.hours is None]:
        yield f"{'not counted, never timed:':26}{'':>5}{', '.join(gaps)}"
    paper, trainings = paper_total(settings, estimator)
    if trainings:
        remark = f"{trainings} of the {len(settings.runs)} trainings, or for others of their pair and steps"
        yield f"{'the paper (Table 12):':26}{paper:>15.1f} {PAPER_DEVICE.upper()} hours for {remark}"
    yield f"{'disk:':26}{sum(stage.disk_gb or 0 for stage in costs):>15.1f} GB"
    estimates = {stage.name for stage in costs if stage.basis == ESTIMATED}
    if any(stage.name in TRAINING and stage.basis != TIMED for stage in costs):
        yield f"{'and checkpoints:':26}{estimator.checkpoint_gb():>15.1f} GB at most, while all trainings run"
    models, data = model_download_gb(settings), estimator.data_download_gb()
    yield f"{'downloads:':26}{models + data:>15.1f} GB ({models:.1f} models, {data:.1f} data)"
    # What frozen models that are read once save, and leaner runs.
    if estimates.intersection(TRAINING) and any(stage.gpus for stage in costs):
        yield from choice_lines(choice_costs(settings, timings, estimator, gpus), gpus)
    # What the estimates assume.
    if estimates:
        yield f"\nNever timed at this scale ({PATH}), so these are estimates. They assume:"
        yield from (f"  - {phrase}" for phrase in estimator.assumptions())
        if gpus > 1:
            yield f"  - jobs that wait for no others and fill {gpus} GPUs, the longest first; none is divided"


def choice_lines(choices: Sequence[ChoiceCost], gpus: int) -> Iterator[str]:
    """GPU hours of leaner runs by how the frozen models are read, and wall hours on some GPUs."""
    yield "\nGPU hours by how trainings of a pair read the frozen models (training.frozen)" + (
        f"; in brackets wall hours on {gpus} GPUs" if gpus > 1 else ""
    )
    yield f"{'':34}{'trainings':>10}" + "".join(f"{frozen:>18}" for frozen in FROZEN)
    for choice in choices:
        wall = {frozen: f" ({hours:.0f})" if gpus > 1 else "" for frozen, hours in choice.wall_hours.items()}
        cells = (f"{f'{choice.gpu_hours[frozen]:.1f}{wall[frozen]}':>18}" for frozen in FROZEN)
        yield f"{choice.name:34}{choice.trainings:>10}" + "".join(cells)
    for name, sizes in (("largest job", choices[0].memory_gb), ("disk", choices[0].disk_gb)):
        yield f"{f'{choices[0].name}, {name}':44}" + "".join(f"{sizes[frozen]:>15,.0f} GB" for frozen in FROZEN)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; a refusal ends with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="paper", help="paper, laptop, smoke, … (default: %(default)s)")
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], help="config files instead of a scale")
    parser.add_argument("--device", default="", help=f"plan for a device of {DEVICES} (default: the paper's)")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that jobs share, for wall hours")
    parser.add_argument("--speed", type=Path, metavar="FILE", help="speed.json of python -m benchmarks.speed on a GPU")
    parser.add_argument("--measure", type=Path, metavar="RESULTS", help="write the timings of a results folder instead")
    options = parser.parse_args(arguments)

    def run() -> None:
        if options.measure:
            write_timings(measure(options.measure))
        else:
            if options.gpus < 1:
                raise RefusedError("--gpus must be at least 1", options.gpus, "Correct --gpus")
            if options.device:
                check_choice("--device", options.device, read_devices())
            measurement = read_measurement(options.speed) if options.speed else None
            settings = load_settings(read_config(options.scale, options.configfile))
            check_scale(settings.config)
            estimator = Estimator.of(settings, device=options.device, measurement=measurement)
            print("\n".join(plan_lines(settings, read_timings(), estimator, options.gpus)))

    return exit_code("c2c plan", run)


def _cell(number: float | None, unit: str = "") -> str:
    if number is None:
        return "–"
    return ("<0.1" if 0 < number < 0.05 else f"{number:.1f}") + unit


if __name__ == "__main__":
    sys.exit(main())
