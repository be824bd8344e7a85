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
from paper.reading.names import title

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
GAINS_FILE = ROOT / "paper" / "records" / "laptop" / "tables" / "gains.csv"
BEGIN, END = "<!-- results: python -m paper.readme -->", "<!-- end of results -->"
GAINS = ("system", "pairing", "communication", "adaptation")


def conclusion(signs: dict[str, int]) -> str:
    """One sentence on a row.

    Args:
        signs: For each of `GAINS` 1 if its interval is above zero, -1 if it is below, else 0.
    """
    if signs["pairing"] > 0 and signs["communication"] > 0:
        return "The message carries information."
    if signs["pairing"] > 0:
        return "The right message helps, but no more than none."
    if signs["system"] > 0 and signs["adaptation"] > 0:
        return "The gain is adaptation."
    if signs["system"] > 0:
        return "Nothing shows that the gain is the message's."
    if signs["system"] < 0:
        return "C2C is worse than the Receiver."
    return "No difference is detected."


def table(gains: pd.DataFrame) -> str:
    """Markdown of the tidy table of gains, one row for each pair and benchmark; none for a row that lacks a gain."""
    lines = [
        "| pair, benchmark | system | pairing | communication | adaptation | in words |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for pair, of_pair in gains.groupby("pair", sort=False):
        seeds = int(of_pair["seeds"].max())
        lines.append(f"| **{title('pairs', str(pair))}** ({seeds} seed{'s' * (seeds > 1)}) | | | | | |")
        for benchmark, of_benchmark in of_pair.groupby("benchmark", sort=False):
            rows = of_benchmark.set_index("gain").reindex(GAINS)
            if rows["value"].isna().any():
                continue
            signs = {
                gain: int(row.low > 0) - int(row.high < 0) for gain, row in zip(GAINS, rows.itertuples(), strict=True)
            }
            cells = [f"{row.value:+.1f} [{row.low:.1f}, {row.high:.1f}]" for row in rows.itertuples()]
            name = f"{title('benchmarks', str(benchmark))}, n = {int(rows['n'].max())}"
            lines.append(
                f"| {' | '.join([name, *cells, conclusion(signs)])} |".replace("-0.0", "0.0").replace("+0.0", "0.0")
            )
    return "\n".join(lines)


def insert(text: str, rows: str) -> str:
    """A text with the table between its marks.

    Raises:
        RefusedError: The text has no marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        rule = "The README must have a place for the results"
        raise RefusedError(rule, "none", f"Write {BEGIN} and {END} into it")
    return f"{before}{begin}\n\n{rows}\n\n{end}{after}"


def current(readme: Path = README, gains: Path = GAINS_FILE) -> str:
    """The README as it must be."""
    return insert(read_text(readme, "Run this from a checkout"), table(pd.read_csv(gains)))


def main() -> int:
    """Command line; a refusal ends with exit code 2."""
    return exit_code("paper.readme", lambda: write_atomically(README, current()))


if __name__ == "__main__":
    sys.exit(main())
