"""The alignment of tables and claims is that with which a pair was run, and they name it where it is not span."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from paper import claims, show
from paper.reading import names
from paper.reading.alignments import main_alignment, main_alignments
from paper.reading.answers import Answers
from paper.reading.basis import Basis
from paper.reading.evidence import time_ratio
from paper.reading.reference import Reference
from paper.reading.times import times_of
from paper.summarise_latency import summarise
from paper.tables import ablation, accuracy_by_steps, alignment, gains, main, margins, published, venn
from tests.paper.builder import Bench, Run, make_latency, make_records

PAIR, MODELS = "qwen3_from_qwen25", {"receiver": "Qwen/Qwen3-0.6B", "sharer": "Qwen/Qwen2.5-0.5B-Instruct"}
TASKS = ("mmlu_redux_letter", "openbookqa_letter")
RUNS = [Run("gap_a"), *(Run("gap_a", recipe, "span", 42) for recipe in ("c2c", "adapter", "project"))]
OTHERS = ["longest", "unaligned"]


def records_of(alignment: str) -> pd.DataFrame:
    """Records of the paper's first pair; whatever the alignment is called, the answers are the same."""
    frame = make_records(RUNS, Bench(TASKS, 40)).assign(scale="reduced", pair=PAIR, **MODELS)
    return frame.assign(alignment=frame["alignment"].replace("span", alignment))


def basis_file(folder: Path, alignment: str) -> Path:
    """The claims, which rest on the records of the scale `reduced`."""
    content = yaml.safe_load(claims.PATH.read_text(encoding="utf-8"))
    trainings = [{"recipes": ["c2c", "adapter", "project"], "alignment": alignment, "seeds": [42]}]
    content["rests_on"] = {"reduced": [{"pairs": [PAIR], "benchmarks": list(TASKS), "trainings": trainings}]}
    (folder / "claims.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "claims.yaml"


def judge(claims_file: Path, answers: Answers, folder: Path) -> dict[str, dict]:
    outputs = (folder / "claims.json", folder / "claims_time.json")
    claims.write(claims_file, answers, make_latency([]), Reference(), outputs)
    return {entry["id"]: entry for entry in json.loads(outputs[0].read_text(encoding="utf-8"))}


@pytest.mark.parametrize(
    ("alignments", "main"),
    [
        (["span", "longest"], "span"),
        (["longest"], "longest"),
        (["unaligned", ""], "unaligned"),
        (["unaligned", "longest"], "longest"),
        ([""], "span"),
    ],
)
def test_the_main_alignment_is_the_one_that_was_run_and_span_of_several(alignments, main) -> None:
    assert main_alignment(PAIR, alignments) == main


def test_names_may_name_the_main_alignment_of_a_pair_that_was_run_with_it(monkeypatch) -> None:
    content = names.read_names()
    pairs = content["pairs"] | {PAIR: content["pairs"][PAIR] | {"main_alignment": "unaligned"}}
    monkeypatch.setattr(names, "read_names", lambda: content | {"pairs": pairs})
    both = pd.concat([records_of("span"), records_of("unaligned").query("alignment != ''")])
    assert Answers(both).main_alignment(PAIR) == "unaligned"
    assert Answers(records_of("span")).main_alignment(PAIR) == "span"


def test_the_alignments_of_c2c_decide_and_those_of_other_recipes_do_not() -> None:
    rows = [("c2c", "unaligned"), ("identical", "span"), ("receiver", "")]
    frame = pd.DataFrame([{"pair": PAIR, "arm": arm, "alignment": alignment} for arm, alignment in rows])
    assert main_alignments(frame) == {PAIR: "unaligned"}


@pytest.mark.parametrize("other", OTHERS)
def test_tables_of_a_scale_without_span_hold_the_same_numbers_and_name_the_alignment(other) -> None:
    span, answers = Answers(records_of("span")), Answers(records_of(other))
    for build in (main.build, published.build):
        ours, theirs = build(answers, None), build(span, None)
        assert "alignment" not in theirs
        pd.testing.assert_frame_equal(ours.drop(columns="alignment"), theirs)
    for table in (gains, margins, ablation):
        ours, theirs = table.build(answers), table.build(span)
        if len(theirs):
            pd.testing.assert_frame_equal(ours.drop(columns="alignment"), theirs)
            assert "Alignment" in table.text_table(ours) and "Alignment" not in table.text_table(theirs)


@pytest.mark.parametrize("other", OTHERS)
def test_table_4_of_a_scale_without_span_is_filled_beside_the_papers_values(other, tmp_path) -> None:
    frame = published.write(Answers(records_of(other)), None, tmp_path / "published")
    ours = frame[frame["pair"] == PAIR]
    assert ours[["value", "paper"]].notna().all(axis=None) and set(ours["arm"]) == set(published.ARMS)
    assert set(ours.loc[ours["arm"] == "c2c", "alignment"]) == {other}
    assert set(ours.loc[ours["arm"] != "c2c", "alignment"]) == {""}
    text = (tmp_path / "published.md").read_text(encoding="utf-8")
    assert f"| C2C | {other} |" in text and "| Receiver | – |" in text


def test_a_table_without_a_column_of_alignments_names_them_in_a_note(tmp_path) -> None:
    answers = Answers(records_of("unaligned"))
    venn.write(answers, tmp_path / "venn")
    assert "where it is not span. Qwen3-0.6B from Qwen2.5-0.5B: unaligned" in (tmp_path / "venn.md").read_text("utf-8")


@pytest.mark.parametrize("other", OTHERS)
def test_claims_rest_on_the_listed_alignment_and_name_it(other, tmp_path) -> None:
    verdicts = judge(basis_file(tmp_path, other), Answers(records_of(other)), tmp_path)
    entry = verdicts["c2c_above_receiver"]
    assert entry["verdict"] == "supported" and entry["alignment"] == other
    assert {cell["alignment"] for cell in entry["evidence"]["cells"]} == {other}
    assert verdicts["c2c_above_sharer"]["value"] is not None
    reference = judge(basis_file(tmp_path, "span"), Answers(records_of("span")), tmp_path)
    assert {name: claim["value"] for name, claim in verdicts.items()} == {
        name: claim["value"] for name, claim in reference.items()
    }


def test_show_names_the_alignment_behind_each_number(tmp_path, monkeypatch, capsys) -> None:
    folder, answers = tmp_path / "results" / "reduced", Answers(records_of("unaligned"))
    (folder / "tables").mkdir(parents=True)
    judge(basis_file(tmp_path, "unaligned"), answers, folder)
    main.write(answers, None, folder / "tables" / "main")
    monkeypatch.chdir(tmp_path)
    assert show.main(["show", "table4", "--values"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (claim,) = [line for line in lines if line.strip().startswith("c2c_above_receiver ")]
    assert claim.endswith("points, alignment unaligned")
    values = [line for line in lines if "Qwen2.5-0.5B-Instruct" in line and "MMLU-Redux" in line and "accuracy" in line]
    for line in values:
        assert line.endswith("(own prompts, alignment unaligned)") == (", C2C," in line)
    assert any(", C2C," in line for line in values)


def test_times_are_those_of_the_alignment_that_was_timed() -> None:
    times = make_latency([Run("gap_a"), Run("gap_a", "c2c", "span", 0)])
    renamed = times.assign(alignment=times["alignment"].replace("span", "unaligned"))
    pd.testing.assert_frame_equal(times_of(summarise(renamed)), times_of(summarise(times)))
    seeds = {training._replace(alignment="unaligned"): [0] for training in Basis.load(claims.PATH, "smoke").seeds}
    basis = Basis({"gap_a": ["knowledge_gap_free"]}, seeds, {"gap_a": "knowledge_gap_free"})
    assert time_ratio(renamed, basis, "t2t", "c2c").overall is not None
    assert time_ratio(times, basis, "t2t", "c2c").overall is None


def test_the_table_of_alignments_attributes_the_difference_of_unaligned_to_span() -> None:
    both = pd.concat([records_of("span"), worse(records_of("unaligned").query("alignment != ''"))])
    answers = Answers(both)
    frame = alignment.build(answers)
    assert list(frame.loc[frame["benchmark"] == TASKS[0], "alignment"]) == ["span", "longest", "unaligned"]
    rows = frame[frame["alignment"] == "unaligned"]
    span = frame[frame["alignment"] == "span"]
    assert (rows["difference_value"].to_numpy() == rows["c2c_value"].to_numpy() - span["c2c_value"].to_numpy()).all()
    assert (rows["difference_high"] < 0).all() and rows["communication_value"].notna().all()
    assert "alignment" not in main.build(answers, None)


def worse(frame: pd.DataFrame) -> pd.DataFrame:
    """The records with a wrong answer to every other question."""
    wrong = frame["question_id"].str[-1].astype(int) % 2 == 0
    return frame.assign(output_text=frame["output_text"].mask(wrong, "Neither."))


def test_cost_by_steps_is_that_of_the_main_alignment() -> None:
    cost = pd.DataFrame(
        [
            {
                "pair": PAIR,
                "recipe": "c2c",
                "alignment": "unaligned",
                "step": 10,
                "hours": 2.0,
                "shared_hours": 0.0,
                "shared_runs": 1,
                "gpu_hours": 2.0,
                "last": True,
            }
        ]
    )
    frame = accuracy_by_steps.build(Answers(records_of("unaligned")), cost, Reference())
    assert frame.loc[frame["arm"] == "c2c", "value"].notna().all() and set(frame["alignment"]) == {"", "unaligned"}
