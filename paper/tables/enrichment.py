"""The cache enrichment oracle: all layers (the paper's Table 1), one layer (Table 10), the best K (Figure 4)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.testbed.card.numbers import decimal, show_difference
from paper.reading import names
from paper.reading.files import read_table
from paper.reading.reference import Reference
from paper.rows import paper_column, printed_note, with_bounds
from paper.writing.columns import counts, decimals, differences, estimates, texts
from paper.writing.output import run_table, write_table

DIRECT = {"receiver": "Direct", "sharer": "Direct"}
TITLES = {**DIRECT, "few_shot": "Few-shot", "oracle": "Oracle, all layers"}
SETTING = re.compile(r"(layer|best|worst) (\d+)(, same questions)?")
PLACE = "Table 1"
PAPER_PLACES = {
    **dict.fromkeys(DIRECT, (PLACE, "Direct", "")),
    "few_shot": (PLACE, "Few-shot", ""),
    "oracle": (PLACE, "Oracle", ""),
    "layer": ("Table 10", "single-layer enrichment", "layer {number}"),
    "best": ("Figure 4", "Top-K enrichment", "{number} layers"),
    "worst": ("Figure 4", "Last-K enrichment", "{number} layers"),
}
"""Where the paper has a method or kind of setting: the artefact, what it calls the method there, and the panel."""
LAYER_0, DIRECT_THERE = (
    "table-10/layer-0/qwen3-1.7b/-/single-layer-enrichment/mmlu-redux/accuracy",
    "table-1/cache-enrichment/qwen3-1.7b/-/direct/mmlu-redux/accuracy",
)
"""Ids of two printed values that a note quotes."""
ID_COLUMNS = ["scale", "pair", "receiver", "sharer", "benchmark", "method"]
NUMBERS = [*with_bounds(""), "n", "tokens_in", *with_bounds("difference")]


def build(accuracy: pd.DataFrame, orders: pd.DataFrame) -> pd.DataFrame:
    """One row a method and setting: what is enriched, which questions chose it, accuracy, and the paper's value.

    Args:
        accuracy: Columns of `c2c.analysis.accuracy.COLUMNS`.
        orders: Columns of `c2c.analysis.enrichment.ORDER_COLUMNS`; says which layers were meant.
    """
    reference = Reference()
    rows = []
    for row in accuracy.to_dict("records"):
        match = SETTING.fullmatch(str(row["setting"]))
        kind, number = (match[1], int(match[2])) if match else (str(row["method"]), None)
        same = bool(match and match[3])
        choice = {"chosen_on": ("same" if same else "other half") if kind in ("best", "worst") else ""}
        paper_value = _paper_value(reference, row, kind, number)
        about = {"kind": kind, "number": number, **choice, "layers": _layers(orders, kind, number, same)}
        numbers_of_row = {name: row[name] for name in NUMBERS} | {"paper": paper_value}
        rows.append({name: row[name] for name in ID_COLUMNS} | about | numbers_of_row)
    frame = pd.DataFrame(rows).astype({"number": "Int64", "n": "Int64", "paper": float})
    numbers = [name for name in NUMBERS if name != "n"]
    frame[numbers] = frame[numbers].apply(pd.to_numeric)
    return frame


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    table = {
        "Enriched": [_title(row) for row in frame.to_dict("records")],
        "Layers": texts(frame, "layers"),
        "Layers chosen on": texts(frame, "chosen_on"),
        "Tokens read": decimals(frame, "tokens_in", 0),
        "Accuracy, % [95 %]": estimates(frame),
        "Difference to direct, points [95 %]": differences(frame),
        "n": counts(frame, "n"),
        **paper_column(frame),
    }
    return pd.DataFrame(table)


def write(accuracy: pd.DataFrame, orders: pd.DataFrame, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(accuracy, orders)
    first = frame.iloc[0]
    model = names.title("models", str(first["receiver"] if first["method"] == "receiver" else first["sharer"]))
    reference = Reference()
    direct, layer = (reference.evaluate(name) for name in (DIRECT_THERE, LAYER_0))
    notes = [
        f"{model} on {names.title('benchmarks', str(first['benchmark']))}. Few-shot reads answered examples and the "
        "question; the oracle reads them too, and then answers from the question's part of the cache alone, which is "
        "as long as that of the direct answer.",
        "The best and worst layers are chosen by single-layer accuracy. Chosen on the other half: each half of the "
        "questions (split by a hash) is judged with the order that the other half gave. Chosen on the same: one order "
        "from all questions, judged on all of them, as in the paper; that choice profits from chance.",
        "Keys and values of the first layer do not depend on what stood before, but for their position, which is kept: "
        "enriching layer 0 alone changes nothing. "
        f"The paper prints {decimal(layer, 2)} for it, and {decimal(direct, 2)} direct.",
        *printed_note(frame, "enrichment", PLACE),
        _optimism(frame),
    ]
    return write_table(frame, text_table(frame), stem, [note for note in notes if note])


def _paper_value(reference: Reference, row: dict[Any, Any], kind: str, number: int | None) -> float | None:
    """The paper's accuracy of the same method or setting, where its model is the one of the pair that was enriched."""
    artefact, method, panel = PAPER_PLACES[kind]
    models = (row["receiver"] if row["method"] != "sharer" else row["sharer"], None)
    panel = panel.format(number=number)
    return reference.find(artefact, "accuracy", row["pair"], models, method, row["benchmark"], panel)


def _layers(orders: pd.DataFrame, kind: str, number: int | None, same: bool) -> str:
    """The layers that were enriched; with an order a half, those of both."""
    if kind == "layer":
        return str(number)
    if kind not in ("best", "worst") or number is None:
        return ""
    halves = ["all"] if same else sorted(set(orders["chosen_on"]) - {"all"})
    lists = []
    for name in halves:
        order = orders[orders["chosen_on"] == name].sort_values("rank")["layer"].astype(int).tolist()
        layers = order[:number] if kind == "best" else order[::-1][:number]
        lists.append(" ".join(map(str, sorted(layers))))
    return " / ".join(dict.fromkeys(lists))


def _title(row: dict[str, Any]) -> str:
    if row["kind"] == "layer":
        return "one layer"
    if row["kind"] in ("best", "worst"):
        return f"{row['kind']} {row['number']}"
    return TITLES[row["kind"]]


def _optimism(frame: pd.DataFrame) -> str:
    """How much better the best layers look on the questions that chose them, in words, where both were run."""
    best = frame[frame["kind"] == "best"].pivot(index="number", columns="chosen_on", values="value")
    if not {"same", "other half"} <= set(best.columns):
        return ""
    gap = (best["same"] - best["other half"]).mean()
    return (
        f"Judged where they were chosen, the best K layers are {show_difference(gap)} points from where others chose "
        "(mean over K)."
    )


if __name__ == "__main__":
    run_table(__doc__, write, accuracy=read_table, orders=read_table)
