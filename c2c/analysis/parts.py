"""Questions divided into parts: by subject, or by the length of their prompts. Imports no torch."""

from __future__ import annotations

import numpy as np
import pandas as pd

from c2c.errors import RefusedError


def by_part(answers: pd.DataFrame, parts: pd.Series) -> dict[str, pd.DataFrame]:
    """Answers `(Q, S)` of each part, in the order in which `parts` first names them.

    Args:
        answers: Questions as rows.
        parts: The part of each question, with the questions as index; it may know more questions.

    Raises:
        RefusedError: A question has no part.
    """
    named = parts.reindex(answers.index)
    if named.isna().any():
        odd = [str(question) for question in named.index[named.isna()][:5]]
        raise RefusedError("Each question must belong to a part", odd, "Name the part of these questions")
    return {str(part): answers[named == part] for part in parts.unique() if (named == part).any()}


def length_buckets(tokens: pd.Series, buckets: int = 3) -> pd.Series:
    """The bucket of each question by its number of tokens: about equally many questions each, equal lengths together.

    Args:
        tokens: Tokens of each question's prompt, with the questions as index.
        buckets: At most so many; fewer where lengths are equal.

    Returns:
        Labels such as ``13-14 tokens``, in the order of the lengths, with the index of `tokens`.
    """
    lengths = tokens.astype(int)
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, buckets + 1)[1:-1], method="inverted_cdf"))
    place = np.searchsorted(edges, lengths, side="left")
    labels = {}
    for bucket in np.unique(place):
        low, high = lengths[place == bucket].min(), lengths[place == bucket].max()
        labels[bucket] = f"{low} tokens" if low == high else f"{low}-{high} tokens"
    found = pd.Series([labels[bucket] for bucket in place], index=tokens.index)
    return found.astype(pd.CategoricalDtype(list(labels.values()), ordered=True))
