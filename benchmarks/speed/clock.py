"""Time several ways of the same work against each other: interleaved, after a warm-up, as ratios within one run."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """Ways of doing the same work at one setting.

    Args:
        part: What is measured, such as ``prefill``.
        setting: What it depends on, such as ``{"tokens": 128}``.
        ways: The work of each way, by name.
        baseline: The way that the others are compared with.
        units: How much one call does, such as its tokens or examples.
        operations: Floating-point operations of one call of a way, where they are counted.
    """

    part: str
    setting: Mapping[str, Any]
    ways: Mapping[str, Work]
    baseline: str
    units: Mapping[str, float] = field(default_factory=dict)
    operations: Mapping[str, float] = field(default_factory=dict)


def time_call(work: Work, device: torch.device) -> tuple[float, float]:
    """Wall seconds and CPU seconds of one call, of all threads and finished children, with the device's work done."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    wait()
    wall, cpu = time.perf_counter(), _cpu_seconds()
    work()
    wait()
    return time.perf_counter() - wall, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def run(comparison: Comparison, rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """Time each way once a round, in an order that turns, after one call of each that does not count.

    Returns:
        One row a way and round: part, setting, way, round, ``wall_s`` and ``cpu_s``.
    """
    for work in comparison.ways.values():
        work()
    names, rows = list(comparison.ways), []
    for number in range(rounds):
        # Each round begins with another way, so that none always follows the same one.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            wall, cpu = time_call(comparison.ways[name], device)
            label = " ".join(f"{key}={value}" for key, value in comparison.setting.items())
            rows.append(
                {
                    "part": comparison.part,
                    "setting": label,
                    "way": name,
                    "baseline": comparison.baseline,
                    "round": number,
                    "wall_s": wall,
                    "cpu_s": cpu,
                    **comparison.setting,
                    **comparison.units,
                    **({"operations": comparison.operations[name]} if name in comparison.operations else {}),
                }
            )
    return rows


def ratios(rows: pd.DataFrame, clock: str) -> pd.DataFrame:
    """Median seconds of each way, and how many times as long as the baseline of the same round it takes.

    Args:
        rows: As `run` returns them.
        clock: ``wall_s`` or ``cpu_s``.

    Returns:
        One row a part, setting and way: ``seconds``, its median; ``ratio``, the median over rounds of the way's seconds
        by the baseline's; ``ratio_low`` and ``ratio_high``, the least and the greatest of them.
    """
    keys = ["part", "setting", "way"]
    base = rows[rows["way"] == rows["baseline"]].set_index(["part", "setting", "round"])[clock].rename("base")
    paired = rows.join(base, on=["part", "setting", "round"])
    paired["ratio"] = paired[clock] / paired["base"]
    groups = paired.groupby(keys, sort=False)
    return pd.DataFrame(
        {
            "seconds": groups[clock].median(),
            "ratio": groups["ratio"].median(),
            "ratio_low": groups["ratio"].min(),
            "ratio_high": groups["ratio"].max(),
            "rounds": groups["round"].nunique(),
        }
    ).reset_index()
