"""Compact records of a results folder and what was computed from them, for ``paper/records/<scale>``.

All answer records become one parquet file, all latency records (where anything was timed) another, the training
curves a small table, and the texts of generated questions a third file; scores, latency
summary, tables and claims are copied as they are. ``python -m paper.verify`` recomputes the latter from the former.
With ``--partial`` a scale is collected stage by stage, as its pairs and seeds end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from c2c.errors import RefusedError
from c2c.evaluation.protocol import CORRECTED, PROTOCOLS
from c2c.evaluation.schema import LATENCY_SCHEMA, QUESTION_SCHEMA, RECORD_SCHEMA, read_records, to_table
from c2c.evaluation.scoring import ANSWER_KEY
from c2c.provenance import SUFFIX, stamp
from c2c.storage.files import write_atomically
from c2c.storage.manifests import read_object
from c2c.storage.markup import csv_text
from c2c.testbed.card import records as testbed_records
from c2c.testbed.card.numbers import DECIMALS
from paper.command import REMEDY, command
from paper.communication import curves as curves_of_testbed
from paper.reading import names
from paper.reading.committed import (
    BASIS,
    COST,
    CURVES,
    PROTOCOL,
    QUESTIONS,
    RECORDS,
    REMARKS,
    TESTBED_CURVES,
    TESTBED_RECORDS,
    TIMES,
    basis_of,
    remarks_of,
)
from paper.reading.curves import HISTORY, check_curves, curves_of, read_curves
from paper.reading.files import read_table
from paper.reading.messages import records_of
from paper.reading.precision import dtype_of
from paper.reading.questions import QUESTION_KEY, check_questions, committable, read_questions
from paper.reading.times import MEASUREMENT
from paper.recompute import not_from_records, recompute, recomputed_tables, sources_of_records

COPIED = ("scores.csv", "claims.json", "claims_time.json", "tables/*.csv", "tables/*.md")
TIMED = ("latency.csv",)


STAGE = ["pair", "recipe", "alignment", "seed"]
"""Columns that name a stage: one run of the answers, or (without a recipe) a pair's baselines."""


def collect(
    results: Path,
    output: Path,
    protocol: str = CORRECTED,
    partial: bool = False,
    remarks: Sequence[str] = (),
) -> None:
    """Fill `output` from a results folder; what it held before is removed, or kept if `partial`.

    Args:
        results: Folder of one scale's results.
        output: Folder of committed records.
        protocol: By which the results were scored.
        partial: Take the records that exist, add those of other stages in `output`, and compute from them what a
            finished scale has already computed. A pair whose baselines are missing is left out with a line that
            says so.
        remarks: What a reader must know and the records do not hold, such as where the weights came from; printed
            below every table. With `partial`, those of `output` stay.

    Raises:
        RefusedError: The results folder lacks records, or, unless `partial`, something that is computed from them.
    """
    answers, times = (sorted(results.glob(f"{folder}/**/[!.]*.parquet")) for folder in ("records", "latency"))
    questions_files = [path for path in [results / QUESTIONS] if path.is_file()]
    # Nothing new for a file: it stays as it was written, with its provenance, as where a test bed alone is added.
    kept_files: dict[str, bytes] = {}
    for name, inputs in ((RECORDS, answers), (TIMES, times), (QUESTIONS, questions_files)):
        if partial and not inputs:
            paths = [path for path in (output / name, output / f"{name}{SUFFIX}") if path.is_file()]
            kept_files |= {path.name: path.read_bytes() for path in paths}
    if RECORDS in kept_files:
        answers = [output / RECORDS]
    patterns = [] if partial else [*COPIED, *(TIMED if times else ())]
    gaps = [pattern for pattern in patterns if not list(results.glob(pattern))]
    if gaps or not answers:
        raise RefusedError(
            "Results must be complete before they are collected", str(results), f"Make {gaps or 'records'}"
        )
    # Records, and what follows from them: copied, or computed where it is partial or has remarks.
    records, time_records = read_records(answers), read_records(times, LATENCY_SCHEMA) if times else None
    price_file = next((path / COST for path in (results, output) if (path / COST).is_file()), None)
    price = None if price_file is None else price_file.read_bytes()
    basis = basis_of(results) or (basis_of(output) if partial else "")
    lines = list(dict.fromkeys([*(remarks_of(output) if partial else []), *remarks]))
    places = [results, *([output] if partial else [])]
    extra_files = {
        name: place / name for name in not_from_records() for place in reversed(places) if (place / name).is_file()
    }
    with tempfile.TemporaryDirectory() as temporary:
        source = results
        if partial:
            records, time_records = _with_earlier(records, time_records, output)
        curves = _curves(results, output if partial else None, records)
        testbed, testbed_curves = _testbed(results, output if partial else None)
        questions = _questions(places, records)
        if partial or lines or testbed is not None:
            source = Path(temporary)
            for name, path in extra_files.items():
                write_atomically(source / name, path.read_text(encoding="utf-8"))
            cost = None if price_file is None else read_table(price_file)
            channels = None if testbed is None else records_of(testbed)
            recompute(records, time_records, source, protocol, lines, cost, basis, channels, testbed_curves)
        # Of the tables, only those that `make verify` can recompute.
        copies = {str(path.relative_to(source)): path for pattern in [*COPIED, *TIMED] for path in source.glob(pattern)}
        tables = recomputed_tables(
            sources_of_records(records, time_records is not None, price is not None, testbed is not None)
        )
        copies = {name: path for name, path in copies.items() if "/" not in name or path.stem in tables}
        # And what claims read that does not follow from records; verdicts rest on it.
        copies |= extra_files
        texts = {name: path.read_bytes() for name, path in sorted(copies.items())}
    # Files that are not frames, by their names.
    files = kept_files | texts
    if price is not None:
        files[COST] = price
    if testbed is not None:
        files[TESTBED_CURVES] = csv_text(testbed_curves, DECIMALS).encode()
    if len(curves):
        files[CURVES] = csv_text(curves, DECIMALS).encode()
    if protocol != CORRECTED:
        files[PROTOCOL] = f"{protocol}\n".encode()
    if basis not in ("", records["scale"].iloc[0]):
        files[BASIS] = f"{basis}\n".encode()
    if lines:
        files[REMARKS] = ("\n".join(lines) + "\n").encode()
    # Everything is read: replace the folder.
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    frames = (
        (RECORDS, records, RECORD_SCHEMA, ANSWER_KEY, answers),
        (TIMES, time_records, LATENCY_SCHEMA, MEASUREMENT, times),
        (QUESTIONS, questions, QUESTION_SCHEMA, QUESTION_KEY, questions_files),
    )
    for name, frame, schema, key, inputs in frames:
        if name not in files and frame is not None and len(frame):
            with _stamp(output / name, inputs):
                _write(frame, schema, key, output / name)
    if testbed is not None:
        testbed_records.write(testbed, output / TESTBED_RECORDS)
    for name, content in files.items():
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_bytes(content)


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of one scale's results")
    parser.add_argument("--output", type=Path, required=True, help="folder of committed records, replaced")
    parser.add_argument("--protocol", choices=PROTOCOLS, default=CORRECTED, help="by which the results were scored")
    parser.add_argument(
        "--partial",
        action="store_true",
        help="take the records that there are so far; compute all else from them",
    )
    parser.add_argument("--remark", action="append", default=[], help="a line to be printed below every table")
    arguments = parser.parse_args()
    collect(arguments.results, arguments.output, arguments.protocol, arguments.partial, arguments.remark)
    size = sum(path.stat().st_size for path in arguments.output.rglob("*") if path.is_file())
    print(f"{arguments.output}: {size / 1024:.0f} KiB")


def _curves(results: Path, earlier: Path | None, records: pd.DataFrame) -> pd.DataFrame:
    """Training curves of a results folder, and those in `earlier` of other trainings; of fusers that answered."""
    curves = curves_of([path.parent for path in sorted(results.glob(f"fusers/*/*/*/seed*/{HISTORY}"))])
    if earlier and (earlier / CURVES).is_file():
        curves = _join(read_curves(earlier / CURVES), curves, STAGE)
    # A stage may have trained fusers that have not answered yet.
    curves = curves.merge(records[STAGE].drop_duplicates(), on=STAGE)
    check_curves(curves, records)
    return curves


def _testbed(results: Path, earlier: Path | None) -> tuple[pd.DataFrame | None, pd.DataFrame]:
    """Records and curves of the test bed in a results folder, with those of `earlier` that it does not have.

    Log-likelihoods are rounded, and those of options are kept only where bits are computed from them.
    """
    stage = ["pair", "task", "seed"]
    paths = sorted(results.glob("testbed/records/*/*/seed*.parquet"))
    records = [testbed_records.compact(testbed_records.read(paths))] if paths else []
    curves = curves_of_testbed.read(sorted(results.glob(f"testbed/records/*/*/seed*{curves_of_testbed.SUFFIX}")))
    if earlier and (earlier / TESTBED_RECORDS).is_file():
        before = testbed_records.read([earlier / TESTBED_RECORDS])
        records = [_join(before, records[0], stage) if records else before]
        if (earlier / TESTBED_CURVES).is_file():
            curves = _join(curves_of_testbed.read([earlier / TESTBED_CURVES]), curves, stage)
    # What is computed from curves is computed from them as they are committed.
    return (records[0] if records else None), curves.round(DECIMALS)


def _questions(places: Sequence[Path], records: pd.DataFrame) -> pd.DataFrame:
    """Texts of generated questions that the records refer to, from the first of `places` that has each question."""
    paths = [path for place in places if (path := place / QUESTIONS).is_file()]
    frames = [read_questions([path]) for path in paths]
    if not frames:
        return pd.DataFrame()
    questions = pd.concat(frames)
    questions = committable(questions[~questions.index.duplicated()], records)
    check_questions(questions, records)
    return questions.reset_index()


def _with_earlier(
    records: pd.DataFrame, times: pd.DataFrame | None, output: Path
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The records with those of stages that `output` holds from before; of new pairs only those with baselines."""
    # Groups and the pairs of a latent space have no baselines of their own: what was committed stays.
    committed: set[str] = set()
    if (output / RECORDS).is_file():
        earlier_records = read_records([output / RECORDS])
        committed = set(earlier_records["pair"])
        records = _join(earlier_records, records, STAGE)
    if (output / TIMES).is_file():
        earlier = read_records([output / TIMES], LATENCY_SCHEMA)
        times = earlier if times is None else _join(earlier, times, ["pair", "recipe"])
    pairs = committed | set(records.loc[records["recipe"] == "", "pair"])
    for pair in sorted(set(records["pair"]) - pairs):
        print(f"{pair} is left out: it has no baselines yet")
    records = records[records["pair"].isin(pairs)]
    return records, None if times is None else times[times["pair"].isin(pairs)]


def _join(earlier: pd.DataFrame, frame: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """`frame`, and of `earlier` the stages that it does not have."""
    stages = set(frame[key].astype(str).itertuples(index=False, name=None))
    is_earlier = [stage not in stages for stage in earlier[key].astype(str).itertuples(index=False, name=None)]
    return pd.concat([earlier[is_earlier], frame], ignore_index=True)


@contextmanager
def _stamp(target: Path, sources: list[Path]) -> Iterator[None]:
    """`stamp` whose code is that of the runs that made the sources."""
    stamps = [path for source in sources if (path := source.with_name(source.name + SUFFIX)).is_file()]
    records = [read_object(path, REMEDY) for path in stamps]
    with stamp(target, inputs=[*sources, *names.files()]) as notes:
        yield
        if records:
            codes = {json.dumps(record["code"], sort_keys=True) for record in records}
            notes["code"] = [json.loads(code) for code in sorted(codes)]
            notes["config_sha256"] = sorted(
                {str(record["config_sha256"]) for record in records if record.get("config_sha256")}
            )
            notes["hardware"] = records[0]["hardware"]
            for name in ("load", "other_load"):
                if None not in (loads := [record.get(name) for record in records]):
                    notes[name] = max(loads)
            notes["dtype"] = {str(source): dtype_of(source) for source in sources}


def _write(frame: pd.DataFrame, schema: pa.Schema, key: list[str], path: Path) -> None:
    table = frame.sort_values(key, na_position="first", ignore_index=True)
    pq.write_table(to_table(table, schema), path, compression="zstd", compression_level=15)


if __name__ == "__main__":
    sys.exit(main())
