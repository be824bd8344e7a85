"""Evidence for claims: paired differences over records, ratios of times, checks of printed values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from c2c.stats import Cell, Estimate, bootstrap_ratio, comparable, mean_with_interval, paired_difference
from paper import names
from paper.answers import BASELINE, MAIN_ALIGNMENT, Answers, arm_name
from paper.reference import Reference
from paper.summarise_latency import per_question


@dataclass(frozen=True)
class Evidence:
    """The estimate over all cells, each cell's own, or the reason why there is none."""

    overall: Estimate | None = None
    cells: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""


def paired(answers: Answers, of: str, against: str, where: str = "") -> Evidence:
    """Mean paired difference in percentage points over every pair and benchmark that has both arms.

    Benchmarks that `paper/names.yaml` keeps out of claims do not count, nor do pairs that the paper has elsewhere than
    the claim (`where`; a claim of ours stands nowhere, and rests on all).
    """
    cells = [
        Cell(paired_difference(left, right), pair.name, benchmark)
        for pair in answers.pairs
        if _of_claim(pair.name, where)
        for benchmark in answers.asked(pair.name)
        if names.of_claims(benchmark)
        for left, right in [[_answers(answers, pair.name, benchmark, arm) for arm in (of, against)]]
        if left is not None and right is not None and comparable(left, right)
    ]
    if not cells:
        return Evidence(reason=f"no pair has both {of} and {against} with a common training seed")
    described = [_describe(mean_with_interval([cell]).scaled(100), cell.pair, cell.benchmark) for cell in cells]
    return Evidence(mean_with_interval(cells).scaled(100), described)


def time_ratio(latency: pd.DataFrame, of: str, against: str) -> Evidence:
    """Mean total time of arm `of` divided by that of `against`, over every pair and benchmark that has both."""
    totals = per_question(latency)["total"].reset_index()
    totals["arm"] = [arm_name(*key) for key in zip(totals["recipe"], totals["method"], strict=True)]
    totals = totals[totals["alignment"].isin([BASELINE, MAIN_ALIGNMENT])]
    times, described = [], []
    for (receiver, sharer, benchmark), group in totals.groupby(["receiver", "sharer", "benchmark"]):
        table = group.pivot(index="question_id", columns="arm", values="total")
        if {of, against} <= set(table.columns):
            both = table[[of, against]].dropna()
            times.append(both)
            ratio = bootstrap_ratio(both[of], both[against])
            described.append(_describe(ratio, f"{receiver} from {sharer}", str(benchmark)))
    if not times:
        return Evidence(reason=f"no pair has times of both {of} and {against}")
    together = pd.concat(times)
    return Evidence(bootstrap_ratio(together[of], together[against]), described)


def contradiction(reference: Reference, check: Mapping[str, Any]) -> dict[str, Any]:
    """Both sides of a check of printed values, and whether they agree."""
    printed, recomputed = (reference.evaluate(check[side]) for side in ("printed", "recomputed"))
    if check["relation"] == "above":
        agrees = printed > recomputed
    else:
        agrees = bool(np.isclose(printed, recomputed, rtol=0, atol=check["tolerance"]))
    return {
        "kind": "check",
        "printed": round(printed, 4),
        "recomputed": round(recomputed, 4),
        "relation": check["relation"],
        "agrees": agrees,
        "note": check["note"],
    }


def _of_claim(pair: str, where: str) -> bool:
    places = names.places(pair)
    return not where or not places or not set(places).isdisjoint(re.findall(r"(?:Table|Figure) \d+", where))


def _answers(answers: Answers, pair: str, benchmark: str, arm: str) -> pd.DataFrame | None:
    name, _, alignment = arm.partition("@")
    if alignment.isdigit():
        return answers.get(pair, benchmark, arm)
    return answers.get(pair, benchmark, name, alignment or MAIN_ALIGNMENT)


def _describe(estimate: Estimate, pair: str, benchmark: str) -> dict[str, Any]:
    return {"pair": pair, "benchmark": benchmark, **numbers(estimate), "seeds": estimate.seeds}


def numbers(estimate: Estimate | None) -> dict[str, Any]:
    """`value`, `low`, `high`, `n` rounded for a JSON file; null where there is no estimate."""
    if estimate is None:
        return dict.fromkeys(("value", "low", "high", "n"))
    rounded = {name: round(getattr(estimate, name), 4) + 0.0 for name in ("value", "low", "high")}
    return {**rounded, "n": estimate.n}
