"""Files of a Sharer's cache that are spoilt, or ask for more than there is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from c2c import SharerCache, SharerInput
from c2c.checkpoints.sharer_cache import MANIFEST, STATES
from c2c.provenance import file_hash
from tests.bad_inputs.limits import within_limits
from tests.bad_inputs.refusals import refused
from tests.bad_inputs.spoiling import HUGE, WAYS, claim_terabytes, edit


@pytest.fixture(scope="module")
def caches(tmp_path_factory) -> Path:
    """A cache of a batch of two, and one of the same sizes of other tokens."""
    from tests.conftest import build_model

    folder, sharer = tmp_path_factory.mktemp("caches"), build_model("llama", layers=4, kv_heads=1, head_dim=12)
    for name, first in (("own", 3), ("another", 30)):
        ids = torch.arange(first, first + 20).reshape(2, 10)
        SharerCache.of_model(sharer, SharerInput.of_receiver(ids, torch.ones_like(ids))).save(folder / name)
    return folder


@pytest.fixture
def cache(caches, tmp_path) -> Path:
    return Path(shutil.copytree(caches / "own", tmp_path / "cache"))


def seal(folder: Path) -> None:
    edit(folder / MANIFEST, lambda manifest: manifest.update(sha256={STATES: file_hash(folder / STATES)}))


@pytest.mark.parametrize("sealed", [False, True], ids=["", "sealed"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [STATES, MANIFEST])
def test_a_file_of_a_cache_that_is_spoilt_is_refused_by_name(cache, name, way, sealed) -> None:
    WAYS[way](cache / name)
    if sealed and name == STATES and way in ("empty", "truncated", "binary", "a list"):
        seal(cache)
    with refused(name):
        within_limits(lambda: SharerCache.load(cache))


@pytest.mark.parametrize("name", [STATES, MANIFEST])
def test_a_file_of_another_cache_of_the_same_sizes_is_refused(caches, cache, name) -> None:
    shutil.copyfile(caches / "another" / name, cache / name)
    with refused("cache.safetensors must be the file that the manifest names"):
        SharerCache.load(cache)


def manifest(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / MANIFEST, lambda content: content.update(changes))


def shape(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / MANIFEST, lambda content: content["shape"].update(changes))


def states(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        tensors = load_file(folder / STATES)
        change(tensors)
        save_file(tensors, folder / STATES)

    return act


CASES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "C1 a billion layers": (shape(layers=10**9), "must be at most 65536"),
    "C1 more layers than the file": (shape(layers=60_000), "for 60000 layers"),
    "C1 fewer layers than the file": (shape(layers=3), "11 tensors, for 3 layers"),
    "C1 heads of 400 digits": (shape(heads=HUGE), "must be at most 65536"),
    "C3 a head dimension of 0": (shape(head_dim=0), "must be at least 1"),
    "C7 10**18 rows": (manifest(rows=10**18), "expected (1000000000000000000, 1, 10, 12)"),
    "C7 tokens of 400 digits": (manifest(tokens=HUGE), "a number of 1329 bits"),
    "C8 a dtype that is a command": (manifest(dtype="float64; rm -rf"), "dtype in manifest.json must be"),
    "C8 a dtype of whole numbers": (manifest(dtype="int8"), "dtype in manifest.json must be"),
    "C8 a dtype that the states do not have": (manifest(dtype="float16"), "key.0 is float32, expected float16"),
    "C9 lines that are numbers and lists": (
        manifest(sharer={"id": [1], "weights_sha256": 5}),
        "weights_sha256 is 5, not text",
    ),
    "C9 sizes that are text": (manifest(sharer={"layers": "4"}), "layers is '4', not a whole number"),
    "C13 a newer version": (manifest(version=2), "version 1; received ('c2c-sharer-cache', 2)"),
    "C13 a version that is true": (manifest(version=True), "version is True"),
    "four terabytes in a header": (
        lambda folder: claim_terabytes(folder / STATES),
        "cache.safetensors must be a safetensors file",
    ),
    "whole numbers as keys": (
        states(lambda s: s.update({"key.1": s["key.1"].int()})),
        "key.1 is I32, expected float32",
    ),
    "no map": (states(lambda s: s.pop("token_map")), "token_map"),
    "an unknown tensor": (states(lambda s: s.update(extra=torch.zeros(1))), "12 tensors, for 4 layers"),
    "a tensor by another name": (states(lambda s: s.update(extra=s.pop("value.3"))), "value.3"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_cache_that_asks_for_the_impossible_is_refused_though_its_hash_is_right(cache, name) -> None:
    spoil, word = CASES[name]
    spoil(cache)
    seal(cache)
    with refused(word):
        within_limits(lambda: SharerCache.load(cache))


def test_a_good_cache_is_loaded_within_the_limits(cache) -> None:
    within_limits(lambda: SharerCache.load(cache))
