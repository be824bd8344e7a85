"""Committed records: verify recomputes everything from them and notices every change; compare knows what may differ."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from c2c.errors import RefusedError
from paper import collect, compare, verify
from paper.artefacts import of_kind
from paper.figures import gains
from paper.reading.committed import RECORDS

ROOT = Path(verify.__file__).parent.parent


@pytest.fixture
def committed(made_results, tmp_path):
    collect.collect(made_results, tmp_path / "records" / "smoke")
    return tmp_path / "records" / "smoke"


def changed(left: Path, right: Path) -> list[str]:
    found = compare.compare(left, right, compare.read_rules())
    return [name for name, verdict, _ in found if verdict == compare.CHANGED]


def test_collected_records_verify(committed, capsys):
    assert verify.verify(committed)
    shown = capsys.readouterr().out
    assert "CHANGED" not in shown and "same     tables/gains.csv" in shown and "mean of Table 4" in shown


def test_a_changed_record_is_noticed(committed, capsys):
    frame = pd.read_parquet(committed / RECORDS)
    place = frame.query("method == 'sharer' and benchmark == 'knowledge_gap_free'").index[0]
    frame.loc[place, "output_text"] = "nowhere"
    frame.to_parquet(committed / RECORDS)
    assert not verify.verify(committed)
    shown = capsys.readouterr().out
    assert "CHANGED  scores.csv" in shown and "CHANGED  tables/main.csv" in shown and "CHANGED  claims.json" in shown


def test_a_changed_table_is_noticed_and_shown(committed, capsys):
    path = committed / "tables/main.md"
    path.write_text(path.read_text(encoding="utf-8").replace("Sharer | 100.0", "Sharer | 99.0"), encoding="utf-8")
    assert not verify.verify(committed)
    shown = capsys.readouterr().out
    assert "CHANGED  tables/main.md" in shown and "Sharer | 99.0" in shown


def test_a_missing_table_is_noticed(committed):
    (committed / "tables/gains.csv").unlink()
    assert not verify.verify(committed)


def test_incomplete_results_are_not_collected(results, tmp_path):
    (results / "claims.json").unlink()
    with pytest.raises(RefusedError, match="complete"):
        collect.collect(results, tmp_path / "records")


def test_collecting_twice_gives_the_same_bytes(made_results, committed, tmp_path):
    collect.collect(made_results, tmp_path / "again")
    assert (tmp_path / "again" / RECORDS).read_bytes() == (committed / RECORDS).read_bytes()


def test_a_run_compared_with_itself_is_the_same(made_results, results):
    assert changed(made_results, results) == []


def test_other_times_are_no_change(made_results, results):
    for name in ("latency.csv", "claims_time.json", "tables/latency.md"):
        (results / name).write_text("other times", encoding="utf-8")
    table = pd.read_csv(results / "tables/main.csv", dtype=str, keep_default_na=False)
    table.assign(time_ms="1.0").to_csv(results / "tables/main.csv", index=False)
    path = results / "records/gap_a/baselines.parquet"
    pd.read_parquet(path).assign(time_s=1.0).to_parquet(path)
    assert changed(made_results, results) == []


@pytest.mark.parametrize("suffix", [".md", ".tex"])
def test_other_times_in_a_printed_table_are_no_change_but_other_numbers_are(made_results, results, suffix):
    path, separator = results / f"tables/main{suffix}", " | " if suffix == ".md" else " & "
    lines = path.read_text(encoding="utf-8").splitlines()
    place = next(index for index, line in enumerate(lines) if "T2T" in line)
    cells = lines[place].split(separator)
    head = next(line for line in lines if separator in line)
    column = next(index for index, cell in enumerate(head.split(separator)) if "ms" in cell)
    for index, expected in ((column, []), (column - 1, [f"tables/main{suffix}"])):
        harmed = [*cells[:index], "77", *cells[index + 1 :]]
        path.write_text(
            "\n".join([*lines[:place], separator.join(harmed), *lines[place + 1 :]]) + "\n", encoding="utf-8"
        )
        assert changed(made_results, results) == expected


def test_another_answer_is_a_change(made_results, results):
    path = results / "records/gap_a/baselines.parquet"
    pd.read_parquet(path).assign(output_text="x").to_parquet(path)
    assert changed(made_results, results) == ["records/gap_a/baselines.parquet"]


def test_a_file_in_one_run_only_is_a_change(made_results, results):
    (results / "scores.csv").unlink()
    assert changed(made_results, results) == ["scores.csv"]


def test_volatile_keys_are_left_out_at_any_depth(tmp_path):
    for side, when in (("a", 1), ("b", 2)):
        (tmp_path / side).mkdir()
        (tmp_path / side / "x.json").write_text(json.dumps({"deep": [{"when": when, "what": 0}]}), encoding="utf-8")
    rules = {"files": {}, "columns": {}, "keys": {"*.json": ["when"]}}
    assert [entry[1] for entry in compare.compare(tmp_path / "a", tmp_path / "b", rules)] == [compare.VOLATILE]
    rules["keys"] = {}
    assert [entry[1] for entry in compare.compare(tmp_path / "a", tmp_path / "b", rules)] == [compare.CHANGED]


def test_a_folder_that_is_not_there_is_refused(results, tmp_path):
    with pytest.raises(RefusedError, match="two folders"):
        changed(results, tmp_path / "nothing")


BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {names!r}:
            raise ImportError(f'{{name}} is blocked')
sys.meta_path.insert(0, Blocked())
"""
COMMANDS = ("verify", "collect", "compare", "claims", "summarise_latency")
TABLES = [each.module for each in of_kind("table").values()]
EXPORT = "paper.exchange.__main__"
MODULES = ("c2c.stats", "c2c.evaluation.scoring", *(f"paper.{name}" for name in COMMANDS), EXPORT, *TABLES)


def run_without(names: list[str], code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCK.format(names=names) + code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


MODELS = ["torch", "transformers"]
BEYOND_VERIFY = [*MODELS, "jinja2", "tabulate", "matplotlib", "seaborn", "typst", "docutils", "snakemake"]


def test_numbers_and_tables_need_no_torch_and_no_plotting():
    done = run_without(BEYOND_VERIFY, f"import importlib; [importlib.import_module(name) for name in {MODULES!r}]")
    assert done.returncode == 0, done.stderr


def test_figures_and_paper_need_no_torch():
    drawn = ["paper.build", *(each.module for each in of_kind("figure").values())]
    done = run_without(MODELS, f"import importlib; [importlib.import_module(name) for name in {drawn!r}]")
    assert done.returncode == 0, done.stderr


def test_verify_runs_without_torch_and_its_exit_code_says_what_it_found(committed):
    run = "import runpy; runpy.run_module('paper.verify', run_name='__main__')"
    code = f"sys.argv = ['verify', '--records', {str(committed)!r}]; {run}"
    done = run_without(BEYOND_VERIFY, code)
    assert done.returncode == 0, done.stderr
    (committed / "scores.csv").write_text("nothing\n", encoding="utf-8")
    done = run_without(BEYOND_VERIFY, code)
    assert done.returncode == 1 and "NOT as committed" in done.stdout


def test_verify_without_records_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verify, "COMMITTED", tmp_path)
    for given in ([], ["--records", str(tmp_path / "absent")]):
        monkeypatch.setattr(sys, "argv", ["verify", *given])
        assert verify.main() == 2
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1 and str(tmp_path) in shown and "paper.collect" in shown


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in verify.COMMITTED.glob(f"*/{RECORDS}")))
def test_what_is_committed_verifies(folder):
    assert verify.verify(verify.COMMITTED / folder)


def test_a_scale_is_collected_as_far_as_it_has_come_and_verifies(results, tmp_path, capsys):
    for path in (
        "records/gap_b/baselines.parquet",
        "records/gap_a/c2c/span/seed2.parquet",
        "scores.csv",
        "claims.json",
    ):
        (results / path).unlink()
    shutil.rmtree(results / "latency")
    with pytest.raises(RefusedError, match="complete"):
        collect.collect(results, tmp_path / "partial")
    collect.collect(results, tmp_path / "partial", partial=True)
    assert "gap_b is left out" in capsys.readouterr().out
    found = pd.read_parquet(tmp_path / "partial" / RECORDS)
    assert set(found["pair"]) == {"gap_a"} and set(found["seed"].dropna()) == {0, 1, 2}
    assert verify.verify(tmp_path / "partial")
    assert "nothing was timed" in capsys.readouterr().out and not (tmp_path / "partial/latency.csv").exists()
    found.loc[0, "output_text"] = "nowhere at all"
    found.loc[found["method"] == "sharer", "output_text"] = "nowhere"
    found.to_parquet(tmp_path / "partial" / RECORDS)
    assert not verify.verify(tmp_path / "partial")


def test_a_later_stage_stands_beside_what_was_collected_before_it_and_replaces_its_own(results, tmp_path):
    collect.collect(results, tmp_path / "whole", partial=True)
    shutil.copytree(tmp_path / "whole", tmp_path / "stages")
    for path in (results / "records").rglob("*.parquet"):
        if path.name != "seed1.parquet":
            path.unlink()
    shutil.rmtree(results / "latency")
    collect.collect(results, tmp_path / "stages", partial=True)
    for name in (RECORDS, "latency.parquet", "tables/gains.csv", "claims.json"):
        assert (tmp_path / "stages" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_protocol_of_committed_records_is_kept_and_used(results, tmp_path, capsys):
    collect.collect(results, tmp_path / "records", protocol="paper", partial=True)
    assert verify.verify(tmp_path / "records") and "protocol paper" in capsys.readouterr().out


@pytest.mark.parametrize("partial", [False, True])
def test_a_remark_stands_below_every_table_and_one_that_is_changed_is_noticed(results, tmp_path, partial):
    folder = tmp_path / "records"
    collect.collect(results, folder, partial=partial, remarks=["The weights were read from 4-bit files."])
    assert verify.verify(folder)
    for name in ("main", "gains", "ablation", "alignment"):
        assert "* The weights were read from 4-bit files." in (folder / f"tables/{name}.md").read_text()
    (folder / "remarks.txt").write_text("The weights are the published ones.\n")
    assert not verify.verify(folder)


def test_remarks_stay_when_a_later_stage_is_collected(results, tmp_path):
    collect.collect(results, tmp_path / "records", remarks=["one"])
    collect.collect(results, tmp_path / "records", partial=True, remarks=["two", "one"])
    assert (tmp_path / "records/remarks.txt").read_text() == "one\ntwo\n"


def test_lost_latency_records_are_noticed(committed):
    (committed / "latency.parquet").unlink()
    with pytest.raises(RefusedError, match="Times must follow"):
        verify.verify(committed)


def test_a_figure_of_another_table_is_noticed(committed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verify, "PICTURES", tmp_path)
    monkeypatch.setattr(verify, "COMMITTED", committed.parent)
    gains.save_picture(committed / "tables/gains.csv", tmp_path / "gains_smoke.png")
    assert verify.verify(committed)
    (tmp_path / "gains_smoke.png").write_bytes(b"of another table")
    assert not verify.verify(committed)
    assert "python -m paper.figures.gains" in capsys.readouterr().out
