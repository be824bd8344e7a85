"""Training examples: a prompt that is fused, plain or a conversation, and the response that the Receiver must give.

Each section of the prompt is left-padded and the response right-padded, so that all rows of a batch share one boundary
before the response, and masks and positions are right for each of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from c2c.alignment.batch import collate_chats
from c2c.alignment.chat import ChatAligner
from c2c.alignment.tokens import AlignedPrompt, SharerInput, TokenAligner, left_pad
from c2c.errors import RefusedError
from c2c.pair import Pair

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


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """The examples of a training set: a JSON object a line.

    A line has ``id``, and either ``prompt`` and ``response``, or ``messages`` of which the last, an assistant's, is
    the response.

    Raises:
        RefusedError: If the file is missing or empty, or a line lacks a key or ends with another's turn.
    """
    path = Path(path)
    if not path.is_file():
        raise RefusedError("A training set must be a file of JSON lines", str(path), "Prepare it first")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for number, row in enumerate(rows, start=1):
        if not any({"id", *keys} <= row.keys() for keys in (("prompt", "response"), ("messages",))):
            raise RefusedError(
                "Each line must have id, prompt and response, or id and messages",
                f"line {number}: {sorted(row)}",
                "Prepare it again",
            )
        if "messages" in row and (len(row["messages"]) < 2 or row["messages"][-1].get("role") != "assistant"):
            raise RefusedError(
                "A conversation to learn from must end with an assistant's turn that answers another",
                f"line {number}: {[message.get('role') for message in row['messages']]}",
                "Leave the line out, or cut it after an assistant's turn",
            )
    if not rows:
        raise RefusedError("A training set must have at least one example", str(path), "Prepare it again")
    return rows


def tokenise(rows: Sequence[dict[str, Any]], pair: Pair, alignment: str, max_length: int) -> list[Example]:
    """Align and tokenise; examples of more than `max_length` Receiver tokens are left out, and the caller is told.

    Args:
        rows: As `read_lines` returns them. The response of a conversation ends as the Receiver's template ends a turn.
        pair: The Receiver and the Sharer.
        alignment: ``span``, ``first`` or ``longest``.
        max_length: Upper bound of the Receiver's tokens, response included.

    Returns:
        The examples that fit; compare their number with that of `rows`.

    Raises:
        RefusedError: If no example fits, or a conversation does not fit the chat templates.
    """
    aligner = ChatAligner(pair.receiver.tokenizer, pair.sharer.tokenizer, alignment)
    examples = []
    for row in rows:
        example = _chat_example(row, aligner) if "messages" in row else _plain_example(row, aligner.tokens)
        if len(example.prompt.receiver_ids) + len(example.response_ids) <= max_length:
            examples.append(example)
    if not examples:
        raise RefusedError("At least one example must fit into max_length tokens", max_length, "Raise --max-length")
    return examples


def _plain_example(row: dict[str, Any], aligner: TokenAligner) -> Example:
    end = [aligner.receiver.eos_token_id] if aligner.receiver.eos_token_id is not None else []
    response = aligner.receiver(DELIMITER + row["response"], add_special_tokens=False)["input_ids"]
    return Example(aligner.align(row["prompt"]), response + end)


def _chat_example(row: dict[str, Any], aligner: ChatAligner) -> Example:
    response = aligner.receiver.response(row["messages"])
    ids = aligner.receiver.tokenizer(response, add_special_tokens=False)["input_ids"]
    return Example(aligner.align(row["messages"][:-1]), ids)


def collate(
    examples: Sequence[Example],
    pair: Pair,
    *,
    zeroed: bool = False,
    reencode: Callable[[Tensor], Tensor] | None = None,
) -> Batch:
    """One batch; see the module's text for its layout.

    Args:
        examples: B of them, plain and conversations in any mixture.
        pair: Gives the pad ids.
        zeroed: The Sharer's cache is zeros (recipe `adapter`).
        reencode: How the Sharer reads a response that is fused; see `SharerInput`.
    """
    prompts = collate_chats(
        [example.prompt for example in examples], pair.receiver.pad, pair.sharer.pad, zeroed, reencode
    )
    responses, response_mask = _right_pad([example.response_ids for example in examples], pair.receiver.pad)
    ignored = torch.full_like(prompts.input_ids, IGNORED)
    labels = torch.cat([ignored, responses.masked_fill(response_mask == 0, IGNORED)], dim=1)
    last = prompts.kv_cache_index[-1]
    continued = last[:, :1].expand(1, last.shape[1] + responses.shape[1], 2)
    return Batch(
        kv_cache_index=[*prompts.kv_cache_index[:-1], continued],
        input_ids=torch.cat([prompts.input_ids, responses], dim=1),
        attention_mask=torch.cat([prompts.attention_mask, response_mask], dim=1),
        labels=labels,
        sharer_input=prompts.sharer_input,
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
