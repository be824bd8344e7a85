"""One answer to one question, with the time of each phase and the logits of its first token.

`c2c.evaluation.latency` and the live page measure by these functions. Imports no lm-eval.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from c2c.alignment.tokens import SharerInput
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.fused import FusedReader
from c2c.evaluation.readers.reader import SingleReader, check_room, tokenise
from c2c.generation.decoding import StopAtText, TokenClock, continue_text
from c2c.models.loading import LoadedModel


@dataclass
class Phases:
    """Seconds and tokens of one answer; the fields are columns of a latency record."""

    sharer_prefill_s: float = 0.0
    sharer_decode_s: float = 0.0
    fusion_s: float = 0.0
    receiver_prefill_s: float = 0.0
    receiver_decode_s: float = 0.0
    total_s: float = 0.0
    sharer_tokens_in: int = 0
    sharer_tokens_out: int = 0
    receiver_tokens_in: int = 0
    receiver_tokens_out: int = 0


@dataclass
class Stopwatch:
    """Time between calls, after the device has finished its work."""

    device: torch.device
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.at = self._now()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last call."""
        before, self.at = self.at, self._now()
        return self.at - before


class PhaseTimer:
    """Seconds of each phase of a prefill; the timer that `RosettaModel.generate` takes.

    Args:
        device: Of the Receiver.

    Attributes:
        seconds: Of each phase by its name, those of several runs added up.
        end: When the last phase ended, on the clock of `Stopwatch`.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.end = device, 0.0
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Measure what runs inside."""
        watch = Stopwatch(self.device)
        yield
        self.seconds[phase] += watch.lap()
        self.end = watch.at


class FirstLogits(LogitsProcessor):
    """Keeps the logits of the first new token of a batch of one, ``(V,)``; the scores stay as they are."""

    def __init__(self) -> None:
        self.logits: Tensor = torch.empty(0)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return `scores`, ``(1, V)``, unchanged."""
        if not self.logits.numel():
            self.logits = scores[0]
        return scores


class TimedText(NamedTuple):
    """What a model wrote, with seconds to its first token and after it, tokens read and written, and first logits."""

    text: str
    first_s: float
    rest_s: float
    tokens_in: int
    tokens_out: int
    logits: Tensor


class TimedAnswer(NamedTuple):
    """An answer, its phases, the logits ``(V,)`` of its first token, and the message in text if there is one."""

    text: str
    phases: Phases
    logits: Tensor
    message: str = ""


def write_alone(loaded: LoadedModel, question: Question, prompt: str) -> TimedText:
    """What one model writes after a prompt, by the limits of a question."""
    watch, clock, first = Stopwatch(loaded.model.device), TokenClock(), FirstLogits()
    ids, mask, (tokens_in,) = tokenise(loaded, [prompt], chat=bool(question.messages))
    check_room(loaded, tokens_in, question.max_new_tokens)
    started = watch.at
    sequences = continue_text(
        loaded.model,
        ids,
        mask,
        max_new_tokens=question.max_new_tokens,
        criteria=_criteria(clock, loaded, question, tokens_in),
        processors=[first],
    )
    text = str(loaded.tokenizer.decode(sequences[0, tokens_in:], skip_special_tokens=True))
    whole = watch.lap()
    # The prefill ends with the first token, which the forward pass over the prompt gives.
    first_s = clock.ticks[0] - started
    return TimedText(text, first_s, whole - first_s, tokens_in, len(clock.ticks), first.logits)


def answer_alone(reader: SingleReader, question: Question, role: str) -> TimedAnswer:
    """The answer of one model alone; `role` (receiver or sharer) says whose phases they are."""
    watch = Stopwatch(reader.loaded.model.device)
    written = write_alone(reader.loaded, question, reader.text(question))
    phases = Phases(total_s=watch.lap())
    columns = {
        "prefill_s": written.first_s,
        "decode_s": written.rest_s,
        "tokens_in": written.tokens_in,
        "tokens_out": written.tokens_out,
    }
    for name, value in columns.items():
        setattr(phases, f"{role}_{name}", value)
    return TimedAnswer(written.text, phases, written.logits)


def answer_with_message(
    receiver: LoadedModel, sharer: LoadedModel, question: Question, request: Question
) -> TimedAnswer:
    """Text to text: the Sharer's message about a question, then the Receiver's answer.

    Args:
        receiver: Answers.
        sharer: Writes the message.
        question: The Receiver's.
        request: The Sharer's, for a message.
    """
    watch = Stopwatch(receiver.model.device)
    sent = write_alone(sharer, request, prompting.prompt_text(sharer, request))
    # The message as `c2c.evaluation.methods.text_to_text.TextToText` passes it on
    message = until_stops(sent.text, request.stops).strip()
    prompt = prompting.question_with_message(question, message)
    written = write_alone(receiver, prompt, prompting.prompt_text(receiver, prompt))
    phases = Phases(
        sharer_prefill_s=sent.first_s,
        sharer_decode_s=sent.rest_s,
        receiver_prefill_s=written.first_s,
        receiver_decode_s=written.rest_s,
        total_s=watch.lap(),
        sharer_tokens_in=sent.tokens_in,
        sharer_tokens_out=sent.tokens_out,
        receiver_tokens_in=written.tokens_in,
        receiver_tokens_out=written.tokens_out,
    )
    return TimedAnswer(written.text, phases, written.logits, message)


def answer_fused(
    reader: FusedReader, question: Question, change: Callable[[SharerInput], SharerInput] | None = None
) -> TimedAnswer:
    """C2C: Sharer prefill, Receiver prefill, fusion, then the Receiver's answer.

    The Receiver's prefill is its prefix and the step that gives the first token, so that it means the same as for a
    model alone. Where the response is fused too, the steps of the Sharer and of the Fusers are part of it.

    Args:
        reader: Of a pair.
        question: One.
        change: Replaces what the Sharer reads; its time is not counted. None leaves it as it is.
    """
    loaded, model = reader.receiver, reader.model
    watch, timer, clock = Stopwatch(loaded.model.device), PhaseTimer(loaded.model.device), TokenClock()
    (index, ids, mask, [sharer_input]), _ = reader.layout([question])
    width, first = ids.shape[1], FirstLogits()
    if change is not None:
        sharer_input = change(sharer_input)
        watch.lap()
    # The timer sees each phase of the prefill, the clock each token of the answer
    sequences = model.generate(
        index,
        ids,
        mask,
        max_new_tokens=question.max_new_tokens,
        sharer_inputs=[sharer_input],
        timer=timer,
        criteria=_criteria(clock, loaded, question, width),
        processors=[first],
    )
    # Decoding to text is part of an answer, for all methods.
    text = str(loaded.tokenizer.decode(sequences[0, width:], skip_special_tokens=True))
    total = watch.lap()
    phases = Phases(
        sharer_prefill_s=timer.seconds["sharer_prefill"],
        fusion_s=timer.seconds["fusion"],
        receiver_prefill_s=timer.seconds["receiver_prefill"] + clock.ticks[0] - timer.end,
        receiver_decode_s=watch.at - clock.ticks[0],
        total_s=total,
        sharer_tokens_in=int(sharer_input.attention_mask.sum()) if not sharer_input.zeroed else 0,
        receiver_tokens_in=width,
        receiver_tokens_out=len(clock.ticks),
    )
    return TimedAnswer(text, phases, first.logits)


def until_stops(text: str, stops: tuple[str, ...]) -> str:
    """A text up to the first of the stop strings that it holds."""
    for stop in filter(None, stops):
        text = text.split(stop)[0]
    return text


def _criteria(clock: TokenClock, loaded: LoadedModel, question: Question, width: int) -> list[StoppingCriteria]:
    """The clock, and the end at a stop string where the question has one; `width` is that of the prompt in tokens."""
    stops: list[Any] = [StopAtText(loaded.tokenizer, question.stops, width)] if question.stops else []
    return [clock, *stops]
