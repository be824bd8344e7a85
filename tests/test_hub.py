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


def test_a_mirrored_models_manifest_holds_no_path_of_this_machine(mirrors) -> None:
    manifest = hub.describe("owner/model", "main")
    assert manifest["source"] == "mirror"
    assert str(mirrors) not in json.dumps(manifest)


def test_an_unknown_name_is_refused_with_the_ways_out(monkeypatch) -> None:
    monkeypatch.delenv(hub.MIRRORS, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RefusedError, match=f"must be a folder, a mirrored id.*{hub.MIRRORS}"):
        hub.resolve("owner/nothing")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(RefusedError, match="Did you mean 'model'"):
        hub.resolve("owner/model", kind="modell")
