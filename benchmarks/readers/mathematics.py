"""Mathematical problems with an answer in free text, one function a data set."""

from __future__ import annotations

import re

from benchmarks.readers.base import Outcome, Row, RowPlace, exclusion, free, numbered
from c2c.evaluation.protocol import active


def gsm8k(row: Row, place: RowPlace, protocol: str) -> Outcome:
    """openai/gsm8k: the answer is the number behind ``####``; calculator annotations (``<<…>>``) are removed."""
    solution, mark, answer = str(row["answer"]).rpartition("####")
    if not mark:
        return exclusion("the answer has no line with ####")
    if active(protocol, "gsm8k_gold_stops_at_comma"):
        number = re.search(r"[-+]?\d+(?:\.\d+)?", answer)
        answer = number.group() if number else ""
    return free(numbered(place), "", row["question"], answer.replace(",", ""), re.sub(r"<<.*?>>", "", solution))


def math500(row: Row, place: RowPlace, protocol: str) -> Outcome:
    """HuggingFaceH4/MATH-500: the answer is LaTeX without dollar signs."""
    identity = row.get("unique_id") or numbered(place)
    return free(identity, str(row.get("subject") or ""), row["problem"], row["answer"], str(row.get("solution") or ""))
