"""Properties of scoring: what is correct, what is refused, what a score row says."""

import json

import numpy as np
import pandas as pd
import pytest
from lm_eval.api.task import ConfigurableTask, TaskConfig

from c2c.errors import RefusedError
from c2c.evaluation import scoring
from c2c.evaluation.schema import LATENCY_SCHEMA, RECORD_COLUMNS, RECORD_SCHEMA, read_records, to_table
from tests.paper.builder import Bench, Run, make_latency, make_records, write

RUNS = (Run("gap_a"), Run("gap_a", "c2c", "span", 0), Run("gap_a", "c2c", "span", 1))


@pytest.fixture
def records() -> pd.DataFrame:
    return make_records(RUNS)


def accuracy(
    records: pd.DataFrame, method: str, seed: int | None = None, benchmark: str = "knowledge_gap_free"
) -> pd.Series:
    scores = scoring.score_records(records)
    rows = scores[(scores.method == method) & (scores.benchmark == benchmark) & (scores.subset == "all")]
    rows = rows[(rows.metric == "accuracy") & (rows.seed.isna() if seed is None else rows.seed == seed)]
    return rows.iloc[0]


@pytest.mark.parametrize("text", ["Rome", " rome", "ROME.", "rome .", "\nRome\n"])
def test_exact_ignores_blanks_case_and_full_stop(text):
    assert scoring.normalise(text) == scoring.normalise("rome")


@pytest.mark.parametrize("text", ["rome, italy", "in rome", "romé", ""])
def test_exact_accepts_nothing_more_than_the_answer(text):
    assert scoring.normalise(text) != scoring.normalise("rome")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("(C)", "C"),
        ("**D**", "D"),
        ("b", "B"),
        ("B. photosynthesis", "B"),
        ("B) because A is wrong", "B"),
        ("The correct answer is C", "C"),
        ("The correct answer is (c).", "C"),
        ("Answer: D", "D"),
        ("The answer is **B**", "B"),
        ("I first thought the answer is A. But the answer is D.", "D"),
        ("A dog is an animal, so D.", "D"),
        ("The answer is a plant", None),
        ("The answer is A because of the heat", "A"),
        ("the answer is b because of the heat", "B"),
        ("B because of the heat", "B"),
        ("I would say C", "C"),
        ("Either B or C", None),
        ("Option C is right, so C", "C"),
        ("It's Dublin", None),
        ("the capital of E", None),
        ("", None),
    ],
)
def test_a_letter_is_stated_or_opens_the_text_or_is_the_only_one(text, letter):
    assert scoring.extract_letter(text, options=4) == letter


def test_letters_beyond_the_options_are_none():
    assert scoring.extract_letter("E", options=4) is None and scoring.extract_letter("E", options=5) == "E"


def test_likelihood_takes_the_best_choice(records):
    row = records[(records.scoring == "likelihood") & (records.method == "sharer")].index[0]
    assert scoring.mark(records)[row]
    records.at[row, "choice_scores"] = [-2.0, -1.0, -1.5, -9.0]
    assert scoring.mark(records)[row] == (records.at[row, "choices"][1] == records.at[row, "gold"])


def test_a_choice_without_a_number_is_wrong(records):
    row = records[(records.scoring == "likelihood") & (records.method == "sharer")].index[0]
    records.at[row, "choice_scores"] = [float("nan")] * 4
    assert not scoring.mark(records)[row]


def test_letters_are_scored_from_generated_text():
    assert accuracy(make_records((Run("gap_a"),), Bench(["openbookqa"])), "sharer", benchmark="openbookqa").value == 100


def test_a_letter_behind_the_opening_that_the_record_names_wins_over_a_later_statement():
    records = make_records((Run("gap_a"),), Bench(["openbookqa"])).head(1)
    records = records.assign(gold="B", output_text=" B) 5 m\n\nAnswer: D")
    for opening, credit in (("Answer:", 1), ("", 0), (None, 0)):
        assert scoring.mark(records.assign(opening=opening)).tolist() == [credit]
        # The reference's rules know of no opening.
        assert scoring.mark(records.assign(opening=opening), "paper").tolist() == [0]


def test_a_failed_question_counts_as_wrong(records):
    row = records[(records.method == "sharer") & (records.benchmark == "knowledge_gap_free")].index[0]
    assert accuracy(records, "sharer").value == 100
    records.loc[row, ["error", "output_text"]] = ["out of memory", None]
    assert (accuracy(records, "sharer").value, accuracy(records, "sharer").n) == (97.5, 40)
    scores = scoring.score_records(records)
    assert (
        scores[(scores.metric == "failed") & (scores.method == "sharer") & (scores.subset == "all")].value.max() == 2.5
    )


def test_each_seed_has_its_row_and_each_subset_too(records):
    scores = scoring.score_records(records)
    rows = scores[(scores.method == "c2c") & (scores.metric == "accuracy") & (scores.benchmark == "knowledge_gap_free")]
    assert rows[["seed", "subset", "n"]].to_numpy().tolist() == [
        [seed, subset, n] for seed in (0, 1) for subset, n in (("all", 40), ("color", 20), ("home", 20))
    ]


def test_the_whole_is_the_mean_of_equal_subsets(records):
    scores = scoring.score_records(records).set_index(["benchmark", "method", "seed", "metric", "subset"])["value"]
    parts = scores.xs(0, level="seed").unstack("subset")
    assert (parts["all"] - (parts["color"] + parts["home"]) / 2).abs().max() < 1e-9


def test_no_subset_no_row(records):
    assert set(scoring.score_records(records.assign(subset=""))["subset"]) == {"all"}


def test_times_never_reach_scores(records):
    text = scoring.scores_text(scoring.score_records(records))
    assert text == scoring.scores_text(scoring.score_records(records.assign(time_s=7.0)))
    assert "time" not in text.splitlines()[0]


def test_the_order_of_records_changes_no_byte(records):
    shuffled = records.sample(frac=1, random_state=1)
    assert scoring.scores_text(scoring.score_records(records)) == scoring.scores_text(scoring.score_records(shuffled))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda r: r.drop(columns="gold"), "missing.*gold"),
        (lambda r: r.assign(colour="red"), "unknown.*colour"),
        (lambda r: pd.concat([r, r.iloc[:1]]), "answered once"),
        (lambda r: r.iloc[1:], "same questions"),
        (lambda r: r.assign(method=r.method.replace("t2t", "t2tt")), "known name"),
        (lambda r: r.assign(scoring="fuzzy"), "known name"),
        (lambda r: r.assign(gold=r.gold.where(r.index != 0, "nowhere")), "same question for all methods"),
        (lambda r: r.assign(output_text=r.output_text.where(r.index != 0)), "output_text"),
        (lambda r: r.assign(choice_scores=None), "one score a choice"),
    ],
)
def test_records_that_would_give_a_wrong_score_are_refused(records, harm, message):
    with pytest.raises(RefusedError, match=message):
        scoring.score_records(harm(records))


@pytest.mark.parametrize(
    ("method", "shift", "is_allowed"),
    [
        ("c2c_deranged", 2, True),
        ("c2c_deranged", 8, False),
        ("c2c_same_answer", 8, True),
        ("c2c_same_answer", 2, False),
        ("c2c_same_answer", 0, False),
    ],
)
def test_a_control_that_read_a_question_with_a_gold_answer_that_it_must_not_have_is_refused(
    records, method, shift, is_allowed
):
    # Gold answers of the builder's questions repeat every eight questions.
    control = records[records.method == "c2c_deranged"]
    numbers = control["question_id"].str.removeprefix("q").astype(int)
    read = [f"q{(number + shift) % 40:03d}" for number in numbers]
    frame = pd.concat([records[records.method == "c2c"], control.assign(method=method, sharer_question_id=read)])
    if is_allowed:
        scoring.check_records(frame)
        return
    with pytest.raises(RefusedError, match="A control must read another question, deranged one with another gold"):
        scoring.check_records(frame)


def test_methods_that_answered_other_questions_are_refused_even_if_as_many(records):
    first, second = records.query("question_id != 'q000'"), records.query("question_id != 'q001'")
    with pytest.raises(RefusedError, match="same questions"):
        scoring.check_records(pd.concat([first[first.method == "sharer"], second[second.method == "receiver"]]))


def test_records_survive_the_file(records, tmp_path):
    read = read_records([write(records, tmp_path / "records.parquet")])
    assert to_table(read, RECORD_SCHEMA).equals(to_table(records, RECORD_SCHEMA))
    latency = read_records([write(make_latency(), tmp_path / "l.parquet", LATENCY_SCHEMA)], LATENCY_SCHEMA)
    assert to_table(latency, LATENCY_SCHEMA).equals(to_table(make_latency(), LATENCY_SCHEMA))


def test_values_of_another_type_are_refused(records):
    with pytest.raises(RefusedError, match="types"):
        to_table(records.assign(time_s="soon"), RECORD_SCHEMA)


def test_reading_no_file_is_refused():
    with pytest.raises(RefusedError, match="At least one file"):
        read_records([])


def test_every_column_says_what_it_means():
    assert all(meaning for _, meaning in RECORD_COLUMNS.values())


def test_scores_have_their_provenance(records, tmp_path):
    scoring.score_files([write(records, tmp_path / "records.parquet")], tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv.provenance.json").is_file()


def weighed(scoring_name: str, choices: list[str], scores: list[float], gold: str) -> pd.DataFrame:
    one = make_records((Run("gap_a"),), Bench(["knowledge_gap_choice"], questions=1))
    columns = {"scoring": scoring_name, "gold": gold, "choices": [choices] * len(one)}
    return one.assign(**columns, choice_scores=[scores] * len(one))


def test_text_is_the_length_normalised_accuracy_of_lm_eval():
    draw = np.random.default_rng(0)
    words = ["a", "longer", "the longest of them", "naïve", "答案", "two words"]
    task = object.__new__(ConfigurableTask)
    task._config = TaskConfig(task="t", doc_to_choice=lambda doc: doc["choices"], doc_to_target=lambda doc: doc["gold"])
    task.OUTPUT_TYPE, task.multiple_input, task.multiple_target = "multiple_choice", 0, 0
    task.prompt, task._metric_fn_list, task.features = None, {"acc": None, "acc_norm": None}, []
    found = set()
    for _ in range(50):
        choices = [str(each) for each in draw.permutation(words)[:4]]
        scores, gold = draw.uniform(-20, -1, 4), int(draw.integers(4))
        theirs = task.process_results({"choices": choices, "gold": gold}, [(score, False) for score in scores])
        ours = {
            metric: scoring.mark(weighed(name, choices, list(scores), choices[gold])).iloc[0]
            for metric, name in (("acc_norm", "text"), ("acc", "likelihood"), ("acc", "logits"))
        }
        assert ours == theirs
        found.add(theirs["acc"] == theirs["acc_norm"])
    assert found == {True, False}


def test_an_option_that_reads_like_the_gold_answer_is_the_gold_answer():
    assert scoring.mark(weighed("likelihood", ["no", "yes", "yes"], [-3.0, -1.0, -1.0], "yes")).all()


def test_parts_of_a_point_are_a_score_with_a_bootstrap_interval(records):
    gold = json.dumps({"metric": "qa_f1", "answers": ["red house"], "classes": None})
    texts = ["red house", "red", "blue", "a red house"]
    longbench = records[records.benchmark == "knowledge_gap_free"].copy()
    number = longbench["question_id"].str[1:].astype(int) % 4
    longbench = longbench.assign(scoring="longbench", gold=gold, output_text=[texts[place] for place in number])
    scores = scoring.score_records(longbench).query("metric != 'failed' and subset == 'all'")
    assert set(scores["metric"]) == {"score"}
    row = scores.iloc[0]
    assert row["value"] == pytest.approx(100 * (1 + 2 / 3 + 0 + 1) / 4) and 50 < row["low"] < row["value"] < row["high"]


def test_a_gold_answer_that_longbench_cannot_read_is_refused(records):
    with pytest.raises(RefusedError, match="must be JSON"):
        scoring.check_records(records[records.benchmark == "knowledge_gap_free"].assign(scoring="longbench"))
