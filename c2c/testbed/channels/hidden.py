"""Hidden states between two layers of a model: read, changed, and the Receiver's prompts read anew with a change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from c2c.alignment.tokens import left_pad
from c2c.cache import kv_cache
from c2c.cache.rows import masks_in_tokens, rotations_of_positions, splits_windows
from c2c.errors import RefusedError
from c2c.testbed.channel import Prompt
from c2c.testbed.models import ROWS, Prefixes, Reader, Receiver


def layer_at(reader: Reader, share: float) -> int:
    """Number of the layer before which a share of a model's layers has been computed.

    Raises:
        RefusedError: If no layer follows.
    """
    number = round(share * reader.shape.layers)
    if not 0 <= number < reader.shape.layers:
        raise RefusedError("A layer of hidden states must be a share from 0 to below 1", share, "Choose 0.5")
    return number


def hidden_size(reader: Reader) -> int:
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


@torch.no_grad()
def read_hidden(reader: Reader, rows: Sequence[Sequence[int]], layer: int) -> list[Tensor]:
    """Hidden states before a layer, ``(N, hidden)`` float32 for each row of N token ids; zeros of a silent reader."""
    if reader.silent:
        return [torch.zeros(len(row), hidden_size(reader), device=reader.device) for row in rows]
    states: dict[int, Tensor] = {}
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    for start in range(0, len(order), ROWS):
        numbers = order[start : start + ROWS]
        ids, mask = left_pad([list(rows[number]) for number in numbers], reader.loaded.pad)
        batch: list[Tensor] = []

        def keep(hidden_states: Tensor, batch: list[Tensor] = batch) -> Tensor:
            batch.append(hidden_states)
            return hidden_states

        ids, mask = ids.to(reader.device), mask.to(reader.device)
        with hook_layer(reader.model, layer, keep):
            kv_cache.prefill(reader.model, ids, mask, kv_cache.positions_of(mask))
        states |= {number: batch[0][row, -len(rows[number]) :].float() for row, number in enumerate(numbers)}
    return [states[number] for number in range(len(rows))]


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
