"""A run gives every channel the same items and controls, resumes exactly, and refuses what it cannot measure."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

from c2c.errors import RefusedError
from c2c.testbed import registry
from c2c.testbed.channel import Message
from c2c.testbed.channels.fused import OnRidge
from c2c.testbed.channels.ridge import RidgeMap
from c2c.testbed.channels.training import curve_steps
from c2c.testbed.controls import donors, random_like, with_half_of, zeroed
from c2c.testbed.layout import lay_out
from c2c.testbed.records import COLUMNS, CURVE_COLUMNS
from c2c.testbed.run import ChannelRun, run_test_bed

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
    run_test_bed(replace(run, sharer=run.receiver, channels=["layerwise"]))
    messages = set(pd.read_parquet(run.output).query("channel == 'layerwise'")["message"])
    assert messages == {"matched", "deranged", "random", "zeroed", "self", "keys", "values"}
    with pytest.raises(RefusedError, match="must be the Receiver's own model"):
        run_test_bed(replace(run, channels=["layerwise"]))


def test_the_identity_channel_reaches_own_states(run) -> None:
    run_test_bed(replace(run, channels=["identity"]))
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
    alone = replace(run, channels=["c2c"], output=tmp_path / "alone.parquet")
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
        run_test_bed(replace(run, channels=["rigde"], receiver="nowhere"))


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
