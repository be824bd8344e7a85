"""Folders of own Fusers of which a file is spoilt, or asks for more than there is."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from c2c import FuserStack
from c2c.checkpoints import checkpoint_folder
from c2c.checkpoints.checkpoint import load_stack, save_stack
from c2c.models.contract import describe_model
from c2c.provenance import file_hash
from tests.bad_inputs.limits import within_limits
from tests.bad_inputs.refusals import refused
from tests.bad_inputs.spoiling import HUGE, WAYS, Bomb, claim_terabytes, edit, fill_megabytes


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
    "B4 a depth that the weights do not have": (
        config(lambda c: c["fusers"][2].update(num_layers=200)),
        "of 200 layers some are missing",
    ),
    "B5 a header beyond the file": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 7 + b"\x0f" + b"{}"),
        "model.safetensors must be a safetensors file",
    ),
    "B6 a tensor of four terabytes": (
        lambda folder: claim_terabytes(folder / "model.safetensors"),
        "model.safetensors must be a safetensors file",
    ),
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


def test_a_good_checkpoint_is_loaded_within_the_limits(own) -> None:
    within_limits(lambda: load_stack(own))


def test_weights_that_are_not_those_of_the_fusers_are_not_read_to_their_end(own, monkeypatch) -> None:  # B18
    fill_megabytes(own / "model.safetensors")
    hashed = []
    monkeypatch.setattr(checkpoint_folder, "file_hash", lambda path: hashed.append(path.name) or file_hash(path))
    with refused("missing fusers.0.key_gate_logit"):
        within_limits(lambda: load_stack(own))
    with refused("missing fusers.0.key_gate_logit"):
        load_stack(own)
    assert hashed == ["config.json"]


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
