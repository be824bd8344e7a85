"""The Sharer's caches of questions, kept within one process: `c2c` and `c2c_deranged` need the same ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from c2c.alignment.tokens import left_pad
from c2c.cache import kv_cache
from c2c.cache.rows import rotations_change
from c2c.evaluation.answers.batches import batches_of
from c2c.models.loading import LoadedModel
from c2c.types import KeyValue

BYTES = 2**30
SHARED_TOKENS = 8
"""A shorter common start of the texts of a batch is not worth a run."""

Key = tuple[str, int]


class SharerMemory:
    """The Sharer's caches of questions, each read once as long as they fit.

    Batches are planned for a whole benchmark, whichever question comes first: a cache has the same bits whether or not
    the run was interrupted before, and whichever caches are kept.

    Args:
        sharer: Makes the caches.
        limit: Bytes that are kept, without the current batch; the least recently used cache is dropped first.
    """

    def __init__(self, sharer: LoadedModel, limit: int = BYTES) -> None:
        self.sharer, self.limit = sharer, limit
        self._ids: dict[Key, Sequence[int]] = {}
        self._batch: dict[Key, tuple[Key, ...]] = {}
        self._caches: OrderedDict[Key, list[KeyValue]] = OrderedDict()

    def plan(self, sharer_ids: Mapping[Key, Sequence[int]], token_budget: int) -> None:
        """Plan the batches of a benchmark.

        Args:
            sharer_ids: The Sharer's token ids of every question.
            token_budget: Tokens of a batch, pads included.
        """
        new = {key: ids for key, ids in sharer_ids.items() if self._ids.get(key) != ids}
        for key in new:
            self._caches.pop(key, None)
        self._ids.update(new)
        for batch in batches_of(list(new), [max(len(ids), 1) for ids in new.values()], token_budget):
            self._batch.update(dict.fromkeys(batch, tuple(batch)))

    def layers(self, keys: Sequence[Key], width: int) -> list[KeyValue]:
        """Caches of questions that were planned, left-padded: S layers ``(B, Hs, width, Ds)``.

        Args:
            keys: One a row; rows may have the same one.
            width: M, at least the tokens of the longest.
        """
        # 1. Caches that are missing, each with the whole batch that it was planned in
        new: dict[Key, list[KeyValue]] = {}
        for key in keys:
            if key not in new and key not in self._caches:
                new |= self._prefill(self._batch[key])
        caches = {key: new[key] if key in new else self._caches[key] for key in dict.fromkeys(keys)}
        # 2. The caches of this call are the last to be dropped
        for key, cache in (new | caches).items():
            self._caches[key] = cache
            self._caches.move_to_end(key)
        while self._caches and self._size() > self.limit:
            self._caches.popitem(last=False)
        # 3. S layers of keys and values: B rows (Hs, m, Ds) -> (B, Hs, width, Ds)
        rows_by_layer = zip(*(caches[key] for key in keys), strict=True)
        return [
            (_left_pad_rows([keys for keys, _ in rows], width), _left_pad_rows([values for _, values in rows], width))
            for rows in rows_by_layer
        ]

    def _size(self) -> int:
        # Bytes of a token: keys and values of all layers, from the first cache, (Hs, m, Ds) a layer
        cache = next(iter(self._caches.values()))
        keys = cache[0][0]
        per_token = 2 * keys.shape[0] * keys.shape[2] * keys.element_size() * len(cache)
        return per_token * sum(layers[0][0].shape[1] for layers in self._caches.values())

    @torch.no_grad()
    def _prefill(self, batch: Sequence[Key]) -> dict[Key, list[KeyValue]]:
        """Prefill one batch; the tokens that all texts begin with, such as a template's words, run once."""
        model, texts = self.sharer.model, [self._ids[key] or [self.sharer.pad] for key in batch]
        # Rotations that depend on the length of a text forbid to read its start alone.
        whole = len(batch) == 1 or rotations_change(model.config, max(len(text) for text in texts))
        # 1. The common start, as one row whose cache is repeated
        shared = 0 if whole else common_start(texts)
        ids, mask = left_pad([text[shared:] for text in texts], self.sharer.pad)
        cache = None
        if shared:
            start = torch.tensor([texts[0][:shared]])
            mask = torch.cat([torch.ones((len(batch), shared), dtype=mask.dtype), mask], dim=1)
            start_mask = torch.ones_like(start).to(model.device)
            cache = kv_cache.prefill(model, start.to(model.device), start_mask, kv_cache.positions_of(start_mask))
            rows = torch.zeros(len(batch), dtype=torch.long, device=model.device)
            cache = kv_cache.repeat_rows(cache, rows, model.config)
        # 2. What follows it in each text, left-padded behind the start: mask (B, shared + M)
        ids, mask = ids.to(model.device), mask.to(model.device)
        positions = kv_cache.positions_of(mask)[:, shared:]
        layers = kv_cache.layers_of(kv_cache.prefill(model, ids, mask, positions, cache))
        # 3. Each row without its pads: (B, Hs, shared + M, Ds) -> (Hs, m, Ds)
        return {
            key: [(keys[row][:, mask[row] > 0], values[row][:, mask[row] > 0]) for keys, values in layers]
            for row, key in enumerate(batch)
        }


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
