"""Latency records to ``latency.csv``: mean and median time of each phase, with an interval over the questions."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from c2c.evaluation.schema import LATENCY_SCHEMA, PHASES, read_records
from c2c.stats import bootstrap_mean
from c2c.storage import markup
from c2c.storage.files import write_atomically
from c2c.testbed.card.numbers import DECIMALS
from paper.command import command
from paper.reading.times import KEY, TOKENS, per_question
from paper.writing.output import stamped

COLUMNS = [*KEY, "phase", "mean_ms", "median_ms", "low_ms", "high_ms", "n", "tokens"]


def summarise(records: pd.DataFrame) -> pd.DataFrame:
    """Tidy means with `COLUMNS`; `n` counts questions, the interval is a bootstrap over them.

    `tokens` is how many a phase reads or writes in the mean; empty for fusion and the total.
    """
    rows = []
    for key, group in per_question(records).groupby(level=KEY):
        for phase in PHASES:
            milliseconds = 1000 * group[phase].to_numpy()
            mean = bootstrap_mean(milliseconds)
            median = pd.Series(milliseconds).median()
            tokens = float(group[TOKENS[phase]].mean()) if phase in TOKENS else None
            rows.append([*key, phase, mean.value, median, mean.low, mean.high, mean.n, tokens])
    return pd.DataFrame(rows, columns=COLUMNS)


def write(records: pd.DataFrame, output: Path) -> None:
    """Write the summary of `records` as CSV."""
    write_atomically(output, markup.csv_text(summarise(records), DECIMALS))


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, nargs="+", required=True, help="parquet files of latency records")
    parser.add_argument("--output", type=Path, required=True, help="the CSV to write")
    arguments = parser.parse_args()
    with stamped([arguments.output], arguments.records):
        write(read_records(arguments.records, LATENCY_SCHEMA), arguments.output)


if __name__ == "__main__":
    sys.exit(main())
