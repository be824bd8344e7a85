"""Turns the name of a model, Fuser or data set into a folder: local path, mirror or hub; and back to an id."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from c2c.errors import RefusedError, check_choice
from c2c.models.download import MIRRORS, download, list_folders
from c2c.storage.file_hashes import check_files, content_hash, folder_hashes
from c2c.storage.manifests import FETCH_AGAIN, describe_source, is_manifest, read_source

KINDS = ("model", "dataset")
NEWEST = "main"
"""The revision of whatever is newest; a folder without history has only that one."""
SHORTEST_COMMIT = 7
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
OLD_ID = re.compile(r"[A-Za-z0-9][\w-]*(\.\w+)*", re.ASCII)
"""Ids of the hub's first models have no owner: gpt2."""
DOWNLOADS = Path(".cache", "huggingface", "download")
CACHED = re.compile(r"(?:models|datasets)--(?P<owner>.+?)--(?P<name>.+)")


class Identity(NamedTuple):
    """What a source is called where others know it: ``owner/name`` or a bare name, and a revision if one is known."""

    id: str
    revision: str | None


def _mirrors() -> list[Path]:
    return [Path(mirror) for mirror in os.environ.get(MIRRORS, "").split(os.pathsep) if mirror]


def mirror_folder(hub_id: str) -> Path | None:
    """The folder ``<mirror>/<owner>/<name>`` in the first folder of C2C_HUB_MIRROR that has it; a link may be one."""
    if not is_hub_id(hub_id):
        return None
    return next((folder for mirror in _mirrors() if (folder := mirror / hub_id).is_dir()), None)


def resolve(
    source: str | Path, revision: str | None = None, kind: str = "model", *, subfolder: str | None = None
) -> Path:
    """The folder of a model, of Fusers or of a data set.

    Args:
        source: A folder, a manifest (``.json``, see `c2c.storage.manifests.describe_source`), or a hub id
            ``owner/name``.
        revision: Commit, tag or branch on the hub. A folder, in a mirror or not, has only one: it is taken for
            ``main``, and for the commit that it says it is of (`revision_of`).
        kind: ``model`` or ``dataset``.
        subfolder: A folder inside it; only its files are downloaded.

    Raises:
        RefusedError: If nothing has that name, revision or subfolder, the hub does not give it, or the files are not
            those of the manifest.
    """
    check_choice("A kind of hub repository", kind, KINDS)
    if is_manifest(source):
        folder = _folder_of_manifest(Path(source), revision, kind)
        return folder if subfolder is None else _inside(folder, subfolder, str(source), lambda: _folders(folder))
    # A folder here, else one of a mirror, else a download.
    path = Path(source)
    here = path if str(source) and path.is_dir() else mirror_folder(str(source))
    if here:
        _check_revision(here, str(source), revision)
    if subfolder is not None:
        _check_inside(subfolder, str(source))
    folder = here or download(_hub_id(str(source), kind), revision, kind, subfolder)
    if subfolder is None:
        return folder
    return _inside(
        folder, subfolder, str(source), lambda: _folders(here) if here else list_folders(str(source), revision, kind)
    )


def _folder_of_manifest(path: Path, revision: str | None, kind: str) -> Path:
    """The folder that a manifest names, if its files are those of the manifest."""
    manifest = read_source(path)
    fetched = (manifest["revision"], manifest.get("resolved"))
    if revision not in (None, *fetched):
        raise RefusedError(
            f"{path.name} must be the manifest of the revision that is asked for",
            f"{revision}, where it has {fetched[1] or fetched[0]}",
            "Leave the revision out, or fetch that revision (c2c fetch)",
        )
    if manifest["path"] is None:
        # Named by its id, it is in a mirror or on the hub, never another manifest.
        hub_id, inner = _hub_id(manifest["id"], kind), manifest.get("subfolder") or None
        folder = mirror_folder(hub_id)
        if folder:
            _check_revision(folder, hub_id, fetched[0])
            folder = _inside(folder, inner, hub_id, list) if inner else folder
        else:
            folder = resolve(hub_id, fetched[0], kind, subfolder=inner)
    else:
        # What was fetched into a folder is that revision: the manifest says so.
        folder = Path(manifest["path"])
    if manifest["path"] == "" or not folder.is_dir():
        raise RefusedError(f"The folder that {path.name} names must be there", manifest["path"], FETCH_AGAIN)
    check_files(folder, manifest["sha256"], path.name, FETCH_AGAIN)
    return folder


def _hub_id(source: str, kind: str) -> str:
    """`source`, if it can be an id of the hub."""
    if is_hub_id(source) or OLD_ID.fullmatch(source):
        return source
    raise RefusedError(
        f"A {kind} must be a folder, a mirrored id or an id that the hub has, owner/name",
        source,
        "Correct the path or the id, or write the manifest first (c2c fetch)",
    )


def _check_inside(subfolder: str, source: str) -> None:
    parts = PurePath(subfolder).parts
    if not parts or PurePath(subfolder).is_absolute() or ".." in parts:
        raise RefusedError(
            f"A subfolder must be a path inside {source}",
            subfolder,
            "Name a folder below it, without .. and no leading /; leave it out for the whole",
        )


def _inside(folder: Path, subfolder: str, source: str, list_names: Callable[[], list[str]]) -> Path:
    """``folder/subfolder``, if it is there and no link leads out of `folder`."""
    _check_inside(subfolder, source)
    inner = folder / subfolder
    if not inner.is_dir():
        raise RefusedError(
            f"A subfolder must be one of those in {source}",
            subfolder,
            f"It has: {', '.join(list_names()) or 'no folder that can be listed'}",
        )
    if not inner.resolve().is_relative_to(folder.resolve()):
        raise RefusedError(
            f"A subfolder must lie inside {source}",
            f"{subfolder}, a link to {inner.resolve()}",
            "Name the folder that it leads to",
        )
    return inner


def revision_of(folder: Path) -> str | None:
    """The commit that a folder says it is of; None if nothing in it does.

    It does so as a snapshot in the hub's cache, by its name, or by the notes that a download into a folder leaves.
    """
    folder = folder.absolute()
    if folder.parent.name == "snapshots" and CACHED.fullmatch(folder.parent.parent.name):
        return folder.name
    # A folder with files of several commits is of none.
    notes = sorted((folder / DOWNLOADS).rglob("*.metadata"))
    commits = {lines[0].strip() for note in notes if (lines := note.read_text(encoding="utf-8").splitlines())}
    return commits.pop() if len(commits) == 1 else None


def _check_revision(folder: Path, source: str, revision: str | None) -> None:
    # A beginning of the commit will do, as with git.
    has = revision_of(folder)
    is_commit = (
        has is not None and revision is not None and len(revision) >= SHORTEST_COMMIT and has.startswith(revision)
    )
    if revision in (None, NEWEST) or is_commit:
        return
    raise RefusedError(
        f"A folder must vouch for the revision that is asked of it, and {source} is "
        + (f"of commit {has}" if has else "a folder that says none"),
        revision,
        "Leave the revision out to take what is there, or download that revision (hf download --revision)",
    )


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form ``owner/name``."""
    return HUB_ID.fullmatch(name) is not None


def is_same_id(first: str, second: str) -> bool:
    """Whether two ids can be of one model: equal, or equal in the last part where one of them has no owner."""
    if is_hub_id(first) and is_hub_id(second):
        return first.lower() == second.lower()
    # A folder or an old id: the last part of the path is all there is to compare.
    return first.rstrip("/").rsplit("/", 1)[-1].lower() == second.rstrip("/").rsplit("/", 1)[-1].lower()


def identify(source: str | Path) -> Identity:
    """Id and revision that a source stands for, without a path of this machine.

    Args:
        source: As `resolve` takes it. A manifest, a folder of a mirror and one of the hub's cache have the id that
            they were fetched by; any other folder has its own name, and no name has none.
    """
    path = Path(source)
    if not str(source):
        return Identity("", None)
    if is_manifest(path):
        manifest = read_source(path)
        return Identity(identify(manifest["id"]).id, manifest.get("resolved") or manifest["revision"])
    if not path.is_dir() and is_hub_id(str(source)):
        return Identity(str(source), None)
    folder = path.absolute()
    if folder.parent.name == "snapshots" and (cached := CACHED.fullmatch(folder.parent.parent.name)):
        return Identity(f"{cached['owner']}/{cached['name']}", folder.name)
    # A mirror, and what is in it, may be a link to where the files are.
    for place in (folder, path.resolve()):
        if place.parent.parent in [root for mirror in _mirrors() for root in (mirror.absolute(), mirror.resolve())]:
            return Identity(f"{place.parent.name}/{place.name}", revision_of(place))
    return Identity(path.resolve().name, revision_of(path.resolve()))


def content(source: str | Path, revision: str | None = None) -> str:
    """What a model *is*, wherever it lies: SHA-256 of the names and hashes of its files (`c2c.storage.file_hashes`).

    Args:
        source: As `resolve` takes it. A manifest, the folder that it names and the hub id have the same.
        revision: As `resolve` takes it.

    Raises:
        RefusedError: As `resolve`.
    """
    return content_hash(folder_hashes(resolve(source, revision)))


def about(source: str | Path) -> dict[str, Any]:
    """What provenance states of a model: ``id`` and ``revision`` (`identify`), and ``sha256`` of its files (`content`).

    Raises:
        RefusedError: As `resolve`.
    """
    return {**identify(source)._asdict(), "sha256": content(source)}


def describe(hub_id: str, revision: str | None) -> dict[str, Any]:
    """The manifest of a fetched model: id, revision asked for, what it resolved to, and the hash of each file.

    Fetches the model if it is not here yet.

    Raises:
        RefusedError: If it cannot be fetched, or is no model.
    """
    folder = resolve(hub_id, revision)
    if not (folder / "config.json").is_file():
        remedy = "Name a model, not a folder of models or of data; for released fusers: c2c fetch-fuser"
        raise RefusedError(f"The folder of the model {hub_id} must hold config.json", str(folder), remedy)
    source = "folder" if Path(hub_id).is_dir() else "hub" if mirror_folder(hub_id) is None else "mirror"
    return describe_source(
        folder,
        id=hub_id,
        revision=revision,
        path=None if source == "mirror" else str(folder),
        source=source,
        resolved=folder.name if source == "hub" else revision_of(folder),
    )
