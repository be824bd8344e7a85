"""What a person sees of a training: a bar in a terminal, one line in every so many steps elsewhere, nothing twice."""

from __future__ import annotations

import re
import sys

import pytest

from c2c.training import progress_bar
from c2c.training.progress_bar import ProgressBar

ROW = {"loss": 0.5, "open_gates": 0.25, "temperature": None, "step": 7, "validation_loss": 0.75}


def shown(capsys, steps: int, done: int = 0, **options) -> str:
    with ProgressBar(steps, done, **options) as bar:
        for _ in range(steps - done):
            bar.advance(ROW, 10, progress_bar.time.perf_counter())
        bar.validated(ROW)
    return capsys.readouterr().err


@pytest.mark.parametrize(("done", "first"), [(0, [1, 4, 8]), (9, [10, 12, 16])])
def test_without_a_terminal_there_is_a_line_every_few_steps_and_for_the_first_and_the_last(capsys, done, first) -> None:
    text = shown(capsys, 4 * progress_bar.LINES - 2, done)
    steps = [int(number) for number in re.findall(r"^step (\d+) of 398: loss 0.500", text, re.MULTILINE)]
    assert steps[:3] == first and steps[-2:] == [396, 398]
    assert "validation loss 0.7500" in text


def test_the_time_left_is_that_of_the_steps_to_come_at_the_speed_of_this_start(capsys, monkeypatch) -> None:
    now = iter(range(0, 10_000, 60))
    monkeypatch.setattr(progress_bar.time, "perf_counter", lambda: next(now))
    text = shown(capsys, 110, done=108)
    # A minute passes at each look at the clock: the first line is written after two, with one step to come.
    line = next(line for line in text.splitlines() if line.startswith("step 109"))
    assert re.search(r", 0?[12]:00 left$", line)
    assert text.count("00:00 left") == 1


def test_steps_that_are_shown_together_have_the_speed_of_their_own_time(capsys, monkeypatch) -> None:
    monkeypatch.setattr(progress_bar.time, "perf_counter", lambda: 0.0)
    with ProgressBar(4, 0) as bar:
        for step in range(1, 5):
            bar.advance(ROW, 10, clock=2.0 * step)
    assert re.findall(r"(\d+) tokens/s", capsys.readouterr().err) == ["5"] * 4


def test_in_a_terminal_there_is_a_bar_and_no_line_a_step(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    text = shown(capsys, 3)
    assert "step 1 of 3" not in text and re.search(r"100%.*3/3.*loss 0.500, \d+ tokens/s", text)
    assert "validation loss 0.7500" in text


def test_a_process_that_is_not_the_first_says_nothing(capsys) -> None:
    assert shown(capsys, 3, show=False) == ""
