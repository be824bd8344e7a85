"""What the Sharer has read, kept within one process: `c2c` and `c2c_deranged` need the same readings."""

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
"""Fewer tokens at the start of all texts of a batch are read with each of them."""

Key = tuple[str, int]


class SharerMemory:
    """The Sharer's caches of questions, each read once as long as they fit.

    Questions are read in batches that are planned for a whole benchmark, whichever of them is asked for first: so a
    reading has the same bits whether the run was interrupted before or not, and whatever is remembered.

    Args:
        sharer: Reads.
        limit: Bytes that are kept, the batch at work not counted; what was used longest ago goes first.
    """

    def __init__(self, sharer: LoadedModel, limit: int = BYTES) -> None:
        self.sharer, self.limit = sharer, limit
        self._ids: dict[Key, Sequence[int]] = {}
        self._batch: dict[Key, tuple[Key, ...]] = {}
        self._kept: OrderedDict[Key, list[KeyValue]] = OrderedDict()

    def plan(self, sharer_ids: Mapping[Key, Sequence[int]], token_budget: int) -> None:
        """Say what the Sharer reads of each question of a benchmark, all of them at once.

        Args:
            sharer_ids: The Sharer's token ids.
            token_budget: Tokens of a batch, pads included.
        """
        new = {key: ids for key, ids in sharer_ids.items() if self._ids.get(key) != ids}
        for key in new:
            self._kept.pop(key, None)
        self._ids.update(new)
        for batch in batches_of(list(new), [max(len(ids), 1) for ids in new.values()], token_budget):
            self._batch.update(dict.fromkeys(batch, tuple(batch)))

    def layers(self, keys: Sequence[Key], width: int) -> list[KeyValue]:
        """Caches of questions that were planned, left-padded: S layers ``(B, Hs, width, Ds)``.

        Args:
            keys: One a row; one may stand in several.
            width: M, at least the tokens of the longest.
        """
        found: dict[Key, list[KeyValue]] = {}
        for key in keys:
            if key not in found and key not in self._kept:
                found |= self._read(self._batch[key])
        here = {key: found[key] if key in found else self._kept[key] for key in dict.fromkeys(keys)}
        for key, each in (found | here).items():
            self._kept[key] = each
            self._kept.move_to_end(key)
        while self._kept and self._size() > self.limit:
            self._kept.popitem(last=False)
        count = len(here[keys[0]])
        return [tuple(_padded([here[key][n][half] for key in keys], width) for half in (0, 1)) for n in range(count)]  # type: ignore[misc]

    def _size(self) -> int:
        one = next(iter(self._kept.values()))[0][0]
        per_token = one.shape[0] * one.shape[2] * one.element_size() * 2 * len(next(iter(self._kept.values())))
        return per_token * sum(each[0][0].shape[1] for each in self._kept.values())

    @torch.no_grad()
    def _read(self, batch: Sequence[Key]) -> dict[Key, list[KeyValue]]:
        """Read one batch; what all its texts begin with, such as a template's words, is read once."""
        model, texts = self.sharer.model, [self._ids[key] or [self.sharer.pad] for key in batch]
        whole = len(batch) == 1 or rotations_change(model.config, max(len(text) for text in texts))
        shared = 0 if whole else common_start(texts)
        ids, mask = left_pad([text[shared:] for text in texts], self.sharer.pad)
        cache = None
        if shared:
            start = torch.tensor([texts[0][:shared]])
            mask = torch.cat([torch.ones((len(batch), shared), dtype=mask.dtype), mask], dim=1)
            seen = torch.ones_like(start).to(model.device)
            cache = kv_cache.prefill(model, start.to(model.device), seen, kv_cache.positions_of(seen))
            rows = torch.zeros(len(batch), dtype=torch.long, device=model.device)
            cache = kv_cache.repeat_rows(cache, rows, model.config)
        ids, mask = ids.to(model.device), mask.to(model.device)
        positions = kv_cache.positions_of(mask)[:, shared:]
        layers = kv_cache.layers_of(kv_cache.prefill(model, ids, mask, positions, cache))
        return {
            key: [(keys[row][:, mask[row] > 0], values[row][:, mask[row] > 0]) for keys, values in layers]
            for row, key in enumerate(batch)
        }


def common_start(texts: Sequence[Sequence[int]]) -> int:
    """How many tokens all texts begin with, if that is worth a run of its own: each text keeps one token, else 0."""
    most = min(len(text) for text in texts) - 1
    same = next((at for at in range(most) if len({text[at] for text in texts}) > 1), most)
    return same if same >= SHARED_TOKENS else 0


def _padded(rows: Sequence[Tensor], width: int) -> Tensor:
    """``(B, H, width, D)`` of rows ``(H, m, D)``, zeros at the left."""
    states = rows[0].new_zeros((len(rows), rows[0].shape[0], width, rows[0].shape[2]))
    for row, each in enumerate(rows):
        states[row, :, width - each.shape[1] :] = each
    return states
