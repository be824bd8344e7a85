"""Each command of `c2c`, with each file that it reads spoilt in each way, refuses in one line and leaves no output."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from c2c.errors import REFUSED
from tests.bad_inputs.workshop import COMMANDS, SPOILS, build

CASES = [(command, file, spoil) for command, each in COMMANDS.items() for file in each.inputs for spoil in SPOILS]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory, word_tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("workshop")
    build(folder, word_tokenizer)
    return folder


@pytest.fixture
def out(workshop) -> Path:
    """The folder of outputs, empty before and after a case."""
    shutil.rmtree(workshop / "out", ignore_errors=True)
    yield workshop / "out"
    shutil.rmtree(workshop / "out", ignore_errors=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_ends_well_where_nothing_is_spoilt(command, workshop, out) -> None:
    assert COMMANDS[command].run(workshop) == 0


@pytest.mark.parametrize(("command", "file", "spoil"), CASES, ids=lambda part: part)
def test_a_spoilt_input_is_refused(command, file, spoil, workshop, out, capsys) -> None:
    path = workshop / file
    content = path.read_bytes()
    SPOILS[spoil](path)
    try:
        code = COMMANDS[command].run(workshop)
    finally:
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == REFUSED, message
    assert message.startswith(f"c2c {COMMANDS[command].arguments.split()[0]}: ") and " must " in message
    made = [entry for entry in out.rglob("*") if entry.is_file()] if out.exists() else []
    assert not made, "a refused command leaves an output"
