"""The preflight says which tokens can carry a value, and what a probe reads from the Sharer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from c2c.cli.main import main
from c2c.errors import RefusedError
from c2c.testbed import carrier
from c2c.testbed.carrier import (
    COMMON,
    CarrierTask,
    examine_carriers,
    probe,
    recommendation,
    span_in_full,
    written_states,
)
from c2c.testbed.layout import lay_out
from tests.testbed.conftest import VALUES


@pytest.fixture(scope="module")
def frame(pair, items) -> pd.DataFrame:
    return examine_carriers(pair, items["train"]).set_index(["text", "token"])


def test_tokens_are_named_by_text_number_and_place(frame) -> None:
    names = list(frame.loc["receiver"].index)
    assert names[:2] == ["none", "all"]
    assert names[2:] == ["is", "the value", ".", "Question", ":", "color (2)", "is (2)", "what", "?", "Answer"]
    assert list(frame.loc["sharer"].index) == ["is", "the value", "."]
    assert frame["place"].sum() == 2


def test_own_states_of_the_token_before_the_value_change_no_answer(frame) -> None:
    none = frame.loc[("receiver", "none"), "copied"]
    assert frame.loc[("receiver", "is"), "copied"] == none


def test_own_states_at_the_place_are_those_of_the_bound_and_of_the_value_written_there(pair, items) -> None:
    task = CarrierTask.of(pair, items["train"])
    own = carrier.own_states(task)
    at = carrier.common_tokens(task.tokens)["the value"]
    written = written_states(task, at)
    for number, item in enumerate(items["train"]):
        (bound,) = pair.receiver.states([lay_out(item, pair.receiver).own])
        place = [token.name for token in task.tokens[number]].index("the value")
        assert torch.allclose(own[number][:, :, :, [place]], bound, atol=1e-5)
        assert torch.allclose(written[number], bound, atol=1e-4)


def test_a_value_can_be_written_at_any_token(pair, items) -> None:
    task = CarrierTask.of(pair, items["train"])
    item = items["train"][3]
    number = next(token.number for token in task.tokens[3] if token.name == "what")
    at = carrier.common_tokens(task.tokens)["what"]
    ids = [*task.prompts[3].tokens[:number], *carrier._value_tokens(pair.receiver, item.value)]
    layers = pair.receiver.read_rows([ids])
    values = torch.stack([value[0, :, -1] for _, value in layers])
    assert torch.allclose(written_states(task, at)[3][:, 1, :, 0], values, atol=1e-4)


def test_a_probe_reads_a_value_that_states_hold_and_no_other(pair, items, monkeypatch) -> None:
    task = CarrierTask.of(pair, [item for split in items.values() for item in split])
    # Values of few dimensions, so that a map that was fitted to some of them holds for the others.
    codes = {value: torch.randn(4, generator=torch.Generator().manual_seed(n)) for n, value in enumerate(VALUES)}
    monkeypatch.setattr(carrier, "embeddings_of", lambda task: codes)
    holding = {number: codes[item.value].view(1, 2, 1, 1, 2) for number, item in enumerate(task.items)}
    empty = {number: torch.zeros_like(states) for number, states in holding.items()}
    assert np.mean(probe(task, holding)) > 0.9
    assert np.mean(probe(task, empty)) < 0.5


def test_no_value_is_in_two_folds_of_the_probe(pair, items, monkeypatch) -> None:
    task, fitted = CarrierTask.of(pair, items["train"]), []
    fit = carrier.RidgeMap.fit

    def spy(inputs: torch.Tensor, outputs: torch.Tensor) -> carrier.RidgeMap:
        fitted.append(outputs)
        return fit(inputs, outputs)

    monkeypatch.setattr(carrier.RidgeMap, "fit", spy)
    codes = carrier.embeddings_of(task)
    probe(task, {number: torch.randn(2, 2, 1, 1, 4) for number in range(len(task.items))})
    values = [{value for value, code in codes.items() if (code == outputs).all(1).any()} for outputs in fitted]
    assert len(values) > 1 and all(len(rest) < 6 for rest in values)
    assert set.intersection(*values) == set()


def test_characters_of_the_prompt_are_found_in_the_unredacted_text(items) -> None:
    item = next(item for item in items["train"] if item.value == "green")
    start = item.prompt.index("what")
    assert item.full_prompt[slice(*span_in_full(item, start, start + 4))] == "what"
    assert item.full_prompt[slice(*span_in_full(item, *item.places[0].receiver))] == " green"
    line = replace(item, prompt=item.question, full_prompt=f"A line. {item.question}", places=())
    assert line.full_prompt[slice(*span_in_full(line, 1, 9))] == item.question[1:9]
    with pytest.raises(RefusedError, match="with a text before it"):
        span_in_full(replace(line, full_prompt="Other words, as many as before."), 1, 9)


def test_tokens_that_few_items_have_are_no_rows(pair, items) -> None:
    task = CarrierTask.of(pair, items["train"])
    common = carrier.common_tokens(task.tokens)
    assert "ada" not in common
    assert all(len(at) >= COMMON * len(task.items) for at in common.values())


def test_too_few_values_are_refused_with_the_remedy(pair, items) -> None:
    few = [item for item in items["train"] if item.value in ("red", "blue")]
    with pytest.raises(RefusedError, match=r"5 different values.*--questions"):
        examine_carriers(pair, few)


def test_items_without_options_are_asked_with_the_values_of_others(pair, items) -> None:
    free = [replace(item, options=(), answer=None) for item in items["train"]]
    task = CarrierTask.of(pair, free)
    assert all(len(set(prompt.options)) == 4 for prompt in task.prompts)
    assert all(
        prompt.options[answer] == prompt.value for prompt, answer in zip(task.prompts, task.answers, strict=True)
    )
    assert len(set(task.answers)) > 1


def rows(**accuracies: dict[str, float]) -> pd.DataFrame:
    lines = [carrier._row("receiver", "none", False, copied=[True, False, False, False] * 25)]
    for token, values in accuracies.items():
        hits = {
            name: [True] * round(100 * share) + [False] * round(100 - 100 * share) for name, share in values.items()
        }
        lines.append(carrier._row("sharer" if "probe" in values else "receiver", token, False, **hits))
    return pd.DataFrame(lines)


def test_the_recommendation_names_the_best_token_of_each_text_or_says_that_there_is_none(items) -> None:
    good = rows(question={"copied": 0.3, "written": 0.3}, what={"copied": 0.3, "written": 0.8}, value={"probe": 0.7})
    text = recommendation(good, items["train"])
    assert "Fuse at the token “what”:" in text and "80 %" in text and "token “value”," in text and "70 %" in text
    deaf = rows(what={"copied": 0.26, "written": 0.25}, value={"probe": 0.7})
    assert "No token of the prompt carries the value" in recommendation(deaf, items["train"])
    mute = rows(what={"copied": 0.9, "written": 0.8}, value={"probe": 0.2})
    assert "no token of the Sharer's text holds the value" in recommendation(mute, items["train"])


def test_the_command_prints_the_table_and_writes_it(pair, items_folder, tmp_path, capsys) -> None:
    for name, reader in (("receiver", pair.receiver), ("sharer", pair.sharer)):
        reader.model.save_pretrained(tmp_path / name)
        reader.tokenizer.save_pretrained(tmp_path / name)
    models = ["--receiver", str(tmp_path / "receiver"), "--sharer", str(tmp_path / "sharer")]
    items = ["--items", str(items_folder / "train.jsonl"), "--output", str(tmp_path / "carrier.csv")]
    assert main(["analyse", "carrier", *models, *items]) == 0
    shown = capsys.readouterr().out
    assert "the value" in shown and ("Fuse at" in shown or "No token of the prompt" in shown)
    assert len(pd.read_csv(tmp_path / "carrier.csv")) == 15
    assert (tmp_path / "carrier.csv.provenance.json").is_file()


def test_a_text_before_the_prompt_keeps_all_tokens_and_a_place_without_the_value_its_number(pair, items) -> None:
    item = items["train"][0]
    start = item.question.index("what")
    shift = len("ada color is red.")
    place = replace(item.places[0], receiver=(start - 1, start + 4), full=(start - 1 + shift, start + 4 + shift))
    line = replace(item, prompt=item.question, full_prompt=f"ada color is red.{item.question}", places=(place,))
    assert carrier.reads_before(line) and not carrier.reads_before(item)
    task = CarrierTask.of(pair, [replace(line, value=value, options=(), answer=None) for value in VALUES[:6]])
    assert [token.name for token in task.tokens[0]] == ["Question", ":", "ada", "color", "is", "place 1", "?", "Answer"]
