"""The methods of design §4 as models that lm-eval knows: `receiver`, `sharer`, `t2t`, `routing`, `c2c` and controls.

Importing this module registers them, so that ``lm_eval.simple_evaluate(model="c2c", model_args={...})`` works.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from tqdm import tqdm

from c2c.checkpoint import assemble
from c2c.errors import RefusedError
from c2c.evaluation.answering import Answer, Question, Reading, weigh, write
from c2c.evaluation.reading import Alone, Fused, Reader, TextToText
from c2c.evaluation.store import AnswerStore
from c2c.pair import LoadedModel, Pair, load_model, load_pair


class Method(LM):
    """Answers lm-eval's requests question by question, in length-sorted left-padded batches.

    Args:
        name: Of the method, as records carry it.
        reader: What the answering model reads.
        batch_size: Questions a batch.
        store: Keeps each answer, so that an interrupted run goes on where it stopped; None keeps nothing.
    """

    def __init__(self, name: str, reader: Reader, batch_size: int | str = 16, store: AnswerStore | None = None) -> None:
        super().__init__()
        self.name, self.reader, self.store = name, reader, store
        self.batch_size = int(batch_size)
        self.answers: dict[tuple[str, int], Answer] = {}
        self.describe: Callable[[Instance], Question] = describe_plainly

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Free answers, greedy, in the order of the requests."""
        questions = [self.describe(request) for request in requests]
        return [answer.output_text or "" for answer in self.answer(questions)]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of each request's continuation; whether it is the greedy one is not computed: False."""
        grouped: dict[tuple[str, int], Question] = {}
        places: list[tuple[tuple[str, int], int]] = []
        for request in requests:
            question = self.describe(request)
            key = (question.benchmark, question.number)
            known = grouped.setdefault(key, replace(question, options=()))
            places.append((key, len(known.options)))
            known.options += (request.args[1],)
        answers = dict(zip(grouped, self.answer(list(grouped.values())), strict=True))
        return [(_score(answers[key], at), False) for key, at in places]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Not offered: fusing needs a prompt, and a rolling likelihood has none.

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
        self.reader.prepare(questions)
        open_questions = []
        for question in questions:
            known = self.store.get(self.name, question) if self.store else None
            if known is None:
                open_questions.append(question)
            else:
                self.answers[question.benchmark, question.number] = known
        open_questions.sort(key=self._length, reverse=True)
        with tqdm(total=len(open_questions), desc=f"{questions[0].benchmark} {self.name}", unit="question") as bar:
            for start in range(0, len(open_questions), self.batch_size):
                batch = open_questions[start : start + self.batch_size]
                self._keep(batch, self._answer_batch(batch))
                bar.update(len(batch))

    def _length(self, question: Question) -> int:
        try:
            return self.reader.length(question)
        except RefusedError:
            return 0

    def _keep(self, batch: Sequence[Question], answers: Sequence[Answer]) -> None:
        for question, answer in zip(batch, answers, strict=True):
            self.answers[question.benchmark, question.number] = answer
        if self.store:
            self.store.put(self.name, batch, answers)

    def _answer_batch(self, batch: Sequence[Question]) -> list[Answer]:
        started = time.perf_counter()
        try:
            answers = self._respond(self.reader.read(batch), batch)
        except Exception as error:
            if len(batch) > 1:
                return [self._answer_batch([question])[0] for question in batch]
            return [Answer(error=f"{type(error).__name__}: {error}", prompt_read=batch[0].prompt)]
        for answer in answers:
            answer.time_s = (time.perf_counter() - started) / len(batch)
        return answers

    @staticmethod
    def _respond(reading: Reading, batch: Sequence[Question]) -> list[Answer]:
        return weigh(reading, batch) if batch[0].options else write(reading, batch)


class Routing(Method):
    """Query-level routing by confidence: the half of which the Receiver is least sure goes to the Sharer.

    The Receiver's confidence is the geometric mean probability of its greedy tokens, or the probability of its best
    option among all options.
    """

    def __init__(self, receiver: Method, sharer: Method) -> None:
        super().__init__("routing", receiver.reader, receiver.batch_size)
        self.receiver, self.sharer = receiver, sharer

    def _answer_benchmark(self, questions: Sequence[Question]) -> None:
        own = self.receiver.answer(questions)
        by_confidence = sorted(range(len(questions)), key=lambda place: (own[place].confidence or 0.0, place))
        unsure = set(by_confidence[: len(questions) // 2])
        sent = self.sharer.answer([questions[place] for place in sorted(unsure)])
        others = dict(zip(sorted(unsure), sent, strict=True))
        for place, question in enumerate(questions):
            chosen = replace(others.get(place, own[place]), confidence=own[place].confidence)
            chosen.routed_to = "sharer" if place in others else "receiver"
            if place in others:
                # The Receiver has read the prompt and answered too, or its confidence would not be known.
                chosen.time_s = own[place].time_s + others[place].time_s
            self.answers[question.benchmark, question.number] = chosen


def _score(answer: Answer, option: int) -> float:
    return float("-inf") if answer.choice_scores is None else answer.choice_scores[option]


def describe_plainly(request: Instance) -> Question:
    """A question from a request alone, for use through lm-eval's own evaluator."""
    settings = request.args[1] if request.request_type == "generate_until" else {}
    stops = settings.get("until", [])
    return Question(
        benchmark=request.task_name or "",
        number=request.doc_id or 0,
        doc={"id": str(request.doc_id), **(request.doc or {})},
        prompt=request.args[0],
        gold=str((request.doc or {}).get("answer", request.doc_id)),
        stops=tuple([stops] if isinstance(stops, str) else stops),
        max_new_tokens=int(settings.get("max_gen_toks", 64)),
    )


def fused_reader(pair: Pair, fuser: str, sharer_reads: str, accept: Sequence[str] = ()) -> Fused:
    """The reader of a trained fuser; one that was trained on zeroed caches gets zeroed ones.

    Args:
        pair: The models.
        fuser: Folder of the fuser.
        sharer_reads: As in `Fused`.
        accept: Lines of the fuser's contract that may differ, by name.

    Raises:
        RefusedError: If the pair is not the one that the fuser was trained for.
    """
    described = [(loaded.model, loaded.description) for loaded in (pair.receiver, pair.sharer)]
    model, (about,) = assemble([Path(fuser)], described, override=accept)
    if about.get("sharer_cache") == "zeroed":
        sharer_reads = "zeroed"
    return Fused(pair, model, pair.aligner(about.get("alignment", "span")), sharer_reads)


@register_model("receiver", "sharer")
class OneModel(Method):
    """One model alone. lm-eval's ``model_args``: ``model`` (a folder, manifest or hub id)."""

    def __init__(self, model: str | LoadedModel, name: str = "receiver", **options: Any) -> None:
        loaded = load_model(model) if isinstance(model, str) else model
        super().__init__(name, Alone(loaded), **_known(options))


class _Paired(Method):
    """A method of two models."""

    sharer_reads = ""

    def __init__(
        self, receiver: str | Pair, sharer: str = "", fuser: str = "", accept: Sequence[str] = (), **options: Any
    ) -> None:
        pair = load_pair(receiver, sharer) if isinstance(receiver, str) else receiver
        reader = fused_reader(pair, fuser, self.sharer_reads, accept) if self.sharer_reads else TextToText(pair)
        super().__init__(self.method, reader, **_known(options))


@register_model("t2t")
class T2T(_Paired):
    """Text to text. ``model_args``: ``receiver``, ``sharer``."""

    method = "t2t"


@register_model("c2c")
class C2C(_Paired):
    """Fused prefix. ``model_args``: ``receiver``, ``sharer``, ``fuser``."""

    method, sharer_reads = "c2c", "matched"


@register_model("c2c_deranged")
class C2CDeranged(_Paired):
    """The Sharer reads another question. ``model_args`` as for `c2c`."""

    method, sharer_reads = "c2c_deranged", "deranged"


@register_model("c2c_zeroed")
class C2CZeroed(_Paired):
    """The Sharer's cache is zeros. ``model_args`` as for `c2c`."""

    method, sharer_reads = "c2c_zeroed", "zeroed"


@register_model("routing")
class RoutingModel(Routing):
    """Confidence router. ``model_args``: ``receiver``, ``sharer``."""

    def __init__(self, receiver: str | Method, sharer: str | Method, **options: Any) -> None:
        models = [
            each if isinstance(each, Method) else OneModel(each, name, **_known(options))
            for each, name in ((receiver, "receiver"), (sharer, "sharer"))
        ]
        super().__init__(*models)


METHODS = {"t2t": T2T, "c2c": C2C, "c2c_deranged": C2CDeranged, "c2c_zeroed": C2CZeroed}


def _known(options: dict[str, Any]) -> dict[str, Any]:
    """lm-eval hands every model a device and batch sizes; only these are ours."""
    return {name: value for name, value in options.items() if name in ("batch_size", "store") and value is not None}
