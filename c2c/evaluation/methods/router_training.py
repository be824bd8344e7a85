"""Train a router from the records of both models on questions of training splits (``c2c train-router``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from c2c.errors import RefusedError
from c2c.evaluation.methods.method import TOKEN_BUDGET
from c2c.evaluation.methods.router import Router, RouterConfig, check_decisive, fit, query_vectors
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.tasks import load_tasks, questions_of
from c2c.evaluation.readers.reader import Alone
from c2c.evaluation.schema import read_records
from c2c.evaluation.scoring import mark
from c2c.models.loading import load_model
from c2c.storage.locks import locked


@dataclass(frozen=True, kw_only=True)
class RouterRun:
    """What one call of ``c2c train-router`` learns from.

    Args:
        receiver: Where the Receiver is, whose hidden states are the queries' vectors.
        records: Answers of the methods `receiver` and `sharer` to the questions.
        tasks: Folder of task files.
        benchmarks: The questions of each benchmark, of its training split.
        output: Folder of the router.
        prompts: As the records' questions were asked.
        dtype: Precision of the Receiver.
        token_budget: Tokens of a batch.
        seed: Of the router.
    """

    receiver: str
    records: Path
    tasks: Path
    benchmarks: Mapping[str, Path]
    output: Path
    prompts: str = "plain"
    dtype: str = "float32"
    token_budget: int = TOKEN_BUDGET
    seed: int = 0


def decisive(records: pd.DataFrame) -> pd.Series:
    """Of the questions that exactly one model answered rightly, whether it was the Sharer; index benchmark and id.

    Raises:
        RefusedError: If a question lacks the answer of one of the two models.
    """
    right = records[["benchmark", "question_id", "method"]].assign(right=mark(records))
    table = right.pivot(index=["benchmark", "question_id"], columns="method", values="right")
    if {"receiver", "sharer"} - set(table.columns) or table[["receiver", "sharer"]].isna().any().any():
        raise RefusedError(
            "A router must learn from questions that both models answered",
            f"answers of {', '.join(table.columns)}",
            "Run c2c generate --methods receiver sharer on them",
        )
    receiver, sharer = table["receiver"].astype(bool), table["sharer"].astype(bool)
    return sharer[receiver != sharer]


def train_router(run: RouterRun) -> dict[str, Any]:
    """Train and save a router.

    Returns:
        What ``router.json`` says of it.

    Raises:
        RefusedError: If an input is missing or does not fit, too few questions tell the models apart, or another
            training writes into the same folder.
    """
    with locked(run.output, "train a router"):
        return _train(run)


def _train(run: RouterRun) -> dict[str, Any]:
    records = read_records([run.records])
    asked_as = sorted(set(records["prompts"]))
    if asked_as != [run.prompts]:
        raise RefusedError(f"The records' prompts must be those of the run, {run.prompts}", asked_as, "Pass --prompts")
    wins = decisive(records)
    sharer_right = torch.tensor(wins.to_numpy(dtype=bool))
    check_decisive(sharer_right)
    tasks = load_tasks(run.tasks, run.benchmarks)["tasks"]
    loaded = load_model(run.receiver, run.dtype)
    prompting.check_prompts(run.prompts, [loaded])
    asked = [question for task in tasks.values() for question in questions_of(task, run.prompts)]
    known = {(question.benchmark, str(question.doc["id"])): question for question in asked}
    if missing := [key for key in wins.index if key not in known]:
        raise RefusedError("The records must answer the questions that are given", missing[0], "Pass the same files")
    vectors = query_vectors(Alone(loaded), [known[key] for key in wins.index], run.token_budget)
    router = fit(vectors, sharer_right, RouterConfig(seed=run.seed))
    answered = records.groupby(["benchmark", "question_id"]).ngroups
    router.about |= {"receiver": loaded.name, "prompts": run.prompts, "benchmarks": sorted(run.benchmarks)}
    router.about |= {"answered": answered, "ties": answered - len(wins)}
    Router.save(router, run.output)
    return router.about
