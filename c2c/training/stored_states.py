"""States of frozen models that were read once for a training set: a folder of safetensors shards and their index.

Neither cache depends on the Fusers as long as a prompt has one fused section: what the Sharer holds of its tokens, and
what the Receiver holds of the prompt before its last section. A training that is given both runs only the Fusers, and
the Receiver over the last section and the response (`c2c.training.store_states` writes the folder).

A text is found by its token ids, so that examples with the same prompt share its states. Rows of a shard are tokens,
``(rows, layers, 2, H, D)`` with keys before values, so that a text is one contiguous slab; shards are memory-mapped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from c2c.alignment.tokens import AlignedPrompt, SharerInput
from c2c.errors import RefusedError
from c2c.fusion.batch import sections_of
from c2c.provenance import file_hash
from c2c.storage.files import write_atomically, written_whole
from c2c.storage.formats import parse_json
from c2c.storage.manifests import read_object
from c2c.training import state
from c2c.training.batches import Batch
from c2c.training.examples import Example
from c2c.types import CacheShape, KeyValue

Role = Literal["receiver", "sharer"]

INDEX, STATES, COSTS = "index.parquet", "states", "costs.json"
"""The index, the name of a shard's tensor, and the file of what each shard took to compute."""
SCHEMA = pa.schema(
    [
        ("role", pa.string()),
        ("key", pa.string()),
        ("shard", pa.string()),
        ("start", pa.int64()),
        ("positions", pa.list_(pa.int32())),
    ]
)
"""One row a text: rows ``start`` to ``start + len(positions)`` of its shard are its tokens at `positions`."""
KEY = "c2c.states"
VERSION = 2
READ_AGAIN = "Make the folder with c2c store-states of the same models, sets and settings"
RUN_LIVE = "Leave --states out, so that the frozen models run (in the workflow: training.frozen live or together)"


class StoredText(NamedTuple):
    """Where the states of a text lie: the first of its rows in a shard, and the places of the tokens that have one."""

    shard: str
    start: int
    positions: list[int]


@dataclass(frozen=True)
class StatesIdentity:
    """What stored states were computed with; states of anything else must not be trained on.

    Args:
        receiver: `c2c.models.loading.model_state` of the Receiver.
        sharer: The same of the Sharer.
        dtype: Precision of both models, and of the states.
    """

    receiver: Sequence[str]
    sharer: Sequence[str]
    dtype: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"receiver": list(self.receiver), "sharer": list(self.sharer), "dtype": self.dtype}


def text_key(ids: Sequence[int]) -> str:
    """By which a text is found: 128 bits of the SHA-256 of its token ids."""
    return hashlib.sha256(np.asarray(ids, dtype=np.int64).tobytes()).hexdigest()[:32]


def receiver_ids(prompt: AlignedPrompt) -> list[int]:
    """The tokens of a prompt before its last section."""
    return prompt.receiver_ids[: sections_of(prompt)[-1].start]


def fused_positions(prompt: AlignedPrompt) -> list[int]:
    """The places of the Sharer's tokens that a prompt is fused with, each once, in their order."""
    return sorted({place for place in prompt.token_map if place >= 0})


def check_sections(example: Example) -> None:
    """Refuse an example whose states depend on the Fusers: what is read behind a fused section does.

    Raises:
        RefusedError: If more than one section of its prompt is fused.
    """
    message_count = sum(section.kind == "message" for section in sections_of(example.prompt))
    if message_count > 1:
        rule = "Examples whose states are stored must have one fused section, a prompt or a single message"
        raise RefusedError(rule, f"{message_count} in {example.id!r}", f"Leave such conversations out. {RUN_LIVE}")


def write_index(folder: Path, texts: Mapping[Role, Mapping[str, StoredText]], about: Mapping[str, Any]) -> None:
    """Write the index of a folder whose shards are complete."""
    rows = [
        {"role": role, "key": key, **text._asdict()} for role, of_role in texts.items() for key, text in of_role.items()
    ]
    shards = sorted({row["shard"] for row in rows})
    content = {"version": VERSION, **about, "shards": {shard: file_hash(folder / shard) for shard in shards}}
    table = pa.Table.from_pylist(rows, SCHEMA).replace_schema_metadata({KEY: json.dumps(content)})
    with written_whole(folder / INDEX) as unfinished:
        pq.write_table(table, unfinished, compression="zstd")


def read_costs(folder: Path) -> dict[str, dict[str, float]]:
    """Seconds and GPUs of each shard, by its name; empty where nothing was stored."""
    path = folder / COSTS
    costs: dict[str, dict[str, float]] = read_object(path, READ_AGAIN) if path.is_file() else {}
    return costs


def add_cost(folder: Path, shard: str, seconds: float, gpus: int) -> None:
    """Note what a shard took to compute, in place of what is noted of an earlier one of its name."""
    costs = {**read_costs(folder), shard: {"seconds": seconds, "gpus": gpus}}
    write_atomically(folder / COSTS, json.dumps(costs, indent=1))


class StoredStates:
    """The states of a folder that ``c2c store-states`` wrote, put into the batches of a training.

    Args:
        folder: With the index and the shards.

    Attributes:
        about: What the states were computed with and for, the Sharer's lines in a contract included.

    Raises:
        RefusedError: If the folder is not one of this version, or a file of it is missing or has changed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            table = pq.read_table(folder / INDEX)
        except (pa.ArrowException, OSError) as error:
            raise self._refusal(str(error)) from error
        metadata = (table.schema.metadata or {}).get(KEY.encode(), b"{}").decode("utf-8", "replace")
        self.about: dict[str, Any] = parse_json(metadata, f"What {folder / INDEX} says of itself", READ_AGAIN)
        if not isinstance(self.about, dict) or self.about.get("version") != VERSION:
            raise self._refusal("an index of another version")
        # Mapped at once, which reads nothing: a shard stays what it was when another call replaces its file.
        self._shards: dict[str, Tensor] = {}
        for name, sha256 in self.about["shards"].items():
            if not (folder / name).is_file() or file_hash(folder / name) != sha256:
                raise self._refusal(f"{name} is missing or has changed")
            self._shards[name] = self._map_shard(name)
        # What these shards took, not those of another call that replaces the folder later.
        self.sha256 = file_hash(folder / INDEX)
        costs = read_costs(folder)
        if gaps := sorted(self._shards.keys() - costs.keys()):
            raise self._refusal(f"{COSTS} lacks {gaps}")
        self._costs = [costs[name] for name in self._shards]
        self._texts = {
            (row["role"], row["key"]): StoredText(row["shard"], row["start"], row["positions"])
            for row in table.to_pylist()
        }
        self.receiver, self.sharer = (CacheShape(*self.about["shapes"][role]) for role in ("receiver", "sharer"))

    def check(self, identity: StatesIdentity, examples: Iterable[Example], sharer_layers: Collection[int]) -> None:
        """Refuse states of other models or layers, and a training set of which some are missing.

        Args:
            identity: Of the training.
            examples: All that the training reads.
            sharer_layers: Layers of the Sharer that its Fusers read; none where its cache is zeroed.

        Raises:
            RefusedError: With the first thing that differs, or is missing.
        """
        for name, value in identity.to_dict().items():
            if (received := self.about["identity"][name]) != value:
                rule = f"Stored states must be those of the models of this training: {name} {value}"
                raise RefusedError(rule, f"{received} in {self.folder}", READ_AGAIN)
        # States of the Receiver alone have no layer, and lack every example.
        layers = self.about["sharer_layers"]
        if layers and (gaps := sorted({*sharer_layers} - {*layers})):
            rule = "Stored states must have every layer of the Sharer that a Fuser reads"
            remedy = "Make the folder with c2c store-states of the same --layer-alignment"
            raise RefusedError(rule, f"layers {gaps} are not in {self.folder}", remedy)
        for example in examples:
            check_sections(example)
            prompt = example.prompt
            complete = self._find("receiver", receiver_ids(prompt)) is not None
            if sharer_layers:
                reading = self._find("sharer", prompt.sharer_ids)
                complete &= reading is not None and set(prompt.token_map) <= {-1, *reading.positions}
            if not complete:
                rule = "Stored states must hold every example that is trained or validated on"
                raise RefusedError(rule, f"{example.id!r} is not in {self.folder}", READ_AGAIN)

    def cost(self, progress: state.Progress) -> dict[str, Any]:
        """The hash of the index, by which other runs from these states are found, and what all shards took.

        No run has a share of its own: how many runs share the states is not known before all have ended.
        """
        return {
            "states": self.sha256,
            "seconds": sum(cost["seconds"] for cost in self._costs),
            "gpus": max((int(cost["gpus"]) for cost in self._costs), default=0),
        }

    def fill(self, batch: Batch, examples: Sequence[Example], device: torch.device) -> Batch:
        """The batch with the states of its examples in place of what the frozen models would compute.

        Args:
            batch: As `c2c.training.batches.collate` makes it of `examples`.
            examples: B of them.
            device: Where the Receiver is.
        """
        # The Receiver's tokens before the last section, at their columns: B texts of n_b rows -> (B, n, T, 2, Ht, Dt)
        columns = batch.attention_mask.shape[1] - batch.response_columns
        slabs = [self._slab("receiver", receiver_ids(example.prompt)) for example in examples]
        prefix = _scatter(slabs, batch.attention_mask[:, :columns] > 0).to(device, non_blocking=True)
        sharer_input = batch.sharer_input
        if not sharer_input.zeroed:
            sharer_input = self._fill_sharer(sharer_input, examples, device)
        return replace(batch, prefix=_layers(prefix), sharer_input=sharer_input)

    def _fill_sharer(self, sharer_input: SharerInput, examples: Sequence[Example], device: torch.device) -> SharerInput:
        texts = [self._find("sharer", example.prompt.sharer_ids) for example in examples]
        slabs = [self._slab("sharer", example.prompt.sharer_ids) for example in examples]
        # Stored tokens at the right of M columns: (B, M)
        lengths = torch.tensor([[len(slab)] for slab in slabs])
        width = max(int(lengths.max()), 1)
        from_end = width - torch.arange(width)
        states = _scatter(slabs, from_end <= lengths).to(device, non_blocking=True)
        # A row of which nothing is fused has one token all the same, since no Sharer reads none.
        mask = (from_end <= lengths.clamp(min=1)).long()
        # The map into the Sharer's tokens becomes one into those that are stored: (B, n)
        token_map = torch.full_like(sharer_input.token_map, -1)
        text_lengths = sharer_input.attention_mask.sum(-1).tolist()
        for row, text in enumerate(texts):
            assert text is not None, "check refuses examples without states"
            columns = sharer_input.token_map[row]
            places = columns[columns >= 0] - (sharer_input.input_ids.shape[1] - text_lengths[row])
            indices = torch.searchsorted(torch.tensor(text.positions), places)
            token_map[row, columns >= 0] = indices + width - len(text.positions)
        # Sharer layers that no Fuser reads are not stored; zeros keep their places.
        layers, numbers = _layers(states), {layer: at for at, layer in enumerate(self.about["sharer_layers"])}
        empty = states.new_zeros(()).expand(len(examples), self.sharer.heads, width, self.sharer.head_dim)
        every_layer = [
            layers[numbers[layer]] if layer in numbers else (empty, empty) for layer in range(self.sharer.layers)
        ]
        return replace(
            sharer_input, input_ids=torch.zeros_like(mask), attention_mask=mask, token_map=token_map, layers=every_layer
        )

    def _find(self, role: Role, ids: Sequence[int]) -> StoredText | None:
        return self._texts.get((role, text_key(ids)))

    def _slab(self, role: Role, ids: Sequence[int]) -> Tensor:
        """A text's states, ``(tokens, layers, 2, H, D)``, a view of the mapped file."""
        text = self._find(role, ids)
        assert text is not None, "check refuses examples without states"
        return self._shards[text.shard][text.start : text.start + len(text.positions)]

    def _map_shard(self, name: str) -> Tensor:
        try:
            with safe_open(self.folder / name, framework="pt") as shard:
                states: Tensor = shard.get_tensor(STATES)
        except (SafetensorError, OSError) as error:
            raise self._refusal(f"{name}: {error}") from error
        return states

    def _refusal(self, received: str) -> RefusedError:
        rule = f"Stored states must be a folder as c2c store-states wrote it, version {VERSION}"
        return RefusedError(rule, f"{self.folder}: {received}", READ_AGAIN)


def _scatter(slabs: Sequence[Tensor], places: Tensor) -> Tensor:
    """Rows of B texts at the places of a mask ``(B, n)``, zeros elsewhere: ``(B, n, layers, 2, H, D)``."""
    states = slabs[0].new_zeros((*places.shape, *slabs[0].shape[1:]))
    # Places in the order of rows and columns, as the texts and their tokens are
    for row, slab in enumerate(slabs):
        states[row, places[row]] = slab
    return states


def _layers(states: Tensor) -> list[KeyValue]:
    # (B, n, layers, 2, H, D) -> for each layer keys and values (B, H, n, D), views
    by_layer = states.permute(2, 3, 0, 4, 1, 5)
    return [(layer[0], layer[1]) for layer in by_layer]
