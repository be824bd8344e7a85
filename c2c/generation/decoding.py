"""Continue a text from a filled cache. Sampling, penalties and end tokens are transformers' own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Cache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
)
from transformers.generation.streamers import BaseStreamer

from c2c.cache.kv_cache import append_layers, empty_cache, layers_of
from c2c.cache.rows import counted_in_tokens, rotations_in_generation, splits_windows
from c2c.errors import RefusedError, check_choice
from c2c.generation.compiled import begin_batch, decodes_compiled
from c2c.generation.head import hook_head
from c2c.generation.penalties import penalties_of


class StopStrings:
    """Texts that end what a model writes.

    Special tokens are no part of a text, so a stop string that names one (``<|im_start|>``) is looked for in the text
    with special tokens, and every other one in the text without them.

    Args:
        tokenizer: Decodes the new tokens.
        stops: Texts that are not empty.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]) -> None:
        self.tokenizer, self.stops = tokenizer, list(stops)
        tokens = _special_texts(tokenizer) if self.stops else set()
        self.special = [stop for stop in self.stops if any(token in stop for token in tokens)]

    def end(self, rows: Tensor | list[list[int]]) -> list[bool]:
        """Which rows of new token ids hold a stop string."""
        # The whole new text at each step: a stop string may begin in one token and end in another.
        texts = self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        ended = [any(stop in text for stop in self.stops) for text in texts]
        if self.special:
            marked = self.tokenizer.batch_decode(rows, skip_special_tokens=False)
            ended = [is_done or self._place(text) < len(text) for is_done, text in zip(ended, marked, strict=True)]
        return ended

    def text(self, ids: Sequence[int]) -> str:
        """The text of new token ids without special tokens, up to the first stop string that names one of them."""
        marked = self._decode(ids, special=True) if self.special else ""
        place = self._place(marked)
        if place == len(marked):
            return self._decode(ids)
        # The tokens that end before the stop string, and what the next one holds before it.
        # From the right, since the text may shrink where the next token completes a character.
        count = next(n for n in range(len(ids), -1, -1) if len(self._decode(ids[:n], special=True)) <= place)
        return self._decode(ids[:count]) + marked[len(self._decode(ids[:count], special=True)) : place]

    def _place(self, marked: str) -> int:
        """Where the first stop string with a special token starts, else the end of the text."""
        return min((place for stop in self.special if (place := marked.find(stop)) >= 0), default=len(marked))

    def _decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=not special))


def _special_texts(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """The tokens that ``skip_special_tokens`` leaves out."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return {text for text in (*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)) if text}


def check_stops(what: str, stops: Any) -> list[str]:
    """Stop strings as a list.

    Args:
        what: Name of the setting.
        stops: A text, or several.

    Raises:
        RefusedError: If one is no text, or empty: it would end every text before its first character.
    """
    texts = [stops] if isinstance(stops, str) else stops
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise RefusedError(f"{what} must be a text or a list of texts", stops, "Pass a string, or several in a list")
    if "" in texts:
        raise RefusedError(f"{what} must hold no empty text", stops, "Leave it out to write up to the token limit")
    return list(texts)


class StopAtText(StoppingCriteria):
    """Ends a row as soon as its new text holds one of the stop strings.

    Args:
        tokenizer: Decodes the new tokens.
        stops: Stop strings, none of them empty; see `StopStrings` for those that name a special token.
        prompt_tokens: Columns that the prompt takes.

    Attributes:
        lengths: New tokens of each row that was ended here, by its number; in a batch, pads follow them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], prompt_tokens: int) -> None:
        self.strings, self.prompt_tokens = StopStrings(tokenizer, stops), prompt_tokens
        self.lengths: dict[int, int] = {}

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        return self.strings.stops

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """Which rows are done, ``(B,)`` bool."""
        done = self.strings.end(input_ids[:, self.prompt_tokens :])
        for row, ended in enumerate(done):
            if ended:
                # A row that has ended is filled with pads while others are written: its first length counts.
                self.lengths.setdefault(row, input_ids.shape[1] - self.prompt_tokens)
        return torch.tensor(done, dtype=torch.bool, device=input_ids.device)


class TokenClock(StoppingCriteria):
    """Never stops; records when each token was generated, in seconds of a monotonic clock (``ticks``)."""

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
    ends = model.generation_config.eos_token_id if model.generation_config is not None else None
    # A generation config that names no end leaves it to the model config.
    ends = ends if ends is not None else getattr(model.config, "eos_token_id", None)
    return [] if ends is None else list(ends) if isinstance(ends, (list, tuple)) else [int(ends)]


SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")
PARTS = ("criteria", "processors", "stop_strings", "tokenizer", "streamer")
OTHER = ("min_new_tokens", "no_repeat_ngram_size", "bad_words_ids", "eos_token_id", "pad_token_id")

_POSITIVE = (lambda number: number > 0, "above 0", "Choose 1.0 for no effect")
_SHARE = (lambda number: 0 <= number <= 1, "in [0, 1]", "Choose a probability, such as 0.9")
_CUTOFF = (lambda number: 0 <= number < 1, "in [0, 1)", "Choose a small probability, such as 0.0003")
_COUNT = (lambda number: number >= 0 and number == int(number), "a whole number from 0", "Choose 0 for no effect")
_ANY = (lambda number: True, "a number", "Choose 0.0 for no effect")
RANGES: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    **dict.fromkeys(("temperature", "repetition_penalty"), _POSITIVE),
    **dict.fromkeys(("top_p", "min_p"), _SHARE),
    "typical_p": (lambda number: 0 < number <= 1, "in (0, 1]", "Choose 1.0 for no effect"),
    **dict.fromkeys(("epsilon_cutoff", "eta_cutoff"), _CUTOFF),
    **dict.fromkeys(("top_k", "min_new_tokens", "no_repeat_ngram_size"), _COUNT),
    **dict.fromkeys(("presence_penalty", "frequency_penalty"), _ANY),
}
"""For each option that is a number: its rule, in code and in words, and a remedy."""


def check_options(
    rows: int, max_new_tokens: int, do_sample: bool, options: Mapping[str, Any], vocabulary: int | None = None
) -> None:
    """Refuse options of generation that are unknown, out of range, or would have no effect.

    Args:
        rows: B of the batch.
        max_new_tokens: At least 1.
        do_sample: Whether tokens are sampled.
        options: As `continue_text` takes them.
        vocabulary: How many tokens the model knows, which ids in the options must be below; not checked if None.

    Raises:
        RefusedError: With the option.
    """
    # Arguments that are no numbers, or go together
    if not _is_whole(max_new_tokens) or max_new_tokens < 1:
        raise RefusedError("max_new_tokens must be at least 1", max_new_tokens, "Ask for one token or more")
    if not isinstance(do_sample, bool):
        raise RefusedError("do_sample must be True or False", do_sample, "Choose one of them")
    if options.get("streamer") is not None and rows > 1:
        raise RefusedError("A batch with a streamer must have one row", f"a batch of {rows}", "Stream rows one by one")
    if isinstance(options.get("stop_strings"), str):
        raise RefusedError("stop_strings must be a list of texts", options["stop_strings"], "Put the text into a list")
    check_stops("stop_strings", options.get("stop_strings") or [])
    if options.get("stop_strings") and options.get("tokenizer") is None:
        raise RefusedError(
            "Stop strings must come with the model's tokenizer", list(options["stop_strings"]), "Pass tokenizer="
        )
    # Sampling options without sampling are refused: transformers would only warn.
    for name, value in options.items():
        check_choice("An option of generation", name, (*PARTS, *SAMPLING, *PENALTIES, *OTHER))
        if name in SAMPLING and not do_sample:
            raise RefusedError(
                f"{name} must be left out without sampling, where it has no effect",
                value,
                "Pass do_sample=True, or leave it out for greedy text",
            )
    # Numbers
    for name in options.keys() & RANGES:
        fits, rule, remedy = RANGES[name]
        number = options[name]
        if isinstance(number, bool) or not isinstance(number, Real) or not math.isfinite(number) or not fits(number):
            raise RefusedError(f"{name} must be {rule}", number, remedy)
    if options.get("min_new_tokens", 0) > max_new_tokens:
        raise RefusedError(
            f"min_new_tokens must be at most max_new_tokens = {max_new_tokens}",
            options["min_new_tokens"],
            "Raise max_new_tokens",
        )
    # Ids of tokens
    for name in ("eos_token_id", "pad_token_id", "bad_words_ids"):
        _check_tokens(name, options.get(name), vocabulary)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_tokens(name: str, value: Any, vocabulary: int | None) -> None:
    """Refuse ids that no token has: one id, a list of them, or for bad words a list of lists."""
    if value is None:
        return
    # One list of ids, whatever form the option has
    ids = list(value) if isinstance(value, (list, tuple)) and name != "pad_token_id" else [value]
    if name == "bad_words_ids":
        if not ids or not all(isinstance(item, (list, tuple)) and item for item in ids):
            raise RefusedError("bad_words_ids must be a list of lists of token ids", value, "Pass [[id], [id, id]]")
        ids = [token for item in ids for token in item]
    wrong = [item for item in ids if not _is_whole(item) or item < 0 or item >= (vocabulary or item + 1)]
    if wrong:
        limits = "" if vocabulary is None else f" from 0 to {vocabulary - 1}"
        raise RefusedError(f"{name} must hold ids of tokens{limits}", wrong[0], "Pass ids of the Receiver's tokenizer")


def generation_config(model: PreTrainedModel, max_new_tokens: int, do_sample: bool, **options: Any) -> GenerationConfig:
    """These options alone: neither the model's own sampling defaults nor the library's apply."""
    ends = options.pop("eos_token_id", None)
    ends = end_tokens(model) if ends is None else list(ends) if isinstance(ends, (list, tuple)) else [int(ends)]
    # The pad id fills rows that ended; it is the caller's, else the model's, else the first end token.
    pad = options.pop("pad_token_id", None)
    for source in (model.generation_config, model.config):
        pad = getattr(source, "pad_token_id", None) if pad is None else pad
    if do_sample:
        options.setdefault("top_k", 0)  # the library would take 50
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=do_sample,
        eos_token_id=ends or None,
        pad_token_id=pad if pad is not None else (ends[0] if ends else 0),
        disable_compile=True,
        **options,
    )


@contextmanager
def _with_settings(model: PreTrainedModel, settings: GenerationConfig) -> Iterator[None]:
    """Inside, `model` has no settings but these.

    What `settings` leaves open, ``generate`` takes from the model: a repetition penalty, for one, even when greedy.
    """
    defaults, model.generation_config = model.generation_config, settings
    try:
        yield
    finally:
        model.generation_config = defaults


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
    processors: Sequence[LogitsProcessor] = (),
    stop_strings: Sequence[str] = (),
    tokenizer: PreTrainedTokenizerBase | None = None,
    streamer: BaseStreamer | None = None,
    **options: Any,
) -> Tensor:
    """Generate after `input_ids`, of which the first tokens may be in `cache` already.

    Inside of `c2c.generation.compiled.compiled_decoding` the model's steps are compiled.

    Args:
        model: The Receiver, or any causal model.
        input_ids: ``(B, N)`` int64, left-padded.
        attention_mask: ``(B, N)``; positions are counted from it at every step.
        cache: Keys and values of the first n < N columns; grown in place.
        max_new_tokens: Upper bound of new tokens a row.
        do_sample: Sample instead of taking the most likely token.
        criteria: transformers' stopping criteria.
        processors: transformers' logits processors.
        stop_strings: A row ends as soon as its new text (see `StopStrings`) holds one of them; needs `tokenizer`.
        tokenizer: Of `model`.
        streamer: A transformers streamer, for a batch of one: it is handed the prompt, then each token.
        **options: ``temperature``, ``top_k``, ``top_p``, ``min_p`` (in sampling); ``repetition_penalty``,
            ``presence_penalty``, ``frequency_penalty`` (over prompt and new text, pads excepted); ``eos_token_id`` (one
            or several); ``min_new_tokens`` and a few more of transformers' GenerationConfig.

    Returns:
        ``(B, N + new)`` int64; rows that ended early are filled with the pad id.

    Raises:
        RefusedError: If an option is unknown or would have no effect, or a streamer is given a larger batch.
    """
    # 1. Options, before the model runs
    parts = {"stop_strings": stop_strings, "tokenizer": tokenizer, "streamer": streamer}
    vocabulary = model.config.get_text_config().vocab_size
    check_options(len(input_ids), max_new_tokens, do_sample, {**parts, **options}, vocabulary)
    penalties = penalties_of({name: options.pop(name) for name in PENALTIES if name in options}, attention_mask)
    stops = [StopAtText(tokenizer, stop_strings, input_ids.shape[1])] if tokenizer and stop_strings else []
    settings = generation_config(model, max_new_tokens, do_sample, **options)
    arguments: dict[str, Any] = {
        "attention_mask": attention_mask,
        "stopping_criteria": [*criteria, *stops],
        "logits_processor": LogitsProcessorList([*penalties, *processors]),
        "streamer": streamer,
    }
    if decodes_compiled(model):
        return _continue_compiled(model, input_ids, cache, settings, arguments)
    # 2. What transformers would do otherwise than for each row alone: windows by columns, rotations by the longest row.
    split = splits_windows(model, attention_mask, attention_mask.shape[1] + max_new_tokens)
    if split and cache is None:
        cache = empty_cache(model.config)
    # 3. Write; every hook is removed afterwards, also on an error
    # Of a slice, as `generate` hands it on, torch multiplies a copy of the head's weights a row (CPU, bfloat16).
    contiguous = hook_head(model, Tensor.contiguous)
    rotated = rotations_in_generation(model, attention_mask, max_new_tokens, fused=cache is not None)
    with counted_in_tokens(model) if split else nullcontext(), rotated, _with_settings(model, settings), contiguous:
        return model.generate(  # type: ignore[operator]
            input_ids, **arguments, **({} if cache is None else {"cache": cache})
        )


def _continue_compiled(
    model: PreTrainedModel,
    input_ids: Tensor,
    cache: Cache | None,
    settings: GenerationConfig,
    arguments: Mapping[str, Any],
) -> Tensor:
    """`continue_text` by compiled steps; `arguments` are those of ``generate`` of transformers."""
    rows, columns = input_ids.shape
    cache = empty_cache(model.config) if cache is None else cache
    with begin_batch(model, cache, input_ids, arguments["attention_mask"], settings.max_new_tokens) as batch:
        with batch.as_forward(model), _with_settings(model, settings):
            written: Tensor = model.generate(input_ids, cache=batch.cache, **arguments)  # type: ignore[operator]
        # The caller's cache grows by what was read: all columns but the last, (R, H, C, D) -> (B, H, new, D)
        read = slice(columns - 1, written.shape[1] - 1)
        append_layers(
            cache, [(keys[:rows, :, read], values[:rows, :, read]) for keys, values in layers_of(batch.cache)]
        )
    return written
