"""One rule for each scoring: the credit that an answered question gets, from 0 (wrong) to 1 (right)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from c2c.evaluation.protocol import CORRECTED, active
from c2c.evaluation.scoring import letters, longbench, mathematics
from c2c.evaluation.scoring.options import lengths, option_blocks

BY_LIKELIHOOD = ("likelihood", "logits", "text")
"""Scorings that compare the log-likelihoods of the options."""
GRADED = ("longbench",)
"""Scorings whose credit may lie between 0 and 1."""
Rule = Callable[[pd.DataFrame, str], np.ndarray]


def mark(records: pd.DataFrame, protocol: str = CORRECTED) -> pd.Series:
    """The credit of each record, 0 to 1, as floats on the records' index; a failed question gets none.

    All scorings but those of `GRADED` give 0 or 1.

    Raises:
        RefusedError: A scoring needs a package that is not installed.
    """
    credit = pd.Series(0.0, index=records.index)
    answered = ~failed(records)
    for scoring in records["scoring"].unique():
        place = (answered & (records["scoring"] == scoring)).to_numpy()
        if place.any():
            credit[place] = RULES[scoring](records[place], protocol)
    return credit


def failed(records: pd.DataFrame) -> pd.Series:
    """Whether each record is that of a failed question."""
    return records["error"].fillna("") != ""


def normalise(text: str) -> str:
    """What `exact` compares: without surrounding blanks, letter case and a full stop at the end."""
    return text.strip().removesuffix(".").rstrip().casefold()


def _exact(records: pd.DataFrame, protocol: str) -> np.ndarray:
    return _credits(records, lambda text, gold: normalise(text) == normalise(gold))


def _letter(records: pd.DataFrame, protocol: str) -> np.ndarray:
    options = [len(letters.LETTERS) if choices is None else len(choices) for choices in records["choices"]]

    def right(text: str, gold: str, options: int, opening: str) -> bool:
        return _letter_in(text, options, opening, protocol) == gold.strip().upper()

    records = records.assign(options=options, opening=records["opening"].fillna(""))
    return _credits(records, right, "options", "opening")


def _letter_in(text: str, options: int, opening: str, protocol: str) -> str | None:
    """The letter that a written answer names, by the rules of the protocol."""
    if active(protocol, "letter_extraction"):
        return letters.extract_as_published(text, 4 if active(protocol, "four_letters_only") else options)
    return letters.extract_letter(text, options, opening)


def _math(records: pd.DataFrame, protocol: str) -> np.ndarray:
    stops = active(protocol, "gsm8k_gold_stops_at_comma")
    questions = [
        (mathematics.gold_at_comma(gold) if stops and benchmark.startswith("gsm8k") else gold, text)
        for gold, text, benchmark in records[["gold", "output_text", "benchmark"]].itertuples(index=False)
    ]
    # Equal pairs of gold and answer are graded once, in processes of their own.
    graded = mathematics.grade(questions)
    return np.array([graded[question] for question in questions], dtype=float)


def _longbench(records: pd.DataFrame, protocol: str) -> np.ndarray:
    return _credits(records, longbench.score)


def _by_choice(records: pd.DataFrame, protocol: str) -> np.ndarray:
    """Whether the chosen option is the gold answer; options that read alike are the same answer."""
    return (chosen_options(records) == records["gold"].to_numpy(object)).astype(float)


def chosen_options(records: pd.DataFrame) -> np.ndarray:
    """(len(records),) object: the option with the greatest weight, the first of equals.

    The weight is the sum of log-probabilities; with `text` over the option's length in characters, exactly lm-eval's
    ``acc_norm``. None where no greatest weight is finite; `check_records` refuses such scores.
    """
    chosen = np.full(len(records), None, dtype=object)
    is_by_length = (records["scoring"] == "text").to_numpy()
    for block in option_blocks(records):
        weights = block.scores.copy()
        by_length = is_by_length[block.rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            weights[by_length] /= lengths(block.texts[by_length])
        # A weight that is no number is the greatest to argmax, and then none is chosen.
        best = weights.argmax(axis=1)
        line = np.arange(len(best))
        is_finite = np.isfinite(weights[line, best])
        chosen[block.rows[is_finite]] = block.texts[line, best][is_finite]
    return chosen


def answer_texts(records: pd.DataFrame, protocol: str = CORRECTED) -> list[str]:
    """What the rule of each record's scoring takes for the answer, as text.

    It is the chosen option where options are weighed, the letter where one is read, and otherwise the written text
    without surrounding blanks; empty where a question failed or nothing was found.
    """
    weighed = ~failed(records) & records["scoring"].isin(BY_LIKELIHOOD)
    chosen = pd.Series("", index=records.index, dtype=object)
    chosen[weighed] = chosen_options(records[weighed])
    columns = ["scoring", "choices", "output_text", "opening"]
    answers: list[str] = []
    rows: Iterable[tuple[Any, ...]] = records[columns].itertuples(index=False, name=None)
    for lost, option, (scoring, choices, text, opening) in zip(failed(records), chosen, rows, strict=True):
        if lost:
            answers.append("")
        elif scoring in BY_LIKELIHOOD:
            answers.append(option or "")
        elif scoring == "letter":
            options = len(letters.LETTERS) if choices is None else len(choices)
            answers.append(_letter_in(text, options, opening if isinstance(opening, str) else "", protocol) or "")
        else:
            answers.append(str(text).strip())
    return answers


def gold_margin(records: pd.DataFrame) -> pd.Series:
    """How much more likely the gold option is than the others, in nats, on the records' index.

    The log-likelihood of the gold option less the mean of the others'. It moves with every message that says something
    about the answer, where accuracy only moves if another option becomes the likeliest. Options that read like the gold
    answer are left out of the others. Not a number for a failed question, where options were not weighed, or where no
    option is another answer.
    """
    margins = np.full(len(records), np.nan)
    weighed = np.flatnonzero(records["choice_scores"].notna() & ~failed(records))
    for block in option_blocks(records.iloc[weighed]):
        # Equally many gold options at a time, so that the means are of rectangles.
        counts = block.is_gold.sum(axis=1)
        for count in np.unique(counts[(counts > 0) & (counts < block.texts.shape[1])]):
            line = counts == count
            is_gold, scores = block.is_gold[line], block.scores[line]
            # (questions * options,) -> (questions, gold options), (questions, other options)
            gold, others = (scores[place].reshape(len(scores), -1) for place in (is_gold, ~is_gold))
            margins[weighed[block.rows[line]]] = gold.mean(axis=1) - others.mean(axis=1)
    return pd.Series(margins, index=records.index)


def _credits(records: pd.DataFrame, rule: Callable[..., float], *columns: str) -> np.ndarray:
    """The rule's credit of each output text, gold answer and further column; equal ones are looked at once."""
    questions = list(records[["output_text", "gold", *columns]].itertuples(index=False, name=None))
    credit = {question: float(rule(*question)) for question in dict.fromkeys(questions)}
    return np.array([credit[question] for question in questions], dtype=float)


RULES: dict[str, Rule] = {
    "exact": _exact,
    "letter": _letter,
    **dict.fromkeys(BY_LIKELIHOOD, _by_choice),
    "math": _math,
    "longbench": _longbench,
}
