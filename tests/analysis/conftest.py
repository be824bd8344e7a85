"""The tiny pair of the evaluation's tests, and runs of analyses on it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.evaluation.conftest import benchmark_files, chat_pair, fuser, pair, questions, words

__all__ = ["benchmark_files", "chat_pair", "fuser", "pair", "questions", "words"]


@pytest.fixture
def settings(pair, fuser, benchmark_files, tmp_path) -> dict[str, Any]:
    """Fields of an AnalysisRun that asks all eight questions of `choice`."""
    tasks, files = benchmark_files
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(tmp_path / loaded.name)
        loaded.tokenizer.save_pretrained(tmp_path / loaded.name)
    return {
        "scale": "smoke", "pair": "tiny", "receiver": str(tmp_path / "receiver"), "sharers": [str(tmp_path / "sharer")],
        "tasks": tasks, "benchmarks": {"choice": files["choice"]}, "questions": 8, "token_budget": 300,
        "output": tmp_path / "records.parquet",
    }  # fmt: skip


@pytest.fixture
def fused_settings(settings, fuser) -> dict[str, Any]:
    """The same with the fuser."""
    return settings | {"fusers": [fuser], "recipe": "c2c", "alignment": "span", "seed": 0}


@pytest.fixture
def examples(benchmark_files, tmp_path, words):
    """A file of six other questions of `choice`, half of them of each subset."""
    docs = [
        {
            "id": f"shot{n}",
            "subset": "even" if n % 2 == 0 else "odd",
            "question": f"what is the {words[n]}",
            "answer": words[n % 4],
            "options": words[:4],
        }
        for n in range(6)
    ]
    path = tmp_path / "examples.jsonl"
    path.write_text("\n".join(map(json.dumps, docs)))
    return path
