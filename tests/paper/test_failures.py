"""Properties of failed answers: printed in every format of every table of answers, and nowhere if there is none."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from paper.artefacts import RECORDS, of_kind
from paper.reading import failures
from paper.reading.answers import Answers
from paper.reading.files import read_table
from paper.recompute import recompute, recomputed_tables
from tests.paper.builder import make_records

SAID = "Answers that failed, and so count as wrong: Pair A / free answer / C2C: 3 of 120."


@pytest.fixture(scope="module")
def harmed() -> pd.DataFrame:
    """Records in which three answers of C2C failed."""
    records = make_records()
    hit = records.query("pair == 'gap_a' and recipe == 'c2c' and method == 'c2c' and benchmark == 'knowledge_gap_free'")
    records.loc[hit.index[:3], "error"] = "the text is too long"
    return records


def test_what_failed_stands_in_every_format_of_every_table_of_answers(harmed: pd.DataFrame, tmp_path: Path) -> None:
    recompute(harmed, None, tmp_path)
    made = recomputed_tables({RECORDS})
    assert len(made) > 10 and set(made) <= set(of_kind("table"))
    for name in made:
        assert SAID in (tmp_path / f"tables/{name}.md").read_text(encoding="utf-8"), name
        assert SAID in (tmp_path / f"tables/{name}.tex").read_text(encoding="utf-8"), name
        assert failures.COLUMN in read_table(tmp_path / f"tables/{name}.csv"), name
    main = read_table(tmp_path / "tables/main.csv")
    counts = main[main["failed"].isin([3, "3"])]
    assert counts[["pair", "arm", "benchmark"]].to_numpy().tolist() == [["gap_a", "c2c", "knowledge_gap_free"]]
    assert "| Failed |" in (tmp_path / "tables/main.md").read_text(encoding="utf-8")
    gains = read_table(tmp_path / "tables/gains.csv")
    assert gains.query("pair == 'gap_a' and benchmark == 'knowledge_gap_free'")["failed"].tolist() == [3, 0, 3, 3, 0]
    assert gains.query("pair == 'gap_b'")["failed"].eq(0).all()
    assert failures.notes_of_tables(tmp_path) == [SAID.replace(" of 120", "")]


def test_where_nothing_failed_nothing_is_printed(answers: Answers, made_results: Path) -> None:
    assert failures.notes(answers) == failures.notes_of_tables(made_results) == []
    for path in made_results.glob("tables/*.csv"):
        assert path.stem == "main" or failures.COLUMN not in read_table(path)
    assert "Failed" not in (made_results / "tables/main.md").read_text(encoding="utf-8")


def test_a_note_names_the_first_cells_and_counts_the_others() -> None:
    records = make_records()
    records["error"] = "lost"
    note = failures.notes(Answers(records))[0]
    assert note.count(" of ") == failures.SHOWN and note.endswith(" more.")
