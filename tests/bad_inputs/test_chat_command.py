"""What a person at `c2c chat` gets wrong: one line on stderr, and the conversation goes on where it can."""

from __future__ import annotations

import copy
import dataclasses
import io

import pytest

import c2c
from c2c import FuserStack
from c2c.agents.chat_pipeline import ChatPipeline, converse
from c2c.checkpoints.checkpoint import save_stack
from c2c.cli.main import main
from c2c.errors import REFUSED, ModelFaultError, RefusedError
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from tests.bad_inputs.refusals import refused
from tests.conftest import PLAIN_TEMPLATE, build_model

STRICT = "{% if 'red' in messages[-1].content %}{{ raise_exception('nothing red\nis read') }}{% endif %}"


@pytest.fixture(scope="module")
def pair(chat_receiver, chat_sharer) -> Pair:
    receiver = build_model("qwen3", vocab=len(chat_receiver))
    sharer = build_model("llama", layers=4, kv_heads=1, head_dim=12, vocab=len(chat_sharer), seed=1)
    return Pair(LoadedModel("receiver", receiver, chat_receiver), LoadedModel("sharer", sharer, chat_sharer))


@pytest.fixture(scope="module")
def stack(pair) -> FuserStack:
    shapes = (pair.sharer.model.config, pair.receiver.model.config)
    return FuserStack.between(*shapes, hidden_dim=16, intermediate_dim=16)


@pytest.fixture(scope="module")
def flags(pair, stack, tmp_path_factory) -> list[str]:
    """The pair of the command, in folders."""
    folder = tmp_path_factory.mktemp("models")
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(folder / loaded.name)
        loaded.tokenizer.save_pretrained(folder / loaded.name)
    save_stack(stack, folder / "fuser", receiver=pair.receiver.description, sharer=pair.sharer.description)
    return [part for name in ("receiver", "sharer", "fuser") for part in (f"--{name}", str(folder / name))]


def strict(pair: Pair, stack: FuserStack, template: str) -> ChatPipeline:
    tokenizer = copy.deepcopy(pair.receiver.tokenizer)
    tokenizer.chat_template = template
    return c2c.pipeline(dataclasses.replace(pair.receiver, tokenizer=tokenizer), pair.sharer, stack)


def test_a_line_that_is_refused_is_said_in_one_line_and_the_conversation_goes_on(pair, stack) -> None:
    said: list[str] = []
    pipe = strict(pair, stack, STRICT + PLAIN_TEMPLATE)
    messages = converse(pipe, ["what?", "is it red?", "where?"], say=said.append, max_new_tokens=2)
    assert [message["content"] for message in messages[::2]] == ["what?", "where?"]
    (only,) = said
    assert only.startswith("This line is not answered. ") and "nothing red" in only and "\n" not in only


def test_a_model_of_no_use_ends_the_conversation(pair, stack, monkeypatch) -> None:
    def fail(self, messages, **options):
        raise ModelFaultError("Log-probabilities must be numbers", "nan", "Load the model again")

    pipe = c2c.pipeline(pair.receiver, pair.sharer, stack)
    monkeypatch.setattr(ChatPipeline, "__call__", fail)
    with refused("Log-probabilities"):
        converse(pipe, ["what?", "where?"])


def test_what_every_line_would_be_refused_for_is_refused_before_the_first(pair, stack) -> None:
    def lines():
        raise AssertionError("a line is waited for")
        yield

    pipe = c2c.pipeline(pair.receiver, pair.sharer, stack)
    with refused("max_new_tokens"):
        converse(pipe, lines(), max_new_tokens=0)
    with refused("nobody is read"):
        converse(strict(pair, stack, "{{ raise_exception('nobody is read') }}"), lines())
    with refused("chat template"):
        converse(strict(pair, stack, ""), lines())


def test_an_answer_that_the_template_refuses_is_not_remembered(pair, stack, monkeypatch) -> None:
    pipe, said = c2c.pipeline(pair.receiver, pair.sharer, stack), list[str]()

    def forget(pipe, messages, answer):
        raise RefusedError("A template must show an answer", answer, "Use another")

    monkeypatch.setattr("c2c.agents.chat_pipeline._remembered", forget)
    assert converse(pipe, ["what?", "where?"], say=said.append, max_new_tokens=2) == []
    assert len(said) == 2 and all("not remembered" in each for each in said)


def test_a_closed_standard_input_is_refused_before_a_model_is_loaded(monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert main(["chat", "--receiver", "none", "--sharer", "none", "--fuser", "none"]) == REFUSED
    assert "The standard input must be open" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_alone_shows_that_a_line_is_waited_for(terminal, flags, monkeypatch, capsys) -> None:
    stdin = io.StringIO("what?\n\n")
    monkeypatch.setattr(stdin, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["chat", *flags, "--max-new-tokens", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("> ") == (3 if terminal else 0) and "> " not in shown.out


def test_the_remedy_of_another_precision_can_be_followed(flags, capsys) -> None:
    asked = ["--message", "what?", "--max-new-tokens", "2", "--dtype", "float16"]
    assert main(["chat", *flags, *asked]) == REFUSED
    said = capsys.readouterr().err
    assert "--accept-difference" in said
    lines = ["receiver.weights_sha256", "sharer.weights_sha256"]
    assert main(["chat", *flags, *asked, "--accept-difference", *lines]) == 0, capsys.readouterr().err
    assert main(["chat", *flags, *asked, "--accept-difference", "receiver.colour"]) == REFUSED
