from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from c2c.errors import RefusedError
from tests.faults.finished import check_made_by, seconds_of_jobs


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    for name in ("c2c/code.py", "paper/records/table.csv", "docs/page.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("first\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


def results(checkout: Path, **code: object) -> Path:
    folder = checkout.parent / "results"
    folder.mkdir(exist_ok=True)
    told = {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": False, **code}
    (folder / "scores.csv.provenance.json").write_text(json.dumps({"code": told}))
    return folder


def test_results_of_the_same_code_may_serve_though_pages_and_records_have_changed(checkout) -> None:
    made = results(checkout)
    check_made_by(checkout, made)
    (checkout / "docs/page.md").write_text("second\n")
    (checkout / "paper/records/table.csv").write_text("second\n")
    check_made_by(checkout, made)


def test_results_of_other_code_are_refused(checkout) -> None:
    made = results(checkout)
    (checkout / "c2c/code.py").write_text("second\n")
    with pytest.raises(RefusedError, match="of the same code and config"):
        check_made_by(checkout, made)


@pytest.mark.parametrize("code", [{"commit": None}, {"commit": "0" * 40}, {"dirty": True}])
def test_results_of_code_that_is_not_known_are_refused(code, checkout) -> None:
    with pytest.raises(RefusedError, match="of the same code and config"):
        check_made_by(checkout, results(checkout, **code))


def test_a_folder_without_provenance_is_refused(checkout) -> None:
    with pytest.raises(RefusedError, match="nothing that is stamped"):
        check_made_by(checkout, checkout / "docs")


def test_the_seconds_of_a_run_are_those_of_all_its_jobs(tmp_path) -> None:
    for name, seconds in (("one.tsv", "1.5"), ("deep/two.tsv", "2.25"), ("deep/quick.tsv", "NA")):
        path = tmp_path / "benchmarks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\tcpu_time\n9.0\t{seconds}\n")
    assert seconds_of_jobs(tmp_path) == 3.75
