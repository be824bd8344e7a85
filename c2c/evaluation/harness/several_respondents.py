"""Methods that ask several models in turn, text to text and routing, as respondents to lm-eval's requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lm_eval.api.instance import Instance

from c2c.errors import RefusedError
from c2c.evaluation.answers.answer import Answer
from c2c.evaluation.harness.requests import Item, Writing, question_of
from c2c.evaluation.harness.respondents import Respondent, Weight
from c2c.evaluation.methods.method import Method
from c2c.evaluation.questions.question import Question


class Several(Respondent):
    """A method whose questions are asked of several models in turn: text to text, and routing.

    Args:
        method: As in `Respondent`.
        routed: Whether whole documents are sent to one model or the other.
        complete: Adds to a context what the method needs beside it.
    """

    def __init__(
        self, method: Method, *, routed: bool, complete: Callable[[Question], Question] = lambda question: question
    ) -> None:
        super().__init__(method)
        self.routed, self.complete = routed, complete

    def plan_weights(self, requests: Sequence[Instance]) -> list[Item]:
        """See `Respondent`; a document is what is routed, so its requests share one context and give a choice."""
        known: dict[Any, Item] = {}
        for place, request in enumerate(requests):
            question = question_of(request, 0)
            context = self.text(question)
            text, continuation = context.rstrip(), str(request.args[1])
            if not question.messages:
                question.prompt, continuation = text, context[len(text) :] + continuation
            ids = self._ids(question)
            key = (request.task_name, request.doc_id, None if self.routed else request.args[0])
            if key not in known:
                known[key] = Item(self.complete(replace(question, number=next(self.numbers))), ids)
            item = known[key]
            if item.ids != ids:
                raise self._unrouted(request, "requests with different contexts")
            item.question.options += (continuation,)
            item.places.append(place)
            item.question.max_new_tokens = max(item.question.max_new_tokens, len(self.encoder.tokens(continuation)))
        for item in known.values():
            if self.routed and len(item.places) < 2:
                raise self._unrouted(requests[item.places[0]], "one request alone")
            self.check_room(item, item.question.max_new_tokens)
        return list(known.values())

    def _unrouted(self, request: Instance, received: str) -> RefusedError:
        return RefusedError(
            f"A document of {request.task_name} must give one context and several options to be routed",
            received,
            "Choose a task of multiple choice or of free answers",
        )

    def _ids(self, question: Question) -> list[int]:
        text = self.text(question)
        self.check_context(question, text)
        return self.encoder.tokens(text, chat=bool(question.messages))

    def to_continue(self, question: Question) -> Item:
        """See `Respondent`."""
        self._ids(question)
        item = super().to_continue(question)
        return replace(item, question=self.complete(question))

    def plan_texts(self, requests: Sequence[Instance]) -> dict[Writing, list[Item]]:
        """See `Respondent`; greedy text alone."""
        plan = super().plan_texts(requests)
        for writing in plan:
            if writing.options:
                raise RefusedError(
                    f"Text of {self.method.name} must be greedy and without penalties",
                    dict(writing.options),
                    "Pass --gen_kwargs do_sample=False, or ask receiver, sharer or c2c",
                )
        return plan

    def weigh(self, items: Sequence[Item], show: bool = True) -> list[list[Weight]]:
        """See `Respondent`."""
        answers = self._answers(items)
        return [list(zip(answer.choice_scores or [], answer.choice_greedy or [], strict=True)) for answer in answers]

    def write(self, items: Sequence[Item], writing: Writing, show: bool = True) -> list[str]:
        """See `Respondent`."""
        return [str(answer.output_text) for answer in self._answers(items)]

    def _answers(self, items: Sequence[Item]) -> list[Answer]:
        answers = self.method.answer([item.question for item in items])
        for item, answer in zip(items, answers, strict=True):
            if answer.error:
                raise RefusedError(
                    f"Each request must be answered by {self.method.name}",
                    f"{answer.error} (document {item.question.doc['id']} of {item.question.benchmark})",
                    "Correct what the error names, or leave the document out (--samples)",
                )
        return answers
