"""A Receiver writes: from a batch of prompts to texts without special tokens, each ended before a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from c2c.errors import RefusedError
from c2c.fusion.batch import ChatBatch
from c2c.generation.decoding import StopStrings, check_stops, end_tokens
from c2c.models.loading import LoadedModel
from c2c.rosetta import RosettaModel

SET_HERE = {
    "stop_strings": "Pass stop=",
    "eos_token_id": "Pass stop=, or call RosettaModel.generate",
    "tokenizer": "Leave it out",
    "sharer_inputs": "Call RosettaModel.generate",
}
"""Options of generation that are not taken here, and what to do instead."""


def write(
    model: RosettaModel,
    receiver: LoadedModel,
    batch: ChatBatch,
    *,
    max_new_tokens: int = 256,
    do_sample: bool = False,
    stop: str | Sequence[str] = (),
    streamer: Any = None,
    **sampling: Any,
) -> list[str]:
    """What the Receiver writes after each of B prompts.

    Args:
        model: Receiver, Sharers and Fusers.
        receiver: The Receiver with its tokenizer.
        batch: The prompts; without inputs of Sharers if the model has none.
        max_new_tokens: Most tokens of a text.
        do_sample: Sample instead of taking the most likely token.
        stop: A string or several that end a text.
        streamer: Of transformers, for one text.
        **sampling: As `RosettaModel.generate` takes them.

    Raises:
        RefusedError: If an option is one that is set here, or the prompts do not fit.
    """
    for name in sampling.keys() & SET_HERE:
        raise RefusedError("An option must not be one that the pipeline sets from its models", name, SET_HERE[name])
    stops = check_stops("stop", stop)
    device = model.receiver.device
    ends = all_end_tokens(receiver)
    written = model.generate(
        batch.kv_cache_index,
        batch.input_ids.to(device),
        batch.attention_mask.to(device),
        max_new_tokens=max_new_tokens,
        do_sample=do_sample,
        sharer_inputs=batch.sharer_inputs or None,
        eos_token_id=ends or None,
        stop_strings=stops,
        tokenizer=receiver.tokenizer,
        streamer=streamer,
        **sampling,
    )
    # New tokens to text: (B, N + new) -> B texts
    width = batch.input_ids.shape[1]
    return [_text(receiver, ids, ends, stops) for ids in written[:, width:].tolist()]


def all_end_tokens(receiver: LoadedModel) -> list[int]:
    """The model's end tokens and its tokenizer's, which ends a turn although the model may not name it."""
    eos = receiver.tokenizer.eos_token_id
    return sorted({*end_tokens(receiver.model), *([] if eos is None else [int(eos)])})


def _text(receiver: LoadedModel, ids: list[int], ends: Sequence[int], stops: Sequence[str]) -> str:
    # Up to the end token, up to a stop string that names a special token, and up to any other stop string
    length = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    text = StopStrings(receiver.tokenizer, stops).text(ids[:length])
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]
