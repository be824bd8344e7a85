"""Tables of what is asked beyond one trained pair: known answers in, known numbers out."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from c2c.evaluation.schema import RECORD_SCHEMA, TOGETHER, conform
from paper.reading.answers import Answers
from paper.tables import agents, main, released, several_sharers, sources, venn
from tests.paper.builder import Run, make_records

QUESTIONS = 40


def rows(
    pair: str, arm: tuple[str, str], right: set[int], sharer: str, receiver: str = "gap_receiver_a"
) -> pd.DataFrame:
    """Records of one arm, (recipe, method), of a pair: the questions in `right` are answered correctly."""
    recipe, method = arm
    frame = make_records([Run("gap_a")])
    frame = frame[(frame["method"] == "receiver") & (frame["benchmark"] == "knowledge_gap_free")].reset_index(drop=True)
    numbers = frame["question_id"].str[1:].astype(int)
    text = frame["gold"].where(numbers.isin(right), "nothing")
    fused = {"alignment": "span" if recipe else "", "seed": 0 if recipe else None}
    ids = {"pair": pair, "receiver": receiver, "sharer": sharer, "recipe": recipe, "method": method}
    return conform(frame.assign(output_text=text, **ids, **fused), RECORD_SCHEMA)


FIRST, SECOND = set(range(20)), set(range(20, QUESTIONS))
NAMES = ("gap_sharer_first", "gap_sharer_second")


@pytest.fixture
def together() -> pd.DataFrame:
    both, group = TOGETHER.join(NAMES), "gap_halves"
    return pd.concat(
        [
            *(
                rows(pair, ("", "receiver"), {0}, sharer)
                for pair, sharer in zip(("gap_first", "gap_second"), NAMES, strict=True)
            ),
            rows("gap_first", ("", "sharer"), FIRST, NAMES[0]),
            rows("gap_second", ("", "sharer"), SECOND, NAMES[1]),
            rows("gap_first", ("c2c", "c2c"), FIRST - {0, 1}, NAMES[0]),
            rows("gap_second", ("c2c", "c2c"), SECOND - {20}, NAMES[1]),
            rows(group, ("sequential", "c2c"), FIRST | SECOND, both),
            rows(group, ("sequential", "c2c_deranged"), {3}, both),
            rows(group, ("sequential", "c2c_zeroed"), set(), both),
            rows(group, ("sequential", "c2c_zeroed_1"), SECOND, both),
            rows(group, ("sequential", "c2c_zeroed_2"), FIRST, both),
        ],
        ignore_index=True,
    )


def test_two_sharers_stand_beside_each_alone_and_their_controls(together) -> None:
    frame = several_sharers.build(Answers(together)).set_index("arm")
    assert frame["value"].to_dict() == pytest.approx(
        {"receiver": 2.5, "sharer_1": 50, "sharer_2": 50, "c2c_1": 45, "c2c_2": 47.5, "sequential": 100,
         "sequential_deranged": 2.5, "sequential_zeroed": 0, "sequential_zeroed_1": 50, "sequential_zeroed_2": 50}
    )  # fmt: skip
    assert frame.loc["sequential", "difference_value"] == pytest.approx(52.5)
    assert frame["difference_value"].notna().sum() == 1


def test_a_single_c2c_that_is_missing_is_a_row_with_its_reason_and_no_number(together) -> None:
    without = together[~((together["pair"] == "gap_second") & (together["recipe"] == "c2c"))]
    frame = several_sharers.build(Answers(without)).set_index("arm")
    assert pd.isna(frame.loc["c2c_2", "value"]) and frame.loc["c2c_2", "reason"]
    assert frame.loc["sequential", "difference_value"] == pytest.approx(55)


def test_another_answer_of_the_two_changes_the_table(together) -> None:
    changed = together.copy()
    place = changed.index[(changed["recipe"] == "sequential") & (changed["method"] == "c2c")][0]
    changed.loc[place, "output_text"] = "nothing"
    frame = several_sharers.build(Answers(changed)).set_index("arm")
    assert frame.loc["sequential", "value"] == pytest.approx(97.5)


def test_groups_and_pairs_that_stand_aside_are_in_no_other_table(together) -> None:
    answers = Answers(pd.concat([together, make_records()], ignore_index=True))
    frame = main.build(answers, None)
    assert set(frame["pair"]) == {"gap_a", "gap_b"}
    assert not any(arm.startswith(("sequential", "c2c_zeroed_")) for arm in frame["arm"])
    assert len(answers.groups) == 1


def test_the_table_of_two_sharers_is_written_and_names_the_models(together, tmp_path) -> None:
    several_sharers.write(Answers(together), tmp_path / "table13")
    text = (tmp_path / "table13.md").read_text()
    assert "Sharer 2: knowledge-gap Sharer of the second half" in text
    assert "100.0 [91.2, 100.0] | +52.5" in text


def test_without_a_group_the_table_is_empty() -> None:
    assert several_sharers.build(Answers(make_records([Run("gap_a")]))).empty


QWEN3, QWEN25 = "Qwen/Qwen3-0.6B", "Qwen/Qwen2.5-0.5B-Instruct"


def published(method: str, right: set[int]) -> pd.DataFrame:
    frame = rows("qwen3_from_qwen25", ("released" if method.startswith("c2c") else "", method), right, QWEN25, QWEN3)
    fused = {"alignment": "none", "seed": None} if method.startswith("c2c") else {}
    return conform(frame.assign(benchmark="openbookqa", **fused), RECORD_SCHEMA)


def test_published_fusers_have_their_gains_their_controls_and_the_papers_value_beside_them() -> None:
    right = {"receiver": 10, "sharer": 20, "c2c": 30, "c2c_deranged": 28, "c2c_zeroed": 4}
    frame = pd.concat([published(method, set(range(number))) for method, number in right.items()], ignore_index=True)
    table = released.build(Answers(frame)).set_index("arm")
    assert table.loc["released", ["value", "system_value", "pairing_value"]].tolist() == pytest.approx([75, 50, 5])
    assert table.loc["released_zeroed", "value"] == pytest.approx(10)
    assert table.loc["released", "paper"] == pytest.approx(52.6)
    assert table.loc["receiver", "alignment"] == "none" and pd.isna(table.loc["t2t", "value"])
    assert "released" not in set(main.build(Answers(frame), None)["arm"])


def test_the_fine_tuned_receiver_stands_beside_identical_adapter_and_c2c() -> None:
    right = {("", "receiver"): 4, ("single", "receiver"): 6, ("adapter", "c2c"): 8, ("c2c", "c2c"): 30}
    frame = pd.concat([rows("gap_a", arm, set(range(n)), "gap_sharer") for arm, n in right.items()], ignore_index=True)
    table = sources.build(Answers(frame)).query("benchmark == benchmark.iloc[0]").set_index("arm")
    assert table["value"].dropna().to_dict() == pytest.approx({"receiver": 10, "single": 15, "adapter": 20, "c2c": 75})
    assert table.loc["single", "gain_value"] == pytest.approx(5)
    assert table.loc["identical", "reason"]


def test_the_papers_values_of_table_6_stand_with_their_own_sharer() -> None:
    arms = [("single", "receiver"), ("identical", "c2c"), ("c2c", "c2c")]
    frames = [rows("qwen3_from_qwen25", arm, {0}, QWEN25, QWEN3).assign(benchmark="openbookqa") for arm in arms]
    table = sources.build(Answers(conform(pd.concat(frames, ignore_index=True), RECORD_SCHEMA)))
    table = table[table["benchmark"] == "openbookqa"].set_index("arm")
    assert table["paper"].dropna().to_dict() == {"single": 45.8, "identical": 50.6, "c2c": 52.6}


def test_two_agents_stand_beside_one_model_and_c2c() -> None:
    right = {("", "receiver"): 4, ("", "t2t_agents"): 20, ("c2c", "c2c"): 24, ("c2c", "t_c2c"): 32,
             ("c2c", "t_c2c_deranged"): 18}  # fmt: skip
    pair = ("qwen3_from_qwen3_4b_gsm8k", "Qwen/Qwen3-4B")
    frames = [rows(pair[0], arm, set(range(number)), pair[1], QWEN3) for arm, number in right.items()]
    frame = pd.concat(frames, ignore_index=True).assign(benchmark="gsm8k", scoring="exact")
    table = agents.build(Answers(conform(frame, RECORD_SCHEMA))).set_index("arm")
    values = {"receiver": 10, "t2t_agents": 50, "c2c": 60, "t_c2c": 80, "t_c2c_deranged": 45}
    assert table["value"].dropna().to_dict() == pytest.approx(values)
    assert table.loc["t2t_agents", "difference_value"] == pytest.approx(30)
    printed = {"receiver": 41.17, "t2t_agents": 61.18, "c2c": 62.55, "t_c2c": 78.01}
    assert table["paper"].dropna().to_dict() == printed


def test_the_table_of_two_agents_has_the_papers_values_in_a_column_or_else_in_a_note(tmp_path: Path) -> None:
    for pair, sharer, benchmark in (("qwen3_from_qwen3_4b_gsm8k", "Qwen/Qwen3-4B", "gsm8k"), ("gap_a", "x", "gap")):
        frames = [rows(pair, arm, {0}, sharer, QWEN3) for arm in (("", "receiver"), ("", "t2t_agents"))]
        frame = pd.concat(frames, ignore_index=True).assign(benchmark=benchmark, scoring="exact")
        agents.write(Answers(conform(frame, RECORD_SCHEMA)), tmp_path / benchmark)
    own, other = ((tmp_path / f"{benchmark}.md").read_text() for benchmark in ("gsm8k", "gap"))
    assert "| Paper, % |" in own and "Table 15 prints" not in own
    assert "Paper, %" not in other and "Table 15 prints: one model alone" in other


def test_a_pair_that_was_not_asked_as_two_agents_is_not_in_their_table() -> None:
    assert agents.build(Answers(make_records([Run("gap_a")]))).empty


@pytest.mark.parametrize(
    ("task", "is_printed"),
    [("mmlu_redux_letter", True), ("mmlu_redux_logits_released", True), ("mmlu_redux_logits", False)],
)
def test_regions_of_figure_7_stand_beside_the_papers_where_logits_are_asked_as_its_script_does(
    task: str, is_printed: bool
) -> None:
    arms = {("", "receiver"): range(20), ("", "sharer"): range(10, 30), ("projected", "c2c"): range(5, 35)}
    pair, sharer = "qwen3_from_qwen3_4b_mmlu", "Qwen/Qwen3-4B"
    frames = [rows(pair, arm, set(right), sharer, QWEN3).assign(benchmark=task) for arm, right in arms.items()]
    frame = venn.build(Answers(conform(pd.concat(frames, ignore_index=True), RECORD_SCHEMA)))
    regions = frame[(frame["arm"] == "projected") & (frame["region"] != venn.NOBODY)]
    assert len(regions) == 7 and regions["paper"].notna().all() == regions["paper"].notna().any() == is_printed
