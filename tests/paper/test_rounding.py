"""One number is written alike in every place: .md and .tex, figures, and the PDF."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typst

from c2c.testbed.card.numbers import decimal, show
from paper import build

PROGRAM = '#import "/text/lib.typ": *\n#metadata({call}) <shown>\n'
PAPER = Path(build.__file__).parent


def in_the_pdf(call: str) -> str:
    found = typst.query(PROGRAM.format(call=call).encode(), "<shown>", field="value", one=True, root=PAPER)
    return str(json.loads(found))


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [
        (6.25, 1, "6.3"),
        (6.75, 1, "6.8"),
        (0.125, 2, "0.13"),
        (1.005, 2, "1.01"),
        (14.45, 1, "14.5"),
        (100.0, 1, "100.0"),
        (99.96, 1, "100.0"),
        (2.5, 0, "3"),
    ],
)
def test_halves_go_away_from_zero_on_the_decimal_in_python_and_in_the_pdf(
    value: float, digits: int, written: str
) -> None:
    assert decimal(value, digits) == written
    assert in_the_pdf(f'fixed("{value:.4f}", digits: {digits})') == written
    assert in_the_pdf(f"fixed({value}, digits: {digits})") == written


@pytest.mark.parametrize(("value", "written"), [(-6.25, "−6.3"), (6.25, "+6.3"), (-0.04, "0.0"), (0.04, "0.0")])
def test_signs_are_true_minus_signs_and_zero_has_none(value: float, written: str) -> None:
    assert show(value, float("nan"), float("nan"), sign=True) == written
    assert in_the_pdf(f'fixed("{value:.4f}", sign: true)') == written


def test_code_in_the_table_of_departures_is_set_as_code() -> None:
    assert in_the_pdf('repr(with-code("a `b` c"))') == 'sequence([a ], raw(text: "b"), [ c])'
    assert in_the_pdf('repr(with-code("plain"))') in ('"plain"', "[plain]")
