"""Whether a Receiver that beats a guess knows anything: how far liking some values explains what it chooses.

In the generated world nothing tells a Receiver the answer. If it has a rate above chance, either something leaks, or it
likes values that happen to be right more often among so few questions. A choice by liking alone, which does not look at
the entity that a question is about, separates the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from c2c.evaluation.schema import read_records

SCORING = "likelihood"


def read(results: Path, main: pd.DataFrame) -> list[dict[str, Any]]:
    """For each pair and benchmark whose options are weighed, and whose Receiver is above chance: `preference`.

    Args:
        results: Folder of one scale's results.
        main: Its main table, as texts.
    """
    rows = []
    for row in main[(main["arm"] == "receiver") & (main["low"] != "")].itertuples():
        paths = sorted((results / f"records/{row.pair}").glob("[!.]*.parquet"))
        if float(row.low) <= float(row.chance) or not paths:
            continue
        answers = read_records(paths)
        answers = answers[(answers["method"] == "receiver") & (answers["benchmark"] == row.benchmark)]
        answers = answers[answers["scoring"] == SCORING].drop_duplicates("question_id")
        if len(answers):
            rows.append({"pair": row.pair, "benchmark": row.benchmark, **preference(answers)})
    return rows


def preference(answers: pd.DataFrame) -> dict[str, float]:
    """How the choices of one model compare with a choice by liking alone.

    A value's liking is its mean log-likelihood over the *other* questions of the same subject in which it is an option,
    so that it holds nothing about this question.

    Args:
        answers: One model's records of one benchmark, with `choices` and `choice_scores`.

    Returns:
        In percent: `same`, how often the choice by liking is the model's; `right`, how often it is right. And `p`, the
        two-sided binomial p of the model's own rate under chance.
    """
    options = answers[["question_id", "subset", "gold", "choices", "choice_scores"]].copy()
    options["subset"] = options["subset"].fillna("")
    long = options.explode(["choices", "choice_scores"]).astype({"choice_scores": float})
    group = long.groupby(["subset", "choices"])["choice_scores"]
    total, count = group.transform("sum"), group.transform("count")
    long["liking"] = ((total - long["choice_scores"]) / (count - 1).clip(lower=1)).where(count > 1, -float("inf"))
    by_question = long.reset_index(drop=True).groupby("question_id", sort=False)
    rows = long.reset_index(drop=True)
    choices = rows.loc[by_question["choice_scores"].idxmax()].set_index("question_id")
    preferences = rows.loc[by_question["liking"].idxmax()].set_index("question_id")
    correct = int((choices["choices"] == choices["gold"]).sum())
    chance = float((1 / options["choices"].map(len)).mean())
    return {
        "same": 100 * float((choices["choices"] == preferences["choices"]).mean()),
        "right": 100 * float((preferences["choices"] == preferences["gold"]).mean()),
        "p": float(binomtest(correct, len(choices), chance).pvalue),
    }
