"""What a method is in the test bed: a channel that sends what a Sharer reads and answers what the Receiver is asked.

A user's class needs no base class: it has the two methods of `Channel`, and `fit` if it is trained. It is built by a
function of one argument, `c2c.testbed.models.Models`, that is registered (`c2c.testbed.registry`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor


class TokenSpan(NamedTuple):
    """Characters of a text, half-open, and how many tokens of the Receiver they are fused into."""

    start: int
    end: int
    tokens: int


@dataclass(frozen=True)
class SharerContext:
    """What the Sharer of an item reads, and what of it concerns the Receiver's places.

    Args:
        texts: One text for each Sharer.
        spans: For each place of the item, in its order: which text, and where in it.
        is_whole: Whether the item has no places, so that the spans are all tokens of the prompt but its last.
    """

    texts: tuple[str, ...]
    spans: tuple[tuple[int, TokenSpan], ...]
    is_whole: bool = False

    @property
    def tokens(self) -> int:
        """Receiver tokens that the message is for."""
        return sum(span.tokens for _, span in self.spans)


@dataclass(frozen=True)
class Prompt:
    """What the Receiver reads and is asked.

    Args:
        text: Ends with what the answer follows.
        tokens: Token ids of `text`, special tokens included, ``n`` of them.
        places: Numbers of the tokens that a message is for, in the order of the context's spans; never the last token.
        options: Continuations whose log-probability is asked for.
        value: The right continuation; as many tokens as it has are generated.
        by_character: Whether options are compared by their log-probability a character.
    """

    text: str
    tokens: tuple[int, ...]
    places: tuple[int, ...]
    options: tuple[str, ...]
    value: str
    by_character: bool = False

    def choose(self, option_logps: Sequence[float]) -> int:
        """Number of the likeliest option, the first of equals; -1 without options.

        Args:
            option_logps: Of each option, in nats, summed over its tokens.
        """
        lengths = [len(option) if self.by_character else 1 for option in self.options]
        scores = [logp / length for logp, length in zip(option_logps, lengths, strict=True)]
        return max(range(len(scores)), key=scores.__getitem__) if scores else -1


@dataclass(frozen=True)
class Message:
    """What crosses from one model to the other.

    Args:
        tensors: By name; of floating tensors the last axis holds features, the one before it tokens, and the axes
            before these groups such as layers and heads, ``(*groups, tokens, features)``. The controls make other
            messages of the same shape from them.
        text: For channels that write.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    text: str = ""

    @property
    def size(self) -> int:
        """Bytes of the tensors and of the text as UTF-8."""
        tensors = sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())
        return tensors + len(self.text.encode())

    @property
    def shape(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes of the tensors: messages of one shape can be exchanged."""
        return tuple(sorted((name, tuple(tensor.shape)) for name, tensor in self.tensors.items()))

    def with_tensors(self, change: Callable[[str, Tensor], Tensor]) -> Message:
        """The message with each tensor replaced by what `change` makes of its name and itself."""
        return replace(self, tensors={name: change(name, tensor) for name, tensor in self.tensors.items()})


@dataclass(frozen=True)
class ReceiverAnswer:
    """What the Receiver makes of a prompt.

    Args:
        option_logps: Log-probability of each option after the prompt, in nats, summed over its tokens.
        value_logp: The same of the right value.
        text: What is generated greedily, as many tokens as the value has.
    """

    option_logps: tuple[float, ...]
    value_logp: float
    text: str


@dataclass(frozen=True)
class TrainingItem:
    """A training example: what the Sharer reads and the Receiver is asked, and the text that a closed form aims at.

    Args:
        context: Of the Sharer.
        prompt: Of the Receiver, whose value is the target.
        target: The Receiver's own text in which the value stands at the places, and where.
    """

    context: SharerContext
    prompt: Prompt
    target: SharerContext


@dataclass
class TrainingResult:
    """What a training did: the number of parameters and steps, and a row for each point of its curve."""

    parameters: int
    steps: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)


@runtime_checkable
class Channel(Protocol):
    """How a message gets from a Sharer to the Receiver."""

    def send(self, contexts: Sequence[SharerContext]) -> list[Message]:
        """One message for each context; the question is not known here unless it is in the context's text."""

    def receive(self, messages: Sequence[Message], prompts: Sequence[Prompt]) -> list[ReceiverAnswer]:
        """What the Receiver answers to each prompt, with the message of the same number."""


@runtime_checkable
class TrainedChannel(Channel, Protocol):
    """A channel that is trained."""

    def fit(self, training: Sequence[TrainingItem], validation: Sequence[TrainingItem], seed: int) -> TrainingResult:
        """Train once; the channel then sends and receives with what it learned."""
