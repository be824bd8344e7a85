"""The latency split: where the time of a question goes, by method and phase (the paper's Table 3)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from c2c.evaluation.schema import PHASES
from paper import names
from paper.answers import arm_name
from paper.output import count, fixed, read_table, run_table, show, write_table

HEAD = ["scale", "receiver", "sharer", "alignment", "benchmark", "arm"]


def build(latency: pd.DataFrame) -> pd.DataFrame:
    """One row a method, one column a phase: mean milliseconds a question; the total has its interval."""
    arms = [arm_name(*key) for key in zip(latency["recipe"], latency["method"], strict=True)]
    tidy = latency.assign(arm=arms)
    wide = tidy.pivot(index=HEAD, columns="phase", values="mean_ms")[list(PHASES)].add_suffix("_ms")
    total = tidy[tidy["phase"] == "total"].set_index(HEAD)[["low_ms", "high_ms", "median_ms", "n"]]
    frame = wide.join(total.rename(columns={name: f"total_{name}" for name in ("low_ms", "high_ms", "median_ms")}))
    order = names.in_order("arms", arms)
    return frame.reset_index().sort_values(
        ["receiver", "sharer", "benchmark", "arm"], key=_ranked(order), ignore_index=True
    )


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a person reads: all times in milliseconds."""
    return pd.DataFrame(
        {
            "Receiver": names.title("models", str(row["receiver"])),
            "Benchmark": names.title("benchmarks", str(row["benchmark"])),
            "Method": names.title("arms", str(row["arm"])),
            **{f"{names.title('phases', phase)}, ms": fixed(row[f"{phase}_ms"], 2) for phase in PHASES[:-1]},
            "Total, ms [95 %]": show(row["total_ms"], row["total_low_ms"], row["total_high_ms"], digits=2),
            "n": count(row["n"]),
        }
        for row in frame.to_dict("records")
    )


def write(latency: pd.DataFrame, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(latency)
    notes = [
        "Mean time of a question in batches of one; the total is measured on its own and holds what lies between the "
        "phases."
    ]
    return write_table(frame, printed(frame), stem, notes)


def _ranked(order: list[str]):  # type: ignore[no-untyped-def]
    return lambda column: column.map(order.index) if column.name == "arm" else column


if __name__ == "__main__":
    run_table(__doc__, write, latency=read_table)
