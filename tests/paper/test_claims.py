"""Properties of verdicts: they follow from evidence by one rule, contradictions from the paper's own numbers."""

import json

import pytest
import yaml

from c2c.errors import RefusedError
from c2c.stats import Estimate
from paper import claims
from paper.reading.answers import Answers
from paper.reading.basis import Basis
from paper.reading.evidence import Evidence, paired, time_ratio
from paper.reading.reference import PATH, Reference
from tests.paper.builder import Run, make_records

WORLD = Basis.load(claims.PATH, "smoke")


@pytest.fixture(scope="module")
def judged(records, latency):
    answers, reference = Answers(records), Reference()
    return {claim["id"]: claims.judge(claim, answers, latency, reference, WORLD) for claim in claims.read_claims()}


def estimate(value: float, low: float) -> Estimate:
    return Estimate(value, low, value + 1, 40, 1)


@pytest.mark.parametrize(
    ("overall", "cells", "verdict"),
    [
        (estimate(5, 1), [1, 9], claims.SUPPORTED),
        (estimate(5, 1), [-1, 11], claims.DIRECTION),
        (estimate(5, -1), [1, 9], claims.DIRECTION),
        (estimate(0, -1), [0, 0], claims.UNSUPPORTED),
        (estimate(-5, -9), [-5, -5], claims.UNSUPPORTED),
        (None, [], claims.NOT_RUN),
    ],
)
def test_the_decision_rule(overall, cells, verdict):
    assert claims.decide(Evidence(overall, [{"value": value} for value in cells]), 0) == verdict


def test_every_verdict_is_one_of_five(judged):
    assert {entry["verdict"] for entry in judged.values()} <= set(claims.VERDICTS)


def test_c2c_that_is_better_is_supported_with_every_cell_as_evidence(judged):
    entry = judged["c2c_above_receiver"]
    assert entry["verdict"] == claims.SUPPORTED
    assert len(entry["evidence"]["cells"]) == 4
    assert entry["value"] == pytest.approx(sum(cell["value"] for cell in entry["evidence"]["cells"]) / 4, abs=1e-3)


def test_c2c_below_the_sharer_is_not_supported(judged):
    assert judged["c2c_above_sharer"]["verdict"] == claims.UNSUPPORTED


def test_a_claim_without_its_control_is_not_run_and_says_why(latency):
    answers = Answers(make_records([Run("gap_a"), Run("gap_a", "c2c", "span", 0)]))
    entry = next(claim for claim in claims.read_claims() if claim["id"] == "communication_gain")
    found = claims.judge(entry, answers, latency, Reference(), WORLD)
    assert found["verdict"] == claims.NOT_RUN and "adapter" in found["reason"] and found["value"] is None


def test_alignments_are_compared_where_both_were_run(judged):
    assert {cell["pair"] for cell in judged["span_above_longest"]["evidence"]["cells"]} == {"gap_b"}


def test_a_contradiction_is_computed_from_the_printed_values(judged, records, latency, tmp_path):
    assert judged["heterogeneous_gain_over_t2t"]["verdict"] == claims.INCONSISTENT
    found = judged["heterogeneous_gain_over_t2t"]["evidence"]
    mended = PATH.read_text(encoding="utf-8").replace(
        f"claimed mean gain over T2T,{found['printed']}", f"claimed mean gain over T2T,{found['recomputed']}"
    )
    (tmp_path / "mended.csv").write_text(mended, encoding="utf-8")
    entry = next(claim for claim in claims.read_claims() if claim["id"] == "heterogeneous_gain_over_t2t")
    again = claims.judge(entry, Answers(records), latency, Reference(tmp_path / "mended.csv"), WORLD)
    assert again["verdict"] == claims.NOT_RUN


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
