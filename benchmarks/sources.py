"""Rows of a data set by hub id: from the folders of C2C_HUB_MIRROR or the hub, one subset (config) or several."""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from datasets import disable_progress_bars, get_dataset_config_names, load_dataset
from datasets.exceptions import DatasetsError
from yaml import YAMLError

from benchmarks.readers import Row, RowPlace
from c2c.errors import RefusedError
from c2c.models import hub
from c2c.storage.formats import parse_json_lines

FAULTS_OF_FILES = (
    *(ValueError, TypeError, KeyError, RuntimeError, FileNotFoundError),
    *(StopIteration, DatasetsError, YAMLError),  # the first comes from an empty file
)
"""What `datasets` raises for files that are missing, spoilt or a script; errors of the machine are none of it."""
MESSAGE_LENGTH = 400


class Archive(NamedTuple):
    """A data set that its hub keeps as an archive, for which a script was written that is not run any more.

    Args:
        file: The archive in the data set's folder.
        member: A file of it, with ``{subset}`` and ``{split}``.
    """

    file: str
    member: str


ARCHIVES = {
    "THUDM/LongBench": Archive("data.zip", "data/{subset}.jsonl"),
    "ceval/ceval-exam": Archive("ceval-exam.zip", "{split}/{subset}_{split}.csv"),
}


@dataclass(frozen=True)
class Source:
    """Where rows come from, and who reads them.

    Args:
        reader: Name of a reader (`benchmarks.readers.READERS`).
        dataset: Hub id.
        revision: Commit, tag or branch.
        split: Split of the data set.
        subset: Config of the data set; with ``*`` all configs that fit; None for the only one.
        limit: Only the first rows; None for all.
    """

    reader: str
    dataset: str
    revision: str
    split: str
    subset: str | None = None
    limit: int | None = None

    @classmethod
    def parse(cls, text: str) -> Source:
        """``reader=arc,dataset=allenai/ai2_arc,subset=ARC-Easy,split=train,revision=main``.

        Raises:
            RefusedError: A part is missing, unknown or no number where one is wanted.
        """
        parts = dict(part.partition("=")[::2] for part in text.split(","))
        required = {"reader", "dataset", "revision", "split"}
        if not required <= parts.keys() <= required | {"subset", "limit"}:
            rule = "A source must be reader=…,dataset=…,revision=…,split=…, with subset=… and limit=… where wanted"
            raise RefusedError(rule, text, "Name each part once")
        limit = parts.pop("limit", None)
        if limit is not None and not limit.isdigit():
            raise RefusedError("The limit of a source must be a number", limit, "Correct it, or leave it out")
        return cls(**parts, limit=None if limit is None else int(limit))

    def rows(self) -> Iterator[tuple[RowPlace, Row]]:
        """Each row with its place, subsets in alphabetical order; at most `limit` of them.

        Raises:
            RefusedError: The data set, a subset or the split does not exist.
        """
        folder, remaining = hub.resolve(self.dataset, self.revision, "dataset"), self.limit
        for subset in self.subsets():
            for number, row in enumerate(self._load(folder, subset)):
                if remaining is not None:
                    if remaining == 0:
                        return
                    remaining -= 1
                yield RowPlace(subset or "", number), row

    def subsets(self) -> list[str | None]:
        """The subset, or all that fit the pattern.

        Raises:
            RefusedError: None fits.
        """
        if self.subset is None or "*" not in self.subset:
            return [self.subset]
        folder = hub.resolve(self.dataset, self.revision, "dataset")
        archive = self._archive(folder)
        subsets = _archived(archive, self.split) if archive else self._configs(folder)
        matches = sorted(name for name in subsets if fnmatchcase(name, self.subset))
        if not matches:
            rule = f"A subset of {self.dataset} must fit the pattern"
            raise RefusedError(rule, self.subset, f"It has: {', '.join(sorted(subsets)[:20]) or 'none'}")
        return list(matches)

    def _archive(self, folder: Path) -> tuple[Path, str] | None:
        archive = ARCHIVES.get(self.dataset)
        return (folder / archive.file, archive.member) if archive and (folder / archive.file).is_file() else None

    def _load(self, folder: Path, subset: str | None) -> Iterable[Row]:
        if archive := self._archive(folder):
            return _read_member(archive[0], archive[1].format(subset=subset, split=self.split))
        disable_progress_bars()
        try:
            loaded: Iterable[Row] = load_dataset(str(folder), subset, split=self.split, trust_remote_code=False)
        except FAULTS_OF_FILES as error:
            raise self._refusal(f"subset {subset}, split {self.split}", error) from error
        return loaded

    def _configs(self, folder: Path) -> list[str]:
        try:
            return list(get_dataset_config_names(str(folder)))
        except FAULTS_OF_FILES as error:
            raise self._refusal(f"subsets like {self.subset}", error) from error

    def _refusal(self, request: str, error: Exception) -> RefusedError:
        """What `datasets` says of a folder that it cannot read; a script in it is never run."""
        cause = error.__cause__ or error
        message = " ".join(f"{type(cause).__name__}: {cause}".split()).rstrip(".")
        return RefusedError(
            "The data set must have the subset and the split, in files that can be read without a script",
            f"{self.dataset}, {request}: {message[:MESSAGE_LENGTH]}",
            "Correct subset and split, or download the data set again; one with a script needs its Parquet files",
        )

    def note(self) -> dict[str, Any]:
        """What provenance should know: id and revision asked for, and what it resolved to."""
        folder = hub.resolve(self.dataset, self.revision, "dataset")
        mirrored = hub.mirror_folder(self.dataset) is not None
        commit = hub.revision_of(folder) if mirrored else folder.name
        resolved = {"source": "mirror" if mirrored else "hub", **({"resolved": commit} if commit else {})}
        about = {"id": self.dataset, "revision": self.revision, "split": self.split, "subset": self.subset}
        return {**about, **resolved}

    def of_split(self, split: str) -> Source:
        """The same with another split."""
        return replace(self, split=split)


def _archived(archive: tuple[Path, str], split: str) -> list[str]:
    """Subsets of which an archive has a file of the split."""
    before, after = archive[1].replace("{split}", split).split("{subset}")
    with _opened(archive[0]) as opened:
        names = opened.namelist()
    return [name[len(before) : -len(after)] for name in names if name.startswith(before) and name.endswith(after)]


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive; refused if it, or what is read of it, is spoilt."""
    try:
        with zipfile.ZipFile(path) as opened:
            yield opened
    except (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError) as error:
        rule = f"{path.name} must be a whole zip archive of UTF-8 text"
        raise RefusedError(rule, f"{type(error).__name__}: {error}", "Download the archive again") from error


def _read_member(path: Path, member: str) -> list[Row]:
    with _opened(path) as opened:
        if member not in opened.namelist():
            raise RefusedError(f"{path.name} must have the subset and the split", member, "Correct subset or split")
        text = opened.read(member).decode("utf-8")
    if member.endswith(".csv"):
        return [dict(row) for row in csv.DictReader(io.StringIO(text, newline=""))]
    return [row for _, row in parse_json_lines(text, member, "Download the archive again")]
