"""Caches of prompts, kept within one process: the controls of a question need the same ones of both models."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import Cache

from c2c.alignment.tokens import left_pad
from c2c.cache import kv_cache
from c2c.cache.rows import rotations_change
from c2c.errors import RefusedError
from c2c.evaluation.answers.batches import in_parts
from c2c.models.loading import LoadedModel
from c2c.types import KeyValue

BYTES = 2**30
"""Of the caches that are kept in a computer's memory."""
DEVICE_SHARE = 1 / 10
"""Of an accelerator's memory, where that is more than `BYTES`: its batches are larger, too."""
SHARED_TOKENS = 8
"""A shorter common start of texts is not worth a run."""

Text = tuple[int, ...]
"""Token ids."""


class _Batch(NamedTuple):
    """Texts that are read together, and how many tokens all texts of their plan begin with."""

    texts: tuple[Text, ...]
    start: int


class PromptMemory:
    """One model's caches of texts, each read once as long as they fit.

    Batches are planned for a whole benchmark, whichever question comes first: a cache has the same bits whether or not
    the run was interrupted before, and whichever caches are kept.

    Args:
        loaded: Makes the caches.
        limit: Bytes that are kept, without the current batch; the least recently used cache is dropped first. None for
            `BYTES`, or for `DEVICE_SHARE` of a CUDA device.
        starts_alone: Whether `prefix` serves only prompts with a start that all prompts of their benchmark have; others
            are read by nobody else.
    """

    def __init__(self, loaded: LoadedModel, limit: int | None = None, *, starts_alone: bool = False) -> None:
        self.loaded, self.starts_alone = loaded, starts_alone
        self.limit = default_limit(loaded.model.device) if limit is None else limit
        self._batches: dict[Text, _Batch] = {}
        self._caches: OrderedDict[Text, list[KeyValue]] = OrderedDict()
        # The start of the last plan that was read, with its cache of one row
        self._start: tuple[Text, list[KeyValue]] = ((), [])
        self._bytes = 0

    def plan(self, batches: Iterable[Sequence[Sequence[int]]]) -> None:
        """Plan in which batches the texts of a benchmark are read; texts that were planned before stay where they are.

        Args:
            batches: Token ids of each text.
        """
        new: dict[Text, list[Text]] = {}
        for batch in batches:
            texts = [text for text in dict.fromkeys(map(tuple, batch)) if text not in self._batches and text not in new]
            new |= dict.fromkeys(texts, texts)
        start = common_start(list(new)) if len(new) > 1 else 0
        self._batches |= {text: _Batch(tuple(texts), start) for text, texts in new.items()}

    def layers(self, texts: Sequence[Sequence[int]], width: int) -> list[KeyValue]:
        """Caches of planned texts, left-padded with zeros: a layer ``(B, H, width, D)`` of keys and one of values each.

        Args:
            texts: Token ids, one a row; rows may have the same ones.
            width: At least the tokens of the longest.
        """
        rows = [tuple(text) for text in texts]
        # 1. Caches that are missing, each with the whole batch that it was planned in
        new: dict[Text, list[KeyValue]] = {}
        for text in rows:
            if text not in new and text not in self._caches:
                batch = self._batches[text]
                new |= dict(in_parts(partial(self._prefill, start=batch.start), batch.texts))
        caches = {text: new[text] if text in new else self._caches[text] for text in dict.fromkeys(rows)}
        # 2. The caches of this call are the last to be dropped
        for text, cache in (new | caches).items():
            if text not in self._caches:
                self._bytes += _size(cache)
            self._caches[text] = cache
            self._caches.move_to_end(text)
        while self._caches and self._bytes > self.limit:
            self._bytes -= _size(self._caches.popitem(last=False)[1])
        # 3. Each layer: B rows (H, m, D) -> (B, H, width, D); of caches that are not kept, the layer is let go
        new.clear()
        dropped = [cache for text, cache in caches.items() if text not in self._caches]
        nothing = (torch.empty(0), torch.empty(0))
        layers: list[KeyValue] = []
        for number in range(len(caches[rows[0]])):
            layer = [caches[text][number] for text in rows]
            keys, values = ([states[part] for states in layer] for part in (0, 1))
            layers.append((_left_pad_rows(keys, width), _left_pad_rows(values, width)))
            for cache in dropped:
                cache[number] = nothing
        return layers

    def prefix(self, input_ids: Tensor, attention_mask: Tensor) -> list[KeyValue] | None:
        """The layers of all tokens but the last of left-padded prompts ``(B, N)``; None if one is not served."""
        rows, lengths = input_ids.tolist(), attention_mask.sum(-1).tolist()
        # Without the pads and the last token
        texts = [tuple(row[len(row) - length : -1]) for row, length in zip(rows, lengths, strict=True)]
        if not self._batches.keys() >= set(texts) or input_ids.shape[1] < 2:
            return None
        if self.starts_alone and not all(self._batches[text].start for text in texts):
            return None
        # With its last token such a prompt is read with other rotations than without
        config = self.loaded.model.config
        if any(rotations_change(config, length) != rotations_change(config, length - 1) for length in lengths):
            return None
        return self.layers(texts, input_ids.shape[1] - 1)

    def _prefill(self, batch: Sequence[Text], start: int) -> list[tuple[Text, list[KeyValue]]]:
        try:
            return self._read(batch, start)
        except RefusedError:
            # A model that counts columns must not have pads behind a common start
            return self._read(batch, start, shares=False)

    @torch.no_grad()
    def _read(self, batch: Sequence[Text], start: int, shares: bool = True) -> list[tuple[Text, list[KeyValue]]]:
        """Prefill one batch; the tokens that all its texts begin with, such as a template's words, run once."""
        model, texts = self.loaded.model, [text or (self.loaded.pad,) for text in batch]
        # Rotations that depend on the length of a text forbid to read its start alone.
        whole = not shares or rotations_change(model.config, max(len(text) for text in texts))
        # 1. The common start, as one row whose cache is repeated
        shared = 0 if whole else start
        if len(texts) > 1 and not whole:
            shared += common_start([text[shared:] for text in texts])
        cache: Cache | None = None
        if shared:
            cache = kv_cache.cache_of_layers(self._start_layers(texts[0][:start]), model.config)
            if shared > start:
                cache = self._extend(texts[0][start:shared], cache, start)
            rows = torch.zeros(len(texts), dtype=torch.long, device=model.device)
            cache = kv_cache.repeat_rows(cache, rows, model.config)
        # 2. What follows it in each text, left-padded behind the start: mask (B, shared + M)
        ids, mask = left_pad([text[shared:] for text in texts], self.loaded.pad)
        mask = torch.cat([torch.ones((len(texts), shared), dtype=mask.dtype), mask], dim=1)
        ids, mask = ids.to(model.device), mask.to(model.device)
        positions = kv_cache.positions_of(mask)[:, shared:]
        layers = kv_cache.layers_of(kv_cache.prefill(model, ids, mask, positions, cache))
        # 3. Each row without its pads, as a copy that does not keep the batch: (B, H, shared + M, D) -> (H, m, D)
        columns = [
            torch.tensor([*range(shared), *range(mask.shape[1] - len(text) + shared, mask.shape[1])], device=ids.device)
            for text in texts
        ]
        caches: dict[Text, list[KeyValue]] = {text: [] for text in batch}
        while layers:
            keys, values = layers.pop(0)
            for row, its_layers in enumerate(caches.values()):
                its_layers.append((keys[row].index_select(1, columns[row]), values[row].index_select(1, columns[row])))
        return list(caches.items())

    def _start_layers(self, start: Text) -> list[KeyValue]:
        """The cache of the tokens that all texts of a plan begin with; read once a plan."""
        if not start:
            return []
        if self._start[0] != start:
            config = self.loaded.model.config
            self._start = start, kv_cache.layers_of(self._extend(start, kv_cache.empty_cache(config), 0))
        return self._start[1]

    def _extend(self, tokens: Text, cache: Cache, past: int) -> Cache:
        """Read one row of tokens after the `past` tokens of a cache."""
        model = self.loaded.model
        mask = torch.ones((1, past + len(tokens)), dtype=torch.long, device=model.device)
        ids = torch.tensor([tokens], device=model.device)
        return kv_cache.prefill(model, ids, mask, kv_cache.positions_of(mask)[:, past:], cache)


def default_limit(device: torch.device) -> int:
    """Bytes of the caches that are kept on a device."""
    if device.type != "cuda":
        return BYTES
    return max(BYTES, int(torch.cuda.get_device_properties(device).total_memory * DEVICE_SHARE))


def _size(layers: Sequence[KeyValue]) -> int:
    """Bytes of a cache."""
    return sum(states.numel() * states.element_size() for layer in layers for states in layer)


def common_start(texts: Sequence[Sequence[int]]) -> int:
    """Number of tokens that all texts begin with, at least one short of the shortest; 0 if too few for a run."""
    most = min(len(text) for text in texts) - 1
    count = next((at for at in range(most) if len({text[at] for text in texts}) > 1), most)
    return count if count >= SHARED_TOKENS else 0


def _left_pad_rows(rows: Sequence[Tensor], width: int) -> Tensor:
    """``(B, H, width, D)`` of rows ``(H, m, D)``, zeros at the left."""
    states = rows[0].new_zeros((len(rows), rows[0].shape[0], width, rows[0].shape[2]))
    for row, tensor in enumerate(rows):
        states[row, :, width - tensor.shape[1] :] = tensor
    return states
