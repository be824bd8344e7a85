"""Evidence for claims: paired differences over records, ratios of times, rows of tables, counts, printed values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from c2c.errors import RefusedError
from c2c.stats import (
    NO_SEED,
    Cell,
    Estimate,
    bootstrap_ratio,
    comparable,
    mean_with_interval,
    paired_difference,
    wilson_interval,
)
from paper.artefacts import read_artefacts
from paper.reading import names
from paper.reading.answers import Answers, arm_name
from paper.reading.basis import AGENTS, Basis
from paper.reading.partition import partition
from paper.reading.reference import Reference
from paper.reading.sizes import parameters
from paper.reading.times import per_question

MISSING_CELLS_NAMED = 4
"""Missing cells that a reason names; of more it says how many there are."""
OF_PLACE = "of_place"
SLOPE = "slope"
"""A rule of paired differences: how they change with each doubling of the Sharer's parameters."""
BOUNDS = ("value", "low", "high")
NO_PAIR = "this scale has none of the pairs that the claim is about"
REMEDY = "Correct paper/claims.yaml"


@dataclass(frozen=True)
class Scope:
    """Which of the pairs and benchmarks that verdicts rest on a claim is about.

    Attributes:
        where: The claim's place. Pairs that the paper has only elsewhere do not count; a claim of ours stands nowhere,
            and is about all pairs.
        pairs: Only these, or `OF_PLACE`: only pairs that the paper has at this place, so that other scales have none.
        without: Pairs that are left out.
        benchmarks: Only these, under any scoring; all where empty.
    """

    where: str = ""
    pairs: str | Sequence[str] = ""
    without: Sequence[str] = ()
    benchmarks: Sequence[str] = ()

    @classmethod
    def of_claim(cls, claim: Mapping[str, Any]) -> Scope:
        """The scope that a claim states in its evidence."""
        evidence = claim.get("evidence", {})
        return cls(claim["where"], *(evidence.get(key, ()) for key in ("pairs", "without", "benchmarks")))

    def includes(self, pair: str) -> bool:
        """Whether the claim is about a pair."""
        if pair in self.without:
            return False
        if self.pairs and self.pairs != OF_PLACE:
            return pair in self.pairs
        return self.is_at_place(pair) or (self.pairs != OF_PLACE and not (self.where and names.places(pair)))

    def is_at_place(self, pair: str) -> bool:
        """Whether the paper has the pair at the claim's place."""
        return not set(names.places(pair)).isdisjoint(re.findall(r"(?:Table|Figure) \d+", self.where))

    def asks(self, benchmark: str) -> bool:
        """Whether the claim is about the benchmark of a task."""
        return not self.benchmarks or names.benchmark_of(benchmark) in self.benchmarks


@dataclass(frozen=True)
class Evidence:
    """The estimate over all cells, each cell's own, or the reason why there is none.

    Attributes:
        overall: The mean over cells.
        cells: Value, interval and size of each, rounded.
        reason: Why there is no estimate, or which listed cells it lacks.
        missing_count: How many listed cells it has no value of.
        pairs: Of the cells.
        estimates: Of the cells, in their order, where a rule is about every cell.
        is_trained: Whether any of the compared answers is of a training.
    """

    overall: Estimate | None = None
    cells: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""
    missing_count: int = 0
    pairs: frozenset[str] = frozenset()
    estimates: Sequence[Estimate] = ()
    is_trained: bool = True


def paired(
    answers: Answers,
    basis: Basis,
    of: str,
    against: str | Sequence[str],
    scope: Scope | None = None,
    by_subset: bool = False,
    rule: str = "",
) -> Evidence:
    """Mean paired difference in percentage points over every listed pair and benchmark that has both arms.

    Args:
        answers: Of one scale.
        basis: What verdicts rest on; all else is left out.
        of: An arm, as ``arm``, ``arm@alignment`` or ``arm@step``.
        against: Another, or several, each of which gives a cell a pair and benchmark.
        scope: Which pairs and benchmarks count; all without one.
        by_subset: Whether each subset of a benchmark is a cell of its own.
        rule: `SLOPE` for the change of the difference with each doubling of the Sharer's parameters, among pairs of
            one Receiver.
    """
    scope = scope or Scope()
    rivals = [against] if isinstance(against, str) else list(against)
    cells: list[tuple[Cell, dict[str, str]]] = []
    gaps: list[str] = []
    missing_count = 0
    for pair, benchmark, rival in _listed_cells(basis, of, rivals, scope):
        first, second = [_answers(answers, basis, pair, benchmark, arm, gaps) for arm in (of, rival)]
        # Only some pairs answer as agents: such a cell is not missing.
        if {of, rival} & set(AGENTS) and (first is None or second is None):
            continue
        if first is None or second is None or not comparable(first, second):
            missing_count += 1
            continue
        difference = paired_difference(first, second)
        label = {"pair": pair, "benchmark": benchmark} | ({"against": rival} if len(rivals) > 1 else {})
        if by_subset:
            parts = partition(difference, answers.about(benchmark, "subset"))
            cells += [(Cell(part, pair, benchmark), label | {"part": name}) for name, part in sorted(parts.items())]
        else:
            cells.append((Cell(difference, pair, benchmark), label))
    if not cells:
        return Evidence(reason=_nothing(basis, answers.scale, scope, [of, *rivals]))
    pairs = frozenset(cell.pair for cell, _ in cells)
    if rule == SLOPE:
        cells = _slopes([cell for cell, _ in cells], answers)
        if not cells:
            return Evidence(reason="no Receiver has Sharers of several sizes")
    estimates = [mean_with_interval([cell]).scaled(100) for cell, _ in cells]
    descriptions = [_describe(estimate, label) for estimate, (_, label) in zip(estimates, cells, strict=True)]
    overall = mean_with_interval([cell for cell, _ in cells]).scaled(100)
    is_trained = any(NO_SEED not in cell.values.columns for cell, _ in cells)
    return Evidence(overall, descriptions, _lack(gaps), missing_count, pairs, estimates, is_trained)


def time_ratio(
    latency: pd.DataFrame, basis: Basis, of: str, against: str, scope: Scope | None = None, scale: str = ""
) -> Evidence:
    """Mean over listed pairs of the mean time of `of` divided by that of `against`.

    Args:
        latency: Latency records.
        basis: What verdicts rest on; all else is left out.
        of: An arm, whose total time counts, or one phase of it, as in ``t2t/sharer_decode``.
        against: Another.
        scope: Which pairs count; all without one.
        scale: Of the records, for the reason where there are none.
    """
    scope = scope or Scope()
    columns = ("pair", "recipe", "alignment", "seed", "benchmark")
    is_of_basis = [
        basis.is_timed(*key) and scope.includes(key[0])
        for key in zip(*(latency[column] for column in columns), strict=True)
    ]
    seconds = per_question(latency[np.array(is_of_basis, dtype=bool)]).reset_index()
    seconds["arm"] = [arm_name(*key) for key in zip(seconds["recipe"], seconds["method"], strict=True)]
    ratios: dict[str, tuple[Estimate, dict[str, str]]] = {}
    for (receiver, sharer, pair, benchmark), group in seconds.groupby(["receiver", "sharer", "pair", "benchmark"]):
        times = [_times(group, name) for name in (of, against)]
        pairs = pd.concat(times, axis=1, join="inner").dropna()
        if len(pairs) > 1:
            ratio = bootstrap_ratio(pairs.iloc[:, 0], pairs.iloc[:, 1])
            ratios[str(pair)] = ratio, {"pair": f"{receiver} from {sharer}", "benchmark": str(benchmark)}
    if not ratios:
        return Evidence(reason=_nothing(basis, scale, scope, [of, against], "times of "))
    untimed_pairs = [pair for pair, task in basis.timed.items() if task and pair not in ratios and scope.includes(pair)]
    gaps = [f"times of {names.title('pairs', pair)}" for pair in untimed_pairs]
    descriptions = [_describe(ratio, label) for ratio, label in ratios.values()]
    overall = _mean_of(list(ratios.values()))
    return Evidence(overall, descriptions, _lack(gaps), len(gaps), frozenset(ratios))


def from_table(tables: Mapping[str, pd.DataFrame], basis: Basis, evidence: Mapping[str, Any], scope: Scope) -> Evidence:
    """Rows of a table of ours, each an estimate with its interval.

    Args:
        tables: By their file in the results folder.
        basis: What verdicts rest on; rows of other pairs and benchmarks are left out.
        evidence: ``file``; ``where``, the rows' values by column, each one or a list; ``value``, the prefix of the
            columns value, low and high (empty for none).
        scope: Which pairs and benchmarks count.

    Raises:
        RefusedError: The table lacks a column.
    """
    rows = _rows(tables, basis, evidence, scope)
    if isinstance(rows, str):
        return Evidence(reason=rows)
    columns = [f"{evidence['value']}_{bound}".lstrip("_") for bound in BOUNDS]
    _check_columns(rows, columns, evidence)
    numbers_of = rows[columns].apply(pd.to_numeric, errors="coerce").dropna()
    cells = []
    for place, (value, low, high) in zip(numbers_of.index, numbers_of.to_numpy(float), strict=True):
        row = rows.loc[place]
        n, seeds = (int(row[name]) if name in rows and not pd.isna(row[name]) else 1 for name in ("n", "seeds"))
        cells.append((Estimate(value, low, high, n, seeds), _label(row)))
    if not cells:
        return Evidence(reason=_no_row(evidence["file"]))
    described = [_describe(estimate, label) for estimate, label in cells]
    return Evidence(_mean_of(cells), described, "", 0, _pairs(described), [estimate for estimate, _ in cells])


def count(
    tables: Mapping[str, pd.DataFrame],
    basis: Basis,
    evidence: Mapping[str, Any],
    scope: Scope,
    reference: Reference,
) -> Evidence:
    """The share of rows of a table of ours of which something holds, in percent, with Wilson's interval.

    Args:
        tables: By their file in the results folder.
        basis: What verdicts rest on; rows of other pairs and benchmarks are left out.
        evidence: ``file`` and ``where`` as in `from_table`; ``value``, a column; and what is counted: rows whose value
            lies ``above`` or ``below`` a formula, or above that of the row that has the values of ``over`` and is the
            same in the columns ``by``; or the sum of the value, ``among`` that of other rows (values by column) or of
            another column.
        scope: Which pairs and benchmarks count.
        reference: The paper's values, for the formulas.

    Raises:
        RefusedError: The table lacks a column, or a row to compare with.
    """
    rows = _rows(tables, basis, evidence, scope)
    if isinstance(rows, str):
        return Evidence(reason=rows)
    _check_columns(rows, [evidence["value"], *evidence.get("by", ())], evidence)
    values = pd.to_numeric(rows[evidence["value"]], errors="coerce").dropna()
    if "among" in evidence:
        among = evidence["among"]
        comparison_rows = _rows(tables, basis, {**evidence, "where": among}, scope) if isinstance(among, dict) else rows
        column = evidence["value"] if isinstance(among, dict) else among
        total = (
            0
            if isinstance(comparison_rows, str)
            else round(float(pd.to_numeric(comparison_rows[column], errors="coerce").sum()))
        )
        hits = round(float(values.sum()))
    else:
        total = len(values)
        if "over" in evidence:
            comparison_rows = _rows(
                tables, basis, {**evidence, "where": {**evidence["where"], **evidence["over"]}}, scope
            )
            bounds = _matched(rows.loc[values.index], comparison_rows, evidence)
            total = int(bounds.notna().sum())
        else:
            bound = evidence["above"] if "above" in evidence else evidence["below"]
            bounds = pd.Series(reference.evaluate(bound), values.index)
        hits = int((values < bounds if "below" in evidence else values > bounds).sum())
    if not total:
        return Evidence(reason=_no_row(evidence["file"]))
    low, high = wilson_interval(hits, total)
    seeds = int(rows["seeds"].min()) if "seeds" in rows and rows["seeds"].notna().any() else 1
    share = Estimate(hits / total, low, high, total, seeds).scaled(100)
    pairs = frozenset(rows["pair"].astype(str)) if "pair" in rows else frozenset()
    return Evidence(share, [], f"{hits} of {total}", 0, pairs)


def contradiction(reference: Reference, check: Mapping[str, Any]) -> dict[str, Any]:
    """Both sides of a check of printed values, and whether they agree."""
    paper_value, other_value = (reference.evaluate(check[side]) for side in ("printed", "recomputed"))
    if check["relation"] == "above":
        agrees = paper_value > other_value
    else:
        agrees = bool(np.isclose(paper_value, other_value, rtol=0, atol=check["tolerance"]))
    return {
        "kind": "check",
        "printed": round(paper_value, 4),
        "recomputed": round(other_value, 4),
        "relation": check["relation"],
        "agrees": agrees,
        "note": check["note"],
    }


def _listed_cells(basis: Basis, of: str, rivals: Sequence[str], scope: Scope) -> Iterator[tuple[str, str, str]]:
    """Pair, benchmark and other arm of each cell that the basis lists and the scope includes."""
    pairs = {rival: [pair for pair in basis.pairs_with(of, rival) if scope.includes(pair)] for rival in rivals}
    for pair in names.in_order("pairs", [pair for names_of_pairs in pairs.values() for pair in names_of_pairs]):
        for benchmark in names.in_order("benchmarks", filter(scope.asks, basis.benchmarks[pair])):
            yield from ((pair, benchmark, rival) for rival in rivals if pair in pairs[rival])


def _slopes(cells: Sequence[Cell], answers: Answers) -> list[tuple[Cell, dict[str, str]]]:
    """By Receiver and benchmark the slope of the difference over the binary logarithm of the Sharer's parameters."""
    models = {pair.name: pair for pair in answers.pairs}
    members: dict[tuple[str, str], list[tuple[float, pd.DataFrame]]] = {}
    for cell in cells:
        size = parameters(models[cell.pair].sharer)
        if size:
            key = (models[cell.pair].receiver, cell.benchmark)
            members.setdefault(key, []).append((float(np.log2(size)), cell.values))
    slopes = []
    for (receiver, benchmark), group in members.items():
        deviations = np.array([size for size, _ in group]) - np.mean([size for size, _ in group])
        if not np.any(deviations):
            continue
        # Least squares are a weighted sum of the differences, question by question and seed by seed.
        weights = deviations / (deviations**2).sum()
        total = sum(weight * values for weight, (_, values) in zip(weights, group, strict=True))
        slope = pd.DataFrame(total).dropna(axis="columns", how="all").dropna()
        if len(slope):
            label = {"pair": names.title("models", receiver), "benchmark": benchmark}
            slopes.append((Cell(slope, receiver, benchmark), label))
    return slopes


def _times(group: pd.DataFrame, name: str) -> pd.Series:
    """Seconds by question of an arm, or of one of its phases."""
    arm, _, phase = name.partition("/")
    return group[group["arm"] == arm].set_index("question_id")[phase or "total"]


def _rows(
    tables: Mapping[str, pd.DataFrame], basis: Basis, evidence: Mapping[str, Any], scope: Scope
) -> pd.DataFrame | str:
    """The rows of the evidence's table that count; or why there are none."""
    frame = tables.get(evidence["file"])
    if frame is None:
        return f"needs {_file_title(evidence['file'])}, which was not made"
    _check_columns(frame, evidence["where"], evidence)
    for column, values in evidence["where"].items():
        texts = [str(value) for value in (values if isinstance(values, list) else [values])]
        frame = frame[frame[column].map(_text).isin(texts)]
    if "pair" in frame:
        frame = frame[[scope.includes(str(pair)) and _is_listed(basis, scope, str(pair)) for pair in frame["pair"]]]
    if "benchmark" in frame:
        # Of a pair that is listed only its listed benchmarks count.
        cells = zip(frame["pair"].astype(str), frame["benchmark"].astype(str), strict=True)
        frame = frame[[scope.asks(task) and task in basis.benchmarks.get(pair, [task]) for pair, task in cells]]
    if frame.empty:
        return NO_PAIR if scope.pairs else _no_row(evidence["file"])
    return frame


def _is_listed(basis: Basis, scope: Scope, pair: str) -> bool:
    return pair in basis.benchmarks or (scope.pairs != OF_PLACE and pair in scope.pairs)


def _text(value: Any) -> str:
    """A cell as `where` names it: whole numbers without a fraction."""
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


def _check_columns(frame: pd.DataFrame, columns: Any, evidence: Mapping[str, Any]) -> None:
    if gaps := [column for column in columns if column not in frame]:
        raise RefusedError(f"{evidence['file']} must have the columns that a claim reads", gaps, REMEDY)


def _matched(rows: pd.DataFrame, comparison_rows: pd.DataFrame | str, evidence: Mapping[str, Any]) -> pd.Series:
    """The value of the other row that is the same in the columns `by`; not a number where there is none."""
    if isinstance(comparison_rows, str):
        return pd.Series(float("nan"), rows.index)
    by = evidence["by"]
    values = pd.to_numeric(comparison_rows.set_index(by)[evidence["value"]], errors="coerce")
    if values.index.has_duplicates:
        raise RefusedError(f"Rows of {evidence['file']} must differ in the columns of `by`", by, REMEDY)
    return values.reindex(pd.MultiIndex.from_frame(rows[by]) if len(by) > 1 else rows[by[0]]).set_axis(rows.index)


def _label(row: pd.Series) -> dict[str, str]:
    """What a cell is called: its ids, and of what the rest names it by the part."""
    part = [str(row[name]) for name in ("arm", "kind", "bucket", "subject", "side") if name in row]
    part += [f"{_text(row['share'])} %"] if "share" in row else []
    return {name: str(row.get(name, "")) for name in ("pair", "benchmark")} | {"part": ", ".join(part)}


def _mean_of(estimates: Sequence[tuple[Estimate, Mapping[str, str]]]) -> Estimate:
    """Mean of estimates whose benchmarks are independent.

    Halves of intervals add up within a benchmark, whose questions may be the same, and their squares over benchmarks.
    """
    value = float(np.mean([estimate.value for estimate, _ in estimates]))
    halves: dict[str, np.ndarray] = {}
    for estimate, label in estimates:
        half = np.array([estimate.value - estimate.low, estimate.high - estimate.value])
        halves[label["benchmark"]] = halves.get(label["benchmark"], np.zeros(2)) + half
    below, above = np.sqrt(np.square(list(halves.values())).sum(axis=0)) / len(estimates)
    n, seeds = (sum(estimate.n for estimate, _ in estimates), min(estimate.seeds for estimate, _ in estimates))
    return Estimate(value, value - float(below), value + float(above), n, seeds)


def _pairs(cells: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    return frozenset(str(cell["pair"]) for cell in cells)


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
    seeds = basis.seeds_of(pair, arm) or (NO_SEED,)
    missing_seeds = [seed for seed in seeds if frame is None or seed not in frame.columns]
    if missing_seeds and arm not in AGENTS:
        noun = "seed" if len(missing_seeds) == 1 else "seeds"
        detail = "" if seeds == (NO_SEED,) else f" ({noun} {', '.join(map(str, missing_seeds))})"
        lacking.append(f"{_arm_title(arm)}{detail} for {names.cell_title(pair, benchmark)}")
    if frame is None or len(missing_seeds) == len(seeds):
        return None
    return frame[[column for column in frame.columns if column in seeds]]


def _nothing(basis: Basis, scale: str, scope: Scope, arms: Sequence[str], what: str = "") -> str:
    if not basis.benchmarks:
        return f"no claim rests on records of scale {scale}: claims.yaml lists none under rests_on"
    if not any(scope.includes(pair) for pair in basis.benchmarks):
        return NO_PAIR
    if not any(map(scope.asks, itertools.chain.from_iterable(basis.benchmarks.values()))):
        return f"this scale does not ask {', '.join(names.title('benchmarks', name) for name in scope.benchmarks)}"
    titles = " and ".join(map(_arm_title, arms))
    return f"no pair has {what}both {titles}{'' if what else ' with a common training seed'}"


def _arm_title(arm: str) -> str:
    """``arm``, ``arm@alignment``, ``arm@step`` or ``arm/phase`` of a claim in words."""
    name, phase = (*arm.split("/"), "")[:2]
    name, detail = (*name.split("@"), "")[:2]
    title, _, remark = names.title("arms", name).partition(", ")
    title += f" ({remark})" if remark else ""
    if phase:
        return f"{title} ({names.title('phases', phase).lower().replace('sharer', 'Sharer')})"
    if detail:
        return f"{title} after {detail} steps" if detail.isdigit() else f"{title} with the alignment {detail}"
    return title


def _file_title(file: str) -> str:
    """A file of the results folder in words: the title of the table that it is, or of the first that reads it."""
    stem = file.removesuffix(".csv")
    for artefact in read_artefacts():
        if artefact.stem == stem or file in artefact.reads.values():
            return f"the {artefact.kind} “{artefact.title}”"
    return file


def _no_row(file: str) -> str:
    return f"{_file_title(file)} has no such row at this scale"


def _lack(lacking: Sequence[str]) -> str:
    """Names the listed cells that are missing; nothing where none is."""
    cells = list(dict.fromkeys(lacking))
    more = f" and {len(cells) - MISSING_CELLS_NAMED} more" if len(cells) > MISSING_CELLS_NAMED else ""
    return f"the records lack {'; '.join(cells[:MISSING_CELLS_NAMED])}{more}" if cells else ""


def _describe(estimate: Estimate, label: Mapping[str, str]) -> dict[str, Any]:
    return {**label, **numbers(estimate), "seeds": estimate.seeds}


def numbers(estimate: Estimate | None) -> dict[str, Any]:
    """`value`, `low`, `high`, `n` rounded for a JSON file; null where there is no estimate."""
    if estimate is None:
        return dict.fromkeys(("value", "low", "high", "n"))
    values = {name: round(float(getattr(estimate, name)), 4) + 0.0 for name in ("value", "low", "high")}
    return {**values, "n": estimate.n}
