"""Findings of the PDF's sections: their numbers are those of tidy files, and a changed file changes the sentence."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from c2c.errors import RefusedError
from c2c.testbed.card.numbers import decimal
from paper import build
from paper.artefacts import GENERIC, read_artefacts
from paper.findings import answers as of_answers
from paper.findings import caches, function, read_sections
from paper.findings import remarks as of_captions
from paper.findings.wording import counted, series, tally
from paper.reading import names
from paper.reading.answers import Answers
from paper.tables import seeds, sources, strong_to_weak, subjects, venn
from tests.paper.builder import SMOKE, write_fuser

SECTIONS = {section.title: section for section in read_sections()}


def test_every_section_of_the_registry_has_a_text() -> None:
    assert {each.section for each in read_artefacts() if each.text == GENERIC} <= set(SECTIONS)


@pytest.mark.parametrize("section", read_sections(), ids=lambda section: section.title)
def test_a_section_has_a_question_and_how_it_was_measured_but_no_number(section) -> None:
    sentences = re.split(r"(?<=[.?]) ", section.text)
    assert 2 <= len(sentences) <= 6
    assert not re.search(
        r"\b\d", section.text.replace("95 %", "").replace("puts the Receiver at 0 and the Sharer at 100", "")
    )


@pytest.mark.parametrize("section", read_sections(), ids=lambda section: section.title)
def test_findings_read_what_the_tables_and_figures_of_their_section_read_or_are(section) -> None:
    known = {each.files[0] for each in read_artefacts()} | {
        path for each in read_artefacts() for path in each.reads.values()
    }
    assert set(section.findings.values()) <= known


def test_a_changed_record_changes_the_sentence(records) -> None:
    changed = records.copy()
    place = changed.query("recipe == 'adapter' and benchmark == 'knowledge_gap_free'").index
    changed.loc[place, "output_text"] = "nowhere"
    before, after = (of_answers.sources(sources.build(Answers(frame))) for frame in (records, changed))
    assert before != after and before[0].partition("Adapter")[0] == after[0].partition("Adapter")[0]


def test_the_numbers_of_a_finding_stand_in_its_table(answers) -> None:
    frame = strong_to_weak.build(answers, None)
    row = frame.query("arm == 'c2c'").iloc[0]
    assert f"C2C {decimal(row['pgr_value'], 1)} [" in of_answers.strong_to_weak(frame)[0]


def test_subjects_name_the_largest_and_the_smallest_gain(answers) -> None:
    frame = subjects.build(answers)
    cell = frame[(frame["pair"] == frame["pair"].iloc[0]) & (frame["benchmark"] == frame["benchmark"].iloc[0])]
    rows = cell[cell["arm"] == "c2c"].sort_values("gain_value", kind="stable")
    said = of_answers.subjects(frame)[0]
    assert f"largest in {rows.iloc[-1]['subject']} (" in said and f"smallest in {rows.iloc[0]['subject']} (" in said


def test_regions_of_right_answers_are_added_up_by_who_else_is_right(answers) -> None:
    frame = venn.build(answers)
    first = frame[
        (frame["pair"] == "gap_a") & (frame["benchmark"] == frame["benchmark"].iloc[0]) & (frame["arm"] == "c2c")
    ]
    counts = first.set_index("region")["questions"]
    whole = counts["fused&sharer"] + counts["sharer"]
    said = of_answers.venn(frame)[0]
    assert f"of {counted(whole)} questions" in said and f"{decimal(100 * counts['fused&sharer'] / whole, 1)} %" in said


def test_one_seed_has_no_spread(answers) -> None:
    frame = seeds.build(answers)
    assert "standard deviation" in of_answers.seeds(frame)[0]
    alone = frame[frame["seeds"] == 1]
    assert of_answers.seeds(alone) == [
        "At this scale each Fuser was trained once, so that nothing is known of the spread."
    ]


def test_kept_steps_are_no_cells_of_the_spread(records) -> None:
    kept = records[records["recipe"] == "c2c"].assign(recipe="c2c@10")
    frame = seeds.build(Answers(pd.concat([records, kept], ignore_index=True)))
    assert not frame["arm"].str.contains("@").any()


@pytest.mark.parametrize(
    ("lows", "highs", "said"),
    [
        ([1, 2], [3, 4], "above zero on all 2 cells"),
        ([-1, -2], [3, 4], "not distinguishable from zero on all 2 cells"),
        ([1, -3, -1], [2, -2, 1], "above zero on 1, below zero on 1 and not distinguishable from zero on 1 of 3 cells"),
        ([1], [2], "above zero on the only one of the cells"),
    ],
)
def test_intervals_are_counted_by_where_they_lie(lows, highs, said) -> None:
    assert tally(pd.DataFrame({"x_low": lows, "x_high": highs}), "x_", "cells") == said


def test_sharers_of_two_sizes_are_compared_on_their_common_benchmarks_alone() -> None:
    sizes = [("arc_easy_text", 1.0, 40.0), ("arc_easy_text", 2.0, 50.0), ("gap_words_text", 2.0, 100.0)]
    frame = pd.DataFrame(
        [
            {"pair": "p", "receiver": "r", "arm": "c2c", "benchmark": benchmark, "sharer_m": size, "value": value}
            for benchmark, size, value in sizes
        ]
    )
    assert of_answers.scaling(frame)[0].endswith("mean of 1 common benchmark: C2C 40.0 to 50.0 %.")


def test_a_benchmark_that_its_pair_is_named_after_is_not_named_twice() -> None:
    title = names.cell_title("private_line_self", "gap_private_line_text")
    assert title == "SmolLM2-135M from itself, private line, four-way choice"
    assert names.cell_title("private_line_self", "arc_easy_text").endswith("private line, ARC-Easy (text)")


def test_lists_and_counts_read_as_prose() -> None:
    assert (series(["a"]), series(["a", "b", "c"])) == ("a", "a, b and c")
    assert (counted(474.0), counted(37.3333)) == ("474", "37.3")


def test_gates_are_added_up_over_pairs() -> None:
    rows = [("gap_a", "key", 9, 9, 0.4), ("gap_b", "key", 3, 1, 0.8), ("gap_a", "value", 9, 3, 0.5)]
    columns = ["pair", "half", "gates", "open", "weight_mean"]
    frame = pd.DataFrame(rows, columns=columns).assign(recipe="c2c", alignment="span", layer="all")
    said = caches.gates(frame)[0]
    assert "10 of 12 gates of keys are open, with a mean weight of 0.50" in said and "3 of 9 gates of values" in said


def test_partial_fusion_tells_each_share_at_each_side() -> None:
    rows = [("front", 25.0, 10.0), ("front", 100.0, 90.0), ("back", 25.0, 80.0), ("back", 100.0, 90.0)]
    frame = pd.DataFrame(rows, columns=["side", "share", "value"]).assign(pair="gap_a", benchmark="knowledge_gap_free")
    for prefix in ("", "difference_"):
        frame = frame.assign(**{f"{prefix}low": frame["value"] - 1, f"{prefix}high": frame["value"] + 1})
    said = " ".join(caches.partial(frame.assign(difference_value=frame["value"])))
    assert "at the front alone: 10.0 [9.0, 11.0] % with 25 %" in said
    assert "at the back alone: 80.0 [79.0, 81.0] % with 25 %" in said and "above zero on all 2" in said


def test_the_rank_of_a_fused_cache_stands_beside_its_control() -> None:
    caches_ = ["sharer", "receiver", "c2c", "c2c_deranged"]
    frame = pd.DataFrame(
        {"cache": caches_, "value": [40.0, 17.0, 32.0, 33.0], "above_receiver": [23.0, 0.0, 15.0, 16.0]}
    )
    said = caches.effective_rank(frame.assign(half="value"))
    assert said == [
        "Fusion changes the effective rank of values from 17.0 to 32.0, which is 15.0 more; "
        "another question's cache adds 16.0, so "
        "that the rise is no sign of a message."
    ]


@pytest.mark.parametrize("name", sorted({name for section in read_sections() for name in section.findings}))
def test_a_table_without_rows_has_no_finding_with_a_number(name, made_results) -> None:
    source = next(section.findings[name] for section in read_sections() if name in section.findings)
    if not (made_results / source).is_file():
        pytest.skip("this table is not made from records alone")
    frame = pd.read_csv(made_results / source, keep_default_na=False, na_values=[""]).iloc[:0]
    assert not re.search(r"\d", " ".join(function(name)(frame)))


def test_sections_without_an_artefact_are_left_out_and_named(results) -> None:
    described = {each["title"] for each in build.sections(results)}
    assert "Spread between seeds" in described and "Where the caches lie" not in described
    head = (results / "tables/seeds.csv").read_text(encoding="utf-8").splitlines()[0]
    (results / "tables/seeds.csv").write_text(head + "\n", encoding="utf-8")
    assert "Spread between seeds" not in {each["title"] for each in build.sections(results)}
    assert "Spread between seeds" in build.left_out(results)


def test_training_is_told_from_the_histories_of_pairs_that_do_not_stand_aside(results: Path) -> None:
    section = SECTIONS["Training"]
    shutil.rmtree(results / "fusers", ignore_errors=True)
    for run in (run for run in SMOKE if run.recipe):
        write_fuser(run, results / "fusers")
    said = section.sentences(results)
    assert "Validation loss at the last step, Pair A" in said[0]
    assert all("gap_first" not in source for source in section.sources(results))
    history = next((results / "fusers/gap_a/c2c/span").glob("seed*/history.csv"))
    frame = pd.read_csv(history)
    frame["validation_loss"] += 5
    frame.to_csv(history, index=False)
    assert section.sentences(results) != said


@pytest.mark.parametrize(
    ("change", "rule"), [({"titel": "x"}, "keys"), ({"findings": {"nothing": "tables/seeds.csv"}}, "finding")]
)
def test_a_bad_section_is_refused(change, rule, tmp_path) -> None:
    entry = {"title": "A", "chapter": "B", "text": "C.", "findings": {}} | change
    (tmp_path / "sections.yaml").write_text(yaml.safe_dump([entry]), encoding="utf-8")
    with pytest.raises(RefusedError, match=rule):
        read_sections(tmp_path / "sections.yaml")


def test_a_rank_that_another_cache_raises_as_much_is_called_no_sign_of_a_message() -> None:
    frame = pd.DataFrame(
        {"half": "value", "cache": ["receiver", "fused", "fused_deranged"], "value": [10.0, 20.0, 21.0]}
    )
    frame["above_receiver"] = frame["value"] - 10
    assert "no sign of a message" in caches.effective_rank(frame)[0]
    frame.loc[2, "above_receiver"] = 1.0
    assert "no sign of a message" not in caches.effective_rank(frame)[0]


def test_a_fused_cloud_beyond_the_sharers_is_told() -> None:
    frame = pd.DataFrame({"cache": ["sharer", "fused"], "distance": [2.0, 3.0]})
    assert len(caches.tsne(frame)) == 2 and len(caches.tsne(frame.assign(distance=[3.0, 2.0]))) == 1


def prompt_rows(difference: float) -> pd.DataFrame:
    """A row of `tables/prompts.csv`."""
    bounds = {
        f"{name}_{bound}": difference
        for name in ("own", "released", "difference")
        for bound in ("value", "low", "high")
    }
    return pd.DataFrame([{"pair": "gap_a", "benchmark": "knowledge_gap_free", "arm": "c2c"} | bounds])


def test_what_prompts_are_worth_is_stated_with_both_accuracies_and_where_nothing_was_run_with_none() -> None:
    accuracies, difference = of_answers.prompts(prompt_rows(4.0))
    assert "4.0 [4.0, 4.0] % with ours, 4.0 [4.0, 4.0] % with the released ones" in accuracies
    assert "above zero" in difference
    (nothing,) = of_answers.prompts(prompt_rows(float("nan")))
    assert "nothing follows" in nothing


@pytest.mark.parametrize(("second", "is_confounded"), [("Qwen/Qwen3-8B", False), ("google/gemma-3-270m", True)])
def test_a_figure_of_sizes_names_families_that_differ_with_them(second, is_confounded, tmp_path) -> None:
    sharers = enumerate(("Qwen/Qwen3-4B", second), start=1)
    rows = [{"receiver": "r", "sharer": name, "sharer_m": size, "paper": None} for size, name in sharers]
    (tmp_path / "tables").mkdir()
    pd.DataFrame(rows).to_csv(tmp_path / "tables/scaling.csv", index=False)
    assert any("different families" in sentence for sentence in of_captions.scaling(tmp_path)) is is_confounded
