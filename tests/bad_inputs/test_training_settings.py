"""Settings of a training that no training can have."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, get_type_hints

import pytest

from c2c.cli.main import main
from c2c.errors import REFUSED
from c2c.training.config import TrainingConfig, read_steps
from tests.bad_inputs.refusals import refused

NAN, INFINITE = math.nan, math.inf
KINDS = get_type_hints(TrainingConfig)
NUMBERS = [item.name for item in fields(TrainingConfig) if KINDS[item.name] is float]
WHOLE_NUMBERS = [item.name for item in fields(TrainingConfig) if KINDS[item.name] in (int, int | str)]
BAD: list[tuple[str, Any]] = [
    *((name, value) for name in NUMBERS for value in (NAN, INFINITE, -INFINITE, -1.0, "0.1", True, None)),
    *((name, value) for name in WHOLE_NUMBERS for value in (-2, 10**30, 2.5, NAN, "3", True, None)),
    # -1 is that of the seed there.
    *((name, -1) for name in WHOLE_NUMBERS if name != "order_seed"),
    *((name, 0) for name in ("steps", "batch_size", "hidden_dim", "num_layers", "max_length", "learning_rate")),
    ("seed", 2**70),
    ("seed", 2**32),
    ("warmup_ratio", 1.0),
    ("dropout", 1),
    ("final_temperature", 2.0),
    ("micro_batch_size", 257),
    ("keep_steps", (1.0,)),
    ("keep_steps", (10**30,)),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: f"F25 {value!r:.24}")
def test_an_impossible_number_is_refused_by_its_name(name, value) -> None:
    with refused(name):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("seed", 0), ("seed", 2**32 - 1), ("weight_decay", 0), ("dropout", 0)])
def test_the_least_and_the_most_are_taken(name, value) -> None:
    assert getattr(TrainingConfig(**{name: value}), name) == value


@pytest.mark.parametrize("text", ["²", "9" * 5000, "1.5", "-1", "1e3", "x", "1 2"])
def test_a_step_that_is_no_whole_number_is_refused(text) -> None:
    with refused("--keep-steps"):
        read_steps(text)


def test_the_command_refuses_such_a_step_in_one_line_of_ours(capsys) -> None:
    files = [part for name in ("receiver", "sharer", "checkpoints", "output") for part in (f"--{name}", "none")]
    assert main(["train", *files, "--keep-steps", "1;2"]) == REFUSED
    (said,) = capsys.readouterr().err.splitlines()
    assert said == "c2c train: --keep-steps must be whole numbers with commas between; received '1;2'. Write 50,100."
