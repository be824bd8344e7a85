"""Manifests that are spoilt, files that are not those of their manifest, names that lead elsewhere: all refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from c2c.checkpoints import released_folder
from c2c.cli.main import main
from c2c.errors import REFUSED
from c2c.models import hub
from c2c.models.loading import load_causal_model, load_described, load_model, model_name
from c2c.storage.formats import write_json
from c2c.storage.manifests import FORMAT, describe_source
from tests.bad_inputs.model_folders import BINARY, CONFIG, WEIGHTS, change_weights, cut, edit
from tests.bad_inputs.refusals import refused


@pytest.fixture
def folder(model_folder, tmp_path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


@pytest.fixture
def manifest(folder, tmp_path) -> Path:
    """The manifest of the copy."""
    path = tmp_path / "model.json"
    write_json(path, hub.describe(str(folder), None))
    return path


MANIFESTS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "D1 no JSON": (lambda at: at.write_text("{'id'"), ("must be JSON",)),
    "D2 a list": (lambda at: at.write_text("[]"), ("object",)),
    "D3 without path": (lambda at: edit(at, "path"), ("no path",)),
    "D4 its path is itself": (lambda at: edit(at, path=str(at)), ("must be there",)),
    "its path and its id are itself": (lambda at: edit(at, path=str(at), id=str(at)), ("must be there",)),
    "its id is itself": (lambda at: edit(at, path=None, id=str(at)), ("must be a folder",)),
    "D5 path is a number": (lambda at: edit(at, path=7), ("path is 7",)),
    "D6 path is gone": (lambda at: edit(at, path="/nowhere/at/all"), ("/nowhere/at/all", "Fetch it again")),
    "path is a file": (lambda at: edit(at, path=str(at.parent / "model" / CONFIG)), ("must be there",)),
    "path is empty": (lambda at: edit(at, path=""), ("must be there",)),
    "id is a number": (lambda at: edit(at, id=7), ("id is 7",)),
    "without id": (lambda at: edit(at, "id"), ("no id",)),
    "D10 id leaves the mirror": (lambda at: edit(at, path=None, id="a/../../../../etc"), ("a/../../../../etc",)),
    "D11 id is empty": (lambda at: edit(at, path=None, id=""), ("must be a folder",)),
    "revision is a list": (lambda at: edit(at, revision=["main"]), ("revision",)),
    "without hashes, as before there were any": (lambda at: edit(at, "sha256"), ("no sha256", "Fetch it again")),
    "hashes are a list": (lambda at: edit(at, sha256=[]), ("sha256",)),
    "no hash at all": (lambda at: edit(at, sha256={}), ("sha256", "64 hexadecimal digits")),
    "a hash is a number": (lambda at: edit(at, sha256={CONFIG: 7}), ("64 hexadecimal digits",)),
    "a key that nobody knows": (lambda at: edit(at, trust=True), ("unknown trust",)),
    "a later version": (lambda at: edit(at, format=FORMAT + 1), (f"format {FORMAT}", f"'format': {FORMAT + 1}")),
    "a version that is a text": (lambda at: edit(at, format="1"), ("format",)),
    "a kind that nobody knows": (lambda at: edit(at, kind="weights"), ("kind", "weights")),
    "a kind that is a list": (lambda at: edit(at, kind=[]), ("kind",)),
    "A33 published fusers without path": (lambda at: edit(at, "path", kind="published fusers"), ("no path",)),
    "published fusers without subfolder": (lambda at: edit(at, kind="published fusers"), ("no subfolder",)),
    "empty": (lambda at: at.write_bytes(b""), ("must be JSON",)),
    "cut off": (cut, ("must be JSON",)),
    "binary": (lambda at: at.write_bytes(BINARY), ("UTF-8",)),
    "UTF-16": (lambda at: at.write_bytes(at.read_text().encode("utf-16")), ("UTF-8",)),
    "with a byte order mark": (lambda at: at.write_text("\ufeff" + at.read_text()), ("byte order mark",)),
    "nested without end": (lambda at: at.write_text('{"id":' * 100_000), ("must be JSON",)),
    "a number of 5,000 digits": (lambda at: at.write_text('{"id": ' + "9" * 5_000 + "}"), ()),
    "null": (lambda at: at.write_text("null"), ("object",)),
}


@pytest.mark.parametrize("use", [hub.resolve, load_model, load_described])
@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_is_spoilt_is_refused(case, use, manifest) -> None:
    spoil, words = MANIFESTS[case]
    spoil(manifest)
    with refused(*words):
        use(manifest)


@pytest.mark.parametrize("use", [hub.identify, model_name, released_folder.is_released])
@pytest.mark.parametrize("case", ["D1 no JSON", "D2 a list", "D3 without path", "a later version", "binary", "empty"])
def test_a_name_is_not_read_from_a_manifest_that_is_spoilt(case, use, manifest) -> None:
    spoil, words = MANIFESTS[case]
    spoil(manifest)
    with refused(*words):
        use(manifest)


CHANGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "D7 weights replaced": (
        lambda at: change_weights(at, lambda state: state["model.norm.weight"].mul_(2)),
        f"{WEIGHTS} has changed",
    ),
    "D8 config.json replaced": (lambda at: edit(at / CONFIG, rms_norm_eps=1.0), f"{CONFIG} has changed"),
    "tokenizer replaced": (lambda at: edit(at / "tokenizer_config.json", x=1), "tokenizer_config.json has changed"),
    "a file removed": (lambda at: (at / "generation_config.json").unlink(), "generation_config.json is missing"),
    "a file added": (lambda at: write_json(at / "adapter_config.json", {}), "adapter_config.json is new"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_model_that_is_not_the_one_of_its_manifest_is_refused(case, manifest, folder) -> None:
    load_model(manifest)
    change, words = CHANGED[case]
    change(folder)
    for use in (load_model, load_described, hub.resolve):
        with refused(words, "model.json", "Fetch it again"):
            use(manifest)


def test_a_mirror_with_another_model_than_the_manifests_is_refused(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("C2C_HUB_MIRROR", str(tmp_path / "mirror"))
    mirror = Path(shutil.copytree(folder, tmp_path / "mirror" / "owner" / "model"))
    write_json(tmp_path / "m.json", hub.describe("owner/model", "main"))
    assert load_causal_model(tmp_path / "m.json") is not None
    edit(mirror / CONFIG, rms_norm_eps=1.0)
    with refused("config.json has changed"):
        load_causal_model(tmp_path / "m.json")


SOURCES = {
    "D9 hub id with ..": "../../etc",
    "D10 hub id that leaves the mirror": "a/../../../../etc",
    "D11 empty": "",
    "an owner alone with a slash": "owner/",
    "three parts": "owner/model/more",
    "an absolute path that is not there": "/nowhere/at/all",
    "a blank": " ",
    "a name of dots": "owner/..",
    "a name that begins with a dot": "owner/.model",
    "a new line behind it": "owner/model\n",
    "a manifest that is not there": "models/none.json/x",
    "other letters": "οwner/model",
    "NUL": "owner/mo\0del",
}


@pytest.mark.parametrize("case", SOURCES)
def test_a_name_that_can_be_no_model_is_refused_and_no_hub_is_asked(case, tmp_path, monkeypatch) -> None:
    (tmp_path / "mirror" / "owner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)  # from another folder, ../../etc could be a folder that is there
    monkeypatch.setenv("C2C_HUB_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("the hub was asked"))
    with refused("must be a folder, a mirrored id or an id"):
        hub.resolve(SOURCES[case])
    assert hub.mirror_folder(SOURCES[case]) is None


def test_D12_an_owner_is_no_model_of_a_mirror(tmp_path, monkeypatch) -> None:
    (tmp_path / "owner").mkdir()
    monkeypatch.setenv("C2C_HUB_MIRROR", str(tmp_path))
    assert hub.mirror_folder("owner") is hub.mirror_folder("") is None


SUBFOLDERS = {
    "A21 ..": "../other",
    "A22 absolute": "/etc",
    ".. in the middle": "pair/../../other",
    "empty": "",
    "the folder itself": ".",
    "a link out of it": "link",
    "B22 a link in the middle": "link/final",
    "a file": CONFIG,
    "not there": "none",
}


@pytest.mark.parametrize("case", SUBFOLDERS)
@pytest.mark.parametrize("named", ["folder", "mirror", "hub"])
def test_a_subfolder_that_leaves_its_folder_is_refused(case, named, tmp_path, monkeypatch) -> None:
    (tmp_path / "other" / "final").mkdir(parents=True)
    inside = tmp_path / "owner" / "fusers"
    (inside / "pair").mkdir(parents=True)
    (inside / "link").symlink_to(tmp_path / "other")
    (inside / CONFIG).write_text("{}")
    monkeypatch.setenv("C2C_HUB_MIRROR", str(tmp_path) if named == "mirror" else "")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: str(inside))
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda *a, **k: [])
    source = str(inside) if named == "folder" else "owner/fusers"
    assert hub.resolve(source, subfolder="pair") == inside / "pair"
    with refused("subfolder"):
        hub.resolve(source, subfolder=SUBFOLDERS[case])


def test_links_of_a_mirror_and_of_the_hubs_cache_are_followed(folder, tmp_path, monkeypatch) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "models--owner--name" / "snapshots" / "abc1234"
    snapshot.mkdir(parents=True)
    folder.rename(blobs)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(path)
    (tmp_path / "mirror" / "owner").mkdir(parents=True)
    (tmp_path / "mirror" / "owner" / "name").symlink_to(snapshot)
    monkeypatch.setenv("C2C_HUB_MIRROR", str(tmp_path / "mirror"))
    write_json(tmp_path / "m.json", hub.describe("owner/name", None))
    for source in ("owner/name", snapshot, tmp_path / "m.json"):
        assert load_model(source).model.config.num_hidden_layers == 3
    assert len({hub.content(source) for source in ("owner/name", snapshot, tmp_path / "m.json", blobs)}) == 1


def test_a_fetched_folder_that_is_no_model_is_refused(tmp_path) -> None:
    with refused("config.json", str(tmp_path)):
        hub.describe(str(tmp_path), None)


@pytest.mark.parametrize("case", ["D1 no JSON", "D2 a list", "D4 its path is itself", "binary", "a later version"])
def test_a_command_ends_with_one_line_and_exit_code_2(case, manifest, tmp_path, capsys) -> None:
    MANIFESTS[case][0](manifest)
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"id": "1", "prompt": "red is", "response": "blue"}\n')
    command = ["tokenise", "--receiver", str(manifest), "--sharer", str(manifest), "--data", str(lines)]
    assert main([*command, "--output", str(tmp_path / "x.parquet")]) == REFUSED
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_published_fusers_that_were_replaced_are_refused(tmp_path) -> None:
    (tmp_path / "fusers" / "final").mkdir(parents=True)
    (tmp_path / "fusers" / "final" / "projector_0.pt").write_bytes(b"1")
    about = {"kind": "published fusers", "subfolder": "", "alignment": "none", "models": {}, "source": "folder"}
    about |= {"id": "owner/fusers", "revision": None, "path": str(tmp_path / "fusers")}
    write_json(tmp_path / "m.json", describe_source(tmp_path / "fusers", **about))
    assert released_folder.resolve_released(tmp_path / "m.json") == tmp_path / "fusers"
    (tmp_path / "fusers" / "final" / "projector_0.pt").write_bytes(b"2")
    with refused("final/projector_0.pt has changed"):
        released_folder.resolve_released(tmp_path / "m.json")
