from __future__ import annotations

from pathlib import Path

import pytest

from c2c.errors import RefusedError
from workflow.planned_jobs import BEGIN, END, count, put

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_counts_the_jobs_that_snakemake_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("C2C_RESOURCES", "C2C_HUB_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    readme = (ROOT / "README.md").read_text()
    assert put(readme, count()) == readme, "run: python -m workflow.planned_jobs"


def test_counts_replace_those_between_the_marks_alone() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    written = put(text, {"train_fuser": 2, "score": 1, "plot": 1, "total": 4})
    assert written.startswith(f"before\n{BEGIN}\n") and written.endswith(f"{END}\nafter\n")
    assert "old" not in written
    assert "| 2 | `train_fuser` |\n| 1 | `score`, `plot` |\n| 4 | all |" in written
    assert put(written, {"train_fuser": 2, "score": 1, "plot": 1, "total": 4}) == written


def test_a_readme_without_a_place_is_refused() -> None:
    with pytest.raises(RefusedError, match="must have a place"):
        put("no marks", {"total": 0})
