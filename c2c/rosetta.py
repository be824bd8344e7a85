"""A Receiver that reads Sharers' caches: the public model (paper §3.2; reference spec §2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from c2c.alignment.tokens import SharerInput
from c2c.cache import kv_cache, rope
from c2c.cache.shape import cache_shape
from c2c.cache.windows import masks_in_tokens, splits_windows
from c2c.checkpoints.checkpoint import load_pretrained, save_pretrained
from c2c.checkpoints.components import Components
from c2c.checkpoints.push import push_to_hub
from c2c.checkpoints.released import load_released
from c2c.errors import NoRoomError, RefusedError
from c2c.fuser.config import FuserConfig
from c2c.fuser.layer import Fuser
from c2c.fuser.stack import FuserStack
from c2c.fuser.variants import create_fuser
from c2c.fusion.checks import check_tensors
from c2c.fusion.prefill import FusedPrefill
from c2c.fusion.response import ResponseFusion
from c2c.fusion.sections import Section, read_sections
from c2c.generation.decoding import check_options, continue_text
from c2c.types import IGNORED


def create_c2c_projector(source_config: Any, target_config: Any, **fuser: Any) -> Fuser:
    """A new Fuser of one Receiver layer, of the paper's size unless told otherwise.

    Args:
        source_config: The Sharer's Hugging Face config.
        target_config: The Receiver's Hugging Face config.
        **fuser: Variant and sizes, as `FuserConfig.between` takes them.
    """
    return create_fuser(FuserConfig.between(cache_shape(source_config), cache_shape(target_config), **fuser))


class RosettaModel(FusedPrefill):
    """One Receiver, its Sharers and the Fusers between them; in eval mode, as loaded models are.

    Args:
        model_list: The Receiver first, then the Sharers: causal models whose caches are keys and values.
        projector_list: Fusers that `set_projector_config` names by number.
        fusion: ``sequential`` or ``parallel``; see `FusedPrefill`.
        include_response: Fuse the last section and each new token too; see `c2c.fusion.response`.

    Attributes:
        contract_check: Differences from the checkpoint's contract that were accepted or noted, by loading or of a cache
            that was given; None if not loaded.
        released_settings: Of each published fuser that was loaded, what its recipe says of its use.

    Raises:
        RefusedError: If there is no model, the fusion is unknown, or a model's cache is not keys and values.
    """

    def __init__(
        self,
        model_list: Sequence[PreTrainedModel | PreTrainedConfig],
        projector_list: Sequence[Fuser] = (),
        *,
        fusion: str = "sequential",
        include_response: bool = False,
    ) -> None:
        super().__init__(model_list, fusion=fusion)
        self.projector_list = list(projector_list)
        self.include_response = include_response
        self.released_settings: list[dict[str, Any]] = []

    @classmethod
    def of_stacks(
        cls,
        receiver: PreTrainedModel,
        sharers: Sequence[PreTrainedModel | PreTrainedConfig],
        stacks: Sequence[FuserStack],
        *,
        fusion: str = "sequential",
        include_response: bool = False,
    ) -> RosettaModel:
        """A RosettaModel with one ready FuserStack a Sharer.

        Raises:
            RefusedError: If their numbers differ, a stack is for caches of other sizes, or weights are not finite.
        """
        for name, each in (("sharers", sharers), ("stacks", stacks)):
            if not isinstance(each, Sequence | nn.ModuleList):
                raise RefusedError(f"{name} must be a list, one a Sharer", type(each).__name__, f"Pass {name}=[...]")
        if len(sharers) != len(stacks):
            raise RefusedError(
                "Each Sharer must have one FuserStack", f"{len(sharers)} and {len(stacks)}", "Pass one stack a Sharer"
            )
        model = cls([receiver, *sharers], fusion=fusion, include_response=include_response)
        for number, (made, needed) in enumerate(zip(stacks, model.stacks, strict=True), start=1):
            for name in ("sharer", "receiver"):
                if getattr(made, name) != getattr(needed, name):
                    raise RefusedError(
                        f"The Fusers of Sharer {number} must fit the {name}'s cache {tuple(getattr(needed, name))}",
                        tuple(getattr(made, name)),
                        "Use the models that the Fusers were trained for",
                    )
            _check_finite(made, number)
        model.stacks = nn.ModuleList(stacks).train(model.training)
        return model

    @classmethod
    def of_components(cls, components: Components) -> RosettaModel:
        """A RosettaModel of loaded components, in eval mode.

        Raises:
            RefusedError: As `of_stacks`.
        """
        model = cls.of_stacks(
            components.receiver,
            components.sharers,
            components.stacks,
            fusion=components.fusion,
            include_response=components.include_response,
        ).eval()
        model.contracts, model.override = components.contracts, components.override
        model.contract_check = components.contract_check
        model.released_settings = list(components.released_settings)
        return model

    def components(self) -> Components:
        """Models, Fusers and settings, as saving takes them."""
        return Components(
            receiver=self.receiver,
            sharers=self.sharers,
            stacks=[self.stack(number) for number in range(len(self.stacks))],
            fusion=self.fusion,
            include_response=self.include_response,
            contracts=self.contracts,
            override=self.override,
            contract_check=self.contract_check,
            released_settings=self.released_settings,
        )

    @classmethod
    def from_released(cls, source: Any, *, receiver: Any, sharers: Any, **options: Any) -> RosettaModel:
        """Load released fusers; see `c2c.checkpoints.released.load_released` for the arguments."""
        return cls.of_components(load_released(source, receiver=receiver, sharers=sharers, **options))

    @classmethod
    def from_pretrained(cls, source: Any, *, receiver: Any, sharers: Any, **options: Any) -> RosettaModel:
        """Load own checkpoints, one a Sharer; see `c2c.checkpoints.checkpoint.load_pretrained` for the arguments."""
        return cls.of_components(load_pretrained(source, receiver=receiver, sharers=sharers, **options))

    def save_pretrained(self, folder: Any, **options: Any) -> None:
        """Save the Fusers; see `c2c.checkpoints.checkpoint.save_pretrained` for the arguments."""
        save_pretrained(self.components(), folder, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Publish the Fusers with a model card (`c2c.checkpoints.push.push_to_hub`); returns the commit's address."""
        return push_to_hub(self.components(), repo_id, **options)

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
            raise RefusedError("The target of a Fuser must be the Receiver, model 0", target_model_idx, "Pass 0")
        if not 1 <= source_model_idx <= len(self.stacks):
            raise RefusedError(
                f"The source of a Fuser must be one of the Sharers, models 1 to {len(self.stacks)}",
                source_model_idx,
                "Name one of them, or add it first",
            )
        if not 0 <= projector_idx < len(self.projector_list):
            raise RefusedError(
                f"A link must name a Fuser of projector_list, 0 to {len(self.projector_list) - 1}",
                projector_idx,
                "Name one of them",
            )
        stack = self.stack(source_model_idx - 1)
        stack.link(target_model_layer_idx, source_model_layer_idx, self.projector_list[projector_idx])
        stack.to(self.receiver.device, self.receiver.dtype).train(self.training)

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
            ``cache`` over all N tokens.

        Raises:
            RefusedError: If sections, shapes or token ids do not fit.
        """
        sections = self._sections(kv_cache_index, input_ids)
        check_tensors(attention_mask=attention_mask, position_ids=position_ids, labels=labels)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        positions = kv_cache.positions_of(mask) if position_ids is None else position_ids
        _check_labels(labels, input_ids, sections[-1], self.receiver.config.get_text_config().vocab_size)
        read = self.read_prompt(
            sections, input_ids, mask, positions, sharer_inputs, keep_unfused=bool(sections[-1].sharers)
        )
        last, cache = slice(sections[-1].start, sections[-1].end), read.cache
        if sections[-1].sharers:
            response = ResponseFusion(self, read, sections[-1].sharers)
            response.lay_down(input_ids[:, last], mask, positions[:, last])
            cache = response.cache
        masks: Any = mask
        if splits_windows(self.receiver, mask, mask.shape[1]):
            masks = masks_in_tokens(self.receiver, mask, last.stop - last.start, cache)
        with rope.of_positions(self.receiver, positions):
            return self.receiver(
                input_ids=input_ids[:, last],
                attention_mask=masks,
                position_ids=positions[:, last],
                cache=cache,
                labels=None if labels is None else labels[:, last],
                use_cache=True,
            )

    def _sections(self, kv_cache_index: Sequence[Tensor], input_ids: Tensor) -> list[Section]:
        return read_sections(kv_cache_index, input_ids, len(self.stacks), include_response=self.include_response)

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
        cache: str = "dynamic",
        **options: Any,
    ) -> Tensor:
        """Fuse the prompt's sections but the last, then let the Receiver write.

        With `include_response` the last section and each new token are fused too: a step costs one forward of each
        Sharer and two of the Receiver.

        Args:
            kv_cache_index: As in `forward`.
            input_ids: ``(B, N)`` int64, left-padded where rows differ in length.
            attention_mask: ``(B, N)``; all ones if None.
            max_new_tokens: Upper bound of new tokens a row.
            do_sample: Sample instead of taking the most likely token.
            sharer_inputs: As in `forward`.
            cache: How the Receiver's fused cache is held while it writes: ``dynamic``, ``sliding``, ``static``,
                ``int8`` or ``int4``; see `c2c.cache.kv_cache.hold`.
            **options: Sampling, penalties, stop strings, streamer, as `c2c.generation.decoding.continue_text` takes
                them.

        Returns:
            ``(B, N + new)`` int64: the prompt and what was written after it.

        Raises:
            RefusedError: If sections, shapes, token ids, room or options do not fit.
        """
        sections = self._sections(kv_cache_index, input_ids)
        check_tensors(attention_mask=attention_mask)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        known = self.receiver.config.get_text_config().vocab_size
        check_options(len(input_ids), max_new_tokens, do_sample, options, known)
        self._check_generation(sections, input_ids, mask, max_new_tokens, cache)
        fused_response = bool(sections[-1].sharers)
        read = self.read_prompt(
            sections,
            input_ids,
            mask,
            kv_cache.positions_of(mask),
            sharer_inputs,
            keep_unfused=fused_response,
            new_tokens=max_new_tokens,
        )
        written: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": do_sample, **options}
        if fused_response:
            with ResponseFusion(self, read, sections[-1].sharers).in_generation() as growing:
                return continue_text(self.receiver, input_ids, mask, growing, **written)
        room = input_ids.shape[1] + max_new_tokens
        held = None if read.cache is None else kv_cache.hold(read.cache, cache, self.receiver.config, room)
        return continue_text(self.receiver, input_ids, mask, held, **written)

    def _check_generation(
        self, sections: Sequence[Section], input_ids: Tensor, mask: Tensor, new_tokens: int, cache: str
    ) -> None:
        kv_cache.check_form(cache, self.receiver.config)
        if sections[-1].sharers and cache != "dynamic":
            raise RefusedError(
                "A response that is fused must have a dynamic cache",
                cache,
                'Pass cache="dynamic", or fuse the prompt alone',
            )
        if mask.shape == input_ids.shape and not bool((mask[:, -1] == 1).all()):
            raise RefusedError(
                "The last column of a prompt to be continued must be a token in every row",
                mask[:, -1].tolist(),
                "Pad at the left (tokenizer.padding_side = 'left')",
            )
        if cache in kv_cache.WITHIN_WINDOWS and splits_windows(self.receiver, mask, mask.shape[1] + new_tokens):
            raise RefusedError(
                "A cache that drops what left a sliding window counts columns, so there must be no pads between tokens",
                cache,
                'Pass cache="dynamic", or run rows of different layout one by one',
            )
        room = getattr(self.receiver.config.get_text_config(), "max_position_embeddings", None)
        needed = int(mask.sum(-1).max()) + new_tokens
        if room and needed > room:
            raise NoRoomError(
                f"Prompt and answer must fit into the Receiver's {room} positions",
                needed,
                "Shorten the prompt, or lower max_new_tokens",
            )


def _check_finite(stack: FuserStack, number: int) -> None:
    wrong = [name for name, each in stack.named_parameters() if not each.is_meta and not each.isfinite().all()]
    if wrong:
        raise RefusedError(
            f"The weights of Sharer {number}'s Fusers must be finite",
            f"NaN or infinity in {wrong[0]}",
            "Load them from a checkpoint again, or train them with a lower learning rate",
        )


def _check_labels(labels: Tensor | None, input_ids: Tensor, last: Section, vocabulary: int) -> None:
    if labels is None:
        return
    if labels.shape != input_ids.shape:
        raise RefusedError(
            f"labels must be {tuple(input_ids.shape)}, as input_ids is", tuple(labels.shape), "Pass one label a token"
        )
    if labels.dtype != torch.int64 or bool(((labels != IGNORED) & ((labels < 0) | (labels >= vocabulary))).any()):
        raise RefusedError(
            f"labels must be whole numbers (int64) from 0 to {vocabulary - 1}, or {IGNORED} for no loss",
            f"{labels.dtype} from {labels.min().item()} to {labels.max().item()}",
            f"Copy input_ids, and set what is not to be learned to {IGNORED}",
        )
    if not bool((labels[:, last.start + 1 : last.end] != IGNORED).any()):
        raise RefusedError(
            "Labels must name at least one token after the first of the last section",
            f"only {IGNORED} there",
            "Label the response, which the last section holds",
        )
