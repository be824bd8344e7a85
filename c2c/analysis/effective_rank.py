"""Effective rank of caches by layer: how many directions keys and values spread over (paper Table 2 and Figure 12).

The effective rank of a matrix is ``exp(-Σ p ln p)`` with ``p`` its singular values over their sum (Roy and Vetterli,
2007). The paper does not say how its matrices are formed, and the reference has no code for it. Here a matrix holds
the keys or the values of one layer as the cache has them (keys after RoPE; nothing is centred): one row a fused token
of any of the questions, all KV heads side by side. Ranks of hundreds, as the paper prints them, need rows of many
questions: a prompt has fewer tokens. All caches are taken at the same tokens, the Sharer's at the tokens that the
Receiver's are fused with; the rank cannot exceed the number of rows, nor the width ``H * D``, which are stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from torch import Tensor

from c2c.analysis.caches import PrefixCaches, read_caches, token_rows
from c2c.analysis.run import AnalysisRun, batches, run_reader, sample_questions
from c2c.errors import RefusedError
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.tasks import load_tasks
from c2c.evaluation.readers.fused import FusedReader
from c2c.models.pair import load_pair
from c2c.types import HALVES

COLUMNS = ("layer", "sharer_layer", "half", "cache", "effective_rank", "tokens", "width")
CACHES = ("sharer", "receiver", "fused", "fused_deranged")
"""The last is the control: the Receiver's cache, fused with the Sharer's of another question."""

Key = tuple[int, str, str]
"""Receiver layer, half, cache."""


def effective_rank(matrix: Tensor) -> float:
    """Effective rank of a matrix ``(m, n)``: between 1 and its rank.

    Raises:
        RefusedError: If it holds nothing but zeros, or a number that is not finite.
    """
    # In float64, since the Gram matrix squares the condition number: (m, n) -> (n, n)
    states = matrix.double()
    return rank_of_gram(states.T @ states)


def rank_of_gram(gram: Tensor) -> float:
    """Effective rank of a matrix of which only ``XᵀX``, ``(n, n)`` in float64, is kept.

    The singular values are the roots of its eigenvalues. Rounding adds directions of some 1e-8 of the largest one,
    which an entropy does not see.

    Raises:
        RefusedError: As `effective_rank`.
    """
    if not bool(torch.isfinite(gram).all()) or not bool(gram.diagonal().sum() > 0):
        raise RefusedError(
            "A matrix must be finite and other than zero to have an effective rank",
            tuple(gram.shape),
            "Read other questions",
        )
    # Eigenvalues of XᵀX are squared singular values; rounding may leave some slightly below zero.
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    # exp(entropy) of their shares (Roy and Vetterli 2007); entr(0) is 0
    shares = singular / singular.sum()
    return float(torch.special.entr(shares).sum().exp())


def measure_ranks(run: AnalysisRun) -> pd.DataFrame:
    """`rank_table` of the questions of a run, with the columns of its fuser in front.

    Raises:
        RefusedError: If an input is missing or does not fit.
    """
    tasks, pair = load_tasks(run.tasks, run.benchmarks), load_pair(run.receiver, run.sharer, run.dtype)
    questions = sample_questions(run, tasks, [pair.receiver, pair.sharer])
    matched, deranged = run_reader(run, pair), run_reader(run, pair, "deranged")
    deranged.prepare(questions, run.token_budget)
    table = rank_table(matched, deranged, batches(matched, questions, run.token_budget))
    head = {name: getattr(run, name) for name in ("scale", "pair", "recipe", "alignment", "seed")}
    for place, (name, value) in enumerate((head | {"benchmark": next(iter(run.benchmarks))}).items()):
        table.insert(place, name, value)
    return table


def rank_table(matched: FusedReader, deranged: FusedReader, questions: Sequence[Sequence[Question]]) -> pd.DataFrame:
    """Effective ranks of four caches over the fused tokens of all questions.

    Args:
        matched: Reads each question with both models.
        deranged: The same fuser, whose Sharer reads another question; prepared for all questions.
        questions: In batches.

    Returns:
        Columns COLUMNS, one row a Receiver layer, half and cache; `sharer_layer` is the one that the layer is fused
        with (paper: only Sharer layers that are read are shown).
    """
    # Gram matrices, summed over batches: their size does not grow with the number of tokens.
    grams: dict[Key, Tensor] = {}
    tokens = 0
    for batch in questions:
        caches, deranged_caches = read_caches(matched, batch), read_caches(deranged, batch)
        tokens += int(caches.counted.sum())
        for key, rows in _rows(matched, caches, deranged_caches):
            states = rows.double()
            gram = states.T @ states
            grams[key] = grams[key] + gram if key in grams else gram
    # One row a layer, half and cache.
    links = matched.model.stack(0).links
    rows_of = [
        (layer, links[layer].sharer_layer, half, cache, rank_of_gram(gram), tokens, len(gram))
        for (layer, half, cache), gram in grams.items()
    ]
    return pd.DataFrame(rows_of, columns=list(COLUMNS))


def _rows(reader: FusedReader, caches: PrefixCaches, deranged: PrefixCaches) -> Iterator[tuple[Key, Tensor]]:
    """The matrix of each linked Receiver layer, half and cache."""
    for layer, link in sorted(reader.model.stack(0).links.items()):
        layers = {
            "sharer": caches.sharer[link.sharer_layer],
            "receiver": caches.receiver[layer],
            "fused": caches.fused[layer],
            "fused_deranged": deranged.fused[layer],
        }
        for place, half in enumerate(HALVES):
            for cache in CACHES:
                yield (layer, half, cache), token_rows(layers[cache][place], caches.counted)
