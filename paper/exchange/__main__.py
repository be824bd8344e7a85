"""Write records as *Every Eval Ever* files or as logs of Inspect.

python -m paper.exchange --format inspect --records paper/records/smoke/records.parquet \
        --questions paper/records/smoke/questions.parquet --output logs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from c2c.errors import RefusedError, check_choice
from c2c.evaluation.protocol import CORRECTED, PROTOCOLS
from c2c.evaluation.schema import read_records
from c2c.testbed.card.records import read as read_messages
from paper.command import command
from paper.exchange.evaluations import OWNER, evaluations
from paper.exchange.every_eval_ever import write_every_eval_ever
from paper.exchange.inspect_logs import write_inspect_logs
from paper.exchange.messages import evaluations_of_messages, read_item_files
from paper.exchange.origin import origin_of
from paper.reading.messages import records_of
from paper.reading.questions import read_questions

WRITERS: dict[str, Callable[..., list[Path]]] = {
    "every-eval-ever": write_every_eval_ever,
    "inspect": write_inspect_logs,
}
"""What writes each format."""


def export(
    form: str,
    records: list[Path],
    questions: list[Path],
    output: Path,
    *,
    protocol: str = CORRECTED,
    results: Path | None = None,
    organisation: str = f"{OWNER} replication",
    **ids: Collection[str],
) -> list[Path]:
    """Write records in a format and return the files.

    Args:
        form: One of `WRITERS`.
        records: Files of answer records, or of records of the test bed, of one scale.
        questions: Files with the texts of their questions; for the test bed those of its items.
        output: Folder of the files.
        protocol: By which answers are marked.
        results: Folder of the results, whose manifests name the commits of models.
        organisation: Who publishes the evaluations.
        **ids: Values of `pair`, `benchmark` or `method` to which the export is limited, for the test bed of pair, task
            or channel; all where there are none.

    Raises:
        RefusedError: The format is unknown, nothing is left to be written, or as `evaluations`.
    """
    check_choice("The format", form, WRITERS)
    origin = origin_of(records, organisation)
    if is_of_test_bed(records):
        columns = {"pair": "pair", "benchmark": "task", "method": "channel"}
        frame = _limited(read_messages(records), {columns[name]: names for name, names in ids.items()})
        rows = evaluations_of_messages(records_of(frame), read_item_files(questions), results)
    else:
        frame = _limited(read_records(records), ids)
        rows = evaluations(frame, read_questions(questions), protocol, results)
    return WRITERS[form](rows, output, origin)


def is_of_test_bed(paths: Collection[Path]) -> bool:
    """Whether files hold records of the test bed, which have a channel; the first one decides."""
    try:
        return any("channel" in pq.read_schema(path).names for path in list(paths)[:1])
    except (pa.ArrowException, OSError):
        # The reader of answer records says what is wrong with the file.
        return False


def _limited(records: pd.DataFrame, ids: dict[str, Collection[str]]) -> pd.DataFrame:
    """The records of some ids, all where none are named."""
    for column, names in ids.items():
        check_known = set(records[column])
        if unknown := [name for name in names if name not in check_known]:
            remedy = f"Choose among {', '.join(sorted(check_known))}"
            raise RefusedError(f"A {column} that is exchanged must have records", unknown, remedy)
        records = records[records[column].isin(names)] if names else records
    if records.empty:
        raise RefusedError("At least one record must be exchanged", ids, "Name fewer ids")
    return records.reset_index(drop=True)


def _run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", required=True, help=f"one of {', '.join(WRITERS)}")
    parser.add_argument("--records", type=Path, nargs="+", required=True, help="files of records of one scale")
    parser.add_argument(
        "--questions", type=Path, nargs="+", required=True, help="files with the texts of questions, or item files"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the files")
    parser.add_argument("--protocol", choices=PROTOCOLS, default=CORRECTED, help="by which answers are marked")
    parser.add_argument("--results", type=Path, help="results folder whose manifests name the commits of models")
    parser.add_argument("--organisation", default=f"{OWNER} replication", help="who publishes the evaluations")
    for column in ("pair", "benchmark", "method"):
        of_bed = {"benchmark": "task", "method": "channel"}.get(column)
        what = f"write these {column}s only" + (f"; for the test bed {of_bed}s" if of_bed else "")
        parser.add_argument(f"--{column}s", nargs="+", default=[], help=what)
    options = parser.parse_args()
    paths = export(
        options.format,
        options.records,
        options.questions,
        options.output,
        protocol=options.protocol,
        results=options.results,
        organisation=options.organisation,
        pair=options.pairs,
        benchmark=options.benchmarks,
        method=options.methods,
    )
    print(f"{options.output}: {len(paths)} evaluations")


main = command(_run, "paper.exchange")
"""Command line."""


if __name__ == "__main__":
    sys.exit(main())
