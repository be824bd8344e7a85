"""All wordings of the knowledge-gap world: its attributes, their values, and the texts that state, ask and read a fact.

The lm-eval tasks in ``benchmarks/tasks/knowledge_gap_*/*.yaml`` repeat `QUESTION`, `REQUEST` and `READING` as jinja;
a test compares them with this module. Words are separated by single spaces, so that every tokenizer of the world can
hold each of them as one token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

STATEMENT = "the {attribute} of {entity} is {value} ."
QUESTION = "question : what is the {attribute} of {entity} ? answer :"
REQUEST = "state the {attribute} of {entity} :"
READING = "{message} {prompt}"

BANK: dict[str, str] = {
    "color": "amber azure beige black brown crimson green grey indigo ivory pink purple red teal white yellow",
    "home": "athens berlin cairo dublin geneva havana kyoto lagos lima lisbon madrid oslo prague rome tunis vienna",
    "food": "beans bread butter carrots cheese figs honey lentils noodles olives onions pasta plums rice soup spinach",
    "craft": "acting baking brewing carving dancing farming fishing knitting masonry mining painting pottery printing "
    "sailing tanning weaving",
    "animal": "badger beaver camel donkey eagle falcon ferret gecko heron lizard monkey otter rabbit spider tiger wolf",
    "instrument": "banjo bassoon cello clarinet cornet drums fiddle flute guitar harp lute oboe organ piano trumpet "
    "zither",
}


class Fact(NamedTuple):
    """One attribute of one entity."""

    entity: str
    attribute: str
    value: str


class Text(NamedTuple):
    """A prompt, and the response that a model should write after one space."""

    prompt: str
    response: str

    @property
    def whole(self) -> str:
        """Both parts as one line."""
        return f"{self.prompt} {self.response}"


def statement(fact: Fact) -> str:
    """The sentence that holds the fact."""
    return STATEMENT.format(**fact._asdict())


def question(fact: Fact) -> Text:
    """The question that the benchmarks ask, and its answer."""
    return Text(QUESTION.format(**fact._asdict()), fact.value)


def bare(fact: Fact) -> Text:
    """The question answered at its question mark, before the words that ask for the answer.

    A model that learns this too has the fact ready while it still reads the prompt, where a Fuser can find it.
    """
    text = question(fact)
    return Text(text.prompt[: text.prompt.index("?") + 1], text.response)


def request(fact: Fact) -> Text:
    """The request to the Sharer in T2T, and the message that it should write."""
    return Text(REQUEST.format(**fact._asdict()), statement(fact))


def reading(fact: Fact) -> Text:
    """The question after the sentence that answers it: the prompt of the Receiver in T2T."""
    text = question(fact)
    return Text(READING.format(message=statement(fact), prompt=text.prompt), text.response)


FORMS: dict[str, Callable[[Fact], Text]] = {
    "question": question,
    "bare": bare,
    "request": request,
    "reading": reading,
}


def words() -> list[str]:
    """All words of the templates and the bank, sorted; names of entities are not included."""
    fact = Fact("", "", "")
    texts = [*(form(fact).whole for form in FORMS.values()), *BANK, *BANK.values()]
    return sorted({word for text in texts for word in text.split()})
