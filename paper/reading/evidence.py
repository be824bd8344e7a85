"""Evidence for claims: paired differences over records, ratios of times, checks of printed values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from c2c.stats import NO_SEED, Cell, Estimate, bootstrap_ratio, comparable, mean_with_interval, paired_difference
from paper.reading import names
from paper.reading.answers import Answers, arm_name
from paper.reading.basis import Basis
from paper.reading.reference import Reference
from paper.reading.times import per_question

SHOWN_CELLS = 4
"""Missing cells that a reason names; of more it says how many there are."""


@dataclass(frozen=True)
class Evidence:
    """The estimate over all cells, each cell's own, or the reason why there is none.

    Attributes:
        overall: The mean over cells.
        cells: Value, interval and size of each.
        reason: Why there is no estimate, or which listed cells it lacks.
        missing: How many listed cells it has no value of.
    """

    overall: Estimate | None = None
    cells: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""
    missing: int = 0


def paired(answers: Answers, basis: Basis, of: str, against: str, where: str = "") -> Evidence:
    """Mean paired difference in percentage points over every listed pair and benchmark that has both arms.

    Args:
        answers: Of one scale.
        basis: What verdicts rest on; all else is left out.
        of: An arm, as ``arm``, ``arm@alignment`` or ``arm@step``.
        against: Another.
        where: The claim's place; pairs that the paper has elsewhere do not count. A claim of ours stands nowhere,
            and rests on all pairs.
    """
    cells, lacking, listed = [], [], 0
    pairs = [pair for pair in basis.pairs_with(of, against) if _of_claim(pair, where)]
    for pair in names.in_order("pairs", pairs):
        for benchmark in names.in_order("benchmarks", basis.benchmarks[pair]):
            first, second = [_answers(answers, basis, pair, benchmark, arm, lacking) for arm in (of, against)]
            listed += 1
            if first is not None and second is not None and comparable(first, second):
                cells.append(Cell(paired_difference(first, second), pair, benchmark))
    if not cells:
        return Evidence(reason=_nothing(basis, answers.scale, f"{of} and {against} with a common training seed"))
    described = [_describe(mean_with_interval([cell]).scaled(100), cell.pair, cell.benchmark) for cell in cells]
    return Evidence(mean_with_interval(cells).scaled(100), described, _lack(lacking), listed - len(cells))


def time_ratio(latency: pd.DataFrame, basis: Basis, of: str, against: str, scale: str = "") -> Evidence:
    """Mean total time of arm `of` divided by that of `against`, over every listed pair that has both."""
    columns = ("pair", "recipe", "alignment", "seed", "benchmark")
    rested = [basis.is_timed(*key) for key in zip(*(latency[column] for column in columns), strict=True)]
    totals = per_question(latency[np.array(rested, dtype=bool)])["total"].reset_index()
    totals["arm"] = [arm_name(*key) for key in zip(totals["recipe"], totals["method"], strict=True)]
    times, described, timed = [], [], set()
    for (receiver, sharer, pair, benchmark), group in totals.groupby(["receiver", "sharer", "pair", "benchmark"]):
        table = group.pivot(index="question_id", columns="arm", values="total")
        if {of, against} <= set(table.columns):
            both = table[[of, against]].dropna()
            times.append(both)
            timed.add(pair)
            ratio = bootstrap_ratio(both[of], both[against])
            described.append(_describe(ratio, f"{receiver} from {sharer}", str(benchmark)))
    if not times:
        return Evidence(reason=_nothing(basis, scale, f"{of} and {against}", "times of "))
    lacking = [f"times of {pair}" for pair in basis.timed if pair not in timed]
    together = pd.concat(times)
    return Evidence(bootstrap_ratio(together[of], together[against]), described, _lack(lacking), len(lacking))


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


def _answers(
    answers: Answers, basis: Basis, pair: str, benchmark: str, arm: str, lacking: list[str]
) -> pd.DataFrame | None:
    """Credits of an arm with its listed seeds alone; what the records lack of it is added to `lacking`."""
    name, _, alignment = arm.partition("@")
    main = basis.main_alignment(pair)
    if alignment.isdigit():
        frame = answers.get(pair, benchmark, arm, main)
    else:
        frame = answers.get(pair, benchmark, name, alignment or main)
    listed = basis.seeds_of(pair, arm) or (NO_SEED,)
    missing = [seed for seed in listed if frame is None or seed not in frame.columns]
    if missing:
        seeds = "" if listed == (NO_SEED,) else f", seed {' '.join(map(str, missing))}"
        lacking.append(f"{arm} of {pair} on {benchmark}{seeds}")
    if frame is None or len(missing) == len(listed):
        return None
    return frame[[column for column in frame.columns if column in listed]]


def _nothing(basis: Basis, scale: str, both: str, what: str = "") -> str:
    if not basis.benchmarks:
        return f"no claim rests on records of scale {scale}: claims.yaml lists none under rests_on"
    return f"no pair has {what}both {both}"


def _lack(lacking: Sequence[str]) -> str:
    """Says which listed cells are missing; nothing where none is."""
    cells = list(dict.fromkeys(lacking))
    more = f" and {len(cells) - SHOWN_CELLS} more" if len(cells) > SHOWN_CELLS else ""
    return f"the records lack {'; '.join(cells[:SHOWN_CELLS])}{more}" if cells else ""


def _describe(estimate: Estimate, pair: str, benchmark: str) -> dict[str, Any]:
    return {"pair": pair, "benchmark": benchmark, **numbers(estimate), "seeds": estimate.seeds}


def numbers(estimate: Estimate | None) -> dict[str, Any]:
    """`value`, `low`, `high`, `n` rounded for a JSON file; null where there is no estimate."""
    if estimate is None:
        return dict.fromkeys(("value", "low", "high", "n"))
    rounded = {name: round(getattr(estimate, name), 4) + 0.0 for name in ("value", "low", "high")}
    return {**rounded, "n": estimate.n}
