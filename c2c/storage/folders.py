"""Files of a folder that belong together, exchanged as one: who reads finds all old ones or all new ones."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from c2c.storage.files import sync, unfinished_path
from c2c.storage.locks import locked

PREVIOUS = ".previous-files"
"""Folder of the complete old files, inside of the folder whose files are being exchanged."""


def current(folder: Path) -> Path:
    """Where the complete files of `folder` are: in it, or, after a kill in an exchange, in its folder of old files.

    Args:
        folder: A folder of `exchange`, or one inside it, such as ``sharer_1/``.
    """
    # A part's old files are in the folder of old files of the whole.
    places = (folder / PREVIOUS, folder.parent / PREVIOUS / folder.name)
    return next((place for place in places if place.is_dir()), folder)


@contextmanager
def exchange(folder: Path, names: Sequence[str], parts: str = "") -> Iterator[Path]:
    """A folder to write files in; at the end of the block they take the places of the old ones in `folder`.

    Until the last of them has its place, the old files are kept whole in a folder that `current` finds. So a kill, a
    full disk or a power cut at any moment leaves the old files or the new ones. Other files of `folder` stay.

    Args:
        folder: Created if it does not exist.
        names: Of the files that belong together. The last one says that the others are complete.
        parts: Regular expression for the names of folders inside, which hold such files too; none if empty. Complete
            ones that are not written again are old, and go.

    Raises:
        RefusedError: If another process saves into `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".exchange", "save files"):
        unfinished = unfinished_path(folder / "files")
        unfinished.mkdir()
        try:
            yield unfinished
            _sync_all(unfinished)
            old = _old_places(folder, names[-1], parts)
            if old:
                _keep(folder, old, names)
                # Parts that are new have no files in what was kept: a later exchange knows that this one began them.
                for place in _places(unfinished, parts):
                    (folder / PREVIOUS / place.relative_to(unfinished)).mkdir(exist_ok=True)
            _remove(folder, old, names)
            _move(unfinished, folder, names, parts)
            _forget(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _places(folder: Path, parts: str) -> list[Path]:
    """The folder, and those inside it that are parts."""
    inner = [entry for entry in sorted(folder.iterdir()) if re.fullmatch(parts, entry.name) and entry.is_dir()]
    return [folder, *inner]


def _old_places(folder: Path, last: str, parts: str) -> list[Path]:
    """Where complete files are; after a kill in an exchange also where that one has removed some of them."""
    begun = [folder / place.relative_to(previous) for previous in [folder / PREVIOUS] if previous.is_dir()
             for place in _places(previous, parts)]  # fmt: skip
    return [place for place in _places(folder, parts) if (place / last).is_file() or place in begun]


def _keep(folder: Path, old: Sequence[Path], names: Sequence[str]) -> None:
    """Give each old file a second name, in a folder that the exchange does not touch."""
    # After a kill in an exchange, what that one kept is what the folder holds.
    if (folder / PREVIOUS).is_dir():
        return
    unfinished = unfinished_path(folder / "previous")
    unfinished.mkdir()
    for place in old:
        target = unfinished / place.relative_to(folder)
        target.mkdir(exist_ok=True)
        for name in names:
            if (place / name).is_file():
                _link(place / name, target / name)
    _sync_all(unfinished)
    unfinished.rename(folder / PREVIOUS)
    sync(folder)


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path.resolve(), target)
    except OSError:  # a file system without hard links, or a link to another file system
        shutil.copyfile(path, target)


def _remove(folder: Path, old: Sequence[Path], names: Sequence[str]) -> None:
    """Remove the old files, first the one that says that they are complete; a folder inside that is then empty too."""
    for place in old:
        if place != folder and place.is_symlink():
            place.unlink()  # what the user's link leads to is not ours to change
            continue
        for name in reversed(names):
            (place / name).unlink(missing_ok=True)
        if place != folder:
            with suppress(OSError):
                place.rmdir()


def _move(unfinished: Path, folder: Path, names: Sequence[str], parts: str) -> None:
    """Give the new files their names; those that say that the others are complete come last."""
    places = _places(unfinished, parts)
    for name in names:
        for place in places:
            target = folder / place.relative_to(unfinished)
            target.mkdir(exist_ok=True)
            if (place / name).is_file():
                (place / name).replace(target / name)
    # Entries of the parts are on the disk before those of the folder that holds them.
    for place in reversed(places):
        sync(folder / place.relative_to(unfinished))


def _forget(folder: Path) -> None:
    """End the exchange: from the new name of their folder on, the old files are no longer those of `folder`."""
    if (folder / PREVIOUS).is_dir():
        removed = unfinished_path(folder / "previous")
        (folder / PREVIOUS).rename(removed)
        sync(folder)
        shutil.rmtree(removed, ignore_errors=True)


def _sync_all(folder: Path) -> None:
    for entry in sorted(folder.rglob("*")):
        sync(entry)
    sync(folder)
