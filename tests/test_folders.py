"""Files that belong together are exchanged as one: a kill, a full disk or a second writer leaves the old or the new."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch

from c2c import FuserStack, RosettaModel, SharerCache, SharerInput
from c2c.checkpoints import checkpoint, sharer_cache
from c2c.checkpoints.checkpoint import load_stack, save_stack
from c2c.checkpoints.push import stage
from c2c.errors import RefusedError
from c2c.models.contract import describe_model
from c2c.storage import folders
from c2c.storage.folders import PREVIOUS, current, exchange
from tests.faults.crash_points import announced, killed_at_each_change

NAMES = ("numbers", "complete")
PART = r"part_\d+"


def write(folder: Path, text: str, parts: int = 0) -> None:
    with exchange(folder, NAMES, PART) as unfinished:
        for place in [unfinished / f"part_{number}" for number in range(parts)] or [unfinished]:
            place.mkdir(exist_ok=True)
            for name in NAMES:
                (place / name).write_text(text)


def read(folder: Path) -> dict[str, str]:
    place = current(folder)
    return {
        str(path.relative_to(place)): path.read_text()
        for path in sorted(place.rglob("*"))
        if path.name in NAMES and not any(part.startswith(".") for part in path.relative_to(place).parts)
    }


def both(text: str, *parts: str) -> dict[str, str]:
    return {f"{part}{name}": text for part in parts or ("",) for name in sorted(NAMES)}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("before", "after"),
    [(0, 0), (2, 0), *(pytest.param(*numbers, marks=SLOW) for numbers in ((2, 2), (3, 2), (0, 2)))],
)
def test_a_kill_at_any_change_leaves_all_old_files_or_all_new_ones(tmp_path, before, after) -> None:
    folder = tmp_path / "saved"
    old, new = (
        both(text, *[f"part_{number}/" for number in range(parts)]) for text, parts in (("old", before), ("new", after))
    )
    write(folder, "old", before)
    (folder / "history.csv").write_text("beside")
    seen = []
    for _ in killed_at_each_change(folder, lambda: write(folder, "new", after)):
        seen.append(read(folder))
    assert len(seen) > 8 and [key for key, _ in groupby(seen)] == [old, new]
    # Nothing else is left, and what was beside them is.
    assert {path.name for path in folder.iterdir()} == {*(name.split("/")[0] for name in new), "history.csv"}


def test_after_a_kill_another_save_finds_the_old_files_until_its_own_are_there(tmp_path) -> None:
    folder = tmp_path / "saved"
    write(folder, "old")
    kills = killed_at_each_change(folder, lambda: write(folder, "lost"))
    while not (folder / PREVIOUS).is_dir():
        assert next(kills), "it is killed in the exchange"
    for _ in killed_at_each_change(folder, lambda: write(folder, "new")):
        assert read(folder) in (both("old"), both("new"))
    assert read(folder) == both("new") and not (folder / PREVIOUS).exists()


def test_what_a_killed_save_of_more_parts_began_goes_with_the_next_save(tmp_path) -> None:
    write(tmp_path, "old")
    kills = killed_at_each_change(tmp_path, lambda: write(tmp_path, "lost", 2))
    while not (tmp_path / "part_1" / "numbers").exists():
        assert next(kills), "it is killed in the exchange"
        assert read(tmp_path) == both("old")
    assert current(tmp_path / "part_0") != tmp_path / "part_0", "what is not complete is not there"
    write(tmp_path, "new")
    assert read(tmp_path) == both("new") and {path.name for path in tmp_path.iterdir()} == set(NAMES)


def test_the_first_files_of_a_folder_are_complete_when_the_last_one_is_there(tmp_path) -> None:
    folder = tmp_path / "saved"
    for _ in killed_at_each_change(tmp_path, lambda: write(folder, "new", 2)):
        found = read(folder)
        assert all(f"part_{n}/numbers" in found for n in range(2) if f"part_{n}/complete" in found)
    assert found == both("new", "part_0/", "part_1/")


def test_a_block_that_fails_leaves_the_old_files_and_nothing_else(tmp_path) -> None:
    write(tmp_path, "old")
    with pytest.raises(RuntimeError), exchange(tmp_path, NAMES) as unfinished:
        (unfinished / "numbers").write_text("half")
        raise RuntimeError
    assert read(tmp_path) == both("old") and {path.name for path in tmp_path.iterdir()} == set(NAMES)


def test_a_file_system_without_second_names_keeps_copies(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(folders.os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    write(tmp_path / "saved", "old")
    for _ in killed_at_each_change(tmp_path / "saved", lambda: write(tmp_path / "saved", "new")):
        assert read(tmp_path / "saved") in (both("old"), both("new"))


def test_files_reach_the_disk_before_their_names_do(tmp_path, monkeypatch) -> None:
    synced: list[str] = []
    write(tmp_path, "old")
    monkeypatch.setattr(folders, "sync", lambda path: synced.append(f"{path.name} {(tmp_path / 'numbers').exists()}"))
    write(tmp_path, "new")
    assert "numbers True" in synced and "complete True" in synced
    assert synced[-1] == f"{tmp_path.name} True" and len(synced) >= 8


def test_what_a_link_leads_to_is_not_changed(tmp_path) -> None:
    write(tmp_path / "elsewhere", "old")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "part_0").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "saved", "new", 2)
    assert read(tmp_path / "elsewhere") == both("old")
    assert read(tmp_path / "saved") == both("new", "part_0/", "part_1/")


def test_folders_inside_that_hold_something_else_stay(tmp_path) -> None:
    (tmp_path / "part_1").mkdir()
    (tmp_path / "part_1" / "numbers").write_text("of a language model, say")
    write(tmp_path, "old", 1)
    write(tmp_path, "new")
    assert (tmp_path / "part_1" / "numbers").read_text() == "of a language model, say"
    assert not (tmp_path / "part_0").exists()


def test_two_processes_that_save_into_one_folder_do_not_mix(tmp_path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom c2c.storage.folders import exchange\n"
        "with exchange(Path(sys.argv[1]), ('complete',)) as unfinished: (unfinished / 'complete').write_text('theirs')"
    )
    with exchange(tmp_path, ("complete",)) as unfinished:
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
        )
        assert "Only one run at a time must save files" in done.stderr
        (unfinished / "complete").write_text("ours")
    assert (tmp_path / "complete").read_text() == "ours"


# What is saved so


@pytest.fixture
def models(tiny_model) -> list[Any]:
    return [tiny_model("qwen3"), tiny_model("qwen2", layers=4, seed=1), tiny_model("llama", seed=2)]


def built(models: list[Any], seed: int) -> RosettaModel:
    torch.manual_seed(seed)
    sizes = {"hidden_dim": 8, "intermediate_dim": 8, "layer_alignment": "nearest", "variant": "fuse"}
    stacks = [FuserStack.between(sharer.config, models[0].config, **sizes) for sharer in models[1:]]
    return RosettaModel.of_stacks(models[0], models[1:], stacks)


def weights(model: RosettaModel) -> list[torch.Tensor]:
    return [tensor.detach() for stack in model.stacks for tensor in stack.state_dict().values()]


def same(one: RosettaModel, other: RosettaModel) -> bool:
    return all(torch.equal(ours, theirs) for ours, theirs in zip(weights(one), weights(other), strict=True))


@pytest.mark.slow
def test_fusers_of_several_sharers_are_saved_again_as_one(models, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint, "save_file", announced(checkpoint.save_file, 1))
    old, new = built(models, 0), built(models, 1)
    old.save_pretrained(tmp_path / "fusers")
    seen = []
    for _ in killed_at_each_change(tmp_path / "fusers", lambda: new.save_pretrained(tmp_path / "fusers")):
        loaded = RosettaModel.from_pretrained(tmp_path / "fusers", receiver=models[0], sharers=models[1:])
        assert same(loaded, old) or same(loaded, new), "Sharers of two saves"
        part = load_stack(tmp_path / "fusers" / "sharer_2")[0].state_dict()
        assert all(torch.equal(part[name], each) for name, each in loaded.stack(1).state_dict().items())
        seen.append(same(loaded, old))
    assert [key for key, _ in groupby(seen)] == [True, False]


def test_a_folder_that_was_killed_while_it_was_saved_is_published_as_it_was(models, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint, "save_file", announced(checkpoint.save_file, 1))
    folder = tmp_path / "fusers"
    built(models, 0).save_pretrained(folder)
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    for _ in killed_at_each_change(folder, lambda: built(models[:2], 1).save_pretrained(folder)):
        if (folder / PREVIOUS).is_dir() and not list((folder).glob("sharer_*")):
            break
    stage(folder, tmp_path / "staged", "owner/name")
    for name, content in before.items():
        assert (tmp_path / "staged" / name).read_bytes() == content


def test_a_folder_that_had_more_sharers_has_only_those_that_were_saved_last(models, tmp_path) -> None:
    built(models, 0).save_pretrained(tmp_path / "fusers")
    built(models[:2], 1).save_pretrained(tmp_path / "fusers")
    names = ["config.json", "manifest.json", "model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "fusers").iterdir()) == names
    stage(tmp_path / "fusers", tmp_path / "staged", "owner/name")
    assert sorted(path.name for path in (tmp_path / "staged").iterdir()) == ["README.md", *names]


def with_full_disk(action: Callable[[], Any], most: int) -> None:
    """Run `action` in a process whose files cannot grow beyond `most` bytes, and let it fail."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        try:
            action()
        except Exception:
            os._exit(7)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7, "the disk was not full"


@pytest.mark.parametrize("most", [0, 1_000, 20_000])
def test_a_checkpoint_survives_a_disk_that_is_full_while_it_is_saved_again(models, tmp_path, most) -> None:
    folder, receiver, sharer = tmp_path / "fusers", *models[:2]
    lines = {"receiver": describe_model(receiver), "sharer": describe_model(sharer)}
    old, new = built(models[:2], 0).stack(0), built(models[:2], 1).stack(0)
    save_stack(old, folder, **lines)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with_full_disk(lambda: save_stack(new, folder, **lines), most)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".exchange.lock"} == before
    save_stack(new, folder, **lines)
    loaded = load_stack(folder)[0].state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in new.state_dict().items())


def test_a_cache_that_is_written_again_is_the_old_or_the_new_one(models, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sharer_cache, "save_file", announced(sharer_cache.save_file, 1))
    ids = [torch.arange(first, first + 6).reshape(1, 6) for first in (3, 40)]
    old, new = (SharerCache.of_model(models[2], SharerInput.of_receiver(each, torch.ones_like(each))) for each in ids)
    old.save(tmp_path / "cache")
    seen = []
    for _ in killed_at_each_change(tmp_path / "cache", lambda: new.save(tmp_path / "cache")):
        loaded = SharerCache.load(tmp_path / "cache")
        (number,) = [n for n, each in enumerate(ids) if torch.equal(loaded.input_ids, each)]
        assert torch.equal(loaded.layers[0][0], (old, new)[number].layers[0][0])
        seen.append(number)
    assert [key for key, _ in groupby(seen)] == [0, 1]


def test_a_first_save_that_is_killed_is_no_checkpoint(models, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint, "save_file", announced(checkpoint.save_file, 1))
    model, read = built(models[:2], 0), []
    for _ in killed_at_each_change(tmp_path, lambda: model.save_pretrained(tmp_path / "fusers")):
        try:
            read.append(bool(load_stack(tmp_path / "fusers")))
        except RefusedError as error:
            assert "must hold" in error.rule
            read.append(False)
    assert [key for key, _ in groupby(read)] == [False, True]
