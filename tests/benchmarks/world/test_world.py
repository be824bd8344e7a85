from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.world import make, texts
from benchmarks.world.world import SPLITS, World, generate
from c2c.errors import RefusedError


def make_files(folder: Path, seed: int) -> dict[str, bytes]:
    paths = [
        "--output",
        f"{folder}/world.json",
        "--benchmarks",
        f"{folder}/questions",
        "--training-set",
        f"{folder}/set",
    ]
    make.main(["--entities", "32", "--seed", str(seed), *paths])
    written = (path for path in folder.rglob("*.json*") if not path.name.endswith(".provenance.json"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in written}


def names_of(world: World, split: str) -> set[str]:
    return {entity.name for entity in world.entities if entity.split == split}


@pytest.mark.parametrize("entities", [16, 64, 512])
def test_a_quarter_is_known_a_quarter_is_test_and_an_eighth_of_the_fusers_half_is_validation(entities: int) -> None:
    sizes = Counter(entity.split for entity in generate(entities=entities).entities)
    half = sizes["train"] + sizes["validation"]
    assert sizes["known"] == sizes["test"] == entities // 4
    assert half == entities // 2
    assert sizes["validation"] == half // 8


def test_splits_are_disjoint_and_complete(world: World) -> None:
    groups = [names_of(world, split) for split in SPLITS]
    assert sum(map(len, groups)) == len(world.entities) == 32
    assert set().union(*groups) == set(world.names)


def test_names_differ_and_none_of_them_is_a_word_of_the_wordings() -> None:
    names = generate(entities=512).names
    assert len(set(names)) == 512
    assert not set(names) & set(texts.words())


def test_the_facts_of_splits_are_theirs_and_together_all_of_them(world: World) -> None:
    for split in SPLITS:
        assert {fact.entity for fact in world.facts([split])} == names_of(world, split)
    assert sorted(fact for split in SPLITS for fact in world.facts([split])) == sorted(world.facts())
    assert len(world.facts()) == 32 * 4


def test_facts_of_an_unknown_split_are_refused_by_name(world: World) -> None:
    with pytest.raises(RefusedError, match=r"received 'tset'\. Did you mean 'test'"):
        world.facts(["known", "tset"])


def test_every_value_is_one_of_its_attribute_and_the_values_of_an_attribute_differ() -> None:
    world = generate(entities=512, attributes=len(texts.BANK))
    assert all(fact.value in world.attributes[fact.attribute] for fact in world.facts())
    assert all(len(set(values)) == len(values) == 16 for values in world.attributes.values())


def test_values_are_uniform_so_that_no_guess_beats_chance() -> None:
    facts = generate(entities=512).facts()
    counts = Counter((fact.attribute, fact.value) for fact in facts)
    assert len(counts) == 4 * 16
    assert max(counts.values()) < 2 * 512 / 16


def test_splits_are_shuffled_over_the_order_of_the_world() -> None:
    splits = [entity.split for entity in generate(entities=512).entities]
    assert set(splits[:64]) == set(SPLITS)
    assert sum(one != next_one for one, next_one in pairwise(splits)) > 256


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    one, other = make_files(tmp_path / "one", 3), make_files(tmp_path / "other", 3)
    assert len(one) == 5
    assert one == other


def test_another_seed_is_another_world(tmp_path: Path) -> None:
    one, other = make_files(tmp_path / "one", 3), make_files(tmp_path / "other", 4)
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)
    assert set(generate(entities=64, seed=3).names) != set(generate(entities=64, seed=4).names)


def test_every_file_of_a_world_is_stamped(tmp_path: Path) -> None:
    for name in make_files(tmp_path, 0):
        assert (tmp_path / f"{name}.provenance.json").is_file()


def test_a_world_is_read_as_it_was_saved(world: World, tmp_path: Path) -> None:
    world.save(tmp_path / "world.json")
    assert World.load(tmp_path / "world.json") == world


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"entities": 0}, "sixteenths; received 0"),
        ({"entities": -16}, "sixteenths; received -16"),
        ({"entities": 40}, "sixteenths; received 40"),
        ({"attributes": 0}, "Attributes must come from the bank.*received 0"),
        ({"attributes": 7}, "Attributes must come from the bank.*received 7"),
        ({"values": 3}, "four options; received 3"),
        ({"values": 17}, "four options; received 17"),
    ],
)
def test_impossible_worlds_are_refused(settings: dict[str, int], rule: str) -> None:
    with pytest.raises(RefusedError, match=rule):
        generate(**settings)


def test_an_impossible_world_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = ["--output", f"{tmp_path}/world.json", "--benchmarks", f"{tmp_path}/b", "--training-set", f"{tmp_path}/t"]
    assert make.main(["--entities", "17", *paths]) == 2
    assert "sixteenths" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_world_that_does_not_exist_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"world\.json.*benchmarks\.world\.make"):
        World.load(tmp_path / "world.json")


def test_the_halves_share_no_entity_are_all_of_them_and_cut_every_split_in_two(world: World) -> None:
    first, second = ({fact.entity for fact in world.half(number)} for number in (0, 1))
    assert not first & second and first | second == set(world.names)
    assert len(world.half(0)) + len(world.half(1)) == len(world.facts())
    for split in SPLITS:
        of_split = {entity.name for entity in world.entities if entity.split == split}
        assert abs(len(of_split & first) - len(of_split & second)) <= 1
