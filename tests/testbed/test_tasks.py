"""Items of the test bed: what no split may share, what the Receiver may never read, and where the values are."""

from __future__ import annotations

import json
import re
import sys
from itertools import combinations, islice
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.world import items as world_items
from benchmarks.world.items import WORLD_WORD, world_stock
from benchmarks.world.world import generate
from c2c.errors import RefusedError
from c2c.testbed.items import JOINER, Item, check_item, holds_word, read_items, text_at
from c2c.testbed.tasks import make
from c2c.testbed.tasks.bank import bank
from c2c.testbed.tasks.tasks import BOXES, LADDER, WORDINGS, build_items
from c2c.testbed.tasks.tasks import TASKS as LIBRARY_TASKS
from c2c.testbed.tasks.values import PLACEHOLDER, SPLITS, Stock, stock
from c2c.testbed.tasks.vocabularies import FILE, Vocabularies

WORLD = WORLD_WORD.name
TASKS = LIBRARY_TASKS | {WORLD: WORLD_WORD}
NEW_WORDS = ("lantern", "meadow", "pencil", "velvet", "harbor", "anchor")
COUNTS = {"train": 90, "validation": 24, "test": 60}
TEXTS_OF_A_HEAD = 6


def vocabulary(folder: Path, missing: tuple[str, ...] = ()) -> Path:
    """A folder with a tokenizer of whole words, and of single digits as Qwen's is."""
    values = [value for words in bank().values() for value in words]
    words = [*values, *NEW_WORDS, "unknown", "is", "pet", *"0123456789"]
    entries = [word for word in dict.fromkeys(words) if word not in missing]
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0} | {word: i + 1 for i, word in enumerate(entries)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(True)])
    folder.mkdir()
    tokenizer.save(str(folder / FILE))
    return folder


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> Vocabularies:
    root = tmp_path_factory.mktemp("models")
    return Vocabularies.load([vocabulary(root / "receiver"), vocabulary(root / "sharer", missing=("velvet",))])


@pytest.fixture(scope="module", params=sorted(TASKS))
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def stock_of(task: str, vocabularies: Vocabularies, seed: int = 0) -> Stock:
    if task == WORLD:
        return world_stock(generate(), Vocabularies(), seed, PLACEHOLDER)
    return stock(vocabularies, seed)


def splits_of(task: str, vocabularies: Vocabularies, seed: int = 0) -> dict[str, list[Item]]:
    values = stock_of(task, vocabularies, seed)
    return {
        split: build_items(
            TASKS[task], values.material(split), COUNTS[split], TEXTS_OF_A_HEAD if split == "train" else 1
        )
        for split in SPLITS
    }


@pytest.fixture(scope="module")
def splits(task: str, vocabularies: Vocabularies) -> dict[str, list[Item]]:
    return splits_of(task, vocabularies)


def test_every_item_holds_the_rules_of_the_test_bed(task, splits) -> None:
    for split, items in splits.items():
        assert len(items) == COUNTS[split]
        for item in items:
            check_item(item, item.id)
            assert item.task == task and item.places


def test_values_and_options_of_one_split_are_in_no_other(splits) -> None:
    values = {
        split: {
            word.lower() for item in items for text in (*item.facts.values(), *item.options) for word in parts(text)
        }
        for split, items in splits.items()
    }
    for first, second in combinations(values.values(), 2):
        assert first.isdisjoint(second)


def parts(text: str) -> list[str]:
    """The values of an answer that is made of several."""
    return text.split(JOINER)


def test_family_names_of_one_split_are_in_no_other(task, splits) -> None:
    for split in ("train", "test"):
        texts = {word for item in splits[split] for word in re.findall(r"\w+", item.prompt)}
        for other in SPLITS:
            names = {name.split()[-1] for name in islice(stock_of(task, Vocabularies()).persons(other), 500)}
            assert bool(names & texts) == (other == split)


def test_the_receiver_reads_no_value_where_it_needs_a_message(task, splits) -> None:
    for item in splits["train"] + splits["test"]:
        assert item.need == (not task.startswith("unredacted"))
        if item.need:
            assert not any(holds_word(item.prompt, value) for value in item.facts.values())


def test_a_place_holds_a_placeholder_or_the_value_with_its_space(task, splits) -> None:
    if task == "private_line":
        return
    for item in splits["test"]:
        for place in item.places:
            value = text_at(item.sharer_texts[place.sender], place.sharer)
            assert value[0] == " " and value[1:] in item.facts.values()
            assert text_at(item.prompt, place.receiver) == (TASKS[task].placeholder if item.need else value)


def test_training_texts_of_a_head_differ_only_inside_their_places(splits) -> None:
    heads: dict[str, list[Item]] = {}
    for item in splits["train"]:
        heads.setdefault(item.id.rpartition(".")[0], []).append(item)
    assert len(heads) == COUNTS["train"] // TEXTS_OF_A_HEAD
    for items in heads.values():
        skeletons = {"".join(item.target_prompt[start:end] for start, end in outside(item)) for item in items}
        assert len(skeletons) == 1 and len({item.full_prompt for item in items}) == len(items) == TEXTS_OF_A_HEAD


def outside(item: Item) -> list[tuple[int, int]]:
    """Spans of the target prompt between its places."""
    bounds = [0, *(bound for place in item.places for bound in place.target), len(item.target_prompt)]
    return list(zip(bounds[::2], bounds[1::2], strict=True))


def test_the_right_option_is_at_each_index_about_as_often(splits) -> None:
    items = splits["train"]
    if not items[0].options:
        assert all(item.answer is None for item in items)
        return
    options = len(items[0].options)
    counts = [sum(item.answer == index for item in items) / len(items) for index in range(options)]
    assert all(0.4 < share * options < 1.7 for share in counts)


def test_another_seed_gives_other_items_and_the_same_seed_the_same(task, splits, vocabularies) -> None:
    assert splits_of(task, vocabularies) == splits
    other = splits_of(task, vocabularies, seed=1)
    assert len({item.full_prompt for items in (other, splits) for item in items["test"]}) > 1.8 * COUNTS["test"]


def test_a_smaller_test_is_the_beginning_of_a_larger_one(task, vocabularies) -> None:
    values = stock_of(task, vocabularies)
    small, large = (build_items(TASKS[task], values.material("test"), count, 1) for count in (8, 40))
    assert large[:8] == small


def test_training_words_are_one_token_in_all_vocabularies_and_none_of_them_is_a_value_of_another_split(
    vocabularies,
) -> None:
    values = stock(vocabularies, 0)
    held_out = {
        word.lower()
        for split in ("validation", "test")
        for words in values.attributes[split].values()
        for word in words
    }
    assert {"lantern", "meadow"} <= set(values.words) and "velvet" not in values.words
    assert held_out.isdisjoint(values.words)
    assert {"unknown", "is", "pet"}.isdisjoint(values.words)


def test_values_without_as_many_tokens_as_the_placeholder_are_dropped_and_counted(tmp_path) -> None:
    whole = stock(Vocabularies.load([vocabulary(tmp_path / "whole")]), 0)
    assert set(whole.dropped.values()) == {0}
    folder = tmp_path / "cut"
    path = vocabulary(folder) / FILE
    content = json.loads(path.read_text())
    content["pre_tokenizer"]["pretokenizers"].append(
        {"type": "Split", "pattern": {"String": "ee"}, "behavior": "Isolated", "invert": False}
    )
    path.write_text(json.dumps(content))
    cut = stock(Vocabularies.load([folder]), 0)
    words = {word for split in SPLITS for words in cut.attributes[split].values() for word in words}
    assert not any("ee" in word for word in words)
    assert cut.dropped["values_train"] > 0


@pytest.fixture(scope="module")
def test_items(vocabularies: Vocabularies) -> dict[str, list[Item]]:
    values = stock(vocabularies, 0)
    return {task: build_items(TASKS[task], values.material("test"), 48, 1) for task in TASKS if task != WORLD}


def test_a_record_has_its_facts_in_one_text_and_asks_one(test_items) -> None:
    items = test_items["redacted_record"]
    assert {item.subset for item in items} == set(map(str, LADDER))
    for item in items:
        assert len(item.facts) == len(item.places) == int(item.subset) == len(set(item.facts.values()))
        assert sum(attribute in item.question for attribute in item.facts) == 1


def test_the_options_of_binding_are_values_of_the_same_text(test_items) -> None:
    for item in test_items["redacted_binding"]:
        assert len(item.facts) == len(set(item.facts.values())) == 5 and set(item.options) < set(item.facts.values())
        assert [person for person in item.facts if person in item.question] == [
            person for person, value in item.facts.items() if value == item.value
        ]


def test_neither_sender_alone_excludes_more_than_half_of_the_options(test_items) -> None:
    for item in test_items["two_senders"]:
        values = [text_at(item.sharer_texts[place.sender], place.sharer)[1:] for place in item.places]
        assert [place.sender for place in item.places] == [0, 1] and item.value == JOINER.join(values)
        for index, value in enumerate(values):
            assert values[1 - index] not in item.sharer_texts[index]
            assert sum(parts(option)[index] == value for option in item.options) == 2


def test_two_facts_give_the_thing_in_a_box_and_neither_alone_does(test_items) -> None:
    for item in test_items["two_hop"]:
        boxes = {item.facts[f"{label} box"]: item.facts[f"{label} thing"] for label in BOXES}
        colour = next(iter(item.facts.values()))
        assert set(item.options) == set(boxes.values()) and len(boxes) == len(item.options) == 3
        assert boxes[colour] == item.value and len(item.places) == 7


def test_the_private_line_has_three_wordings_and_is_foreseen_before_the_word_that_is_fused(test_items) -> None:
    items = test_items["private_line"]
    assert {item.subset for item in items} == set(WORDINGS)
    for item in items:
        (place,) = item.places
        assert text_at(item.prompt, place.receiver) == text_at(item.full_prompt, place.full) == " what"
        assert text_at(item.sharer_texts[0], place.sharer) == " is" and place.sharer[1] == place.full[0]
        assert item.full_prompt.endswith(item.prompt) and f" {item.value}?" in item.target_prompt


def run(monkeypatch: pytest.MonkeyPatch, task: str, *arguments: object) -> int:
    """The command of a task, as a person types it."""
    of_task = [] if task == WORLD else ["--task", task]
    monkeypatch.setattr(sys, "argv", ["make", *of_task, *map(str, arguments)])
    return world_items.main() if task == WORLD else make.main()


def flags(output: Path, *more: object) -> list[object]:
    sizes = ["--test", 8, "--train", 12, "--validation", 4, "--texts-of-a-head", 3]
    return ["--seed", 0, *sizes, "--output", output, *more]


def test_the_command_writes_three_files_with_provenance_that_the_test_bed_can_read(task, monkeypatch, tmp_path) -> None:
    more: list[object] = ["--tokenizers", vocabulary(tmp_path / "model")]
    if task == WORLD:
        generate().save(tmp_path / "world.json")
        more = ["--world", tmp_path / "world.json"]
    assert run(monkeypatch, task, *flags(tmp_path / "items", *more)) == 0
    for split, count in (("train", 12), ("validation", 4), ("test", 8)):
        path = tmp_path / "items" / f"{split}.jsonl"
        assert len(read_items(path)) == count
        notes = json.loads(Path(f"{path}.provenance.json").read_text())
        assert notes["rows"] == count and notes["settings"]["split"] == split
        assert notes["dropped"]["values_test"] == 0 and notes["distinct_values"] > 0 and len(notes["inputs"]) == 1


def test_without_tokenizers_training_has_the_values_of_the_bank(monkeypatch, tmp_path) -> None:
    assert run(monkeypatch, "redacted_word", *flags(tmp_path)) == 0
    values = {value for words in stock(Vocabularies(), 0).attributes["train"].values() for value in words}
    assert {item.value for item in read_items(tmp_path / "train.jsonl")} <= values


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--tokenizers", "docs"], "must hold tokenizer.json"),
        (["--texts-of-a-head", "0"], "must be 1 or more"),
        (["--train", "0"], "must have a row or more"),
    ],
)
def test_the_command_refuses_in_one_line(more, words, monkeypatch, tmp_path, capsys) -> None:
    assert run(monkeypatch, "redacted_word", *flags(tmp_path), *more) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_fast_tokenizer_is_refused(tmp_path) -> None:
    with pytest.raises(RefusedError, match="must hold tokenizer"):
        Vocabularies.load([tmp_path])
