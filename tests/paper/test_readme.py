"""The README's results are those of the committed records, and its lines can be read in a terminal."""

from __future__ import annotations

import pandas as pd
import pytest

from c2c.errors import RefusedError
from paper import readme
from paper.readme import BEGIN, END, GAINS, README, conclusion, current, insert, table

LONGEST_LINE, LONGEST_CELL = 160, 200


def test_the_readme_shows_the_numbers_of_the_committed_records() -> None:
    assert current() == README.read_text(encoding="utf-8"), "run: python -m paper.readme"


def test_a_changed_gain_changes_the_table() -> None:
    gains, margins = (pd.read_csv(readme.TABLES / f"{name}.csv") for name in ("gains", "margins"))
    assert table(gains.assign(value=gains["value"] + 1), margins) != table(gains, margins)
    assert table(gains, margins.assign(value=margins["value"] + 1)) != table(gains, margins)


@pytest.mark.parametrize(
    ("signs", "words"),
    [
        ((1, 1, 1, 0), "carries information"),
        ((1, 1, 0, 1), "not than none"),
        ((1, 0, 1, 1), "adaptation"),
        ((1, 0, 0, 0), "Nothing shows"),
        ((-1, 0, 0, 0), "worse"),
        ((0, 0, 0, 0), "No difference"),
    ],
)
def test_a_row_is_communication_only_where_pairing_and_communication_are_above_zero(signs, words) -> None:
    assert words in conclusion(dict(zip(GAINS, signs, strict=True)))


def test_a_likelihood_that_the_message_moves_is_said_where_accuracy_decides_nothing() -> None:
    signs = dict(zip(GAINS, (1, 0, 0, 1), strict=True))
    assert conclusion(signs, True) == "It is adaptation; likelihoods move."


def test_words_rest_on_adjusted_intervals_for_accuracy_as_for_likelihoods() -> None:
    row = pd.Series({"low": 1.0, "high": 2.0, "p_holm": 0.2})
    assert readme._sign(row) == 0 and readme._sign(row.replace(0.2, 0.01)) == 1
    assert readme._sign(pd.Series({"low": -2.0, "high": -1.0, "p_holm": 0.01})) == -1


def test_a_readme_without_a_place_is_refused() -> None:
    with pytest.raises(RefusedError, match="must have a place"):
        insert("no marks", "")
    assert insert(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\n\nnew\n\n{END}\nb"


def test_no_line_and_no_cell_is_too_long() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > LONGEST_LINE] == []
    assert [
        cell for line in lines if line.startswith("|") for cell in line.split("|") if len(cell) > LONGEST_CELL
    ] == []
