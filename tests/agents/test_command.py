"""``c2c hand-over``: the same answer as the library's, with caches that are signed on their way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from c2c.checkpoints.sharer_cache import MANIFEST
from c2c.cli.main import main
from tests.agents.conftest import FACTS, QUESTION, Trio

KEY = "k" * 32


@pytest.fixture
def flags(trio: Trio, tmp_path) -> list[str]:
    """The trio's agents as folders and files."""
    for agent in (trio.carol, trio.alice, trio.bob):
        agent.model.model.save_pretrained(tmp_path / agent.name)
        agent.model.tokenizer.save_pretrained(tmp_path / agent.name)
    for name, facts in FACTS.items():
        (tmp_path / f"{name}.txt").write_text(facts + "\n")
    return [
        *("--receiver", f"carol={tmp_path / 'carol'}"),
        *("--senders", *(f"{name}={tmp_path / name}" for name in FACTS)),
        *("--facts", *(f"{name}={tmp_path / name}.txt" for name in FACTS)),
        *("--fusers", *(f"{name}={folder}" for name, folder in trio.fusers.items())),
        *("--question", QUESTION, "--max-new-tokens", "6"),
    ]


def test_the_command_answers_as_the_library_does_and_signs_the_caches(
    trio: Trio, flags, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("C2C_TEST_KEY", KEY)
    assert main(["hand-over", *flags, "--messages", str(tmp_path / "out"), "--key", "env:C2C_TEST_KEY"]) == 0
    printed = capsys.readouterr()
    assert printed.out == trio.hand_over()(QUESTION, max_new_tokens=6).text + "\n"
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "out").glob(f"*/{MANIFEST}")]
    assert {manifest["envelope"]["sender"] for manifest in manifests} == {"alice", "bob"}
    assert all(manifest["signature"] for manifest in manifests)
    assert not any(KEY.encode() in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        (["--key", "env:C2C_TEST_KEY"], "A key must have messages to sign"),
        (["--facts", "dave=dave.txt"], "Facts must be those of a sender"),
        (["--fusers", "alice"], "--fusers must have the form NAME=VALUE"),
        (["--senders", "alice=a", "alice=b"], "each name once"),
    ],
)
def test_flags_that_do_not_fit_are_refused_before_a_model_is_loaded(flags, more, rule, capsys, monkeypatch) -> None:
    monkeypatch.setattr("c2c.agents.agent.open_model", lambda *_: pytest.fail("a model was loaded"))
    assert main(["hand-over", *flags, *more]) == 2
    assert rule in capsys.readouterr().err


def test_the_command_says_why_an_agent_writes_a_text(trio: Trio, flags, tmp_path, capsys) -> None:
    flags[flags.index("--fusers") + 1 : flags.index("--question")] = [f"bob={Path(trio.fusers['bob'])}"]
    status = main(["hand-over", *flags])
    error = capsys.readouterr().err
    assert "c2c hand-over: alice hands over a text: there are no fusers of this pair" in error
    # The default request does not fit into the 128 positions of the tiny models.
    assert status == 2
