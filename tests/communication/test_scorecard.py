"""The score card: levels follow from intervals, a broken instrument makes it void, and it needs no hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from c2c.errors import RefusedError
from c2c.stats import NO_SEED, OWN_QUESTIONS, Estimate, Spread, holm
from c2c.testbed.card import comparing
from c2c.testbed.card import gate as card_gate
from c2c.testbed.card.bounds import build_bounds
from c2c.testbed.card.comparing import CEILING, LEVELS, NO_EVIDENCE, NOT_PARAMETERS, WITHOUT_ROOM, Findings
from c2c.testbed.card.gains import EQUIVALENT, build_gains
from c2c.testbed.card.records import DERANGED, EXACT, MATCHED, CellIds, MessageRecords, compact, read, write
from c2c.testbed.card.scorecard import build_card
from paper.communication import curves, facts, gate, messages
from paper.reading.messages import load_records, records_of
from tests.communication.simulator import TestBed

WORD, CODE = "redacted_word", "redacted_code"
PAIR = "smollm2_from_coder"


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return TestBed(items=300).records()


@pytest.fixture(scope="module")
def records(frame: pd.DataFrame) -> MessageRecords:
    return records_of(frame)


@pytest.fixture(scope="module")
def card(records: MessageRecords) -> pd.DataFrame:
    return build_card(records)


def row(card: pd.DataFrame, channel: str, task: str = WORD) -> pd.Series:
    return card[(card["channel"] == channel) & (card["task"] == task)].iloc[0]


def estimate(value: float, error: float = 0.5) -> Estimate:
    spread = Spread(error, 0.0, 500.0, 0.0)
    return Estimate(value, value - spread.half_width(), value + spread.half_width(), 500, 1, spread)


def test_a_channel_as_good_as_reading_everything_is_at_the_ceiling(card: pd.DataFrame) -> None:
    assert row(card, "c2c_on_ridge")["level"] == CEILING
    assert row(card, "ridge")["level"] == NOT_PARAMETERS


def test_what_only_bounds_or_checks_the_instrument_has_no_level(card: pd.DataFrame) -> None:
    idle = card["channel"].isin(["receiver", "full", "own_states", "identity", "random_states"])
    assert (card.loc[idle, "level"] == "").all() and (card.loc[~idle, "level"] != "").all()


ABOVE, ZERO = estimate(30.0), estimate(0.0)


@pytest.mark.parametrize(
    ("findings", "level"),
    [
        (Findings(ZERO, ABOVE, ABOVE, ZERO, ABOVE, True), LEVELS[0]),
        (Findings(ABOVE, ZERO, ABOVE, ZERO, ABOVE, True), LEVELS[1]),
        (Findings(ABOVE, ABOVE, ZERO, ZERO, ABOVE, True), LEVELS[2]),
        # An adapter that is not shown to do nothing: too few items to say so.
        (Findings(ABOVE, ABOVE, ABOVE, estimate(0.0, 3.0), ABOVE, True), LEVELS[2]),
        (Findings(ABOVE, ABOVE, None, None, ABOVE, True), LEVELS[2]),
        (Findings(ABOVE, ABOVE, None, None, estimate(-30.0), False), LEVELS[3]),
        (Findings(ABOVE, ABOVE, ABOVE, ZERO, estimate(-30.0), True), LEVELS[3]),
        (Findings(ABOVE, ABOVE, ABOVE, ZERO, ZERO, True), LEVELS[4]),
        (Findings(None, None, None, None, None, True), LEVELS[0]),
    ],
)
def test_a_level_asks_for_all_that_the_levels_before_it_ask_for(findings: Findings, level: str) -> None:
    assert findings.level(2.8) == level


def test_a_gain_that_any_message_brings_is_no_evidence_for_this_message() -> None:
    bed = TestBed(tasks=(WORD,), channels=("identity", "random_states", "c2c"), controls={("c2c", DERANGED): 0.92})
    card = build_card(records_of(bed.records()))
    assert row(card, "c2c")["level"] == "any message helps"


def test_a_channel_without_a_gain_has_no_evidence() -> None:
    bed = TestBed(tasks=(WORD,), channels=("identity", "random_states", "c2c"), rates={"c2c": 0.25})
    assert row(build_card(records_of(bed.records())), "c2c")["level"] == NO_EVIDENCE


def test_a_task_that_the_receiver_answers_alone_cannot_show_communication() -> None:
    bed = TestBed(tasks=(WORD,), channels=("identity", "random_states", "c2c"), rates={"full": 0.4, "own_states": 0.4})
    records = records_of(bed.records())
    card, of_task = build_card(records), build_bounds(records)
    assert (card["level"] == "").all() and (card["reason"] == WITHOUT_ROOM).all()
    assert set(of_task["finding"]) == {WITHOUT_ROOM}


@pytest.mark.parametrize(
    ("rates", "fault"),
    [
        ({"identity": 0.3}, "identity does not reach own_states"),
        ({"random_states": 0.6}, "random_states differs from receiver"),
    ],
)
def test_a_broken_channel_turns_the_gate_red_and_voids_every_cell_of_its_task(rates, fault, tmp_path, capsys) -> None:
    bed = TestBed(tasks=(WORD,), rates=rates)
    records = records_of(bed.records())
    card = build_card(records)
    assert (card["level"] == "").all() and card["reason"].str.startswith("void: ").all()
    assert fault in card["reason"].iloc[0]
    paths = bed.write(tmp_path)
    arguments = ["gate", "--testbed", *map(str, paths), "--output", str(tmp_path / "gate.json")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", arguments)
        assert gate.main() == 1
    assert fault in capsys.readouterr().err and fault in (tmp_path / "gate.json").read_text()


def test_a_sound_instrument_passes_the_gate(tmp_path) -> None:
    paths = TestBed(tasks=(WORD, CODE)).write(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["gate", "--testbed", *map(str, paths), "--output", str(tmp_path / "gate.json")])
        assert gate.main() == 0


def without_need(rates: dict[str, float]) -> MessageRecords:
    """Records of a task whose full text is the Receiver's prompt, which it answers to a half on its own."""
    rates = {"receiver": 0.5, "full": 0.5, "own_states": 0.5, "identity": 0.5} | rates
    bed = TestBed(tasks=(WORD,), channels=("identity", "random_states", "c2c"), rates=rates, items=400)
    frame = bed.records()
    own = frame[frame["channel"] == "receiver"]
    copies = [own.assign(channel="full"), own.assign(channel="own_states", message="matched")]
    if rates["identity"] == 0.5:
        copies.append(own.assign(channel="identity", message="matched"))
        frame = frame[(frame["channel"] != "identity") | (frame["message"] != "matched")]
    return records_of(pd.concat([frame[~frame["channel"].isin(["full", "own_states"])], *copies]))


def test_where_both_models_read_the_same_no_level_is_stated_and_random_states_may_do_harm() -> None:
    records = without_need({"random_states": 0.25})
    assert not records.needs_message("smollm2_from_coder", WORD)
    checks = {check.channel: check for check in card_gate.check_gate(records, 2.8)}
    assert checks["random_states"].result == card_gate.PASSED and checks["random_states"].value < -10
    assert checks["identity"].bound == "receiver" and not checks["identity"].reason
    card = build_card(records)
    assert set(card["reason"]) == {comparing.WITHOUT_NEED} and (card["level"] == "").all()
    assert set(card["gate"]) == {card_gate.PASSED} and set(build_bounds(records)["finding"]) == {comparing.WITHOUT_NEED}


@pytest.mark.parametrize(
    ("rates", "fault"),
    [
        ({"random_states": 0.8}, "random_states differs from receiver"),
        ({"random_states": 0.25, "identity": 0.8}, "identity differs from receiver"),
        ({"random_states": 0.25, "identity": 0.3}, "identity differs from receiver"),
    ],
)
def test_the_gate_is_red_where_copied_states_change_the_receiver_or_random_ones_help_it(rates, fault) -> None:
    reasons = [check.reason for check in card_gate.check_gate(without_need(rates), 2.8)]
    assert any(fault in reason for reason in reasons)


def test_a_task_with_another_full_text_needs_a_message(records: MessageRecords) -> None:
    assert all(records.needs_message(pair, task) for pair, task in records.tasks)


def test_a_gate_that_was_not_run_voids_the_run(frame: pd.DataFrame) -> None:
    checks = card_gate.check_gate(records_of(frame[frame["channel"] != "identity"]), 2.8)
    assert any("identity or own_states was not run" in check.reason for check in checks)


def test_ope_is_the_sum_of_ome_and_cag(records: MessageRecords) -> None:
    gains = build_gains(records).pivot_table(index=["task", "channel", "measure"], columns="gain", values="value")
    assert gains["OPE"].to_numpy() == pytest.approx((gains["OME"] + gains["CAG"]).to_numpy())


def test_equivalence_is_adjusted_over_all_cells_of_a_measure_and_stated_where_its_p_is_small(records) -> None:
    rows = build_gains(records)
    for _, cells in rows.groupby("measure"):
        assert cells["equivalence_holm"].tolist() == pytest.approx(holm(cells["equivalence_p"]), nan_ok=True)
    equivalent = rows["finding"] == EQUIVALENT
    assert equivalent.any() and (rows.loc[equivalent, "equivalence_holm"] <= 0.05).all()
    assert set(rows.loc[rows["equivalence_p"].notna(), "gain"]) == set(comparing.AGAINST_RECEIVER)


def test_fidelity_is_the_share_of_the_room_that_the_message_fills(card: pd.DataFrame) -> None:
    of_card = {name: row(card, name) for name in ("receiver", "full", "ridge")}
    receiver, full, ridge = (of_card[name]["choice_value"] for name in ("receiver", "full", "ridge"))
    assert of_card["ridge"]["of_full_value"] == pytest.approx(100 * (ridge - receiver) / (full - receiver))
    assert row(card, "identity")["of_own_states_value"] == pytest.approx(100)


def test_the_measure_of_a_code_is_the_written_answer(records: MessageRecords, card: pd.DataFrame) -> None:
    assert records.measures(CODE) == [EXACT]
    assert row(card, "ridge", CODE)["measure"] == EXACT


def test_records_are_the_same_after_they_were_written(frame: pd.DataFrame, tmp_path: Path) -> None:
    small = compact(frame[frame["channel"].isin(["receiver", "full", "ridge"])])
    write(small, tmp_path / "one.parquet")
    write(read([tmp_path / "one.parquet"]).sample(frac=1, random_state=1), tmp_path / "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_what_is_committed_gives_the_same_card_up_to_rounding(frame: pd.DataFrame, card: pd.DataFrame) -> None:
    other = build_card(records_of(compact(frame)))
    assert other["level"].tolist() == card["level"].tolist()
    assert other["bits_value"].to_numpy(float) == pytest.approx(card["bits_value"].to_numpy(float), abs=0.02)


def test_a_record_that_is_there_twice_is_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(RefusedError, match="once"):
        records_of(pd.concat([frame, frame.iloc[:1]]))


def altered(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The records with some values in one row of a channel of options."""
    other = frame.copy()
    hit = other.query(f"task == '{WORD}' and channel == 'ridge' and message == 'matched' and correct").index[0]
    for name, value in values.items():
        other.loc[hit, name] = value
    return other


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"correct": False}, "must be correct where its prediction"),
        ({"gold": 7, "prediction": 7}, "must have one right answer"),
        ({"message": "matchd"}, "must be a known one"),
        ({"answer_logp": float("nan")}, "must be finite"),
        ({"id": "another"}, "must have been asked the same items"),
    ],
)
def test_a_changed_record_that_contradicts_itself_or_another_is_refused(frame: pd.DataFrame, values, rule) -> None:
    with pytest.raises(RefusedError, match=rule):
        records_of(altered(frame, **values))


def test_items_that_a_seed_could_not_exchange_are_left_out_of_every_seed(frame: pd.DataFrame) -> None:
    cell = CellIds(PAIR, WORD, "c2c")
    lost = frame[(frame["channel"] == "c2c") & (frame["message"] == DERANGED) & (frame["seed"] == 1)].index[:5]
    part = records_of(frame.drop(lost))
    assert part.answers(cell, DERANGED, "choice").shape == (295, 3)
    assert comparing.gain(part, cell, "CAG", "choice").n == 295


def test_seeds_with_items_of_their_own_are_compared_within_each_seed(frame: pd.DataFrame) -> None:
    own = frame.assign(id=frame["id"] + "-" + frame["seed"].astype(str))
    value = comparing.gain(records_of(own), CellIds(PAIR, WORD, "c2c"), "OPE", "choice")
    whole = comparing.gain(records_of(frame), CellIds(PAIR, WORD, "c2c"), "OPE", "choice")
    assert value.value == pytest.approx(whole.value) and value.seeds == 3


def test_other_right_options_under_the_same_id_tell_that_a_seed_has_items_of_its_own(frame: pd.DataFrame) -> None:
    cell = CellIds(PAIR, WORD, "receiver")
    assert records_of(frame).answers(cell, "none", "choice").columns.tolist() == [NO_SEED]
    shifted = {
        name: frame[name].where((frame["seed"] != 1) | (frame["gold"] < 0), (frame[name] + 1) % 4)
        for name in ("gold", "prediction")
    }
    own = records_of(frame.assign(**shifted))
    answers = own.answers(cell, "none", "choice")
    assert answers.index.name == OWN_QUESTIONS and answers.shape[1] == 3


def test_answers_after_the_training_on_the_most_items_are_on_the_card() -> None:
    bed = TestBed(tasks=(WORD,), channels=("identity", "random_states", "ridge"), item_counts=(64, 2000))
    records = records_of(bed.records())
    cell = CellIds(PAIR, WORD, "ridge")
    by_items = records.by_training_items(cell, MATCHED, "choice")
    assert list(by_items) == [64, 2000]
    assert by_items[2000].equals(records.answers(cell, MATCHED, "choice"))


def test_facts_are_counted_from_the_end_of_the_task_or_of_its_part() -> None:
    assert [facts.facts_of(*ids) for ids in (("redacted_record_4", ""), ("redacted_record", "facts 8"), ("x", ""))] == [
        4,
        8,
        None,
    ]
    bed = TestBed(tasks=("redacted_record",), channels=("ridge",), subsets=("1", "2", "4", "8"))
    rows = facts.build(records_of(bed.records()))
    assert sorted(rows["facts"].unique()) == [1, 2, 4, 8] and {"matched", "deranged", "none"} == set(rows["message"])


def test_curves_have_intervals_over_seeds_and_the_bounds_no_step(tmp_path: Path) -> None:
    bed = TestBed(tasks=(WORD,), channels=("c2c",), items=20)
    paths = bed.write(tmp_path)
    frame = curves.build(load_records(paths), curves.read(path.with_name(f"{path.stem}.curves.csv") for path in paths))
    trained = frame[frame["step"].notna()]
    assert (trained["seeds"] == 3).all() and (trained["low"] <= trained["high"]).all()
    assert {"receiver", "full", "text"} <= set(frame.loc[frame["step"].isna(), "channel"])
    widths = curves.over_seeds(pd.Series([0.1, 0.2, 0.3]))
    assert widths.high - widths.value == pytest.approx(4.3027 * 0.1 / np.sqrt(3), abs=1e-4)


def test_answers_with_a_deranged_message_say_how_often_they_name_the_donors_value(records: MessageRecords) -> None:
    rows = messages.build(records)
    assert (rows["donor_value"].notna() == (rows["message"] == DERANGED)).all()
