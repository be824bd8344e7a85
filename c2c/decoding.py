"""Continue a text from a filled cache. Sampling, penalties and end tokens are transformers' own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Cache,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
)


class StopAtText(StoppingCriteria):
    """Ends a row as soon as its new text holds one of the stop strings.

    Args:
        tokenizer: Decodes the new tokens.
        stops: Stop strings; empty ones are ignored.
        prompt_tokens: Columns that the prompt takes.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], prompt_tokens: int) -> None:
        self.tokenizer, self.prompt_tokens = tokenizer, prompt_tokens
        self.stops = [stop for stop in stops if stop]

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """Which rows are done, ``(B,)`` bool."""
        texts = self.tokenizer.batch_decode(input_ids[:, self.prompt_tokens :], skip_special_tokens=True)
        done = [any(stop in text for stop in self.stops) for text in texts]
        return torch.tensor(done, dtype=torch.bool, device=input_ids.device)


class TokenClock(StoppingCriteria):
    """Never stops; notes the time (seconds of a monotonic clock) at which each token was there."""

    def __init__(self) -> None:
        self.ticks: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """No row is done, ``(B,)`` bool."""
        if input_ids.is_cuda:
            torch.cuda.synchronize(input_ids.device)
        self.ticks.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def end_tokens(model: PreTrainedModel) -> list[int]:
    """The model's end-of-text ids, from its generation config or its config; may be empty."""
    found = model.generation_config.eos_token_id if model.generation_config is not None else None
    found = found if found is not None else getattr(model.config, "eos_token_id", None)
    return [] if found is None else list(found) if isinstance(found, (list, tuple)) else [int(found)]


def generation_config(
    model: PreTrainedModel, max_new_tokens: int, do_sample: bool, **sampling: Any
) -> GenerationConfig:
    """Exactly what is asked for: neither the model's own sampling defaults nor the library's apply."""
    ends = end_tokens(model)
    pad = getattr(model.generation_config, "pad_token_id", None)
    pad = pad if pad is not None else getattr(model.config, "pad_token_id", None)
    if do_sample:
        sampling.setdefault("top_k", 0)  # the library would take 50
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=do_sample,
        eos_token_id=ends or None,
        pad_token_id=pad if pad is not None else (ends[0] if ends else 0),
        **sampling,
    )


@contextmanager
def _only(model: PreTrainedModel, settings: GenerationConfig) -> Iterator[None]:
    """Inside, `model` has no settings but these.

    What `settings` leaves open, ``generate`` takes from the model: a repetition penalty, for one, even when greedy.
    """
    own, model.generation_config = model.generation_config, settings
    try:
        yield
    finally:
        model.generation_config = own


@torch.no_grad()
def continue_text(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    cache: Cache | None = None,
    *,
    max_new_tokens: int,
    do_sample: bool = False,
    criteria: Sequence[StoppingCriteria] = (),
    processors: LogitsProcessorList | None = None,
    **sampling: Any,
) -> Tensor:
    """Generate after `input_ids`, of which the first tokens may be in `cache` already.

    Args:
        model: The Receiver, or any causal model.
        input_ids: ``(B, N)`` int64, left-padded.
        attention_mask: ``(B, N)``; positions are counted from it at every step.
        cache: Keys and values of the first n < N columns; grown in place.
        max_new_tokens: Upper bound of new tokens a row.
        do_sample: Sample instead of taking the most likely token.
        criteria: transformers' stopping criteria.
        processors: transformers' logits processors.
        **sampling: ``temperature``, ``top_p``, ``top_k``, ``repetition_penalty`` and the like.

    Returns:
        ``(B, N + new)`` int64; rows that ended early are filled with the pad id.
    """
    settings = generation_config(model, max_new_tokens, do_sample, **sampling)
    past = {} if cache is None else {"cache": cache}
    with _only(model, settings):
        return model.generate(  # type: ignore[operator]
            input_ids,
            attention_mask=attention_mask,
            stopping_criteria=list(criteria),
            logits_processor=processors,
            **past,
        )
