"""Persons and values of each split: none of the test or of the validation occurs in training.

Values of test and validation are those of the private line's bank, split by the seed. Training has the remaining ones
and, for any attribute, the words of the vocabularies: a map between two models' states is learned from distinct
words, and the bank alone has 812 for training.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from c2c.errors import RefusedError
from c2c.testbed.tasks import bank as value_bank
from c2c.testbed.tasks.bank import OPTIONS
from c2c.testbed.tasks.vocabularies import Vocabularies

SPLITS = ("train", "validation", "test")
PLACEHOLDER, CODE_PLACEHOLDER = " unknown", " 0000"
WORD_SHARE = 0.6
"""Share of the training values that come from the vocabularies; the others are of their attribute."""
TEMPLATE_WORDS = "answer question what is are in of the and access code file box has colour first second thing unknown"
"""Words of the sentences, which would be ambiguous as values, as those of the attributes would."""
COLOUR = "favourite colour"
THINGS = ("pet", "favourite food", "instrument", "favourite tool", "favourite garment", "favourite furniture")
"""Attributes whose values are things that a box can have in it."""
PERSONS = 60_000
"""About 70,000 family names exist."""


class Bag:
    """Values in random order, each once before one repeats."""

    def __init__(self, values: Sequence[str], chance: random.Random) -> None:
        self.values, self.chance = list(values), chance
        self._rest: list[str] = []

    def draw(self, exclusions: Iterable[str] = ()) -> str:
        """The next value that is none of `exclusions`, of which there must be fewer than values."""
        taken = set(exclusions)
        while True:
            if not self._rest:
                self._rest = self.chance.sample(self.values, len(self.values))
            value = self._rest.pop()
            if value not in taken:
                return value

    def sample(self, count: int, exclusions: Iterable[str] = ()) -> list[str]:
        """This number of different values, none of `exclusions`; they stay in the bag."""
        taken = set(exclusions)
        return self.chance.sample([value for value in self.values if value not in taken], count)


@dataclass
class Material:
    """What the items of one split are made of.

    Args:
        chance: Random numbers of the split.
        persons: Names, none of them in another split.
        attributes: Values of each attribute.
        words: Values of any attribute; empty outside training.
        codes: Codes of four digits.
        share: Share of the values that are `words`.
    """

    chance: random.Random
    persons: Iterator[str]
    attributes: Mapping[str, Bag]
    words: Bag
    codes: Bag
    share: float = 0.0

    def person(self) -> str:
        """The next person.

        Raises:
            RefusedError: If the split has no further person.
        """
        person = next(self.persons, None)
        if person is None:
            raise RefusedError("A split must have a person for each fact", "no further name", "Take smaller splits")
        return person

    def attribute(self, least: int = 1) -> str:
        """An attribute with at least some values; the more values it has, the more often it is drawn."""
        names = [name for name, bag in self.attributes.items() if len(bag.values) >= least]
        return self.chance.choices(names, [len(self.attributes[name].values) for name in names])[0]

    def bag(self, attribute: str) -> Bag:
        """The values from which a fact and its options are drawn: of its attribute, or words."""
        return self.words if self.words.values and self.chance.random() < self.share else self.attributes[attribute]


@dataclass(frozen=True)
class Stock:
    """Values of all splits, and what the vocabularies excluded."""

    seed: int
    persons: Callable[[str], Iterator[str]]
    attributes: Mapping[str, Mapping[str, list[str]]]
    words: list[str]
    codes: Mapping[str, list[str]]
    dropped: dict[str, int]

    def material(self, split: str) -> Material:
        """The material of one split, from its first person on."""
        chance = random.Random(f"redacted {split} {self.seed}")
        attributes = {name: Bag(values, chance) for name, values in self.attributes[split].items()}
        words = Bag(self.words if split == "train" else [], chance)
        return Material(chance, self.persons(split), attributes, words, Bag(self.codes[split], chance), WORD_SHARE)


def stock(vocabularies: Vocabularies, seed: int, placeholder: str = PLACEHOLDER) -> Stock:
    """Values of the splits that have as many tokens as their placeholder in all vocabularies."""
    bank = value_bank.bank()
    parts = value_bank.split_values(bank, seed)
    values = {"train": parts["train"], "validation": parts["unseen"], "test": parts["test"]}
    attributes, dropped = equal_values(vocabularies, values, placeholder)
    # Words of training: no value of another split, in whatever case, and no word of the sentences
    reserved = {word.lower() for split in ("validation", "test") for words in values[split].values() for word in words}
    reserved |= set(TEMPLATE_WORDS.split()) | {word for attribute in bank for word in attribute.split()}
    words = [word for word in vocabularies.words() if word not in reserved]
    wide = vocabularies.equal(words, placeholder)
    # Codes: a tenth each for test and validation
    codes = [f"{number:04d}" for number in range(1, 10_000)]
    equal_codes = vocabularies.equal(codes, CODE_PLACEHOLDER)
    dropped |= {"words": len(words) - len(wide), "codes": len(codes) - len(equal_codes)}
    random.Random(f"codes {seed}").shuffle(equal_codes)
    tenth = len(equal_codes) // 10
    bounds = {"test": (0, tenth), "validation": (tenth, 2 * tenth), "train": (2 * tenth, None)}
    code_splits = {split: equal_codes[slice(*bounds[split])] for split in SPLITS}
    return Stock(seed, lambda split: _persons(split, seed), attributes, wide, code_splits, dropped)


def equal_values(
    vocabularies: Vocabularies, values: Mapping[str, Mapping[str, list[str]]], placeholder: str
) -> tuple[dict[str, dict[str, list[str]]], dict[str, int]]:
    """Values by split and attribute with as many tokens as the placeholder, and how many had other numbers."""
    attributes, dropped = {}, {}
    for split in SPLITS:
        equal = {name: vocabularies.equal(words, placeholder) for name, words in values[split].items()}
        attributes[split] = {name: words for name, words in equal.items() if len(words) >= OPTIONS}
        dropped[f"values_{split}"] = sum(map(len, values[split].values())) - sum(map(len, equal.values()))
        dropped[f"attributes_{split}"] = len(equal) - len(attributes[split])
        if not attributes[split]:
            rule = f"An attribute must have {OPTIONS} values with as many tokens as {placeholder!r} in each split"
            raise RefusedError(rule, f"none for {split}", "Name other models with --tokenizers")
    return attributes, dropped


def _persons(split: str, seed: int) -> Iterator[str]:
    """Names of the persons of one split: every third of the names of a seed."""
    everybody = value_bank.names(PERSONS, seed)
    yield from (name for number, name in enumerate(everybody) if number % len(SPLITS) == SPLITS.index(split))
