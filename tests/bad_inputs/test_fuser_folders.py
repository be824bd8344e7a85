"""Folders of Fusers, own and published, of which a file is spoilt, or asks for more than there is."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from c2c import FuserStack, RosettaModel
from c2c.checkpoint import load_stack, save_stack
from c2c.contract import describe_model
from c2c.provenance import file_hash
from c2c.released import read_stack
from c2c.released_recipe import read_recipe
from c2c.types import CacheShape
from tests.bad_inputs.limits import within_limits
from tests.bad_inputs.refusals import refused

GOLDEN = Path(__file__).parent.parent / "golden"
CASE, OTHER = GOLDEN / "qwen3_from_qwen2", GOLDEN / "llama_from_qwen3_wide"
HUGE = 10**400
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""Ten lines of YAML that stand for 9**9 words."""


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def sparse(path: Path) -> None:
    """A file that says it has 64 GB and takes none."""
    path.unlink()
    with path.open("wb") as stream:
        stream.truncate(2**36)


WAYS: dict[str, Callable[[Path], Any]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "truncated": half,
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "a list": lambda path: path.write_text("[1, 2]"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "64 GB": sparse,
}
"""What can become of any file, whatever it is."""


# Published folders


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


class Bomb:
    """A pickle of 100 bytes that allocates a terabyte when it is loaded, by a call that torch takes for harmless."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (2**40,)


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
    "A4 a depth that the weights do not have": (describe(num_layers=200), "missing key_proj_mlp2.blocks.1"),
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
    "A30 a class that is a list": (describe_class(["C2CProjector"]), "class of a published fuser must be"),
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
        with refused("A subfolder must be named from inside"):
            load(published.parent, subfolder=subfolder, receiver="not loaded", sharers="not loaded")


def test_a_published_folder_of_half_precision_or_of_views_is_read_as_the_numbers_that_it_holds(published) -> None:
    path = published / "final" / "projector_0.pt"
    state = torch.load(path, weights_only=True)
    halves = {name: tensor.bfloat16() for name, tensor in state.items()}
    halves["key_in.weight"] = halves["key_in.weight"].t().contiguous().t()
    torch.save(halves, path)
    loaded = read_stack(published, **shapes()).fuser_of(0).state_dict()
    assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in halves.items())


# Own checkpoints


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint of three Fusers, and another of the same sizes beside it."""
    from tests.conftest import build_model

    receiver, sharer = build_model("qwen3"), build_model("qwen2", layers=4, seed=1)
    folder = tmp_path_factory.mktemp("fusers")
    for name in ("own", "another"):
        stack = FuserStack.between(sharer.config, receiver.config, hidden_dim=8, intermediate_dim=8)
        save_stack(stack, folder / name, receiver=describe_model(receiver), sharer=describe_model(sharer))
    return folder


@pytest.fixture
def own(checkpoint, tmp_path) -> Path:
    return Path(shutil.copytree(checkpoint / "own", tmp_path / "own"))


def seal(folder: Path) -> None:
    """Let the manifest vouch for the files as they are."""
    files = [folder / name for name in ("config.json", "model.safetensors")]
    hashes = {path.name: file_hash(path) for path in files if path.is_file() and path.stat().st_size < 2**30}
    edit(folder / "manifest.json", lambda manifest: manifest.update(sha256=hashes))


OWN_FILES = ("config.json", "model.safetensors", "manifest.json")


@pytest.mark.parametrize("sealed", [False, True], ids=["", "sealed"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OWN_FILES)
def test_a_file_of_a_checkpoint_that_is_spoilt_is_refused_by_name(own, name, way, sealed) -> None:
    WAYS[way](own / name)
    if sealed and name != "manifest.json":
        seal(own)
    with refused(name):
        within_limits(lambda: load_stack(own))


@pytest.mark.parametrize("name", OWN_FILES)
def test_a_file_of_another_checkpoint_of_the_same_sizes_is_refused(checkpoint, own, name) -> None:
    if name != "config.json":
        shutil.copyfile(checkpoint / "another" / name, own / name)
        with refused("the file that the manifest names"):
            load_stack(own)
    else:  # both say the same
        assert (checkpoint / "another" / name).read_bytes() == (own / name).read_bytes()


def config(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config.json", change)


def manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "manifest.json", change)


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        changed = change(state)
        save_file(changed if isinstance(changed, dict) else state, folder / "model.safetensors")

    return act


def multiply(count: int) -> Callable[[dict[str, Any]], None]:
    """As many fusers, each with a link, and as many Receiver layers."""

    def change(content: dict[str, Any]) -> None:
        content["fusers"] = content["fusers"][:1] * count
        content["links"] = [{"receiver_layer": n, "sharer_layer": 0, "fuser": n} for n in range(count)]
        content["receiver"]["layers"] = count

    return change


def of_each(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda state: {name: change(tensor) for name, tensor in state.items()}


LATENT = {"shape": {"layers": 2, "heads": 1, "head_dim": 8}, "reads": [0, 1], "hidden_dim": 8}
OWN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "B3 a width whose weights are terabytes": (
        config(lambda c: [fuser.update(hidden_dim=10**6) for fuser in c["fusers"]]),
        "expected (1000000, ",
    ),
    "B3 a width of 400 digits": (config(lambda c: c["fusers"][0].update(hidden_dim=HUGE)), "hidden_dim must be"),
    "B4 a depth of a billion": (config(lambda c: c["fusers"][0].update(num_layers=10**9)), "num_layers must be"),
    "B4 a depth that the weights do not have": (config(lambda c: c["fusers"][2].update(num_layers=200)), "missing"),
    "B8 a Receiver of 10**18 layers": (config(lambda c: c["receiver"].update(layers=10**18)), "must be at most"),
    "B8 a Sharer of 10**400 heads": (config(lambda c: c["sharer"].update(heads=HUGE)), "must be at most"),
    "B9 a link to layer -1": (config(lambda c: c["links"][0].update(sharer_layer=-1)), "one of the Sharer's layers"),
    "B10 a response that is text": (
        config(lambda c: c["about"].update(include_response="false")),
        "include_response is 'false', not true or false",
    ),
    "B10 an alignment that is a list": (config(lambda c: c["about"].update(alignment=["span"])), "not text"),
    "B11 an unknown fusion": (config(lambda c: c["about"].update(fusion="evil")), "fusion in config.json must be"),
    "B12 accepted lines that are objects": (
        config(lambda c: c["contract_check"].update(accepted=[{"a": 1}])),
        "accepted of contract_check",
    ),
    "B13 a hundred thousand lists in each other": (
        lambda folder: (folder / "manifest.json").write_text("[" * 10**5),
        "manifest.json must be JSON",
    ),
    "B14 lines of a contract that are numbers": (
        manifest(lambda m: m["contract"]["receiver"].update(weights_sha256=5)),
        "weights_sha256 is 5, not text",
    ),
    "B16 weights that are no numbers": (
        weights(lambda s: s["fusers.1.key_in.weight"].fill_(float("nan"))),
        "fusers.1.key_in.weight is not finite",
    ),
    "B17 half precision in place of the contract's": (
        weights(of_each(torch.Tensor.half)),
        "the dtype that the contract",
    ),
    "B17 one tensor in half precision": (
        weights(lambda s: s.update({"fusers.0.key_in.weight": s["fusers.0.key_in.weight"].half()})),
        "['float16', 'float32']",
    ),
    "B17 whole numbers as weights": (weights(of_each(torch.Tensor.char)), "I8, expected floating-point numbers"),
    "B17 eight bits as weights": (
        weights(of_each(lambda tensor: tensor.to(torch.float8_e4m3fn))),
        "expected floating-point numbers",
    ),
    "B17 a contract of another dtype": (
        manifest(lambda m: m["contract"]["fuser"].update(dtype="bfloat16")),
        "the dtype that the contract names, bfloat16",
    ),
    "B19 a Fuser without the gates that the weights have": (
        config(lambda c: c["fusers"][0].update(gated=False)),
        "unknown fusers.0.gate_temperature",
    ),
    "B21 ninety thousand fusers": (config(lambda c: c.update(fusers=c["fusers"] * 30_000)), "no more fusers than"),
    "B21 thousands of fusers with a link each": (config(multiply(9_000)), "missing fusers.3.key_gate_logit"),
    "B21 ninety thousand links": (config(lambda c: c.update(links=c["links"] * 30_000)), "no more links than"),
    "B21 a fuser without a link": (
        config(lambda c: c["links"][2].update(fuser=0)),
        "Each fuser in config.json must have a link",
    ),
    "B21 more layers in a latent cache than tensors": (
        config(lambda c: c.update(latent={**LATENT, "shape": {**LATENT["shape"], "layers": 60_000}})),
        "latent in config.json must have layers",
    ),
    "B21 a latent cache whose encoder is not there": (config(lambda c: c.update(latent=LATENT)), "missing encoder."),
    "B21 an encoder of 10**9": (config(lambda c: c.update(latent={**LATENT, "hidden_dim": 10**9})), "at most"),
    "B21 an encoder that reads text": (config(lambda c: c.update(latent={**LATENT, "reads": "ab"})), "not a list"),
    "B23 a manifest of a newer format": (manifest(lambda m: m.update(format=3)), "must have format 2"),
    "B23 a config of a newer format": (config(lambda c: c.update(format=3)), "config.json must have format 2"),
    "a config of a hundred thousand unknown keys": (
        config(lambda c: c.update(dict.fromkeys(map(str, range(10**5))))),
        "unknown",
    ),
    "a manifest with an unknown line": (
        manifest(lambda m: m["contract"].update(judge={})),
        "The contract in manifest.json must hold",
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_a_checkpoint_that_asks_for_the_impossible_is_refused_though_its_hashes_are_right(own, name) -> None:
    spoil, word = OWN[name]
    spoil(own)
    if "lists in each other" not in name:
        seal(own)
    with refused(word):
        within_limits(lambda: load_stack(own))


def test_a_good_checkpoint_is_loaded_within_the_limits(own, published) -> None:
    within_limits(lambda: load_stack(own))
    read(published)


def test_other_files_beside_a_checkpoint_are_not_looked_at(own) -> None:  # B24
    (own / "model.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    within_limits(lambda: load_stack(own))


@pytest.mark.parametrize("place", ["B22 sharer_1", "B22 the folder itself"])
def test_a_link_to_a_complete_checkpoint_is_loaded(checkpoint, tmp_path, place) -> None:
    folder = tmp_path / "linked"
    if "itself" in place:
        folder.symlink_to(checkpoint / "own")
    else:
        folder.mkdir()
        (folder / "sharer_1").symlink_to(checkpoint / "own")
        folder = folder / "sharer_1"
    loaded, expected = load_stack(folder)[0].state_dict(), load_stack(checkpoint / "own")[0].state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
