"""A conversation line by line: what it keeps, what it leaves out, and how it ends."""

from __future__ import annotations

import copy
import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import c2c
from c2c import FuserStack
from c2c.agents.chat_pipeline import ChatPipeline, converse, lines_of
from c2c.checkpoints.checkpoint import save_stack
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair


@pytest.fixture(scope="module")
def pair(tiny_model, chat_receiver, chat_sharer) -> Pair:
    receiver = tiny_model("qwen3", vocab=len(chat_receiver))
    sharer = tiny_model("llama", layers=4, kv_heads=1, head_dim=12, vocab=len(chat_sharer), seed=1)
    return Pair(LoadedModel("receiver", receiver, chat_receiver), LoadedModel("sharer", sharer, chat_sharer))


@pytest.fixture
def stack(pair) -> FuserStack:
    torch.manual_seed(3)
    return FuserStack.between(pair.sharer.model.config, pair.receiver.model.config, hidden_dim=16, intermediate_dim=16)


@pytest.fixture
def pipe(pair, stack) -> ChatPipeline:
    return c2c.pipeline(pair.receiver, pair.sharer, stack)


@pytest.fixture
def folders(pair, stack, tmp_path) -> dict[str, str]:
    """Both models and their Fusers as folders."""
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(tmp_path / loaded.name)
        loaded.tokenizer.save_pretrained(tmp_path / loaded.name)
    save_stack(stack, tmp_path / "fuser", receiver=pair.receiver.description, sharer=pair.sharer.description)
    return {name: str(tmp_path / name) for name in ("receiver", "sharer", "fuser")}


def test_a_conversation_that_outgrows_the_positions_goes_on_without_its_oldest_turns(pipe) -> None:
    said: list[str] = []
    lines = [f"what is the color of home number {number}?" for number in range(12)]
    messages = converse(pipe, lines, say=said.append, max_new_tokens=8)
    assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2)
    assert len(messages) < 2 * len(lines)
    assert messages[-2]["content"] == lines[-1]
    assert messages[-1]["content"] == pipe(messages[:-1], max_new_tokens=8)
    assert said
    assert all("oldest messages are left out" in each for each in said)


def test_a_line_that_is_too_long_alone_is_said_and_the_conversation_goes_on(pipe) -> None:
    said: list[str] = []
    messages = converse(pipe, ["what?", "home " * 400, "where?"], say=said.append, max_new_tokens=4)
    assert [message["content"] for message in messages[::2]] == ["what?", "where?"]
    (only,) = said
    assert "not answered" in only
    assert "128 positions" in only


THINKING = (
    "{% for turn in messages %}<|open|>{{ turn.role }}\n{% if turn.role == 'assistant' %}"
    "{{ turn.content.split('</think>')[-1].lstrip('\n') }}{% else %}{{ turn.content }}{% endif %}<|close|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|open|>assistant\n{% endif %}"
)
"""Leaves the reasoning of earlier answers out, as the templates of Qwen3 and DeepSeek-R1 do."""


@pytest.mark.parametrize("role", ["receiver", "sharer"])
def test_of_an_answer_with_reasoning_the_conversation_keeps_what_the_template_shows(
    pair, stack, role, monkeypatch
) -> None:
    tokenizers = {each: copy.deepcopy(getattr(pair, each).tokenizer) for each in ("receiver", "sharer")}
    tokenizers[role].chat_template = THINKING
    models = [dataclasses.replace(getattr(pair, each), tokenizer=tokenizers[each]) for each in ("receiver", "sharer")]
    pipe = c2c.pipeline(*models, stack)
    written = iter(["<think>\nwhat is red?\n</think>\n\nIt is red.", " blue "])
    own, asked = ChatPipeline.__call__, []

    def answer(self, messages, **options):
        own(self, messages, **options)
        asked.append([each["content"] for each in messages])
        return next(written)

    monkeypatch.setattr(ChatPipeline, "__call__", answer)
    messages = converse(pipe, ["what is the color?", "and of home?"], max_new_tokens=2)
    assert asked[1] == ["what is the color?", "It is red.", "and of home?"]
    assert messages[-1]["content"] == " blue "


def test_the_lines_of_a_stream_end_at_ctrl_c(monkeypatch) -> None:
    class Terminal:
        lines = iter(["what?\n"])

        def readline(self) -> str:
            for line in self.lines:
                return line
            raise KeyboardInterrupt

    assert list(lines_of(Terminal())) == ["what?\n"]


def start(folders, **options) -> subprocess.Popen[bytes]:
    """`c2c chat` as a process of its own; long answers, so that it can be met while it writes."""
    models = ["--receiver", folders["receiver"], "--sharer", folders["sharer"], "--fuser", folders["fuser"]]
    command = [sys.executable, "-m", "c2c.cli", "chat", *map(str, models), "--max-new-tokens", "60"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    # A shell's background job ignores Ctrl-C, and its processes inherit that: a person's command does not.
    return subprocess.Popen(
        command,
        cwd=Path(__file__).parents[1],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **pipes,
        **options,
    )


@pytest.mark.slow
def test_a_reader_that_leaves_and_ctrl_c_end_the_command_without_a_traceback(folders) -> None:
    leaving, stopped = start(folders), start(folders)
    for each in (leaving, stopped):
        each.stdin.write(b"what is home?\n")
        each.stdin.flush()
        assert each.stdout.read(1), "an answer is flushed while it is written"
    leaving.stdout.close()
    leaving.stdin.write(b"and oslo?\n" * 5)
    leaving.stdin.close()
    stopped.send_signal(signal.SIGINT)
    assert leaving.wait(60) == 1
    assert stopped.wait(60) in (0, 130)
    for each in (leaving, stopped):
        assert b"Traceback" not in each.stderr.read()
