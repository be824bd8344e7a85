"""`c2c chat` with several methods: each line is answered by all, each with a conversation of its own."""

from __future__ import annotations

import io
import json

import pytest

import c2c
from c2c import FuserStack
from c2c.agents.chat_pipeline import ChatPipeline
from c2c.agents.side_by_side import converse_side_by_side, respondents_of
from c2c.checkpoints.checkpoint import save_stack
from c2c.cli.main import main
from c2c.errors import REFUSED
from c2c.models.loading import LoadedModel
from tests.conftest import build_model


@pytest.fixture(scope="module")
def pipe(chat_receiver, chat_sharer) -> ChatPipeline:
    receiver = LoadedModel("receiver", build_model("qwen3", vocab=len(chat_receiver)), chat_receiver)
    other = build_model("llama", layers=4, kv_heads=1, head_dim=12, vocab=len(chat_sharer), seed=1)
    sharer = LoadedModel("sharer", other, chat_sharer)
    # A text of the Sharer needs more room than the tiny models have.
    for loaded in (receiver, sharer):
        loaded.model.config.max_position_embeddings = 1024
    shapes = (other.config, receiver.model.config)
    stack = FuserStack.between(*shapes, hidden_dim=16, intermediate_dim=16)
    return c2c.pipeline(receiver, sharer, stack)


@pytest.fixture(scope="module")
def flags(pipe, tmp_path_factory) -> list[str]:
    """The pair of the command, in folders."""
    folder = tmp_path_factory.mktemp("models")
    pair = pipe.pair
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(folder / loaded.name)
        loaded.tokenizer.save_pretrained(folder / loaded.name)
    descriptions = {"receiver": pair.receiver.description, "sharer": pair.sharer.description}
    save_stack(pipe.model.stacks[0], folder / "fuser", **descriptions)
    return [part for name in ("receiver", "sharer", "fuser") for part in (f"--{name}", str(folder / name))]


def test_the_receiver_alone_answers_as_a_pair_whose_gates_are_closed(pipe) -> None:
    respondents = respondents_of(pipe, ["receiver", "c2c"])
    turns = [{"role": "user", "content": "what is red?"}]
    first, second = (respondent(turns, max_new_tokens=8) for respondent in respondents.values())
    assert first == second


def test_each_method_keeps_a_conversation_of_its_own_over_several_turns(pipe) -> None:
    respondents = respondents_of(pipe, ["receiver", "t2t", "c2c"])
    names: list[str] = []
    options = {"announce": names.append, "say": names.append, "max_new_tokens": 2}
    conversations = converse_side_by_side(respondents, ["what?", " ", "where?"], **options)
    assert names == ["receiver", "t2t", "c2c"] * 2
    for messages in conversations.values():
        assert [message["content"] for message in messages[::2]] == ["what?", "where?"]
        assert [message["role"] for message in messages] == ["user", "assistant"] * 2


def test_in_t2t_the_receiver_reads_what_the_sharer_wrote(pipe, monkeypatch) -> None:
    respondent = respondents_of(pipe, ["t2t"])["t2t"]
    contents: list[str] = []
    align = respondent.aligner.align

    def watch(messages, **options):
        contents.append(messages[-1]["content"])
        return align(messages, **options)

    monkeypatch.setattr(respondent.aligner, "align", watch)
    monkeypatch.setattr(respondent, "sharer", lambda turns, **options: " it is red ")
    respondent([{"role": "user", "content": "what?"}], max_new_tokens=1)
    (content,) = contents
    assert "it is red" in content and "what?" in content


def test_the_answers_of_all_methods_to_a_message_are_printed_as_json(flags, capsys) -> None:
    words = ["--message", "what?", "--max-new-tokens", "2", "--methods", "receiver", "t2t", "c2c"]
    assert main(["chat", *flags, *words, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["receiver", "t2t", "c2c"]


def test_each_answer_to_a_line_begins_with_its_method(flags, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("what?\n"))
    assert main(["chat", *flags, "--max-new-tokens", "2", "--methods", "receiver", "c2c"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("receiver: ") and second.startswith("c2c: ")


@pytest.mark.parametrize(
    ("words", "rule"),
    [(["--json"], "--json must have a message"), (["--message", "x", "--methods", "tt"], "Did you mean 't2t'")],
)
def test_a_chat_that_cannot_be_meant_is_refused_before_a_model_is_loaded(words, rule, capsys) -> None:
    assert main(["chat", "--receiver", "none", "--sharer", "none", "--fuser", "none", *words]) == REFUSED
    assert rule in capsys.readouterr().err
