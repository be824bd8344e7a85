"""The latency split: where the time of a question goes, by method and phase (the paper's Table 3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.evaluation.schema import PHASES
from paper.reading import names
from paper.reading.answers import arm_name
from paper.reading.files import read_table
from paper.reading.reference import Reference
from paper.reading.times import TOKENS
from paper.writing.numbers import NOTHING, count, decimal, show
from paper.writing.output import run_table, write_table

PLACE = "Table 3"
ID_COLUMNS = ["scale", "pair", "receiver", "sharer", "alignment", "benchmark", "arm"]
ALONE = {"receiver": "Receiver-only", "sharer": "Sharer-only"}
"""What the paper calls a model that answers alone; otherwise it names the method and whose phase it is."""
FUSION = "KV-cache fusion time (inside C2C sharer prefill cell)"


def build(latency: pd.DataFrame) -> pd.DataFrame:
    """One row a method, one column a phase: mean milliseconds a question; the total has its interval.

    Also the tokens that a phase reads or writes, and the paper's time of the phase where it has the cell.
    """
    arms = [arm_name(*key) for key in zip(latency["recipe"], latency["method"], strict=True)]
    tidy = latency.assign(arm=arms, tokens=pd.to_numeric(latency["tokens"]))
    wide = tidy.pivot(index=ID_COLUMNS, columns="phase", values="mean_ms")[list(PHASES)].add_suffix("_ms")
    total = tidy[tidy["phase"] == "total"].set_index(ID_COLUMNS)[["low_ms", "high_ms", "median_ms", "n"]]
    frame = wide.join(total.rename(columns={name: f"total_{name}" for name in ("low_ms", "high_ms", "median_ms")}))
    tokens = tidy.pivot(index=ID_COLUMNS, columns="phase", values="tokens")[list(TOKENS)].rename(columns=TOKENS)
    frame = frame.join(tokens).reset_index()
    frame = frame.sort_values(
        ["receiver", "sharer", "benchmark", "arm"], key=_ranked(names.in_order("arms", arms)), ignore_index=True
    )
    reference = Reference()
    paper = [_paper_of(reference, row) for row in frame.to_dict("records")]
    return frame.join(pd.DataFrame(paper, index=frame.index).astype(float))


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed: all times in milliseconds; the paper's of a method below ours, where it has them."""
    rows = []
    for row in frame.to_dict("records"):
        rows.append(_text_row(row, "", show(row["total_ms"], row["total_low_ms"], row["total_high_ms"], digits=2)))
        if not pd.isna(row["paper_total_ms"]):
            rows.append(_text_row(row, "paper_", _number(row["paper_total_ms"])))
    return pd.DataFrame(rows)


def write(latency: pd.DataFrame, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(latency)
    notes = [
        "Mean time of a question in batches of one; the total is measured on its own and holds what lies between the "
        "phases. In brackets: tokens that the phase reads or writes, in the mean."
    ]
    if not frame["paper_total_ms"].notna().any():
        values = [
            f"{entry['label'].removesuffix(f', {PLACE}')} {decimal(entry['value'], 0)} {entry['unit']}"
            for entry in Reference().printed()["latency"]
        ]
        notes.append(f"{PLACE} prints, for other models on other hardware: {'; '.join(values)}.")
    return write_table(frame, text_table(frame), stem, notes)


def _text_row(row: dict[Any, Any], prefix: str, total: str) -> dict[str, str]:
    method = names.title("arms", str(row["arm"]))
    cells = {
        f"{names.title('phases', phase)}, ms": _number(row[f"{prefix}{phase}_ms"])
        + ("" if prefix or not row.get(TOKENS.get(phase)) else f" ({decimal(row[TOKENS[phase]], 0)})")
        for phase in PHASES[:-1]
    }
    return {
        "Receiver": names.title("models", str(row["receiver"])),
        "Benchmark": names.title("benchmarks", str(row["benchmark"])),
        "Method": f"{method}, the paper" if prefix else method,
        **cells,
        "Total, ms [95 %]": total,
        "n": NOTHING if prefix else count(row["n"]),
    }


def _paper_of(reference: Reference, row: dict[Any, Any]) -> dict[str, float | None]:
    """The paper's milliseconds of each phase and of the total; empty where it has no such cell."""
    models, method = (row["receiver"], row["sharer"]), names.paper_name("arms", row["arm"])

    def find(metric: str, who: str | None) -> float | None:
        return reference.find(PLACE, metric, row["pair"], models, str(who), row["benchmark"])

    alone = ALONE.get(row["arm"])
    times = {"paper_total_ms": find("total time", alone or method), "paper_fusion_ms": find(FUSION, method)}
    for who, step in ((who, step) for who in ("sharer", "receiver") for step in ("prefill", "decode")):
        name = alone if alone and who == row["arm"] else f"{method}/{who.capitalize()}"
        times[f"paper_{who}_{step}_ms"] = find(f"{step} time", name)
    return times


def _number(value: float) -> str:
    return NOTHING if pd.isna(value) else decimal(value, 2)


def _ranked(order: list[str]) -> Callable[[pd.Series], pd.Series]:
    return lambda column: column.map(order.index) if column.name == "arm" else column


if __name__ == "__main__":
    run_table(__doc__, write, latency=read_table)
