"""The README's table of results: the four gains of each pair and benchmark, from the committed records of a scale.

    python -m paper.readme

writes the table between its two marks; a test fails while the README has other numbers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from c2c.errors import RefusedError, exit_code
from c2c.storage.files import write_atomically
from c2c.storage.formats import read_text
from c2c.testbed.card.numbers import show
from paper.reading.names import title

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TABLES = ROOT / "paper" / "records" / "laptop" / "tables"
BEGIN, END = "<!-- results: python -m paper.readme -->", "<!-- end of results -->"
GAINS = ("system", "pairing", "communication", "adaptation")
LEVEL = 0.05
CELL = ["pair", "benchmark"]


def conclusion(signs: dict[str, int], moves_likelihood: bool = False) -> str:
    """One sentence on a row.

    Args:
        signs: For each of `GAINS` 1 if it is above zero, -1 if it is below, else 0; adjusted for the number of cells.
        moves_likelihood: Whether the pairing gain in nats is above zero, adjusted for the number of cells.
    """
    if signs["pairing"] > 0 and signs["communication"] > 0:
        return "The message carries information."
    if signs["pairing"] > 0:
        return "Better than a wrong message, not than none."
    sentence = "No difference is detected."
    if signs["system"] < 0:
        sentence = "C2C is worse than the Receiver."
    elif signs["system"] > 0 and signs["adaptation"] > 0:
        sentence = "It is adaptation."
    elif signs["system"] > 0:
        sentence = "Nothing shows that the gain is the message's."
    return f"{sentence[:-1]}; likelihoods move." if moves_likelihood else sentence


def sentence_of(gains: pd.DataFrame, nats: pd.Series | None) -> str:
    """The `conclusion` from rows of the tidy table `gains` by gain, and the row of the pairing gain in nats if any."""
    signs = {str(gain): _sign(row) for gain, row in gains.iterrows()}
    return conclusion(signs, nats is not None and _sign(nats) > 0)


def table(gains: pd.DataFrame, margins: pd.DataFrame) -> str:
    """Markdown of the tidy tables `gains` and `margins`, one row for each pair and benchmark that has every gain."""
    lines = [
        "| pair, benchmark | system | pairing | communication | adaptation | pairing, nats | in words |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    in_nats = margins[margins["gain"] == "pairing"].set_index(CELL)
    for pair, of_pair in gains.groupby("pair", sort=False):
        seeds = int(of_pair["seeds"].max())
        questions = " to ".join(str(int(n)) for n in sorted({of_pair["n"].min(), of_pair["n"].max()}))
        scope = f"{seeds} seeds" if seeds > 1 else "1 seed: for this training"
        lines.append(f"| **{title('pairs', str(pair))}** (n = {questions}, {scope}) | | | | | | |")
        for benchmark, of_benchmark in of_pair.groupby("benchmark", sort=False):
            rows = of_benchmark.set_index("gain").reindex(GAINS)
            if rows["value"].isna().any():
                continue
            nats = in_nats.loc[(pair, benchmark)] if (pair, benchmark) in in_nats.index else None
            cells = [gain_text(row, 1) for _, row in rows.iterrows()] + [gain_text(nats, 2)]
            # All of these benchmarks are scored by the likelihood of their options; the name is enough.
            name = title("benchmarks", str(benchmark)).removesuffix(" (text)").removesuffix(", four-way choice")
            words = [name, *cells, sentence_of(rows, nats)]
            lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines)


def _sign(row: pd.Series) -> int:
    """1 above zero, -1 below, after Holm's adjustment for the cells of a gain; else 0. One rule for points and nats."""
    differs = row["p_holm"] < LEVEL
    return int(differs and row["low"] > 0) - int(differs and row["high"] < 0)


def gain_text(row: pd.Series | None, digits: int) -> str:
    """A gain with its interval; a star where it differs from zero after Holm's adjustment."""
    if row is None:
        return "–"
    star = "*" if row["p_holm"] < LEVEL else ""
    return show(row["value"], row["low"], row["high"], digits, sign=True) + star


def insert(text: str, rows: str) -> str:
    """A text with the table between its marks.

    Raises:
        RefusedError: The text has no marks.
    """
    before, begin, tail = text.partition(BEGIN)
    _, end, after = tail.partition(END)
    if not end:
        rule = "The README must have a place for the results"
        raise RefusedError(rule, "none", f"Write {BEGIN} and {END} into it")
    return f"{before}{begin}\n\n{rows}\n\n{end}{after}"


def current(readme: Path = README, tables: Path = TABLES) -> str:
    """The README as it must be."""
    gains, margins = (pd.read_csv(tables / f"{name}.csv") for name in ("gains", "margins"))
    return insert(read_text(readme, "Run this from a checkout"), table(gains, margins))


def main() -> int:
    """Command line; a refusal ends with exit code 2."""
    return exit_code("paper.readme", lambda: write_atomically(README, current()))


if __name__ == "__main__":
    sys.exit(main())
