"""Gates and dynamic weights of a trained FuserStack, by Receiver layer (paper App. A.4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor
from transformers import Cache

from c2c.cache import kv_cache
from c2c.fusion.fuse import Aligned, align
from c2c.fusion.prompt import Section, read_sections
from c2c.rosetta import RosettaModel
from c2c.training.batches import Batch
from c2c.types import HALVES

COLUMNS = ("layer", "half", "gate_logit", "open", "weight_mean", "weight_low", "weight_high")


def gate_table(model: RosettaModel, batches: Sequence[Batch]) -> pd.DataFrame:
    """One row a Receiver layer and half, with its gate and its weights over the fused tokens of `batches`.

    Args:
        model: A Receiver with one Sharer.
        batches: Prompts to read; pads do not count.

    Returns:
        Columns COLUMNS: `open` is 0 or 1; the weights' mean and 5 % and 95 % quantiles over tokens and KV heads are
        empty in a variant without weights, the logit in one without gates.
    """
    stack = model.stack(0)
    # Weights of all batches, by layer and half
    weights: dict[tuple[int, str], list[Tensor]] = {}
    for batch in batches:
        for key, part in _weights(model, batch).items():
            weights.setdefault(key, []).append(part)
    # A row for each gate
    rows = []
    for layer, half, logit in stack.gate_logits():
        numbers = torch.cat(weights[layer, half]) if (layer, half) in weights else None
        rows.append(
            {
                "layer": layer,
                "half": half,
                "gate_logit": None if logit is None else float(logit.detach()),
                "open": int(stack.is_open(layer, half)),
                "weight_mean": None if numbers is None else float(numbers.mean()),
                "weight_low": None if numbers is None else float(numbers.quantile(0.05)),
                "weight_high": None if numbers is None else float(numbers.quantile(0.95)),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


@torch.no_grad()
def _weights(model: RosettaModel, batch: Batch) -> dict[tuple[int, str], Tensor]:
    """Weights of unpadded, matched tokens of the fused sections, flat, for each layer and half of a weighted stack."""
    device = model.receiver.device
    ids, mask, sharer_input = batch.input_ids.to(device), batch.attention_mask.to(device), batch.sharer_input.to(device)
    reading = align(model.read_sharer(0, sharer_input), sharer_input.token_map)
    parts: dict[tuple[int, str], list[Tensor]] = {}
    sections = read_sections(batch.kv_cache_index, ids, 1)
    cache = model.cache_of_prefix(batch.prefix, sections, len(ids))
    for section in sections[:-1]:
        # As `RosettaModel.read_prompt` does it, with a look at the weights before each section is fused
        cache = model.read_receiver(ids, mask, kv_cache.positions_of(mask), cache, section)
        if section.sharers:
            for key, weights in _section_weights(model, cache, section, reading, mask).items():
                parts.setdefault(key, []).append(weights)
            model.fuse_section(cache, section, {0: reading})
    return {key: torch.cat(tensors) for key, tensors in parts.items()}


def _section_weights(
    model: RosettaModel, cache: Cache, section: Section, reading: Aligned, mask: Tensor
) -> dict[tuple[int, str], Tensor]:
    stack, columns = model.stack(0), reading.columns(section)
    receiver = kv_cache.last_tokens(kv_cache.layers_of(cache), section.end - section.start)
    token_mask = mask[:, section.start : section.end] > 0
    if columns.matched is not None:
        token_mask = token_mask & columns.matched.to(mask.device)
    weights: dict[tuple[int, str], Tensor] = {}
    sharer = stack.source_layers(columns.layers)
    for layer, link in stack.links.items():
        fuser = stack.fuser_of(layer)
        if fuser.weighted:
            # Keys and values: (B, Ht, N, 1) each
            half_weights = fuser.dynamic_weights(sharer[link.sharer_layer], receiver[layer])
            for half, weight in zip(HALVES, half_weights, strict=True):
                # (B, H, N, 1) -> (B, N, H), of which counted tokens: (K * H,)
                weights[layer, half] = weight.squeeze(-1).transpose(1, 2)[token_mask].flatten()
    return weights
