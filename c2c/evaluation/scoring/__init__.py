"""From answer records to scores: what counts as correct, and how often it happened. Imports no torch.

A failed question is a record with an error and counts as wrong; only `protocol: paper` leaves it out. Too many of them
are refused (`check_failed`).
"""

from c2c.evaluation.scoring.checks import ANSWER_KEY, QUESTION_KEY, check_records
from c2c.evaluation.scoring.letters import extract_letter
from c2c.evaluation.scoring.rules import GRADED, RULES, answer_texts, failed, gold_margin, mark, normalise
from c2c.evaluation.scoring.table import (
    FAILED_SHARE,
    RUN_KEY,
    SCORE_COLUMNS,
    check_failed,
    score_files,
    score_records,
    scores_text,
)
from c2c.types import LETTERS

__all__ = [
    "ANSWER_KEY",
    "FAILED_SHARE",
    "GRADED",
    "LETTERS",
    "QUESTION_KEY",
    "RULES",
    "RUN_KEY",
    "SCORE_COLUMNS",
    "answer_texts",
    "check_failed",
    "check_records",
    "extract_letter",
    "failed",
    "gold_margin",
    "mark",
    "normalise",
    "score_files",
    "score_records",
    "scores_text",
]
