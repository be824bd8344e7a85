"""Turns the name of a model, Fuser or data set into a folder: local path, mirror, hub (design §7); and back."""

from __future__ import annotations

import glob
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from c2c.errors import RefusedError, check_choice
from c2c.provenance import file_hash

MIRRORS = "C2C_HUB_MIRROR"
KINDS = ("model", "dataset")
NEWEST = "main"
"""The revision of whatever is newest; a folder without history has only that one."""
SHORTEST_COMMIT = 7
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
DOWNLOADS = Path(".cache", "huggingface", "download")
CACHED = re.compile(r"(?:models|datasets)--(?P<owner>.+?)--(?P<name>.+)")


class Identity(NamedTuple):
    """What a source is called where others know it: ``owner/name`` or a bare name, and a revision if one is known."""

    id: str
    revision: str | None


def _mirrors() -> list[Path]:
    return [Path(each) for each in os.environ.get(MIRRORS, "").split(os.pathsep) if each]


def mirrored(hub_id: str) -> Path | None:
    """The folder ``<mirror>/<owner>/<name>`` in the first folder of C2C_HUB_MIRROR that has it."""
    return next((folder for mirror in _mirrors() if (folder := mirror / hub_id).is_dir()), None)


def resolve(
    source: str | Path, revision: str | None = None, kind: str = "model", *, subfolder: str | None = None
) -> Path:
    """The folder of a model, of Fusers or of a data set.

    Args:
        source: A folder, a model manifest (``.json``, see `describe`), or a hub id ``owner/name``.
        revision: Commit, tag or branch on the hub. A folder, in a mirror or not, has only one: it is taken for
            ``main``, and for the commit that it says it is of (`revision_of`).
        kind: ``model`` or ``dataset``.
        subfolder: A folder inside it; only its files are downloaded.

    Raises:
        RefusedError: If nothing has that name, revision or subfolder, or the hub cannot be reached.
    """
    check_choice("A kind of hub repository", kind, KINDS)
    if subfolder is not None:
        _check_below(subfolder)
    path = Path(source)
    if path.suffix == ".json" and path.is_file():
        manifest = json.loads(path.read_text(encoding="utf-8"))
        fetched = (manifest.get("revision"), manifest.get("resolved"))
        if revision not in (None, *fetched):
            raise RefusedError(
                f"{path.name} must be the manifest of the revision that is asked for",
                f"{revision}, where it has {fetched[1] or fetched[0]}",
                "Leave the revision out, or fetch that revision (c2c fetch)",
            )
        named = manifest["path"] or manifest["id"]
        # What was fetched into a folder is that revision: the manifest says so.
        return resolve(named, None if manifest["path"] else fetched[0], kind, subfolder=subfolder)
    here = path if path.is_dir() else mirrored(str(source))
    if here:
        _check_revision(here, str(source), revision)
    folder = here or _download(str(source), revision, kind, subfolder)
    if subfolder is None:
        return folder
    if not (folder / subfolder).is_dir():
        there = _folders(here) if here else _hub_folders(str(source), revision, kind)
        raise RefusedError(
            f"A subfolder must be one of those in {source}",
            subfolder,
            f"It has: {', '.join(there) or 'no folder that can be listed'}",
        )
    return folder / subfolder


def _check_below(subfolder: str) -> None:
    """Refuse a subfolder whose name leads out of its source; where a link in there leads to is its owner's choice."""
    if not subfolder or Path(subfolder).is_absolute() or ".." in Path(subfolder).parts:
        raise RefusedError(
            "A subfolder must be named from inside its source, without '..'",
            subfolder,
            "Name the folder that it is in as the source",
        )


def revision_of(folder: Path) -> str | None:
    """The commit that a folder says it is of; None if nothing in it does.

    It does so as a snapshot in the hub's cache, by its name, or by the notes that a download into a folder leaves.
    """
    folder = folder.absolute()
    if folder.parent.name == "snapshots" and CACHED.fullmatch(folder.parent.parent.name):
        return folder.name
    notes = sorted((folder / DOWNLOADS).rglob("*.metadata"))
    commits = {lines[0].strip() for note in notes if (lines := note.read_text(encoding="utf-8").splitlines())}
    return commits.pop() if len(commits) == 1 else None


def _check_revision(folder: Path, source: str, revision: str | None) -> None:
    has = revision_of(folder)
    same = has is not None and revision is not None and len(revision) >= SHORTEST_COMMIT and has.startswith(revision)
    if revision in (None, NEWEST) or same:
        return
    raise RefusedError(
        f"A folder must vouch for the revision that is asked of it, and {source} is "
        + (f"of commit {has}" if has else "a folder that says none"),
        revision,
        "Leave the revision out to take what is there, or download that revision (hf download --revision)",
    )


def _folders(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.is_dir())


def _hub_folders(hub_id: str, revision: str | None, kind: str) -> list[str]:
    from huggingface_hub import HfApi

    try:
        files = HfApi().list_repo_files(hub_id, revision=revision, repo_type=kind)
    except Exception:  # the refusal that this is for says more than why its list is missing
        return []
    return sorted({name.split("/")[0] for name in files if "/" in name})


def _download(hub_id: str, revision: str | None, kind: str, subfolder: str | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RevisionNotFoundError

    only = None if subfolder is None else [f"{glob.escape(subfolder)}/*"]
    try:
        return Path(snapshot_download(hub_id, revision=revision, repo_type=kind, allow_patterns=only))
    except RevisionNotFoundError as error:
        raise RefusedError(
            f"A revision must be a commit, tag or branch of {hub_id}",
            revision,
            "Leave the revision out for the newest one, or look it up among the repository's commits",
        ) from error
    except Exception as error:
        raise RefusedError(
            f"A {kind} must be a folder, a mirrored id or an id that the hub has",
            f"{hub_id} (revision {revision}): {type(error).__name__}",
            f"Check the name, fetch it where the network is (c2c fetch), or name a mirror folder in {MIRRORS}",
        ) from error


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form ``owner/name``."""
    return HUB_ID.fullmatch(name) is not None


def same_id(one: str, other: str) -> bool:
    """Whether two ids can be of one model: equal, or equal in the last part where one of them has no owner."""
    if is_hub_id(one) and is_hub_id(other):
        return one.lower() == other.lower()
    return one.rstrip("/").rsplit("/", 1)[-1].lower() == other.rstrip("/").rsplit("/", 1)[-1].lower()


def identify(source: str | Path) -> Identity:
    """Id and revision that a source stands for, without a path of this machine.

    Args:
        source: As `resolve` takes it. A manifest, a folder of a mirror and one of the hub's cache have the id that
            they were fetched by; any other folder has its own name, and no name has none.
    """
    path = Path(source)
    if not str(source):
        return Identity("", None)
    if path.suffix == ".json" and path.is_file():
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return Identity(identify(manifest["id"]).id, manifest.get("resolved") or manifest.get("revision"))
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


def describe(hub_id: str, revision: str | None) -> dict[str, Any]:
    """The manifest of a fetched model: id, revision asked for, what it resolved to, and a hash of its config.

    Fetches the model if it is not here yet.
    """
    folder = resolve(hub_id, revision)
    source = "folder" if Path(hub_id).is_dir() else "hub" if mirrored(hub_id) is None else "mirror"
    return {
        "id": hub_id,
        "revision": revision,
        "path": None if source == "mirror" else str(folder),
        "source": source,
        "resolved": folder.name if source == "hub" else revision_of(folder),
        "config_sha256": file_hash(folder / "config.json"),
    }
