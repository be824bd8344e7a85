"""A training set that was aligned and tokenised once for a pair: a parquet file that is read a few rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from c2c.alignment.chat import AlignedChat, ChatSection, SectionKind
from c2c.alignment.tokens import AlignedPrompt
from c2c.errors import RefusedError
from c2c.fusion.batch import sections_of
from c2c.models.contract import tokenizer_fingerprint
from c2c.storage.files import written_whole
from c2c.storage.formats import parse_json
from c2c.training.batch_order import Lengths
from c2c.training.examples import Example

TOKENS = pa.list_(pa.int32())
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("receiver_ids", TOKENS),
        ("sharer_ids", TOKENS),
        ("token_map", TOKENS),
        ("sections", TOKENS),
        ("response_ids", TOKENS),
        ("prompt_tokens", pa.int32()),
        ("response_tokens", pa.int32()),
    ]
)
"""`sections` holds where each section of a conversation ends, and nothing for plain text."""
ID_COLUMNS = ("receiver_ids", "sharer_ids", "response_ids")

KEY = "c2c.tokenised"
VERSION = 1
ROW_GROUP = 256
MAKE_AGAIN = "Make it again with c2c tokenise"
CACHED_GROUPS = 64
"""Groups of rows that are held decoded; a set of up to 16,384 examples is decoded once."""


def identity(
    receiver: PreTrainedTokenizerBase, sharer: PreTrainedTokenizerBase, alignment: str, prompts: str, max_length: int
) -> dict[str, Any]:
    """What a tokenised set was made for; a set that was made for anything else must not be trained on.

    Tokenizers are named by their hash, which their chat template is a part of, so that a model may lie elsewhere.
    """
    return {
        "version": VERSION,
        "receiver_tokenizer": tokenizer_fingerprint(receiver),
        "sharer_tokenizer": tokenizer_fingerprint(sharer),
        "alignment": alignment,
        "prompts": prompts,
        "max_length": max_length,
    }


def write_tokenised(
    path: Path, examples: Iterable[Example], made_for: Mapping[str, Any], notes: Mapping[str, Any]
) -> None:
    """Write examples as they come, and then the metadata; `path` appears when it is complete.

    Args:
        path: The parquet file.
        examples: Each is written once; a group of rows is held at a time.
        made_for: As `identity` gives it.
        notes: More for the metadata; read when all examples are written, so counts may still grow.

    Raises:
        RefusedError: If an id is no whole number of 32 bits.
    """
    options: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
    with written_whole(path) as unfinished, pq.ParquetWriter(unfinished, SCHEMA, **options) as writer:
        group: list[dict[str, Any]] = []
        for example in examples:
            group.append(_row(example))
            if len(group) == ROW_GROUP:
                writer.write_table(_table(group))
                group = []
        if group:
            writer.write_table(_table(group))
        # Last, since the notes count what was left out while examples were written.
        writer.add_key_value_metadata({KEY: json.dumps({**made_for, **notes}, sort_keys=True)})


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    try:
        return pa.Table.from_pylist(rows, SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        rule = "Ids of a tokenised set must be whole numbers of 32 bits"
        raise RefusedError(rule, str(error), "Use a tokenizer whose ids are those of its model") from error


def _row(example: Example) -> dict[str, Any]:
    prompt = example.prompt
    chat = isinstance(prompt, AlignedChat)
    return {
        "id": example.id,
        "receiver_ids": prompt.receiver_ids,
        "sharer_ids": prompt.sharer_ids,
        "token_map": prompt.token_map,
        "sections": [section.end for section in sections_of(prompt)] if chat else [],
        "response_ids": example.response_ids,
        "prompt_tokens": len(prompt.receiver_ids),
        "response_tokens": len(example.response_ids),
    }


class TokenisedSet(Sequence[Example]):
    """The examples of a file that `write_tokenised` wrote; it is memory-mapped, and decoded as it is used.

    Args:
        path: The parquet file.

    Attributes:
        about: The metadata: what the set was made for, and its counts.
        lengths: Prompt and response tokens of each example.

    Raises:
        RefusedError: If there is no such file, it is not a tokenised set of this version, it is empty, or it was
            changed; what an example holds is checked when it is read.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise RefusedError("A tokenised set must be a parquet file", str(path), "Make it with c2c tokenise")
        self.path = path
        self.about = read_about(path)
        try:
            self._file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
            self._check_layout()
            counts = self._file.read(columns=["prompt_tokens", "response_tokens"])
        except (pa.ArrowException, OSError) as error:
            raise self._refusal(str(error)) from error
        self.lengths: Lengths = list(zip(*(column.to_pylist() for column in counts.columns), strict=True))
        self._group = lru_cache(CACHED_GROUPS)(self._read_group)

    def check(self, made_for: Mapping[str, Any]) -> None:
        """Refuse the file if it was made for anything else than `made_for`, as `identity` gives it.

        Raises:
            RefusedError: With the first thing that differs.
        """
        for name, value in made_for.items():
            if self.about.get(name) != value:
                raise RefusedError(
                    f"A tokenised set must be made for this training: {name} {value}",
                    f"{self.about.get(name)} in {self.path}",
                    "Make it with c2c tokenise of the same models and settings",
                )

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        # Negative indices and the end of the set as a list has them
        place = range(len(self))[index]
        group, row = divmod(place, ROW_GROUP)
        return _example(self._group(group).slice(row, 1).to_pylist()[0])

    def _read_group(self, group: int) -> pa.Table:
        """The rows of a group.

        Raises:
            RefusedError: If they cannot be read, or cannot be what `write_tokenised` wrote.
        """
        try:
            table = self._file.read_row_group(group)
        except (pa.ArrowException, OSError) as error:
            raise self._refusal(str(error)) from error
        # Checked a group at a time, when it is decoded: the file may be larger than the memory.
        sizes = {name: pc.list_value_length(table[name]) for name in SCHEMA.names if SCHEMA.field(name).type == TOKENS}
        fits = [
            not any(column.null_count for column in table.columns),
            sizes["receiver_ids"] == table["prompt_tokens"],
            sizes["response_ids"] == table["response_tokens"],
            pc.all(pc.equal(sizes["token_map"], pc.subtract(sizes["receiver_ids"], 1))).as_py(),
            *((pc.min(pc.list_flatten(table[name])).as_py() or 0) >= 0 for name in ID_COLUMNS),
        ]
        if not all(fits):
            raise self._refusal(f"rows of group {group} whose columns do not fit each other")
        return table

    def _check_layout(self) -> None:
        """Refuse other columns, and groups of another size, by which an example is found.

        Raises:
            RefusedError: If so, or if there is no example.
        """
        if not self._file.schema_arrow.equals(SCHEMA):
            raise self._refusal(f"columns {self._file.schema_arrow.names}")
        metadata = self._file.metadata
        sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        if not sizes or set(sizes[:-1]) - {ROW_GROUP} or not 0 < sizes[-1] <= ROW_GROUP:
            raise self._refusal(f"groups of {sizes} rows")

    def _refusal(self, received: str) -> RefusedError:
        rule = f"A tokenised set must hold one example or more, as c2c tokenise wrote them, {ROW_GROUP} a group"
        return RefusedError(rule, f"{self.path}: {received}", MAKE_AGAIN)


def read_about(path: Path) -> dict[str, Any]:
    """The metadata of a tokenised set.

    Raises:
        RefusedError: If the file is not a tokenised set of this version.
    """
    try:
        metadata = (pq.read_metadata(path).metadata or {}).get(KEY.encode(), b"{}").decode("utf-8", "replace")
    except (pa.ArrowException, OSError):
        metadata = "{}"
    about = parse_json(metadata, f"What {path.name} says of itself", MAKE_AGAIN)
    version = about.get("version", "another file") if isinstance(about, dict) else "another file"
    if version != VERSION or not isinstance(about.get("left_out", {}), dict):
        raise RefusedError(
            f"A tokenised set must be a parquet file of c2c tokenise, version {VERSION}",
            f"{path}: {version}",
            MAKE_AGAIN,
        )
    return dict(about)


def _example(row: Mapping[str, Any]) -> Example:
    prompt = AlignedPrompt(row["receiver_ids"], row["sharer_ids"], row["token_map"])
    if ends := row["sections"]:
        starts = [0, *ends[:-1]]
        # Kinds alternate, and the last section is never fused, so that only the ends need to be stored.
        kinds: list[SectionKind] = [
            "message" if (len(ends) - number) % 2 == 0 else "template" for number in range(len(ends))
        ]
        sections = tuple(ChatSection(*section) for section in zip(starts, ends, kinds, strict=True))
        prompt = AlignedChat(prompt.receiver_ids, prompt.sharer_ids, prompt.token_map, sections)
    return Example(prompt, row["response_ids"], row["id"])
