"""Readers of data sets by name, as the files of benchmarks and config/training_sets.tsv name them."""

from __future__ import annotations

from benchmarks.readers.base import Outcome, Reader, Row, RowPlace
from benchmarks.readers.chat import chat
from benchmarks.readers.choice import arc, ceval, gpqa, mmlu, mmlu_pro, mmlu_redux, openbookqa
from benchmarks.readers.longbench import longbench, longbench_training
from benchmarks.readers.mathematics import gsm8k, math500

__all__ = ["READERS", "Outcome", "Reader", "Row", "RowPlace"]

QUESTIONS: dict[str, Reader] = {
    "arc": arc,
    "ceval": ceval,
    "gpqa": gpqa,
    "gsm8k": gsm8k,
    "longbench": longbench,
    "longbench_training": longbench_training,
    "math500": math500,
    "mmlu": mmlu,
    "mmlu_pro": mmlu_pro,
    "mmlu_redux": mmlu_redux,
    "openbookqa": openbookqa,
}
"""Rows that are questions of a benchmark, or examples that are asked as one."""

CHATS: dict[str, Reader] = {"chat": chat}
"""Rows that are conversations."""

READERS: dict[str, Reader] = {**QUESTIONS, **CHATS}
