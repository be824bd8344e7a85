"""Read a prompt with several models and fuse their caches (paper §3.2; reference spec §2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

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

    def train(self, mode: bool = True) -> Self:
        """Set the Fusers' mode; the language models are frozen and stay in eval mode."""
        super().train(mode)
        for model in self.model_list:
            model.eval()
        return self

    def _stack(self, sharer: int) -> FuserStack:
        stack = self.stacks[sharer]
        assert isinstance(stack, FuserStack)
        return stack

    def read_sharer(self, sharer: int, given: SharerInput, position_ids: Tensor | None = None) -> list[KeyValue]:
        """Run one Sharer over what it is given, without gradients.

        Args:
            sharer: Its number, from 0.
            given: What it reads; a zeroed input does not run the Sharer.
            position_ids: ``(B, M)`` int64; counted from the mask if None.

        Returns:
            S layers of keys and values ``(B, Hs, M, Ds)``.
        """
        model = self.sharers[sharer]
        if given.zeroed:
            like = next(model.parameters())
            batch, tokens = given.input_ids.shape
            return kv_cache.zeros(self._stack(sharer).sharer, batch, tokens, like)
        given = given.to(model.device)
        positions = kv_cache.positions_of(given.attention_mask) if position_ids is None else position_ids
        positions = positions.to(model.device)
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
            if self.fusion == "sequential":
                fused = _rounded(changed, own)
            elif fused is own:
                fused = changed
            else:
                fused = [
                    (f[0] + (c[0] - o[0]), f[1] + (c[1] - o[1])) for f, c, o in zip(fused, changed, own, strict=True)
                ]
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
        cache un-fused, which equals reading it section by section. Without `sharer_inputs` each reads the Receiver's
        own tokens at the Receiver's positions.

        Returns:
            The Receiver's cache, or None if there is only one section.

        Raises:
            RefusedError: If what the models are to read does not fit the prompt or their vocabularies.
        """
        self._check_prompt(input_ids, attention_mask, position_ids, sharer_inputs)
        selected = sorted({sharer for section in sections for sharer in section.sharers})
        last_fused = max((section.end for section in sections if section.sharers), default=0)
        if sharer_inputs is None:
            own = _same_tokens(input_ids[:, :last_fused], attention_mask[:, :last_fused])
            inputs, positions = {sharer: own for sharer in selected}, position_ids[:, :last_fused]
        else:
            inputs, positions = dict(enumerate(sharer_inputs)), None
        self._check_readings(selected, inputs, input_ids, last_fused)
        readings = {
            sharer: (self.read_sharer(sharer, inputs[sharer], positions), inputs[sharer].token_map)
            for sharer in selected
        }
        cache: Cache | None = None
        for section in sections[:-1]:
            cache = self.read_receiver(input_ids, attention_mask, position_ids, cache, section)
            if section.sharers:
                self.fuse(cache, section, readings)
        return cache

    def _check_prompt(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, given: Sequence[SharerInput] | None
    ) -> None:
        for name, tensor in (("attention_mask", attention_mask), ("position_ids", position_ids)):
            if tensor.shape != input_ids.shape:
                raise RefusedError(
                    f"{name} must be {tuple(input_ids.shape)}, as input_ids is",
                    tuple(tensor.shape),
                    "Pass one value a token of the whole prompt",
                )
        if given is not None and len(given) != len(self.sharers):
            raise RefusedError(
                f"sharer_inputs must say what each of the {len(self.sharers)} Sharers reads",
                f"{len(given)} inputs",
                "Pass one SharerInput a Sharer, in their order",
            )

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
            tokens = given.input_ids.shape[1]
            if int(given.token_map.max()) >= tokens:
                raise RefusedError(
                    f"Sharer {sharer + 1}'s token map must point at its {tokens} tokens, or be -1",
                    int(given.token_map.max()),
                    "Align the prompt that it reads (c2c.alignment.tokens.batch_readings)",
                )
            unknown = given.input_ids[(given.input_ids < 0) | (given.input_ids >= vocabulary)]
            if unknown.numel():
                raise RefusedError(
                    f"Sharer {sharer + 1} knows tokens 0 to {vocabulary - 1}",
                    int(unknown[0]),
                    "Give it its own tokens: align them with sharer_inputs",
                )


def _same_tokens(input_ids: Tensor, attention_mask: Tensor) -> SharerInput:
    batch, tokens = input_ids.shape
    return SharerInput(input_ids, attention_mask, torch.arange(tokens, device=input_ids.device).expand(batch, -1))


def _rounded(fused: list[KeyValue], own: list[KeyValue]) -> list[KeyValue]:
    """What the cache would hold of `fused`, which the next Sharer's Fuser reads (reference spec §2.3)."""
    return [
        new if new is old else (new[0].to(old[0].dtype), new[1].to(old[1].dtype))
        for new, old in zip(fused, own, strict=True)
    ]


def _join_tokens(earlier: KeyValue, later: KeyValue) -> KeyValue:
    keys, values = (torch.cat([old, new.to(old.dtype)], dim=2) for old, new in zip(earlier, later, strict=True))
    return keys, values
