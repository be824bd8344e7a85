"""A run gives every channel the same items and controls, resumes exactly, and refuses what it cannot measure."""

from __future__ import annotations

import itertools
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from c2c.errors import RefusedError
from c2c.models.loading import LoadedModel, load_tokenizer
from c2c.testbed import registry
from c2c.testbed import run as run_module
from c2c.testbed.channel import Message
from c2c.testbed.channels import copied
from c2c.testbed.channels.fused import OnRidge
from c2c.testbed.channels.ridge import RidgeMap
from c2c.testbed.channels.training import curve_point, curve_steps, value_loss
from c2c.testbed.controls import donors, random_like, with_half_of, zeroed
from c2c.testbed.items import write_items
from c2c.testbed.layout import lay_out
from c2c.testbed.models import Receiver
from c2c.testbed.records import COLUMNS, CURVE_COLUMNS
from c2c.testbed.run import Bed, ChannelRun, run_test_bed

STATES = ["ridge", "ridge_int8", "ridge_int4", "subset", "c2c", "c2c_on_ridge", "latent"]
"""Channels that are trained and whose messages have keys and values."""
CODES = ["low_rank", "activation", "activation_places", "concept"]
"""Those whose messages have other tensors."""
TEXTS = ["text", "text_cut"]
CHANNELS = ["identity", "random_states", *STATES, *CODES, *TEXTS]
QUICK = {"steps": 3, "batch_size": 8, "width": 8, "curve_items": 4}


@pytest.fixture
def run(folders, items_folder, tmp_path) -> ChannelRun:
    """All channels, with short trainings."""
    settings = {name: QUICK for name in ("c2c", "c2c_on_ridge", "latent", "concept")} | {"text": {"message_tokens": 6}}
    settings["latent"] = QUICK | {"latent_layers": 2, "latent_width": 4}
    return ChannelRun(
        scale="test",
        pair="tiny",
        seed=0,
        **folders,
        items=items_folder,
        channels=CHANNELS,
        settings=settings,
        output=tmp_path / "records.parquet",
    )


def of_channels(run: ChannelRun, channels: list[str], **more: Any) -> ChannelRun:
    """The run with some of its channels, and their settings alone."""
    settings = {name: values for name, values in run.settings.items() if name in channels}
    return replace(run, channels=channels, **{"settings": settings} | more)


def without_times(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns=["send_ms", "receive_ms", "training_seconds"])


def test_every_channel_gets_every_control_of_its_messages(run, items) -> None:
    run_test_bed(run)
    frame = pd.read_parquet(run.output)
    assert list(frame.columns) == list(COLUMNS)
    messages = frame.groupby("channel")["message"].unique().map(set)
    texts = {"matched", "deranged", "zeroed", "self"}
    codes = texts | {"random", "adapter"}
    states = codes | {"keys", "values"}
    assert messages[STATES].tolist() == [states] * len(STATES)
    assert messages[CODES].tolist() == [codes] * len(CODES)
    assert messages[TEXTS].tolist() == [texts] * len(TEXTS)
    assert messages["identity"] == states - {"adapter"}
    assert messages["receiver"] == messages["full"] == {"none"}
    counts = frame.groupby(["channel", "message"]).size()
    assert (counts == len(items["test"])).all()
    curves = pd.read_csv(run.output.with_suffix(".curves.csv"))
    assert list(curves.columns) == list(CURVE_COLUMNS)
    assert set(curves[curves["channel"] == "c2c"]["step"]) == set(curve_steps(3))


def test_a_hand_over_runs_for_one_model_and_is_refused_for_two(run) -> None:
    run_test_bed(of_channels(run, ["layerwise"], sharer=run.receiver))
    messages = set(pd.read_parquet(run.output).query("channel == 'layerwise'")["message"])
    assert messages == {"matched", "deranged", "random", "zeroed", "self", "keys", "values"}
    with pytest.raises(RefusedError, match="must be the Receiver's own model"):
        run_test_bed(of_channels(run, ["layerwise"]))


def test_the_identity_channel_reaches_own_states(run) -> None:
    run_test_bed(of_channels(run, ["identity"]))
    frame = pd.read_parquet(run.output).set_index(["channel", "message", "id"])
    own, identity = frame.loc["own_states", "matched"], frame.loc["identity", "matched"]
    for one, other in zip(own["option_logps"], identity["option_logps"], strict=True):
        assert list(one) == pytest.approx(list(other), abs=1e-5)


def test_an_interrupted_run_resumes_with_the_same_records(run, monkeypatch, tmp_path) -> None:
    run_test_bed(run)
    whole = pd.read_parquet(run.output)
    other = replace(run, output=tmp_path / "other.parquet")

    class Broken(OnRidge):
        def __init__(self, models) -> None:
            raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setitem(registry.CHANNELS, "c2c_on_ridge", Broken)
        with pytest.raises(KeyboardInterrupt):
            run_test_bed(other)
    run_test_bed(other)
    pd.testing.assert_frame_equal(without_times(whole), without_times(pd.read_parquet(other.output)))


def test_records_do_not_depend_on_the_other_channels_of_a_run(run, tmp_path) -> None:
    run_test_bed(run)
    alone = of_channels(run, ["c2c"], output=tmp_path / "alone.parquet")
    run_test_bed(alone)
    frames = [without_times(pd.read_parquet(path)) for path in (run.output, alone.output)]
    one, other = (frame[frame["channel"] == "c2c"].reset_index(drop=True) for frame in frames)
    pd.testing.assert_frame_equal(one, other)


def test_a_channel_with_other_settings_is_measured_again_and_the_others_are_not(run, capsys) -> None:
    run_test_bed(run)
    capsys.readouterr()
    run_test_bed(replace(run, settings=run.settings | {"c2c": QUICK | {"steps": 2}}))
    printed = capsys.readouterr().err
    assert "ridge: done before" in printed and "c2c: done before" not in printed


def test_an_unknown_channel_is_refused_before_a_model_is_loaded(run) -> None:
    with pytest.raises(RefusedError, match="A channel must be a known name"):
        run_test_bed(of_channels(run, ["rigde"], receiver="nowhere"))


def test_a_model_with_other_weights_at_the_same_place_is_measured_anew(
    run, folders, tiny_model, tmp_path, capsys
) -> None:
    sharer = tmp_path / "sharer"
    shutil.copytree(folders["sharer"], sharer)
    ridge = of_channels(run, ["ridge"], sharer=sharer, messages=("matched",))
    run_test_bed(ridge)
    before = pd.read_parquet(run.output)
    size = len(load_tokenizer(sharer))
    tiny_model("llama", layers=4, kv_heads=1, head_dim=12, vocab=size, seed=9).save_pretrained(sharer)
    capsys.readouterr()
    run_test_bed(ridge)
    assert "done before" not in capsys.readouterr().err
    after = pd.read_parquet(run.output)
    is_ridge = before["channel"] == "ridge"
    assert (before[is_ridge]["answer_logp"] != after[is_ridge]["answer_logp"]).any()


def test_rows_that_were_cut_off_are_measured_again(run) -> None:
    identity = of_channels(run, ["identity"])
    run_test_bed(identity)
    whole = pd.read_parquet(run.output)
    for content in ("{", '{"rows": []}'):
        identity.part("identity").write_text(content)
        run_test_bed(identity)
        pd.testing.assert_frame_equal(without_times(whole), without_times(pd.read_parquet(run.output)))


class Faulty(copied.IdentityChannel):
    """Returns what `fault` makes of right messages or answers."""

    messages = answers = staticmethod(lambda values: values)

    def send(self, contexts):
        return self.messages(super().send(contexts))

    def receive(self, messages, prompts):
        return self.answers(super().receive(messages, prompts))


@pytest.mark.parametrize(
    ("part", "fault", "rule"),
    [
        ("messages", lambda values: values[:-1], "must send one message for each"),
        ("messages", lambda values: None, "must send a list of Message"),
        ("messages", lambda values: [Message({"keys": torch.ones(3)})] * len(values), "axes tokens and features"),
        ("messages", lambda values: [Message({"keys": torch.ones(3, 3) / 0})] * len(values), "finite numbers"),
        ("answers", lambda values: values[:-1], "one answer for each"),
        ("answers", lambda values: [replace(v, option_logps=v.option_logps[:2]) for v in values], "4 option_logps"),
        ("answers", lambda values: [replace(v, value_logp=math.nan) for v in values], "must be finite"),
    ],
)
def test_what_a_channel_returns_wrongly_is_refused_and_not_recorded(run, monkeypatch, part, fault, rule) -> None:
    channel = type("FaultyOnce", (Faulty,), {part: staticmethod(fault)})
    monkeypatch.setitem(registry.CHANNELS, "faulty", channel)
    with pytest.raises(RefusedError, match=rule):
        run_test_bed(of_channels(run, ["faulty"]))
    assert not run.output.exists()


def test_an_error_in_a_channel_says_in_which_and_with_which_message(run, monkeypatch) -> None:
    def fail(values):
        raise KeyError("lost")

    monkeypatch.setitem(registry.CHANNELS, "faulty", type("Failing", (Faulty,), {"answers": staticmethod(fail)}))
    with pytest.raises(KeyError) as failure:
        run_test_bed(of_channels(run, ["faulty"]))
    assert failure.value.__notes__ == ["in the channel faulty, message matched"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"settings": {"c3c": {"steps": 3}}}, "A channel in --settings must be a known name"),
        ({"settings": {"c2c": {"stepz": 3}}}, "A setting of the channel c2c must be a known name"),
        ({"settings": {"c2c": {"steps": "three"}}}, "must be of the type int"),
        ({"settings": {"c2c": {"steps": 0}}}, "steps must be a whole number"),
        ({"settings": {"c2c": {"variant": "fulll"}}}, "variant must be a known name"),
        ({"settings": {"ridge": {"steps": 3}}}, "must have some; ridge has none"),
        ({"test_items": -3}, "--test-items must be at least 0"),
        ({"seed": -1}, "The seed must be 0 to"),
        ({"output": Path("records.csv")}, "--output must end with .parquet"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_a_model_is_loaded(run, change, rule) -> None:
    with pytest.raises(RefusedError, match=rule):
        run_test_bed(replace(run, **{"receiver": "nowhere"} | change))


def test_items_of_the_test_in_the_training_are_refused(run, items) -> None:
    write_items(run.items / "train.jsonl", [*items["train"], items["test"][0]])
    with pytest.raises(RefusedError, match="values of the test items must be in no train item"):
        run_test_bed(run)


def test_a_place_that_holds_the_last_token_is_refused(pair, items) -> None:
    item = items["test"][0]
    end = len(item.prompt)
    places = tuple(replace(place, receiver=(end - 1, end)) for place in item.places)
    with pytest.raises(RefusedError, match="must end before the last token"):
        lay_out(replace(item, places=places), pair.receiver)


# The closed form


def test_a_closed_form_predicts_a_linear_map_and_its_held_out_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 8, generator=generator)
    outputs = inputs @ torch.randn(8, 5, generator=generator) + 3
    fit = RidgeMap.fit(inputs, outputs)
    assert fit.explained > 0.99
    torch.testing.assert_close(fit(inputs), outputs, rtol=0.05, atol=0.05)


def test_held_out_predictions_are_those_of_a_fit_without_the_row(monkeypatch) -> None:
    monkeypatch.setattr("c2c.testbed.channels.ridge.PENALTIES", (0.1,))
    generator = torch.Generator().manual_seed(1)
    inputs, outputs = torch.randn(40, 6, generator=generator), torch.randn(40, 3, generator=generator)
    fit = RidgeMap.fit(inputs, outputs)
    # By hand, with the standardisation, the mean of Y and the penalty of all rows, as the formula has it
    rows, centred = fit.inputs, outputs - outputs.mean(0)
    penalty = 0.1 * float((rows @ rows.T).diagonal().mean())
    keep = [number for number in range(40) if number != 7]
    weights = torch.linalg.solve(rows[keep].T @ rows[keep] + penalty * torch.eye(6), rows[keep].T @ centred[keep])
    torch.testing.assert_close(fit.held_out[7], rows[7] @ weights + outputs.mean(0), rtol=1e-3, atol=1e-3)


# Controls


def messages_of(count: int, tokens: int = 1) -> list[Message]:
    generator = torch.Generator().manual_seed(2)
    return [
        Message(
            {
                "keys": torch.randn(2, 3, tokens, 4, generator=generator) * 5 + 1,
                "values": torch.randn(2, 3, tokens, 4, generator=generator),
            }
        )
        for _ in range(count)
    ]


def test_a_donor_has_another_value_and_a_message_of_the_same_shape() -> None:
    messages = [*messages_of(6), *messages_of(4, tokens=2)]
    values = ["a", "b", "a", "c", "b", "d", "a", "b", "c", "d"]
    chosen = donors(messages, [5] * 10, values, seed=0)
    for number, partner in enumerate(chosen):
        assert values[number] != values[partner]
        assert messages[number].shape == messages[partner].shape


def test_an_item_without_a_possible_donor_keeps_its_own_number() -> None:
    assert donors([*messages_of(2), *messages_of(1, tokens=2)], [5, 5, 5], ["a", "b", "c"], seed=0)[2] == 2


def test_random_messages_have_the_moments_of_real_ones() -> None:
    real = messages_of(400)
    drawn = random_like(real, seed=0)
    for name in ("keys", "values"):
        one, other = (torch.stack([m.tensors[name] for m in group]).flatten(0, 0) for group in (real, drawn))
        assert torch.allclose(one.mean(0), other.mean(0), atol=1.0 if name == "keys" else 0.25)
        assert torch.allclose(one.std(0), other.std(0), rtol=0.2)
    assert not torch.equal(real[0].tensors["keys"], drawn[0].tensors["keys"])


def test_zeroed_messages_have_the_size_of_real_ones() -> None:
    for one, other in zip(messages_of(3), zeroed(messages_of(3)), strict=True):
        assert one.size == other.size
        assert not any(tensor.any() for tensor in other.tensors.values())


def test_half_of_a_message_is_exchanged() -> None:
    one, other = messages_of(2)
    mixed = with_half_of(one, other, "values")
    assert torch.equal(mixed.tensors["keys"], one.tensors["keys"])
    assert torch.equal(mixed.tensors["values"], other.tensors["values"])


# Times and curves


def test_the_time_of_an_answer_holds_no_reading_of_the_prompt(run, monkeypatch) -> None:
    clocks: list[str] = []
    timed, read_rows = run_module.timed, Receiver.read_rows

    def timed_in(act, count):
        clocks.append("timed")
        result = timed(act, count)
        clocks.append("done")
        return result

    def read(self, rows):
        clocks.append("reading")
        return read_rows(self, rows)

    monkeypatch.setattr(run_module, "timed", timed_in)
    monkeypatch.setattr(Receiver, "read_rows", read)
    Bed.load(of_channels(run, ["identity"])).bounds()
    assert "reading" in clocks
    assert not any(pair == ("timed", "reading") for pair in itertools.pairwise(clocks))


def test_an_item_without_a_donor_is_no_deranged_point_of_a_curve(pair, items) -> None:
    examples = [lay_out(item, pair.receiver).example for item in items["validation"]]
    channel = copied.IdentityChannel(pair)
    same = [example for example in examples if example.prompt.value == examples[0].prompt.value]
    assert {row["message"] for row in curve_point(channel, same, 0, [], seed=0)} == {"matched", "zeroed"}
    rows = curve_point(channel, examples, 0, [], seed=0)
    assert {row["message"] for row in rows} == {"matched", "deranged", "zeroed"}


@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral"])
def test_the_loss_of_a_training_is_that_of_the_answers(tiny_model, tokenizer, items, family) -> None:
    loaded = LoadedModel("receiver", tiny_model(family, vocab=len(tokenizer)), tokenizer)
    receiver = Receiver(loaded)
    prompts = [lay_out(item, receiver).prompt for item in items["test"][:4]]
    # Prompts of several lengths, all longer than a window
    prompts += [replace(p, text=f"ada {p.text}", tokens=(p.tokens[0], *p.tokens)) for p in prompts[:2]]
    loss = value_loss(receiver, prompts, receiver.prefixes(prompts))
    answers = receiver.answer(prompts)
    assert float(loss) == pytest.approx(-sum(a.value_logp for a in answers) / len(answers), abs=1e-4)
