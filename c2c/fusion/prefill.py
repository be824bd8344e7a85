"""Read a prompt with several models and fuse their caches (paper §3.2; reference spec §2.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedConfig, PreTrainedModel

from c2c.alignment.tokens import SharerInput
from c2c.cache import kv_cache, rope
from c2c.cache.shape import cache_shape
from c2c.errors import RefusedError, check_choice
from c2c.fuser.stack import FuserStack
from c2c.fusion.checks import check_inputs, check_prompt, check_readings, check_room
from c2c.fusion.fuse import Aligned, align, fuse_tokens, join_tokens
from c2c.fusion.sections import Section
from c2c.models.contract import Contract, ContractCheck, check_cache
from c2c.types import FUSIONS, KeyValue


class AbsentSharer(nn.Module):
    """A Sharer that runs elsewhere: its config is known here, its cache is given (`SharerInput.layers`)."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config = config


def _is_model(given: object) -> bool:
    """Whether it is a module with a config; wrappers such as adapters are no PreTrainedModel."""
    return isinstance(given, nn.Module) and isinstance(getattr(given, "config", None), PreTrainedConfig)


def _check_weights(name: str, model: PreTrainedModel) -> None:
    if model.device.type == "meta":
        raise RefusedError(
            f"{name} must have weights to read with", "a model on the device meta", "Load it with from_pretrained"
        )


class ReadPrompt(NamedTuple):
    """What the models hold of a prompt's sections but the last.

    Args:
        cache: The Receiver's fused cache, or None if there is only one section.
        unfused: T layers ``(B, Ht, n, Dt)`` of the Receiver without any fusion; empty unless asked for.
        inputs: What each selected Sharer was given, by its number.
        readings: What each selected Sharer's cache holds: S layers ``(B, Hs, M, Ds)``.
        own_tokens: The Sharers read the Receiver's tokens, at its positions.
    """

    cache: Cache | None
    unfused: list[KeyValue]
    inputs: dict[int, SharerInput]
    readings: dict[int, list[KeyValue]]
    own_tokens: bool


class FusedPrefill(nn.Module):
    """The Receiver's cache of a prompt, fused with what the Sharers read.

    Args:
        model_list: The Receiver first, then the Sharers: causal models whose caches are keys and values. A Sharer that
            runs in another process is named by its config; its cache comes with `SharerInput.layers`. Each model may be
            on a device of its own; Fusers are on the Receiver's.
        fusion: With several Sharers: ``sequential`` (each fuses what the one before left) or ``parallel`` (each reads
            the Receiver's own cache; their changes are added up).

    Attributes:
        contracts: Of each Sharer's Fusers what they were saved for; empty unless they were loaded. A cache that is
            given in place of a Sharer is compared with it.
        override: Lines of the contracts that may differ, by name; those that loading was told.
        contract_check: Differences from the contracts that were accepted or noted; None if there is no contract.

    Raises:
        RefusedError: If there is no model, the fusion is unknown, or a model's cache is not keys and values.
    """

    def __init__(self, model_list: Sequence[PreTrainedModel | PreTrainedConfig], *, fusion: str = "sequential") -> None:
        super().__init__()
        if not isinstance(model_list, Sequence):
            raise RefusedError(
                "The models of a RosettaModel must be a list", type(model_list).__name__, "Pass [receiver, sharer, ...]"
            )
        if not model_list or not _is_model(model_list[0]):
            given = [type(each).__name__ for each in model_list]
            raise RefusedError(
                "The first model of a RosettaModel must be a Receiver", given, "Pass [receiver, sharer, ...]"
            )
        if odd := [each for each in model_list if not (_is_model(each) or isinstance(each, PreTrainedConfig))]:
            raise RefusedError(
                "The models of a RosettaModel must be loaded",
                odd,
                "Load them first, or use from_pretrained with their names",
            )
        self.fusion = check_choice("The fusion of several Sharers", fusion, FUSIONS)
        models = [AbsentSharer(each) if isinstance(each, PreTrainedConfig) else each for each in model_list]
        shapes = [cache_shape(model.config) for model in models]
        self.contracts: Sequence[Contract] = ()
        self.override: Sequence[str] = ()
        self.contract_check: ContractCheck | None = None
        self.model_list = nn.ModuleList(models)
        self.stacks = nn.ModuleList(FuserStack(shape, shapes[0]) for shape in shapes[1:])
        self.eval()
        self.model_list.requires_grad_(False)

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
        before = [(stack.active_layers, [fuser.gate_override for fuser in stack.all_fusers()]) for stack in stacks]
        try:
            for stack in stacks:
                stack.only_layers(layers)
                stack.force_gates(forced[gates])
            yield self
        finally:
            for stack, (active, overrides) in zip(stacks, before, strict=True):
                stack.active_layers = active
                for fuser, override in zip(stack.all_fusers(), overrides, strict=False):
                    fuser.gate_override = override

    def read_sharer(self, sharer: int, given: SharerInput, position_ids: Tensor | None = None) -> list[KeyValue]:
        """Run one Sharer over what it is given, without gradients, or take the cache that is given for it.

        Args:
            sharer: Its number, from 0.
            given: What it reads; a zeroed input, or one with `layers`, does not run the Sharer.
            position_ids: ``(B, M)`` int64; counted from the mask if None.

        Returns:
            S layers of keys and values ``(B, Hs, M, Ds)``, on the Sharer's device.

        Raises:
            RefusedError: If the Sharer runs elsewhere and no cache is given.
        """
        if given.zeroed:
            batch, tokens = given.input_ids.shape
            return kv_cache.zeros(self.stack(sharer).sharer, batch, tokens, next(self.receiver.parameters()))
        if given.layers is not None:
            return list(given.layers)
        model = self.running(sharer)
        given = given.to(model.device)
        positions = kv_cache.positions_of(given.attention_mask) if position_ids is None else position_ids
        with torch.no_grad():
            cache = kv_cache.prefill(model, given.input_ids, given.attention_mask, positions.to(model.device))
        return kv_cache.layers_of(cache)

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
        """Let the Receiver read one section (arguments cover the whole prompt, ``(B, N)``), after `cache`."""
        columns = slice(section.start, section.end)
        return kv_cache.prefill(
            self.receiver,
            input_ids[:, columns],
            attention_mask[:, : section.end],
            position_ids[:, columns],
            cache,
            position_ids.amax(-1) + 1,
        )

    def fuse_tokens(self, own: list[KeyValue], theirs: Mapping[int, Aligned]) -> list[KeyValue]:
        """Fuse the Receiver's keys and values of some tokens; see `c2c.fusion.fuse.fuse_tokens`."""
        return fuse_tokens({sharer: self.stack(sharer) for sharer in theirs}, self.fusion, own, theirs)

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
    ) -> ReadPrompt:
        """Read and fuse all sections but the last one.

        A Sharer that no section selects does not run; one that is selected reads its whole input once, with its own
        cache un-fused, which equals reading it section by section. Without `sharer_inputs` each reads the Receiver's
        own tokens at the Receiver's positions.

        Args:
            sections: They tile the prompt; see `c2c.fusion.sections.read_sections`.
            input_ids: ``(B, N)`` int64.
            attention_mask: ``(B, N)``.
            position_ids: ``(B, N)`` int64.
            sharer_inputs: One a Sharer.
            keep_unfused: Also keep what the Receiver's cache holds without any fusion: the last section is to be fused.
            new_tokens: How many tokens at most the Receiver will write after the prompt.

        Raises:
            RefusedError: If what the models are to read does not fit the prompt or their vocabularies, or a Sharer of
                a fused response cannot read on.
        """
        _check_weights("The Receiver", self.receiver)
        check_prompt(input_ids, attention_mask, position_ids, self.receiver.config)
        if len(sections) > 1 and new_tokens:
            read = position_ids.amax(-1) + 1
            rope.check_growth("the Receiver", self.receiver.config, read, read + new_tokens - 1)
        given = self._inputs(sections, input_ids, attention_mask, sharer_inputs)
        if keep_unfused:
            self._check_response(
                sections[-1], given, attention_mask, None if sharer_inputs else position_ids, new_tokens
            )
        readings = {
            sharer: self.read_sharer(
                sharer, each, None if sharer_inputs else position_ids[:, : each.input_ids.shape[1]]
            )
            for sharer, each in given.items()
        }
        aligned = {sharer: align(readings[sharer], each.token_map) for sharer, each in given.items()}
        cache: Cache | None = None
        unfused: list[KeyValue] = []
        for section in sections[:-1]:
            cache = self.read_receiver(input_ids, attention_mask, position_ids, cache, section)
            if keep_unfused and section is sections[0]:
                unfused = kv_cache.layers_of(cache)
            if section.sharers:
                self.fuse_section(cache, section, aligned)
        if keep_unfused and len(sections) > 2:
            whole = Section(0, sections[-1].start, ())
            unfused = kv_cache.layers_of(self.read_receiver(input_ids, attention_mask, position_ids, None, whole))
        return ReadPrompt(cache, unfused, given, readings, own_tokens=sharer_inputs is None)

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

    def _inputs(
        self,
        sections: Sequence[Section],
        input_ids: Tensor,
        attention_mask: Tensor,
        sharer_inputs: Sequence[SharerInput] | None,
    ) -> dict[int, SharerInput]:
        """What each selected Sharer reads, checked."""
        selected = sorted({sharer for section in sections for sharer in section.sharers})
        # Of a fused response the tokens come later; the Sharer has to have read the whole prefix before.
        fused = max((min(section.end, sections[-1].start) for section in sections if section.sharers), default=0)
        if sharer_inputs is None:
            own = SharerInput.of_receiver(input_ids[:, :fused], attention_mask[:, :fused])
            given = dict.fromkeys(selected, own)
        elif isinstance(sharer_inputs, SharerInput) or len(sharer_inputs) != len(self.stacks):
            raise RefusedError(
                f"sharer_inputs must say what each of the {len(self.stacks)} Sharers reads",
                "one SharerInput" if isinstance(sharer_inputs, SharerInput) else f"{len(sharer_inputs)} inputs",
                "Pass one SharerInput a Sharer, in their order",
            )
        else:
            given = {sharer: sharer_inputs[sharer] for sharer in selected}
            check_inputs(given)
        configs = [sharer.config for sharer in self.sharers]
        shapes = [self.stack(number).sharer for number in range(len(self.stacks))]
        prefix = attention_mask[:, :fused]
        check_readings(selected, given, configs, shapes, prefix, own_tokens=sharer_inputs is None)
        self._check_caches(given)
        return given

    def _check_caches(self, given: Mapping[int, SharerInput]) -> None:
        """Refuse a cache of another model than the Sharer of the contract; what may differ is noted."""
        for sharer, each in given.items():
            if self.contracts and each.layers is not None and each.sharer is not None:
                check = check_cache(self.contracts, sharer, dict(each.sharer), self.override)
                self.contract_check = check if self.contract_check is None else self.contract_check.joined(check)

    def _check_response(
        self,
        last: Section,
        given: Mapping[int, SharerInput],
        attention_mask: Tensor,
        position_ids: Tensor | None,
        new_tokens: int,
    ) -> None:
        """Refuse a response that is to be fused if one of its Sharers cannot read what the Receiver may write.

        Args:
            last: Its section.
            given: What each Sharer reads before it.
            attention_mask: ``(B, N)`` of the Receiver.
            position_ids: ``(B, N)`` of the Receiver, where the Sharers read at those; None if they count their own.
            new_tokens: How many tokens may come after the prompt.
        """
        needed = self.receiver.config.get_text_config().vocab_size
        for sharer in last.sharers:
            if given[sharer].zeroed:
                continue
            config = self.running(sharer).config
            if position_ids is None:
                before = given[sharer].attention_mask.sum(-1).to(attention_mask.device)
                read = int((before + attention_mask[:, last.start : last.end].sum(-1)).max())
            else:
                before = position_ids[:, : last.start].amax(-1) + 1
                read = int(position_ids.max()) + 1
            response = attention_mask[:, last.start : last.end].sum(-1) + max(new_tokens - 1, 0)
            rope.check_growth(f"Sharer {sharer + 1}", config, before, before + response)
            check_room(f"Sharer {sharer + 1}", read + new_tokens, config, "with the response ")
            own = config.get_text_config().vocab_size
            if given[sharer].reencode is None and own < needed:
                raise RefusedError(
                    f"Sharer {sharer + 1} must know all {needed} tokens that the Receiver may write",
                    f"{own} tokens",
                    "Align the tokens: give a SharerInput with reencode (TokenAligner.reencode)",
                )

    def fuse_section(self, cache: Cache, section: Section, aligned: Mapping[int, Aligned]) -> None:
        """Replace the Receiver's keys and values of one section by the fused ones.

        Args:
            cache: The Receiver's, up to the section's end; changed in place.
            section: Its columns and its Sharers.
            aligned: For each Sharer what it holds for the prompt's tokens, at least up to the section's end.
        """
        before = kv_cache.layers_of(cache)
        own = kv_cache.last_tokens(before, section.end - section.start)
        theirs = {sharer: aligned[sharer].columns(section) for sharer in section.sharers}
        for number, (earlier, new) in enumerate(zip(before, self.fuse_tokens(own, theirs), strict=True)):
            if new is not own[number]:
                kept = (earlier[0][:, :, : section.start], earlier[1][:, :, : section.start])
                kv_cache.set_layer(cache, number, join_tokens(kept, new) if section.start else new)
