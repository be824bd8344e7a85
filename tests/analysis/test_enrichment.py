"""The enrichment oracle as a run: layers are chosen on other questions than they are judged on."""

from __future__ import annotations

import pandas as pd
import pytest

from c2c.analysis.accuracy import accuracy_table
from c2c.analysis.enrichment import (
    QUESTION_HALVES,
    SAME,
    EnrichmentRun,
    check_halves,
    chosen_layers,
    enrich,
    half_of,
    layer_order,
    order_table,
    read_shots,
)
from c2c.cli.main import main
from c2c.errors import RefusedError
from c2c.evaluation.methods.declarations import METHODS
from c2c.evaluation.schema import RECORD_SCHEMA, conform, read_records
from c2c.evaluation.scoring import check_records

LAYERS = 3


@pytest.fixture
def run(settings, examples, tmp_path) -> EnrichmentRun:
    return EnrichmentRun(**settings, examples=examples, shots=2, most=5, orders=tmp_path / "orders.csv")


def test_layers_are_ordered_by_accuracy_and_equal_ones_by_their_number() -> None:
    correct = pd.DataFrame({0: [1.0, 0, 0, 1], 1: [1.0, 1, 1, 0], 2: [0.0, 1, 1, 0]})
    assert layer_order(correct) == [1, 0, 2]


def test_a_question_is_judged_with_the_order_of_the_other_half(questions) -> None:
    orders = {QUESTION_HALVES[0]: [0, 1, 2], QUESTION_HALVES[1]: [2, 1, 0], "all": [1, 0, 2]}
    for question in questions["choice"]:
        other = orders[QUESTION_HALVES[1 - QUESTION_HALVES.index(half_of(question))]]
        assert chosen_layers(orders, "best", 2, False, question) == other[:2]
        assert chosen_layers(orders, "worst", 1, False, question) == other[-1:]
        assert chosen_layers(orders, "best", 1, True, question) == [1]
    assert {half_of(question) for question in questions["choice"]} == set(QUESTION_HALVES)


def singles(questions, right: dict[int, set[str]]) -> pd.DataFrame:
    """Records of single layers, right on the questions named."""
    rows = [
        dict.fromkeys(RECORD_SCHEMA.names)
        | {"scale": "smoke", "pair": "tiny", "receiver": "r", "sharer": "s", "recipe": "", "alignment": ""}
        | {"method": "oracle_layers", "setting": f"layer {layer}", "benchmark": "choice", "scoring": "exact"}
        | {"question_id": each.doc["id"], "gold": "yes", "output_text": "yes" if each.doc["id"] in known else "no"}
        for layer, known in right.items()
        for each in questions
    ]
    return conform(pd.DataFrame(rows), RECORD_SCHEMA)


def test_answers_of_a_half_change_its_own_order_and_that_of_all_but_not_the_other_halfs(questions) -> None:
    asked = questions["choice"]
    first = {each.doc["id"] for each in asked if half_of(each) == QUESTION_HALVES[0]}
    before = order_table(singles(asked, {0: set(), 1: set(), 2: set()}), asked)
    after = order_table(singles(asked, {0: set(), 1: set(), 2: first}), asked)
    for name, expected in ((QUESTION_HALVES[0], [2, 0, 1]), (QUESTION_HALVES[1], [0, 1, 2]), ("all", [2, 0, 1])):
        assert after.loc[after["chosen_on"] == name, "layer"].tolist() == expected
        assert before.loc[before["chosen_on"] == name, "layer"].tolist() == [0, 1, 2]
    assert after.loc[after["chosen_on"] == QUESTION_HALVES[0], "accuracy"].tolist() == [100, 0, 0]


def test_questions_that_all_fall_into_one_half_are_refused(questions) -> None:
    one = [each for each in questions["choice"] if half_of(each) == QUESTION_HALVES[0]]
    with pytest.raises(RefusedError, match="Both halves"):
        check_halves(one)


def test_the_run_writes_a_record_a_question_and_setting_that_scoring_accepts(run) -> None:
    frame = enrich(run)
    settings = frame.groupby("method", sort=False)["setting"].unique().map(list).to_dict()
    ends = [f"{end} {k}{same}" for end in ("best", "worst") for same in ("", f", {SAME}") for k in range(1, LAYERS + 1)]
    assert settings == {
        **{"receiver": [""], "few_shot": [""], "oracle": [""]},
        "oracle_layers": [*(f"layer {n}" for n in range(LAYERS)), *ends],
    }
    assert len(frame) == 8 * (3 + LAYERS + len(ends)) and frame["error"].fillna("").eq("").all()
    check_records(read_records([run.output]))
    scores = frame.set_index(["question_id", "method", "setting"])["choice_scores"].map(list)
    for question in frame["question_id"].unique():
        assert scores[question, "oracle", ""] == scores[question, "oracle_layers", "best 3"]
    table = accuracy_table(frame, "receiver")
    assert table.loc[table["method"] == "few_shot", "tokens_in"].item() > 2 * table.loc[0, "tokens_in"]
    orders = pd.read_csv(run.orders).groupby("chosen_on")["layer"]
    assert [sorted(layers) for _, layers in orders] == [[0, 1, 2]] * 3


def test_the_command_gives_the_same_bytes_but_for_times(run, capsys) -> None:
    command = ["analyse", "enrichment", "--scale", "smoke", "--pair", "tiny", "--receiver", run.receiver]
    command += ["--sharer", run.sharer, "--tasks", str(run.tasks), "--benchmark", f"choice={run.benchmarks['choice']}"]
    command += ["--questions", "8", "--examples", str(run.examples), "--shots", "2", "--token-budget", "300"]
    frames = []
    for name in ("one", "two"):
        outputs = [run.output.with_name(f"{name}{suffix}") for suffix in (".parquet", ".csv")]
        assert main([*command, "--output", str(outputs[0]), "--orders", str(outputs[1])]) == 0
        frames.append(read_records(outputs[:1]).drop(columns="time_s"))
        assert outputs[0].with_name(f"{name}.parquet.provenance.json").is_file()
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    assert main([*command, "--output", "x.parquet", "--orders", "x.csv", "--most", "0"]) == 2
    assert "at least 1; received 0" in capsys.readouterr().err


def test_the_shots_are_written_in_the_words_of_the_task(run) -> None:
    shots = read_shots(run)
    assert [shot.answer for shot in shots.examples] == [str(shot.question.doc["answer"]) for shot in shots.examples]
    assert shots.examples[0].question.prompt.startswith("what is the") and shots.delimiter == " "


def test_methods_of_analyses_cannot_be_asked_of_generate() -> None:
    assert not {"few_shot", "oracle", "oracle_layers"} & set(METHODS)
