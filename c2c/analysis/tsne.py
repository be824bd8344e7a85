"""Where the caches of questions lie: the last layer of Receiver, Sharer, transformed and fused caches (paper Figure 3).

A point is one question: the mean over its fused tokens of the last layer's keys and values, all heads side by side (the
paper says that keys and values are concatenated, and not how tokens become a point; the reference's script takes the
mean of each sequence). The Sharer's last layer is the one that the Receiver's last is fused with, at the tokens that it
is fused with. A narrower cache is filled up with zeros, which changes no distance within it. t-SNE sees all points at
once (paper: 300 questions, perplexity 50, 1,000 iterations).

Two numbers of each cloud are measured in the space of the caches, since distances in a t-SNE picture mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.manifold import TSNE
from sklearn.metrics import pairwise_distances
from torch import Tensor

from c2c.analysis.caches import read_caches, token_rows
from c2c.analysis.run import AnalysisRun, batches, run_reader, sample_questions
from c2c.analysis.transformation import TransformationTraining, explained_variance, train_transformation
from c2c.errors import RefusedError
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.tasks import load_tasks
from c2c.evaluation.readers.fused import FusedReader
from c2c.models.pair import load_pair
from c2c.storage.files import write_atomically

CACHES = ("receiver", "sharer", "transformed", "fused")
POINT_COLUMNS = ("cache", "question_id", "subset", "x", "y")
CLOUD_COLUMNS = ("cache", "points", "spread", "distance", "explained")


@dataclass(frozen=True, kw_only=True)
class TsneRun(AnalysisRun):
    """One call of ``c2c analyse tsne``.

    Args:
        training_questions: On how many other questions the transformation is trained.
        perplexity: Of t-SNE.
        iterations: Of t-SNE.
        training: Of the transformation.
        clouds: CSV of the numbers of each cloud.

    Raises:
        RefusedError: If there are too few points for the perplexity, or no questions to train on.
    """

    training_questions: int = 300
    perplexity: float = 50
    iterations: int = 1000
    training: TransformationTraining = field(default_factory=TransformationTraining)
    clouds: Path

    def __post_init__(self) -> None:
        super().__post_init__()
        points = self.questions * len(CACHES)
        if self.questions and not 0 < self.perplexity < points / 3:
            rule = f"The perplexity of t-SNE must be below a third of its {points} points"
            raise RefusedError(rule, self.perplexity, "Lower it, or ask more questions")
        if self.training_questions < 2:
            raise RefusedError(
                "A transformation must be trained on at least 2 questions",
                self.training_questions,
                "Raise their number",
            )


def place_caches(run: TsneRun) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Points and clouds (columns POINT_COLUMNS and CLOUD_COLUMNS), also written to ``run.output`` and ``run.clouds``.

    Raises:
        RefusedError: If an input is missing or does not fit, or the benchmark has too few questions.
    """
    tasks, pair = load_tasks(run.tasks, run.benchmarks), load_pair(run.receiver, run.sharer, run.dtype)
    reader, models = run_reader(run, pair), [pair.receiver, pair.sharer]
    questions = sample_questions(run, tasks, models)
    # The transformation is trained on other questions than those that are drawn.
    others = sample_questions(run, tasks, models, skip=len(questions), count=run.training_questions)
    training_states = _states(reader, others, run.token_budget)
    sharer, receiver = (torch.cat([states[name] for states in training_states]) for name in ("sharer", "receiver"))
    transform = train_transformation(sharer, receiver, run.training)
    # One point a question and cache: the mean over its tokens.
    all_states = _states(reader, questions, run.token_budget)
    for states in all_states:
        states["transformed"] = transform(states["sharer"])
    predicted, true = (torch.cat([states[name] for states in all_states]) for name in ("transformed", "receiver"))
    means = {name: np.stack([states[name].mean(0).numpy() for states in all_states]) for name in CACHES}
    points = point_table(means, questions, run.perplexity, run.iterations)
    clouds = cloud_table(means)
    clouds.loc[clouds["cache"] == "transformed", "explained"] = explained_variance(predicted, true)
    for frame, path in ((points, run.output), (clouds, run.clouds)):
        write_atomically(path, frame.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
    return points, clouds


def _states(reader: FusedReader, questions: Sequence[Question], token_budget: int) -> list[dict[str, Tensor]]:
    """For each question, in order, the last layer's states of its fused tokens, ``(tokens, width)`` float32 each."""
    # The last linked Receiver layer, and the Sharer layer that it is fused with
    last = max(reader.model.stack(0).links)
    sharer_last = reader.model.stack(0).links[last].sharer_layer
    states: dict[int, dict[str, Tensor]] = {}
    for batch in batches(reader, questions, token_budget):
        caches = read_caches(reader, batch)
        chosen = {"receiver": caches.receiver[last], "sharer": caches.sharer[sharer_last], "fused": caches.fused[last]}
        for row, question in enumerate(batch):
            here = slice(row, row + 1)
            states[question.number] = {
                name: torch.cat([token_rows(half[here], caches.counted[here]) for half in layer], dim=1).float().cpu()
                for name, layer in chosen.items()
            }
    return [states[question.number] for question in questions]


def point_table(
    means: Mapping[str, np.ndarray], questions: Sequence[Question], perplexity: float, iterations: int
) -> pd.DataFrame:
    """The plane of t-SNE, with columns POINT_COLUMNS.

    Args:
        means: By cache, ``(questions, width)``.
        questions: In the order of the rows.
        perplexity: Of t-SNE.
        iterations: Of t-SNE.
    """
    # One thread and a fixed start: t-SNE gives the same picture in every run.
    plane = TSNE(perplexity=perplexity, max_iter=iterations, init="pca", random_state=0, n_jobs=1)
    # (caches * questions, 2) -> (caches, questions, 2)
    places = plane.fit_transform(np.concatenate(_pad_widths(means))).reshape(len(means), len(questions), 2)
    rows = [
        (cache, str(question.doc["id"]), str(question.doc.get("subset") or ""), float(x), float(y))
        for cache, of_cache in zip(means, places, strict=True)
        for question, (x, y) in zip(questions, of_cache, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(POINT_COLUMNS))


def cloud_table(means: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Two numbers of each cloud, in the space of the caches, with columns CLOUD_COLUMNS (`explained` left empty).

    `spread` is its variance over that of the Receiver's cloud; `distance` the median distance of its points to the
    nearest of the Receiver's, over the median distance of the Receiver's points to the nearest other one among them:
    1 for a cloud that lies among the Receiver's points as these among each other.

    Args:
        means: By cache, ``(questions, width)``, among them ``receiver``.
    """
    wide = dict(zip(means, _pad_widths(means), strict=True))
    receiver = wide["receiver"]
    rows = []
    for cache, points in wide.items():
        # The trace of the covariance, over that of the Receiver
        spread = points.var(axis=0).sum() / receiver.var(axis=0).sum()
        rows.append(
            (cache, len(points), float(spread), _nearest(points, receiver) / _nearest(receiver, receiver), None)
        )
    return pd.DataFrame(rows, columns=list(CLOUD_COLUMNS)).astype({"explained": float})


def _nearest(points: np.ndarray, others: np.ndarray) -> float:
    """Median distance of `points` to the nearest of `others`, which is not itself where both are the same."""
    # (points, others)
    distances = pairwise_distances(points, others)
    if points is others:
        np.fill_diagonal(distances, np.inf)
    return float(np.median(distances.min(axis=1)))


def _pad_widths(means: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    width = max(points.shape[1] for points in means.values())
    return [np.pad(points, ((0, 0), (0, width - points.shape[1]))).astype(np.float64) for points in means.values()]
