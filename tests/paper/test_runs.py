"""What the paper states about trainings, cost, load and captions comes from files, by computed conditions."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from c2c.provenance import SUFFIX
from paper import build
from paper.findings.remarks import remarks
from paper.reading import preferences, runs
from tests.checkout import ROOT


def test_settings_are_those_of_the_fusers_where_there_are_any(results):
    rows, configured = runs.trainings(results, "smoke")
    path = next(results.glob("fusers/gap_a/c2c/*/seed*/config.json"))
    training = json.loads(path.read_text())["about"]["training"]
    assert not configured
    assert all(rows[0][name] == training.get(name) for name in runs.SETTINGS)


def test_without_fusers_settings_are_those_of_the_config_with_each_runs_own(tmp_path):
    rows, configured = runs.trainings(tmp_path, "laptop")
    settings = {row["pair"]: row for row in rows if row["recipe"] == "c2c"}
    assert configured
    assert settings["smollm2_from_coder"]["layer_alignment"] == "nearest"
    assert settings["smollm2_from_coder"]["hidden_dim"] != settings["words"]["hidden_dim"]
    assert settings["private_line"]["seeds"] == [0, 1, 2]


def test_trainings_with_the_same_settings_are_one_row(tmp_path):
    rows, _ = runs.trainings(tmp_path, "laptop")
    groups = runs.shared_settings(rows)
    assert sum(len(group["runs"]) for group in groups) == len(rows) > len(groups)


def write_times(folder, *stamps):
    """Provenance files of times, with these notes."""
    (folder / "latency").mkdir()
    for number, notes in enumerate(stamps):
        (folder / f"latency/{number}.parquet{SUFFIX}").write_text(json.dumps({"hardware": {"cpus": 2}} | notes))
    return runs.loads(folder)


@pytest.mark.parametrize(("share", "busy"), [(0.02, False), (0.1, False), (0.11, True), (None, None)])
def test_times_are_marked_where_other_processes_took_more_than_a_tenth_of_the_machine(share, busy, tmp_path):
    assert write_times(tmp_path, {"other_load": share})["busy"] is busy


def test_one_file_of_times_without_other_load_makes_it_unknown(tmp_path):
    assert write_times(tmp_path, {"other_load": 0.01}, {})["busy"] is None


def test_a_load_average_of_older_files_is_stated_and_marks_nothing(tmp_path):
    load = write_times(tmp_path, {"load": 5.2})
    assert (load["average"], load["cores"], load["other"], load["busy"]) == (5.2, 2, None, None)


def choices(scores, golds):
    """Questions of one subject with two values."""
    return pd.DataFrame(
        {
            "question_id": [str(number) for number in range(len(scores))],
            "subset": "color",
            "gold": golds,
            "choices": [["red", "teal"]] * len(scores),
            "choice_scores": scores,
        }
    )


def test_a_model_that_only_likes_a_value_chooses_as_its_liking_does():
    found = preferences.preference(choices([[-1.0, -2.0]] * 8, ["red", "teal"] * 4))
    assert (found["same"], found["right"], found["p"]) == (100, 50, 1)


def test_a_model_that_knows_the_answers_does_not_choose_by_liking():
    golds = ["red", "teal"] * 8
    scores = [[-0.1, -4.0] if gold == "red" else [-4.0, -0.1] for gold in golds]
    found = preferences.preference(choices(scores, golds))
    assert found["same"] < 50 and found["p"] < 0.001


def test_captions_say_what_cannot_be_seen_only_where_it_cannot(results):
    assert remarks("table", "main", results) == []
    table = results / "tables/scaling.csv"
    frame = pd.read_csv(table)
    one_size = "cannot show what size does"
    assert any(one_size in sentence for sentence in remarks("figure", "scaling", results))
    frame.loc[frame["benchmark"] == frame["benchmark"].iloc[0], "sharer_m"] = 1000.0
    frame.to_csv(table, index=False)
    assert not any(one_size in sentence for sentence in remarks("figure", "scaling", results))


def test_the_caption_of_gates_explains_the_states_that_occur(results):
    assert (
        "Every gate is open" in remarks("figure", "gates", results)[0]
        or "hollow" in remarks("figure", "gates", results)[0]
    )
    for path in results.glob("fusers/*/*/*/seed*/gates.csv"):
        frame = pd.read_csv(path)
        frame["open"] = [place > 0 for place in range(len(frame))]
        frame.to_csv(path, index=False)
    assert "hollow" in remarks("figure", "gates", results)[0]


def test_every_work_of_the_bibliography_is_cited_and_every_citation_is_in_it():
    entries = re.findall(r"^@\w+\{(\w+),", (ROOT / "paper/references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    text = "".join(
        (ROOT / "paper" / name).read_text(encoding="utf-8")
        for name in build.WRITTEN
        if name.endswith((".typ", "sections.yaml"))
    )
    cited = set(re.findall(r"@([a-z]+\d{4}\w*)|<([a-z]+\d{4}\w*)>", text))
    assert {one or other for one, other in cited} == set(entries)


def test_no_sentence_of_the_text_claims_all_where_some_are_left_out():
    text = "".join(path.read_text(encoding="utf-8") for path in Path(ROOT / "paper/text").glob("*.typ"))
    assert "Over all pairs and benchmarks" not in text and "nothing is typed by hand" not in text
