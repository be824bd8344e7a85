"""A tiny pair whose Fusers, set by hand, carry what the Sharer read: the answer depends on the message."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from c2c.agents.chat_pipeline import ChatPipeline, pipeline
from c2c.checkpoints.checkpoint import save_stack
from c2c.demo.questions import QuestionSet, file_questions
from c2c.demo.session import PageSession
from c2c.fuser.stack import FuserStack
from c2c.models.loading import LoadedModel, load_model
from c2c.storage.formats import write_json
from c2c.storage.manifests import describe_source
from c2c.types import HALVES

QUESTIONS = [
    {"id": "a", "question": "what is the zorvex color", "private": "the zorvex color is red", "answer": "red"},
    {"id": "b", "question": "what is the mubilo home", "private": "the mubilo home is oslo", "answer": "oslo"},
    {"id": "c", "question": "what is the mubilo color", "private": "the mubilo color is blue", "answer": "blue"},
    {"id": "d", "question": "what is the zorvex home", "private": "", "answer": "athens"},
]
ROLES = {"receiver": "first", "sharer": "second"}


def carrying_stack(config) -> FuserStack:
    """Fusers between a model and itself: ``out = receiver + weight · (sharer - receiver)``; one key gate is closed.

    With zeros in place of the inner weights the residual blocks pass on what they read, so that the difference goes
    through. Weights vary with the token.
    """
    width = config.num_key_value_heads * config.head_dim
    stack = FuserStack.between(config, config, hidden_dim=width, intermediate_dim=8, dropout=0.0)
    generator = torch.Generator().manual_seed(0)
    for layer in stack.links:
        fuser = stack.fuser_of(layer)
        for half in HALVES:
            for name, parameter in fuser.named_parameters():
                if name.startswith(half) and (name.endswith(("w2.weight", "bias")) or "logit" in name):
                    parameter.data.zero_()
            fuser.gate_logit(half).data.fill_(-1.0 if (layer, half) == (0, "key") else 1.0)
            fuser.layer(half, "in").weight.data = torch.cat([torch.eye(width), -torch.eye(width)], dim=1)
            fuser.layer(half, "proj_out").weight.data = torch.eye(width)
            head = fuser.layer(half, "scalar_head")
            head.weight.data = torch.randn(head.weight.shape, generator=generator) / width
            head.bias.data.fill_(3.0)
    return stack.eval()


@pytest.fixture(scope="session")
def loaded(tiny_model, word_tokenizer) -> LoadedModel:
    return LoadedModel("model", tiny_model("qwen3", vocab=len(word_tokenizer)), word_tokenizer)


@pytest.fixture(scope="session")
def pipe(loaded) -> ChatPipeline:
    return pipeline(loaded, loaded, carrying_stack(loaded.model.config))


@pytest.fixture(scope="session")
def questions_file(tmp_path_factory) -> Path:
    """Questions with their task next to them."""
    path = tmp_path_factory.mktemp("questions") / "facts.jsonl"
    path.write_text("\n".join(map(json.dumps, QUESTIONS)))
    (path.parent / "facts.yaml").write_text(
        'doc_to_text: "{{question}}"\ndoc_to_target: "{{answer}}"\noutput_type: generate_until\n'
        'dataset_path: json\ntest_split: test\ngeneration_kwargs: {until: ["\\n"], max_gen_toks: 6}\n'
        'metadata: {scoring: exact, t2t_question: "{{private}} {{question}}", t2t_prompt: "{{message}} {{prompt}}"}\n'
    )
    return path


@pytest.fixture(scope="session")
def questions(questions_file) -> QuestionSet:
    return file_questions(questions_file, questions_file.parent, chat=False)


@pytest.fixture(scope="session")
def session(pipe, questions) -> PageSession:
    return PageSession(pipe, questions, chat=False)


@pytest.fixture(scope="session")
def results(loaded, questions_file, tmp_path_factory) -> Path:
    """What a run of the workflow leaves of the pair `tiny`, in a folder with its repository's task files."""
    root = tmp_path_factory.mktemp("repository")
    folder = root / "results" / "smoke"
    for name in ("first", "second"):
        place = folder / "models" / name
        loaded.model.save_pretrained(place)
        loaded.tokenizer.save_pretrained(place)
        manifest = describe_source(place, id=name, revision=name, path=str(place), source="folder")
        write_json(folder / "models" / f"{name}.json", manifest)
    models = {role: load_model(folder / "models" / f"{name}.json") for role, name in ROLES.items()}
    lines = {role: model.description for role, model in models.items()}
    about = {"alignment": "span", "sharer_cache": "own", "seed": 0}
    stack = carrying_stack(loaded.model.config)
    save_stack(stack, folder / "fusers" / "tiny" / "c2c" / "span" / "seed0", **lines, about=about)
    for place in (folder / "data" / "benchmarks", root / "benchmarks" / "tasks" / "facts"):
        place.mkdir(parents=True)
    shutil.copy(questions_file, folder / "data" / "benchmarks")
    shutil.copy(questions_file.with_suffix(".yaml"), root / "benchmarks" / "tasks" / "facts")
    return folder
