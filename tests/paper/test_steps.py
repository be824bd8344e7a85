"""Fusers that were kept before their last step: arms of their own, Table 12, the figure of accuracy by steps."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from c2c.errors import RefusedError
from paper.figures import accuracy_by_steps as by_steps_figure
from paper.figures import style, training
from paper.reading.answers import Answers, arm_name
from paper.reading.basis import Basis, Training
from paper.reading.committed import COST
from paper.reading.evidence import paired
from paper.reading.files import read_table
from paper.reading.fusers import read_tables
from paper.reading.losses import paper_losses
from paper.reading.reference import Reference
from paper.recompute import recompute
from paper.tables import accuracy_by_steps, main
from paper.training_cost import COLUMNS, cost
from tests.paper.builder import RATES, Bench, Run, make_history, make_records, write_fuser, write_stamp

C2C = [Run("gap_a", "c2c", "span", seed) for seed in (0, 1)]
ADAPTER = Run("gap_a", "adapter", "span", 0)
KEPT = [Run("gap_a", f"{run.recipe}@50", "span", run.seed) for run in (*C2C, ADAPTER)]
WORLD = Basis({"gap_a": ["knowledge_gap_free", "knowledge_gap_choice"]}, {Training("gap_a", "c2c", "span"): [0, 1]})
CELL = {"pair": "gap_a", "benchmark": "knowledge_gap_free"}
SECONDS = {"50": 360.0, "250": 1800.0}


@pytest.fixture(scope="module")
def records() -> pd.DataFrame:
    worse = {arm: 0.5 * rate for arm, rate in RATES.items()}
    return pd.concat(
        [make_records([Run("gap_a"), *C2C, ADAPTER]), make_records(KEPT, Bench(rates=worse))], ignore_index=True
    )


@pytest.fixture
def costs(tmp_path) -> pd.DataFrame:
    stamps = [write_stamp(run, tmp_path, SECONDS, gpus=2) for run in (C2C[0], ADAPTER)]
    slower = {step: 2 * seconds for step, seconds in SECONDS.items()}
    return cost([*stamps, write_stamp(C2C[1], tmp_path, slower, gpus=2)])


def cell(frame: pd.DataFrame, **wanted: object) -> pd.Series:
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    (index,) = frame.index
    return frame.loc[index]


@pytest.mark.parametrize(
    ("recipe", "method", "arm"),
    [("c2c@50", "c2c", "c2c@50"), ("c2c@50", "c2c_deranged", "c2c_deranged@50"), ("adapter@50", "c2c", "adapter@50"),
     ("identical@9", "c2c_zeroed", "identical_zeroed@9")],
)  # fmt: skip
def test_the_step_of_a_fuser_is_part_of_its_arm(recipe, method, arm):
    assert arm_name(recipe, method) == arm


def test_fusers_on_their_way_stand_in_no_table_of_trained_ones_and_can_be_compared_by_name(records):
    answers = Answers(records)
    assert not any("@" in arm for arm in main.build(answers, None)["arm"])
    changed = paired(answers, WORLD, "c2c", "c2c@50").overall
    assert changed is not None and changed.low > 10 and changed.seeds == 2


def test_hours_are_read_from_the_provenance_of_each_training_and_multiplied_by_its_gpus(costs):
    assert list(costs.columns) == COLUMNS and len(costs) == 6
    row = costs[(costs["recipe"] == "c2c") & (costs["seed"] == 1)].set_index("step")
    assert row["hours"].to_dict() == pytest.approx({50: 0.2, 250: 1.0})
    assert row["gpu_hours"].to_dict() == pytest.approx({50: 0.4, 250: 2.0})
    assert row["last"].to_dict() == {50: False, 250: True}


def test_stored_states_cost_each_run_that_was_trained_from_them_an_equal_part(tmp_path):
    shared = {"states": "abc", "seconds": 720.0, "gpus": 1}
    stamps = [write_stamp(run, tmp_path, SECONDS, gpus=2, shared=shared) for run in C2C]
    table = cost([*stamps, write_stamp(ADAPTER, tmp_path, SECONDS, gpus=2)]).set_index(["recipe", "seed", "step"])
    for run in C2C:
        row = table.loc[("c2c", run.seed, 50)]
        # 720 seconds on one GPU for two runs, beside 360 of each on two GPUs
        assert (row.hours, row.shared_hours, row.shared_runs) == pytest.approx((0.1, 0.1, 2))
        assert row.gpu_hours == pytest.approx(2 * 0.1 + 1 * 0.1)
    alone = table.loc[("adapter", 0, 50)]
    assert (alone.shared_hours, alone.shared_runs) == (0, 1)


def test_fusers_trained_together_name_their_shares_of_the_passes_at_each_step(tmp_path):
    shared = {"seconds": {"50": 36.0, "250": 180.0}, "runs": 3}
    table = cost([write_stamp(C2C[0], tmp_path, SECONDS, gpus=2, shared=shared)]).set_index("step")
    assert table["shared_hours"].to_dict() == pytest.approx({50: 0.01, 250: 0.05})
    assert set(table["shared_runs"]) == {3}
    assert table["gpu_hours"].to_dict() == pytest.approx({50: 2 * 0.11, 250: 2 * 0.55})


def test_the_printed_table_has_shared_hours_only_where_passes_were_shared(records, costs, tmp_path):
    accuracy_by_steps.write(Answers(records), costs, tmp_path / "alone")
    shared = {"states": "abc", "seconds": 720.0, "gpus": 1}
    some = cost([write_stamp(run, tmp_path, SECONDS, shared=shared) for run in C2C])
    accuracy_by_steps.write(Answers(records), some, tmp_path / "shared")
    alone, together = ((tmp_path / f"{name}.md").read_text() for name in ("alone", "shared"))
    assert "Shared hours" not in alone and "Shared hours" in together and "Runs that share" in together


def test_a_training_that_does_not_say_its_cost_is_refused(tmp_path):
    stamp = tmp_path / "gap_a/c2c/span/seed0.provenance.json"
    stamp.parent.mkdir(parents=True)
    stamp.write_text("{}")
    with pytest.raises(RefusedError, match="what its training cost"):
        cost([stamp])


def test_each_step_has_its_accuracy_every_control_and_the_mean_hours_of_its_seeds(records, costs):
    frame = accuracy_by_steps.build(Answers(records), costs, Reference())
    found = records[(records["recipe"] == "c2c@50") & (records["method"] == "c2c")]
    found = found[found["benchmark"] == CELL["benchmark"]]
    right = [text.strip(" .") == gold for text, gold in zip(found["output_text"], found["gold"], strict=True)]
    kept, last = (cell(frame, **CELL, arm="c2c", step=step) for step in (50, 250))
    assert kept.value == pytest.approx(100 * np.mean(right)) and last.value > kept.value + 10
    assert (kept.n, kept.seeds) == (40, 2)
    assert (kept.hours, kept.gpu_hours) == pytest.approx((0.15, 0.3))
    assert list(frame[(frame["benchmark"] == CELL["benchmark"]) & (frame["step"] == 50)]["arm"]) == list(
        accuracy_by_steps.RECIPES
    )
    alone = cell(frame, **CELL, step=0)
    assert alone.arm == "receiver" and pd.isna(alone.seeds) and pd.isna(alone.hours)


def test_a_control_that_was_not_asked_at_a_step_is_a_row_with_a_reason(records, costs, tmp_path):
    fewer = records[records["recipe"] != "adapter@50"].reset_index(drop=True)
    frame = accuracy_by_steps.write(Answers(fewer), costs, tmp_path / "accuracy_by_steps")
    missing = cell(frame, **CELL, arm="adapter", step=50)
    assert pd.isna(missing.value) and missing.reason
    assert "free answer / Adapter / 50" in (tmp_path / "accuracy_by_steps.md").read_text()


def test_the_papers_values_stand_beside_the_same_pair_benchmark_and_step_and_nowhere_else(records, costs):
    renamed = records.replace(
        {
            "pair": {"gap_a": "qwen3_from_qwen25"},
            "receiver": {"gap_receiver_a": "Qwen/Qwen3-0.6B"},
            "sharer": {"gap_sharer": "Qwen/Qwen2.5-0.5B-Instruct"},
            "benchmark": {"knowledge_gap_free": "mmlu_redux"},
        }
    )
    paid = costs.replace({"pair": {"gap_a": "qwen3_from_qwen25"}})
    frame = accuracy_by_steps.build(Answers(renamed), paid, Reference())
    there = cell(frame, benchmark="mmlu_redux", arm="c2c", step=50)
    paper = Reference().numbers.filter(regex="^table-12/step-50/qwen3-0.6b/qwen2.5-0.5b")
    expected = [paper.filter(like=metric).item() for metric in ("accuracy", "wall-clock", "gpu-hours")]
    assert [there.paper_value, there.paper_hours, there.paper_gpu_hours] == expected
    start = cell(frame, benchmark="mmlu_redux", step=0)
    assert start.paper_value == Reference().numbers.filter(regex="^table-12/step-0/.*qwen2.5-0.5b").item()
    others = frame[~frame.index.isin([there.name, start.name])]
    assert others[["paper_value", "paper_hours", "paper_gpu_hours"]].isna().all(axis=None)
    titles = accuracy_by_steps.text_table(frame).columns
    assert {"Paper, %", "Paper, hours", "GPU hours"} <= set(titles)
    assert not [
        title
        for title in accuracy_by_steps.text_table(accuracy_by_steps.build(Answers(records), costs, Reference()))
        if "Paper" in title
    ]


def test_table_12_is_recomputed_where_the_cost_is_known_and_only_there(records, costs, tmp_path):
    assert not [name for name in recompute(records, None, tmp_path / "without") if "accuracy_by_steps" in name]
    costs.to_csv(tmp_path / COST, index=False)
    recompute(records, None, tmp_path / "with", cost=read_table(tmp_path / COST))
    accuracy_by_steps.write(Answers(records), costs, tmp_path / "alone")
    assert (tmp_path / "with/tables/accuracy_by_steps.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()


def test_accuracy_by_steps_is_drawn_with_the_same_bytes_also_with_gaps_and_the_papers_stars(records, costs, tmp_path):
    frame = accuracy_by_steps.build(Answers(records), costs, Reference())
    frame.loc[frame["arm"] == "c2c", "paper_value"] = 50.0
    frame.loc[(frame["arm"] == "adapter") & (frame["step"] == 50), ["value", "low", "high"]] = None
    for name in ("one", "two"):
        by_steps_figure.draw(frame, tmp_path / name)
    for suffix in style.SUFFIXES:
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width == pytest.approx(style.TEXT_WIDTH * style.RESOLUTION, abs=60)


def test_the_papers_validation_losses_are_drawn_for_the_same_pair_only(tmp_path):
    gap = write_fuser(C2C[0], tmp_path)
    assert paper_losses([gap], Reference()) == {}
    folder = tmp_path / "qwen3_from_qwen25/c2c/span/seed0"
    shutil.copytree(gap, folder)
    config = folder / "config.json"
    text = config.read_text().replace("gap_receiver_a", "Qwen/Qwen3-0.6B")
    config.write_text(text.replace("gap_sharer", "Qwen/Qwen2.5-0.5B-Instruct"))
    other = tmp_path / "qwen3_from_qwen25_mmlu/c2c/span/seed0"
    shutil.copytree(folder, other)
    assert paper_losses([other], Reference()) == {}
    (losses,) = paper_losses([folder], Reference()).values()
    assert list(losses.index) == list(range(100, 2000, 100)) and losses[100] == pytest.approx(0.8867)
    frame = read_tables([folder], training.FILE)
    assert len(frame) == len(make_history(C2C[0]))
    for name, paper in (("with", {"qwen3_from_qwen25": losses}), ("without", {})):
        training.draw(frame, tmp_path / name, paper)
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()
