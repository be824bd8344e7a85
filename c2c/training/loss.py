"""The Receiver's loss on the responses; head and softmax run on supervised tokens alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from c2c.generation.head import logits_at
from c2c.rosetta import RosettaModel
from c2c.training.batches import Batch
from c2c.types import IGNORED


def response_loss(model: RosettaModel, batch: Batch, device: torch.device) -> Tensor:
    """Mean negative log-likelihood of the supervised tokens, in nats, ``()``.

    What depends on values is decided on the batch as it was collated, so that nothing here waits for a device.

    Args:
        model: The Receiver, its Sharer and the Fusers.
        batch: Prompts and responses, with at least one supervised token.
        device: Where the Receiver is.
    """
    model.check_inputs(batch.kv_cache_index, batch.input_ids, batch.attention_mask, [batch.sharer_input])
    # Labels of the last section but its first column: (B, L - 1)
    targets = batch.labels[:, -batch.response_columns + 1 :]
    mask = targets != IGNORED
    # A token is predicted from the one before it, so nothing is read from the last column.
    rows = functional.pad(mask, (0, 1))
    with logits_at(model.receiver, rows):
        output = model(
            batch.kv_cache_index,
            batch.input_ids.to(device, non_blocking=True),
            batch.attention_mask.to(device, non_blocking=True),
            sharer_inputs=[batch.sharer_input.to(device)],
            prefix=batch.prefix,
            checked=True,
        )
    # (1, K, V) -> (K, V) in float32, in the row order of `targets[supervised]`, (K,)
    return functional.cross_entropy(output.logits[0].float(), targets[mask].to(device, non_blocking=True))
