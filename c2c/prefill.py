"""Read a prompt with several models and fuse their caches (paper §3.2; reference spec §2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from c2c import kv_cache
from c2c.alignment.tokens import SharerInput
from c2c.errors import RefusedError, check_choice
from c2c.fuser.stack import FuserStack
from c2c.sections import Section
from c2c.types import FUSIONS, CacheShape, KeyValue


class FusedPrefill(nn.Module):
    """The Receiver's cache of a prompt, fused with what the Sharers read.

    Args:
        model_list: The Receiver first, then the Sharers: causal models whose caches are keys and values.
        fusion: With several Sharers: ``sequential`` (each fuses what the one before left) or ``parallel`` (each reads
            the Receiver's own cache; their changes are added up).

    Raises:
        RefusedError: If there is no model, the fusion is unknown, or a model's cache is not keys and values.
    """

    def __init__(self, model_list: Sequence[PreTrainedModel], *, fusion: str = "sequential") -> None:
        super().__init__()
        if not model_list:
            raise RefusedError("A RosettaModel needs a Receiver", list(model_list), "Pass [receiver, sharer, ...]")
        self.fusion = check_choice("The fusion of several Sharers", fusion, FUSIONS)
        self.model_list = nn.ModuleList(model_list)
        receiver = CacheShape.of(model_list[0].config)
        stacks = [FuserStack(CacheShape.of(sharer.config), receiver) for sharer in model_list[1:]]
        self.stacks = nn.ModuleList(stacks)
        self.eval()

    @property
    def receiver(self) -> PreTrainedModel:
        """The model that answers."""
        return self.model_list[0]  # type: ignore[return-value]

    @property
    def sharers(self) -> list[PreTrainedModel]:
        """The models whose caches are fused."""
        return list(self.model_list[1:])  # type: ignore[arg-type]

    def _stack(self, sharer: int) -> FuserStack:
        stack = self.stacks[sharer]
        assert isinstance(stack, FuserStack)
        return stack

    def read_sharer(self, sharer: int, given: SharerInput) -> list[KeyValue]:
        """Run one Sharer over what it is given, without gradients.

        Args:
            sharer: Its number, from 0.
            given: What it reads; a zeroed input does not run the Sharer.

        Returns:
            S layers of keys and values ``(B, Hs, M, Ds)``.
        """
        model = self.sharers[sharer]
        if given.zeroed:
            like = next(model.parameters())
            batch, tokens = given.input_ids.shape
            return kv_cache.zeros(self._stack(sharer).sharer, batch, tokens, like)
        given = given.to(model.device)
        positions = kv_cache.positions_of(given.attention_mask)
        with torch.no_grad():
            return kv_cache.layers_of(kv_cache.prefill(model, given.input_ids, given.attention_mask, positions))

    def read_receiver(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, cache: Cache | None, section: Section
    ) -> Cache:
        """Let the Receiver read one section (arguments cover the whole prompt, ``(B, N)``), after `cache`."""
        columns = slice(section.start, section.end)
        return kv_cache.prefill(
            self.receiver,
            input_ids[:, columns],
            attention_mask[:, : section.end],
            position_ids[:, columns],
            cache,
        )

    def fuse(self, cache: Cache, section: Section, readings: dict[int, tuple[list[KeyValue], Tensor]]) -> Cache:
        """Replace the Receiver's keys and values of one section by the fused ones.

        Args:
            cache: The Receiver's cache up to the section's end; changed in place.
            section: Its columns and its Sharers.
            readings: For each selected Sharer its S layers ``(B, Hs, M, Ds)`` and its token map ``(B, >= end)``.

        Returns:
            `cache`.
        """
        before = kv_cache.layers_of(cache)
        own = [(keys[:, :, section.start :], values[:, :, section.start :]) for keys, values in before]
        fused = own
        for sharer in section.sharers:
            layers, token_map = readings[sharer]
            basis = fused if self.fusion == "sequential" else own
            changed = self._fuse_one(sharer, layers, token_map[:, section.start : section.end], basis)
            if self.fusion == "parallel" and fused is not own:
                changed = [
                    (f[0] + (c[0] - o[0]), f[1] + (c[1] - o[1])) for f, c, o in zip(fused, changed, own, strict=True)
                ]
            fused = changed
        for number, (earlier, new) in enumerate(zip(before, fused, strict=True)):
            if new is not own[number]:
                kept = (earlier[0][:, :, : section.start], earlier[1][:, :, : section.start])
                kv_cache.set_layer(cache, number, _join_tokens(kept, new) if section.start else new)
        return cache

    def _fuse_one(
        self, sharer: int, layers: list[KeyValue], token_map: Tensor, receiver: list[KeyValue]
    ) -> list[KeyValue]:
        taken = kv_cache.take_tokens(layers, token_map.clamp(min=0))
        here, dtype = receiver[0][0].device, receiver[0][0].dtype
        taken = [(keys.to(here, dtype), values.to(here, dtype)) for keys, values in taken]
        fused = self._stack(sharer)(taken, receiver)
        matched = (token_map >= 0).to(here)[:, None, :, None]
        if bool(matched.all()):
            return fused
        return [
            new if new is old else (torch.where(matched, new[0], old[0]), torch.where(matched, new[1], old[1]))
            for new, old in zip(fused, receiver, strict=True)
        ]

    def prefill(
        self,
        sections: Sequence[Section],
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        sharer_inputs: Sequence[SharerInput] | None = None,
    ) -> Cache | None:
        """Read and fuse all sections but the last one.

        A Sharer that no section selects does not run; one that is selected reads its whole input once, with its own
        cache un-fused, which equals reading it section by section.

        Returns:
            The Receiver's cache, or None if there is only one section.
        """
        selected = sorted({sharer for section in sections for sharer in section.sharers})
        last_fused = max((section.end for section in sections if section.sharers), default=0)
        inputs = dict(enumerate(sharer_inputs)) if sharer_inputs is not None else {}
        for sharer in selected:
            inputs.setdefault(sharer, _same_tokens(input_ids[:, :last_fused], attention_mask[:, :last_fused]))
        self._check_readings(selected, inputs, input_ids, last_fused)
        readings = {sharer: (self.read_sharer(sharer, inputs[sharer]), inputs[sharer].token_map) for sharer in selected}
        cache: Cache | None = None
        for section in sections[:-1]:
            cache = self.read_receiver(input_ids, attention_mask, position_ids, cache, section)
            if section.sharers:
                self.fuse(cache, section, readings)
        return cache

    def _check_readings(
        self, selected: Iterable[int], inputs: dict[int, SharerInput], input_ids: Tensor, fused: int
    ) -> None:
        for sharer in selected:
            given, vocabulary = inputs[sharer], self.sharers[sharer].config.vocab_size
            if given.token_map.shape[0] != input_ids.shape[0] or given.token_map.shape[1] < fused:
                raise RefusedError(
                    f"Sharer {sharer + 1}'s token map must cover the {fused} fused tokens of {len(input_ids)} rows",
                    tuple(given.token_map.shape),
                    "Align the whole prefix (c2c.alignment.tokens.batch_readings)",
                )
            if int(given.input_ids.max()) >= vocabulary:
                raise RefusedError(
                    f"Sharer {sharer + 1} knows tokens 0 to {vocabulary - 1}",
                    int(given.input_ids.max()),
                    "Give it its own tokens: align them with sharer_inputs",
                )


def _same_tokens(input_ids: Tensor, attention_mask: Tensor) -> SharerInput:
    batch, tokens = input_ids.shape
    return SharerInput(input_ids, attention_mask, torch.arange(tokens, device=input_ids.device).expand(batch, -1))


def _join_tokens(earlier: KeyValue, later: KeyValue) -> KeyValue:
    keys, values = (torch.cat([old, new.to(old.dtype)], dim=2) for old, new in zip(earlier, later, strict=True))
    return keys, values
