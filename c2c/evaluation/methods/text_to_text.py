"""Text to text (method `t2t`): the Sharer writes a message, and the Receiver reads it with the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from c2c.errors import RefusedError
from c2c.evaluation.answers.answer import Answer
from c2c.evaluation.answers.batches import TOKEN_BUDGET
from c2c.evaluation.answers.store import AnswerStore
from c2c.evaluation.methods.inputs import MethodInputs
from c2c.evaluation.methods.method import Method, refused
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.reader import SingleReader, positions
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair

MESSAGE_TOKENS = 256


def message_limit(loaded: LoadedModel, question: Question, tokens: int) -> int:
    """How long the message about a question may be after a prompt of `tokens` tokens.

    It is the question's `message_tokens`, or `MESSAGE_TOKENS`, and never more than what the model can hold.
    """
    return max(1, min(question.message_tokens or MESSAGE_TOKENS, positions(loaded) - tokens))


class TextToText(Method):
    """All messages are written before the first answer; messages and answers have batches of their own size.

    Private text reaches the Sharer only if the task's ``t2t_question`` contains it.

    Args:
        pair: Sharer and Receiver.
        token_budget: As in `Method`; for both.
        store: Keeps messages and answers.
    """

    def __init__(self, pair: Pair, token_budget: int | str = TOKEN_BUDGET, store: AnswerStore | None = None) -> None:
        super().__init__("t2t", SingleReader(pair.receiver), token_budget)
        self.sharer = Method("t2t message", SingleReader(pair.sharer), token_budget, store)
        self.receiver = Method("t2t", SingleReader(pair.receiver), token_budget, store)

    @property
    def models(self) -> tuple[LoadedModel, ...]:
        """Receiver and Sharer."""
        return self.receiver.models + self.sharer.models

    @property
    def writers(self) -> tuple[LoadedModel, ...]:
        """Both models."""
        return self.models

    def request(self, question: Question) -> Question:
        """The Sharer's request: the question without options, for a message as long as it can be."""
        request = self.sharer_question(question)
        limit = message_limit(self.sharer.models[0], question, self.sharer.reader.length(request))
        return replace(request, max_new_tokens=limit)

    def sharer_question(self, question: Question) -> Question:
        """The question as the Sharer reads it."""
        return prompting.message_question(question)

    def receiver_question(self, question: Question, message: str) -> Question:
        """The question as the Receiver reads it, with the Sharer's message."""
        return prompting.question_with_message(question, message)

    def _answer_benchmark(self, questions: Sequence[Question]) -> None:
        messages = self._messages(questions)
        places = [place for place, message in enumerate(messages) if not message.error]
        prompts = [self.receiver_question(questions[place], _text(messages[place])) for place in places]
        replies = dict(zip(places, self.receiver.answer(prompts), strict=True))
        for place, (question, message) in enumerate(zip(questions, messages, strict=True)):
            self.answers[question.benchmark, question.number] = _with_message(replies.get(place), message)

    def _messages(self, questions: Sequence[Question]) -> list[Answer]:
        """The Sharer's message about each question; an error for a question that is refused."""
        requests: dict[int, Question] = {}
        messages: dict[int, Answer] = {}
        for place, question in enumerate(questions):
            try:
                prompting.check_length(question, self.panel)
                requests[place] = self.request(question)
            except RefusedError as refusal:
                messages[place] = refused(question, refusal)
        messages |= dict(zip(requests, self.sharer.answer(list(requests.values())), strict=True))
        return [messages[place] for place in range(len(questions))]


def build(name: str, inputs: MethodInputs) -> TextToText:
    """Text to text of a pair."""
    return TextToText(inputs.pair, inputs.token_budget, inputs.store)


def _text(message: Answer) -> str:
    return (message.output_text or "").strip()


def _with_message(reply: Answer | None, message: Answer) -> Answer:
    if reply is None:
        return Answer(error=message.error, prompt_read=message.prompt_read, time_s=message.time_s)
    return replace(
        reply,
        message=_text(message),
        sharer_tokens_in=message.tokens_in,
        sharer_tokens_out=message.tokens_out,
        time_s=reply.time_s + message.time_s,
    )
