"""Text from models and data as Markdown, LaTeX, BibTeX and CSV show it: as text, never as markup or a formula."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

LATEX = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
    "–": "--",
    "−": "$-$",
    "<": "$<$",
    ">": "$>$",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
"""How signs are written in LaTeX."""
FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
"""What a formula of a spreadsheet begins with."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)


def line(text: str) -> str:
    """`text` in one line: what would end a line, or is no sign at all, is a blank."""
    if text.isprintable():
        return text
    return "".join(" " if unicodedata.category(sign) in ("Cc", "Zl", "Zp", "Cs") else sign for sign in text)


def markdown(text: str) -> str:
    """`text` for a line or a cell of a table in Markdown: without HTML, links, images, and ends of cells."""
    text = re.sub(r"&(?=#?\w+;)", "&amp;", line(text))
    # A "<" that begins no tag stays as it is, as in "p < 0.05".
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    return text.replace("](", r"]\(").replace(r"\|", "&#92;|").replace("|", r"\|")


def code(text: str) -> str:
    """`text` as code within a line of Markdown, whatever back-quotes it has."""
    text_line = line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text_line)), default=0))
    blank = " " if "`" in (text_line[:1], text_line[-1:]) else ""
    return f"{fence}{blank}{text_line}{blank}{fence}"


def latex(text: str) -> str:
    """`text` for a line or a cell of a table in LaTeX, or a field of BibTeX."""
    return "".join(LATEX.get(sign, sign) for sign in line(text))


def csv_cell(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula, behind an apostrophe; numbers and other texts as they are."""
    if not isinstance(value, str) or NUMBER.fullmatch(value):
        return value
    # A carriage return is not quoted, and ends a row where it is read.
    text = re.sub("\r\n?", "\n", value) if "\r" in value else value
    return f"'{text}" if FORMULA.match(value) else text


def csv_text(frame: pd.DataFrame, decimals: int) -> str:
    """A frame as CSV: numbers with so many decimals, an empty cell where there is none, no text that is a formula."""
    texts = [name for name in frame if frame[name].dtype == object or str(frame[name].dtype).startswith("str")]
    cells = frame.assign(**{str(name): frame[name].map(csv_cell) for name in texts})
    return cells.to_csv(index=False, float_format=f"%.{decimals}f", lineterminator="\n")
