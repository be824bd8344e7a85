"""One claim or one table: the paper's value, ours, the verdict, the records and the commands that make the number."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from paper import show

ROOT = Path(show.__file__).parent.parent


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """The current folder is a repository in which nothing was run: it holds committed records alone."""
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "paper").symlink_to(ROOT / "paper")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


@pytest.fixture
def shown(root, capsys):
    """What the command prints there."""

    def run(*arguments: str) -> str:
        assert show.main(list(arguments)) == 0
        return capsys.readouterr().out

    return run


def test_a_claim_is_shown_with_the_papers_value_ours_its_interval_and_its_verdict(shown):
    claim = show.read_verdicts(ROOT / "paper/records/smoke")["c2c_above_receiver"]
    text = shown("show", "c2c_above_receiver")
    assert f"paper      {claim['paper_value']:.2f} points (section 4.2, Table 4)" in text
    assert f"Scale smoke: {claim['verdict']}" in text
    assert re.search(rf"ours {claim['value']:.2f} \[{claim['low']:.2f}, {claim['high']:.2f}\] points", text)


def test_a_claim_with_a_value_says_on_how_many_cells_it_rests(shown):
    lines = shown("show", "gap_recovered").splitlines()
    assert {"  rests on 1 cell", "  rests on 4 cells"} <= set(lines)


def test_every_claim_that_is_listed_can_be_shown(shown):
    names = [line.split()[0] for part in shown("list").split("\n\n")[:2] for line in part.splitlines()[1:]]
    assert len(names) > 50
    assert all("replicate  snakemake" in shown("show", name) for name in names)


def test_the_papers_claims_and_the_projects_are_listed_apart(shown):
    paper, project = shown("list").split("\n\n")[:2]
    assert paper.startswith("Claims of the paper\n") and project.startswith("Claims of this project")
    assert "c2c_above_receiver" in paper and "pairing_gain" not in paper and "pairing_gain" in project


def test_a_headline_is_shown_with_what_the_first_version_printed(shown):
    assert "abstract of version 1: 8.50 points" in shown("show", "gain_over_sharer_lowest")


def test_a_table_is_shown_with_its_verdicts_first_and_its_printed_values_on_request(shown):
    text, cell = shown("show", "table4"), "Qwen3-0.6B, Qwen2.5-0.5B-Instruct, C2C, MMLU-Redux, accuracy"
    assert text == shown("show", "Table 4")
    assert "120 printed values" in text and "--values" in text and cell not in text
    verdicts = text.partition("Questions people ask")[0]
    assert len(verdicts.splitlines()) < 75 and "c2c_above_receiver" in text.splitlines()[3]
    assert "c2c_above_t2t" in text and "two_sharers" not in text
    assert "snakemake --profile smoke table4" in text
    # The controls stand with the claims, and each column has its source.
    laptop = text.partition("Scale laptop")[2].partition("Scale ")[0]
    for words in (
        *("pairing_gain", "communication_gain", "allenai/openbookqa@", "split test", "highest likelihood"),
        *("Receiver HuggingFaceTB/SmolLM2-135M-Instruct@", "fusers trained by the workflow, 3 seeds"),
    ):
        assert words in laptop
    with_values = shown("show", "table4", "--values")
    assert cell in with_values and len(with_values.splitlines()) > 120
    assert with_values.index("c2c_above_receiver") < with_values.index(cell)


def test_a_figure_without_claims_says_so_and_names_no_file_that_is_not_there(shown, root):
    text = shown("show", "figure13")
    assert "No claim is about Figure 13" in text and "recompute" not in text
    assert "not here: the next command makes figure training" in text
    assert "snakemake --profile smoke figure13" in text


def test_every_table_and_figure_that_is_listed_can_be_shown(shown):
    names = shown("list").rpartition("Of the paper: ")[2].strip().split(", ")
    assert "figure13" in names and all("printed values" in shown("show", name) for name in names)


def test_our_value_of_a_cell_stands_beside_the_papers(results, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "root/results/laptop"
    shutil.copytree(results, folder)
    table = folder / "tables/main.csv"
    text = table.read_text().replace("gap_receiver_a", "Qwen/Qwen3-0.6B").replace("knowledge_gap_free", "openbookqa")
    text = text.replace("gap_sharer", "Qwen/Qwen2.5-0.5B-Instruct").replace("gap_a", "qwen3_from_qwen25")
    table.write_text(text)
    monkeypatch.chdir(tmp_path / "root")
    assert show.main(["show", "table4", "--values"]) == 0
    (line,) = re.findall(r".*Qwen3-0.6B, Qwen2.5-0.5B-Instruct, C2C, OpenBookQA, accuracy .*", capsys.readouterr().out)
    assert re.search(r"ours: laptop \d+\.\d \[", line)


def test_the_command_that_is_printed_makes_the_number(shown, tmp_path):
    of_smoke = shown("show", "pairing_gain").split("Scale smoke", 1)[1]
    found = re.search(r"recompute  python (.*)", of_smoke)
    command = found[1].replace("fresh/", f"{tmp_path}/")
    subprocess.run([sys.executable, *command.split()], check=True)
    fresh = {claim["id"]: claim for claim in json.loads((tmp_path / "claims.json").read_text())}
    assert fresh["pairing_gain"] == show.read_verdicts(ROOT / "paper/records/smoke")["pairing_gain"]


def test_an_unknown_name_is_refused_with_the_nearest(root, capsys):
    assert show.main(["show", "tabel4"]) == 2
    text = capsys.readouterr().err
    assert text.startswith("c2c claims: ") and "Did you mean 'table4'?" in text


def test_c2c_claims_shows_the_same_and_refuses_outside_the_repository(root, tmp_path):
    command = [sys.executable, "-m", "c2c.cli", "claims", "show", "pairing_gain"]
    inside = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert "Scale smoke" in inside.stdout
    wrong = subprocess.run([*command[:-1], "no_claim"], cwd=root, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and wrong.stderr.startswith("c2c claims: ")
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    outside = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert outside.returncode == 2 and "Clone the repository" in outside.stderr


def test_the_printed_command_marks_by_the_protocol_and_names_no_times_where_nothing_was_timed(shown, root):
    folder = root / "results/trial"
    folder.mkdir(parents=True)
    committed = ROOT / "paper/records/smoke"
    for name in ("claims.json", "claims_time.json"):
        shutil.copy(committed / name, folder)
    (folder / "claims.json.provenance.json").write_text(json.dumps({"command": ["claims.py", "--protocol", "paper"]}))
    of_run = shown("show", "pairing_gain").split("Scale trial:")[1]
    assert "--protocol paper" in of_run and "--latency-records" not in of_run
    (folder / "latency").mkdir()
    assert "--latency-records results/trial/latency/*.parquet" in shown("show", "pairing_gain")
    assert "--protocol" not in shown("show", "pairing_gain").split("Scale trial:")[0]


def test_each_number_of_table_4_says_which_prompts_it_has(shown, root):
    assert "Scale smoke, own prompts:" in shown("show", "table4")
    # A run with the released prompts, of which the main table has one cell.
    folder = root / "results" / "reduced"
    (folder / "tables").mkdir(parents=True)
    (folder / "claims.json").write_text("[]")
    (folder / "protocol.txt").write_text("released\n")
    models = {"receiver": "Qwen/Qwen3-0.6B", "sharer": "Qwen/Qwen2.5-0.5B-Instruct"}
    cell = {"pair": "qwen3_from_qwen25", **models, "arm": "c2c", "benchmark": "mmlu_redux_letter_released"}
    row = {**cell, "alignment": "span", "value": 40.0, "low": 38.0, "high": 42.0, "seeds": 1}
    pd.DataFrame([row]).to_csv(folder / "tables" / "main.csv", index=False)
    text = shown("show", "table4", "--values")
    assert "Scale reduced, released prompts:" in text
    assert re.search(
        r"C2C, MMLU-Redux, accuracy .*ours: reduced 40\.0 \[38\.0, 42\.0\] \(released prompts, alignment span\)", text
    )
