"""Query-level routing: half of the questions go to the Sharer, whichever half a router chooses (design §4)."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from c2c.evaluation.methods.method import Method, fits
from c2c.evaluation.methods.router import Router, query_vectors
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.reader import Alone


class HalfRouting(Method):
    """The Sharer answers the half of the questions that a router chooses, the Receiver the others.

    Both methods of routing have the same budget, so that their answers differ by the choice alone.

    Args:
        name: Of the method.
        receiver: Answers what is kept.
        sharer: Answers what is sent.
    """

    def __init__(self, name: str, receiver: Method, sharer: Method) -> None:
        super().__init__(name, receiver.reader, receiver.token_budget)
        self.receiver, self.sharer = receiver, sharer

    @abstractmethod
    def wishes(self, questions: Sequence[Question]) -> tuple[list[float], list[float]]:
        """What is known of each question, as records carry it, and how much it should go to the Sharer."""

    @abstractmethod
    def seconds_of(self, question: Question, sent: bool) -> float:
        """What the choice cost beside the answer that is given."""

    def _answer_benchmark(self, questions: Sequence[Question]) -> None:
        noted, wishes = self.wishes(questions)
        by_wish = sorted(range(len(questions)), key=lambda place: (-wishes[place], place))
        sent = set(by_wish[: len(questions) // 2])
        kept = [place for place in range(len(questions)) if place not in sent]
        answers = dict(zip(kept, self.receiver.answer([questions[place] for place in kept]), strict=True))
        theirs = self.sharer.answer([questions[place] for place in sorted(sent)])
        answers |= dict(zip(sorted(sent), theirs, strict=True))
        for place, question in enumerate(questions):
            chosen = replace(answers[place], confidence=noted[place])
            chosen.routed_to = "sharer" if place in sent else "receiver"
            chosen.time_s += self.seconds_of(question, place in sent)
            self.answers[question.benchmark, question.number] = chosen


class Routing(HalfRouting):
    """The half of which the Receiver is least sure goes to the Sharer.

    The Receiver's confidence is the geometric mean probability of its greedy tokens, or the probability of its best
    option among all options.
    """

    def __init__(self, receiver: Method, sharer: Method) -> None:
        super().__init__("routing", receiver, sharer)

    def wishes(self, questions: Sequence[Question]) -> tuple[list[float], list[float]]:
        """Its confidence; the less, the more."""
        sure = [answer.confidence or 0.0 for answer in self.receiver.answer(questions)]
        return sure, [-each for each in sure]

    def seconds_of(self, question: Question, sent: bool) -> float:
        """The Receiver has read the prompt and answered too, or its confidence would not be known."""
        return self.receiver.answers[question.benchmark, question.number].time_s if sent else 0.0


class TrainedRouting(HalfRouting):
    """The half of which a trained router says most surely that the Sharer is right goes to the Sharer.

    Args:
        receiver: Answers what is kept; its model reads every prompt for the router.
        sharer: Answers what is sent.
        router: Trained for this Receiver.
    """

    def __init__(self, receiver: Method, sharer: Method, router: Router) -> None:
        super().__init__("routing_trained", receiver, sharer)
        assert isinstance(receiver.reader, Alone)
        self.router, self.alone = router, receiver.reader
        loaded = self.alone.loaded
        router.check(loaded.name, loaded.model.config.get_text_config().hidden_size)
        self._seconds = 0.0

    def wishes(self, questions: Sequence[Question]) -> tuple[list[float], list[float]]:
        """The probability that the Sharer wins; none where there is no prompt to read."""
        started = time.perf_counter()
        panel = self.panel or self.models
        readable = [place for place, question in enumerate(questions) if fits(question, panel)]
        wins = [0.0] * len(questions)
        if readable:
            vectors = query_vectors(self.alone, [questions[place] for place in readable], self.token_budget)
            for place, chance in zip(readable, self.router.sharer_wins(vectors).tolist(), strict=True):
                wins[place] = chance
        self._seconds = (time.perf_counter() - started) / len(questions)
        return wins, wins

    def seconds_of(self, question: Question, sent: bool) -> float:
        """The Receiver has read every prompt for its vector."""
        return self._seconds
