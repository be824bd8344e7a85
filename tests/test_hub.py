"""The resolver: folder, manifest, mirror, hub, in that order."""

from __future__ import annotations

import json
import os

import pytest

from c2c import hub
from c2c.errors import RefusedError


@pytest.fixture
def mirrors(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name / "owner" / "model").mkdir(parents=True)
        (tmp_path / name / "owner" / "model" / "config.json").write_text(name)
    (tmp_path / "two" / "owner" / "other").mkdir()
    monkeypatch.setenv(hub.MIRRORS, os.pathsep.join(str(tmp_path / name) for name in ("none", "one", "two")))
    return tmp_path


def test_the_first_mirror_that_has_an_id_wins(mirrors) -> None:
    assert hub.resolve("owner/model") == mirrors / "one" / "owner" / "model"
    assert hub.resolve("owner/other", kind="dataset") == mirrors / "two" / "owner" / "other"


def test_a_folder_is_itself_and_a_manifest_names_its_folder_or_its_id(mirrors) -> None:
    folder = mirrors / "two" / "owner" / "model"
    assert hub.resolve(folder) == folder
    for path, expected in ((str(folder), folder), (None, mirrors / "one" / "owner" / "model")):
        (mirrors / "model.json").write_text(json.dumps({"id": "owner/model", "revision": None, "path": path}))
        assert hub.resolve(mirrors / "model.json") == expected


def test_a_manifest_without_path_gives_the_hub_its_revision(tmp_path, monkeypatch) -> None:
    asked: list[tuple] = []

    def download(hub_id, *, revision, repo_type) -> str:
        asked.append((hub_id, revision, repo_type))
        return str(tmp_path)

    monkeypatch.delenv(hub.MIRRORS, raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    (tmp_path / "model.json").write_text(json.dumps({"id": "owner/model", "revision": "abc", "path": None}))
    assert hub.resolve(tmp_path / "model.json") == tmp_path
    assert hub.resolve("owner/data", "v1", kind="dataset") == tmp_path
    assert asked == [("owner/model", "abc", "model"), ("owner/data", "v1", "dataset")]


def test_a_folder_is_described_as_a_folder_and_what_the_hub_gave_as_its_snapshot(tmp_path, monkeypatch) -> None:
    (tmp_path / "abc123").mkdir()
    (tmp_path / "abc123" / "config.json").write_text("{}")
    monkeypatch.setenv(hub.MIRRORS, str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: str(tmp_path / "abc123"))
    fetched = hub.describe("owner/model", "main")
    assert (fetched["source"], fetched["resolved"], fetched["revision"]) == ("hub", "abc123", "main")
    given = hub.describe(str(tmp_path / "abc123"), None)
    assert (given["source"], given["resolved"], given["path"]) == ("folder", None, str(tmp_path / "abc123"))
    assert given["config_sha256"] == fetched["config_sha256"]


def test_a_mirrored_models_manifest_holds_no_path_of_this_machine(mirrors) -> None:
    manifest = hub.describe("owner/model", "main")
    assert manifest["source"] == "mirror"
    assert str(mirrors) not in json.dumps(manifest)


def test_an_unknown_name_is_refused_offline_with_the_ways_out_and_without_a_connection(monkeypatch) -> None:
    monkeypatch.delenv(hub.MIRRORS, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("socket.getaddrinfo", lambda *a, **k: pytest.fail("a connection was tried"))
    with pytest.raises(RefusedError, match=f"must be a folder, a mirrored id.*{hub.MIRRORS}"):
        hub.resolve("owner/nothing")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(RefusedError, match="Did you mean 'model'"):
        hub.resolve("owner/model", kind="modell")
