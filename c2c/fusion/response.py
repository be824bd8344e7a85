"""Fuse the response too, token by token, for any Receiver (`include_response`; reference spec §2.5).

The new tokens are read three times: by the Receiver on its own un-fused cache, by each Sharer on its own cache, and,
after the Fusers have made keys and values of the two, by the Receiver on the fused cache, which answers. In that last
run every layer attends to the fused keys and values of the new tokens. No attention is patched for it: a model hands
its new keys and values to its cache and attends to what the cache returns, and ours returns the fused ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from c2c.cache import kv_cache, rope
from c2c.fusion.fuse import Aligned
from c2c.fusion.prefill import FusedPrefill, ReadPrompt
from c2c.types import KeyValue


class SharerReader:
    """One Sharer that reads a response as it grows.

    Args:
        prefill: The models.
        sharer: Its number, from 0.
        prompt: What the models hold of the prompt; `FusedPrefill.read_prompt` has checked that this Sharer can go on.
    """

    def __init__(self, prefill: FusedPrefill, sharer: int, prompt: ReadPrompt) -> None:
        self.given, self.shape = prompt.inputs[sharer], prefill.stack(sharer).sharer
        self.own_tokens = prompt.own_tokens
        if self.given.zeroed:
            return
        self.model = prefill.running(sharer)
        read = [
            (keys.to(self.model.device, self.model.dtype), values.to(self.model.device, self.model.dtype))
            for keys, values in prompt.readings[sharer]
        ]
        self.cache = kv_cache.cache_of(read, self.model.config)
        self.mask = self.given.attention_mask.to(self.model.device)

    def of_rows(self, rows: Tensor) -> SharerReader:
        """The same reader for rows ``(B',)`` of its batch; what one reads from here on, the other does not."""
        other = copy(self)
        if not self.given.zeroed:
            other.cache = kv_cache.repeat_rows(self.cache, rows.to(self.mask.device), self.model.config)
            other.mask = self.mask[rows.to(self.mask.device)]
        return other

    @torch.no_grad()
    def read(self, input_ids: Tensor, mask: Tensor, position_ids: Tensor) -> list[KeyValue]:
        """Read new tokens.

        Args:
            input_ids: ``(B, n)`` int64, the Receiver's ids.
            mask: ``(B, n)``, 1 for tokens.
            position_ids: ``(B, n)`` int64, the Receiver's; a Sharer with tokens of its own counts those instead.

        Returns:
            S layers of keys and values ``(B, Hs, n, Ds)`` of the new tokens alone.
        """
        batch, tokens = input_ids.shape
        if self.given.zeroed:
            like = torch.zeros((), device=input_ids.device)
            return kv_cache.zeros(self.shape, batch, tokens, like)
        ids = input_ids if self.given.reencode is None else self.given.reencode(input_ids)
        before, self.mask = self.mask, torch.cat([self.mask, mask.to(self.mask)], dim=1)
        rope.check_growth("the Sharer", self.model.config, before.sum(-1), self.mask.sum(-1))
        positions = position_ids if self.own_tokens else kv_cache.positions_of(self.mask)[:, -tokens:]
        here = self.model.device
        kv_cache.prefill(self.model, ids.to(here), self.mask, positions.to(here), self.cache)
        return kv_cache.last_tokens(kv_cache.layers_of(self.cache), tokens)


class ResponseFusion:
    """Lays down the fused keys and values of each new token before the Receiver reads it.

    Args:
        prefill: The models and their Fusers.
        prompt: What they hold of the prompt, with the Receiver's un-fused cache.
        sharers: Numbers of the Sharers that are fused into the response.
    """

    def __init__(self, prefill: FusedPrefill, prompt: ReadPrompt, sharers: Sequence[int]) -> None:
        assert prompt.cache is not None, "read_sections refuses a response without a prefix"
        self.models = prefill
        self.readers = {sharer: SharerReader(prefill, sharer, prompt) for sharer in sharers}
        config = prefill.receiver.config
        self.unfused = kv_cache.cache_of(prompt.unfused, config)
        self.cache = kv_cache.preset_cache(kv_cache.layers_of(prompt.cache), config)

    def lay_down(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor) -> None:
        """Prepare `cache` for the Receiver's run over new tokens.

        Args:
            input_ids: ``(B, n)`` int64, the new tokens.
            attention_mask: ``(B, past + n)``.
            position_ids: ``(B, n)`` int64.
        """
        tokens = input_ids.shape[1]
        kv_cache.prefill(self.models.receiver, input_ids, attention_mask, position_ids, self.unfused)
        own = kv_cache.last_tokens(kv_cache.layers_of(self.unfused), tokens)
        aligned = {
            sharer: Aligned(reader.read(input_ids, attention_mask[:, -tokens:], position_ids), None)
            for sharer, reader in self.readers.items()
        }
        fused = self.models.fuse_tokens(own, aligned)
        kv_cache.lay_down(self.cache, [new if new is not old else None for new, old in zip(fused, own, strict=True)])

    def of_rows(self, rows: Tensor) -> ResponseFusion:
        """The same state for rows ``(B',)`` of its batch, such as one for each option of a question."""
        other, config = copy(self), self.models.receiver.config
        other.readers = {sharer: reader.of_rows(rows) for sharer, reader in self.readers.items()}
        other.unfused = kv_cache.repeat_rows(self.unfused, rows, config)
        layers = [(keys[rows], values[rows]) for keys, values in kv_cache.layers_of(self.cache)]
        other.cache = kv_cache.preset_cache(layers, config)
        return other

    @contextmanager
    def in_generation(self) -> Iterator[Cache]:
        """Inside, each of the Receiver's own forward calls on the yielded cache is prepared by `lay_down`."""

        def before(module: Any, arguments: Any, named: dict[str, Any]) -> None:
            ids, mask = named["input_ids"], named.get("attention_mask")
            if mask is None:  # transformers leaves out a mask of ones
                mask = ids.new_ones((ids.shape[0], self.cache.get_seq_length() + ids.shape[1]))
            positions = named.get("position_ids")
            if positions is None:
                positions = kv_cache.positions_of(mask)[:, -ids.shape[1] :]
            self.lay_down(ids, mask, positions)

        handle = self.models.receiver.register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield self.cache
        finally:
            handle.remove()
