"""Pages whose numbers are read from files: they are complete, and what they conclude from a card holds of it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from c2c.errors import RefusedError
from paper.facts import KINDS, fill

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PLACEHOLDER = re.compile(r"\{\w+:[^{}]*\}")


@pytest.fixture
def hook(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "hooks"))
    monkeypatch.delitem(sys.modules, "facts", raising=False)
    return __import__("facts")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_no_placeholder_of_a_page_is_left(page, hook) -> None:
    text = page.read_text(encoding="utf-8")
    names = "|".join((*KINDS, "card", "gain", "rows"))
    assert not re.findall(rf"\{{({names}):[^{{}}]+\}}", hook.complete(text))


def test_the_card_that_a_page_explains_is_as_its_conclusions_say(hook) -> None:
    channels = ("text", "ridge", "c2c", "c2c_on_ridge")
    assert {hook.complete(f"{{card:{channel} level}}") for channel in channels} == {"none"}
    assert {hook.complete(f"{{card:{channel} gate}}") for channel in (*channels, "receiver", "full")} == {"passed"}
    value, low, _ = re.findall(r"[+−]?[\d.]+", hook.complete("{gain:identity CAG}"))
    assert value.startswith("+") and not low.startswith("−"), "the Receiver uses its own states"
    low, high = re.findall(r"[+−]?[\d.]+", hook.complete("{gain:c2c_on_ridge CAG}"))[1:]
    assert low.startswith("−") and float(high) > 10, "gains that would matter are not left out"


def test_rows_of_the_card_have_its_head_and_the_titles_alone(hook) -> None:
    table = hook.complete("{rows:Identity; C2C}").splitlines()
    assert len(table) == 4
    assert table[0].startswith("| Channel | Right, % |") and table[3].startswith("| C2C |")


def test_a_card_without_a_row_and_a_column_that_is_none_are_refused(hook) -> None:
    with pytest.raises(ValueError, match="must have a row"):
        hook.complete("{rows:Telepathy}")
    with pytest.raises(RefusedError):
        hook.complete("{card:c2c telepathy}")


def test_the_limits_count_what_the_committed_verdicts_say() -> None:
    text = (DOCS / "limits.md").read_text(encoding="utf-8")
    verdicts = [match for match in PLACEHOLDER.findall(text) if match.startswith("{count:paper/records/laptop/claims")]
    counts = [fill(match) for match in verdicts]
    assert len(counts) == 3
    assert int(counts[0]) >= int(counts[1]) + int(counts[2])


def test_the_limits_hold_of_the_hardware_of_all_committed_records() -> None:
    for path in (ROOT / "paper/records").rglob("*.provenance.json"):
        assert "gpu" not in path.read_text(encoding="utf-8").partition('"hardware"')[2].partition("}")[0].lower(), path
