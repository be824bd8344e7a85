"""Every command of `paper` refuses, in one line and without a traceback, inputs that are not what it reads."""

from __future__ import annotations

import io
import json
import runpy
import shutil
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest

from paper.artefacts import RECORDS, RELEASED, Artefact, read_artefacts
from paper.compare import CHANGED, compare
from paper.reading.volatile import read_rules
from paper.recompute import recompute
from tests.bad_inputs.refusals import LONGEST
from tests.paper.builder import make_latency, make_records, write

KINDS = ("missing", "empty", "binary", "truncated", "other columns", "a folder")


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def spoil(path: Path, kind: str) -> Path:
    """Put something at `path` that is not what its name says."""
    other = pd.DataFrame({"colour": ["red"], "size": ["large"]})
    whole = {
        ".parquet": parquet(other),
        ".json": json.dumps([{"colour": "red"}]).encode(),
        ".yaml": b"- colour: red\n",
    }.get(path.suffix, other.to_csv(index=False).encode())
    content = {
        "empty": b"",
        "binary": bytes(range(256)) * 8,
        "truncated": b'"' + whole[: len(whole) // 2],
        "other columns": whole,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "a folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(content[kind])
    return path


def run(module: str, *arguments: object) -> int:
    """The exit code of ``python -m module``, in this process."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # runpy warns of modules that a test has imported
        patch.setattr(sys, "argv", [module, *map(str, arguments)])
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


def is_refused(code: int, shown: str) -> bool:
    lines = shown.strip().splitlines()
    return code == 2 and len(lines) == 1 and " must " in lines[0] and len(lines[0]) < LONGEST


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("artefact", read_artefacts(), ids=lambda each: each.stem)
def test_a_table_or_figure_of_spoilt_inputs_is_refused_and_not_written(
    artefact: Artefact, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags: list[object] = []
    for flag, source in artefact.reads.items():
        name = "records.parquet" if source in (RECORDS, RELEASED) else source
        path = tmp_path / name.replace("{run}", "gap_a/c2c/span/seed0").replace("{pair}", "gap_a")
        spoil(path, kind)
        flags += [f"--{flag}", path.parent if flag == "fusers" else path]
    stem = tmp_path / "out" / artefact.name
    code = run(artefact.module, *flags, "--output-stem", stem)
    shown = capsys.readouterr().err
    assert is_refused(code, shown), f"{code}: {shown}"
    assert not list(stem.parent.glob("*"))


COMMANDS = {
    "paper.claims": ["--records", "records.parquet", "--output", "out/a.json", "--output-time", "out/b.json"],
    "paper.summarise_latency": ["--records", "latency.parquet", "--output", "out/a.csv"],
    "paper.training_cost": ["--stamps", "gap_a/c2c/span/seed0.provenance.json", "--output", "out/a.csv"],
    "paper.tries": ["--fusers", "laptop/fusers/gap_a/c2c/span/seed0", "--output", "out/a.csv"],
    "paper.collect": ["--results", "smoke", "--output", "out/a", "--partial"],
    "paper.recompute": ["--records", "smoke"],
    "paper.verify": ["--records", "smoke"],
    "paper.build": ["--results", "smoke", "--output", "out/a.pdf"],
}
SPOILT = {
    "paper.tries": "laptop/fusers/gap_a/c2c/span/seed0/history.csv",
    "paper.collect": "smoke/records/a.parquet",
    "paper.recompute": "smoke/records.parquet",
    "paper.verify": "smoke/records.parquet",
    "paper.build": "smoke/tables/main.csv",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("module", COMMANDS)
def test_a_command_refuses_spoilt_inputs_and_writes_nothing(
    module: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(tmp_path / SPOILT.get(module, COMMANDS[module][1]), kind)
    code = run(module, *COMMANDS[module])
    shown = capsys.readouterr().err
    assert is_refused(code, shown), f"{code}: {shown}"
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flag", ["--claims", "--reference"])
def test_verdicts_by_a_spoilt_list_or_reference_are_refused(
    flag: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = write(make_records(), tmp_path / "records.parquet")
    path = spoil(tmp_path / ("list.yaml" if flag == "--claims" else "reference.csv"), kind)
    outputs = ["--output", tmp_path / "a.json", "--output-time", tmp_path / "b.json"]
    code = run("paper.claims", "--records", records, flag, path, *outputs)
    shown = capsys.readouterr().err
    assert is_refused(code, shown), f"{code}: {shown}"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "missing"])
def test_verdicts_that_cannot_be_read_are_not_shown(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(tmp_path / "results/smoke/claims.json", kind)
    for arguments in (["list"], ["show", "pairing_gain"]):
        code = run("paper.show", *arguments)
        shown = capsys.readouterr().err
        assert is_refused(code, shown), f"{code}: {shown}"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        pytest.param(["list", "extra"], "'extra'", id="a word too many"),
        pytest.param(["list", "table4"], "c2c claims show table4", id="a table that list is given"),
        pytest.param(["show"], "Name one of: ", id="nothing to show"),
        pytest.param(["show", ""], "table4", id="an empty name"),
        pytest.param(["show", "tabel4"], "Did you mean 'table4'", id="a name with a slip"),
    ],
)
def test_what_cannot_be_shown_of_the_claims_is_refused(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("paper.show", *arguments)
    shown = capsys.readouterr().err
    assert is_refused(code, shown) and word in shown, f"{code}: {shown}"


@pytest.mark.parametrize("path", ["absent", "empty", "results/smoke/tables/unknown.csv", "."])
def test_what_is_no_artefact_is_not_cited(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    spoil(tmp_path / "results/smoke/tables/unknown.csv", "binary")
    code = run("paper.citing", path)
    shown = capsys.readouterr().err
    assert is_refused(code, shown), f"{code}: {shown}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder of committed records with all that follows from them."""
    made = tmp_path_factory.mktemp("committed") / "smoke"
    records, times = make_records(), make_latency()
    recompute(records, None, made)
    write(records, made / "records.parquet")
    assert len(times)
    return made


@pytest.mark.parametrize("kind", KINDS[1:5])
@pytest.mark.parametrize("name", ["claims.json", "scores.csv", "tables/main.csv"])
def test_two_runs_of_which_one_is_spoilt_differ(kind: str, name: str, folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    spoil(other / name, kind)
    changed = [entry[0] for entry in compare(folder, other, read_rules()) if entry[1] == CHANGED]
    assert changed == [name]


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_folders_that_are_none_are_not_compared(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run("paper.compare", tmp_path, spoil(tmp_path / "other", kind))
    assert is_refused(code, capsys.readouterr().err)


def test_a_committed_table_that_is_spoilt_is_named_as_changed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = Path(shutil.copytree(folder, tmp_path / "smoke"))
    spoil(spoilt / "tables/main.csv", "binary")
    assert run("paper.verify", "--records", spoilt) == 1
    shown = capsys.readouterr()
    assert "CHANGED  tables/main.csv" in shown.out and not shown.err
