"""Compact records of a results folder and what was computed from them, for ``paper/records/<scale>``.

All answer records become one parquet file, all latency records another; scores, latency summary, tables and claims are
copied as they are. ``python -m paper.verify`` recomputes the latter from the former.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from c2c.errors import RefusedError
from c2c.evaluation.schema import LATENCY_SCHEMA, RECORD_SCHEMA, read_records, to_table
from c2c.evaluation.scoring import ANSWER_KEY
from c2c.provenance import SUFFIX, stamp
from paper import names
from paper.recompute import RECORDS, TIMES
from paper.summarise_latency import MEASUREMENT

COPIED = ("scores.csv", "latency.csv", "claims.json", "claims_time.json", "tables/*.csv", "tables/*.md", "tables/*.tex")


def collect(results: Path, output: Path) -> None:
    """Fill `output` from a results folder; what it held before is removed.

    Raises:
        RefusedError: The results folder lacks records, or something that is computed from them.
    """
    copied = [path for pattern in COPIED for path in sorted(results.glob(pattern))]
    missing = [pattern for pattern in COPIED if not list(results.glob(pattern))]
    answers, times = (sorted(results.glob(f"{folder}/**/*.parquet")) for folder in ("records", "latency"))
    if missing or not answers or not times:
        raise RefusedError(
            "Results are complete before they are collected", str(results), f"Make {missing or 'records'}"
        )
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    with _stamp(output / RECORDS, answers):
        _write(read_records(answers), RECORD_SCHEMA, ANSWER_KEY, output / RECORDS)
    with _stamp(output / TIMES, times):
        _write(read_records(times, LATENCY_SCHEMA), LATENCY_SCHEMA, MEASUREMENT, output / TIMES)
    for path in copied:
        target = output / path.relative_to(results)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of one scale's results")
    parser.add_argument("--output", type=Path, required=True, help="folder of committed records, replaced")
    arguments = parser.parse_args()
    collect(arguments.results, arguments.output)
    size = sum(path.stat().st_size for path in arguments.output.rglob("*") if path.is_file())
    print(f"{arguments.output}: {size / 1024:.0f} KiB")


@contextmanager
def _stamp(target: Path, sources: list[Path]) -> Iterator[None]:
    """`stamp` whose code is that of the runs that made the sources."""
    stamps = [path for source in sources if (path := source.with_name(source.name + SUFFIX)).is_file()]
    told = [json.loads(path.read_text(encoding="utf-8")) for path in stamps]
    with stamp(target, inputs=[*sources, names.PATH]) as notes:
        yield
        if told:
            codes = {json.dumps(each["code"], sort_keys=True) for each in told}
            notes["code"] = [json.loads(code) for code in sorted(codes)]
            notes["config_sha256"] = sorted({str(each["config_sha256"]) for each in told if each.get("config_sha256")})
            notes["hardware"] = told[0]["hardware"]


def _write(frame: pd.DataFrame, schema: pa.Schema, key: list[str], path: Path) -> None:
    ordered = frame.sort_values(key, na_position="first", ignore_index=True)
    pq.write_table(to_table(ordered, schema), path, compression="zstd", compression_level=15)


if __name__ == "__main__":
    main()
