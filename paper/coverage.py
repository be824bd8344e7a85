"""Coverage of the intervals that tables print, and false verdicts under a true zero: ``paper/coverage.csv``; and how
often equivalence (two one-sided tests) is stated rightly and wrongly: ``paper/coverage_equivalence.csv``.

    python -m paper.coverage

Answers are simulated whose true difference is zero: the mean over all questions and all trainings, of which a run
draws some. An answer is right where the question, the arm, the training and chance together pass a threshold.
A row of several trainings whose coverage lies at one of the `BOUNDS` is simulated afresh, with more runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from c2c.stats import OWN_QUESTIONS, Cell, Estimate, mean_with_interval
from c2c.storage.files import write_atomically
from paper.command import command
from paper.verdicts import CONTRADICTED, SUPPORTED, decide

PATH = Path(__file__).with_name("coverage.csv")
EQUIVALENCE = PATH.with_name("coverage_equivalence.csv")
TABLES = ("intervals", "equivalence")
SIMULATIONS = 2000
TIMES_AT_A_BOUND = 10
"""How many times as many runs a row gets whose coverage lies within a standard error of a bound, or beyond."""
BOUNDS = (93.0, 97.0)
"""Between which the coverage of a 95 % interval must lie, in percent, with several trainings."""
RESAMPLES = 1000
CORRELATION = 0.85
"""Between two arms' latent values of one question; the audited runs have that."""
MARGIN = 2.8
"""Margin of equivalence in points, as the test bed has it."""
LEVEL = 0.05
SAME, OWN = "the same", "each its own"
"""Whether all trainings are asked the same items."""
SEED_SDS = (0, 1, 2, 3)
"""Standard deviation of a trained arm's accuracy over its trainings, in points."""


@dataclass(frozen=True)
class Setting:
    """What one row of the table simulates.

    Attributes:
        against: `receiver`, an arm without trainings, or `adapter`, which is trained with the same seeds.
        n: Questions.
        seeds: Trainings of each trained arm.
        seed_sd: Standard deviation of accuracy over trainings, in points.
        common: Share of what an arm alone makes of a question that all its trainings have in common. In the records of
            this package it is near 0.9 for differences to the Receiver and near 0 for those to the adapter.
        pairs: Of which the mean is taken.
        benchmarks: Of each pair.
    """

    against: str
    n: int
    seeds: int
    seed_sd: float
    common: float
    pairs: int = 1
    benchmarks: int = 1


def settings() -> Iterator[Setting]:
    """The rows of the table: single cells, then means over cells as claims take them."""
    for (against, common), n, seeds, seed_sd in product(
        (("receiver", 0.5), ("receiver", 0.9), ("adapter", 0.0), ("adapter", 0.5)), (100, 500), (1, 3, 5), SEED_SDS
    ):
        yield Setting(against, n, seeds, seed_sd, common)
    for against, pairs, seed_sd in product(("receiver", "adapter"), (1, 3), SEED_SDS):
        yield Setting(against, 100, 3, seed_sd, 0.5, pairs, benchmarks=4)


def settings_of_equivalence() -> Iterator[tuple[str, Setting]]:
    """The rows of the table of equivalence: single cells of three trainings, on the same items or on items of each."""
    sides = (("receiver", 0.9), ("adapter", 0.0))
    for items, (against, common), n, seed_sd in product((SAME, OWN), sides, (100, 500, 1500), SEED_SDS[:3]):
        yield items, Setting(against, n, 3, seed_sd, common)


def differences_on_own_items(setting: Setting, rng: np.random.Generator, truth: float = 0.0) -> list[Cell]:
    """`differences` of one cell, where each training is asked questions of its own."""
    one = replace(setting, seeds=1)
    seeds = [differences(one, rng, truth)[0].values.to_numpy()[:, 0] for _ in range(setting.seeds)]
    frame = pd.DataFrame(np.stack(seeds, axis=1))
    return [Cell(frame.rename_axis(index=OWN_QUESTIONS))]


def differences(setting: Setting, rng: np.random.Generator, truth: float = 0.0) -> list[Cell]:
    """One simulated run: paired differences `(Q, S)` of every cell, whose true mean is `truth`, in points."""
    # The benchmark's questions are the same for all pairs: (benchmarks, Q, 1).
    questions = CORRELATION**0.5 * rng.standard_normal((setting.benchmarks, setting.n, 1))
    cells = []
    for pair in range(setting.pairs):
        is_adapter = setting.against == "adapter"
        answers = [_arm(setting, questions, rng, *arm) for arm in ((True, truth), (is_adapter, 0.0))]
        values = answers[0] - answers[1]
        cells += [Cell(pd.DataFrame(part), f"pair {pair}", f"benchmark {index}") for index, part in enumerate(values)]
    return cells


def _arm(
    setting: Setting, questions: np.ndarray, rng: np.random.Generator, is_trained: bool, lead: float
) -> np.ndarray:
    """Right or wrong answers of an arm: (benchmarks, Q, S), with S = 1 for an arm without trainings.

    Its true accuracy is one half and `lead` points more.
    """
    seeds = setting.seeds if is_trained else 1
    common = setting.common if is_trained else 1.0
    remainder = 1 - CORRELATION
    arm = (remainder * common) ** 0.5 * rng.standard_normal(questions.shape)
    chance = (remainder * (1 - common)) ** 0.5 * rng.standard_normal((*questions.shape[:2], seeds))
    # At an accuracy of one half a shift of the threshold by 1 is worth norm.pdf(0) of accuracy.
    width = setting.seed_sd / 100 / norm.pdf(0) if is_trained else 0.0
    shift = width * rng.standard_normal(seeds) if is_trained else 0.0
    # Over all questions and trainings the latent values have the variance 1 + width**2.
    threshold = norm.ppf(0.5 + lead / 100) * (1 + width**2) ** 0.5
    return (questions + arm + chance + shift + threshold > 0).astype(np.int8)


def bootstrap_interval(cells: list[Cell], rng: np.random.Generator) -> tuple[float, float]:
    """95 % percentile interval of the pigeonhole bootstrap (Owen 2007), the rival of the t interval; for one cell."""
    values = cells[0].values.to_numpy(float)
    # Questions with equal rows are one kind, of which only the number of draws is drawn.
    kinds, counts = np.unique(values, axis=0, return_counts=True)
    questions = rng.multinomial(len(values), counts / len(values), size=RESAMPLES)
    seeds = rng.multinomial(values.shape[1], np.full(values.shape[1], 1 / values.shape[1]), size=RESAMPLES)
    low, high = np.percentile(((questions @ kinds) * seeds).sum(axis=1) / values.size, [2.5, 97.5])
    return float(low), float(high)


def simulate(setting: Setting, simulations: int = SIMULATIONS, seed: int = 0) -> dict[str, Any]:
    """One row: coverage and false verdicts in percent of the simulations, and the median half-width in points.

    Column `error` is the Monte Carlo standard error of the coverage.
    """
    rng = np.random.default_rng([seed, *map(int, pd.util.hash_array(np.array([str(setting)])))])
    estimates: list[Estimate] = []
    bootstraps: list[bool] = []
    for _ in range(simulations):
        cells = differences(setting, rng)
        estimates.append(mean_with_interval(cells))
        if len(cells) == 1:
            low, high = bootstrap_interval(cells, rng)
            bootstraps.append(low <= 0 <= high)
    verdicts = [decide(estimate, 0.0) for estimate in estimates]
    share = float(np.mean([estimate.low <= 0 <= estimate.high for estimate in estimates]))
    return {
        **asdict(setting),
        "simulations": simulations,
        "coverage": 100 * share,
        "error": 100 * (share * (1 - share) / simulations) ** 0.5,
        "half_width": 100 * np.median([(estimate.high - estimate.low) / 2 for estimate in estimates]),
        "false_supported": 100 * np.mean([verdict == SUPPORTED for verdict in verdicts]),
        "false_contradicted": 100 * np.mean([verdict == CONTRADICTED for verdict in verdicts]),
        "coverage_bootstrap": 100 * np.mean(bootstraps) if bootstraps else float("nan"),
    }


def row(setting: Setting, simulations: int = SIMULATIONS) -> dict[str, Any]:
    """The row of a setting; if its coverage lies at a bound, of further runs alone, without those that chose it."""
    first = simulate(setting, simulations)
    low, high = BOUNDS
    if setting.seeds == 1 or low + first["error"] < first["coverage"] < high - first["error"]:
        return first
    return simulate(setting, TIMES_AT_A_BOUND * simulations, seed=1)


def summary(rows: pd.DataFrame) -> str:
    """Coverage as a Markdown table: what is simulated down, the standard deviation between trainings across.

    A coverage of more runs than the others has a dagger; the last line states their numbers and standard errors.
    """
    least = rows["simulations"].min()
    marks = ["†" if runs > least else "" for runs in rows["simulations"]]
    cells = rows["pairs"] * rows["benchmarks"]
    labels = {
        "Difference to": rows["against"].map({"receiver": "Receiver", "adapter": "adapter"}),
        "Common share": rows["common"].map("{:g}".format),
        "n": rows["n"],
        "Seeds": rows["seeds"],
        "Cells": cells,
    }
    wide = pd.DataFrame(labels).assign(
        seed_sd=rows["seed_sd"].map("SD {:g}".format),
        coverage=[
            f"{ours:.1f}{mark}" if np.isnan(theirs) else f"{ours:.1f}{mark} ({theirs:.1f})"
            for ours, theirs, mark in zip(rows["coverage"], rows["coverage_bootstrap"], marks, strict=True)
        ],
    )
    table = wide.pivot(index=list(labels), columns="seed_sd", values="coverage").reset_index()
    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    notes = [
        f"{mark or 'Without a mark'}: {runs:,} simulated runs; a coverage has a Monte Carlo standard error of at most "
        f"{group['error'].max():.2f} points."
        for mark, (runs, group) in zip(("", "†"), rows[rows["seeds"] > 1].groupby("simulations"), strict=False)
    ]
    return f"{text}\nWith several seeds. {' '.join(notes)}\n"


def simulate_equivalence(items: str, setting: Setting, simulations: int = SIMULATIONS) -> dict[str, Any]:
    """One row: how often two one-sided tests state equivalence, in percent of the simulations.

    `false_equivalent` is of runs whose true difference is the margin, where a statement is wrong, `error` its Monte
    Carlo standard error, and `coverage` how often the 95 % interval covers that difference. `power` is of runs without
    a difference.
    """
    rng = np.random.default_rng([2, *map(int, pd.util.hash_array(np.array([items, str(setting)])))])
    draw = differences if items == SAME else differences_on_own_items
    estimates = {
        truth: [mean_with_interval(draw(setting, rng, truth)).scaled(100) for _ in range(simulations)]
        for truth in (MARGIN, 0.0)
    }
    shares = {
        truth: float(np.mean([estimate.equivalence_p(MARGIN) <= LEVEL for estimate in runs]))
        for truth, runs in estimates.items()
    }
    covered = np.mean([estimate.low <= MARGIN <= estimate.high for estimate in estimates[MARGIN]])
    return {
        "items": items,
        **{name: getattr(setting, name) for name in ("against", "n", "seeds", "seed_sd", "common")},
        "margin": MARGIN,
        "simulations": simulations,
        "coverage": 100 * covered,
        "false_equivalent": 100 * shares[MARGIN],
        "error": 100 * (shares[MARGIN] * (1 - shares[MARGIN]) / simulations) ** 0.5,
        "power": 100 * shares[0.0],
    }


def summary_of_equivalence(rows: pd.DataFrame) -> str:
    """The rows as a Markdown table."""
    table = pd.DataFrame(
        {
            "Items of the trainings": rows["items"],
            "Difference to": rows["against"].map({"receiver": "Receiver", "adapter": "adapter"}),
            "n": rows["n"],
            "Seeds": rows["seeds"],
            "SD of trainings": rows["seed_sd"].map("{:g}".format),
            "95 % interval covers, %": rows["coverage"].map("{:.1f}".format),
            "Wrongly equivalent, %": rows["false_equivalent"].map("{:.1f}".format),
            "Power, %": rows["power"].map("{:.0f}".format),
        }
    )
    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    runs = rows["simulations"].min()
    least = rows.loc[rows["coverage"].idxmin()]
    where = f"{least['n']} items of {least['seeds']} trainings, whose accuracies have a standard deviation of"
    return (
        f"{text}\n{runs:,} simulated runs a row and truth; margin {rows['margin'].iloc[0]:g} points. The interval "
        f"covers least often ({least['coverage']:.1f} %) with {where} {least['seed_sd']:g} points.\n"
    )


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=PATH, help="the CSV file of the table; the .md lies beside it")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES, help="what is simulated (default: all)")
    parser.add_argument(
        "--simulations", type=int, default=SIMULATIONS, help="runs simulated for a row; more where it lies at a bound"
    )
    arguments = parser.parse_args()
    if "intervals" in arguments.tables:
        rows = pd.DataFrame([row(setting, arguments.simulations) for setting in settings()]).round(2)
        write_atomically(arguments.output, rows.to_csv(index=False))
        write_atomically(arguments.output.with_suffix(".md"), summary(rows))
    if "equivalence" in arguments.tables:
        runs = arguments.simulations // 2
        of_settings = [simulate_equivalence(items, setting, runs) for items, setting in settings_of_equivalence()]
        rows = pd.DataFrame(of_settings).round(2)
        path = arguments.output.with_name(EQUIVALENCE.name)
        write_atomically(path, rows.to_csv(index=False))
        write_atomically(path.with_suffix(".md"), summary_of_equivalence(rows))


if __name__ == "__main__":
    sys.exit(main())
