"""One user's conversation with several methods at once: the Receiver alone, T2T and C2C, each with its own answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from c2c.agents.chat_pipeline import ChatPipeline, answer_turn, check_ready
from c2c.agents.hand_over import TextPrompts
from c2c.agents.writing import write
from c2c.alignment.chat import ChatAligner
from c2c.alignment.template import Message
from c2c.errors import check_choice
from c2c.fusion.batch import collate_chats
from c2c.models.loading import LoadedModel
from c2c.rosetta import RosettaModel


class Talker(Protocol):
    """Answers a conversation; `ChatPipeline` is one."""

    aligner: ChatAligner

    def __call__(self, messages: Any, **options: Any) -> Any:
        """The answer to the last message."""


class LoneTalker:
    """A model that answers conversations without a Sharer.

    Args:
        model: The model with its tokenizer, which must have a chat template.
    """

    def __init__(self, model: LoadedModel) -> None:
        self.model, self.rosetta = model, RosettaModel([model.model])
        self.aligner = ChatAligner(model.tokenizer, model.tokenizer)

    def __call__(self, messages: Sequence[Message], **options: Any) -> str:
        """The answer to the last message; options as `ChatPipeline.complete` takes them."""
        batch = collate_chats([self.aligner.align(messages)], self.model.pad, self.model.pad, mask=0)
        return write(self.rosetta, self.model, batch._replace(sharer_inputs=[]), **options)[0]


class TextTalker(LoneTalker):
    """T2T: the Sharer writes a text about the last message, and the Receiver reads it before that message.

    Args:
        receiver: The model that answers.
        sharer: The model that writes the text.
        prompts: The wordings of both.
    """

    def __init__(self, receiver: LoadedModel, sharer: LoadedModel, prompts: TextPrompts | None = None) -> None:
        super().__init__(receiver)
        self.sharer, self.prompts = LoneTalker(sharer), prompts or TextPrompts()

    def __call__(self, messages: Sequence[Message], **options: Any) -> str:
        """As `LoneTalker`; only the answer is streamed."""
        question = messages[-1]["content"]
        request = self.prompts.request.format(facts="", question=question).strip()
        # The Sharer reads the conversation too, as it does where it hands over a cache.
        turns = [*messages[:-1], {"role": "user", "content": request}]
        text = self.sharer(turns, max_new_tokens=self.prompts.tokens).strip()
        content = self.prompts.reading.format(message=text, question=question)
        return super().__call__([*messages[:-1], {"role": "user", "content": content}], **options)


RESPONDENTS: Mapping[str, Callable[[ChatPipeline], Talker]] = {
    "receiver": lambda pipe: LoneTalker(pipe.pair.receiver),
    "t2t": lambda pipe: TextTalker(pipe.pair.receiver, pipe.pair.sharer),
    "c2c": lambda pipe: pipe,
}
"""Methods that can talk."""


def respondents_of(pipe: ChatPipeline, methods: Sequence[str]) -> dict[str, Talker]:
    """The respondents of some methods, in their order.

    Raises:
        RefusedError: If a method is unknown, or a tokenizer has no chat template.
    """
    for method in methods:
        check_choice("--methods", method, RESPONDENTS)
    return {method: RESPONDENTS[method](pipe) for method in methods}


def converse_side_by_side(
    respondents: Mapping[str, Talker],
    lines: Iterable[str],
    *,
    announce: Callable[[str], object],
    say: Callable[[str], object],
    **options: Any,
) -> dict[str, list[dict[str, str]]]:
    """Answer line by line with every respondent, each in a conversation of its own; see `converse`.

    Args:
        respondents: By method.
        lines: What the user says.
        announce: Called with the method before its answer is written.
        say: Called with one line for each message that was left out or refused.
        **options: As `ChatPipeline.complete` takes them; a streamer shows the answers.

    Returns:
        The messages that are still in the conversation of each method.

    Raises:
        RefusedError: If no line could be answered.
        ModelFaultError: If a model is of no use.
    """
    for respondent in respondents.values():
        check_ready(respondent, options)
    conversations: dict[str, list[dict[str, str]]] = {method: [] for method in respondents}
    for line in filter(None, (line.strip() for line in lines)):
        for method, respondent in respondents.items():
            announce(method)
            turns = [*conversations[method], {"role": "user", "content": line}]
            conversations[method] = answer_turn(respondent, turns, say, options)
    return conversations
