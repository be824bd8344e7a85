"""A device that this machine lacks is refused by name wherever a model is loaded, before it is."""

from __future__ import annotations

import pytest
import torch

import c2c
from c2c.cli.main import main
from c2c.errors import REFUSED
from c2c.models.loading import check_device, load_causal_model, load_model
from tests.bad_inputs.refusals import refused
from tests.conftest import build_model

ABSENT = ["foo", "meta", "cuda:77", "cpu:x", "", *([] if torch.cuda.is_available() else ["cuda"])]


@pytest.mark.parametrize("device", ABSENT)
def test_an_absent_device_is_refused_before_a_model_is_looked_for(device) -> None:
    for load in (load_causal_model, load_model):
        with refused("device", repr(device)):
            load("nowhere", device=device)
    with refused("device", repr(device)):
        c2c.pipeline("nowhere", "nowhere", "nowhere", device=device)


@pytest.mark.parametrize("device", ABSENT)
def test_the_command_refuses_an_absent_device(device, capsys) -> None:
    models = ["--receiver", "nowhere", "--sharer", "nowhere", "--fuser", "nowhere", "--message", "hello"]
    assert main(["chat", *models, "--device", device]) == REFUSED
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("c2c chat: device must be") and repr(device) in said


@pytest.mark.parametrize("device", ["foo", "", [], 1.5])
def test_a_word_that_is_no_device_is_refused_of_a_model_in_memory(device) -> None:
    with refused("device"):
        load_causal_model(build_model("qwen2"), device=device)


def test_a_device_that_is_here_is_taken_in_any_form() -> None:
    assert {str(check_device(each)) for each in (None, "cpu", torch.device("cpu"))} == {"cpu"}
