"""Decoding by compiled steps: one token a row over a cache of fixed size.

The step of a model is compiled once for each shape: rows rounded up to a power of two, columns to one of `columns_for`.
On a GPU it is recorded as a CUDA graph (``reduce-overhead``), so that a step costs one launch instead of hundreds. Only
the steps after a prompt are compiled: a prompt is read, and fused, as always, and its cache is copied.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from c2c.cache import kv_cache
from c2c.cache.rows import PATTERNS, Reach, takes_masks
from c2c.cache.shape import cache_shape
from c2c.errors import RefusedError

BACKEND = "inductor"
"""Of ``torch.compile``."""
MOST_SHAPES = 256
"""Shapes that the steps of one model may be compiled for; one more is an error of torch."""
FEWEST_COLUMNS = 256
"""Columns of the smallest cache."""


class FixedBatch:
    """A batch whose tokens are read by compiled steps.

    Args:
        step: `_read_token`, compiled.
        cache: Of fixed size, for R rows of C columns.
    """

    def __init__(self, step: Callable[..., Tensor], cache: Cache) -> None:
        self.step, self.cache = step, cache
        slot: Any = cache.layers[0]
        buffer = slot.keys
        self.places = torch.zeros((buffer.shape[0], buffer.shape[2]), dtype=torch.long, device=buffer.device)
        torch._dynamo.mark_static_address(self.places)

    def begin(self, layers: Sequence[kv_cache.KeyValue], attention_mask: Tensor) -> None:
        """Hold the first tokens of B rows.

        Args:
            layers: Keys and values, ``(B, H, n, D)`` each.
            attention_mask: ``(B, N)`` with N > n; columns after N are tokens.
        """
        rows, columns = attention_mask.shape
        kv_cache.fill_fixed(self.cache, layers)
        # (B, N) -> (R, C): rows of no text repeat the last one
        tokens = torch.ones_like(self.places)
        tokens[:rows, :columns] = attention_mask
        tokens[rows:, :columns] = attention_mask[-1:]
        self.places.copy_(tokens.cumsum(-1) * tokens)

    @torch.no_grad()
    def logits(self, model: PreTrainedModel, ids: Tensor) -> Tensor:
        """Read the next token of each row.

        Args:
            model: The model that the batch was begun for.
            ids: ``(B, 1)`` int64.

        Returns:
            ``(B, V)``.
        """
        rows, spare = len(ids), len(self.places) - len(ids)
        # (B, 1) -> (R, 1)
        ids = torch.cat([ids, ids[-1:].expand(spare, -1)]) if spare else ids.contiguous()
        if not ids.is_cuda:
            return self.step(model, ids, self.cache, self.places, Reach.of(model.config))[:rows]
        torch.compiler.cudagraph_mark_step_begin()
        # The next replay of the graph writes over its results.
        return self.step(model, ids, self.cache, self.places, Reach.of(model.config))[:rows].clone()

    @contextmanager
    def as_forward(self, model: PreTrainedModel) -> Iterator[None]:
        """Inside, each forward pass of the model is a step of this batch, as in ``generate`` of transformers."""

        # `generate` reads the arguments' names.
        @functools.wraps(model.forward)
        def forward(input_ids: Tensor, **_: Any) -> CausalLMOutputWithPast:
            # (B, V) -> (B, 1, V)
            return CausalLMOutputWithPast(logits=self.logits(model, input_ids)[:, None], cache=self.cache)

        instance: Any = model
        instance.forward = forward
        try:
            yield
        finally:
            del instance.forward


def _read_token(model: PreTrainedModel, ids: Tensor, cache: Cache, places: Tensor, reach: Reach) -> Tensor:
    """One step: logits ``(R, V)`` after the tokens `ids` ``(R, 1)``, which are added to the cache."""
    slot: Any = cache.layers[0]
    column = slot.cumulative_length
    masks, positions = reach.masks_at(places, column), places.index_select(1, column.view(1)) - 1
    # The class's own forward: `as_forward` replaces the instance's.
    output = type(model).forward(
        model, input_ids=ids, attention_mask=masks, position_ids=positions, cache=cache, use_cache=True
    )
    logits: Tensor = output.logits
    return logits[:, -1]


class StepCompiler:
    """The compiled step of one model.

    Args:
        device: Of the model.

    Attributes:
        idle: The batch that ended last, by its shape, whose cache the next one of that shape takes: at the same
            address, for which a graph of a GPU need not be recorded again.
    """

    def __init__(self, device: torch.device) -> None:
        self.idle: dict[tuple[int, int], FixedBatch] = {}
        # torch annotates the overloads of `compile` without these two.
        limits: dict[str, Any] = {"recompile_limit": MOST_SHAPES, "isolate_recompiles": True}
        # Shapes are constant: a graph of a GPU replays the same work at the same addresses.
        mode = "reduce-overhead" if device.type == "cuda" else None
        self.step: Callable[..., Tensor] = torch.compile(
            _read_token, fullgraph=True, dynamic=False, backend=BACKEND, mode=mode, **limits
        )

    @contextmanager
    def batch(self, layers: Sequence[kv_cache.KeyValue], attention_mask: Tensor, columns: int) -> Iterator[FixedBatch]:
        """Inside, a batch that has begun with `layers`, and has room for `columns` columns."""
        shape = rows_for(len(attention_mask)), columns_for(columns)
        # Taken out: a batch that begins before this one ends gets a cache of its own.
        batch = self.idle.pop(shape, None)
        # A cache of another shape is let go before this one is made.
        self.idle = {}
        if batch is None:
            batch = FixedBatch(self.step, kv_cache.fixed_cache(layers, *shape))
        batch.begin(layers, attention_mask)
        try:
            yield batch
        finally:
            self.idle = {shape: batch}


def rows_for(rows: int) -> int:
    """Rows of the cache for a batch: the next power of two."""
    return 1 << (rows - 1).bit_length()


def columns_for(columns: int) -> int:
    """Columns of the cache for a text: 256, 384, 512, 768, 1024, 1536, …: at most half as many again as it needs."""
    size = FEWEST_COLUMNS
    while size < columns:
        size = size * 3 // 2 if size * 3 // 2 >= columns else size * 2
    return size


_compilers: WeakKeyDictionary[PreTrainedModel, StepCompiler] = WeakKeyDictionary()
_compiled_models: WeakKeyDictionary[PreTrainedModel, int] = WeakKeyDictionary()


def decodes_compiled(model: PreTrainedModel) -> bool:
    """Whether the model is in a `compiled_decoding`."""
    return model in _compiled_models


@contextmanager
def compiled_decoding(models: Sequence[PreTrainedModel]) -> Iterator[None]:
    """Inside, these models write by compiled steps, in `continue_text` and in the answers of an evaluation.

    Raises:
        RefusedError: As `check_compilable`, before anything is compiled.
    """
    for model in models:
        check_compilable(model)
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(_marked(model))
        yield


@contextmanager
def _marked(model: PreTrainedModel) -> Iterator[None]:
    _compiled_models[model] = _compiled_models.get(model, 0) + 1
    try:
        yield
    finally:
        _compiled_models[model] -= 1
        if not _compiled_models[model]:
            del _compiled_models[model]


@contextmanager
def begin_batch(
    model: PreTrainedModel, cache: Cache, input_ids: Tensor, attention_mask: Tensor, new_tokens: int
) -> Iterator[FixedBatch]:
    """Inside, a batch of fixed size holds all columns of the prompts but the last.

    Args:
        model: A causal model.
        cache: Keys and values of the first columns; what it lacks of all but the last is read into it.
        input_ids: ``(B, N)`` int64.
        attention_mask: ``(B, N)``, 1 for tokens and 0 for pads.
        new_tokens: How many tokens are written at most.
    """
    past, end = cache.get_seq_length(), input_ids.shape[1] - 1
    if past < end:
        positions = kv_cache.positions_of(attention_mask)[:, past:end]
        kv_cache.prefill(model, input_ids[:, past:end], attention_mask[:, :end], positions, cache)
    # A prompt of one token leaves the cache without tensors.
    like = next(model.parameters())
    layers = (
        kv_cache.layers_of(cache) if end else kv_cache.zero_layers(cache_shape(model.config), len(input_ids), 0, like)
    )
    if model not in _compilers:
        _compilers[model] = StepCompiler(model.device)
    with _compilers[model].batch(layers, attention_mask, input_ids.shape[1] + new_tokens) as batch:
        yield batch


def check_compilable(model: PreTrainedModel) -> None:
    """Refuse a model whose steps cannot be compiled with the same results.

    Raises:
        RefusedError: If its attention takes no masks, a layer is of an unknown kind, its rotary positions change with
            the length of a text, its code depends on values, it is on several devices, or there is no compiler.
    """
    config, device = model.config.get_text_config(), model.device
    remedy = "Decode without compiled steps"
    # 1. What a step needs of the model
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [parameters, *(part for part in parameters.values() if isinstance(part, dict))]
    changing = {str(kind.get("rope_type")) for kind in kinds} & {"dynamic", "longrope"}
    layers = set(getattr(config, "layer_types", None) or ()) - PATTERNS
    for fault, rule, received in (
        (
            not takes_masks(model),
            "take positions and masks, in the form of sdpa",
            f"attention {config._attn_implementation}",
        ),
        (layers, "have layers with full, sliding or chunked attention alone", sorted(layers)),
        (changing, "have rotary positions that do not change with the length of a text", sorted(changing)),
        (
            getattr(config, "attn_temperature_tuning", False),
            "scale no queries by their columns",
            "attn_temperature_tuning",
        ),
        (not getattr(model, "_can_compile_fullgraph", False), "run without branches on values", "one that has them"),
        (len({parameter.device for parameter in model.parameters()}) > 1, "be on one device", "several devices"),
    ):
        if fault:
            name = config.model_type
            raise RefusedError(f"A model whose steps are compiled must {rule}", f"{name}: {received}", remedy)
    # 2. What torch needs on this machine
    if BACKEND == "inductor" and not _has_compiler(device):
        rule = f"torch.compile on a {device.type} must have {'triton' if device.type == 'cuda' else 'a C++ compiler'}"
        raise RefusedError(rule, "none", f"Install it, or: {remedy.lower()}")


def _has_compiler(device: torch.device) -> bool:
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return bool(has_triton())
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return bool(get_cpp_compiler())
    except InvalidCxxCompiler:
        return False
