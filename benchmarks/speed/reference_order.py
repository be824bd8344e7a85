"""The order of work of the reference implementation, written from its documented behaviour, to be timed beside ours.

See ``docs/reference-behaviour.md``, "Prefill and sections", "Generation" and "Training". The results are the same; only
what is computed, and in which order, differs: heads and losses over the whole prompt, one Fuser after another with
copies of their inputs, one question at a time, and anomaly detection in training.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache

from c2c.rosetta import RosettaModel
from c2c.training.batches import Batch
from c2c.types import IGNORED


def _copy(cache: DynamicCache, model: RosettaModel, number: int) -> DynamicCache:
    """A copy of a cache, as the reference makes one of each model's after a section."""
    copy = DynamicCache(config=model.model_list[number].config)
    for layer, states in enumerate(cache.layers):
        copy.update(states.keys.clone(), states.values.clone(), layer)
    return copy


def read_prefix(model: RosettaModel, batch: Batch, *, with_loss: bool) -> DynamicCache:
    """The Receiver's fused cache of all columns but the last section's.

    Args:
        model: One Receiver, one Sharer and their Fusers.
        batch: Two sections, of which the first is fused.
        with_loss: As in training: the loss over the prompt's labels is computed too, though all of them are ignored.
    """
    start = batch.kv_cache_index[0].shape[1]
    ids, mask = batch.input_ids[:, :start], batch.attention_mask[:, :start]
    receiver, sharer = model.receiver, model.sharers[0]
    # 1. The Receiver reads the section, with logits of every token
    with torch.no_grad():
        output = receiver(
            input_ids=ids, attention_mask=mask, cache=DynamicCache(config=receiver.config), use_cache=True
        )
        if with_loss:
            labels = torch.full_like(ids, IGNORED)
            functional.cross_entropy(output.logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    cache = output.cache
    # 2. The Sharer reads its own, with logits of every token too; both caches are copied
    own = batch.sharer_input
    with torch.no_grad():
        reading = sharer(
            input_ids=own.input_ids,
            attention_mask=own.attention_mask,
            cache=DynamicCache(config=sharer.config),
            use_cache=True,
        )
    sharer_cache = _copy(reading.cache, model, 1)
    cache = _copy(cache, model, 0)
    # 3. One Fuser after another, each on copies of the section; whether its gates are open is read from the device
    stack = model.stack(0)
    for layer, link in sorted(stack.links.items()):
        source, target = sharer_cache.layers[link.sharer_layer], cache.layers[layer]
        index = own.token_map.clamp(min=0)[:, None, :, None]
        theirs = [states.gather(2, index.expand(-1, states.shape[1], -1, states.shape[3])) for states in
                  (source.keys.clone(), source.values.clone())]  # fmt: skip
        ours = (target.keys.clone(), target.values.clone())
        keys, values = stack.fuser_of(layer)((theirs[0], theirs[1]), ours)
        target.keys, target.values = keys.to(ours[0].dtype), values.to(ours[1].dtype)
    return cache


def first_token(model: RosettaModel, batch: Batch) -> Tensor:
    """Logits ``(B, n, V)`` of the last section after the fused prefix."""
    cache = read_prefix(model, batch, with_loss=False)
    start = batch.kv_cache_index[0].shape[1]
    with torch.no_grad():
        logits: Tensor = model.receiver(
            input_ids=batch.input_ids[:, start:], attention_mask=batch.attention_mask, cache=cache, use_cache=True
        ).logits
    return logits


def training_loss(model: RosettaModel, batch: Batch) -> Tensor:
    """The loss on the responses, in nats, ``()``, with logits of every column of the last section in float32."""
    cache = read_prefix(model, batch, with_loss=True)
    start = batch.kv_cache_index[0].shape[1]
    logits = model.receiver(
        input_ids=batch.input_ids[:, start:], attention_mask=batch.attention_mask, cache=cache, use_cache=True
    ).logits.float()
    # (B, n, V) predicts the labels one column later: (B * (n - 1), V) and (B * (n - 1),)
    targets = batch.labels[:, start + 1 :].flatten()
    loss: Tensor = functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets, ignore_index=IGNORED)
    return loss


def write_answer(model: RosettaModel, batch: Batch, new_tokens: int) -> list[int]:
    """Greedy answer of one question: after the last token the Receiver runs once more than is needed."""
    cache = read_prefix(model, batch, with_loss=False)
    start, mask = batch.kv_cache_index[0].shape[1], batch.attention_mask
    ids, written = batch.input_ids[:, start:], []
    with torch.no_grad():
        logits = model.receiver(input_ids=ids, attention_mask=mask, cache=cache, use_cache=True).logits
        for _ in range(new_tokens):
            ids = logits[:, -1:].argmax(-1)
            written.append(int(ids))
            mask = torch.cat([mask, mask.new_ones((1, 1))], dim=1)
            logits = model.receiver(input_ids=ids, attention_mask=mask, cache=cache, use_cache=True).logits
    return written
