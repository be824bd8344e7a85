"""Text from models and data is text in Markdown, LaTeX, BibTeX and CSV: it cannot end a cell, link, run or compute."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest

from c2c.storage import markup
from paper.reading.files import read_table
from paper.writing.citation import Citation
from paper.writing.output import write_table

EVIL = [
    "x | y",
    "x\n# heading",
    "x\r\n* item",
    "<script>alert(1)</script>",
    "-->",
    "![a](http://example.org/x.png)",
    r"\input{/etc/passwd}",
    "50 % of a~b^c_d & #1 {e}",
    "`code` ``more``",
    "back\\slash \\| bar",
    "\x00\x1b[31m",
    "line\u2028separator",
    "\ud800 half of a pair",
]


@pytest.mark.parametrize("text", EVIL)
def test_no_text_ends_its_line_or_cell_or_is_html_or_a_link_in_markdown(text: str) -> None:
    cell = markup.markdown(text)
    assert len(cell.splitlines()) == 1 and not re.search(r"(?<!\\)\||<[A-Za-z/!?]|(?<!\\)\]\(", cell)


@pytest.mark.parametrize("text", EVIL)
def test_no_text_is_a_command_in_latex(text: str) -> None:
    cell = markup.latex(text)
    plain = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum)\{\}|\\[&%$#_{}]|\$[-<>]\$", "", cell)
    assert len(cell.splitlines()) == 1 and not set(plain) & set("\\&%$#_{}~^<>")


@pytest.mark.parametrize("text", EVIL)
def test_code_in_markdown_ends_where_it_should(text: str) -> None:
    shown = markup.code(text)
    fence = re.match("`+", shown)
    assert fence and shown.endswith(fence[0]) and len(shown.splitlines()) == 1
    assert fence[0] not in re.findall("`+", shown[len(fence[0]) : -len(fence[0])])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("93.4 [91.0, 95.2]", "93.4 [91.0, 95.2]"),
        ("p < 0.05 & n > 3", "p < 0.05 & n > 3"),
        ("arc_easy *x*", "arc_easy *x*"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
    ],
)
def test_what_is_no_markup_stays_as_it_is_in_markdown(text: str, shown: str) -> None:
    assert markup.markdown(text) == shown


@pytest.mark.parametrize("text", ["=cmd|'/c calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1", "--", "+"])
def test_no_text_is_a_formula_in_csv(text: str) -> None:
    written = markup.csv_text(pd.DataFrame({"subset": [text, "plain"], "value": [-1.5, 2]}), 4)
    read = pd.read_csv(io.StringIO(written, newline=""), keep_default_na=False)
    assert read["subset"].tolist() == [f"'{text}".replace("\r", "\n"), "plain"] and read["value"].tolist() == [-1.5, 2]


@pytest.mark.parametrize("number", [-1, "-1.5", "+3", "-2e-05", "-inf", None, "−1.0", "–", "a=b"])
def test_numbers_and_plain_texts_stay_as_they_are_in_csv(number: object) -> None:
    assert markup.csv_cell(number) is number


def test_a_table_is_a_table_whatever_its_cells_and_notes_hold(tmp_path: Path) -> None:
    texts = EVIL[:-1]  # no file of records can hold a half of a pair
    frame = pd.DataFrame({"scale": ["x --> <b>"], "subset": ["=1|2\n3"]})
    printed = pd.DataFrame({"Subject | x": texts, "n": ["1"] * len(texts)})
    write_table(frame, printed, tmp_path / "main", texts)
    lines = (tmp_path / "main.md").read_text(encoding="utf-8").partition("\n<!--")[0].split("\n")
    assert len([line for line in lines if line.startswith("| ")]) == len(texts) + 2
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines if line.startswith("| "))
    assert len([line for line in lines if line.startswith("* ")]) == len(texts)
    comment = (tmp_path / "main.md").read_text(encoding="utf-8").partition("\n<!--")[2]
    assert comment.count("-->") == 1 and comment.endswith("-->\n")
    assert r"\input{" not in (tmp_path / "main.tex").read_text(encoding="utf-8")
    assert read_table(tmp_path / "main.csv")["subset"].tolist() == ["'=1|2\n3"]


def test_an_entry_of_bibtex_has_its_fields_and_nothing_else() -> None:
    cited = Citation("table", "main", "a} --> , x = {", "50 % of \\input{x} }\n\n@misc{y", "")
    lines = cited.bibtex().splitlines()
    assert len(lines) == 6 and lines[0].startswith("@misc{c2c-a_") and lines[-1] == "}"
    assert all(re.fullmatch(r"  \w+ += \{.*\},", line) for line in lines[1:-1])
    assert "-->" not in cited.bibtex() and not re.search(r"(?<!\\)%", cited.bibtex())
