"""What a whole run of a scale would do and cost, from nothing, before anything is started.

    c2c plan --scale paper                 (the same: python -m workflow.plan --scale paper)
    c2c plan --configfile config/config.yaml config/mine.yaml

Hours and disk are those of jobs that were timed at the scale (``config/timings.csv``), else estimates, marked as such,
with what they take for granted. Beside them stand the paper's own hours. Imports no torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake.utils import update_config

from c2c.errors import RefusedError, exit_code
from c2c.storage.formats import read_yaml
from workflow import analysis
from workflow.cost import ANALYSES, PATH, Timing, downloads_gb, job_counts, read_timings
from workflow.estimate import Estimator, paper_hours
from workflow.latent import latent_groups, latent_memory_mb, latent_names, latent_pairs
from workflow.load import load_settings
from workflow.methods import agent_pairs, group_runs, members, single_runs
from workflow.settings import Settings

CONFIG = Path("config")
BASE = "config.yaml"
GPU_RULES = (
    "write_teacher_answers",
    "answer_router_questions",
    "train_router",
    "train_fuser",
    "generate_baselines",
    "generate_fused",
    "generate_kept",
    "generate_group",
    "generate_agents",
    "generate_released",
    "train_latent",
    "generate_latent",
    "generate_latent_group",
    "train_single",
    "generate_single",
    "measure_latency",
    *ANALYSES,
)
TIMED, ESTIMATED, UNKNOWN = "timed", "estimate", "not timed"


@dataclass(frozen=True)
class Stage:
    """All jobs of a rule.

    Args:
        rule: Name of the rule.
        jobs: How many there are.
        hours: Hours of all of them, one after the other; None if nothing is known.
        gpus: GPUs of a job, 0 for a rule that runs without.
        memory_gb: Memory of a job; that of its GPU where it has one.
        disk_gb: What all of them leave.
        basis: Where hours, memory and disk are from: `timed`, `estimate` or `not timed`.
    """

    rule: str
    jobs: int
    hours: float | None
    gpus: int
    memory_gb: float | None
    disk_gb: float | None
    basis: str


def stages(settings: Settings, timings: Sequence[Timing], estimator: Estimator) -> list[Stage]:
    """Every rule that takes time, in the order in which the jobs run."""
    timed = {timing.rule: timing for timing in timings if timing.scale == settings.config["scale"]}
    return [_stage(settings, rule, jobs, timed.get(rule), estimator) for rule, jobs in job_counts(settings).items()]


def _stage(settings: Settings, rule: str, jobs: int, timing: Timing | None, estimator: Estimator) -> Stage:
    gpus = settings.config["gpus_per_job"] if rule in GPU_RULES else 0
    if timing is not None:
        hours, disk = jobs * timing.minutes / 60, jobs * timing.output_mb / 1000
        return Stage(rule, jobs, hours, gpus, timing.memory_mb / 1000, disk, TIMED)
    # Without a GPU nothing is known of a machine's speed, so that only what needs none is estimated.
    hours = estimator.hours(rule) if gpus or rule not in GPU_RULES else None
    memory = memory_mb(settings, rule) / 1000 if rule in GPU_RULES else None
    basis = UNKNOWN if hours is None else ESTIMATED
    return Stage(rule, jobs, hours, gpus, memory, estimator.disk_gb(rule), basis)


def memory_mb(settings: Settings, rule: str) -> int:
    """What the largest job of a rule with models holds, in MB (`workflow.memory`)."""
    if rule == "train_fuser":
        return max(settings.training_mb(run.pair, run.recipe, run.alignment) for run in settings.runs)
    if rule == "train_single":
        return max(settings.single_mb(run.pair, run.alignment) for run in single_runs(settings))
    if rule == "write_teacher_answers":
        return max(map(settings.teacher_mb, settings.teachers))
    if rule == "train_latent":
        return max(latent_memory_mb(settings, name) for name in latent_names(settings))
    if rule == "generate_latent_group":
        groups = [group for name in latent_names(settings) for group in latent_groups(settings, name)]
        return max(sum(map(settings.answering_mb, members(settings, group))) for group in groups)
    if rule == "generate_group":
        return max(sum(map(settings.answering_mb, members(settings, run.group))) for run in group_runs(settings))
    return max(map(settings.answering_mb, pairs_of(settings, rule)))


def pairs_of(settings: Settings, rule: str) -> list[str]:
    """The pairs whose models answer in the jobs of a rule."""
    if rule in ANALYSES:
        return [analysis.kinds(settings.config)[ANALYSES[rule]]["pair"]]
    named = {
        "generate_agents": agent_pairs(settings),
        "generate_single": [run.pair for run in single_runs(settings)],
        "generate_released": [settings.released[name]["pair"] for name in settings.config.get("released", [])],
        "generate_latent": [pair for name in latent_names(settings) for pair in latent_pairs(settings, name)],
        "generate_kept": [path.partition("/")[0] for path in settings.kept_steps],
        "measure_latency": settings.timed_pairs,
    }
    return named.get(rule, settings.used_pairs)


def paper_total(settings: Settings, estimator: Estimator) -> tuple[float, int]:
    """GPU hours that the paper spent on trainings of this scale, and how many of them it has hours of (Table 12)."""
    found = []
    for run in settings.runs:
        hours = paper_hours(estimator.reference, settings, run.pair, settings.sharer_role(run.recipe))
        steps = settings.training_of(run.pair, run.recipe, run.alignment)["steps"]
        found.append(hours.get(steps))
    known = [hours for hours in found if hours is not None]
    return sum(known), len(known)


def written(settings: Settings, timings: Sequence[Timing], estimator: Estimator) -> Iterator[str]:
    """The plan as lines of text."""
    found = stages(settings, timings, estimator)
    yield f"Scale {settings.config['scale']}, a whole run from nothing"
    yield ""
    yield f"{'stage':26}{'jobs':>6}{'hours':>9}{'GPUs':>6}{'memory':>11}{'disk':>11}  basis"
    for stage in found:
        hours = _shown(stage.hours)
        sizes = f"{_size(stage.memory_gb):>11}{_size(stage.disk_gb):>11}"
        yield f"{stage.rule:26}{stage.jobs:>6}{hours:>9}{stage.gpus or '–':>6}{sizes}  {stage.basis}"
    yield ""
    yield "hours: of all jobs of a stage; memory: of its largest job; disk: what all of its jobs leave"
    yield ""
    yield from _totals(settings, found, estimator)
    if any(stage.basis == ESTIMATED for stage in found):
        yield ""
        yield f"Never timed at this scale ({PATH}), so these are estimates. They take for granted:"
        yield from (f"  - {line}" for line in estimator.assumptions.lines(estimator.operations_per_hour()))
        yield "  - memory at the longest example and the fullest batch (workflow/memory.py); a training holds less"
        yield "    with a smaller micro_batch_size, or with recompute: fusers"


def _totals(settings: Settings, found: list[Stage], estimator: Estimator) -> Iterator[str]:
    for name, part in (("GPU hours", True), ("hours without a GPU", False)):
        hours = [stage.hours * (stage.gpus or 1) for stage in found if bool(stage.gpus) is part and stage.hours]
        if hours:
            yield f"{name + ':':26}{sum(hours):>15.1f}"
    if unknown := [stage.rule for stage in found if stage.hours is None]:
        yield f"{'not counted, never timed:':26}{'':>5}{', '.join(unknown)}"
    paper, known = paper_total(settings, estimator)
    if known:
        about = f"GPU hours for {known} of the {len(settings.runs)} trainings, or for others of their pair and steps"
        yield f"{'the paper (Table 12):':26}{paper:>15.1f} {about}"
    yield f"{'disk:':26}{sum(stage.disk_gb or 0 for stage in found):>15.1f} GB"
    if any(stage.rule == "train_fuser" and stage.basis != TIMED for stage in found):
        yield f"{'and checkpoints:':26}{estimator.checkpoint_gb():>15.1f} GB at most, while all trainings run"
    models, data = downloads_gb(settings), estimator.downloads_gb()
    yield f"{'downloads:':26}{models + data:>15.1f} GB ({models:.1f} models, {data:.1f} data)"


def read_config(scale: str, files: Sequence[Path] = (), folder: Path = CONFIG) -> dict[str, Any]:
    """The config of a scale, or of config files over the paper's, merged as Snakemake merges them.

    Raises:
        RefusedError: There is no such scale.
    """
    named = [folder / BASE, *files] if files else [folder / BASE, folder / f"{scale}.yaml"]
    config: dict[str, Any] = {}
    for path in named:
        # A scale without a file is the paper's, or none; a file that is named must be there.
        if path.is_file() or files:
            update_config(config, _mapping(path))
    if not files and config.get("scale") != scale and (folder / BASE).is_file():
        configs = [_mapping(path) for path in sorted(folder.glob("*.yaml"))]
        known = [str(each["scale"]) for each in configs if "scale" in each]
        raise RefusedError("A scale must have a file in config/", scale, f"Choose one of {', '.join(known)}")
    return config


def _mapping(path: Path) -> dict[str, Any]:
    remedy = "Correct the file; config/README.md explains its keys"
    content = read_yaml(path, remedy)
    if not isinstance(content, dict):
        raise RefusedError(f"{path.name} must hold keys with values", content, remedy)
    return content


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; a refusal ends with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="paper", help="paper, laptop, smoke, … (default: %(default)s)")
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], help="config files instead of a scale")
    options = parser.parse_args(arguments)
    return exit_code("workflow.plan", lambda: _print(options.scale, options.configfile))


def _print(scale: str, files: Sequence[Path]) -> None:
    settings = load_settings(read_config(scale, files))
    print("\n".join(written(settings, read_timings(), Estimator.of(settings))))


def _size(gigabytes: float | None) -> str:
    return "–" if gigabytes is None else f"{_shown(gigabytes)} GB"


def _shown(number: float | None) -> str:
    if number is None:
        return "–"
    return "<0.1" if 0 < number < 0.05 else f"{number:.1f}"


if __name__ == "__main__":
    sys.exit(main())
