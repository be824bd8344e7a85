"""Fuse the response too, token by token, for any Receiver (`include_response`).

New tokens are run three times (``docs/reference-behaviour.md``, "Fused response"): by the Receiver on its own un-fused
cache, by each Sharer on its own cache, and, after the Fusers have made keys and values of the two, by the Receiver on
the fused cache, which answers. In that last run every layer attends to the fused keys and values of the new tokens. No
attention is patched for it: a model hands its new keys and values to its cache and attends to what the cache returns,
and ours returns the fused ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from c2c.alignment.tokens import SharerInput
from c2c.cache import kv_cache
from c2c.cache.rows import check_rotations
from c2c.fusion.fuse import Aligned
from c2c.types import CacheShape, KeyValue


class SharerReader:
    """One Sharer that reads a response as it grows.

    Args:
        model: The Sharer; None for a zeroed input, whose cache is zeros.
        shape: Cache sizes of the Sharer.
        sharer_input: Its input of the prompt.
        layers: Its cache of the prompt: S layers ``(B, Hs, M, Ds)``.
        own_tokens: The Sharer reads the Receiver's tokens, at its positions.
    """

    def __init__(
        self,
        model: PreTrainedModel | None,
        shape: CacheShape,
        sharer_input: SharerInput,
        layers: list[KeyValue],
        *,
        own_tokens: bool,
    ) -> None:
        self.model, self.shape, self.own_tokens, self.reencode = model, shape, own_tokens, sharer_input.reencode
        if model is not None:
            # A copy in the precision and on the device of the model, since the cache grows with the response.
            prompt = [
                (keys.to(model.device, model.dtype), values.to(model.device, model.dtype)) for keys, values in layers
            ]
            self.cache = kv_cache.cache_of_layers(prompt, model.config)
            self.mask = sharer_input.attention_mask.to(model.device)

    def of_rows(self, rows: Tensor) -> SharerReader:
        """The same reader for rows ``(B',)`` of its batch; the two share no state from here on."""
        selection = copy(self)
        if self.model is not None:
            # A shallow copy shares the tensors; indexing makes new ones, so that neither grows the other.
            rows = rows.to(self.mask.device)
            selection.cache = kv_cache.repeat_rows(self.cache, rows, self.model.config)
            selection.mask = self.mask[rows]
        return selection

    @torch.no_grad()
    def read_tokens(self, input_ids: Tensor, mask: Tensor, position_ids: Tensor) -> list[KeyValue]:
        """Read new tokens.

        Args:
            input_ids: ``(B, n)`` int64, the Receiver's ids.
            mask: ``(B, n)``, 1 for tokens.
            position_ids: ``(B, n)`` int64, the Receiver's; a Sharer with tokens of its own counts those instead.

        Returns:
            S layers of keys and values ``(B, Hs, n, Ds)`` of the new tokens alone.
        """
        batch, tokens = input_ids.shape
        if self.model is None:
            # Zeros of the recipe `adapter`; dtype and device follow the Receiver when they are fused.
            return kv_cache.zero_layers(self.shape, batch, tokens, torch.zeros((), device=input_ids.device))
        ids = input_ids if self.reencode is None else self.reencode(input_ids)
        # (B, M) and (B, n) -> (B, M + n)
        before, self.mask = self.mask, torch.cat([self.mask, mask.to(self.mask)], dim=1)
        check_rotations("the Sharer", self.model.config, before.sum(-1), self.mask.sum(-1))
        # A Sharer that reads the Receiver's tokens has its positions; any other continues its own count.
        positions = position_ids if self.own_tokens else kv_cache.positions_of(self.mask)[:, -tokens:]
        device = self.model.device
        kv_cache.prefill(self.model, ids.to(device), self.mask, positions.to(device), self.cache)
        return kv_cache.last_tokens(kv_cache.layers_of(self.cache), tokens)


class ResponseFusion:
    """Prepares the fused keys and values of each new token before the Receiver reads it.

    `c2c.rosetta.RosettaModel.fuse_response` builds it.

    Args:
        receiver: The Receiver.
        readers: The Sharers that are fused into the response, by their numbers.
        fuse: Makes fused layers of the Receiver's own layers and those of each Sharer, of the same n tokens.
        unfused: T layers ``(B, Ht, N, Dt)`` of the Receiver for the prompt, without any fusion.
        fused: The Receiver's fused cache of the prompt.
    """

    def __init__(
        self,
        receiver: PreTrainedModel,
        readers: Mapping[int, SharerReader],
        fuse: Callable[[list[KeyValue], Mapping[int, Aligned]], list[KeyValue]],
        unfused: list[KeyValue],
        fused: Cache,
    ) -> None:
        self.receiver, self.readers, self.fuse = receiver, dict(readers), fuse
        # Two caches of the Receiver grow side by side: what it reads alone, and what it answers from.
        self.unfused = kv_cache.cache_of_layers(unfused, receiver.config)
        self.cache = kv_cache.cache_with_presets(kv_cache.layers_of(fused), receiver.config)

    def prepare_tokens(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor) -> None:
        """Prepare `cache` for the Receiver's run over new tokens.

        Args:
            input_ids: ``(B, n)`` int64, the new tokens.
            attention_mask: ``(B, past + n)``.
            position_ids: ``(B, n)`` int64.
        """
        tokens = input_ids.shape[1]
        # Receiver and Sharers read the new tokens, each on its own cache
        kv_cache.prefill(self.receiver, input_ids, attention_mask, position_ids, self.unfused)
        unfused = kv_cache.last_tokens(kv_cache.layers_of(self.unfused), tokens)
        aligned = {
            sharer: Aligned(reader.read_tokens(input_ids, attention_mask[:, -tokens:], position_ids), None)
            for sharer, reader in self.readers.items()
        }
        # Layers that were fused are stored in place of what the attention computes
        fused = self.fuse(unfused, aligned)
        presets = [new if new is not old else None for new, old in zip(fused, unfused, strict=True)]
        kv_cache.set_presets(self.cache, presets)

    def of_rows(self, rows: Tensor) -> ResponseFusion:
        """The same state for rows ``(B',)`` of its batch, such as one for each option of a question."""
        selection, config = copy(self), self.receiver.config
        selection.readers = {sharer: reader.of_rows(rows) for sharer, reader in self.readers.items()}
        selection.unfused = kv_cache.repeat_rows(self.unfused, rows, config)
        layers = [(keys[rows], values[rows]) for keys, values in kv_cache.layers_of(self.cache)]
        selection.cache = kv_cache.cache_with_presets(layers, config)
        return selection

    @contextmanager
    def in_generation(self) -> Iterator[Cache]:
        """Inside, each of the Receiver's own forward calls on the yielded cache is prepared by `prepare_tokens`."""

        def before(module: Any, arguments: Any, keywords: dict[str, Any]) -> None:
            # `generate` hands over the columns that are not in the cache yet: the last section, then token by token.
            ids, mask = keywords["input_ids"], keywords.get("attention_mask")
            if mask is None:  # transformers leaves out a mask of ones
                mask = ids.new_ones((ids.shape[0], self.cache.get_seq_length() + ids.shape[1]))
            positions = keywords.get("position_ids")
            if positions is None:
                positions = kv_cache.positions_of(mask)[:, -ids.shape[1] :]
            self.prepare_tokens(ids, mask, positions)

        handle = self.receiver.register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield self.cache
        finally:
            handle.remove()
