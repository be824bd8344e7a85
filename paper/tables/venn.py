"""Which questions C2C, Receiver and Sharer answer correctly: seven regions, and what nobody does (paper's Figure 7)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.errors import RefusedError
from c2c.stats import NO_SEED, accuracy_with_interval, is_graded
from paper.reading import names
from paper.reading.answers import Answers, PairIds
from paper.reading.reference import Reference
from paper.rows import comparison_notes, paper_columns, percent, widened, with_difference
from paper.writing.columns import decimals, estimates, sizes, titles
from paper.writing.output import notes_on_gaps, run_table, write_table

PLACE, FUSED, ALONE = "Figure 7", ("c2c", "projected"), ("receiver", "sharer")
ID_COLUMNS = ["scale", "pair", "receiver", "sharer", "benchmark", "arm", "region"]
NOBODY = "nobody"
GRADED = "its scoring gives parts of a point"
METRIC, SAMPLE = "correct questions in region", "sample-sizes/-/-/-/-/mmlu-redux/n-questions"
PRINTED_ARM = "projected"
"""Of whom the figure is, which calls it C2C: the share that its text states is said of C2C-C."""
LOGITS = "_logits"
"""Ends the id of a task in which the logits of the letters are compared."""
PAPER_NAMES = {"fused": "C2C", "receiver": "Receiver", "sharer": "Sharer"}


def build(answers: Answers) -> pd.DataFrame:
    """One row a pair, benchmark, fused method and region: its share of all questions in percent, and how many.

    A region is named by those who are right, joined by ``&`` (`fused`, `receiver`, `sharer`), or `NOBODY`.
    """
    reference = Reference()
    rows = [
        row
        for pair in answers.pairs
        for arm in FUSED
        if arm == FUSED[0] or arm in answers.arms_of(pair.name)
        for benchmark in answers.benchmarks_of(pair.name)
        for row in _rows(answers, pair, benchmark, arm, reference)
    ]
    frame = with_difference(pd.DataFrame(rows))
    return frame.astype({"n": "Int64", "seeds": "Int64", "paper": float, "questions": float})


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""
    table = {
        "Pair": titles(frame, "pair"),
        "Benchmark": titles(frame, "benchmark"),
        "Answered correctly by": [title(*row) for row in frame[["region", "arm"]].itertuples(index=False)],
        "Questions": decimals(frame, "questions", 1),
        "Share, % [95 %]": estimates(frame),
        **sizes(frame),
        **paper_columns(frame),
    }
    return pd.DataFrame(table)


def title(region: str, arm: str) -> str:
    """How a region is written."""
    who = {"fused": arm, "receiver": "receiver", "sharer": "sharer", NOBODY: ""}
    return " and ".join(names.title("arms", who[part]) or "none of the three" for part in region.split("&"))


def write(answers: Answers, stem: Path) -> pd.DataFrame:
    """Write the table's three files and return its frame."""
    frame = build(answers)
    notes = [
        "A region holds the questions that these answer correctly and the others do not; of several training seeds it "
        "is the mean. The paper's counts are shares of the number of questions that its accuracies fit; they are of "
        "C2C-C, though it says C2C.",
        *comparison_notes(frame, "venn", PLACE),
        *notes_on_gaps(frame, ["pair", "arm", "benchmark"]),
    ]
    return write_table(frame, text_table(frame), stem, notes, answers)


def regions(answers: Mapping[str, pd.DataFrame]) -> dict[tuple[str, ...], pd.DataFrame]:
    """Regions of a Venn diagram: the questions that each combination of methods, and no other, answers correctly.

    Args:
        answers: For each method a table of 0 or 1, questions as rows and seeds as columns, `(Q, S)`. A method without
            seeds is compared with every seed of the others; of methods with seeds, only the common ones count.

    Returns:
        For each combination of methods, in the order of `answers`, a table `(Q, S)`: 1 where exactly these methods are
        right, else 0. The empty combination holds the questions that no method answers. Exactly one region has a 1 in
        each cell.

    Raises:
        RefusedError: If the questions differ, no seed is common to all, or an answer got a part of a point.
    """
    frames = list(answers.values())
    index = frames[0].index
    if any(set(frame.index) != set(index) for frame in frames):
        raise RefusedError(
            "The methods of a Venn diagram must have answered the same questions",
            list(answers),
            "Generate the missing answers first",
        )
    if is_graded(*frames):
        raise RefusedError(
            "The answers in a Venn diagram must be right or wrong", "parts of a point", "Look at the gains instead"
        )
    # Seeds that all methods with seeds have in common.
    seeded = [{int(seed) for seed in frame.columns} for frame in frames if list(frame.columns) != [NO_SEED]]
    seeds: list[int] = sorted(set.intersection(*seeded)) if seeded else [NO_SEED]
    if not seeds:
        raise RefusedError(
            "The methods of a Venn diagram must share training seeds", list(answers), "Train both with the same seeds"
        )
    correctness = {name: _on_seeds(frame.loc[index], seeds) for name, frame in answers.items()}
    # Each combination of right and wrong methods is a region: a question is in it where all of them agree with it.
    regions_by_methods = {}
    for combination in product((True, False), repeat=len(correctness)):
        inside = pd.DataFrame(1, index=index, columns=seeds)
        for is_right, frame in zip(combination, correctness.values(), strict=True):
            inside *= frame if is_right else 1 - frame
        methods = tuple(name for name, is_right in zip(correctness, combination, strict=True) if is_right)
        regions_by_methods[methods] = inside
    return regions_by_methods


def _on_seeds(frame: pd.DataFrame, seeds: list[int]) -> pd.DataFrame:
    """`frame` with the columns `seeds`; a frame without seeds has its only column repeated for each of them."""
    if list(frame.columns) == [NO_SEED]:
        return pd.concat([frame[NO_SEED]] * len(seeds), axis=1, keys=seeds).astype(int)
    return frame[seeds].astype(int)


def _rows(answers: Answers, pair: PairIds, benchmark: str, arm: str, reference: Reference) -> list[dict[str, Any]]:
    head = dict(zip(ID_COLUMNS[:-1], [answers.scale, *pair, benchmark, arm], strict=True))
    answers_by_method = {name: answers.get(pair.name, benchmark, name) for name in (arm, *ALONE)}
    frames = {"fused" if name == arm else name: frame for name, frame in answers_by_method.items() if frame is not None}
    missing_arm = next((name for name, frame in answers_by_method.items() if frame is None), None)
    if missing_arm or is_graded(*frames.values()):
        reason = names.reason_not_run(pair=pair.name, arm=missing_arm, benchmark=benchmark) if missing_arm else GRADED
        return [head | {"region": NOBODY, "questions": None, "paper": None} | percent(None) | {"reason": reason}]
    rows = []
    for who, inside in regions(frames).items():
        region = head | {"region": "&".join(who) or NOBODY}
        number = {"questions": float(inside.to_numpy().mean() * len(inside))}
        about = {"paper": _share(reference, pair, benchmark, who) if arm == PRINTED_ARM else None, "reason": ""}
        rows.append(region | number | percent(accuracy_with_interval(inside)) | about | widened(inside))
    return rows


def _share(reference: Reference, pair: PairIds, benchmark: str, who: tuple[str, ...]) -> float | None:
    """The paper's share of a region, in percent."""
    # The released script compares logits, so with the released prompts that task is the one of the figure too.
    task = names.own_prompts(benchmark)
    if names.has_released_prompts(benchmark) and task.endswith(LOGITS):
        benchmark = f"{task.removesuffix(LOGITS)}_{names.PAPER_SCORING}"
    count = reference.find(PLACE, METRIC, pair.name, pair[1:], _paper_region(who), benchmark)
    return None if count is None else 100 * count / reference.evaluate(SAMPLE)


def _paper_region(who: tuple[str, ...]) -> str:
    """What the paper calls the region."""
    if len(who) == len(PAPER_NAMES):
        return "all three"
    return "&".join(PAPER_NAMES[name] for name in who) + (" only" if len(who) == 1 else "")


if __name__ == "__main__":
    run_table(__doc__, write, records=Answers.load)
