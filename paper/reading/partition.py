"""Answers divided by subject or by the length of the prompt."""

from __future__ import annotations

import numpy as np
import pandas as pd

from c2c.errors import RefusedError


def partition(answers: pd.DataFrame, labels: pd.Series) -> dict[str, pd.DataFrame]:
    """Answers `(Q, S)` grouped by the label of their question, in the order in which `labels` first names the labels.

    Args:
        answers: Questions as rows, seeds as columns.
        labels: The label of each question, indexed by question; it may hold more questions.

    Raises:
        RefusedError: If a question has no label.
    """
    part_of = labels.reindex(answers.index)
    if part_of.isna().any():
        questions = [str(question) for question in part_of.index[part_of.isna()][:5]]
        raise RefusedError("Each question must belong to a part", questions, "Name the part of these questions")
    return {str(label): answers[part_of == label] for label in labels.unique() if (part_of == label).any()}


def length_buckets(tokens: pd.Series, buckets: int = 3) -> pd.Series:
    """Divide questions by their number of tokens into buckets of about equally many questions.

    Questions of equal length are always in the same bucket.

    Args:
        tokens: Tokens of each question's prompt, indexed by question.
        buckets: The greatest number of buckets; there are fewer where lengths are equal.

    Returns:
        Labels such as ``13-14 tokens``, in the order of the lengths, with the index of `tokens`.
    """
    lengths = tokens.astype(int)
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, buckets + 1)[1:-1], method="inverted_cdf"))
    bucket_of = np.searchsorted(edges, lengths, side="left")
    labels = {}
    for bucket in np.unique(bucket_of):
        low, high = lengths[bucket_of == bucket].min(), lengths[bucket_of == bucket].max()
        labels[bucket] = f"{low} tokens" if low == high else f"{low}-{high} tokens"
    category = pd.CategoricalDtype(list(labels.values()), ordered=True)
    return pd.Series([labels[bucket] for bucket in bucket_of], index=tokens.index).astype(category)
