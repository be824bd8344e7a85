"""Hidden states between two layers of a model: read, changed, and the Receiver's prompts read anew with a change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from c2c.alignment.tokens import left_pad
from c2c.cache import kv_cache
from c2c.cache.rows import masks_in_tokens, rotations_of_positions, splits_windows
from c2c.errors import RefusedError
from c2c.evaluation.readers.prompt_memory import SHARED_TOKENS, common_start
from c2c.testbed.channel import Prompt
from c2c.testbed.models import ROWS, SHARED_ROWS, Prefixes, Receiver, StateReader


def layer_at(reader: StateReader, share: float) -> int:
    """Number of the layer before which a share of a model's layers has been computed.

    Raises:
        RefusedError: If no layer follows.
    """
    number = round(share * reader.shape.layers)
    if not 0 <= number < reader.shape.layers:
        raise RefusedError("A layer of hidden states must be a share from 0 to below 1", share, "Choose 0.5")
    return number


def hidden_size(reader: StateReader) -> int:
    """Numbers of a hidden state."""
    return int(reader.model.config.get_text_config().hidden_size)


@contextmanager
def hook_layer(model: nn.Module, number: int, transform: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside, a layer of the model reads `transform` of the hidden states ``(B, n, hidden)``."""

    def change_input(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, Any]:
        if arguments:
            return (transform(arguments[0]), *arguments[1:]), keywords
        return arguments, keywords | {"hidden_states": transform(keywords["hidden_states"])}

    body: Any = model.base_model
    handle = body.layers[number].register_forward_pre_hook(change_input, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class LayerReachedError(Exception):
    """Ends a forward pass before a layer: what comes after it is not wanted."""


@torch.no_grad()
def read_hidden(reader: StateReader, rows: Sequence[Sequence[int]], layer: int) -> list[Tensor]:
    """Hidden states before a layer, ``(N, hidden)`` float32 for each row of N token ids; zeros of a silent reader.

    The layers from there on are not run, and a beginning that many rows share is read once.
    """
    if reader.silent:
        return [torch.zeros(len(row), hidden_size(reader), device=reader.device) for row in rows]
    # 1. Rows with one beginning together, the others by length.
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(tuple(row[:SHARED_TOKENS]), []).append(number)
    alone = [number for group in groups.values() if len(group) < SHARED_ROWS for number in group]
    lists = [group for group in groups.values() if len(group) >= SHARED_ROWS]
    states: dict[int, Tensor] = {}
    for group in (*lists, alone):
        numbers = sorted(group, key=lambda number: len(rows[number]))
        for start in range(0, len(numbers), ROWS):
            batch = numbers[start : start + ROWS]
            # 2. The beginning of all rows of the batch, then the rest of each.
            shared = common_start([rows[number] for number in batch]) if len(batch) >= SHARED_ROWS and layer else 0
            head = rows[batch[0]][:shared]
            before, cache = _run_to(reader, [head], layer) if shared else (None, None)
            after, _ = _run_to(reader, [rows[number][shared:] for number in batch], layer, cache)
            for place, number in enumerate(batch):
                own = after[place, : len(rows[number]) - shared]
                states[number] = (own if before is None else torch.cat((before[0], own))).float()
    return [states[number] for number in range(len(rows))]


def _run_to(
    reader: StateReader, rows: Sequence[Sequence[int]], layer: int, cache: Cache | None = None
) -> tuple[Tensor, Cache]:
    """Hidden states ``(B, n, hidden)`` of right-padded rows before a layer, and the cache of the layers below it.

    Args:
        reader: Reads.
        rows: B rows of token ids.
        layer: Its number.
        cache: Of one row, which all rows continue.
    """
    model, device, width = reader.model, reader.device, max(map(len, rows))
    past = 0
    if cache is not None:
        past, repeats = cache.get_seq_length(), torch.zeros(len(rows), dtype=torch.long, device=device)
        layers = [kv_cache.layer_of(cache, number) for number in range(layer)]
        cache = kv_cache.cache_of_layers([(keys[repeats], values[repeats]) for keys, values in layers], model.config)
    else:
        cache = kv_cache.empty_cache(model.config)
    ids = torch.tensor([[*row, *[reader.loaded.pad] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * (past + len(row)) + [0] * (width - len(row)) for row in rows], device=device)
    positions = torch.arange(past, past + width, device=device)[None].expand(len(rows), -1)
    states: list[Tensor] = []

    def stop(hidden_states: Tensor) -> Tensor:
        states.append(hidden_states)
        raise LayerReachedError

    with hook_layer(model, layer, stop), suppress(LayerReachedError):
        kv_cache.prefill(model, ids, mask, positions, cache)
    return states[0], cache


def read_prompts(
    receiver: Receiver, prompts: Sequence[Prompt], *, soft_tokens: Tensor | None = None, front: int = 0
) -> Prefixes:
    """Prefixes of prompts that are read now, not looked up: with hooks, and gradients where they are recorded.

    Args:
        receiver: Reads them.
        prompts: B of them.
        soft_tokens: Soft tokens ``(B, k, hidden)`` that each row reads after its first `front` tokens.
        front: Special tokens at the beginning of each prompt.
    """
    ids, mask = left_pad([list(prompt.tokens[:-1]) for prompt in prompts], receiver.loaded.pad)
    ids, mask, model = ids.to(receiver.device), mask.to(receiver.device), receiver.model
    starts = mask.shape[1] - mask.sum(-1)
    embeddings: Any = model.get_input_embeddings()
    # (B, N) -> (B, N, hidden)
    inputs = embeddings(ids)
    if soft_tokens is not None:
        # Each row: pads, special tokens, soft tokens, the others: (B, N + k, hidden)
        cuts = (starts + front).tolist()
        rows = [torch.cat((row[:cut], own, row[cut:])) for row, own, cut in zip(inputs, soft_tokens, cuts, strict=True)]
        inputs = torch.stack(rows)
        mask = (torch.arange(inputs.shape[1], device=mask.device)[None] >= starts[:, None]).long()
    positions, cache = kv_cache.positions_of(mask), kv_cache.empty_cache(model.config)
    masks: Any = mask
    if splits_windows(model, mask, mask.shape[1]):
        masks = masks_in_tokens(model, mask, mask.shape[1], cache)
    with rotations_of_positions(model, positions):
        model.base_model(
            inputs_embeds=inputs, attention_mask=masks, position_ids=positions, cache=cache, use_cache=True
        )
    last = torch.tensor([[prompt.tokens[-1]] for prompt in prompts], device=receiver.device)
    return Prefixes(kv_cache.layers_of(cache), mask, last, starts)
