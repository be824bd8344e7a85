"""Stop strings that are no texts, or empty, are refused by name before anything is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import c2c
from c2c import FuserStack, generate_kv_cache_index
from c2c.agents.chat_pipeline import ChatPipeline
from c2c.evaluation.questions.tasks import load_tasks
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from tests.bad_inputs.refusals import refused

BAD: dict[str, Any] = {
    "G11 an empty stop string": [""],
    "G11 an empty one among others": ["x", ""],
    "G12 a number": 5,
    "a number among texts": ["x", 5],
    "bytes": b"x",
    "a mapping": {"x": 1},
    "a list of lists": [["x"]],
}
CASES = pytest.mark.parametrize("stops", BAD.values(), ids=BAD)


@pytest.fixture(scope="module")
def pipe(tiny_model, chat_receiver) -> ChatPipeline:
    models = [tiny_model("qwen3", vocab=len(chat_receiver)), tiny_model("llama", vocab=len(chat_receiver), seed=1)]
    pair = Pair(*(LoadedModel("m", model, chat_receiver) for model in models))
    stack = FuserStack.between(models[1].config, models[0].config, hidden_dim=16, intermediate_dim=16)
    return c2c.pipeline(pair.receiver, pair.sharer, stack)


@CASES
def test_a_pipeline_refuses_them(stops, pipe) -> None:
    for ask in (pipe, pipe.complete):
        with refused("stop"):
            ask("what is red?", stop=stops)


@CASES
def test_generation_refuses_them(stops, pipe) -> None:
    ids = torch.tensor([[5, 6, 7]])
    with refused("stop_strings"):
        pipe.model.generate(
            generate_kv_cache_index(2, 1), ids, stop_strings=stops, tokenizer=pipe.pair.receiver.tokenizer
        )


@CASES
def test_a_task_file_with_them_is_refused(stops, tmp_path: Path) -> None:
    if isinstance(stops, bytes):
        pytest.skip("no YAML of plain types holds bytes")
    metadata = {"version": 1, "scoring": "exact", "t2t_question": "{{q}}", "t2t_prompt": "{{message}} {{prompt}}"}
    task = {
        "task": "mine", "dataset_path": "json", "test_split": "test", "output_type": "generate_until",
        "doc_to_text": "{{q}}", "doc_to_target": "{{a}}", "metadata": metadata,
        "generation_kwargs": {"until": stops, "max_gen_toks": 4},
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(task))
    (tmp_path / "mine.jsonl").write_text(json.dumps({"id": "1", "q": "what is red", "a": "blue"}))
    with refused("until of mine"):
        load_tasks(tmp_path, {"mine": tmp_path / "mine.jsonl"})
