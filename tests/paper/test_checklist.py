"""The reproducibility checklist: answers of every question, numbers from files, and links that lead somewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from c2c.errors import RefusedError
from paper import checklist


def test_the_committed_page_is_what_the_files_give_now() -> None:
    assert checklist.OUTPUT.read_text(encoding="utf-8") == checklist.current(), "run: python -m paper.checklist"


def test_all_questions_of_the_neurips_checklist_are_answered_and_no_number_is_written_by_hand() -> None:
    questions = yaml.safe_load(checklist.SOURCE.read_text(encoding="utf-8"))["questions"]
    assert len(questions) == 16
    for question in questions:
        text = checklist.LINK.sub("", question["why"])
        # 95 is the level of every interval, and not a result.
        digits = {word for word in text.split() if any(letter.isdigit() for letter in word)} - {"95"}
        assert not digits, f"{question['title']}: {digits}"


def page(tmp_path: Path, **changes: Any) -> Path:
    """A checklist of one question about a file of two rows, with changes."""
    (tmp_path / "rows.csv").write_text("verdict,n\nsupported,1.5\nundecided,2\n")
    (tmp_path / "page.md").write_text("# Top\n\n## What `it` is, and why\n")
    value = {"file": "rows.csv"} | changes.pop("value", {})
    question = {"title": "Claims", "asked": "?", "answer": "yes", "why": "{count} [page](page.md#what-it-is-and-why)."}
    content = {"values": {"count": value}, "questions": [question | changes]}
    (tmp_path / "checklist.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "checklist.yaml"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "2 "),
        ({"where": {"verdict": "supported"}}, "1 "),
        ({"column": "n", "take": "sum", "digits": 1}, "3.5 "),
        ({"column": "n", "take": "max"}, "2 "),
    ],
)
def test_a_value_counts_rows_or_takes_a_number_of_them(value: dict[str, Any], text: str, tmp_path: Path) -> None:
    written = checklist.current(page(tmp_path, value=value, answer=True), tmp_path)
    assert f"**Yes.** {text}[page](../page.md#what-it-is-and-why)." in written


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"answer": "perhaps"}, "An answer must be yes, no or not applicable"),
        ({"answer": True, "why": "{count} [x](none.md)."}, "must be a path of the repository"),
        ({"answer": True, "why": "{count} [x](page.md#none)."}, "must name a heading of its page"),
        ({"answer": True, "why": "{other} {count}."}, "must be those that its texts name"),
        ({"answer": True, "why": "None."}, "must be those that its texts name"),
        ({"answer": True, "value": {"file": "none.csv"}}, "must come from a file of the repository"),
        ({"answer": True, "value": {"column": "none", "take": "sum"}}, "must come from a column of its file"),
        ({"answer": True, "value": {"column": "n", "take": "mean"}}, "must be the min, max, sum of rows"),
    ],
)
def test_wrong_answers_values_and_links_are_refused(changes: dict[str, Any], rule: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=rule):
        checklist.current(page(tmp_path, **changes), tmp_path)
