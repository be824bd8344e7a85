"""Properties of the tables: they follow from the records, and say what was never run."""

import errno
from pathlib import Path

import pandas as pd
import pytest

from c2c.stats import GAINS, detectable_difference, holm
from c2c.testbed.card.numbers import NOT_RUN, show
from paper import summarise_latency
from paper.reading import names
from paper.reading.answers import Answers, arm_name
from paper.tables import ablation, alignment, gains, latency, main, margins, prompts
from paper.writing.output import SUFFIXES, notes_on_gaps, write_table
from tests.paper.builder import RATES, Bench, Run, make_latency, make_records


@pytest.fixture(scope="module")
def times() -> pd.DataFrame:
    return summarise_latency.summarise(make_latency())


def row(frame: pd.DataFrame, **wanted: str) -> pd.Series:
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    (index,) = frame.index
    return frame.loc[index]


CELL = {"pair": "gap_a", "benchmark": "knowledge_gap_free"}


@pytest.mark.parametrize(
    ("recipe", "method", "arm"),
    [
        ("", "t2t", "t2t"),
        ("c2c", "c2c_deranged", "c2c_deranged"),
        ("adapter", "c2c", "adapter"),
        ("fuse", "c2c_zeroed", "fuse_zeroed"),
    ],
)
def test_a_recipe_other_than_c2c_names_the_arm(recipe, method, arm):
    assert arm_name(recipe, method) == arm


def test_identical_stands_in_the_block_of_its_pair_though_its_sharer_is_the_receiver(times):
    frame = make_records([Run("gap_a"), Run("gap_a", "c2c", "span", 0), Run("gap_a", "project", "span", 0)])
    own = frame["recipe"] == "project"
    frame.loc[own, "recipe"] = "identical"
    frame.loc[own, "sharer"] = frame.loc[own, "receiver"]
    for records in (frame, frame.iloc[::-1].reset_index(drop=True)):
        found = Answers(records)
        assert found.pairs == [("gap_a", "gap_receiver_a", "gap_sharer")]
        table = main.build(found, times)
        cell = row(table, **CELL, arm="identical")
        assert cell.n == 40 and cell.sharer == "gap_sharer" and not cell.reason
        assert set(table["arm"]) >= {"identical_deranged", "identical_zeroed"}


def test_accuracy_is_the_mean_over_seeds(answers, times):
    found = row(main.build(answers, times), **CELL, arm="c2c")
    marked = answers.marked.query("arm == 'c2c' and alignment == 'span' and pair == 'gap_a'")
    by_seed = marked[marked["benchmark"] == "knowledge_gap_free"].groupby("seed")["correct"].mean()
    assert found.value == pytest.approx(100 * by_seed.mean()) and (found.n, found.seeds) == (40, 3)


def test_a_changed_record_changes_the_table(records, times):
    changed = records.copy()
    place = changed.query("method == 'sharer' and benchmark == 'knowledge_gap_free'").index[0]
    before = main.build(Answers(records), times)
    changed.loc[place, "output_text"] = "nowhere"
    after = main.build(Answers(changed), times)
    assert row(before, **CELL, arm="sharer").value - row(after, **CELL, arm="sharer").value == pytest.approx(2.5)


def test_the_order_of_records_changes_no_table(records, answers, times):
    shuffled = Answers(records.sample(frac=1, random_state=1, ignore_index=True))
    pd.testing.assert_frame_equal(main.build(answers, times), main.build(shuffled, times))
    pd.testing.assert_frame_equal(gains.build(answers), gains.build(shuffled))


def test_a_method_that_was_never_run_is_shown_with_a_reason(times):
    frame = main.build(Answers(make_records([Run("gap_a"), Run("gap_a", "c2c", "span", 0)])), times)
    missing = row(frame, **CELL, arm="adapter")
    assert pd.isna(missing.value) and missing.reason
    assert NOT_RUN in main.text_table(frame).query("Method == 'Adapter'").to_numpy()


def test_times_stand_in_columns_of_their_own(answers, times):
    slower = times.assign(mean_ms=times.mean_ms * 2)
    frame, other = main.build(answers, times), main.build(answers, slower)
    steady = [column for column in frame if not column.startswith("time_")]
    pd.testing.assert_frame_equal(frame[steady], other[steady])
    printed, changed = main.text_table(frame), main.text_table(other)
    assert {column for column in printed if not printed[column].equals(changed[column])} == {"Time, ms"}


def test_chance_of_four_options_is_a_quarter(answers, times):
    frame = main.build(answers, times)
    assert set(frame["chance"]) == {25.0}


def test_the_gain_of_identical_answers_is_zero_with_an_interval_around_it(records):
    same = records.copy()
    runs = same["recipe"].isin(["c2c", "adapter"]) & (same["method"] != "c2c_zeroed")
    same.loc[runs, "output_text"] = same.loc[runs, "gold"]
    found = row(gains.build(Answers(same)), **CELL, gain="pairing")
    assert (found.value, found.p_value) == (0, 1) and found.low == -found.high < 0


def test_fusers_without_a_common_seed_are_not_compared_and_the_table_says_so():
    answers = Answers(make_records([Run("gap_a"), Run("gap_a", "c2c", "span", 1), Run("gap_a", "adapter", "span", 0)]))
    found = row(gains.build(answers), **CELL, gain="communication")
    assert pd.isna(found.value) and "no training seed in common" in found.reason
    level = row(ablation.build(answers), **CELL, arm="adapter")
    assert level.n == 40 and pd.isna(level.difference_value)


def test_system_gain_is_communication_plus_adaptation(answers):
    frame = gains.build(answers)
    parts = {gain: row(frame, **CELL, gain=gain).value for gain in ("system", "communication", "adaptation")}
    assert parts["system"] == pytest.approx(parts["communication"] + parts["adaptation"])


def test_the_ablation_compares_levels_on_the_seeds_they_share(answers):
    frame = ablation.build(answers)
    assert set(frame.query("pair == 'gap_a'")["seeds"]) == {1}
    full = row(frame, **CELL, arm="c2c")
    part = row(frame, **CELL, arm="project")
    assert part.difference_value == pytest.approx(part.value - full.value)


def test_what_the_ablation_lacks_is_said(answers):
    missing = row(ablation.build(answers), pair="gap_b", benchmark="knowledge_gap_free", arm="fuse")
    assert pd.isna(missing.value) and "pair A" in missing.reason


def test_alignments_are_compared_on_the_pair_that_has_both(answers):
    frame = alignment.build(answers)
    other = row(frame, pair="gap_b", benchmark="knowledge_gap_free", alignment="longest")
    span = row(frame, pair="gap_b", benchmark="knowledge_gap_free", alignment="span")
    assert other.difference_value == pytest.approx(other.c2c_value - span.c2c_value)
    assert span.difference_value == 0 and pd.isna(other.adapter_value) and not pd.isna(span.communication_value)
    assert "tokenizers are identical" in row(frame, **CELL, alignment="longest").reason


def test_the_latency_table_holds_each_phase_once(times):
    frame = latency.build(times)
    sharer = row(frame, receiver="gap_receiver_a", arm="t2t")
    phases = [f"{phase}_ms" for phase in ("sharer_prefill", "sharer_decode", "fusion", "receiver_prefill")]
    assert sharer[phases].sum() + sharer["receiver_decode_ms"] == pytest.approx(sharer["total_ms"])


def test_a_time_is_averaged_over_repeats_before_questions_count():
    assert set(summarise_latency.summarise(make_latency(questions=5, repeats=4))["n"]) == {5}


def test_a_table_says_the_same_in_its_three_formats(answers, tmp_path):
    frame = gains.write(answers, tmp_path / "gains")
    cell = show(*(row(frame, **CELL, gain="pairing")[name] for name in ("value", "low", "high")), sign=True)
    assert cell in (tmp_path / "gains.md").read_text(encoding="utf-8")
    assert cell.replace("−", "$-$") in (tmp_path / "gains.tex").read_text(encoding="utf-8")
    read = pd.read_csv(tmp_path / "gains.csv")
    assert row(read, **CELL, gain="pairing").value == pytest.approx(row(frame, **CELL, gain="pairing").value, abs=1e-4)


def test_the_content_gain_stands_only_where_its_control_was_asked(tmp_path):
    runs = [Run(pair, *run) for pair in ("gap_a", "gap_b") for run in ((), ("c2c", "span", 0), ("adapter", "span", 0))]
    records = make_records(runs)
    control = (records["pair"] == "gap_a") & (records["benchmark"] == "knowledge_gap_free")
    copies = records[control & (records["method"] == "c2c_deranged")].assign(method="c2c_same_answer")
    answers = Answers(pd.concat([records, copies], ignore_index=True))
    for table in (gains, margins):
        assert "content" not in set(table.build(Answers(records))["gain"])
    frame = gains.write(answers, tmp_path / "gains")
    assert set(gains.build(Answers(records))["gain"]) == set(GAINS) - {"content"}
    content, pairing = (row(frame, **CELL, gain=gain) for gain in ("content", "pairing"))
    assert (frame["gain"] == "content").sum() == 1
    assert content["value"] == pytest.approx(pairing["value"]) and content["against"] == "c2c_same_answer"
    assert "which question with this answer was read" in (tmp_path / "gains.md").read_text(encoding="utf-8")
    # Cells that were not asked are no rows of the accuracies either.
    table = main.build(answers, None)
    assert table.loc[table["arm"] == "c2c_same_answer", ["pair", "benchmark"]].to_numpy().tolist() == [[*CELL.values()]]


def test_latex_escapes_what_it_must(tmp_path):
    printed = pd.DataFrame({"50 %": ["a_b & c", "< 0.001"]})
    write_table(printed, printed, tmp_path / "table", ["100 %"])
    text = (tmp_path / "table.tex").read_text(encoding="utf-8")
    assert r"a\_b \& c" in text and r"50 \%" in text and "$<$ 0.001" in text and r"\footnotesize 100 \%" in text


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((93.44, 91.0, 95.2), "93.4 [91.0, 95.2]"),
        ((-0.01, -1.0, 1.0), "0.0 [−1.0, 1.0]"),
        ((float("nan"),) * 3, NOT_RUN),
    ],
)
def test_numbers_are_shown_with_their_interval(numbers, text):
    assert show(*numbers) == text


def test_the_gains_say_in_words_where_c2c_does_not_beat_the_receiver(answers):
    rates = RATES | {"c2c": 0.3, "c2c_deranged": 0.3, "adapter": 0.3, "receiver": 0.3}
    runs = [Run("gap_a"), Run("gap_a", "c2c", "span", 0), Run("gap_a", "adapter", "span", 0)]
    (chance,) = gains.doubts(gains.build(answers))
    assert "C2C beats the Receiver" in chance
    same = gains.build(Answers(make_records(runs, Bench(["knowledge_gap_free"], 200, rates))))
    said = gains.doubts(same)
    assert [words.split(" (")[0] for words in said] == [
        "C2C does not beat the Receiver", "Nothing shows that the right message matters",
        "Nothing shows more than adaptation",
    ]  # fmt: skip
    assert all("Pair A: free answer" in words and "detectable from" in words for words in said)
    worse = gains.doubts(same.assign(finding=gains.BELOW))
    assert "C2C is worse than the Receiver" in worse[0] and "wrong message" in worse[1]


def test_the_detectable_difference_stands_beside_n(answers):
    frame = gains.build(answers)
    found = row(frame, **CELL, gain="pairing")
    left, right = (answers.get(CELL["pair"], CELL["benchmark"], arm) for arm in ("c2c", "c2c_deranged"))
    assert found.detectable == pytest.approx(100 * detectable_difference(left, right))
    columns = list(gains.text_table(frame))
    assert columns.index("Detectable, points") == columns.index("n") + 1


def test_parts_of_a_point_have_gains_but_no_mcnemar(answers):
    half = Answers(make_records())
    half.marked["correct"] /= 2
    half._groups = {key: group.assign(correct=group["correct"] / 2) for key, group in half._groups.items()}
    whole, found = (row(gains.build(each), **CELL, gain="pairing") for each in (answers, half))
    assert found.value == pytest.approx(whole.value / 2) and found.p_mcnemar == "" and pd.isna(found.of_only)
    assert found.detectable > 0 and row(main.build(half, None), **CELL, arm="c2c").value > 0


def test_a_pair_with_identical_models_has_that_recipe_in_the_place_of_c2c():
    frame = gains.build(Answers(make_records([Run("gap_a"), Run("gap_a", "identical", "span", 0)])))
    found = row(frame, **CELL, gain="pairing")
    assert (found.of, found.against) == ("identical", "identical_deranged") and not pd.isna(found.value)


def test_without_times_the_main_table_has_no_column_for_them(answers):
    frame = main.build(answers, None)
    assert "Time, ms" not in main.text_table(frame).columns and len(main.text_table(frame)) == len(frame)


def test_a_task_of_several_scorings_is_titled_by_both_and_stands_beside_its_benchmark():
    assert names.title("benchmarks", "arc_easy_text") == "ARC-Easy (text)"
    assert (
        names.title("benchmarks", "knowledge_gap_free") == "free answer" and names.title("benchmarks", "x_y") == "x_y"
    )
    order = names.in_order("benchmarks", ["ceval_text", "zzz", "arc_easy_text", "arc_easy_letter"])
    assert order == ["arc_easy_letter", "arc_easy_text", "ceval_text", "zzz"]


@pytest.fixture
def two_prompts() -> Answers:
    """C2C and adapter of a pair, and its models alone, with our own and with the released prompts."""
    runs = [Run("gap_a"), Run("gap_a", "c2c", "span", 0), Run("gap_a", "adapter", "span", 0)]
    own = make_records(runs, Bench(["openbookqa_letter"]))
    with_released = make_records(runs, Bench(["openbookqa_letter"], rates=dict.fromkeys(RATES, 0.1)))
    with_released["benchmark"] = "openbookqa_letter_released"
    return Answers(pd.concat([own, with_released[with_released["method"].isin(["receiver", "sharer", "c2c"])]]))


def test_what_the_prompts_are_worth_is_a_paired_difference_of_each_arm(two_prompts):
    frame = prompts.build(two_prompts)
    assert list(frame["arm"]) == ["receiver", "sharer", "c2c", "adapter"] and set(frame["n"]) == {40}
    for row_of_arm in frame.itertuples():
        assert row_of_arm.difference_value == pytest.approx(row_of_arm.released_value - row_of_arm.own_value)
    assert set(frame["benchmark"]) == {"openbookqa_letter"} and not frame["reason"].any()


def test_other_tables_show_what_was_asked_with_two_sets_of_prompts_with_our_own_alone(two_prompts):
    for frame in (main.build(two_prompts, None), gains.build(two_prompts)):
        assert set(frame["benchmark"]) == {"openbookqa_letter"}


def test_where_the_released_prompts_alone_were_asked_every_table_shows_and_names_them():
    records = make_records([Run("gap_a"), Run("gap_a", "c2c", "span", 0)], Bench(["openbookqa_letter"]))
    frame = main.build(Answers(records.assign(benchmark="openbookqa_letter_released")), None)
    assert set(main.text_table(frame)["Benchmark"]) == {"OpenBookQA (letter), released prompts"}
    assert frame["value"].notna().any()


def test_tables_say_that_ceval_was_asked_on_its_validation_split():
    records = make_records([Run("gap_a")], Bench(["ceval_letter"]))
    assert Answers(records).remarks == []
    records["question_id"] = "val-" + records["question_id"]
    assert Answers(records, "paper").remarks == [
        "C-Eval is asked on its validation split: the keys of its test split are withheld in the public release."
    ]


def test_what_was_run_on_no_benchmark_is_said_once():
    runs = [Run("gap_a"), Run("gap_a", "c2c", "span", 0)]
    bench = Bench(["arc_easy_text", "arc_easy_letter", "openbookqa"])
    frame = gains.build(Answers(make_records(runs, bench)))
    (note,) = notes_on_gaps(frame, ["pair", "benchmark", "gain"])
    assert "Pair A / all benchmarks / Communication" in note and "OpenBookQA" not in note


def test_a_note_counts_rows_without_a_number_where_they_are_many():
    frame = pd.DataFrame({"arm": [f"arm_{number}" for number in range(6)], "reason": [""] + 5 * ["not run"]})
    assert notes_on_gaps(frame, ["arm"])[0].startswith("Not run: 5 of 6 rows (not run);")
    assert "arm_1; arm_2" in notes_on_gaps(frame.head(4), ["arm"])[0]


def test_a_pair_has_no_rows_for_benchmarks_that_only_another_pair_was_asked(times):
    bench = {"gap_a": ("knowledge_gap_free",), "gap_b": ("gap_words_text",)}
    frames = [
        make_records([Run(pair), Run(pair, "c2c", "span", 0)], Bench(benchmarks=asked)) for pair, asked in bench.items()
    ]
    answers = Answers(pd.concat(frames, ignore_index=True))
    for frame in (gains.build(answers), main.build(answers, times), ablation.build(answers), alignment.build(answers)):
        assert {pair: tuple(group["benchmark"].unique()) for pair, group in frame.groupby("pair")} == bench


def test_the_files_of_a_table_are_all_new_or_all_as_they_were(tmp_path, monkeypatch):
    write_text = Path.write_text

    def on_a_full_disk(path, text, **options):
        if ".md" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_text(path, text, **options)

    def contents():
        return {suffix: (tmp_path / f"t{suffix}").read_text() for suffix in SUFFIXES}

    frame = pd.DataFrame({"value": [1.0]})
    write_table(frame, frame, tmp_path / "t", ["before"])
    earlier = contents()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", on_a_full_disk)
        with pytest.raises(OSError, match="No space left"):
            write_table(frame * 2, frame * 2, tmp_path / "t", ["after"])
    assert contents() == earlier and len(list(tmp_path.iterdir())) == len(SUFFIXES)
    write_table(frame * 2, frame * 2, tmp_path / "t", ["after"])
    assert all(contents()[suffix] != text for suffix, text in earlier.items())


def test_a_gain_of_one_seed_says_what_trainings_that_differ_would_make_of_its_interval(answers):
    frame = gains.build(answers)
    one, trained_arms = frame[(frame["seeds"] == 1) & frame["value"].notna()], {"communication": 2}
    assert len(one) and frame.loc[frame["seeds"] > 1, "low_sd_2"].isna().all()
    for found in one.itertuples():
        added = (found.high_sd_2 - found.value) ** 2 - (found.high - found.value) ** 2
        assert added == pytest.approx(1.959964**2 * 2**2 * trained_arms.get(found.gain, 1))


def test_the_p_of_a_gain_is_adjusted_for_the_cells_of_that_gain_and_printed_for_each_seed(answers):
    frame = gains.build(answers)
    for _, cells in frame.groupby("gain"):
        assert cells["p_holm"].tolist() == pytest.approx(holm(cells["p_value"]), nan_ok=True)
    assert len(row(frame, **CELL, gain="pairing").p_mcnemar.split(", ")) == 3
