"""Properties of verdicts: they follow from evidence by one rule, contradictions from the paper's own numbers."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from c2c.errors import RefusedError
from c2c.stats import Estimate, mean_with_interval
from paper import claims, verdicts
from paper.reading.answers import Answers
from paper.reading.basis import Basis
from paper.reading.evidence import paired, time_ratio
from paper.reading.reference import PATH, Reference
from tests.paper.builder import Run, make_records

WORLD = Basis.load(claims.PATH, "smoke")


@pytest.fixture(scope="module")
def judged(records, latency):
    answers, reference = Answers(records), Reference()
    return {claim["id"]: claims.judge(claim, answers, latency, reference, WORLD) for claim in claims.read_claims()}


@pytest.mark.parametrize(
    ("overall", "verdict"),
    [
        (Estimate(5, 1, 9, 40, 1), verdicts.SUPPORTED),
        (Estimate(5, -1, 11, 40, 1), verdicts.UNDECIDED),
        (Estimate(-5, -11, 1, 40, 1), verdicts.UNDECIDED),
        (Estimate(-5, -9, -1, 40, 1), verdicts.CONTRADICTED),
        (Estimate(5, float("nan"), float("nan"), 1, 1), verdicts.NOT_RUN),
        (None, verdicts.NOT_RUN),
    ],
)
def test_a_verdict_is_where_the_interval_lies(overall, verdict):
    assert verdicts.decide(overall, 0) == verdict


@pytest.mark.parametrize(
    ("printed", "size"),
    [(6.0, verdicts.AGREES), (10.0, verdicts.AGREES), (12.0, verdicts.LOWER), (-2.0, verdicts.HIGHER), (None, "")],
)
def test_a_printed_value_agrees_in_size_within_the_interval_widened_by_the_seed_term(printed, size):
    # 4 points to each side, and 1.96 x 2 x the root of 2 for one training of ours and one of theirs: 6.84.
    assert verdicts.compare_size(Estimate(5, 1, 9, 40, 1), printed) == size


def test_cells_are_counted_by_their_own_intervals(judged):
    entry = judged["c2c_above_receiver"]
    bounds = [(cell["low"], cell["high"]) for cell in entry["evidence"]["cells"]]
    assert entry["cells"] == {
        "above": sum(low > 0 for low, _ in bounds),
        "below": sum(high < 0 for _, high in bounds),
        "undecided": sum(low <= 0 <= high for low, high in bounds),
        "missing": 0,
    }


def test_the_detectable_difference_is_left_out_by_the_interval_of_four_runs_in_five():
    draw = np.random.default_rng(0)
    values = [pd.DataFrame(draw.normal(0, 10, (50, 1))) for _ in range(400)]
    estimates = [mean_with_interval(frame) for frame in values]
    detectable = np.mean([claims._detectable(estimate) for estimate in estimates])
    shifted = [mean_with_interval(frame + detectable) for frame in values]
    assert np.mean([estimate.low > 0 for estimate in shifted]) == pytest.approx(0.8, abs=0.05)


def test_every_verdict_is_one_of_five(judged):
    assert {entry["verdict"] for entry in judged.values()} <= set(verdicts.VERDICTS)


def test_c2c_that_is_better_is_supported_with_every_cell_as_evidence(judged):
    entry = judged["c2c_above_receiver"]
    assert entry["verdict"] == verdicts.SUPPORTED
    assert len(entry["evidence"]["cells"]) == 4
    assert entry["value"] == pytest.approx(sum(cell["value"] for cell in entry["evidence"]["cells"]) / 4, abs=1e-3)


def test_c2c_below_the_sharer_is_contradicted(judged):
    assert judged["c2c_above_sharer"]["verdict"] == verdicts.CONTRADICTED


def test_a_claim_without_its_control_is_not_run_and_says_why(latency):
    answers = Answers(make_records([Run("gap_a"), Run("gap_a", "c2c", "span", 0)]))
    entry = next(claim for claim in claims.read_claims() if claim["id"] == "communication_gain")
    found = claims.judge(entry, answers, latency, Reference(), WORLD)
    assert found["verdict"] == verdicts.NOT_RUN and "adapter" in found["reason"] and found["value"] is None


def test_alignments_are_compared_where_both_were_run(judged):
    assert {cell["pair"] for cell in judged["span_above_longest"]["evidence"]["cells"]} == {"gap_b"}


def test_a_contradiction_is_computed_from_the_printed_values(judged, records, latency, tmp_path):
    assert judged["heterogeneous_gain_over_t2t"]["verdict"] == verdicts.INCONSISTENT
    found = judged["heterogeneous_gain_over_t2t"]["evidence"]
    mended = PATH.read_text(encoding="utf-8").replace(
        f"claimed mean gain over T2T,{found['printed']}", f"claimed mean gain over T2T,{found['recomputed']}"
    )
    (tmp_path / "mended.csv").write_text(mended, encoding="utf-8")
    entry = next(claim for claim in claims.read_claims() if claim["id"] == "heterogeneous_gain_over_t2t")
    again = claims.judge(entry, Answers(records), latency, Reference(tmp_path / "mended.csv"), WORLD)
    assert again["verdict"] == verdicts.NOT_RUN


def test_no_number_is_typed_in_a_sentence(judged):
    for claim in claims.read_claims():
        typed = claim["sentence"].replace("{paper", "")
        names = ("C2C-C", "C2C", "T2T", "Qwen3-0.6B", "Qwen2.5-0.5B", "Qwen3-4B", ":.1f", ":.2f")
        for name in names:
            typed = typed.replace(name, "")
        assert not any(letter.isdigit() for letter in typed), claim["id"]


def test_paired_evidence_of_one_arm_with_itself_is_zero(answers):
    found = paired(answers, WORLD, "c2c", "c2c").overall
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_time_ratio_is_that_of_the_means(latency):
    found = time_ratio(latency, WORLD, "t2t", "c2c").overall
    mean = latency.groupby("method")["total_s"].mean()
    assert found.value == pytest.approx(mean["t2t"] / mean["c2c"]) and found.low > 2


def test_verdicts_about_time_stand_in_a_file_of_their_own(records, latency, tmp_path):
    outputs = tmp_path / "claims.json", tmp_path / "claims_time.json"
    slower = latency.assign(total_s=latency["total_s"] * 3)
    claims.write(claims.PATH, Answers(records), latency, Reference(), outputs)
    before = outputs[0].read_bytes()
    claims.write(claims.PATH, Answers(records), slower, Reference(), outputs)
    assert outputs[0].read_bytes() == before
    ids = [entry["id"] for entry in json.loads(outputs[1].read_text(encoding="utf-8"))]
    assert ids == ["c2c_faster_than_t2t"]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ({"colour": "red"}, "known name"),
        ({"unit": "furlongs"}, "known name"),
        ({"evidence": {"kind": "hearsay"}}, "known name"),
        ({"evidence": None}, "evidence or a check"),
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused(tmp_path, harm, message):
    claim = {"id": "x", "sentence": "x", "where": "", "unit": "points", "evidence": {"kind": "none", "reason": "x"}}
    changed = {key: value for key, value in (claim | harm).items() if value is not None}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"claims": [changed]}), encoding="utf-8")
    with pytest.raises(RefusedError, match=message):
        claims.read_claims(tmp_path / "claims.yaml")
