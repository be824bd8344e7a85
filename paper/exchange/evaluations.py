"""Records and the texts of their questions as evaluations: what both formats write, before it has their form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.catalogue import read_benchmarks
from c2c.evaluation.protocol import CORRECTED
from c2c.evaluation.schema import TOGETHER
from c2c.evaluation.scoring import GRADED, answer_texts
from c2c.stats import NO_SEED, Estimate, accuracy_with_interval
from paper.reading.answers import Answers
from paper.reading.commits import BENCHMARKS, read_revisions
from paper.reading.questions import benchmark_row, texts_of

OWNER = "cache-to-cache"
"""Owner of models that are more than one model, and of those that this package trains."""
ALONE = ("receiver", "sharer")
"""Arms that are one untouched model."""
SPAN = "span"
"""The alignment that ids of models leave out."""


@dataclass(frozen=True)
class Sample:
    """One answered question.

    Attributes:
        id: Of the question, within its benchmark.
        seed: Of the training of the fusers; None for an arm without a training.
        prompt: What the Receiver reads without a message; of a chat its messages as JSON.
        choices: The answer options in order; empty for a free answer.
        reference: The right answer.
        output: What was written, or the option that was chosen.
        answer: What the scoring takes from it.
        score: Credit from 0 to 1.
        tokens_in: Tokens that were read, by the Sharer too; None where they were not counted.
        tokens_out: Tokens that were written, by the Sharer too; None where they were not counted.
        seconds: For this question; not a number where nothing was measured.
        error: Why the question failed; empty for an answered one.
        details: Whatever else its record holds, as JSON can.
    """

    id: str
    seed: int | None
    prompt: str
    choices: tuple[str, ...]
    reference: str
    output: str
    answer: str
    score: float
    tokens_in: int | None
    tokens_out: int | None
    seconds: float
    error: str
    details: dict[str, Any]

    @property
    def usage(self) -> dict[str, int] | None:
        """Counts of tokens as both formats name them."""
        if self.tokens_in is None or self.tokens_out is None:
            return None
        total = self.tokens_in + self.tokens_out
        return {"input_tokens": self.tokens_in, "output_tokens": self.tokens_out, "total_tokens": total}

    @property
    def messages(self) -> list[dict[str, str]]:
        """The prompt as messages; a plain prompt is one of the user."""
        try:
            messages = json.loads(self.prompt) if self.details.get("prompts") == "chat" else None
        except json.JSONDecodeError:
            messages = None
        return messages or [{"role": "user", "content": self.prompt}]


@dataclass(frozen=True)
class Evaluation:
    """The answers of one arm of a pair to one benchmark.

    Attributes:
        scale: Of the records.
        pair: Id of the pair.
        arm: What answered (`paper.reading.answers.arm_name`), or channel and message of the test bed.
        alignment: Token alignment of the fusers; empty without fusers.
        receiver: Id of the Receiver.
        sharer: Id of the Sharer, or of several.
        benchmark: Id of the task.
        metric: `accuracy`, or `score` where answers get parts of a point.
        estimate: The mean over questions and seeds as a fraction, with its interval: the number of the main table.
        by_seed: The same for each training seed alone.
        samples: A sample a question and seed, by seed and id.
        details: Settings of the arm, all of them texts.
        max_tokens: Upper bound of a free answer, in tokens; None where options are weighed.
        dataset: Hub id and revision of the data set that the questions are from; empty for generated ones.
        revisions: Revision of each model that has one.
    """

    scale: str
    pair: str
    arm: str
    alignment: str
    receiver: str
    sharer: str
    benchmark: str
    metric: str
    estimate: Estimate
    by_seed: dict[int, Estimate]
    samples: tuple[Sample, ...]
    details: dict[str, str]
    max_tokens: int | None = None
    dataset: dict[str, str] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)

    @property
    def standard_error(self) -> float:
        """Standard error of the estimate: over questions and trainings, or of a proportion where there is one seed."""
        if self.estimate.spread:
            return self.estimate.spread.error
        return (self.estimate.value * (1 - self.estimate.value) / self.estimate.n) ** 0.5

    @property
    def model(self) -> str:
        """Id of what answered, ``owner/name``.

        One untouched model keeps its id. Every other arm gets an id of its own, so that whoever groups results by
        model does not take a control for the Receiver.
        """
        if self.arm in ALONE:
            model = self.receiver if self.arm == "receiver" else self.sharer
            return model if "/" in model else f"{OWNER}/{_word(model)}"
        aligned = "" if self.alignment in ("", SPAN) else f".{self.alignment}"
        return f"{OWNER}/{_word(self.pair)}.{_word(self.arm)}{aligned}"


def interval_method(estimate: Estimate) -> str:
    """How `accuracy_with_interval` found the bounds of an estimate."""
    if estimate.spread is None or (estimate.seeds > 1 and estimate.value in (0, 1)):
        return "Wilson score interval over questions"
    return "t interval over questions" + (" and trainings" if estimate.seeds > 1 else "")


def evaluations(
    records: pd.DataFrame, questions: pd.DataFrame, protocol: str = CORRECTED, results: Path | None = None
) -> Iterator[Evaluation]:
    """Each arm of each pair on each benchmark, in the order of ids.

    Args:
        records: Answer records of one scale.
        questions: Of `read_questions`.
        protocol: By which answers are marked.
        results: Folder of the results, whose manifests name the commits of models; else the config names them.

    Raises:
        RefusedError: As `Answers` and `texts_of`.
    """
    answers = Answers(records, protocol)
    texts = texts_of(records, questions)
    records = records.assign(
        arm=answers.marked["arm"],
        credit=answers.marked["correct"],
        answer=answer_texts(records, protocol),
        max_new_tokens=texts["max_new_tokens"].to_numpy(),
        prompt=texts["prompt"].to_numpy(),
        private=texts["private"].to_numpy(),
    )
    revisions, datasets = read_revisions(results), read_benchmarks([BENCHMARKS])
    for (pair, benchmark, arm, alignment), rows in records.groupby(["pair", "benchmark", "arm", "alignment"]):
        frame = answers.get(pair, benchmark, arm, alignment)
        assert frame is not None
        first = rows.iloc[0]
        columns = ("recipe", "method", "prompts", "scoring", "sharer")
        limits, models = rows["max_new_tokens"].dropna(), first["sharer"].split(TOGETHER)
        source = benchmark_row(benchmark, datasets)
        yield Evaluation(
            scale=answers.scale,
            pair=pair,
            arm=arm,
            alignment=alignment,
            receiver=first["receiver"],
            sharer=first["sharer"],
            benchmark=benchmark,
            metric="score" if first["scoring"] in GRADED else "accuracy",
            estimate=accuracy_with_interval(frame),
            by_seed={int(seed): accuracy_with_interval(frame[[seed]]) for seed in frame if seed != NO_SEED},
            samples=tuple(map(_sample, rows.sort_values(["seed", "question_id"]).to_dict("records"))),
            details={"protocol": protocol, **{name: str(first[name]) for name in columns if first[name]}},
            max_tokens=int(limits.max()) if len(limits) else None,
            dataset={key: str(source[key]) for key in ("hub_id", "revision", "split") if source.get(key)},
            revisions={model: revisions[model] for model in (first["receiver"], *models) if model in revisions},
        )


def _sample(row: Mapping[str, Any]) -> Sample:
    """The sample of one record."""
    choices = () if row["choices"] is None else tuple(row["choices"])
    error = row["error"] if isinstance(row["error"], str) else ""
    written = row["output_text"] if isinstance(row["output_text"], str) else row["answer"]
    details = {
        **{name: row[name] for name in ("subset", "prompts", "private", "message", "sharer_question_id", "routed_to")},
        **{name: row[name] for name in ("question_hash", "prompt_hash", "confidence")},
        "choice_scores": None if row["choice_scores"] is None else [float(score) for score in row["choice_scores"]],
        "sharer_tokens_in": int(row["sharer_tokens_in"]),
        "sharer_tokens_out": int(row["sharer_tokens_out"]),
    }
    return Sample(
        id=row["question_id"],
        seed=None if pd.isna(row["seed"]) else int(row["seed"]),
        prompt=row["prompt"],
        choices=choices,
        reference=row["gold"],
        output="" if error else written,
        answer=row["answer"],
        score=float(row["credit"]),
        tokens_in=int(row["tokens_in"]) + int(row["sharer_tokens_in"]),
        tokens_out=int(row["tokens_out"]) + int(row["sharer_tokens_out"]),
        seconds=float(row["time_s"]),
        error=error,
        details={name: value for name, value in details.items() if isinstance(value, (list, int)) or _is_text(value)},
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _word(text: str) -> str:
    """`text` as a part of an id or a path."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("._") or "_"
