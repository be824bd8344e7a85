from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from benchmarks.world import questions, texts
from benchmarks.world.texts import Fact
from benchmarks.world.world import World, generate

TASKS = Path(__file__).resolve().parents[3] / "benchmarks" / "tasks"
PREPARED = {"knowledge_gap_free": questions.free, "knowledge_gap_choice": questions.choice}
JINJA = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)


@cache
def task(benchmark: str) -> dict[str, Any]:
    return yaml.safe_load((TASKS / benchmark / f"{benchmark}.yaml").read_text())


compiled = cache(JINJA.from_string)


def render(template: str, **values: Any) -> str:
    return compiled(template).render(**values)


def pairs(world: World, benchmark: str) -> list[tuple[dict[str, Any], Fact]]:
    """Each prepared line and the fact that it asks for."""
    return list(zip(PREPARED[benchmark](world), world.facts(["test"]), strict=True))


@pytest.mark.parametrize("benchmark", PREPARED)
def test_a_benchmark_asks_in_the_words_that_models_were_trained_on(world: World, benchmark: str) -> None:
    for row, fact in pairs(world, benchmark):
        assert render(task(benchmark)["doc_to_text"], **row) == texts.question(fact).prompt


@pytest.mark.parametrize("benchmark", PREPARED)
def test_t2t_requests_and_reads_in_the_words_that_models_were_trained_on(world: World, benchmark: str) -> None:
    metadata = task(benchmark)["metadata"]
    for row, fact in pairs(world, benchmark):
        request, prompt = texts.request(fact), render(task(benchmark)["doc_to_text"], **row)
        assert render(metadata["t2t_question"], **row) == request.prompt
        told = render(metadata["t2t_prompt"], message=request.response, prompt=prompt)
        assert told == texts.reading(fact).prompt


def test_targets_are_the_answers_after_the_delimiter_of_training(world: World) -> None:
    for row, fact in pairs(world, "knowledge_gap_free"):
        config, text = task("knowledge_gap_free"), texts.question(fact)
        target = render(config["doc_to_target"], **row)
        assert text.prompt + config["target_delimiter"] + target == text.whole


def test_the_gold_option_is_the_answer(world: World) -> None:
    for row, fact in pairs(world, "knowledge_gap_choice"):
        gold = int(render(task("knowledge_gap_choice")["doc_to_target"], **row))
        assert row["choices"][gold] == fact.value


def test_there_are_four_distinct_options_of_the_attribute(world: World) -> None:
    for row, fact in pairs(world, "knowledge_gap_choice"):
        assert len(row["choices"]) == len(set(row["choices"])) == 4
        assert set(row["choices"]) <= set(world.attributes[fact.attribute])


def test_the_gold_option_stands_equally_often_in_each_place() -> None:
    golds = Counter(row["gold"] for row in questions.choice(generate(entities=512)))
    assert sorted(golds) == [0, 1, 2, 3]
    assert all(abs(count - 128) < 4 * (512 * 3 / 16) ** 0.5 for count in golds.values())


def test_both_benchmarks_ask_the_same_questions_each_once(world: World) -> None:
    free, choice = ([row["id"] for row in make(world)] for make in PREPARED.values())
    assert free == choice
    assert len(set(free)) == len(free) == 8 * 4


@pytest.mark.parametrize("benchmark", PREPARED)
def test_a_prepared_line_does_not_show_the_answer_in_its_prompt(world: World, benchmark: str) -> None:
    for row, fact in pairs(world, benchmark):
        rendered = render(task(benchmark)["doc_to_text"], **row) + render(
            task(benchmark)["metadata"]["t2t_question"], **row
        )
        assert fact.value not in rendered.split()


@pytest.mark.parametrize("split", ["train", "validation"])
def test_no_test_entity_is_in_the_fusers_training_set(world: World, split: str) -> None:
    tested = {row["entity"] for row in questions.free(world)}
    shown = {word for row in questions.examples(world, split) for word in f"{row['prompt']} {row['response']}".split()}
    assert len(tested) == 8
    assert not tested & shown


def test_training_and_validation_share_no_entity_and_hold_none_that_the_receiver_knows(world: World) -> None:
    train, validation = (
        {row["id"].split(".")[0] for row in questions.examples(world, split)} for split in ("train", "validation")
    )
    known = {fact.entity for fact in world.facts(["known"])}
    assert len(train) == 14
    assert len(validation) == 2
    assert not train & validation
    assert not (train | validation) & known


def test_the_fuser_is_trained_in_the_words_of_the_benchmarks(world: World) -> None:
    for row, fact in zip(questions.examples(world, "train"), world.facts(["train"]), strict=True):
        asked = {"entity": fact.entity, "attribute": fact.attribute}
        assert row["prompt"] == render(task("knowledge_gap_free")["doc_to_text"], **asked)
        assert row["response"] == fact.value


def test_prompts_end_without_a_space(world: World) -> None:
    for form in texts.FORMS.values():
        text = form(world.facts()[0])
        assert text.prompt == text.prompt.strip()
        assert text.response == text.response.strip()
