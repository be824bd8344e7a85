"""The latency split: where the time of a question goes, by method and phase (the paper's Table 3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.evaluation.schema import PHASES
from c2c.testbed.card.numbers import NOTHING, decimal
from paper.reading import names
from paper.reading.answers import arm_name
from paper.reading.files import read_table
from paper.reading.reference import Reference
from paper.reading.times import TOKENS
from paper.writing.columns import counts, decimals, estimates, titles
from paper.writing.output import run_table, write_table

PLACE = "Table 3"
TOTAL = "Total, ms [95 %]"
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
    # Our rows: the tokens of a phase stand in brackets behind its time.
    bounds = {"total_ms": "total_value", "total_low_ms": "total_low", "total_high_ms": "total_high"}
    phases = {_phase_title(phase): _with_tokens(frame, phase) for phase in PHASES[:-1]}
    total = estimates(frame.rename(columns=bounds), "total_", digits=2)
    ours = pd.DataFrame({**_row_titles(frame), **phases, TOTAL: total, "n": counts(frame, "n")}, frame.index)
    # Rows of the paper, of the methods of which it prints the total.
    rows = frame[frame["paper_total_ms"].notna()]
    cells = {_phase_title(phase): decimals(rows, f"paper_{phase}_ms") for phase in PHASES[:-1]}
    paper = pd.DataFrame(
        {**_row_titles(rows, ", the paper"), **cells, TOTAL: decimals(rows, "paper_total_ms"), "n": NOTHING}, rows.index
    )
    return pd.concat([ours, paper]).sort_index(kind="stable", ignore_index=True)


def write(latency: pd.DataFrame, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(latency)
    notes = [
        "Mean time of a question in batches of one; the total is measured on its own and holds what lies between the "
        "phases. In brackets: tokens that the phase reads or writes, on average."
    ]
    if not frame["paper_total_ms"].notna().any():
        values = [
            f"{entry['label'].removesuffix(f', {PLACE}')} {decimal(entry['value'], 0)} {entry['unit']}"
            for entry in Reference().values()["latency"]
        ]
        notes.append(f"{PLACE} prints, for other models on other hardware: {'; '.join(values)}.")
    return write_table(frame, text_table(frame), stem, notes)


def _row_titles(frame: pd.DataFrame, suffix: str = "") -> dict[str, list[str]]:
    """The columns that name a row; `suffix` goes behind the method."""
    return {
        "Receiver": titles(frame, "receiver", "models"),
        "Benchmark": titles(frame, "benchmark"),
        "Method": [f"{title}{suffix}" for title in titles(frame, "arm")],
    }


def _phase_title(phase: str) -> str:
    return f"{names.title('phases', phase)}, ms"


def _with_tokens(frame: pd.DataFrame, phase: str) -> list[str]:
    """Our times of a phase, with the tokens that it reads or writes where there are any."""
    times = decimals(frame, f"{phase}_ms")
    if phase not in TOKENS:
        return times
    tokens = zip(times, frame[TOKENS[phase]], decimals(frame, TOKENS[phase], 0), strict=True)
    return [f"{time} ({text})" if number else time for time, number, text in tokens]


def _paper_of(reference: Reference, row: dict[Any, Any]) -> dict[str, float | None]:
    """The paper's milliseconds of each phase and of the total; empty where it has no such cell."""
    models, method = (row["receiver"], row["sharer"]), names.paper_name("arms", row["arm"])

    def find(metric: str, who: str | None) -> float | None:
        return reference.find(PLACE, metric, row["pair"], models, str(who), row["benchmark"])

    alone_name = ALONE.get(row["arm"])
    times = {"paper_total_ms": find("total time", alone_name or method), "paper_fusion_ms": find(FUSION, method)}
    for who, step in ((who, step) for who in ("sharer", "receiver") for step in ("prefill", "decode")):
        name = alone_name if alone_name and who == row["arm"] else f"{method}/{who.capitalize()}"
        times[f"paper_{who}_{step}_ms"] = find(f"{step} time", name)
    return times


def _ranked(order: list[str]) -> Callable[[pd.Series], pd.Series]:
    return lambda column: column.map(order.index) if column.name == "arm" else column


if __name__ == "__main__":
    run_table(__doc__, write, latency=read_table)
