"""Training cost and accuracy by step, with every control at each step, and the paper's Table 12."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from paper.reading import names
from paper.reading.answers import AT_STEP, Answers, PairIds
from paper.reading.files import read_table
from paper.reading.reference import Reference
from paper.rows import alignment_column, arm_row, tidy, with_bounds
from paper.writing.columns import decimals, estimates, sizes, titles
from paper.writing.output import notes_on_gaps, run_table, write_table

RECIPES = {"c2c": "c2c", "c2c_deranged": "c2c", "c2c_zeroed": "c2c", "adapter": "adapter"}
"""By arm the recipe whose fuser it is asked with."""
BEFORE = "receiver"
"""What answers before the first step: a fresh Fuser has its gates closed."""
PLACE, TRAINED_ON = "Table 12", "OpenHermes_training"
PAPER_METRICS = {"value": "accuracy", "hours": "wall-clock", "gpu_hours": "GPU hours"}
"""Columns of ours, and the metrics of the paper's table; its hours are of the training, its accuracy of a benchmark."""
COLUMNS = (
    *("scale", "pair", "receiver", "sharer", "benchmark", "step", "arm"),
    *with_bounds(""),
    *("n", "seeds", "hours", "shared_hours", "shared_runs", "gpu_hours"),
    *(f"paper_{name}" for name in PAPER_METRICS),
    "reason",
)


def build(answers: Answers, cost: pd.DataFrame, reference: Reference) -> pd.DataFrame:
    """One row a pair, benchmark, step and arm; times are means over the training seeds.

    Args:
        answers: Records, in which the recipe of a fuser that was kept before its last step names the step.
        cost: As `paper.training_cost.cost` gives it.
        reference: The paper's values.
    """
    cost = cost[cost["alignment"] == cost["pair"].map(answers.main_alignment)]
    rows = [
        row
        for pair in answers.pairs
        if (cost["pair"] == pair.name).any()
        for benchmark in answers.benchmarks_of(pair.name)
        for row in _rows(answers, cost[cost["pair"] == pair.name], reference, pair, benchmark)
    ]
    return tidy(rows, COLUMNS)


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed; columns of the paper, and GPU hours, only where there are any."""
    table = {
        "Pair": titles(frame, "pair"),
        "Benchmark": titles(frame, "benchmark"),
        "Step": frame["step"].astype(str),
        "Method": titles(frame, "arm"),
        **alignment_column(frame),
        "Accuracy, % [95 %]": estimates(frame),
        "Paper, %": decimals(frame, "paper_value"),
        **sizes(frame),
        "Hours": decimals(frame, "hours", 4),
        "Shared hours": decimals(frame, "shared_hours", 4),
        "Runs that share": decimals(frame, "shared_runs", 0),
        "GPU hours": decimals(frame, "gpu_hours", 4),
        "Paper, hours": decimals(frame, "paper_hours"),
        "Paper, GPU hours": decimals(frame, "paper_gpu_hours"),
    }
    maybe = {"Paper, %": "paper_value", "GPU hours": "gpu_hours", "Paper, hours": "paper_hours"}
    maybe |= {"Paper, GPU hours": "paper_gpu_hours", "Shared hours": "shared_hours", "Runs that share": "shared_hours"}
    return pd.DataFrame(table).drop(columns=[title for title, name in maybe.items() if not frame[name].fillna(0).any()])


def write(answers: Answers, cost: pd.DataFrame, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers, cost, Reference())
    notes = [
        "Before the first step the Receiver answers alone. Hours are those of the training up to the step, with "
        "validation and checkpoints, as a mean over training seeds; the deranged and zeroed controls use the same "
        "fuser. "
        + (
            "Shared hours are a fuser's share of the frozen models' passes that several fusers were trained from; they "
            "come on top of its own. GPU hours are both times their GPUs."
            if frame["shared_hours"].fillna(0).any()
            else "GPU hours are hours times GPUs."
        ),
        *notes_on_gaps(frame.assign(step=frame["step"].astype(str)), ["pair", "benchmark", "arm", "step"]),
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


def _rows(
    answers: Answers, cost: pd.DataFrame, reference: Reference, pair: PairIds, benchmark: str
) -> list[dict[str, object]]:
    rows = [_row(answers, reference, pair, benchmark, 0, BEFORE, BEFORE, None)]
    for arm, recipe in RECIPES.items():
        for step, group in cost[cost["recipe"] == recipe].groupby("step"):
            arm_at_step = arm if group["last"].all() else f"{arm}{AT_STEP}{step}"
            rows.append(_row(answers, reference, pair, benchmark, int(str(step)), arm, arm_at_step, group))
    return sorted(rows, key=lambda row: int(str(row["step"])))


def _row(
    answers: Answers,
    reference: Reference,
    pair: PairIds,
    benchmark: str,
    step: int,
    arm: str,
    arm_at_step: str,
    cost: pd.DataFrame | None,
) -> dict[str, object]:
    frame = answers.get(pair.name, benchmark, arm_at_step)
    columns = ("hours", "shared_hours", "shared_runs", "gpu_hours")
    hours = {name: None if cost is None else float(cost[name].mean()) for name in columns}
    paper = {f"paper_{name}": _paper(reference, pair, arm, benchmark, step, name) for name in PAPER_METRICS}
    return arm_row(answers, pair, benchmark, arm, frame, baseline_seeds=False, step=step, **hours, **paper)


def _paper(reference: Reference, pair: PairIds, arm: str, benchmark: str, step: int, column: str) -> float | None:
    """The paper's value for the same pair, benchmark and step; None where it has none, as for every control."""
    if arm not in ("c2c", BEFORE):
        return None
    if column != "value" and names.paper_name("benchmarks", benchmark) is None:
        return None
    paper_benchmark = benchmark if column == "value" else TRAINED_ON
    return reference.find(PLACE, PAPER_METRICS[column], pair.name, pair[1:], "c2c", paper_benchmark, f"step {step}")


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load, cost=read_table)
