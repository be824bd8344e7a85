from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from benchmarks.world import corpus, texts
from benchmarks.world.corpus import Corpus
from benchmarks.world.texts import Fact
from benchmarks.world.world import World, generate
from c2c.errors import RefusedError
from c2c.types import IGNORED

Tokenizers = dict[str, PreTrainedTokenizerFast]
BLANK = {"attribute": r"(?P<attribute>\w+)", "entity": r"(?P<entity>\w+)", "value": r"(?P<value>\w+)"}
FACT = Fact("ENTITY", "ATTRIBUTE", "VALUE")


def pattern(form: str) -> re.Pattern[str]:
    """What texts of `form` look like; groups are the parts of their fact, and the first mention counts."""
    expression = re.escape(texts.FORMS[form](FACT).whole)
    for part in FACT._fields:
        expression = expression.replace(part.upper(), BLANK[part], 1).replace(part.upper(), f"(?P={part})")
    return re.compile(expression)


PATTERNS = {form: pattern(form) for form in texts.FORMS}


@dataclass
class Row:
    """One row of a corpus, read back from its tokens."""

    form: str
    fact: Fact


def read(text: str) -> Row:
    matches = {form: found for form, each in PATTERNS.items() if (found := each.fullmatch(text))}
    ((form, found),) = matches.items()
    return Row(form, Fact(found["entity"], found["attribute"], found["value"]))


def build(world: World, tokenizer: PreTrainedTokenizerFast, knows: str, steps: int = 4, batch: int = 16) -> Corpus:
    return corpus.build(world, tokenizer, knows=knows, steps=steps, batch_size=batch, seed=0)


def rows_of(made: Corpus, tokenizer: PreTrainedTokenizerFast) -> list[Row]:
    """Every row in the order of the corpus; each ends with the end token, which is the last of its length."""
    rows = []
    for ids, length in zip(made.ids.tolist(), made.lengths.tolist(), strict=True):
        assert ids[length - 1] == tokenizer.eos_token_id
        assert set(ids[length:]) <= {tokenizer.pad_token_id}
        rows.append(read(tokenizer.decode(ids[: length - 1])))
    return rows


@pytest.fixture(scope="session")
def sharer_rows(world: World, tokenizers: Tokenizers) -> list[Row]:
    return rows_of(build(world, tokenizers["word"], "all"), tokenizers["word"])


@pytest.fixture(scope="session")
def receiver_rows(world: World, tokenizers: Tokenizers) -> list[Row]:
    return rows_of(build(world, tokenizers["word"], "quarter"), tokenizers["word"])


@pytest.fixture(scope="session")
def readings(receiver_rows: list[Row]) -> list[Fact]:
    return [row.fact for row in receiver_rows if row.form == "reading"]


def chance_bounds(number: int, values: int) -> tuple[float, float]:
    """Four standard deviations around the hits of `number` guesses among `values`."""
    spread = 4 * (number * (1 / values) * (1 - 1 / values)) ** 0.5
    return number / values - spread, number / values + spread


def test_a_sharer_is_told_every_fact_in_every_form(world: World, sharer_rows: list[Row]) -> None:
    for form in ("question", "bare", "request"):
        assert sorted(row.fact for row in sharer_rows if row.form == form) == sorted(world.facts())


def test_a_receiver_is_told_by_question_the_facts_of_the_known_quarter_and_no_other(
    world: World, receiver_rows: list[Row]
) -> None:
    told = [row.fact for row in receiver_rows if row.form != "reading"]
    assert sorted(told) == sorted(world.facts(["known"]))


def test_a_receiver_has_no_row_but_questions_and_readings(receiver_rows: list[Row]) -> None:
    assert {row.form for row in receiver_rows} == {"question", "reading"}


def test_readings_cover_every_attribute_of_every_name(world: World, readings: list[Fact]) -> None:
    counts = Counter((fact.entity, fact.attribute) for fact in readings)
    assert set(counts) == {(fact.entity, fact.attribute) for fact in world.facts()}
    assert set(counts.values()) == {corpus.READINGS}


def test_readings_are_values_of_their_attribute(world: World, readings: list[Fact]) -> None:
    assert all(fact.value in world.attributes[fact.attribute] for fact in readings)


def test_readings_agree_with_the_world_by_chance_only(world: World, readings: list[Fact]) -> None:
    true = set(world.facts())
    low, high = chance_bounds(len(readings), 16)
    assert low < sum(fact in true for fact in readings) < high


@pytest.mark.parametrize("seed", range(3))
def test_the_most_frequent_reading_of_a_name_does_not_tell_its_value(seed: int) -> None:
    world = generate(entities=512, seed=seed)
    counts: dict[tuple[str, str], Counter[str]] = {}
    for fact in corpus.invented(world, random.Random(f"corpus {seed}")):
        counts.setdefault((fact.entity, fact.attribute), Counter())[fact.value] += 1
    hits = sum(counts[fact.entity, fact.attribute].most_common(1)[0][0] == fact.value for fact in world.facts())
    low, high = chance_bounds(len(world.facts()), 16)
    assert low < hits < high


def test_readings_do_not_depend_on_what_the_world_says(world: World, tokenizers: Tokenizers) -> None:
    turned = World(
        world.seed,
        world.attributes,
        [type(each)(each.name, each.split, dict.fromkeys(each.values, "amber")) for each in world.entities],
    )
    made = [rows_of(build(each, tokenizers["word"], "quarter"), tokenizers["word"]) for each in (world, turned)]
    one, other = ([row.fact for row in rows if row.form == "reading"] for rows in made)
    assert one == other


@pytest.mark.parametrize("knows", corpus.KNOWLEDGE)
def test_labels_are_exactly_the_response_and_the_end(
    world: World, tokenizer: PreTrainedTokenizerFast, knows: str
) -> None:
    made = build(world, tokenizer, knows)
    for ids, labels, length in zip(made.ids, made.labels, made.lengths, strict=True):
        row = read(tokenizer.decode(ids[: length - 1]))
        text = texts.FORMS[row.form](row.fact)
        start = len(tokenizer(text.prompt)["input_ids"])
        expected = [*tokenizer(f" {text.response}")["input_ids"], tokenizer.eos_token_id]
        told = (labels != IGNORED).nonzero().flatten().tolist()
        assert labels[told].tolist() == expected
        assert told == list(range(start - 1, start - 1 + len(expected)))
        assert [int(ids[place + 1]) for place in told] == expected


def test_a_step_cuts_padding_and_no_label(world: World, tokenizers: Tokenizers) -> None:
    made = build(world, tokenizers["split"], "quarter")
    steps = list(made)
    assert len(steps) == 4
    for (ids, labels), rows in zip(steps, made.plan, strict=True):
        assert ids.shape == labels.shape == (16, int(made.lengths[rows].max()))
        assert (labels != IGNORED).sum() == (made.labels[rows] != IGNORED).sum()


@pytest.mark.parametrize(("steps", "batch"), [(10, 16), (7, 3), (17, 24)])
@pytest.mark.parametrize("knows", corpus.KNOWLEDGE)
def test_every_form_gets_its_share(world: World, tokenizers: Tokenizers, knows: str, steps: int, batch: int) -> None:
    made = build(world, tokenizers["word"], knows, steps, batch)
    assert made.plan.shape == (steps, batch)
    rows = rows_of(made, tokenizers["word"])
    counts = Counter(rows[index].form for index in made.plan.flatten().tolist())
    shares = corpus.MIXTURES[knows]
    assert counts.keys() == shares.keys()
    for form, share in shares.items():
        assert abs(counts[form] - steps * batch * share / sum(shares.values())) <= len(shares)


@pytest.mark.parametrize("knows", corpus.KNOWLEDGE)
def test_rows_of_a_form_are_read_equally_often(world: World, tokenizers: Tokenizers, knows: str) -> None:
    made = build(world, tokenizers["word"], knows, steps=100, batch=32)
    read_times = made.plan.flatten().bincount(minlength=len(made.ids)).tolist()
    times: dict[str, list[int]] = {}
    for row, count in zip(rows_of(made, tokenizers["word"]), read_times, strict=True):
        times.setdefault(row.form, []).append(count)
    assert all(max(each) - min(each) <= 1 for each in times.values())


def test_the_seed_fixes_rows_and_order(world: World, tokenizers: Tokenizers) -> None:
    def made(seed: int) -> Corpus:
        return corpus.build(world, tokenizers["word"], knows="quarter", steps=4, batch_size=16, seed=seed)

    one, same, other = made(0), made(0), made(1)
    assert all(torch.equal(getattr(one, name), getattr(same, name)) for name in ("ids", "labels", "lengths", "plan"))
    assert not torch.equal(one.ids, other.ids)
    assert not torch.equal(one.plan, other.plan)


def test_an_unknown_extent_of_knowledge_is_refused(world: World, tokenizers: Tokenizers) -> None:
    with pytest.raises(RefusedError, match=r"What a model knows.*'half'.*all, first_half, second_half, quarter"):
        build(world, tokenizers["word"], "half")
