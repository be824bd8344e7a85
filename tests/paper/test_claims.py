"""Properties of verdicts: they follow from evidence by one rule, contradictions from the paper's own numbers."""

import json
import re
from fnmatch import fnmatch

import numpy as np
import pandas as pd
import pytest
import yaml

from c2c.errors import RefusedError
from c2c.stats import Estimate, mean_with_interval
from c2c.testbed.card.gains import build_gains
from c2c.testbed.card.scorecard import build_card
from paper import claims, verdicts
from paper.artefacts import of_kind, of_testbed
from paper.communication import facts
from paper.reading.answers import Answers
from paper.reading.basis import Basis
from paper.reading.evidence import OF_PLACE, Evidence, Scope, count, from_table, paired, time_ratio
from paper.reading.messages import records_of
from paper.reading.reference import PATH, Reference
from paper.reading.sizes import parameters
from paper.tables import enrichment, gates, partial
from tests.communication.simulator import TestBed
from tests.paper.builder import RATES, Bench, Run, make_gates, make_latency, make_records

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
    assert found["verdict"] == verdicts.NOT_RUN and "Adapter" in found["reason"] and found["value"] is None


def test_alignments_are_compared_where_both_were_run(answers):
    assert {cell["pair"] for cell in paired(answers, WORLD, "c2c@span", "c2c@longest").cells} == {"gap_b"}


def test_a_claim_on_alignments_is_not_run_on_a_world_whose_tokenizer_was_made_for_it(judged):
    entry = judged["span_above_longest"]
    assert entry["verdict"] == verdicts.NOT_RUN and entry["value"] is None and "made to cut names" in entry["reason"]


def test_claims_of_the_project_compare_the_same_answer_and_the_papers_alignment(judged):
    evidence = {name: judged[name]["evidence"] for name in ("content_gain", "unaligned_above_span")}
    sides = {name: (entry["of"], entry["against"], entry["above"]) for name, entry in evidence.items()}
    assert sides["content_gain"] == ("c2c", "c2c_same_answer", 0)
    assert sides["unaligned_above_span"] == ("c2c@unaligned", "c2c@span", 0)
    assert {judged[name]["of"] for name in evidence} == {claims.PROJECT}
    # Neither was asked for here: each says what it lacks.
    assert all(judged[name]["verdict"] == verdicts.NOT_RUN and judged[name]["reason"] for name in evidence)


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
        names = ("C2C", "T2T", "Qwen3-0.6B", "Qwen2.5-0.5B", "Qwen2.5-Math-1.5B", "Qwen3-4B", "Llama-3.2-1B")
        names += (":.0f", ":.1f", ":.2f", "{bound")
        for name in names:
            typed = typed.replace(name, "")
        assert not any(letter.isdigit() for letter in typed), claim["id"]


def test_paired_evidence_of_one_arm_with_itself_is_zero(answers):
    found = paired(answers, WORLD, "c2c", "c2c").overall
    assert found.value == 0 and found.low == -found.high


def test_the_time_ratio_is_the_mean_over_pairs_of_ratios_of_mean_times(latency):
    found = time_ratio(latency, WORLD, "t2t", "c2c")
    means = latency.groupby(["pair", "method"])["total_s"].mean().unstack()
    assert found.overall.value == pytest.approx((means["t2t"] / means["c2c"]).mean()) and found.overall.low > 2
    assert found.pairs == {"gap_a", "gap_b"}
    phase = time_ratio(latency, WORLD, "t2t/sharer_decode", "c2c/fusion", Scope(without=["gap_b"]))
    seconds = latency[latency["pair"] == "gap_a"].groupby("method")[["sharer_decode_s", "fusion_s"]].mean()
    assert phase.overall.value == pytest.approx(seconds.loc["t2t"].iloc[0] / seconds.loc["c2c"].iloc[1])
    assert phase.pairs == {"gap_a"} and not phase.missing_count


def test_verdicts_about_time_stand_in_a_file_of_their_own(records, latency, tmp_path):
    outputs = tmp_path / "claims.json", tmp_path / "claims_time.json"
    slower = latency.assign(total_s=latency["total_s"] * 3)
    claims.write(claims.PATH, Answers(records), latency, Reference(), outputs)
    before = outputs[0].read_bytes()
    claims.write(claims.PATH, Answers(records), slower, Reference(), outputs)
    assert outputs[0].read_bytes() == before
    ids = [entry["id"] for entry in json.loads(outputs[1].read_text(encoding="utf-8"))]
    assert ids == ["c2c_faster_than_t2t", "fusion_faster_than_message"]


DIFFERENCE = {"kind": "paired_difference", "of": "c2c", "against": "receiver"}


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ({"colour": "red"}, "known name"),
        ({"unit": "furlongs"}, "known name"),
        ({"evidence": {"kind": "hearsay"}}, "known name"),
        ({"evidence": None}, "evidence or a check"),
        (DIFFERENCE | {"against": "nobody"}, "An arm of claim x must be a known name; received 'nobody'"),
        (DIFFERENCE | {"of": "c2c@spam"}, "alignment of c2c@spam in claim x must be a known name"),
        (DIFFERENCE | {"pairs": ["qwen3_from_nobody"]}, "A pair of claim x must be a known name"),
        (DIFFERENCE | {"without": ["nobody"]}, "A pair of claim x must be a known name"),
        (DIFFERENCE | {"benchmarks": ["nothing"]}, "A benchmark of claim x must be a known name"),
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused(tmp_path, harm, message):
    claim = {"id": "x", "sentence": "x", "where": "", "unit": "points", "evidence": {"kind": "none", "reason": "x"}}
    harm = {"evidence": harm} if "kind" in harm else harm
    changed = {key: value for key, value in (claim | harm).items() if value is not None}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"claims": [changed]}), encoding="utf-8")
    with pytest.raises(RefusedError, match=message):
        claims.read_claims(tmp_path / "claims.yaml")


# Rules over every cell, over rows of tables, and over counts.


def cells(*bounds):
    return [Estimate((low + high) / 2, low, high, 9, 1) for low, high in bounds]


@pytest.mark.parametrize(
    ("bounds", "missing", "verdict"),
    [
        ([(1, 3), (2, 4)], 0, verdicts.SUPPORTED),
        ([(1, 3), (2, 4)], 1, verdicts.UNDECIDED),
        ([(1, 3), (-1, 4)], 0, verdicts.UNDECIDED),
        # Below zero by its own interval, but not once there are 20 cells that could be so by chance.
        ([(1, 3), (-4, -0.1)], 0, verdicts.UNDECIDED),
        ([(1, 3), (-4, -2)], 0, verdicts.CONTRADICTED),
        ([], 2, verdicts.NOT_RUN),
    ],
)
def test_a_claim_about_every_cell_needs_each_of_them_and_is_contradicted_by_one_beyond_chance(bounds, missing, verdict):
    assert verdicts.decide_every(cells(*bounds), missing, 0) == verdict
    mirrored = cells(*((-high, -low) for low, high in bounds))
    assert verdicts.decide_every(mirrored, missing, 0, is_below=True) == verdict


def test_one_cell_contradicts_a_claim_about_every_cell_by_its_own_t_interval_at_bonferronis_level():
    draw = np.random.default_rng(0)
    # Three trainings of 2000 questions, which differ by 2 points: seeds make most of the error.
    values = pd.DataFrame(draw.normal(-0.09, 0.1, (2000, 1)) + draw.normal(0, 0.02, 3)[None, :])
    low = mean_with_interval(values)
    rest = [Estimate(1, 0.5, 1.5, 9, 1)] * 47
    assert low.high < 0 < low.value + low.spread.half_width(1 - 0.05 / 48)
    assert verdicts.decide_every([low], 0, 0) == verdicts.CONTRADICTED
    assert verdicts.decide_every([low, *rest], 0, 0) == verdicts.UNDECIDED


def test_a_row_of_a_table_has_the_tails_of_its_seeds_at_bonferronis_level():
    rest = [Estimate(1, 0.5, 1.5, 9, 1)] * 15
    of_one_seed, of_three = (Estimate(-2.5, -4, -1, 9, seeds) for seeds in (1, 3))
    assert verdicts.decide_every([of_one_seed, *rest], 0, 0) == verdicts.CONTRADICTED
    assert verdicts.decide_every([of_three, *rest], 0, 0) == verdicts.UNDECIDED


def test_a_claim_that_a_value_lies_below_a_bound_mirrors_the_verdicts():
    low, high = Estimate(1, 0.5, 2, 9, 1), Estimate(5, 4, 6, 9, 1)
    assert [verdicts.decide(estimate, 3, is_below=True) for estimate in (low, high)] == [
        verdicts.SUPPORTED,
        verdicts.CONTRADICTED,
    ]


ROWS = pd.DataFrame(
    {
        "pair": ["gap_a", "gap_a", "gap_b", "mine", "gap_a"],
        "benchmark": [
            "knowledge_gap_free",
            "knowledge_gap_choice",
            "knowledge_gap_free",
            "knowledge_gap_free",
            "other",
        ],
        "arm": ["c2c", "c2c", "t2t", "c2c", "c2c"],
        "gain_value": [4.0, 8.0, 1.0, 99.0, 99.0],
        "gain_low": [1.0, 4.0, 0.0, 98.0, 98.0],
        "gain_high": [7.0, 12.0, 2.0, 100.0, 100.0],
        "n": [10, 20, 30, 40, 50],
    }
)
TABLE = {"file": "tables/some.csv", "where": {"arm": "c2c"}, "value": "gain"}


def test_rows_of_a_table_are_cells_and_benchmarks_are_independent():
    found = from_table({"tables/some.csv": ROWS}, WORLD, TABLE, Scope())
    assert [cell["value"] for cell in found.cells] == [4, 8]
    half = (3**2 + 4**2) ** 0.5 / 2
    assert (found.overall.value, found.overall.low, found.overall.high) == (6, 6 - half, 6 + half)


def test_halves_of_intervals_add_up_where_questions_may_be_the_same():
    same = ROWS.assign(benchmark="knowledge_gap_free", arm="c2c").iloc[[0, 1]]
    found = from_table({"tables/some.csv": same}, WORLD, TABLE, Scope())
    assert found.overall.low == 6 - (3 + 4) / 2


def test_rows_of_a_users_own_pair_or_benchmark_move_no_verdict():
    lean = ROWS[(ROWS["pair"] != "mine") & (ROWS["benchmark"] != "other")]
    assert from_table({"tables/some.csv": lean}, WORLD, TABLE, Scope()) == from_table(
        {"tables/some.csv": ROWS}, WORLD, TABLE, Scope()
    )


def test_a_printed_value_is_not_judged_in_size_by_rows_of_several_seeds_which_have_no_standard_deviation():
    claim = {"id": "x", "sentence": "x", "where": "Table 9", "unit": "points", "paper": 10, "evidence": {}}
    claim["evidence"] = {**TABLE, "kind": "table", "file": "tables/strong_to_weak.csv"}
    for seeds, is_judged in ((3, False), (1, True)):
        rows = ROWS.iloc[:1].assign(pair="qwen3_from_qwen3_4b", benchmark="mmlu_redux_letter", seeds=seeds)
        tables = {"tables/strong_to_weak.csv": rows}
        entry = claims.judge(claim, Answers(SIZES[0]), make_latency([]), Reference(), PAPER, tables)
        assert entry["value"] == 4 and (entry["size"] != verdicts.NOT_JUDGED) == is_judged


def test_reasons_are_words_without_ids_or_files(judged):
    reasons = " ".join(entry["reason"] for entry in judged.values())
    ids = (".csv", ".yaml", "@", "_", "/")
    assert reasons and not [name for name in ids if name in reasons]


def test_numbers_in_sentences_have_a_true_minus_sign_and_names_of_models_a_hyphen(judged):
    assert "(by −6.30 points)" in judged["swap_t2t"]["sentence"]
    assert "Qwen2.5-0.5B" in judged["gain_over_sharer_lowest"]["sentence"]


def test_a_table_that_is_not_there_is_a_reason_and_a_column_that_it_lacks_a_refusal():
    assert "tables/some.csv" in from_table({}, WORLD, TABLE, Scope()).reason
    with pytest.raises(RefusedError, match="must have the columns"):
        from_table({"tables/some.csv": ROWS}, WORLD, {**TABLE, "value": "loss"}, Scope())


RANKS = pd.DataFrame(
    {
        "pair": "gap_a",
        "layer": [0, 1, 2, 3] * 2,
        "cache": ["fused"] * 4 + ["receiver"] * 4,
        "effective_rank": [5.0, 6.0, 7.0, 8.0, 4.0, 5.0, 6.0, 9.0],
    }
)
COUNT = {"file": "ranks.csv", "where": {"cache": "fused"}, "value": "effective_rank"}


@pytest.mark.parametrize(
    ("rule", "share", "n"),
    [
        ({"over": {"cache": "receiver"}, "by": ["layer"]}, 75, 4),
        ({"above": 6}, 50, 4),
        ({"below": {"sum": [3, 3]}}, 25, 4),
        ({"among": {"cache": ["fused", "receiver"]}}, 100 * 26 / 50, 50),
    ],
)
def test_a_count_is_a_share_with_its_interval(rule, share, n):
    found = count({"ranks.csv": RANKS}, WORLD, COUNT | rule, Scope(), Reference())
    assert found.overall.value == pytest.approx(share) and found.overall.n == n
    assert found.overall.low < share < found.overall.high and f"of {n}" in found.reason


def test_rows_that_a_count_cannot_tell_apart_are_refused():
    twice = pd.concat([RANKS, RANKS])
    with pytest.raises(RefusedError, match="must differ"):
        count(
            {"ranks.csv": twice}, WORLD, COUNT | {"over": {"cache": "receiver"}, "by": ["layer"]}, Scope(), Reference()
        )


def test_a_claim_is_about_the_pairs_of_its_place_of_a_list_or_all_but_some():
    main, swap = "qwen3_from_llama32", "qwen25_from_qwen3_mmlu"
    assert [Scope("Table 4").includes(pair) for pair in (main, swap, "gap_a")] == [True, False, True]
    assert [Scope("Table 4", OF_PLACE).includes(pair) for pair in (main, swap, "gap_a")] == [True, False, False]
    assert [Scope("Table 4", [swap]).includes(pair) for pair in (main, swap)] == [False, True]
    assert not Scope("Table 4", without=[main]).includes(main)


def as_pair(pair, receiver, sharer, rate):
    bench = Bench(["mmlu_redux_letter"], 200, {**RATES, "c2c": rate})
    return make_records([Run("gap_b"), Run("gap_b", "c2c", "span", 42)], bench).assign(
        pair=pair, scale="paper", receiver=receiver, sharer=sharer
    )


PAPER = Basis.load(claims.PATH, "paper")
SIZES = [
    as_pair("qwen3_from_qwen25_mmlu", "Qwen/Qwen3-0.6B", "Qwen/Qwen2.5-0.5B-Instruct", 0.3),
    as_pair("qwen3_from_qwen25_7b_mmlu", "Qwen/Qwen3-0.6B", "Qwen/Qwen2.5-7B-Instruct", 0.9),
]


def test_the_slope_is_the_change_of_the_difference_with_each_doubling_of_the_sharer():
    found = paired(Answers(pd.concat(SIZES)), PAPER, "c2c", "receiver", Scope("Figure 6", OF_PLACE), rule="slope")
    low, high = (paired(Answers(records), PAPER, "c2c", "receiver").overall.value for records in SIZES)
    doublings = np.log2(parameters("Qwen/Qwen2.5-7B-Instruct") / parameters("Qwen/Qwen2.5-0.5B-Instruct"))
    assert found.overall.value == pytest.approx((high - low) / doublings)
    assert (
        paired(Answers(SIZES[0]), PAPER, "c2c", "receiver", rule="slope").reason
        == "no Receiver has Sharers of several sizes"
    )


def test_a_printed_value_is_compared_in_size_only_where_the_pairs_are_those_of_the_paper(judged):
    assert {entry["size"] for entry in judged.values()} == {""}
    entry = next(claim for claim in claims.read_claims() if claim["id"] == "sizes_above_t2t")
    times = make_latency([])
    found = claims.judge(entry, Answers(pd.concat(SIZES)), times, Reference(), PAPER)
    assert found["size"] in (verdicts.AGREES, verdicts.HIGHER, verdicts.LOWER)


def test_a_headline_is_compared_in_size_with_both_versions_of_the_abstract():
    records = as_pair("qwen3_from_qwen25", "Qwen/Qwen3-0.6B", "Qwen/Qwen2.5-0.5B-Instruct", 0.9)
    entry = next(claim for claim in claims.read_claims() if claim["id"] == "gain_over_t2t_highest")
    found = claims.judge(entry, Answers(records), make_latency([]), Reference(), PAPER)
    assert found["size"] and found["earlier"]["size"]
    assert (found["paper_value"], found["earlier"]["value"]) == (5.4, 5.0)


def test_a_share_of_one_training_is_not_judged_in_size_because_no_spread_of_trainings_is_known():
    entry = next(claim for claim in claims.read_claims() if claim["id"] == "gap_recovered")
    row = {"pair": "qwen3_from_qwen3_4b", "benchmark": "mmlu_redux_letter", "arm": "c2c", "n": 99}
    row |= {"pgr_value": 40.0, "pgr_low": 30.0, "pgr_high": 50.0}
    sizes = []
    for seeds in (1, 3):
        tables = {"tables/strong_to_weak.csv": pd.DataFrame([row | {"seeds": seeds}])}
        found = claims.judge(entry, Answers(pd.concat(SIZES)), make_latency([]), Reference(), PAPER, tables)
        sizes.append(found["size"])
    assert sizes[0] == verdicts.ONE_SEED and sizes[1] in (verdicts.AGREES, verdicts.HIGHER, verdicts.LOWER)


def test_a_mean_over_pairs_with_one_and_with_several_seeds_says_so_beside_its_value(judged):
    note = judged["communication_gain"]["seeds_note"]
    seeds = {cell["seeds"] for cell in judged["communication_gain"]["evidence"]["cells"]}
    assert (len(seeds) > 1) == bool(note)
    cells = [{"pair": "a", "seeds": 3}, {"pair": "b", "seeds": 1}]
    mixed = Evidence(Estimate(1, 0, 2, 9, 1), cells)
    assert claims._seeds_note(mixed).startswith("1–3 seeds; the interval leaves out how trainings of b vary")
    assert claims._seeds_note(Evidence(Estimate(1, 0, 2, 9, 3), cells[:1])) == ""


def test_progressive_fusion_is_not_supported_while_one_step_from_share_to_share_may_be_zero():
    entry = next(claim for claim in claims.read_claims() if claim["id"] == "progressive_fusion")
    for back, verdict in ((8.0, verdicts.SUPPORTED), (1.0, verdicts.UNDECIDED)):
        rows = [
            {"pair": "gap_b", "benchmark": "knowledge_gap_free", "side": side, "share": share, "n": 256,
             "step_value": step, "step_low": step - 5, "step_high": step + 5}
            for side, step in (("front", 20.0), ("back", back)) for share in (75.0, 100.0)
        ]  # fmt: skip
        tables = {"tables/partial.csv": pd.DataFrame(rows)}
        found = claims.judge(entry, Answers(pd.concat(SIZES)), make_latency([]), Reference(), WORLD, tables)
        assert found["verdict"] == verdict and sum(found["cells"].values()) == 4


def test_a_claim_without_a_place_in_the_paper_is_the_projects(judged):
    own = {name for name, entry in judged.items() if entry["of"] == claims.PROJECT}
    tables = {f"{table.stem}.csv" for table in of_kind("table").values() if of_testbed(table)}
    of_bed = {name for name in own if judged[name]["evidence"].get("file") in tables}
    assert len(of_bed) > 10 and own - of_bed == {
        *("pairing_gain", "communication_gain", "content_gain"),
        *("unaligned_above_span", "span_above_longest", "effective_rank_of_message"),
    }


def test_a_replication_in_another_unit_states_it(judged):
    assert judged["communication_gain"]["replication"]["unit"] == "percent"
    assert judged["communication_gain"]["unit"] == judged["pairing_gain"]["replication"]["unit"] == "points"


# Every number of the paper's statements has a claim.

STATEMENTS = (
    "headline/*",
    "sec4.2/*",
    "app.-a.4.2/*",
    "app.-a.1.2/*",
    "*/text/*",
    "*/share-of-sharer-correct-also-correct",
)
WITHOUT_CLAIM = {"Figure 13"}
"""The paper draws losses there and states nothing about them in numbers."""


def formulas(claim):
    check, evidence = claim.get("check", {}), claim.get("evidence", {})
    yield from (claim[key] for key in ("paper", "above", "below") if key in claim)
    yield from (claim[key]["value"] for key in ("earlier",) if key in claim)
    yield from (check[key] for key in ("printed", "recomputed") if key in check)
    yield from (evidence[key] for key in ("above", "below") if key in evidence)


def test_every_number_that_the_paper_states_has_a_claim_and_so_has_every_table_and_figure():
    reference = Reference()
    ids = set[str]().union(
        *(reference.ids(formula) for claim in claims.read_claims() for formula in formulas(claim) if claim["where"])
    )
    stated = {name for name in reference.frame["id"] if any(fnmatch(name, pattern) for pattern in STATEMENTS)}
    assert len(stated) > 25 and not stated - ids
    artefacts = reference.frame.set_index("id")["artefact"]
    numbered = artefacts[artefacts.str.fullmatch(r"(Table|Figure) \d+")]
    quoted = set(numbered[numbered.index.isin(ids)]) | set(
        re.findall(r"(?:Table|Figure) \d+", " ".join(claim["where"] for claim in claims.read_claims()))
    )
    assert set(numbered) - quoted == WITHOUT_CLAIM


def columns_of_test_bed() -> dict[str, list[str]]:
    bed = TestBed(tasks=("redacted_record",), items=20, seeds=(0,), subsets=("1", "8"))
    records = records_of(bed.records())
    builders = {"scorecard": build_card, "testbed_gains": build_gains, "testbed_facts": facts.build}
    return {f"tables/{name}.csv": list(build(records).columns) for name, build in builders.items()}


def test_each_table_that_a_claim_reads_has_the_columns_that_it_names(made_results):
    trained = make_gates(Run("gap_a", "c2c", "span", 0)).assign(pair="gap_a", recipe="c2c", alignment="span", seed=0)
    of_analyses = {
        "analysis/effective_rank/ranks.csv": ["pair", "half", "layer", "cache", "effective_rank"],
        "tables/enrichment.csv": [*enrichment.ID_COLUMNS, "kind", *enrichment.NUMBERS],
        "tables/partial.csv": [*partial.ID_COLUMNS, "side", "share", "step_value", "step_low", "step_high"],
        "tables/gates.csv": list(gates.build(trained).columns),
    }
    of_analyses |= columns_of_test_bed()
    for claim in claims.read_claims():
        evidence = claim.get("evidence", {})
        if "file" not in evidence:
            continue
        file, value = made_results / evidence["file"], evidence["value"]
        columns = of_analyses.get(evidence["file"]) or list(pd.read_csv(file, nrows=0).columns)
        prefixed = [f"{value}_{bound}".lstrip("_") for bound in ("value", "low", "high")]
        needed = [*evidence["where"], *evidence.get("by", ()), *evidence.get("over", ())]
        needed += prefixed if evidence["kind"] == "table" else [value]
        assert set(needed) <= set(columns), claim["id"]


@pytest.mark.parametrize(
    "evidence",
    [
        {"kind": "table", "file": "tables/a.csv", "where": {}},
        {"kind": "count", "file": "tables/a.csv", "where": {}, "value": "n", "sort": "n"},
        {"kind": "paired_difference", "of": "c2c", "against": "t2t", "rule": "majority"},
        {"kind": "paired_difference", "of": "c2c", "against": "t2t", "pairs": "some"},
    ],
)
def test_evidence_with_a_key_too_few_or_too_many_is_refused(tmp_path, evidence):
    claim = {"id": "x", "sentence": "x", "where": "", "unit": "points", "evidence": evidence}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"claims": [claim]}), encoding="utf-8")
    with pytest.raises(RefusedError):
        claims.read_claims(tmp_path / "claims.yaml")


def bed_rows(**columns) -> dict[str, pd.DataFrame]:
    """A score card of the redacted word through C2C on ridge, with a row a pair."""
    row = {"task": "redacted_word", "channel": "c2c_on_ridge", "gate": "passed", "n": 300, "seeds": 3}
    bounds = {"choice_value": 99.0, "choice_low": 97.0, "choice_high": 100.0}
    pairs = ("smollm2_from_coder", "smollm2_from_gemma")
    return {"tables/scorecard.csv": pd.DataFrame([{"pair": pair, **row, **bounds, **columns} for pair in pairs])}


@pytest.mark.parametrize(
    ("columns", "verdict"),
    [
        ({}, verdicts.SUPPORTED),
        ({"choice_low": 94.0}, verdicts.UNDECIDED),
        ({"choice_value": 60.0, "choice_low": 55.0, "choice_high": 65.0}, verdicts.CONTRADICTED),
        # A number whose instrument was not sound counts for nothing.
        ({"gate": "void"}, verdicts.NOT_RUN),
    ],
)
def test_a_claim_of_the_test_bed_rests_on_every_pair_whose_gate_is_passed(columns, verdict):
    entry = next(claim for claim in claims.read_claims() if claim["id"] == "redacted_word_on_ridge")
    found = claims.judge(entry, Answers(pd.concat(SIZES)), make_latency([]), Reference(), WORLD, bed_rows(**columns))
    assert found["verdict"] == verdict and "at least 95 %" in found["sentence"]
