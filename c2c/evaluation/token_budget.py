"""The size of batches of questions by the memory that is free."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence

import torch

from c2c.cache import kv_cache
from c2c.evaluation.readers.prompt_memory import default_limit
from c2c.evaluation.readers.reader import positions
from c2c.models.loading import LoadedModel
from c2c.models.memory_meter import MEMORY_SHARE, MemoryMeter, most_rows

COLUMNS = 1024
"""Tokens of a row of the passes that are measured, unless a model has fewer positions."""
MOST_TOKENS = {"cpu": 2**12, "cuda": 2**17}
"""Largest budget by the kind of device: larger batches are no faster there, and would take long to measure."""


@torch.no_grad()
def measure_budget(models: Sequence[LoadedModel], meter: MemoryMeter | None = None) -> int:
    """Tokens of a batch that fit into memory, by bare passes of all models, whose caches are held together.

    What a method holds beyond these differs; a batch for which memory runs out nevertheless is halved.

    Args:
        models: The Receiver, whose cache is held un-fused and fused, and the Sharers.
        meter: Measures memory; that of the Receiver's device if None.

    Raises:
        RefusedError: If the memory of such a device cannot be measured.
    """
    receiver, *_ = models
    device = receiver.model.device
    meter = meter or MemoryMeter(device)
    columns = min(COLUMNS, *map(positions, models))

    def read(rows: int) -> None:
        # (rows, columns)
        ids = torch.zeros(rows, columns, dtype=torch.long, device=device)
        mask = torch.ones_like(ids)
        caches = [kv_cache.prefill(loaded.model, ids, mask, kv_cache.positions_of(mask)) for loaded in models]
        copy.deepcopy(caches[0])

    # Each model has a memory of prompts, which fills up later.
    free = meter.free()
    allowance = MEMORY_SHARE * free - len(models) * default_limit(device)
    rows = most_rows(
        lambda rows: meter.peak_of(lambda: read(rows)), allowance, max(MOST_TOKENS[device.type] // columns, 1)
    )
    # A question that is longer than the budget is a batch of its own.
    budget = max(rows, 1) * columns
    print(f"token_budget: {budget} tokens are a batch ({free / 1e9:.1f} GB are free)", file=sys.stderr)
    return budget
