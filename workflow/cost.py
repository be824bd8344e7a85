"""What a run costs, said before it starts: jobs, hours, memory and disk, from jobs of the same scale that were timed.

    python -m workflow.cost --results results/laptop

takes the times that Snakemake's `benchmark` files hold and the sizes of what the jobs wrote, and puts the means into
``config/timings.csv``, which `statement` reads. Imports no torch.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean

from c2c.errors import RefusedError, exit_code
from c2c.storage.files import write_atomically
from c2c.storage.formats import read_text
from workflow import analysis
from workflow.latent import latent_names, latent_records, latent_runs, latent_tokenised
from workflow.methods import agent_pairs, group_runs, single_runs
from workflow.settings import Settings

PATH = Path("config/timings.csv")
MEASURE = f"Restore the file, or measure again: python -m workflow.cost --results … writes {PATH}"
WRITTEN = {
    "train_fuser": "fusers/{job}/*",
    "generate_baselines": "records/{job}/baselines.parquet",
    "generate_fused": "records/{job}.parquet",
    "generate_group": "records/groups/{job}.parquet",
    "train_latent": "latent/{job}/pairs/*/*",
    "generate_latent": "records/latent/{job}.parquet",
    "generate_latent_group": "records/latent/{job}.parquet",
    "train_single": "single/{job}/*",
    "generate_single": "records/single/{job}.parquet",
    "generate_agents": "records/agents/{job}.parquet",
    "generate_released": "records/released/{job}.parquet",
    "generate_kept": "records/{job}.parquet",
    "measure_latency": "latency/{job}.parquet",
    "tokenise_training_set": "data/tokenised/{job}.parquet",
    "pretrain_model": "models/{job}/*",
    "write_teacher_answers": "data/training/{job}.jsonl",
    "answer_router_questions": "routers/{job}/answers.parquet",
    "train_router": "routers/{job}/router.*",
    "measure_effective_rank": "analysis/effective_rank/*",
    "enrich_caches": "analysis/enrichment/*",
    "place_caches": "analysis/tsne/*",
    "fuse_partially": "analysis/partial/*",
}
"""Rules that take time, and where their jobs write, below the results folder. Other rules are over in seconds."""


ANALYSES = {
    "measure_effective_rank": "effective_rank",
    "enrich_caches": "enrichment",
    "place_caches": "tsne",
    "fuse_partially": "partial",
}
"""Rules of analyses, with their names in the config."""


@dataclass(frozen=True)
class Timing:
    """Means over the timed jobs of a rule at a scale.

    Args:
        scale: Name of the scale.
        rule: Name of the rule.
        jobs: How many jobs were timed.
        minutes: Mean wall time of a job.
        memory_mb: Most memory that any of them held.
        output_mb: Mean size of what a job wrote.
    """

    scale: str
    rule: str
    jobs: int
    minutes: float
    memory_mb: float
    output_mb: float


def read_timings(path: Path = PATH) -> list[Timing]:
    """The committed timings; none where there is no file.

    Raises:
        RefusedError: The file is no UTF-8 text, or has other columns, or a cell that is no such number.
    """
    if not path.is_file():
        return []
    names = [field.name for field in fields(Timing)]
    head, *rows = [line.split(",") for line in read_text(path, MEASURE).splitlines()] or [[]]
    if head != names:
        raise RefusedError(f"{path.name} must have the columns {', '.join(names)}", ", ".join(head), MEASURE)
    return [_timing(path, number, row) for number, row in enumerate(rows, start=2)]


def _timing(path: Path, number: int, row: list[str]) -> Timing:
    try:
        scale, rule, jobs, *means = row
        minutes, memory, output = map(float, means)
        timing = Timing(scale, rule, int(jobs), minutes, memory, output)
    except ValueError as error:
        where = f"{path.name}, line {number}"
        raise RefusedError(f"{where} must be a scale, a rule and four numbers", ",".join(row), MEASURE) from error
    if timing.jobs < 1 or not all(math.isfinite(mean) and mean >= 0 for mean in (minutes, memory, output)):
        where = f"{path.name}, line {number}"
        raise RefusedError(f"{where} must have numbers of 0 or more", ",".join(row), MEASURE)
    return timing


def measure(results: Path) -> list[Timing]:
    """Timings of a results folder, by rule that takes time.

    Raises:
        RefusedError: No job was timed there.
    """
    found: dict[str, list[tuple[float, float, float]]] = {}
    for path in sorted((results / "benchmarks").rglob("*.tsv")):
        rule, *job = path.relative_to(results / "benchmarks").with_suffix("").parts
        if rule not in WRITTEN:
            continue
        seconds, memory = _measured(path)
        size = _size(results, WRITTEN[rule], "/".join(job))
        found.setdefault(rule, []).append((seconds / 60, memory, size))
    if not found:
        raise RefusedError("A results folder must have timed jobs", str(results), "Run the scale first")
    return [
        Timing(results.name, rule, len(jobs), mean(minutes), max(memory), mean(sizes))
        for rule, jobs in found.items()
        for minutes, memory, sizes in [zip(*jobs, strict=True)]
    ]


def _measured(path: Path) -> tuple[float, float]:
    """Seconds and MB of memory that a benchmark file of Snakemake holds; 0 MB where the job was too quick."""
    remedy = "Remove it, and run the workflow again"
    lines = read_text(path, remedy).splitlines()
    row = dict(zip(lines[0].split("\t"), lines[1].split("\t"), strict=False)) if len(lines) > 1 else {}
    try:
        return float(row["s"]), 0.0 if row["max_rss"] == "NA" else float(row["max_rss"])
    except (KeyError, ValueError) as error:
        raise RefusedError(f"{path} must hold the time and memory of a job", "\n".join(lines), remedy) from error


def statement(settings: Settings, timings: Iterable[Timing]) -> str:
    """The cost of a whole run of this scale, from nothing, as a few lines.

    Rules whose jobs were never timed at this scale are named, not guessed.
    """
    scale, gpus = settings.config["scale"], settings.config["gpus_per_job"]
    timed = {timing.rule: timing for timing in timings if timing.scale == scale}
    jobs = job_counts(settings)
    known = [(count, timed[rule]) for rule, count in jobs.items() if rule in timed]
    untimed = [rule for rule in jobs if rule not in timed]
    parts = ", ".join(f"{rule} {count}" for rule, count in jobs.items())
    lines = [f"Scale {scale}: {sum(jobs.values())} jobs that take time ({parts})."]
    if known:
        hours = sum(count * timing.minutes for count, timing in known) / 60
        disk = sum(count * timing.output_mb for count, timing in known) / 1000
        memory = max(timing.memory_mb for _, timing in known) / 1000
        unit = "GPU hours" if gpus else "hours of jobs, one after the other"
        sizes = f"{memory:.1f} GB of memory, {disk:.1f} GB of disk"
        lines.append(f"By the jobs timed in {PATH}: {hours:.1f} {unit}, {sizes}.")
    if untimed:
        lines.append(f"Not timed at this scale yet: {', '.join(untimed)}.")
    if download := downloads_gb(settings):
        lines.append(f"Models to be fetched once: about {download:.1f} GB (2 bytes a parameter).")
    return "\n".join([*lines, f"By stage, with estimates and the paper's own hours: c2c plan --scale {scale}"])


def downloads_gb(settings: Settings) -> float:
    """Size of the models of a scale that are fetched, at 2 bytes a parameter."""
    fetched = [name for name in settings.used_models if _fetched(settings, name)]
    return float(sum(2 * settings.models[name]["parameters_m"] for name in fetched) / 1000)


def job_counts(settings: Settings) -> dict[str, int]:
    """How many jobs of each rule that takes time a run of this scale has, from nothing."""
    runs, pairs = settings.runs, settings.used_pairs
    tokenised = {settings.tokenised(run.pair, run.recipe, run.alignment) for run in runs}
    tokenised |= {path for name in latent_names(settings) for path in latent_tokenised(settings, name)}
    together = sum("/groups/" in path for path in latent_records(settings))
    counts = {
        "pretrain_model": sum(not _fetched(settings, name) for name in settings.used_models),
        "tokenise_training_set": 2 * len(tokenised),
        "answer_router_questions": sum("routing_trained" in settings.baselines(pair) for pair in pairs),
        "train_router": sum("routing_trained" in settings.baselines(pair) for pair in pairs),
        "write_teacher_answers": 2 * len(settings.teachers),
        "train_fuser": len(runs),
        "generate_baselines": len(pairs),
        "generate_fused": len(runs),
        "generate_group": len(group_runs(settings)),
        "train_latent": len(latent_runs(settings)),
        "generate_latent": len(latent_records(settings)) - together,
        "generate_latent_group": together,
        "train_single": len(single_runs(settings)),
        "generate_single": len(single_runs(settings)),
        "generate_agents": len(agent_pairs(settings)),
        "generate_released": len(settings.config.get("released", [])),
        "generate_kept": len(settings.kept_steps),
        "measure_latency": len(settings.timed_pairs),
        **{rule: int(kind in analysis.kinds(settings.config)) for rule, kind in ANALYSES.items()},
    }
    return {rule: count for rule, count in counts.items() if count}


def write_timings(fresh: Iterable[Timing], path: Path = PATH) -> None:
    """Put the timings of one scale into the file, in place of what it held of that scale."""
    fresh = list(fresh)
    kept = [timing for timing in read_timings(path) if timing.scale not in {each.scale for each in fresh}]
    rows = [asdict(timing).values() for timing in sorted([*kept, *fresh], key=_key)]
    lines = [",".join(field.name for field in fields(Timing)), *(",".join(map(_cell, row)) for row in rows)]
    write_atomically(path, "\n".join(lines) + "\n")


def main() -> int:
    """Command line; a refusal ends with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="folder of one scale's results")
    return exit_code("workflow.cost", lambda: write_timings(measure(parser.parse_args().results)))


def _fetched(settings: Settings, model: str) -> bool:
    row: Mapping[str, object] = settings.models[model]
    return row["source"] == "hub"


def _size(results: Path, pattern: str, job: str) -> float:
    files = results.glob(pattern.format(job=job))
    return sum(path.stat().st_size for path in files if path.is_file()) / 1e6


def _key(timing: Timing) -> tuple[str, str]:
    return timing.scale, timing.rule


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
