"""The page's pieces as HTML: a card for each column, and the heat map. Texts of models and users are escaped."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from c2c.demo.heat_map import HeatMap
from c2c.demo.session import ColumnAnswer

MOST_TOKENS_DRAWN = 160
"""Tokens of a heat map; of a longer prompt the last ones are drawn."""
PHASE_NAMES = {
    "sharer_prefill_s": "Sharer reads",
    "sharer_decode_s": "Sharer writes",
    "receiver_prefill_s": "Receiver reads",
    "fusion_s": "fusion",
    "receiver_decode_s": "Receiver writes",
}
TITLES = {
    "receiver": ("Receiver", "answers alone"),
    "t2t": ("T2T", "reads a text that the Sharer wrote"),
    "c2c": ("C2C", "reads the Sharer's cache of this question"),
    "c2c_deranged": ("C2C, wrong message", "reads the Sharer's cache of another question"),
    "c2c_zeroed": ("C2C, zeroed", "reads zeros in place of the cache"),
    "c2c_random": ("C2C, random", "reads random states in place of the cache"),
}
"""Title and hint of each column."""
PAGE = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def token_text(token: str) -> str:
    """A token with its blanks and line breaks as signs."""
    return token.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥") or "∅"


def seconds_text(seconds: float) -> str:
    """Seconds, or milliseconds below one second."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def card(column: ColumnAnswer) -> str:
    """The card of an answered column."""
    title, hint = TITLES[column.method]
    return PAGE.get_template("card.html").render(
        column=column,
        title=title,
        hint=hint,
        message_title="Message" if column.method == "t2t" else "The cache holds",
        phases=PHASE_NAMES,
        seconds=seconds_text,
        shown=token_text,
    )


def heat_map_table(heat_map: HeatMap | None) -> str:
    """The heat map as two tables, of keys and of values; empty without one."""
    if heat_map is None:
        return ""
    left_out = max(len(heat_map.tokens) - MOST_TOKENS_DRAWN, 0)
    return PAGE.get_template("heat_map.html").render(
        heat_map=heat_map,
        left_out=left_out,
        tokens=heat_map.tokens[left_out:],
        # The last layer on top, as in figures of models
        layers=heat_map.linked_layers[::-1],
        shown=token_text,
    )
