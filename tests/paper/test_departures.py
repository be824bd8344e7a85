"""Properties of the departures that a scale's PDF prints."""

import pytest

from c2c.errors import RefusedError
from paper.departures import PATH, departures
from workflow.scales import scale_ids

FILE = """# Departures

## Every scale

| What | Paper | Here | Why |
| --- | --- | --- | --- |
| Precision | a | b | c |

## Scales: paper, laptop

| What | Paper | Here | Why |
| --- | --- | --- | --- |
| ARC | a | b | c |

## Scales: smoke

| What | Paper | Here | Why |
| --- | --- | --- | --- |
| Models | a | b | c |
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "deviations.md"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.mark.parametrize(("scale", "rows"), [("laptop", ["Precision", "ARC"]), ("smoke", ["Precision", "Models"])])
def test_a_scale_prints_the_rows_of_every_scale_and_its_own(file, scale, rows):
    assert [row[0] for row in departures(scale, file)] == ["What", *rows]


def test_a_scale_that_no_heading_names_prints_the_rows_of_the_paper_scale(file):
    assert departures("mine", file) == departures("paper", file)


def test_a_heading_of_another_form_is_refused(file):
    file.write_text(FILE.replace("## Scales: smoke", "## Smoke"), encoding="utf-8")
    with pytest.raises(RefusedError, match="must be"):
        departures("smoke", file)


def test_a_row_above_all_headings_is_refused(file):
    file.write_text(FILE.replace("## Every scale\n", ""), encoding="utf-8")
    with pytest.raises(RefusedError, match="below a heading"):
        departures("smoke", file)


def test_each_departure_says_what_the_paper_does_what_we_do_and_why():
    lines = [line for line in PATH.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert len(lines) > 50
    assert all(
        len(cells) == 4 and all(map(str.strip, cells)) for cells in (line.strip("|").split("|") for line in lines)
    )


def test_no_departure_is_listed_twice_at_a_scale():
    for scale in scale_ids():
        names = [row[0] for row in departures(scale)]
        assert len(names) == len(set(names)), scale


def test_the_choices_of_the_laptop_are_printed_at_the_laptop_scale_alone():
    rows = {scale: {row[0] for row in departures(scale)} for scale in ("smoke", "laptop", "paper")}
    assert "Learning rate" in rows["laptop"] and "Learning rate" not in rows["smoke"] | rows["paper"]
    assert "Length of answers" in rows["paper"] and "Length of answers" not in rows["smoke"] | rows["laptop"]
