"""The resolver: folder, manifest, mirror, hub, in that order."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from c2c.errors import RefusedError
from c2c.models import hub
from c2c.models.download import MIRRORS
from c2c.provenance import file_hash
from c2c.storage.formats import write_json
from c2c.storage.manifests import describe_source


@pytest.fixture
def mirrors(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name / "owner" / "model").mkdir(parents=True)
        (tmp_path / name / "owner" / "model" / "config.json").write_text(name)
    (tmp_path / "two" / "owner" / "other").mkdir()
    monkeypatch.setenv(MIRRORS, os.pathsep.join(str(tmp_path / name) for name in ("none", "one", "two")))
    return tmp_path


def written(file: Path, folder: Path, **about: Any) -> Path:
    """The manifest `file` of the files of `folder`."""
    write_json(file, describe_source(folder, **{"id": "owner/model", "revision": None, "source": "hub", **about}))
    return file


def test_the_first_mirror_that_has_an_id_wins(mirrors) -> None:
    assert hub.resolve("owner/model") == mirrors / "one" / "owner" / "model"
    assert hub.resolve("owner/other", kind="dataset") == mirrors / "two" / "owner" / "other"


def test_a_folder_is_itself_and_a_manifest_names_its_folder_or_its_id(mirrors) -> None:
    folder = mirrors / "two" / "owner" / "model"
    assert hub.resolve(folder) == folder
    for path, expected in ((str(folder), folder), (None, mirrors / "one" / "owner" / "model")):
        assert hub.resolve(written(mirrors / "model.json", expected, path=path)) == expected


def test_a_manifest_without_path_gives_the_hub_its_revision(tmp_path, monkeypatch) -> None:
    asked: list[tuple] = []

    def download(hub_id, *, revision, repo_type, allow_patterns) -> str:
        asked.append((hub_id, revision, repo_type, allow_patterns))
        return str(tmp_path / "snapshot")

    monkeypatch.delenv(MIRRORS, raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "config.json").write_text("{}")
    written(tmp_path / "model.json", tmp_path / "snapshot", revision="abc", path=None)
    assert hub.resolve(tmp_path / "model.json") == tmp_path / "snapshot"
    assert hub.resolve("owner/data", "v1", kind="dataset") == tmp_path / "snapshot"
    assert asked == [("owner/model", "abc", "model", None), ("owner/data", "v1", "dataset", None)]


def test_a_folder_is_described_as_a_folder_and_what_the_hub_gave_as_its_snapshot(tmp_path, monkeypatch) -> None:
    (tmp_path / "abc123").mkdir()
    (tmp_path / "abc123" / "config.json").write_text("{}")
    monkeypatch.setenv(MIRRORS, str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: str(tmp_path / "abc123"))
    fetched = hub.describe("owner/model", "main")
    assert (fetched["source"], fetched["resolved"], fetched["revision"]) == ("hub", "abc123", "main")
    given = hub.describe(str(tmp_path / "abc123"), None)
    assert (given["source"], given["resolved"], given["path"]) == ("folder", None, str(tmp_path / "abc123"))
    assert given["sha256"] == fetched["sha256"] == {"config.json": file_hash(tmp_path / "abc123" / "config.json")}


def test_a_mirrored_models_manifest_holds_no_path_of_this_machine(mirrors) -> None:
    manifest = hub.describe("owner/model", "main")
    assert manifest["source"] == "mirror"
    assert str(mirrors) not in json.dumps(manifest)


def test_an_unknown_name_is_refused_offline_with_the_ways_out_and_without_a_connection(monkeypatch) -> None:
    monkeypatch.delenv(MIRRORS, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("socket.getaddrinfo", lambda *a, **k: pytest.fail("a connection was tried"))
    with pytest.raises(RefusedError, match=f"hub must be reached.*{MIRRORS}"):
        hub.resolve("owner/nothing")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(RefusedError, match="Did you mean 'model'"):
        hub.resolve("owner/model", kind="modell")


def test_only_the_subfolder_that_is_named_is_downloaded(tmp_path, monkeypatch) -> None:
    asked: list[list[str]] = []

    def download(hub_id, *, revision, repo_type, allow_patterns) -> str:
        asked.append(allow_patterns)
        return str(tmp_path)

    (tmp_path / "a+b_Fuser").mkdir()
    monkeypatch.delenv(MIRRORS, raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert hub.resolve("owner/fusers", subfolder="a+b_Fuser") == tmp_path / "a+b_Fuser"
    assert asked == [["a+b_Fuser/*"]]


def test_a_missing_subfolder_is_refused_with_those_that_are_there(mirrors, monkeypatch) -> None:
    for name in ("b_Fuser", "a_Fuser"):
        (mirrors / "one" / "owner" / "model" / name).mkdir()
    with pytest.raises(RefusedError, match="It has: a_Fuser, b_Fuser"):
        hub.resolve("owner/model", subfolder="c_Fuser")
    with pytest.raises(RefusedError, match="It has: no folder that can be listed"):
        hub.resolve("owner/other", subfolder="c_Fuser")
    monkeypatch.delenv(MIRRORS)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: str(mirrors / "not there"))
    files = ["README.md", "y_Fuser/config.json", "x_Fuser/final/projector_0.pt"]
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda *a, **k: files)
    with pytest.raises(RefusedError, match="It has: x_Fuser, y_Fuser"):
        hub.resolve("owner/model", subfolder="c_Fuser")


def test_an_unknown_revision_is_refused_as_such(monkeypatch) -> None:
    from huggingface_hub.errors import RevisionNotFoundError

    def download(*arguments, **options) -> str:
        raise RevisionNotFoundError.__new__(RevisionNotFoundError)

    monkeypatch.delenv(MIRRORS, raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(RefusedError, match=r"commit, tag or branch of owner/model; received .* at v9.* Leave the rev"):
        hub.resolve("owner/model", "v9")


def downloaded(folder: Path, commit: str) -> Path:
    """`folder` with the note that a download into it leaves."""
    notes = folder / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "config.json.metadata").write_text(f"{commit}\netag\n1700000000.0\n")
    return folder


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("named", ["owner/model", "folder"])
def test_a_revision_that_a_folder_cannot_vouch_for_is_refused(mirrors, named) -> None:
    folder = mirrors / "one" / "owner" / "model"
    source = str(folder) if named == "folder" else named
    assert hub.resolve(source) == hub.resolve(source, "main") == folder
    for revision in ("no-such-revision", COMMIT):
        with pytest.raises(RefusedError, match=f"a folder that says none; received '{revision}'.*Leave the revision"):
            hub.resolve(source, revision)
    downloaded(folder, COMMIT)
    for revision in (None, "main", COMMIT, COMMIT[:7]):
        assert hub.resolve(source, revision) == folder
    for revision in ("v2", "f" * 40, COMMIT[:3], COMMIT[1:]):
        with pytest.raises(RefusedError, match=f"is of commit {COMMIT}; received '{revision}'"):
            hub.resolve(source, revision)


def test_the_commit_that_a_folder_is_of_is_what_it_resolved_to(mirrors) -> None:
    folder = mirrors / "one" / "owner" / "model"
    assert hub.describe("owner/model", "main")["resolved"] is None
    downloaded(folder, COMMIT)
    assert hub.describe("owner/model", "main")["resolved"] == COMMIT
    assert hub.identify(folder) == ("owner/model", COMMIT)


def test_a_snapshot_vouches_for_its_commit_alone(tmp_path) -> None:
    snapshot = tmp_path / "models--owner--model" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    assert hub.resolve(snapshot, COMMIT) == snapshot
    with pytest.raises(RefusedError, match=f"is of commit {COMMIT}"):
        hub.resolve(snapshot, "v2")


def test_a_manifest_vouches_for_the_revision_that_it_was_fetched_at(mirrors, tmp_path) -> None:
    folder = mirrors / "two" / "owner" / "model"
    written(tmp_path / "model.json", folder, revision="v1", resolved=COMMIT, path=str(folder))
    for revision in (None, "v1", COMMIT):
        assert hub.resolve(tmp_path / "model.json", revision) == folder
    with pytest.raises(RefusedError, match="the manifest of the revision that is asked for; received 'v2, where"):
        hub.resolve(tmp_path / "model.json", "v2")


def test_a_source_is_called_what_others_know_it_by(mirrors, tmp_path) -> None:
    snapshot = tmp_path / "models--owner--the-model" / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "model").symlink_to(snapshot)
    (snapshot / "config.json").write_text("{}")
    written(tmp_path / "manifest.json", snapshot, revision="main", path=str(snapshot), resolved="abc123")
    known = {
        "owner/model": ("owner/model", None),
        mirrors / "one" / "owner" / "model": ("owner/model", None),
        snapshot: ("owner/the-model", "abc123"),
        tmp_path / "manifest.json": ("owner/model", "abc123"),
        tmp_path / "linked": ("linked", None),
        tmp_path / "gone" / "away": ("away", None),
        "": ("", None),
    }
    assert {source: hub.identify(source) for source in known} == known


def test_a_mirror_may_be_a_link(mirrors, tmp_path, monkeypatch) -> None:
    (tmp_path / "link").symlink_to(mirrors / "one")
    monkeypatch.setenv(MIRRORS, str(tmp_path / "link"))
    assert hub.identify(hub.resolve("owner/model")).id == "owner/model"
    assert hub.identify(mirrors / "one" / "owner" / "model").id == "owner/model"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("owner/model", "owner/model", True),
        ("Owner/Model", "owner/model", True),
        ("owner/model", "else/model", False),
        ("owner/model", "model", True),
        ("some/folder/of/model", "owner/model", True),
        ("owner/model", "model-instruct", False),
        ("", "owner/model", False),
    ],
)
def test_two_ids_can_be_of_one_model_where_an_owner_is_not_known(one, other, same) -> None:
    assert hub.is_same_id(one, other) is hub.is_same_id(other, one) is same
