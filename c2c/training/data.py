"""Training examples: a prompt whose prefix is fused, and the response that the Receiver must give.

Rows are left-padded up to the prompt's end and right-padded after it, so that all rows of a batch share one boundary
between the fused section and the response, and masks and positions are right for each of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from c2c.alignment.tokens import AlignedPrompt, SharerInput, batch_readings, left_pad
from c2c.errors import RefusedError
from c2c.pair import Pair
from c2c.sections import generate_kv_cache_index

DELIMITER = " "
"""Stands between prompt and response, as lm-eval's ``target_delimiter`` does."""

IGNORED = -100


class Example(NamedTuple):
    """An aligned prompt and the Receiver's tokens of the response, end token included."""

    prompt: AlignedPrompt
    response_ids: list[int]


@dataclass(frozen=True)
class Batch:
    """Arguments of `RosettaModel.forward`, and how many tokens are supervised."""

    kv_cache_index: list[Tensor]
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    sharer_input: SharerInput
    supervised: int


def read_lines(path: str | Path) -> list[dict[str, str]]:
    """The examples of a training set: a JSON object with ``id``, ``prompt`` and ``response`` a line.

    Raises:
        RefusedError: If the file is missing or empty, or a line lacks a key.
    """
    path = Path(path)
    if not path.is_file():
        raise RefusedError("A training set must be a file of JSON lines", str(path), "Prepare it first")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for number, row in enumerate(rows, start=1):
        if not {"id", "prompt", "response"} <= row.keys():
            raise RefusedError(
                "Each line must have id, prompt and response", f"line {number}: {sorted(row)}", "Prepare it again"
            )
    if not rows:
        raise RefusedError("A training set must have at least one example", str(path), "Prepare it again")
    return rows


def tokenise(rows: Sequence[dict[str, str]], pair: Pair, alignment: str, max_length: int) -> list[Example]:
    """Align and tokenise; examples of more than `max_length` Receiver tokens are left out, and the caller is told.

    Returns:
        The examples that fit; compare their number with that of `rows`.

    Raises:
        RefusedError: If no example fits.
    """
    aligner, tokenizer = pair.aligner(alignment), pair.receiver.tokenizer
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    examples = []
    for row in rows:
        response = tokenizer(DELIMITER + row["response"], add_special_tokens=False)["input_ids"] + end
        example = Example(aligner.align(row["prompt"]), response)
        if len(example.prompt.receiver_ids) + len(response) <= max_length:
            examples.append(example)
    if not examples:
        raise RefusedError("At least one example must fit into max_length tokens", max_length, "Raise --max-length")
    return examples


def collate(
    examples: Sequence[Example],
    pair: Pair,
    *,
    zeroed: bool = False,
    reencode: Callable[[Tensor], Tensor] | None = None,
) -> Batch:
    """One batch; see the module's text for its layout.

    Args:
        examples: B of them.
        pair: Gives the pad ids.
        zeroed: The Sharer's cache is zeros (recipe `adapter`).
        reencode: How the Sharer reads a response that is fused; see `SharerInput`.
    """
    prompts, prompt_mask = left_pad([example.prompt.receiver_ids for example in examples], pair.receiver.pad)
    responses, response_mask = _right_pad([example.response_ids for example in examples], pair.receiver.pad)
    labels = torch.cat([torch.full_like(prompts, IGNORED), responses.masked_fill(response_mask == 0, IGNORED)], dim=1)
    return Batch(
        kv_cache_index=generate_kv_cache_index(prompts.shape[1] - 1, 1 + responses.shape[1]),
        input_ids=torch.cat([prompts, responses], dim=1),
        attention_mask=torch.cat([prompt_mask, response_mask], dim=1),
        labels=labels,
        sharer_input=batch_readings(
            [example.prompt for example in examples], pair.sharer.pad, zeroed=zeroed, reencode=reencode
        ),
        supervised=int((labels != IGNORED).sum()),
    )


def _right_pad(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    flipped, mask = left_pad([row[::-1] for row in rows], pad)
    return flipped.flip(1), mask.flip(1)


def order(examples: int, batch_size: int, seed: int, start: int = 0) -> Iterator[list[int]]:
    """Endless batches of indices: each epoch a new seeded permutation, batches run over its end into the next.

    Args:
        examples: How many there are.
        batch_size: Indices a batch.
        seed: Fixes all epochs.
        start: Number of batches to leave out, so that a resumed run reads on where it stopped.
    """
    epochs: dict[int, list[int]] = {}

    def at(position: int) -> int:
        epoch, offset = divmod(position, examples)
        if epoch not in epochs:
            epochs.clear()
            generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            epochs[epoch] = torch.randperm(examples, generator=generator).tolist()
        return epochs[epoch][offset]

    batch = start
    while True:
        yield [at(batch * batch_size + row) for row in range(batch_size)]
        batch += 1
