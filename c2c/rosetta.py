"""A Receiver that reads Sharers' caches: the public model (paper §3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from c2c.alignment.tokens import SharerInput
from c2c.cache import kv_cache
from c2c.cache.rows import check_rotations, masks_in_tokens, rotations_of_positions, splits_windows
from c2c.cache.shape import cache_shape
from c2c.checkpoints.checkpoint import load_pretrained, save_pretrained
from c2c.checkpoints.components import Components
from c2c.checkpoints.push import push_to_hub
from c2c.checkpoints.released import load_released
from c2c.errors import NoRoomError, RefusedError, check_choice
from c2c.fuser.config import FuserConfig
from c2c.fuser.layer import Fuser
from c2c.fuser.stack import FuserStack
from c2c.fuser.variants import create_fuser
from c2c.fusion.fuse import Aligned, align, fuse_tokens, join_tokens
from c2c.fusion.prompt import (
    Section,
    check_inputs,
    check_labels,
    check_prompt,
    check_readings,
    check_room,
    check_tensors,
    read_sections,
)
from c2c.fusion.response import ResponseFusion, SharerReader
from c2c.generation.compiled import check_compilable, compiled_decoding
from c2c.generation.decoding import check_options, continue_text
from c2c.models.contract import Contract, ContractCheck, check_cache
from c2c.types import FUSIONS, KeyValue

Timer = Callable[[str], AbstractContextManager[Any]]
"""Called with the name of a phase; what it returns is entered while the phase runs."""


def no_timer(phase: str) -> AbstractContextManager[None]:
    """A timer that measures nothing."""
    return nullcontext()


def create_c2c_projector(source_config: Any, target_config: Any, **fuser: Any) -> Fuser:
    """A new Fuser of one Receiver layer, of the paper's size by default.

    Args:
        source_config: The Sharer's Hugging Face config.
        target_config: The Receiver's Hugging Face config.
        **fuser: Variant and sizes, as `FuserConfig.between` takes them.
    """
    return create_fuser(FuserConfig.between(cache_shape(source_config), cache_shape(target_config), **fuser))


class AbsentSharer(nn.Module):
    """A Sharer that runs in another process: a config here, and its caches as `SharerInput.layers`."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config = config


class PromptCaches(NamedTuple):
    """What the models hold of a prompt's sections but the last.

    Args:
        cache: The Receiver's fused cache, or None if there is only one section.
        unfused: T layers ``(B, Ht, n, Dt)`` of the Receiver without any fusion; empty unless the response is fused.
        inputs: The input of each selected Sharer, by its number.
        sharers: The cache of each selected Sharer: S layers ``(B, Hs, M, Ds)``.
        own_tokens: The Sharers read the Receiver's tokens, at its positions.
    """

    cache: Cache | None
    unfused: list[KeyValue]
    inputs: dict[int, SharerInput]
    sharers: dict[int, list[KeyValue]]
    own_tokens: bool


class RosettaModel(nn.Module):
    """One Receiver, its Sharers and the Fusers between them; in eval mode, as loaded models are.

    Args:
        model_list: The Receiver first, then the Sharers: causal models whose caches are keys and values. A Sharer that
            runs in another process is named by its config; its cache comes with `SharerInput.layers`. Each model may be
            on a device of its own; Fusers are on the Receiver's.
        projector_list: Fusers that `set_projector_config` names by number.
        fusion: With several Sharers: ``sequential`` (each fuses what the one before left) or ``parallel`` (each reads
            the Receiver's own cache; their changes are added up).
        include_response: Fuse the last section and each new token too; see `c2c.fusion.response`.

    Attributes:
        contracts: For each Sharer, the models that its Fusers were trained for; empty unless they were loaded. A cache
            that is given in place of a Sharer is compared with it.
        override: Lines of the contracts that may differ, by name, as they were passed to the function that loaded them.
        contract_check: Differences from the contracts that were accepted or noted, when the Fusers were loaded or when
            a cache was given; None if there is no contract.
        released_settings: For each Sharer with released fusers, the settings of their recipe.

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
        super().__init__()
        _check_models(model_list)
        self.fusion = check_choice("The fusion of several Sharers", fusion, FUSIONS)
        self.include_response = include_response
        # A module in the place of an absent Sharer, so that numbers of models and Sharers agree.
        models = [AbsentSharer(model) if isinstance(model, PreTrainedConfig) else model for model in model_list]
        shapes = [cache_shape(model.config) for model in models]
        self.contracts: Sequence[Contract] = ()
        self.override: Sequence[str] = ()
        self.contract_check: ContractCheck | None = None
        self.released_settings: list[dict[str, Any]] = []
        self.model_list = nn.ModuleList(models)
        self.stacks = nn.ModuleList(FuserStack(shape, shapes[0]) for shape in shapes[1:])
        self.projector_list = list(projector_list)
        self.eval()
        # Only Fusers learn (paper §3.3).
        self.model_list.requires_grad_(False)

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
        # One stack a Sharer
        for name, value in (("sharers", sharers), ("stacks", stacks)):
            if not isinstance(value, Sequence | nn.ModuleList):
                raise RefusedError(f"{name} must be a list, one a Sharer", type(value).__name__, f"Pass {name}=[...]")
        if len(sharers) != len(stacks):
            raise RefusedError(
                "Each Sharer must have one FuserStack", f"{len(sharers)} and {len(stacks)}", "Pass one stack a Sharer"
            )
        model = cls([receiver, *sharers], fusion=fusion, include_response=include_response)
        # Each stack must be for the caches of its two models
        for number, (stack, empty) in enumerate(zip(stacks, model.stacks, strict=True), start=1):
            for name in ("sharer", "receiver"):
                if getattr(stack, name) != getattr(empty, name):
                    raise RefusedError(
                        f"The Fusers of Sharer {number} must fit the {name}'s cache {tuple(getattr(empty, name))}",
                        tuple(getattr(stack, name)),
                        "Use the models that the Fusers were trained for",
                    )
            _check_finite(stack, number)
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
        # Both ends of the link, and the Fuser
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
        # The stack goes where the Receiver is
        stack = self.stack(source_model_idx - 1)
        stack.link(target_model_layer_idx, source_model_layer_idx, self.projector_list[projector_idx])
        stack.to(self.receiver.device, self.receiver.dtype).train(self.training)

    @property
    def receiver(self) -> PreTrainedModel:
        """The model that answers."""
        return self.model_list[0]  # type: ignore[return-value]

    @property
    def sharers(self) -> list[PreTrainedModel]:
        """The models whose caches are fused; `AbsentSharer` stands for one that runs elsewhere."""
        return list(self.model_list[1:])  # type: ignore[arg-type]

    def stack(self, sharer: int) -> FuserStack:
        """The Fusers of one Sharer, by its number from 0."""
        stack = self.stacks[sharer]
        assert isinstance(stack, FuserStack)
        return stack

    def train(self, mode: bool = True) -> Self:
        """Set the Fusers' mode; the language models are frozen and stay in eval mode."""
        # `train` of the base class would set dropout of the language models too.
        super().train(mode)
        for model in self.model_list:
            model.eval()
        return self

    @contextmanager
    def restricted(self, *, layers: Sequence[int] | None = None, gates: str = "learned") -> Iterator[Self]:
        """Inside, only some Receiver layers are fused, or all gates are open or closed; after it all is as before.

        Args:
            layers: Receiver layers that may be fused; all linked ones if None.
            gates: ``learned``, ``open`` or ``closed``.

        Raises:
            RefusedError: If a layer does not exist or the name is unknown.
        """
        forced = {"learned": None, "open": True, "closed": False}
        check_choice("The state of the gates", gates, forced)
        stacks = [self.stack(number) for number in range(len(self.stacks))]
        # What is restored: layers and gates of each stack
        before = [(stack.active_layers, [fuser.gate_override for fuser in stack.all_fusers()]) for stack in stacks]
        try:
            for stack in stacks:
                stack.only_layers(layers)
                stack.force_gates(forced[gates])
            yield self
        finally:
            for stack, (active, overrides) in zip(stacks, before, strict=True):
                stack.active_layers = active
                # A Fuser that was linked inside the block comes last, and has no state to go back to.
                for fuser, override in zip(stack.all_fusers(), overrides, strict=False):
                    fuser.gate_override = override

    def forward(
        self,
        kv_cache_index: Sequence[Tensor],
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        sharer_inputs: Sequence[SharerInput] | None = None,
        prefix: Sequence[KeyValue] | None = None,
        checked: bool = False,
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
            prefix: What the Receiver holds of the first columns, if it has read them before; see `read_prompt`.
            checked: `check_inputs` has seen the same values, so that no device is waited for to see them again.

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
        vocabulary = self.receiver.config.get_text_config().vocab_size
        if not checked:
            check_labels(labels, input_ids, sections[-1], vocabulary)
        # 1. Read and fuse all sections but the last
        fused_response = bool(sections[-1].sharers)
        prompt = self.read_prompt(
            sections,
            input_ids,
            mask,
            positions,
            sharer_inputs,
            keep_unfused=fused_response,
            prefix=prefix,
            checked=checked,
        )
        last, cache = slice(sections[-1].start, sections[-1].end), prompt.cache
        # 2. Where the response is fused, prepare keys and values of the last section
        if fused_response:
            response = self.fuse_response(prompt, sections[-1].sharers)
            response.prepare_tokens(input_ids[:, last], mask, positions[:, last])
            cache = response.cache
        # 3. Run the Receiver on the last section
        # As in `kv_cache.prefill`: windows in tokens where transformers would count columns.
        masks: Any = mask
        if splits_windows(self.receiver, mask, mask.shape[1]):
            masks = masks_in_tokens(self.receiver, mask, last.stop - last.start, cache)
        with rotations_of_positions(self.receiver, positions):
            return self.receiver(
                input_ids=input_ids[:, last],
                attention_mask=masks,
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
        cache: str = "dynamic",
        compile: bool = False,
        timer: Timer = no_timer,
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
                ``int8`` or ``int4``; see `c2c.cache.kv_cache.convert_cache`.
            compile: Whether the steps after the prompt are compiled, on a GPU as CUDA graphs, once for each number of
                rows and columns that `c2c.generation.compiled` rounds up to. The response may not be fused, and `cache`
                must be ``dynamic``: it is copied into one of fixed size.
            timer: Measures the phases of `read_prompt`.
            **options: Sampling, penalties, stop strings, streamer, as `c2c.generation.decoding.continue_text` takes
                them.

        Returns:
            ``(B, N + new)`` int64: the prompt and the new tokens.

        Raises:
            RefusedError: If sections, shapes, token ids, room or options do not fit.
        """
        sections = self._sections(kv_cache_index, input_ids)
        check_tensors(attention_mask=attention_mask)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        vocabulary = self.receiver.config.get_text_config().vocab_size
        check_options(len(input_ids), max_new_tokens, do_sample, options, vocabulary)
        self._check_generation(sections, input_ids, mask, max_new_tokens, cache, compile)
        # 1. Read and fuse all sections but the last
        fused_response = bool(sections[-1].sharers)
        prompt = self.read_prompt(
            sections,
            input_ids,
            mask,
            kv_cache.positions_of(mask),
            sharer_inputs,
            keep_unfused=fused_response,
            new_tokens=max_new_tokens,
            timer=timer,
        )
        # 2. Continue from the fused cache
        settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": do_sample, **options}
        if fused_response:
            with self.fuse_response(prompt, sections[-1].sharers).in_generation() as growing:
                return continue_text(self.receiver, input_ids, mask, growing, **settings)
        # Fusion needs every token; other forms of the cache are made afterwards.
        prefix = prompt.cache
        if prefix is not None:
            prefix = kv_cache.convert_cache(prefix, cache, self.receiver.config, input_ids.shape[1] + max_new_tokens)
        with compiled_decoding([self.receiver] if compile else []):
            return continue_text(self.receiver, input_ids, mask, prefix, **settings)

    def read_prompt(
        self,
        sections: Sequence[Section],
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        sharer_inputs: Sequence[SharerInput] | None = None,
        *,
        keep_unfused: bool = False,
        new_tokens: int = 0,
        prefix: Sequence[KeyValue] | None = None,
        checked: bool = False,
        timer: Timer = no_timer,
    ) -> PromptCaches:
        """Read and fuse all sections but the last one.

        A Sharer that no section selects does not run; one that is selected reads its whole input once, with its own
        cache un-fused, which equals reading it section by section. Without `sharer_inputs` each reads the Receiver's
        own tokens at the Receiver's positions.

        Args:
            sections: They tile the prompt; see `c2c.fusion.prompt.read_sections`.
            input_ids: ``(B, N)`` int64.
            attention_mask: ``(B, N)``.
            position_ids: ``(B, N)`` int64.
            sharer_inputs: One a Sharer.
            keep_unfused: Also keep the Receiver's cache without any fusion: the last section is to be fused.
            new_tokens: How many tokens at most the Receiver will write after the prompt.
            prefix: The Receiver's own keys and values of all columns up to the end of the first section that is fused,
                or of the last but one: T layers ``(B, Ht, n, Dt)``, which are not changed. It reads them if None.
            checked: As in `forward`.
            timer: Measures the phases ``sharer_prefill``, ``receiver_prefill`` and ``fusion``; those of several
                sections, or of several Sharers, are entered one after another.

        Raises:
            RefusedError: If the inputs of the models do not fit the prompt or their vocabularies, or a Sharer of a
                fused response has no room for it.
        """
        # 1. Checks, before any model runs
        _check_weights("The Receiver", self.receiver)
        if not checked:
            check_prompt(input_ids, attention_mask, position_ids, self.receiver.config)
        if len(sections) > 1 and new_tokens:
            lengths = position_ids.amax(-1) + 1
            check_rotations("the Receiver", self.receiver.config, lengths, lengths + new_tokens - 1)
        inputs = self._inputs(sections, input_ids, attention_mask, sharer_inputs, checked=checked)
        own_tokens = sharer_inputs is None
        if keep_unfused:
            positions = position_ids if own_tokens else None
            self._check_response(sections[-1], inputs, attention_mask, positions, new_tokens)
        # 2. Each Sharer reads its whole input
        sharers = {}
        for sharer, sharer_input in inputs.items():
            positions = position_ids[:, : sharer_input.input_ids.shape[1]] if own_tokens else None
            with timer("sharer_prefill"):
                sharers[sharer] = self.read_sharer(sharer, sharer_input, positions)
        with timer("fusion"):
            # (B, Hs, M, Ds) -> (B, Hs, n, Ds): one Sharer token for each token of the prefix
            aligned = {}
            for sharer, sharer_input in inputs.items():
                stacked = self.stack(sharer).runs_grouped()
                aligned[sharer] = align(
                    sharers[sharer], sharer_input.token_map, is_whole=sharer_input.is_whole, stacked=stacked
                )
        # 3. The Receiver reads section by section, each after what was fused before it
        cache = self.cache_of_prefix(prefix, sections, len(input_ids))
        # The cache alone holds the layers, so that each is let go when its fused one takes its place
        del prefix
        unfused: list[KeyValue] = []
        for section in sections[:-1]:
            with timer("receiver_prefill"):
                cache = self.read_receiver(input_ids, attention_mask, position_ids, cache, section)
                if keep_unfused and section is sections[0]:
                    unfused = kv_cache.layers_of(cache)
            if section.sharers:
                with timer("fusion"):
                    self.fuse_section(cache, section, aligned)
        # 4. Of several sections, the Receiver's own cache is that of reading them all at once
        if keep_unfused and len(sections) > 2:
            whole = Section(0, sections[-1].start, ())
            with timer("receiver_prefill"):
                unfused_cache = self.read_receiver(input_ids, attention_mask, position_ids, None, whole)
            unfused = kv_cache.layers_of(unfused_cache)
        return PromptCaches(cache, unfused, inputs, sharers, own_tokens)

    def cache_of_prefix(
        self, prefix: Sequence[KeyValue] | None, sections: Sequence[Section], rows: int
    ) -> Cache | None:
        """The Receiver's cache of a prefix as `read_prompt` takes it, or None without one.

        Args:
            prefix: T layers ``(B, Ht, n, Dt)``, or None.
            sections: Of the prompt.
            rows: B.

        Raises:
            RefusedError: If it is not of this batch and this Receiver, or does not end where it must.
        """
        if prefix is None:
            return None
        fused = next((section for section in sections[:-1] if section.sharers), sections[-2])
        layers, heads, head_dim = cache_shape(self.receiver.config)
        needed = (rows, heads, fused.end, head_dim)
        wrong = [tuple(states.shape) for layer in prefix for states in layer if tuple(states.shape) != needed]
        if len(prefix) != layers or wrong:
            raise RefusedError(
                f"A prefix must have {layers} layers {needed}, up to the end of the first fused section",
                f"{len(prefix)} layers" if len(prefix) != layers else wrong[0],
                "Read it with the same Receiver, sections and rows",
            )
        return kv_cache.cache_of_layers(prefix, self.receiver.config)

    def check_inputs(
        self,
        kv_cache_index: Sequence[Tensor],
        input_ids: Tensor,
        attention_mask: Tensor,
        sharer_inputs: Sequence[SharerInput] | None = None,
    ) -> None:
        """Refuse what `forward` would refuse of a prompt, before it is moved to a device; arguments as there.

        Raises:
            RefusedError: If sections, shapes or token ids do not fit.
        """
        sections = self._sections(kv_cache_index, input_ids)
        check_prompt(input_ids, attention_mask, kv_cache.positions_of(attention_mask), self.receiver.config)
        self._inputs(sections, input_ids, attention_mask, sharer_inputs)

    def prefill(
        self,
        sections: Sequence[Section],
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        sharer_inputs: Sequence[SharerInput] | None = None,
    ) -> Cache | None:
        """The Receiver's fused cache of all sections but the last, or None if there is only one; see `read_prompt`."""
        return self.read_prompt(sections, input_ids, attention_mask, position_ids, sharer_inputs).cache

    def read_sharer(self, sharer: int, sharer_input: SharerInput, position_ids: Tensor | None = None) -> list[KeyValue]:
        """Run one Sharer over its input, without gradients, or take the cache that is given in its place.

        Args:
            sharer: Its number, from 0.
            sharer_input: A zeroed input, or one with `layers`, does not run the Sharer.
            position_ids: ``(B, M)`` int64; counted from the mask if None.

        Returns:
            S layers of keys and values ``(B, Hs, M, Ds)``, on the Sharer's device.

        Raises:
            RefusedError: If the Sharer runs elsewhere and no cache is given.
        """
        if sharer_input.zeroed:
            batch, tokens = sharer_input.input_ids.shape
            return kv_cache.zero_layers(self.stack(sharer).sharer, batch, tokens, next(self.receiver.parameters()))
        if sharer_input.layers is not None:
            return list(sharer_input.layers)
        model = self.running(sharer)
        ids, mask = sharer_input.input_ids.to(model.device), sharer_input.attention_mask.to(model.device)
        positions = kv_cache.positions_of(mask) if position_ids is None else position_ids.to(model.device)
        # Gradients end at the Fusers, whose inputs from the Sharer are constants.
        with torch.no_grad():
            return kv_cache.layers_of(kv_cache.prefill(model, ids, mask, positions))

    def running(self, sharer: int) -> PreTrainedModel:
        """A Sharer that is here.

        Raises:
            RefusedError: If only its config is.
        """
        model = self.sharers[sharer]
        if isinstance(model, AbsentSharer):
            raise RefusedError(
                f"Sharer {sharer + 1} runs elsewhere, so its cache must be given",
                "tokens alone",
                "Load what it read with c2c.SharerCache.load(folder).as_input(), or pass the model itself",
            )
        _check_weights(f"Sharer {sharer + 1}", model)
        return model

    def read_receiver(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, cache: Cache | None, section: Section
    ) -> Cache:
        """Run the Receiver over one section after `cache`; the tensors ``(B, N)`` cover the whole prompt.

        A cache that holds the section already is returned as it is.
        """
        if cache is not None and cache.get_seq_length() >= section.end:
            return cache
        columns = slice(section.start, section.end)
        return kv_cache.prefill(
            self.receiver,
            input_ids[:, columns],
            attention_mask[:, : section.end],
            position_ids[:, columns],
            cache,
            position_ids.amax(-1) + 1,
        )

    def fuse_tokens(self, receiver: list[KeyValue], aligned: Mapping[int, Aligned]) -> list[KeyValue]:
        """Fuse the Receiver's keys and values of some tokens; see `c2c.fusion.fuse.fuse_tokens`."""
        return fuse_tokens({sharer: self.stack(sharer) for sharer in aligned}, self.fusion, receiver, aligned)

    def fuse_section(self, cache: Cache, section: Section, aligned: Mapping[int, Aligned]) -> None:
        """Replace the Receiver's keys and values of one section by the fused ones.

        Args:
            cache: The Receiver's, up to the section's end; changed in place.
            section: Its columns and its Sharers.
            aligned: The cache of each Sharer at the prompt's tokens, at least up to the section's end.
        """
        # Without gradients layer by layer, so that no second cache is held, unless Fusers run together
        stacks = [self.stack(sharer) for sharer in section.sharers]
        learns = self.training or torch.is_grad_enabled()
        one_after_other = self.fusion == "sequential" or len(stacks) == 1
        if one_after_other and not learns and not any(stack.runs_grouped() for stack in stacks):
            self._fuse_layers(cache, section, {sharer: aligned[sharer].columns(section) for sharer in section.sharers})
            return
        layers = kv_cache.layers_of(cache)
        # The section's own states: (B, Ht, n, Dt) of each layer
        unfused = kv_cache.last_tokens(layers, section.end - section.start)
        fused = self.fuse_tokens(unfused, {sharer: aligned[sharer].columns(section) for sharer in section.sharers})
        for number, ((keys, values), new) in enumerate(zip(layers, fused, strict=True)):
            # A layer without a Fuser is returned as it was
            if new is not unfused[number]:
                earlier = (keys[:, :, : section.start], values[:, :, : section.start])
                kv_cache.set_layer(cache, number, join_tokens(earlier, new) if section.start else new)

    def _fuse_layers(self, cache: Cache, section: Section, aligned: Mapping[int, Aligned]) -> None:
        """Fuse a section with one Sharer after the other, layer by layer; `aligned` has the section's tokens alone."""
        place = self.receiver.device, kv_cache.layer_of(cache, 0)[0].dtype
        sources = {sharer: self.stack(sharer).source_layers(states.layers) for sharer, states in aligned.items()}
        for number in range(len(cache.layers)):
            readers = [sharer for sharer in aligned if self.stack(sharer).is_active(number)]
            if not readers:
                continue
            whole = kv_cache.layer_of(cache, number)
            (new,) = kv_cache.last_tokens([whole], section.end - section.start)
            for sharer in readers:
                stack = self.stack(sharer)
                keys, values = sources[sharer][stack.links[number].sharer_layer]
                new = stack.fuse_layer(number, (keys.to(*place), values.to(*place)), new, aligned[sharer].matched)
            earlier = (whole[0][:, :, : section.start], whole[1][:, :, : section.start])
            kv_cache.set_layer(cache, number, join_tokens(earlier, new) if section.start else new)

    def fuse_response(self, prompt: PromptCaches, sharers: Sequence[int]) -> ResponseFusion:
        """The state that fuses the tokens after a prompt, which `read_prompt` read with `keep_unfused`.

        Args:
            prompt: Caches of the prompt.
            sharers: Numbers of the Sharers that are fused into the response.
        """
        # Each Sharer continues from its cache of the prompt; a zeroed one does not run.
        assert prompt.cache is not None, "read_sections refuses a response without a prefix"
        readers = {
            sharer: SharerReader(
                None if prompt.inputs[sharer].zeroed else self.running(sharer),
                self.stack(sharer).sharer,
                prompt.inputs[sharer],
                prompt.sharers[sharer],
                own_tokens=prompt.own_tokens,
            )
            for sharer in sharers
        }
        return ResponseFusion(self.receiver, readers, self.fuse_tokens, prompt.unfused, prompt.cache)

    def _sections(self, kv_cache_index: Sequence[Tensor], input_ids: Tensor) -> list[Section]:
        return read_sections(kv_cache_index, input_ids, len(self.stacks), include_response=self.include_response)

    def _inputs(
        self,
        sections: Sequence[Section],
        input_ids: Tensor,
        attention_mask: Tensor,
        sharer_inputs: Sequence[SharerInput] | None,
        *,
        checked: bool = False,
    ) -> dict[int, SharerInput]:
        """The input of each selected Sharer; it is checked, unless it was before."""
        selected = sorted({sharer for section in sections for sharer in section.sharers})
        # The tokens of a fused response come later; the Sharer has to have read the whole prefix before them.
        end = max((min(section.end, sections[-1].start) for section in sections if section.sharers), default=0)
        prefix = attention_mask[:, :end]
        if sharer_inputs is None:
            # The Receiver's own tokens, one for one
            token_map = torch.arange(end, device=input_ids.device).expand(len(input_ids), -1)  # (B, end)
            inputs = dict.fromkeys(selected, SharerInput(input_ids[:, :end], prefix, token_map, is_whole=True))
        elif isinstance(sharer_inputs, SharerInput) or len(sharer_inputs) != len(self.stacks):
            raise RefusedError(
                f"sharer_inputs must be a list with an input for each of the {len(self.stacks)} Sharers",
                "one SharerInput" if isinstance(sharer_inputs, SharerInput) else f"{len(sharer_inputs)} inputs",
                "Pass one SharerInput a Sharer, in their order",
            )
        else:
            inputs = {sharer: sharer_inputs[sharer] for sharer in selected}
            check_inputs(inputs)
        configs = [sharer.config for sharer in self.sharers]
        shapes = [self.stack(number).sharer for number in range(len(self.stacks))]
        if not checked:
            check_readings(selected, inputs, configs, shapes, prefix, own_tokens=sharer_inputs is None)
        # A cache of another model than the Sharer of the contract is refused, or its differences are noted
        for sharer, sharer_input in inputs.items():
            if self.contracts and sharer_input.layers is not None and sharer_input.sharer is not None:
                check = check_cache(self.contracts, sharer, dict(sharer_input.sharer), self.override)
                self.contract_check = check if self.contract_check is None else self.contract_check.merged(check)
        return inputs

    def _check_response(
        self,
        last: Section,
        inputs: Mapping[int, SharerInput],
        attention_mask: Tensor,
        position_ids: Tensor | None,
        new_tokens: int,
    ) -> None:
        """Refuse a response that is to be fused if one of its Sharers cannot read what the Receiver may write.

        Args:
            last: Its section.
            inputs: What each Sharer reads before it.
            attention_mask: ``(B, N)`` of the Receiver.
            position_ids: ``(B, N)`` of the Receiver, where the Sharers read at those; None if they count their own.
            new_tokens: How many tokens may come after the prompt.
        """
        vocabulary = self.receiver.config.get_text_config().vocab_size
        opening = attention_mask[:, last.start : last.end].sum(-1)
        for sharer in last.sharers:
            if inputs[sharer].zeroed:
                continue
            config = self.running(sharer).config
            # Room: tokens that the Sharer has read before the response, and after the prompt
            if position_ids is None:
                # A Sharer with tokens of its own counts those; others have the Receiver's positions.
                before = inputs[sharer].attention_mask.sum(-1).to(attention_mask.device)
                length = int((before + opening).max())
            else:
                before = position_ids[:, : last.start].amax(-1) + 1
                length = int(position_ids.max()) + 1
            check_rotations(f"Sharer {sharer + 1}", config, before, before + opening + max(new_tokens - 1, 0))
            check_room(f"Sharer {sharer + 1}", length + new_tokens, config, "with the response ")
            # Vocabulary
            sharer_vocabulary = config.get_text_config().vocab_size
            if inputs[sharer].reencode is None and sharer_vocabulary < vocabulary:
                raise RefusedError(
                    f"Sharer {sharer + 1} must know all {vocabulary} tokens that the Receiver may write",
                    f"{sharer_vocabulary} tokens",
                    "Align the tokens: give a SharerInput with reencode (TokenAligner.reencode)",
                )

    def _check_generation(
        self,
        sections: Sequence[Section],
        input_ids: Tensor,
        mask: Tensor,
        new_tokens: int,
        cache: str,
        compiles: bool,
    ) -> None:
        """Refuse a prompt that cannot be continued, for its form of cache, its pads or its length."""
        kv_cache.check_form(cache, self.receiver.config)
        if sections[-1].sharers and cache != "dynamic":
            raise RefusedError(
                "A response that is fused must have a dynamic cache",
                cache,
                'Pass cache="dynamic", or fuse the prompt alone',
            )
        if compiles:
            check_compilable(self.receiver)
            if sections[-1].sharers or cache != "dynamic":
                raise RefusedError(
                    "Compiled steps must follow a prompt that is fused without its response, from a dynamic cache",
                    "a fused response" if sections[-1].sharers else cache,
                    'Pass compile=False, or cache="dynamic" and fuse the prompt alone',
                )
        # Pads
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
        # Length
        room = getattr(self.receiver.config.get_text_config(), "max_position_embeddings", None)
        needed = int(mask.sum(-1).max()) + new_tokens
        if room and needed > room:
            raise NoRoomError(
                f"Prompt and answer must fit into the Receiver's {room} positions",
                needed,
                "Shorten the prompt, or lower max_new_tokens",
            )


def _check_models(models: Any) -> None:
    """Refuse models that are no Receiver and its Sharers."""
    if not isinstance(models, Sequence):
        raise RefusedError(
            "The models of a RosettaModel must be a list", type(models).__name__, "Pass [receiver, sharer, ...]"
        )
    if not models or not _is_model(models[0]):
        kinds = [type(model).__name__ for model in models]
        raise RefusedError(
            "The first model of a RosettaModel must be a Receiver", kinds, "Pass [receiver, sharer, ...]"
        )
    if odd := [model for model in models if not (_is_model(model) or isinstance(model, PreTrainedConfig))]:
        raise RefusedError(
            "The models of a RosettaModel must be loaded",
            odd,
            "Load them first, or use from_pretrained with their names",
        )


def _is_model(model: object) -> bool:
    """Whether it is a module with a config; a wrapper, such as an adapter, is no PreTrainedModel."""
    return isinstance(model, nn.Module) and isinstance(getattr(model, "config", None), PreTrainedConfig)


def _check_weights(name: str, model: PreTrainedModel) -> None:
    if model.device.type == "meta":
        raise RefusedError(
            f"{name} must have weights to read with", "a model on the device meta", "Load it with from_pretrained"
        )


def _check_finite(stack: FuserStack, number: int) -> None:
    wrong = [
        name for name, parameter in stack.named_parameters() if not parameter.is_meta and not parameter.isfinite().all()
    ]
    if wrong:
        raise RefusedError(
            f"The weights of Sharer {number}'s Fusers must be finite",
            f"NaN or infinity in {wrong[0]}",
            "Load them from a checkpoint again, or train them with a lower learning rate",
        )
