"""Tables that stand beside the paper's: its value is found cell by cell, and each follows from the records."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from c2c.stats import NO_SEED, accuracy_with_interval
from paper.reading.answers import Answers
from paper.reading.reference import Reference
from paper.rows import ELSEWHERE, comparison_text, verdict, widened
from paper.tables import (
    combinations,
    latency,
    length,
    published,
    scaling,
    seeds,
    sources,
    strong_to_weak,
    subjects,
    venn,
)
from paper.verdicts import AGREES, HIGHER, LOWER, compare_size
from tests.paper.builder import RATES, Bench, Run, make_records

QWEN3, QWEN25, LARGE = "Qwen/Qwen3-0.6B", "Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen3-4B"
RUNS = [Run("gap_a"), *(Run("gap_a", "c2c", "span", seed) for seed in (0, 1)), Run("gap_a", "adapter", "span", 0)]
CELL = {"pair": "gap_a", "benchmark": "knowledge_gap_free"}


FIRST, FIRST_MMLU, STRONG = "qwen3_from_qwen25", "qwen3_from_qwen25_mmlu", "qwen3_from_qwen3_4b"


def named(frame: pd.DataFrame, pair: str, sharer: str) -> pd.DataFrame:
    """The records as if a pair of the paper had answered."""
    return frame.assign(pair=pair, receiver=QWEN3, sharer=sharer)


def as_paper(pair: str, sharer: str, benchmark: str = "openbookqa") -> Answers:
    """Answers of a pair and on a benchmark of the paper."""
    return Answers(named(make_records(RUNS, Bench([benchmark], 60)), pair, sharer))


def row(frame: pd.DataFrame, **wanted: str) -> pd.Series:
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    (index,) = frame.index
    return frame.loc[index]


def test_the_papers_cell_stands_beside_ours_with_the_difference_and_a_verdict() -> None:
    found = row(published.build(as_paper(FIRST, QWEN25), None), pair=FIRST, arm="c2c", benchmark="openbookqa")
    assert found.paper == 52.6 and found.paper_time_s == 0.3
    assert found.difference_value == pytest.approx(found.value - 52.6)
    assert found.difference_low == pytest.approx(found.low - 52.6)
    assert found.verdict == HIGHER and found.low > 52.6


def test_every_cell_of_the_papers_table_stands_in_ours_and_says_when_it_was_not_run() -> None:
    frame = published.build(as_paper(FIRST, QWEN25), None)
    assert len(frame) == 60 and frame["paper"].notna().all()
    missing = frame[frame["value"].isna()]
    assert len(missing) == 55 and set(missing["reason"]) == {ELSEWHERE}
    other = row(missing, receiver="Qwen3-0.6B", sharer="Llama3.2-1B-Instruct", benchmark="mmlu_redux", arm="c2c")
    assert other.paper == 44.42 and other.paper_time_s == 0.5


def test_a_scale_without_a_cell_of_the_paper_names_what_the_paper_prints(answers, tmp_path) -> None:
    frame = published.write(answers, None, tmp_path / "published")
    assert frame["paper"].isna().all() and "Paper, %" not in comparison_text(frame)
    text = (tmp_path / "published.md").read_text(encoding="utf-8")
    assert "Table 4 prints" in text and "C2C 47.79 %" in text


def right_or_wrong(shares: dict[int, float]) -> pd.DataFrame:
    """Answers of 200 questions, of which each seed has another share right."""
    return pd.DataFrame(
        {seed: [int(question < 200 * share) for question in range(200)] for seed, share in shares.items()}
    )


# Wilson's interval of 45 % of 200 goes from 38.3 to 51.9; the seed term of one training is 1.96 x 2 x √2 = 5.5.
@pytest.mark.parametrize(
    ("seed", "paper", "expected"),
    [
        *[(NO_SEED, 51, AGREES), (NO_SEED, 38, HIGHER), (NO_SEED, 53, LOWER), (NO_SEED, None, "")],
        *[(0, 53, AGREES), (0, 36, HIGHER), (0, 54, LOWER), (0, None, "")],
    ],
)
def test_the_verdict_on_a_cell_widens_the_interval_of_a_training_alone(seed, paper, expected) -> None:
    assert verdict({"value": 45, "paper": paper} | widened(right_or_wrong({seed: 0.45}))) == expected


SHARES = {"equal": (0.45, 0.45, 0.45), "near": (0.44, 0.45, 0.46), "apart": (0.35, 0.45, 0.55)}


@pytest.mark.parametrize("shares", [(0.45,), *SHARES.values()], ids=["one seed", *SHARES])
def test_a_row_and_a_claim_over_the_same_numbers_have_the_same_verdict(shares) -> None:
    frame = right_or_wrong(dict(enumerate(shares)))
    estimate = accuracy_with_interval(frame).scaled(100)
    for paper in range(20, 71):
        row_of_cell = {"value": estimate.value, "paper": paper} | widened(frame)
        assert verdict(row_of_cell) == compare_size(estimate, float(paper))


def test_several_seeds_widen_by_their_own_spread_and_not_by_the_stated_one() -> None:
    widths = {
        name: np.ptp(list(widened(right_or_wrong(dict(enumerate(shares)))).values())) for name, shares in SHARES.items()
    }
    alone = np.ptp(list(widened(right_or_wrong({0: 0.45})).values()))
    assert widths["equal"] < alone < widths["apart"] and widths["near"] < widths["apart"]


def test_printed_cells_are_found_by_our_ids_and_never_by_another_scoring() -> None:
    find, small, large = Reference().find, (QWEN3, QWEN25), (QWEN3, LARGE)
    subject, gain = "mmlu_redux/computer_science", "accuracy gain over Receiver"
    assert find("Table 9", "PGR", STRONG, large, "projected", "ceval_letter") == 79
    assert find("Table 9", "accuracy", STRONG, large, "sharer", "mmlu_redux_letter") == 71.38
    assert find("Table 9", "accuracy", STRONG, large, "sharer", "mmlu_redux_text") is None
    assert find("Table 6", "accuracy", FIRST, (QWEN3, None), "single", "openbookqa") == 45.8
    assert find("Table 5", "score", "qwen3_from_qwen25_longbench", small, "c2c", "longbench", "length 8k+") == 30.72
    assert find("Figure 9", gain, FIRST_MMLU, small, "t2t", subject) == 1.76
    assert find("Figure 8", "accuracy", FIRST_MMLU, small, "receiver", subject) is not None
    assert find("Table 4", "accuracy", "gap_a", ("gap_receiver_a", "gap_sharer"), "c2c", "knowledge_gap_free") is None


def test_a_pair_with_other_models_than_the_papers_has_none_of_its_values() -> None:
    find = Reference().find
    assert find("Table 4", "accuracy", FIRST, (QWEN3, QWEN25), "c2c", "openbookqa") == 52.6
    assert find("Table 4", "accuracy", FIRST, (QWEN3, LARGE), "c2c", "openbookqa") is None


@pytest.mark.parametrize("pair", ["qwen3_from_qwen25_longbench", "own_pair"])
def test_the_same_models_after_another_training_have_nothing_beside_them(pair) -> None:
    answers = as_paper(pair, QWEN25, "mmlu_redux_letter")
    tables = [published.build(answers, None), sources.build(answers), scaling.build(answers), venn.build(answers)]
    assert all(frame["paper"].isna().all() for frame in tables)


def test_the_recovered_gap_stands_beside_the_papers() -> None:
    frame = strong_to_weak.build(as_paper(STRONG, LARGE), None)
    cell = {"pair": STRONG, "benchmark": "openbookqa"}
    parts = {arm: row(frame, **cell, arm=arm) for arm in ("sharer", "receiver", "c2c", "t2t")}
    whole = parts["sharer"].value - parts["receiver"].value
    assert parts["t2t"].pgr_value == pytest.approx(100 * (parts["t2t"].value - parts["receiver"].value) / whole)
    assert parts["c2c"].paper_pgr == 40 and pd.isna(parts["sharer"].pgr_value)
    assert parts["c2c"].pgr_low < parts["c2c"].pgr_value < parts["c2c"].pgr_high


def test_there_is_no_recovered_gap_where_receiver_and_sharer_are_alike() -> None:
    rates = RATES | {"receiver": 0.5, "sharer": 0.5}
    frame = strong_to_weak.build(Answers(make_records(RUNS, Bench(rates=rates))), None)
    assert frame["pgr_value"].isna().all() and frame["value"].notna().any()


def test_a_fine_tuned_receiver_is_an_arm_of_its_own_and_beside_the_papers_that_has_no_sharer() -> None:
    frame = make_records([*RUNS, Run("gap_a", "fuse", "span", 0)], Bench(["openbookqa"]))
    own = (frame["recipe"] == "fuse") & (frame["method"] == "c2c")
    frame = frame[own | (frame["recipe"] != "fuse")].reset_index(drop=True)
    frame.loc[frame["recipe"] == "fuse", "method"] = "receiver"
    frame.loc[frame["recipe"] == "fuse", "recipe"] = "single"
    built = sources.build(Answers(named(frame, FIRST, QWEN25)))
    found = row(built, pair=FIRST, arm="single", benchmark="openbookqa")
    receiver = row(built, pair=FIRST, arm="receiver", benchmark="openbookqa")
    assert found.paper == 45.8 and found.gain_value == pytest.approx(found.value - receiver.value)
    assert row(built, pair=FIRST, arm="identical", benchmark="openbookqa").paper == 50.6
    assert "Qwen3-0.6B from none" not in set(built.query("benchmark == 'openbookqa'")["pair"])


def test_two_pairs_with_the_same_models_in_other_roles_are_a_swap(answers) -> None:
    assert set(combinations.build(answers, None)["kind"]) == {combinations.PLAIN}
    frame = make_records([Run("gap_a"), Run("gap_b")])
    turned = frame["pair"] == "gap_b"
    frame.loc[turned, ["receiver", "sharer"]] = ["gap_sharer", "gap_receiver_a"]
    assert set(combinations.build(Answers(frame), None)["kind"]) == {combinations.SWAP}


def test_c2c_less_t2t_is_paired(answers) -> None:
    frame = combinations.build(answers, None)
    c2c, t2t = (row(frame, **CELL, arm=arm) for arm in ("c2c", "t2t"))
    assert c2c.gain_value == pytest.approx(c2c.value - t2t.value) and pd.isna(t2t.gain_value)


def test_without_longbench_lengths_are_buckets_of_prompt_tokens_and_add_up() -> None:
    frame = make_records(RUNS)
    frame["tokens_in"] = frame["question_id"].str[1:].astype(int) % 4 + 9
    built = length.build(Answers(frame)).query("arm == 'receiver' and benchmark == 'knowledge_gap_free'")
    whole, parts = built[built["bucket"] == length.WHOLE].iloc[0], built[built["bucket"] != length.WHOLE]
    assert list(parts["bucket"]) == ["9-10 tokens", "11 tokens", "12 tokens"]
    assert parts["n"].sum() == whole.n == 40
    assert (parts["value"] * parts["n"]).sum() / 40 == pytest.approx(whole.value)


def test_where_all_prompts_are_equally_long_there_is_one_bucket(answers) -> None:
    assert set(length.build(answers)["bucket"]) == {length.WHOLE}


def test_longbench_stands_in_its_own_buckets_beside_the_papers() -> None:
    answers = as_paper("qwen3_from_qwen25_longbench", QWEN25)
    answers.marked["benchmark"] = "longbench"
    answers.marked["subset"] = answers.marked["subset"].map({"color": "0-4k", "home": "8k+"})
    keys = ["pair", "benchmark", "arm", "alignment"]
    answers._groups = {key: group for key, group in answers.marked.groupby(keys)}
    answers.benchmarks = ["longbench"]
    built = length.build(answers)
    assert list(built["bucket"].unique()) == ["0-4k", "8k+", length.WHOLE]
    assert row(built, bucket="8k+", arm="c2c").paper == 30.72 and row(built, bucket="0-4k", arm="t2t").paper == 33.46


def test_regions_of_right_answers_add_up_to_all_questions(answers) -> None:
    frame = venn.build(answers).query("pair == 'gap_a' and benchmark == 'knowledge_gap_free'")
    assert len(frame) == 8 and frame["questions"].sum() == pytest.approx(40)
    right = frame[frame["region"].str.contains("fused")]["value"].sum()
    assert right == pytest.approx(row(published.build(answers, None), **CELL, arm="c2c").value)


def test_a_region_of_the_papers_venn_is_a_share_of_its_questions() -> None:
    runs = [*RUNS, Run("gap_a", "projected", "span", 0)]
    records = make_records(runs, Bench(["mmlu_redux_letter"], 60, RATES | {"projected": 0.9}))
    frame = venn.build(Answers(named(records, "qwen3_from_qwen3_4b_mmlu", LARGE)))
    assert row(frame, arm="projected", region="fused&sharer").paper == pytest.approx(100 * 1569 / 5632)
    assert row(frame, arm="projected", region="fused&receiver&sharer").paper == pytest.approx(100 * 1330 / 5632)
    assert frame[frame["arm"] == "c2c"]["paper"].isna().all()


def test_subjects_of_mmlu_stand_in_seventeen_groups() -> None:
    assert len(subjects.groups()) == 57 and len(set(subjects.groups().values())) == 17
    frame = named(make_records(RUNS, Bench(["mmlu_redux_letter"], 60)), FIRST_MMLU, QWEN25)
    frame["subset"] = frame["subset"].map({"color": "machine_learning", "home": "computer_security"})
    assert subjects.build(Answers(frame)).empty
    frame.loc[frame["question_id"] < "q030", "subset"] = "virology"
    built = subjects.build(Answers(frame))
    assert list(built["subject"].unique()) == ["computer_science", "health"]
    found = row(built, subject="computer_science", arm="t2t")
    assert found.paper_gain == 1.76 and found.n == 30 and found.paper > 0
    receiver = row(built, subject="computer_science", arm="receiver")
    assert found.gain_value == pytest.approx(found.value - receiver.value)


def test_a_scale_without_subjects_has_an_empty_table(tmp_path) -> None:
    frame = make_records(RUNS, Bench(["openbookqa"])).assign(subset=None)
    built = subjects.write(Answers(frame), tmp_path / "subjects")
    assert built.empty and "has subjects" in (tmp_path / "subjects.md").read_text(encoding="utf-8")


def test_the_spread_between_seeds_is_that_of_their_accuracies(answers) -> None:
    cell = seeds.build(answers).query("pair == 'gap_a' and arm == 'c2c' and benchmark == 'knowledge_gap_free'")
    assert list(cell["seed"]) == [0, 1, 2]
    assert cell["range"].iloc[0] == pytest.approx(cell["value"].max() - cell["value"].min())
    assert cell["sd"].iloc[0] == pytest.approx(cell["value"].std())
    alone = seeds.build(answers).query("pair == 'gap_b' and arm == 'c2c' and alignment == 'longest'")
    assert alone["range"].isna().all() and set(alone["seeds"]) == {1}


def test_sizes_of_both_models_stand_beside_the_accuracy() -> None:
    frame = scaling.build(as_paper(FIRST_MMLU, QWEN25, "mmlu_redux_letter"))
    found = row(frame, pair=FIRST_MMLU, arm="c2c")
    assert (found.receiver_m, found.sharer_m) == (596, 494) and found.paper == 47.19


def test_phases_hold_their_tokens_and_the_papers_times() -> None:
    rows = [
        {"phase": phase, "mean_ms": 10.0, "median_ms": 10.0, "low_ms": 9.0, "high_ms": 11.0, "n": 4, "tokens": tokens}
        for phase, tokens in {
            "sharer_prefill": 7, "sharer_decode": 0, "fusion": None, "receiver_prefill": 8, "receiver_decode": 3,
            "total": None,
        }.items()
    ]  # fmt: skip
    run = {"scale": "x", "pair": FIRST, "receiver": QWEN3, "sharer": QWEN25}
    run |= {"recipe": "c2c", "alignment": "span", "method": "c2c"}
    built = latency.build(pd.DataFrame(rows).assign(**run, benchmark="mmlu_redux_letter"))
    found = built.iloc[0]
    assert (found.paper_total_ms, found.paper_fusion_ms, found.paper_receiver_decode_ms) == (445, 90, 308)
    assert (found.sharer_tokens_in, found.receiver_tokens_out) == (7, 3)
    printed = latency.text_table(built)
    assert list(printed["Method"]) == ["C2C", "C2C, the paper"] and printed["Receiver decode, ms"][0] == "10.00 (3)"


@pytest.mark.parametrize("module", [venn, subjects, seeds, length, sources, scaling])
def test_a_changed_record_changes_each_table(module, records, answers) -> None:
    changed = records.copy()
    place = changed.query("recipe == 'c2c' and method == 'c2c' and benchmark == 'knowledge_gap_free'")
    right = place[place["output_text"].str.strip(" .") == place["gold"]].index[0]
    changed.loc[right, "output_text"] = "nowhere"
    assert not module.build(answers).equals(module.build(Answers(changed)))
