"""A Receiver that reads Sharers' caches: prefill, fuse, continue (paper §3.2; reference spec §2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from c2c import kv_cache
from c2c.alignment.tokens import SharerInput
from c2c.decoding import continue_text
from c2c.errors import RefusedError, check_choice
from c2c.fuser.config import FuserConfig
from c2c.fuser.layer import Fuser
from c2c.fuser.stack import FuserStack
from c2c.sections import Section, read_sections
from c2c.types import FUSIONS, CacheShape, KeyValue


def create_c2c_projector(source_config: Any, target_config: Any, **fuser: Any) -> Fuser:
    """A new Fuser of one Receiver layer, of the paper's size unless told otherwise.

    Args:
        source_config: The Sharer's Hugging Face config.
        target_config: The Receiver's Hugging Face config.
        **fuser: Variant and sizes, as `FuserConfig.between` takes them.
    """
    return Fuser(FuserConfig.between(CacheShape.of(source_config), CacheShape.of(target_config), **fuser))


class RosettaModel(nn.Module):
    """One Receiver, its Sharers and the Fusers between them.

    Args:
        model_list: The Receiver first, then the Sharers: causal models whose caches are keys and values.
        projector_list: Fusers that `set_projector_config` names by number.
        fusion: With several Sharers: ``sequential`` (each fuses what the one before left) or ``parallel`` (each reads
            the Receiver's own cache; their changes are added up).

    Raises:
        RefusedError: If there is no model, the fusion is unknown, or a model's cache is not keys and values.
    """

    def __init__(
        self,
        model_list: Sequence[PreTrainedModel],
        projector_list: Sequence[Fuser] = (),
        *,
        fusion: str = "sequential",
    ) -> None:
        super().__init__()
        if not model_list:
            raise RefusedError("A RosettaModel needs a Receiver", list(model_list), "Pass [receiver, sharer, ...]")
        self.fusion = check_choice("The fusion of several Sharers", fusion, FUSIONS)
        self.model_list = nn.ModuleList(model_list)
        self.projector_list = list(projector_list)
        receiver = CacheShape.of(model_list[0].config)
        stacks = [FuserStack(CacheShape.of(sharer.config), receiver) for sharer in model_list[1:]]
        self.stacks = nn.ModuleList(stacks)

    @classmethod
    def of_stacks(
        cls,
        receiver: PreTrainedModel,
        sharers: Sequence[PreTrainedModel],
        stacks: Sequence[FuserStack],
        *,
        fusion: str = "sequential",
    ) -> RosettaModel:
        """A RosettaModel with one ready FuserStack a Sharer.

        Raises:
            RefusedError: If their numbers differ, or a stack was made for caches of other sizes.
        """
        if len(sharers) != len(stacks):
            raise RefusedError(
                "Each Sharer needs one FuserStack", f"{len(sharers)} and {len(stacks)}", "Pass one stack a Sharer"
            )
        model = cls([receiver, *sharers], fusion=fusion)
        for number, (made, needed) in enumerate(zip(stacks, model.stacks, strict=True), start=1):
            for name in ("sharer", "receiver"):
                if getattr(made, name) != getattr(needed, name):
                    raise RefusedError(
                        f"The Fusers of Sharer {number} must fit the {name}'s cache {tuple(getattr(needed, name))}",
                        tuple(getattr(made, name)),
                        "Use the models that the Fusers were trained for",
                    )
        model.stacks = nn.ModuleList(stacks)
        return model

    @classmethod
    def from_released(cls, source: Any, *, receiver: Any, sharers: Any, **options: Any) -> RosettaModel:
        """Load fusers in the published layout; see `c2c.released.load_released` for the arguments."""
        from c2c.released import load_released

        return load_released(source, receiver=receiver, sharers=sharers, **options)

    @classmethod
    def from_pretrained(cls, source: Any, *, receiver: Any, sharers: Any, **options: Any) -> RosettaModel:
        """Load own checkpoints, one a Sharer; see `c2c.checkpoint.load_model` for the arguments."""
        from c2c.checkpoint import load_model

        return load_model(source, receiver=receiver, sharers=sharers, **options)

    def save_pretrained(self, folder: Any) -> None:
        """Save the Fusers; see `c2c.checkpoint.save_model`."""
        from c2c.checkpoint import save_model

        save_model(self, folder)

    @property
    def receiver(self) -> PreTrainedModel:
        """The model that answers."""
        return self.model_list[0]  # type: ignore[return-value]

    @property
    def sharers(self) -> list[PreTrainedModel]:
        """The models whose caches are fused."""
        return list(self.model_list[1:])  # type: ignore[arg-type]

    def set_projector_config(
        self,
        source_model_idx: int,
        source_model_layer_idx: int,
        target_model_idx: int,
        target_model_layer_idx: int,
        projector_idx: int,
    ) -> None:
        """Link layer `target_model_layer_idx` of the Receiver (0) with a layer of Sharer `source_model_idx` (from 1).

        Raises:
            RefusedError: If a model, layer or Fuser does not exist, the layer is linked already, or sizes do not fit.
        """
        if target_model_idx != 0:
            raise RefusedError("The target of a Fuser is the Receiver, model 0", target_model_idx, "Pass 0")
        if not 1 <= source_model_idx <= len(self.stacks):
            raise RefusedError(
                f"The Sharers are models 1 to {len(self.stacks)}", source_model_idx, "Name one of them, or add it first"
            )
        if not 0 <= projector_idx < len(self.projector_list):
            raise RefusedError(
                f"projector_list holds Fusers 0 to {len(self.projector_list) - 1}", projector_idx, "Name one of them"
            )
        stack = self._stack(source_model_idx - 1)
        stack.link(target_model_layer_idx, source_model_layer_idx, self.projector_list[projector_idx])
        stack.to(self.receiver.device, self.receiver.dtype)

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

    def forward(
        self,
        kv_cache_index: Sequence[Tensor],
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        sharer_inputs: Sequence[SharerInput] | None = None,
    ) -> CausalLMOutputWithPast:
        """Fuse the sections that select a Sharer, then run the Receiver on the last section.

        Args:
            kv_cache_index: One ``(B or 1, n, 2)`` int64 tensor a section: ``[mask, 0]`` with bit i for Sharer i + 1,
                or ``[-1, 0]`` for none. The sections tile the prompt; the last one is never fused.
            input_ids: ``(B, N)`` int64.
            attention_mask: ``(B, N)``, 1 for tokens; all ones if None.
            position_ids: ``(B, N)`` int64; counted from the mask if None.
            labels: ``(B, N)`` int64 with -100 where no loss is wanted; only those of the last section count.
            sharer_inputs: What each Sharer reads. If None, each reads the Receiver's own tokens.

        Returns:
            ``logits`` (B, n, V) and ``loss`` (mean over supervised tokens) of the last section, and the Receiver's
            ``past_key_values`` over all N tokens.

        Raises:
            RefusedError: If sections, shapes or token ids do not fit.
        """
        sections = read_sections(kv_cache_index, input_ids, len(self.stacks))
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        positions = kv_cache.positions_of(mask) if position_ids is None else position_ids
        cache = self.prefill(sections, input_ids, mask, positions, sharer_inputs)
        last = slice(sections[-1].start, sections[-1].end)
        return self.receiver(
            input_ids=input_ids[:, last],
            attention_mask=mask,
            position_ids=positions[:, last],
            cache=cache,
            labels=None if labels is None else labels[:, last],
            use_cache=True,
        )

    @torch.no_grad()
    def generate(
        self,
        kv_cache_index: Sequence[Tensor],
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        max_new_tokens: int = 64,
        do_sample: bool = False,
        sharer_inputs: Sequence[SharerInput] | None = None,
        **options: Any,
    ) -> Tensor:
        """Fuse the prompt's sections but the last, then let the Receiver write.

        Args:
            kv_cache_index: As in `forward`.
            input_ids: ``(B, N)`` int64, left-padded where rows differ in length.
            attention_mask: ``(B, N)``; all ones if None.
            max_new_tokens: Upper bound of new tokens a row.
            do_sample: Sample instead of taking the most likely token.
            sharer_inputs: As in `forward`.
            **options: As `c2c.decoding.continue_text` takes them.

        Returns:
            ``(B, N + new)`` int64: the prompt and what was written after it.

        Raises:
            RefusedError: If sections, shapes or token ids do not fit.
        """
        sections = read_sections(kv_cache_index, input_ids, len(self.stacks))
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        cache = self.prefill(sections, input_ids, mask, kv_cache.positions_of(mask), sharer_inputs)
        return continue_text(
            self.receiver, input_ids, mask, cache, max_new_tokens=max_new_tokens, do_sample=do_sample, **options
        )


def _same_tokens(input_ids: Tensor, attention_mask: Tensor) -> SharerInput:
    batch, tokens = input_ids.shape
    return SharerInput(input_ids, attention_mask, torch.arange(tokens, device=input_ids.device).expand(batch, -1))


def _join_tokens(earlier: KeyValue, later: KeyValue) -> KeyValue:
    keys, values = (torch.cat([old, new.to(old.dtype)], dim=2) for old, new in zip(earlier, later, strict=True))
    return keys, values
