"""A pair of tiny models with a fuser whose gates are open, and a benchmark of both kinds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from c2c.checkpoints.checkpoint import save_stack
from c2c.evaluation.answers.answer import Answer
from c2c.evaluation.methods.inputs import MethodInputs
from c2c.evaluation.methods.method import Method
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.tasks import load_tasks, question_of_request
from c2c.evaluation.readers.prompt_memory import PromptMemory
from c2c.fuser.stack import FuserStack
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair

TASK = {
    "dataset_path": "json",
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "metadata": {
        "version": 1,
        "scoring": "exact",
        "t2t_question": "{{question}}",
        "t2t_prompt": "{{message}} {{prompt}}",
        "agents_question": "what {{question}}",
        "agents_prompt": "{{message}} the {{prompt}}",
    },
}


@pytest.fixture
def words(word_tokenizer) -> list[str]:
    return sorted(word for word in word_tokenizer.get_vocab() if word.isalpha())


@pytest.fixture
def pair(tiny_model, word_tokenizer) -> Pair:
    vocab = len(word_tokenizer)
    receiver = tiny_model("qwen3", vocab=vocab)
    sharer = tiny_model("llama", vocab=vocab, layers=4, seed=1)
    return Pair(LoadedModel("receiver", receiver, word_tokenizer), LoadedModel("sharer", sharer, word_tokenizer))


@pytest.fixture
def fuser(pair, tmp_path) -> str:
    torch.manual_seed(0)
    stack = FuserStack.between(pair.sharer.model.config, pair.receiver.model.config, hidden_dim=16, intermediate_dim=16)
    for layer in stack.links:
        for half in ("key", "value"):
            stack.fuser_of(layer).gate_logit(half).data.fill_(1.0)
            stack.fuser_of(layer).get_submodule(f"{half}_proj_out").weight.data.mul_(8)
    lines = {"receiver": pair.receiver.description, "sharer": pair.sharer.description}
    save_stack(stack, tmp_path / "fuser", **lines, about={"alignment": "span", "sharer_cache": "own"})
    return str(tmp_path / "fuser")


@pytest.fixture
def chat_pair(tiny_model, chat_receiver, chat_sharer) -> Pair:
    receiver = tiny_model("qwen3", vocab=len(chat_receiver))
    sharer = tiny_model("llama", vocab=len(chat_sharer), layers=4, seed=1)
    for model in (receiver, sharer):
        model.config.max_position_embeddings = 512
    return Pair(LoadedModel("receiver", receiver, chat_receiver), LoadedModel("sharer", sharer, chat_sharer))


@pytest.fixture
def chat_fuser(chat_pair, tmp_path) -> str:
    torch.manual_seed(0)
    configs = (chat_pair.sharer.model.config, chat_pair.receiver.model.config)
    stack = FuserStack.between(*configs, hidden_dim=16, intermediate_dim=16)
    for layer in stack.links:
        for half in ("key", "value"):
            stack.fuser_of(layer).gate_logit(half).data.fill_(1.0)
            stack.fuser_of(layer).get_submodule(f"{half}_proj_out").weight.data.mul_(8)
    lines = {"receiver": chat_pair.receiver.description, "sharer": chat_pair.sharer.description}
    save_stack(stack, tmp_path / "fuser", **lines, about={"alignment": "span", "sharer_cache": "own"})
    return str(tmp_path / "fuser")


@pytest.fixture
def benchmark_files(tmp_path, words) -> tuple[Path, dict[str, Path]]:
    """A folder with the tasks `free` and `choice`, and their eight questions of different lengths."""
    docs = [
        {
            "id": f"q{n}",
            "subset": "even" if n % 2 == 0 else "odd",
            "question": " ".join(words[(n + k) % len(words)] for k in range(3 + n)),
            "answer": words[n % 4],
            "options": words[:4],
        }
        for n in range(8)
    ]
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    free = {**TASK, "output_type": "generate_until", "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6}}
    choice = {**TASK, "output_type": "multiple_choice", "doc_to_choice": "{{options}}"}
    choice["doc_to_target"] = "{{options.index(answer)}}"
    choice["metadata"] = {**TASK["metadata"], "scoring": "likelihood"}
    files = {}
    for name, task in (("free", free), ("choice", choice)):
        (tasks / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **task}))
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("\n".join(json.dumps(doc) for doc in docs))
    return tasks, files


@pytest.fixture
def questions(benchmark_files) -> dict[str, list[Question]]:
    tasks, files = benchmark_files
    found = {}
    for name, task in load_tasks(tasks, files)["tasks"].items():
        task.build_all_requests()
        asked = {request.doc_id: question_of_request(task, request) for request in task.instances}
        options = tuple(f" {option}" for option in task.doc_to_choice(asked[0].doc)) if name == "choice" else ()
        found[name] = [replace(question, options=options) for question in asked.values()]
    return found


def fused_method(name: str, pair: Pair, fuser: str, memory: PromptMemory | None = None) -> Method:
    """The method of this name as a run builds it, with the caches in `memory` if there is one."""
    inputs = MethodInputs(pair.receiver, [pair.sharer], [fuser])
    inputs.memories = [memory]
    return inputs.build(name)


def ask(method: Method, questions: list[Question], token_budget: int) -> list[Answer]:
    """A method's answers to questions that it has not seen, none of which fails."""
    for each in (method, *(part for part in vars(method).values() if isinstance(part, Method))):
        each.token_budget, each.answers = token_budget, {}
    answers = method.answer(questions)
    assert all(answer.error is None for answer in answers), answers[0].error
    return answers
