"""Properties of the departures that a scale's PDF prints."""

import re
from functools import reduce

import pytest
import yaml

from c2c.errors import RefusedError
from paper.departures import PATH, departures
from paper.reading.reference import Reference
from workflow.paths import ROOT
from workflow.scales import read_config, scale_ids

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


SOURCES = yaml.safe_load(PATH.with_suffix(".yaml").read_text(encoding="utf-8"))
NAMES = re.compile(
    r"(Tables?|Figure) \d+( and Figure \d+)?|Qwen3-[\d.]+B|MMLU-Redux|A100|arXiv v2|of v2|OpenHermes-2\.5|keys 1 to 4"
    r"|commit \w+|September 2026|\"70,000\"|T2T|[Cc]2[Cc]|GSM8K|fp32|bf16|`[^`]*`"
)
"""What holds digits and states no number of ours or the paper's: names, dates, and an example."""


def text_of_row(name):
    lines = PATH.read_text(encoding="utf-8").splitlines()
    return next(line.partition("|")[2].partition("|")[2] for line in lines if line.startswith(f"| {name} |"))


def value_of(source):
    if "paper" in source:
        return Reference().evaluate(source["paper"])
    if "config" in source:
        content, keys = read_config("paper", folder=ROOT / "config"), source["config"]
    else:
        content, keys = yaml.safe_load((ROOT / source["file"]).read_text(encoding="utf-8")), source["key"]

    def descend(level, key):
        return next(entry for entry in level if entry["pair"] == key) if isinstance(level, list) else level[key]

    return float(reduce(descend, keys.split("."), content))


@pytest.mark.parametrize(("row", "source"), [(row, source) for row in SOURCES for source in SOURCES[row]])
def test_a_number_in_a_departure_is_that_of_its_source(row, source):
    assert re.search(rf"(?<![\d.,]){re.escape(source['text'])}(?!\d|[.,]\d)", text_of_row(row))
    assert value_of(source) == float(source["text"].replace(",", ""))


def test_no_departure_states_a_number_without_a_source():
    for line in PATH.read_text(encoding="utf-8").splitlines():
        if not line.startswith("| ") or line.startswith("| ---"):
            continue
        name, _, text = line.removeprefix("| ").partition(" | ")
        for source in SOURCES.get(name, []):
            text = re.sub(rf"(?<![\d.,]){re.escape(source['text'])}(?!\d|[.,]\d)", "", text)
        assert not re.findall(r"\d", NAMES.sub("", text)), (name, NAMES.sub("", text))
