"""Text to text: the Sharer writes about what it reads, and the Receiver reads that before its prompt.

The requests and the Receiver's prompt are templates, as those of T2T on benchmarks (``t2t_question`` and
``t2t_prompt``), and messages are written by the same code: greedily, up to an end token or an empty line. All items of
a batch are written together. Wordings are in ``c2c/testbed/wording.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from c2c.evaluation.answers.writing import decode_answers
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.reader import SingleReader
from c2c.settings import check_values, setting
from c2c.storage.formats import read_yaml
from c2c.testbed.channel import Message, Prompt, ReceiverAnswer, SharerContext
from c2c.testbed.models import ROWS, Models

WORDING = Path(__file__).parents[1] / "wording.yaml"
BACKGROUND = "background"
"""The wording for items without places."""


@dataclass(frozen=True)
class WritingSettings:
    """Of a channel that writes.

    Args:
        message_tokens: Sharer tokens that a message has at most; 0 for as many as the item's places have tokens of the
            Receiver.
    """

    message_tokens: int = setting(64, "longest message", least=0, most=10**6)

    def __post_init__(self) -> None:
        check_values(self)


class WrittenText:
    """T2T: a message about each text of the Sharer, joined by a space; its bytes are its UTF-8.

    An empty message is no message: the Receiver then reads its prompt alone.
    """

    wording = "text"
    settings = WritingSettings()

    def __init__(self, models: Models) -> None:
        self.models = models
        self.prompts = wordings()[self.wording]

    def question(self, text: str, tokens: int = 1, is_whole: bool = False) -> Question:
        """A text as a question of T2T, whose message has at most `tokens` tokens.

        Args:
            text: Of the Sharer.
            tokens: Of the message.
            is_whole: Whether the text is the Receiver's own prompt, of which there is nothing to tell: the request is
                for background, as that of T2T on benchmarks.
        """
        prompts = wordings()[BACKGROUND] if is_whole else self.prompts
        question = Question("testbed", 0, {"prompt": text}, text, "", **prompts)
        return replace(prompting.message_question(question), max_new_tokens=tokens)

    def send(self, contexts: Sequence[SharerContext]) -> list[Message]:
        """What the Sharer writes about each text, without the question unless the text has it."""
        # 1. Requests of all texts; one of which nothing may be written is not made
        requests = {}
        for number, context in enumerate(contexts):
            for sender, text in enumerate(context.texts):
                places = sum(span.tokens for owner, span in context.spans if owner == sender)
                tokens = self.settings.message_tokens or places
                if tokens:
                    requests[number, sender] = self.question(text, tokens, context.is_whole)
        # 2. Messages, in batches of about one length
        reader = SingleReader(self.models.sharer.loaded)
        order = sorted(requests, key=lambda key: reader.length(requests[key]))
        texts: dict[int, dict[int, str]] = {}
        for start in range(0, len(order), ROWS):
            batch = order[start : start + ROWS]
            questions = [requests[key] for key in batch]
            answers = decode_answers(reader.read_questions(questions), questions)
            for (number, sender), answer in zip(batch, answers, strict=True):
                texts.setdefault(number, {})[sender] = (answer.output_text or "").strip()
        its_texts = [texts.get(number, {}) for number in range(len(contexts))]
        return [Message(text=" ".join(part[sender] for sender in sorted(part)).strip()) for part in its_texts]

    def receive(self, messages: Sequence[Message], prompts: Sequence[Prompt]) -> list[ReceiverAnswer]:
        """Answers to prompts that begin with the message."""
        receiver = self.models.receiver
        whole_prompts = [
            replace(prompt, text=text, tokens=tuple(receiver.tokenise(text)[0]), places=())
            for prompt, text in zip(prompts, map(self.text_with, messages, prompts), strict=True)
        ]
        return self.models.in_batches(lambda batch, _: receiver.answer(batch), whole_prompts)

    def text_with(self, message: Message, prompt: Prompt) -> str:
        """What the Receiver reads."""
        if not message.text:
            return prompt.text
        question = Question("testbed", 0, {}, prompt.text, "", **self.prompts)
        return prompting.question_with_message(question, message.text).prompt


class CutText(WrittenText):
    """T2T with no more tokens than are fused: the Sharer is asked for the values alone, and stopped at that number.

    A cache has thousands of bytes a token and a text a few, so no text is longer than the bytes of a cache; the number
    of tokens is the budget in which both can be compared.
    """

    wording = "text_cut"
    needs_places = True
    """It copies the values at the places."""
    settings = WritingSettings(message_tokens=0)


@cache
def wordings() -> Mapping[str, Mapping[str, Any]]:
    """The prompts of all channels that write, by channel or `BACKGROUND`: ``t2t_question`` and ``t2t_prompt``."""
    content: Mapping[str, Mapping[str, Any]] = read_yaml(WORDING, f"Restore {WORDING.name}")
    return content
