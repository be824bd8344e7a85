"""Published folders of which a file is spoilt, or asks for more than there is."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from c2c import RosettaModel
from c2c.checkpoints.released import read_stack
from c2c.checkpoints.released_folder import read_recipe
from c2c.types import CacheShape
from tests.bad_inputs.limits import within_limits
from tests.bad_inputs.refusals import refused
from tests.bad_inputs.spoiling import HUGE, WAYS, Bomb, edit

GOLDEN = Path(__file__).parent.parent / "golden"
CASE, OTHER = GOLDEN / "qwen3_from_qwen2", GOLDEN / "llama_from_qwen3_wide"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""Ten lines of YAML that stand for 9**9 words."""


@pytest.fixture
def published(tmp_path) -> Path:
    return Path(shutil.copytree(CASE / "released_1", tmp_path / "published"))


def shapes() -> dict[str, CacheShape]:
    return {name: CacheShape.of(AutoConfig.from_pretrained(CASE / folder))
            for name, folder in (("receiver", "receiver"), ("sharer", "sharer_1"))}  # fmt: skip


def read(folder: Path) -> None:
    sizes = shapes()
    within_limits(lambda: (read_recipe(folder), read_stack(folder, **sizes)))


PUBLISHED_FILES = ("config.json", "final/projector_config.json", "final/projector_1.json", "final/projector_1.pt")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PUBLISHED_FILES)
def test_a_file_of_a_published_folder_that_is_spoilt_is_refused_by_name(published, name, way) -> None:
    WAYS[way](published / name)
    if name == "config.json" and way in ("missing", "a folder"):
        read(published)  # a recipe need not be there, which `from_released` notes
        return
    # Of two files that must be as many, the one that is there is named.
    gone = name.endswith(".pt") and way in ("missing", "a folder")
    with refused("layer map" if gone and way == "missing" else Path(name).name):
        read(published)


@pytest.mark.parametrize("name", PUBLISHED_FILES[1:])
def test_a_file_of_another_published_folder_is_refused(published, name) -> None:
    shutil.copyfile(OTHER / "released_1" / name, published / name)
    with refused():
        read(published)


def describe(**arguments: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "final" / "projector_0.json", lambda c: c["init_args"].update(arguments))


def describe_class(name: Any, **arguments: Any) -> Callable[[Path], None]:
    def change(content: dict[str, Any]) -> None:
        content["class"] = name
        content["init_args"].update(arguments)

    return lambda folder: edit(folder / "final" / "projector_0.json", change)


def write(name: str, content: str | bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def recipe(**settings: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config.json", lambda c: c["model"].update(settings))


def store(change: Callable[[dict[Any, Any]], Any]) -> Callable[[Path], None]:
    """Change the tensors of the first fuser."""

    def act(folder: Path) -> None:
        path = folder / "final" / "projector_0.pt"
        state = torch.load(path, weights_only=True)
        change(state)
        torch.save(state, path)

    return act


def map_layers(**layers: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "final" / "projector_config.json", lambda c: c["0"]["1"].update(layers))


def rewrite_archive(content: bytes | None = None, compression: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        path = folder / "final" / "projector_0.pt"
        with zipfile.ZipFile(path) as old:
            entries = {name: old.read(name) for name in old.namelist()}
        with zipfile.ZipFile(path, "w", compression) as new:
            for name, data in entries.items():
                new.writestr(name, content if content and name.endswith("data.pkl") else data)

    return act


def many_files(folder: Path) -> None:
    for number in range(3, 2000):
        for ending in ("json", "pt"):
            (folder / "final" / f"projector_{number}.{ending}").symlink_to(f"projector_0.{ending}")


def old_format(folder: Path) -> None:
    path = folder / "final" / "projector_0.pt"
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)


def endless(folder: Path) -> None:
    path = folder / "final" / "projector_0.json"
    path.unlink()
    os.mkfifo(path)


PUBLISHED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "A3 a width whose weights are terabytes": (describe(hidden_dim=10**6), "expected (1000000, 32)"),
    "A3 a head dimension of millions": (describe(target_dim=10**6), "receiver_width must be"),
    "A4 a depth of a billion": (describe(num_layers=10**9), "num_layers must be"),
    "A4 a depth that the weights do not have": (describe(num_layers=200), "33 tensors; of 200 layers some are missing"),
    "A5 a width beyond 64 bits": (describe(hidden_dim=10**20), "hidden_dim must be"),
    "A5 a width of 400 digits": (describe(intermediate_dim=HUGE), "intermediate_dim must be"),
    "A5 steps of 400 digits": (describe(anneal_steps=HUGE), "anneal_steps must be"),
    "A5 a temperature of 400 digits": (describe(initial_temperature=HUGE), "initial_temperature must be"),
    "A6 a description that is text": (write("final/projector_0.json", '"full"'), "projector_0.json must be JSON"),
    "A7 arguments that are a list": (
        lambda f: edit(f / "final" / "projector_0.json", lambda c: c.update(init_args=[1])),
        "init_args is [1], not an object",
    ),
    "A8 a description that is not UTF-8": (write("final/projector_0.json", b'{"class": "\xff"}'), "must be UTF-8"),
    "A9 a hundred thousand lists in each other": (write("final/projector_0.json", "[" * 10**5), "must be JSON"),
    "A10 a recipe whose aliases are 9**9 words": (
        write("config.json", LAUGHS + "model: {base_model: *i}\n"),
        "must have at most",
    ),
    "A12 a recipe that is not UTF-8": (write("config.json", b"\xff\xfe"), "config.json must be UTF-8"),
    "A14 an unknown tensor of 10**12 numbers, all the same": (
        store(lambda s: s.update(extra=torch.zeros(1).expand(10**6, 10**6))),
        "strides (0, 0)",
    ),
    "A14 a known tensor of 10**12 numbers, all the same": (
        store(lambda s: s.update({"key_in.weight": torch.zeros(1).expand(10**6, 10**6)})),
        "strides (0, 0)",
    ),
    "A14 a tensor without memory": (
        store(lambda s: s.update({"key_in.weight": torch.empty(16, 28, device="meta")})),
        "a call of torch._utils _rebuild_meta_tensor_no_storage",
    ),
    "A14 a call that allocates": (rewrite_archive(pickle.dumps(Bomb(), protocol=2)), "bytearray"),
    "A14 a call of the newer kind": (rewrite_archive(pickle.dumps(Bomb(), protocol=4)), "STACK_GLOBAL"),
    "A14 a compressed archive": (rewrite_archive(compression=zipfile.ZIP_DEFLATED), "a compressed archive"),
    "A15 a sparse tensor": (
        store(lambda s: s.update({"key_in.weight": s["key_in.weight"].to_sparse()})),
        "_rebuild_sparse_tensor",
    ),
    "A15 a quantised tensor": (
        store(lambda s: s.update({"key_in.weight": torch.quantize_per_tensor(s["key_in.weight"], 1, 0, torch.qint8)})),
        "_rebuild_qtensor",
    ),
    "A16 whole numbers as weights": (
        store(lambda s: s.update({"key_in.weight": s["key_in.weight"].long()})),
        "LongStorage",
    ),
    "A16 complex numbers as weights": (
        store(lambda s: s.update({"key_in.weight": s["key_in.weight"].to(torch.complex64)})),
        "ComplexFloatStorage",
    ),
    "A18 a layer of the Receiver beyond all": (map_layers(**{"1000000000": [[0, 0]]}), "one of the Receiver's layers"),
    "A19 a layer of the Sharer with a fraction": (map_layers(**{"0": [[1.5, 0]]}), "projector_config.json must be"),
    "A19 a fuser that is true": (map_layers(**{"0": [[0, True]]}), "projector_config.json must be"),
    "A19 a layer of 5000 digits": (map_layers(**{"9" * 5000: [[0, 0]]}), "projector_config.json must be"),
    "A20 more files than layers": (many_files, "The layer map must use"),
    "A24 tensors named by numbers": (
        store(lambda s: s.update({1: s.pop("key_in.weight")})),
        "names that are text",
    ),
    "A25 final/ that is a link elsewhere": (
        lambda f: (shutil.rmtree(f / "final"), (f / "final").symlink_to("/etc")),
        "no projector_config.json in final/",
    ),
    "A26 dropout that is no number": (describe(dropout=float("nan")), "dropout must be"),
    "A26 dropout that is text": (describe(dropout="0.1"), "dropout must be a number"),
    "A27 an infinite temperature": (describe(initial_temperature=float("inf")), "initial_temperature must be"),
    "A27 a final temperature that is no number": (describe(final_temperature=float("nan")), "final_temperature must"),
    "A28 an empty recipe": (write("config.json", ""), "must hold a section model"),
    "A29 a recipe whose response is text": (recipe(include_response="false"), "include_response is 'false'"),
    "A29 a recipe whose alignment is a number": (recipe(alignment_strategy=3), "alignment_strategy is 3, not text"),
    "A29 a recipe whose alignment is text": (recipe(is_do_alignment="no"), "is_do_alignment is 'no'"),
    "A29 a recipe that runs code": (
        write("config.json", "model: !!python/object/apply:os.getcwd []\n"),
        "config.json must be YAML of plain values",
    ),
    "A30 a class that is a list": (describe_class(["C2CProjector"]), "class of a released fuser must be"),
    "A30 a level that is text": (describe_class("AblationProjector", ablation_level="1"), "ablation_level of"),
    "A30 a level that is true": (describe_class("AblationProjector", ablation_level=True), "ablation_level of"),
    "A30 a level without end": (describe_class("AblationProjector", ablation_level=HUGE), "ablation_level of"),
    "weights in the format before 2020": (old_format, "projector_0.pt must be a pickle"),
    "a description that is a pipe": (endless, "projector_0.json"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_folder_that_asks_for_the_impossible_is_refused(published, name) -> None:
    spoil, word = PUBLISHED[name]
    spoil(published)
    with refused(word):
        read(published)


@pytest.mark.parametrize("subfolder", ["../elsewhere", "/etc", "published/../../x", ""], ids="A21 {}".format)
def test_a_subfolder_that_leaves_its_source_is_refused(published, subfolder) -> None:
    for load in (RosettaModel.from_released, RosettaModel.from_pretrained):
        with refused("A subfolder must be a path inside"):
            load(published.parent, subfolder=subfolder, receiver="not loaded", sharers="not loaded")


def test_a_published_folder_of_half_precision_or_of_views_is_read_as_the_numbers_that_it_holds(published) -> None:
    path = published / "final" / "projector_0.pt"
    state = torch.load(path, weights_only=True)
    halves = {name: tensor.bfloat16() for name, tensor in state.items()}
    halves["key_in.weight"] = halves["key_in.weight"].t().contiguous().t()
    torch.save(halves, path)
    loaded = read_stack(published, **shapes()).fuser_of(0).state_dict()
    assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in halves.items())


def test_a_good_published_folder_is_loaded_within_the_limits(published) -> None:
    read(published)
