"""Time fusion, prefill, training, answering and start-up against the reference's order of work.

    python -m benchmarks.speed --size full --output results/speed

Machines differ and are noisy: everything is a ratio within one run, of CPU seconds on a CPU and of wall seconds on a
GPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from benchmarks.speed import report
from benchmarks.speed.clock import ratios, run
from benchmarks.speed.parts import PARTS, Bench
from c2c.errors import RefusedError, check_choice, exit_code
from c2c.models.loading import check_device
from c2c.provenance import stamp
from c2c.storage.files import write_atomically
from workflow.plan.devices import device_of, read_devices

SETTINGS = Path(__file__).with_name("settings.yaml")
REPORT, TABLE, MEASUREMENT = "speed.md", "speed.csv", "speed.json"
OUT_OF_BOUNDS = 3
"""Exit code where a ratio does not hold; a failure of the measurement itself has another one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write files if asked to; a refusal is one line and exit code 2.

    With ``--check`` the exit code is 3 if a ratio of ``bounds.yaml`` does not hold.
    """
    sizes = yaml.safe_load(SETTINGS.read_text())
    parser = argparse.ArgumentParser(
        prog="benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=list(sizes), help="block of settings.yaml; gpu on a GPU, else full")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch on a CPU")
    parser.add_argument("--rounds", type=int, default=0, help="0 for those of the size")
    parser.add_argument("--results", type=Path, help="a finished run, such as results/smoke, whose rules are listed")
    parser.add_argument("--output", type=Path, help="folder for speed.json, speed.csv, speed.md and plots")
    parser.add_argument("--check", action="store_true", help="compare the ratios with bounds.yaml")
    options = parser.parse_args(arguments)
    failures: list[str] = []
    code = exit_code("benchmarks.speed", lambda: failures.extend(_run(options, sizes)))
    for failure in failures:
        print(f"benchmarks.speed: {failure}", file=sys.stderr)
    return code or (OUT_OF_BOUNDS if failures else 0)


def _run(options: argparse.Namespace, sizes: dict[str, Any]) -> list[str]:
    """Measure and report; the ratios that do not hold, if they are to be checked."""
    # 1. Check everything before anything is built
    for part in options.parts:
        check_choice("A part of the measurement", part, PARTS)
    if options.threads < 1:
        raise RefusedError("--threads must be at least 1", options.threads, "Correct --threads")
    device = check_device(options.device)
    size = options.size or ("gpu" if device.type == "cuda" else "full")
    rounds = options.rounds or sizes[size]["rounds"]
    if rounds < 1:
        raise RefusedError("--rounds must be at least 1", rounds, "Correct --rounds")
    if options.results and not (options.results / "benchmarks").is_dir():
        raise RefusedError(
            "--results must be the folder of a finished run", str(options.results), "Name one with a folder benchmarks"
        )
    torch.set_num_threads(options.threads)
    # 2. Measure
    bench = Bench(sizes[size], device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    rows: list[dict[str, Any]] = []
    for part in options.parts:
        for comparison in PARTS[part](bench):
            print(f"{part} {dict(comparison.setting)}: {', '.join(comparison.ways)}", file=sys.stderr, flush=True)
            rows += run(comparison, rounds, device)
    # 3. Report
    clock = "wall_s" if device.type == "cuda" else "cpu_s"
    timings = pd.DataFrame(rows)
    table, powers = ratios(timings, clock), report.exponents(timings, clock) if "growth" in options.parts else None
    rules = report.rule_seconds(options.results) if options.results else pd.DataFrame()
    settings = {
        "size": size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": options.threads,
        "torch": torch.__version__,
        "clock": clock,
        "rounds": rounds,
    }
    powers = pd.DataFrame() if powers is None else powers
    devices = read_devices()
    peak = devices[name]["peak_tflops"] if (name := device_of(settings["device"], devices)) else None
    rates = report.operation_rates(timings, clock, peak)
    page = report.markdown(settings, table, powers, rates, rules)
    print(page)
    if options.output:
        _write(options.output, settings, timings, table, powers, rates, rules, page)
    return report.check(table, size, options.parts) if options.check else []


def _processor() -> str:
    """The processor's name, as Linux knows it, else the machine's architecture."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _write(
    folder: Path,
    settings: dict[str, Any],
    rows: pd.DataFrame,
    table: pd.DataFrame,
    powers: pd.DataFrame,
    rates: pd.DataFrame,
    rules: pd.DataFrame,
    page: str,
) -> None:
    """The measurement as JSON, the ratios as CSV, the page and its plots."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "settings": settings,
        "rows": json.loads(rows.to_json(orient="records")),
        "ratios": json.loads(table.to_json(orient="records")),
        "exponents": json.loads(powers.to_json(orient="records")),
        "rates": json.loads(rates.to_json(orient="records")),
        "rules": json.loads(rules.to_json(orient="records")),
    }
    pictures = report.plot(rows, table, powers, folder)
    images = "".join(f"\n![{path.stem}]({path.name})\n" for path in pictures)
    write_atomically(folder / TABLE, table.to_csv(index=False))
    write_atomically(folder / REPORT, page + images)
    with stamp(folder / MEASUREMENT, settings=settings):
        write_atomically(folder / MEASUREMENT, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
