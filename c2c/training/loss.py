"""The Receiver's loss on the responses; head and softmax run on supervised tokens alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from c2c.rosetta import RosettaModel
from c2c.training.data import Batch
from c2c.types import IGNORED


@contextmanager
def head_at(model: PreTrainedModel, rows: Tensor) -> Iterator[None]:
    """Inside, the model's head reads only some tokens, so that its logits are ``(1, K, V)``.

    Args:
        model: A causal model; whatever it does to its logits, it does to these.
        rows: ``(B, n)`` bool with K true, over the tokens that it is run on.
    """

    def pick(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (arguments[0][rows].unsqueeze(0), *arguments[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()


def response_loss(model: RosettaModel, batch: Batch, device: torch.device) -> Tensor:
    """Mean negative log-likelihood of the supervised tokens, in nats, ``()``.

    Args:
        model: The Receiver, its Sharer and the Fusers.
        batch: Prompts and responses, with at least one supervised token.
        device: Where the Receiver is.
    """
    targets = batch.labels[:, -batch.response_columns + 1 :].to(device)
    supervised = targets != IGNORED
    # A token is predicted from the one before it, so nothing is read from the last column.
    rows = functional.pad(supervised, (0, 1))
    with head_at(model.receiver, rows):
        output = model(
            batch.kv_cache_index,
            batch.input_ids.to(device),
            batch.attention_mask.to(device),
            sharer_inputs=[batch.sharer_input.to(device)],
        )
    return functional.cross_entropy(output.logits[0].float(), targets[supervised])
