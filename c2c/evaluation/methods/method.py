"""A method as a model that lm-eval knows: it answers questions in length-sorted, left-padded batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from tqdm import tqdm

from c2c.errors import ModelFaultError, RefusedError
from c2c.evaluation.answers.answer import Answer, DecodingState
from c2c.evaluation.answers.batches import TOKEN_BUDGET, batches_of, check_budget, in_parts
from c2c.evaluation.answers.likelihood import option_tokens, score_options
from c2c.evaluation.answers.store import AnswerStore
from c2c.evaluation.answers.writing import decode_answers
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.reader import Reader
from c2c.models.loading import LoadedModel
from c2c.models.memory_meter import is_out_of_memory


class Method(LM):
    """Answers lm-eval's requests question by question, in length-sorted left-padded batches.

    Args:
        name: Of the method, as records carry it.
        reader: What the answering model reads.
        token_budget: Tokens of a batch: rows times the longest, pads and answers included. Answers do not depend on it.
        store: Keeps each answer, so that an interrupted run resumes; None keeps nothing.
        progress: Whether a bar is shown.

    Attributes:
        panel: The models of a comparison. A prompt that is too short for one of them is refused by every method, so
            that no answer is compared with a refusal; empty in evaluations of lm-eval's own.
        companions: Methods that answer the same questions too, batch by batch together with this one, so that the
            caches of a batch that they share need not be kept for longer.
        question_of: Turns a request of lm-eval into a question; whoever passes the method to lm-eval sets it.
    """

    def __init__(
        self,
        name: str,
        reader: Reader,
        token_budget: int | str = TOKEN_BUDGET,
        store: AnswerStore | None = None,
        *,
        progress: bool = True,
    ) -> None:
        super().__init__()
        self.name, self.reader, self.store, self.progress = name, reader, store, progress
        self.panel: Sequence[LoadedModel] = ()
        self.token_budget = check_budget(int(token_budget))
        self.answers: dict[tuple[str, int], Answer] = {}
        self.question_of: Callable[[Instance], Question] = refuse_request
        self.companions: Sequence[Method] = ()
        self._questions: dict[tuple[str, int], Question] = {}
        # Tokens of the smallest batch for which memory ran out
        self._too_many = math.inf

    @property
    def models(self) -> tuple[LoadedModel, ...]:
        """The models that read prompts, the one that answers first."""
        return self.reader.models

    @property
    def writers(self) -> tuple[LoadedModel, ...]:
        """The models that write text."""
        return self.models[:1]

    @property
    def tokenizer_name(self) -> str:
        """Names the models whose chat templates are used; lm-eval asks for it."""
        return "__".join(loaded.name.replace("/", "__") for loaded in self.models)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The messages as JSON: each model that reads them renders its own template, with thinking off.

        Raises:
            RefusedError: If a model has no chat template.
        """
        prompting.check_prompts("chat", self.models)
        return prompting.messages_as_json(chat_history)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Free answers, greedy, in the order of the requests."""
        questions = [self.question_of(request) for request in requests]
        return [answer.output_text or "" for answer in self.answer(questions)]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of each request's continuation, and whether it is the greedy one; see `Method` for failures.

        Raises:
            RefusedError: If the options of one question do not share their context.
        """
        grouped: dict[tuple[str, int], Question] = {}
        contexts: dict[tuple[str, int], str] = {}
        places: list[tuple[tuple[str, int], int]] = []
        for request in requests:
            question = self.question_of(request)
            key = (question.benchmark, question.number)
            group = grouped.setdefault(key, replace(question, options=()))
            if contexts.setdefault(key, request.args[0]) != request.args[0]:
                raise RefusedError(
                    "The options of a question must share their context",
                    [contexts[key], request.args[0]],
                    "Ask this task by python -m c2c.evaluation.harness, which answers each request on its own",
                )
            places.append((key, len(group.options)))
            group.options += (request.args[1],)
        answers = dict(zip(grouped, self.answer(list(grouped.values())), strict=True))
        return [_score(answers[key], at) for key, at in places]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Not offered: a benchmark of this project asks questions.

        Raises:
            RefusedError: Always.
        """
        raise RefusedError("A task must give a prompt", "loglikelihood_rolling", "Use a task that asks questions")

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions of any number of benchmarks, in their order; a question that fails has an error instead."""
        for benchmark in dict.fromkeys(question.benchmark for question in questions):
            self._answer_benchmark([question for question in questions if question.benchmark == benchmark])
        return [self.answers[question.benchmark, question.number] for question in questions]

    def _answer_benchmark(self, questions: Sequence[Question]) -> None:
        # The batches of each method, by how many come after them: methods with the same batches answer one after the
        # other, also where one of them resumes later than the others.
        work = [
            (place - len(batches), method, batch)
            for method in (self, *self.companions)
            if (batches := method._open_batches(questions))
            for place, batch in enumerate(batches)
        ]
        work.sort(key=lambda item: item[0])
        about = f"{questions[0].benchmark} {' '.join(method.name for method in (self, *self.companions))}"
        total = sum(len(batch) for _, _, batch in work)
        with tqdm(total=total, desc=about, unit="answer", disable=not self.progress or not work) as bar:
            for _, method, batch in work:
                method._add_answers(batch, method._answer_batch(batch))
                bar.update(len(batch))

    def _open_batches(self, questions: Sequence[Question]) -> list[list[Question]]:
        """The batches of a benchmark's questions that have no answer yet; the reader is prepared for them."""
        open_questions = []
        for question in questions:
            answer = self._stored_answer(question)
            if answer is None:
                open_questions.append(question)
            else:
                self._add_answer(question, answer)
        if not open_questions:
            return []
        # A refused question is left out: no control reads it in the place of another.
        usable = [question for question in questions if fits(question, self.panel)]
        self.reader.prepare(usable, self.token_budget)
        # All batches, whether or not the run was interrupted before; a question that cannot be read is in none
        self.reader.plan(self._batches([question for question in usable if self._size(question)[0]]))
        return self._batches(open_questions)

    def _stored_answer(self, question: Question) -> Answer | None:
        """The answer to the same question, from this run or from an interrupted one."""
        key = (question.benchmark, question.number)
        if key in self.answers and self._questions.get(key) == question:
            return self.answers[key]
        return self.store.get(self.name, question) if self.store else None

    def _add_answer(self, question: Question, answer: Answer) -> None:
        key = (question.benchmark, question.number)
        self.answers[key], self._questions[key] = answer, question

    def _batches(self, questions: Sequence[Question]) -> list[list[Question]]:
        """Batches within the token budget; an option of several tokens takes a row."""
        sizes = [self._size(question) for question in questions]
        return batches_of(questions, [n for n, _ in sizes], self.token_budget, [rows for _, rows in sizes])

    def _size(self, question: Question) -> tuple[int, int]:
        """Tokens of the longest row, and rows."""
        try:
            length = self.reader.length(question)
        except RefusedError:
            return 0, 1
        if not question.options:
            return length + question.max_new_tokens, 1
        tokenizer = self.models[0].tokenizer
        longest = max(map(len, option_tokens(tokenizer, "", question.options, special=False)))
        return length + longest, len(question.options) if longest > 1 else 1

    def _add_answers(self, batch: Sequence[Question], answers: Sequence[Answer]) -> None:
        for question, answer in zip(batch, answers, strict=True):
            self._add_answer(question, answer)
        if self.store:
            self.store.put(self.name, batch, answers)

    def _answer_batch(self, batch: Sequence[Question]) -> list[Answer]:
        """Answer a batch; a refusal becomes the answer of its question, any other error ends the run.

        Where memory runs out each half is answered on its own, and so are later batches of as many tokens.
        """
        if len(batch) > 1 and self._tokens(batch) >= self._too_many:
            half = len(batch) // 2
            return [*self._answer_batch(batch[:half]), *self._answer_batch(batch[half:])]
        try:
            return in_parts(self._answer_part, batch)
        except ModelFaultError:
            raise
        except Exception as error:
            error.add_note(self._stopped_at(batch))
            raise

    def _answer_part(self, batch: Sequence[Question]) -> list[Answer]:
        started = time.perf_counter()
        try:
            for question in batch:
                prompting.check_length(question, self.panel)
            answers = self._respond(self.reader.read_questions(batch), batch)
        except ModelFaultError:
            raise
        except RefusedError as refusal:
            if len(batch) > 1:
                return [self._answer_part([question])[0] for question in batch]
            return [refused(batch[0], refusal)]
        except Exception as error:
            if is_out_of_memory(error):
                self._too_many = min(self._too_many, self._tokens(batch))
            raise
        for answer in answers:
            answer.time_s = (time.perf_counter() - started) / len(batch)
        return answers

    def _tokens(self, batch: Sequence[Question]) -> int:
        """Tokens of a batch, pads and answers included."""
        sizes = [self._size(question) for question in batch]
        return max(length for length, _ in sizes) * sum(rows for _, rows in sizes)

    def _stopped_at(self, batch: Sequence[Question]) -> str:
        """The note on an error that ends the run: where, and how to resume."""
        first, rows = batch[0], len(batch)
        resume = "Answers so far are kept: the same command resumes from there." if self.store else ""
        place = f"{rows} question(s) of {first.benchmark}, the first of them {first.doc.get('id')!r}"
        return f"{self.name} stopped at {place}. {resume} If memory is short, lower the token budget."

    @staticmethod
    def _respond(state: DecodingState, batch: Sequence[Question]) -> list[Answer]:
        return score_options(state, batch) if batch[0].options else decode_answers(state, batch)


def fits(question: Question, panel: Sequence[LoadedModel]) -> bool:
    """Whether `prompting.check_length` lets a question pass."""
    try:
        prompting.check_length(question, panel)
    except RefusedError:
        return False
    return True


def refused(question: Question, refusal: RefusedError) -> Answer:
    """The answer to a question that was refused."""
    return Answer(error=f"RefusedError: {refusal}", prompt_read=question.prompt)


def _score(answer: Answer, option: int) -> tuple[float, bool]:
    """Log-likelihood of an option for lm-eval; minus infinity for a failed question, whose record holds the error."""
    if answer.choice_scores is None or answer.choice_greedy is None:
        return float("-inf"), False
    return answer.choice_scores[option], answer.choice_greedy[option]


def refuse_request(request: Instance) -> Question:
    """Refuse a request of lm-eval: it does not name the question of this project.

    Raises:
        RefusedError: Always.
    """
    raise RefusedError(
        "A Method must have a function that makes a question of a request",
        f"a request of {request.task_name}",
        "Set Method.question_of (c2c.evaluation.questions.tasks.question_of_request), or hand lm-eval a "
        "c2c.evaluation.harness.LMEvalModel(method)",
    )
