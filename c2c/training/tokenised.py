"""A training set that was aligned and tokenised once for a pair: a parquet file that is read a few rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from c2c.alignment.batch import sections_of
from c2c.alignment.chat import AlignedChat, ChatSection
from c2c.alignment.tokens import AlignedPrompt
from c2c.contract import tokenizer_fingerprint
from c2c.errors import RefusedError
from c2c.files import written_whole
from c2c.training.examples import Example
from c2c.training.order import Lengths

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

KEY = "c2c.tokenised"
VERSION = 1
ROW_GROUP = 256
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
    """
    with written_whole(path) as unfinished, pq.ParquetWriter(unfinished, SCHEMA, compression="zstd") as writer:
        group: list[dict[str, Any]] = []
        for example in examples:
            group.append(_row(example))
            if len(group) == ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(group, SCHEMA))
                group = []
        if group:
            writer.write_table(pa.Table.from_pylist(group, SCHEMA))
        writer.add_key_value_metadata({KEY: json.dumps({**made_for, **notes}, sort_keys=True)})


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
        limit: Only the first examples; 0 for all.

    Attributes:
        about: The metadata: what the set was made for, and its counts.
        lengths: Prompt and response tokens of each example.

    Raises:
        RefusedError: If there is no such file, or it is not a tokenised set of this version.
    """

    def __init__(self, path: Path, limit: int = 0) -> None:
        if not path.is_file():
            raise RefusedError("A tokenised set must be a parquet file", str(path), "Make it with c2c tokenise")
        self.path = path
        self.about = read_about(path)
        self._file = pq.ParquetFile(path, memory_map=True)
        counts = self._file.read(columns=["prompt_tokens", "response_tokens"])[: limit or None]
        self.lengths: Lengths = list(zip(*(column.to_pylist() for column in counts.columns), strict=True))
        self._group = lru_cache(CACHED_GROUPS)(self._decoded)

    def check(self, made_for: Mapping[str, Any]) -> None:
        """Refuse the file if it was made for anything else than `made_for`, as `identity` gives it.

        Raises:
            RefusedError: With the first thing that differs.
        """
        for name, wanted in made_for.items():
            if self.about.get(name) != wanted:
                raise RefusedError(
                    f"A tokenised set must be made for this training: {name} {wanted}",
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
            return [self[each] for each in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        group, row = divmod(place, ROW_GROUP)
        return _example(self._group(group).slice(row, 1).to_pylist()[0])

    def _decoded(self, group: int) -> pa.Table:
        return self._file.read_row_group(group)


def read_about(path: Path) -> dict[str, Any]:
    """The metadata of a tokenised set.

    Raises:
        RefusedError: If the file is not a tokenised set of this version.
    """
    try:
        found = (pq.read_metadata(path).metadata or {}).get(KEY.encode())
    except pa.ArrowInvalid:
        found = None
    about: dict[str, Any] = json.loads(found) if found else {}
    if about.get("version") != VERSION:
        raise RefusedError(
            f"A tokenised set must be a parquet file of c2c tokenise, version {VERSION}",
            f"{path}: {about.get('version', 'another file')}",
            "Make it again with c2c tokenise",
        )
    return about


def _example(row: Mapping[str, Any]) -> Example:
    prompt = AlignedPrompt(row["receiver_ids"], row["sharer_ids"], row["token_map"])
    if ends := row["sections"]:
        starts = [0, *ends[:-1]]
        kinds = ["message" if (len(ends) - number) % 2 == 0 else "template" for number in range(len(ends))]
        sections = tuple(ChatSection(*each) for each in zip(starts, ends, kinds, strict=True))  # type: ignore[arg-type]
        prompt = AlignedChat(prompt.receiver_ids, prompt.sharer_ids, prompt.token_map, sections)
    return Example(prompt, row["response_ids"], row["id"])
