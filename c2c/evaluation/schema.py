"""The columns of the two kinds of record and of their questions, in one place. Imports no torch.

An *answer record* is one row a question x method, a *latency record* one row a question x method x repeat; the texts
of the questions have a file of their own, a row a question, to which the ids of answer records refer. Whoever
writes them casts to the schema here (`to_table`), whoever reads them gets the same types back (`read_records`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from c2c.errors import RefusedError
from c2c.storage.files import written_whole

TOGETHER = " + "
"""Joins the ids of Sharers that are asked together."""
SINGLE = "single"
"""The recipe of a Receiver that was itself fine-tuned on a Fuser's training set; its method is `receiver`."""
ANALYSIS_METHODS = ("few_shot", "oracle", "oracle_layers")
"""Methods of the enrichment oracle (`c2c.analysis.enrichment`), beside which stand those above."""
PHASES = ("sharer_prefill", "sharer_decode", "fusion", "receiver_prefill", "receiver_decode", "total")

ID = re.compile(r"\w[\w.+-]*")

Columns = dict[str, tuple[pa.DataType, str]]

_RUN: Columns = {
    "scale": (pa.string(), "smoke, trial, laptop or paper"),
    "pair": (pa.string(), "id of the pair; always filled"),
    "receiver": (pa.string(), "id of the Receiver; always filled"),
    "sharer": (pa.string(), "id of the Sharer, or ids of several joined by ' + '; always filled"),
    "recipe": (pa.string(), "how the fuser was trained, or several were joined; empty for a method without a fuser"),
    "alignment": (pa.string(), "token alignment of the fuser; empty for a method without a fuser"),
    "prompts": (pa.string(), "plain text, or chat: messages in each model's own template; one of PROMPTS"),
    "method": (pa.string(), "what answered: one of METHODS or ANALYSIS_METHODS"),
    "seed": (pa.int64(), "training seed of the fuser; null for a method without a fuser"),
    "benchmark": (pa.string(), "id of the benchmark"),
}

RECORD_COLUMNS: Columns = {
    **_RUN,
    "setting": (pa.string(), "what an analysis varies of the method: its layers, its share; empty outside of analyses"),
    "subset": (pa.string(), "part of the benchmark that the question belongs to; may be empty"),
    "scoring": (pa.string(), "rule that decides what is correct: one of SCORINGS"),
    "question_id": (pa.string(), "id of the question within its benchmark"),
    "question_hash": (pa.string(), "hash of the prepared question"),
    "prompt_hash": (pa.string(), "hash of the prompt as the answering model read it"),
    "opening": (pa.string(), "how the prompt opens the answer, such as Answer:; empty where it does not"),
    "gold": (pa.string(), "the gold answer; its letter where scoring is letter, JSON where it is longbench"),
    "choices": (pa.list_(pa.string()), "answer options in order; null for a free answer"),
    "choice_scores": (
        pa.list_(pa.float64()),
        "log-likelihood sum of each option; only where options are weighed",
    ),
    "choice_tokens": (pa.list_(pa.int64()), "tokens of each option; only where options are weighed"),
    "output_text": (pa.string(), "generated text; null where nothing was generated"),
    "output_ids": (pa.list_(pa.int64()), "generated token ids; null where nothing was generated"),
    "message": (pa.string(), "what the Sharer wrote to the Receiver; methods t2t and of two agents only"),
    "sharer_question_id": (pa.string(), "whose question the Sharer read; null where it read none"),
    "routed_to": (pa.string(), "receiver or sharer; methods routing and routing_trained only"),
    "confidence": (pa.float64(), "the Receiver's confidence; in routing_trained the Sharer's chance; routing only"),
    "tokens_in": (pa.int64(), "tokens that the answering model read"),
    "tokens_out": (pa.int64(), "tokens that the answering model wrote"),
    "sharer_tokens_in": (pa.int64(), "tokens that the Sharer read beside that"),
    "sharer_tokens_out": (pa.int64(), "tokens that the Sharer wrote beside that"),
    "time_s": (
        pa.float64(),
        "seconds of this method, an equal share of its batch's; what another method of the run has read before, and "
        "this one takes from memory, is not in it: times that compare methods are those of latency records",
    ),
    "error": (pa.string(), "why the question failed; null or empty for an answered one"),
}

LATENCY_COLUMNS: Columns = {
    **_RUN,
    "question_id": (pa.string(), "id of the question within its benchmark"),
    "repeat": (pa.int64(), "number of the measurement, from 0"),
    "sharer_prefill_s": (pa.float64(), "seconds in which the Sharer read its prompt"),
    "sharer_decode_s": (pa.float64(), "seconds in which the Sharer wrote"),
    "fusion_s": (pa.float64(), "seconds in which caches were fused"),
    "receiver_prefill_s": (pa.float64(), "seconds in which the Receiver read its prompt"),
    "receiver_decode_s": (pa.float64(), "seconds in which the Receiver wrote"),
    "total_s": (pa.float64(), "seconds from question to answer, measured on its own"),
    "sharer_tokens_in": (pa.int64(), "tokens that the Sharer read"),
    "sharer_tokens_out": (pa.int64(), "tokens that the Sharer wrote"),
    "receiver_tokens_in": (pa.int64(), "tokens that the Receiver read"),
    "receiver_tokens_out": (pa.int64(), "tokens that the Receiver wrote"),
}

QUESTION_COLUMNS: Columns = {
    "benchmark": (pa.string(), "id of the benchmark"),
    "prompts": (pa.string(), "plain text, or chat: one of PROMPTS"),
    "question_id": (pa.string(), "id of the question within its benchmark"),
    "question_hash": (pa.string(), "hash of the prepared question, as in answer records"),
    "subset": (pa.string(), "part of the benchmark that the question belongs to; may be empty"),
    "prompt": (pa.string(), "what the Receiver reads without a message; of a chat its messages as JSON"),
    "private": (pa.string(), "line that the Sharer alone reads before the prompt; empty where there is none"),
    "choices": (pa.list_(pa.string()), "answer options in order; null for a free answer"),
    "gold": (pa.string(), "the gold answer, as in answer records"),
    "max_new_tokens": (pa.int64(), "upper bound of a free answer in tokens; null where options are weighed"),
}


def _schema(columns: Columns) -> pa.Schema:
    return pa.schema([pa.field(name, kind, metadata={"meaning": text}) for name, (kind, text) in columns.items()])


ADDED = {"prompts": "plain", "setting": "", "opening": "Answer:"}
"""What columns mean in records that were written before there were such columns."""

VERSION = 1
"""Of the schemas: raised when a column changes its meaning. Files of before there was a number are of version 1."""
VERSION_KEY = "c2c_schema_version"
"""Of the parquet file's metadata."""

RECORD_SCHEMA = _schema(RECORD_COLUMNS)
LATENCY_SCHEMA = _schema(LATENCY_COLUMNS)
QUESTION_SCHEMA = _schema(QUESTION_COLUMNS)


def to_table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """Cast `frame` to `schema`, columns in the schema's order.

    Raises:
        RefusedError: A column is missing, unknown, or holds values of another type.
    """
    check_columns(list(frame.columns), schema)
    try:
        return pa.table([_array(frame[field.name], field.type) for field in schema], schema=schema)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        rule = "Records must hold values of the schema's types, and text that can be written as UTF-8"
        raise RefusedError(rule, str(error), "Convert them first") from error


def frame_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pd.DataFrame:
    """Records with the schema's types, of one mapping each.

    Raises:
        RefusedError: As `to_table`.
    """
    try:
        frame = pd.DataFrame(rows)
    except UnicodeEncodeError as error:
        rule = "Records must hold values of the schema's types, and text that can be written as UTF-8"
        raise RefusedError(rule, str(error), "Correct the questions") from error
    return conform(frame, schema)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """A frame in which integers stay integers where values are missing (Int64)."""
    return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)


def conform(frame: pd.DataFrame, schema: pa.Schema) -> pd.DataFrame:
    """`frame` as it would be read back from its file, with a new index."""
    return to_frame(to_table(frame, schema))


def read_records(paths: Iterable[Path | str], schema: pa.Schema = RECORD_SCHEMA) -> pd.DataFrame:
    """Read parquet files of one schema into one frame.

    Raises:
        RefusedError: No path is given, or a file is not there, cannot be read to its end, is of a newer version, or
            has missing or unknown columns or values of other types.
    """
    tables = [_read_table(Path(path), schema) for path in paths]
    if not tables:
        raise RefusedError("At least one file of records must be read", [], "Name the parquet files")
    return to_frame(pa.concat_tables(tables))


def write_records(frame: pd.DataFrame, path: Path, schema: pa.Schema = RECORD_SCHEMA) -> None:
    """Write `frame` as a parquet file that is there whole or not at all.

    Raises:
        RefusedError: As `to_table`.
    """
    table = to_table(frame, schema).replace_schema_metadata({VERSION_KEY: str(VERSION)})
    with written_whole(path) as unfinished:
        pq.write_table(table, unfinished, compression="zstd")


def check_ids(**ids: str) -> None:
    """Refuse ids of records, such as scale and pair, that are empty or no single word.

    Raises:
        RefusedError: With the first of them.
    """
    for name, word in ids.items():
        if not ID.fullmatch(word):
            raise RefusedError(
                f"--{name} must be a word of letters, digits and _ . + -", word, "Name it as in config/pairs.tsv"
            )


def check_limit(limit: int) -> None:
    """Refuse a number of questions that cannot be.

    Raises:
        RefusedError: If it is below 0, or beyond what a file can hold.
    """
    if not 0 <= limit < 2**31:
        raise RefusedError("--limit must be at least 0 and below 2^31", limit, "Pass a number of questions; 0 asks all")


def check_columns(columns: list[str], schema: pa.Schema, where: str = "Records") -> None:
    """Refuse missing and unknown columns."""
    if missing := [name for name in schema.names if name not in columns]:
        remedy = "Write them with to_table"
        raise RefusedError(f"{where} must have every column of the schema", {"missing": missing}, remedy)
    if unknown := [name for name in columns if name not in schema.names]:
        raise RefusedError(f"{where} must have no column beside the schema's", {"unknown": unknown}, "Drop them")


def _array(column: pd.Series, kind: pa.DataType) -> pa.Array:
    """An empty column has no type of its own that could be cast."""
    return pa.nulls(len(column), kind) if column.isna().all() else pa.array(column, type=kind, from_pandas=True)


def _read_table(path: Path, schema: pa.Schema) -> pa.Table:
    remedy = "Name a file of records that this version wrote, or make it anew"
    try:
        # Of one file: a path may hold an = or lie in a folder that looks like a partition.
        table = pq.ParquetFile(path).read()
    except FileNotFoundError as error:
        raise RefusedError("Records must be a file", str(path), remedy) from error
    except (pa.ArrowException, OSError) as error:
        raise RefusedError(f"Records in {path} must be a whole parquet file", str(error), remedy) from error
    _check_version(path, table.schema.metadata or {})
    # Columns that an older file lacks get the value that they would have had.
    for name in ADDED.keys() & set(schema.names) - set(table.column_names):
        table = table.append_column(schema.field(name), pa.array([ADDED[name]] * len(table), schema.field(name).type))
    check_columns(table.column_names, schema, where=f"Records in {path}")
    try:
        return table.select(schema.names).cast(schema)
    except pa.ArrowException as error:
        rule = f"Records in {path} must hold values of the schema's types"
        raise RefusedError(rule, str(error), remedy) from error


def _check_version(path: Path, metadata: Mapping[bytes, bytes]) -> None:
    """Refuse records of a schema version that this code does not know; without a number they are of the first."""
    version = metadata.get(VERSION_KEY.encode(), b"1").decode("utf-8", "replace")
    if version not in map(str, range(1, VERSION + 1)):
        rule = f"Records in {path} must be of a schema version up to {VERSION}"
        raise RefusedError(rule, version, "Update this package")
