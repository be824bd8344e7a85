"""One command from two models to a report: what it measures, refuses, resumes and says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from c2c.cli.main import main
from c2c.errors import REFUSED, RefusedError
from c2c.testbed.card.comparing import NO_EVIDENCE
from c2c.testbed.card.numbers import show
from c2c.testbed.experiment import run as runs
from c2c.testbed.experiment.example import example_pair
from c2c.testbed.experiment.findings import summarise
from c2c.testbed.experiment.questions import own_splits, read_questions
from c2c.testbed.experiment.settings import QUESTIONS, SIZES, Experiment
from c2c.testbed.run import Bed
from c2c.testbed.tasks.bank import bank
from c2c.testbed.tasks.vocabularies import Vocabularies

SMALLEST = SIZES["tiny"]._replace(test=40, train=120, tasks=("redacted_word", "unredacted_word"))
ATTRIBUTE = "pet"


@pytest.fixture(scope="session")
def example(tmp_path_factory) -> dict[str, Path]:
    """The example's pair."""
    return example_pair(tmp_path_factory.mktemp("example"))


def line(number: int, **changes: object) -> dict[str, object]:
    """A question about a fact that the Sharer alone reads."""
    values = bank()[ATTRIBUTE]
    value, topic = values[number], f"Ada Lovelace's {ATTRIBUTE}"
    row = {"text": f"{topic} is {value}.", "question": f"{topic} is what?", "answer": value}
    return row | {"options": [value, values[number + 1], values[number + 2]]} | changes


def write_questions(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def experiment(example, tmp_path_factory) -> Experiment:
    """A finished experiment with the user's questions."""
    folder = tmp_path_factory.mktemp("experiment")
    data = write_questions(folder / "mine.jsonl", [line(number) for number in range(24)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", SMALLEST)
        experiment = Experiment(
            receiver=str(example["receiver"]),
            sharer=str(example["sharer"]),
            output=folder / "output",
            data=data,
            size="tiny",
        )
        runs.run_experiment(experiment)
    return experiment


@pytest.fixture
def smallest(monkeypatch) -> None:
    monkeypatch.setitem(SIZES, "tiny", SMALLEST)


def summary_of(experiment: Experiment) -> dict[str, object]:
    return json.loads((experiment.output / "summary.json").read_text())


def test_a_channel_that_communicates_gets_a_level_on_the_tasks_that_need_a_message_and_on_no_other(experiment) -> None:
    tasks = {task["task"]: task for task in summary_of(experiment)["tasks"]}
    assert set(tasks) == {"redacted_word", "unredacted_word", QUESTIONS}
    for name in ("redacted_word", QUESTIONS):
        (about,) = tasks[name]["methods"]
        assert about["level"] not in ("", NO_EVIDENCE) and about["gains"]["CAG"]["low"] > 0
    (about,) = tasks["unredacted_word"]["methods"]
    assert about["level"] == "" and not tasks["unredacted_word"]["needs_message"]


def test_a_channel_whose_messages_are_another_items_gets_the_level_none(experiment) -> None:
    records = runs.MessageRecords(pd.read_parquet(experiment.output / "records.parquet"))
    frame = records.frame.copy()
    ridge = (frame["channel"] == "ridge") & (frame["task"] == "redacted_word")
    answers = ["prediction", "correct", "exact", "text", "answer_logp"]
    key = ["id", "seed"]
    wrong = frame[ridge & (frame["message"] == "deranged")].set_index(key)[answers]
    matched = frame.index[ridge & (frame["message"] == "matched")]
    frame.loc[matched, answers] = wrong.loc[list(map(tuple, frame.loc[matched, key].to_numpy()))].to_numpy()
    records = runs.MessageRecords(frame.astype(records.frame.dtypes.to_dict()))
    card, gains = runs.build_card(records), runs.build_gains(records)
    tasks = {task["task"]: task for task in summarise(experiment, records, card, gains, [])["tasks"]}
    assert tasks["redacted_word"]["methods"][0]["level"] == NO_EVIDENCE


def test_the_report_has_the_numbers_of_the_score_card_and_needs_no_network(experiment) -> None:
    text = (experiment.output / "report.html").read_text()
    card = pd.read_csv(experiment.output / "scorecard.csv")
    for row in card[card["channel"] == "ridge"].to_dict("records"):
        assert show(row["choice_value"], row["choice_low"], row["choice_high"]) in text
    for name in ("src=", "href=", "@import", "http"):
        assert name not in text
    sentences = [about["sentence"] for task in summary_of(experiment)["tasks"] for about in task["methods"]]
    numbers = re.findall(r"\d+\.\d \[", " ".join(sentences))
    assert numbers and all(number in text for number in numbers)
    assert (experiment.output / "report.html.provenance.json").is_file()


def test_ope_is_the_sum_of_ome_and_cag_in_the_summary(experiment) -> None:
    for task in summary_of(experiment)["tasks"]:
        gains = task["methods"][0]["gains"]
        assert gains["OPE"]["value"] == pytest.approx(gains["OME"]["value"] + gains["CAG"]["value"])


def test_an_experiment_that_was_interrupted_ends_as_one_that_was_not(
    experiment, smallest, tmp_path, monkeypatch
) -> None:
    again, measure, names = replace(experiment, output=tmp_path / "output"), Bed.measure, []

    def measure_until(bed: Bed, name: str, factory: object) -> object:
        names.append(name)
        if len(names) == 3:
            raise KeyboardInterrupt
        return measure(bed, name, factory)

    monkeypatch.setattr(Bed, "measure", measure_until)
    with pytest.raises(KeyboardInterrupt):
        runs.run_experiment(again)
    runs.run_experiment(again)
    assert names.count("identity") == 3, "what was done is measured once a task"
    times = ["send_ms", "receive_ms", "training_seconds"]
    frames = [pd.read_parquet(run.output / "records.parquet").drop(columns=times) for run in (experiment, again)]
    pd.testing.assert_frame_equal(*frames)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"answer": ""}, "question and answer must hold a text"),
        ({"options": ["bat", "cow"]}, "answer must be one of the options"),
        ({"text": "Nothing is said."}, "text must hold"),
        ({"question": "Is it the ladle?", "answer": "ladle", "options": [], "text": "It is a ladle."}, "must not hold"),
        ({"hidden": ["nowhere"]}, "text must hold 'nowhere'"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_bad_line_of_the_users_questions_is_refused_with_its_number(changes, words, tmp_path) -> None:
    rows = [line(number) for number in range(24)]
    rows[6] = line(6, **changes)
    with pytest.raises(RefusedError) as refusal:
        read_questions(write_questions(tmp_path / "mine.jsonl", rows), Vocabularies())
    assert "Line 7 of mine.jsonl" in str(refusal.value) and words in str(refusal.value)


def test_too_few_questions_and_a_mixture_of_both_kinds_are_refused(tmp_path) -> None:
    rows = [line(number) for number in range(24)]
    with pytest.raises(RefusedError, match="at least 20"):
        read_questions(write_questions(tmp_path / "few.jsonl", rows[:5]), Vocabularies())
    mixed = [*rows[:-1], {name: value for name, value in rows[-1].items() if name != "text"} | {"question": "What?"}]
    with pytest.raises(RefusedError, match="must have a text, or none"):
        read_questions(write_questions(tmp_path / "mixed.jsonl", mixed), Vocabularies())


def test_questions_that_are_split_share_no_hidden_answer(tmp_path) -> None:
    rows = [line(number // 2, text=f"In file {number}, it is {line(number // 2)['answer']}.") for number in range(40)]
    splits = own_splits(read_questions(write_questions(tmp_path / "mine.jsonl", rows), Vocabularies()), 0)
    values = [{item.value for item in items} for items in splits.values()]
    assert sum(map(len, values)) == len(set.union(*values)) and sum(map(len, splits.values())) == len(rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "both models, or --example"),
        (["--receiver", "a"], "both models, or --example"),
        (["--example", "--size", "huge"], "--size must be a known name"),
        (["--example", "--method", "text"], "not part of every experiment"),
        (["--example", "--margin", "0"], "--margin must be above 0"),
        (["--example", "--settings", "[]"], "--settings must be settings by channel"),
    ],
)
def test_the_command_refuses_in_one_line_before_anything_is_trained(arguments, words, tmp_path, capsys) -> None:
    assert main(["experiment", *arguments, "--output", str(tmp_path / "output")]) == REFUSED
    assert words in capsys.readouterr().err
    assert not (tmp_path / "output").exists()


def test_the_page_has_the_sizes_of_the_code_and_lines_that_are_read(tmp_path) -> None:
    page = (Path(__file__).parents[2] / "docs/experiment.md").read_text()
    for name, size in SIZES.items():
        assert re.search(rf"`{name}`.*\| {size.test} \| {size.train:,} \| {size.seeds} \|", page)
    lines = [json.loads(text) for text in page.splitlines() if text.startswith('{"text"')]
    rows = [line(number) for number in range(20)] + lines
    assert len(read_questions(write_questions(tmp_path / "mine.jsonl", rows), Vocabularies())) == 22


def test_progress_says_how_many_channels_are_done_and_how_long_the_others_take(capsys) -> None:
    seconds = iter((0.0, 60.0, 60.0, 120.0))
    progress = runs.ChannelClock(4, clock=lambda: next(seconds))
    for channel, is_new in (("bounds", True), ("identity", False), ("ridge", True)):
        progress(channel, is_new)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "  1 of 4 channels done (bounds), 1.0 a minute, about 3 min left"
    assert lines[2].endswith("about 1 min left")
