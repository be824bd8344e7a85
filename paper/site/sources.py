"""The files of one scale that its pages are made from: committed records, or the results of a finished run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.errors import RefusedError
from c2c.evaluation.schema import read_records
from c2c.provenance import SUFFIX
from c2c.storage.manifests import read_object
from c2c.testbed.card.records import MessageRecords
from c2c.testbed.items import Item
from paper.command import REMEDY
from paper.exchange.messages import ItemKey, read_item_files
from paper.reading.answers import Answers
from paper.reading.committed import QUESTIONS, RECORDS, TESTBED_RECORDS, protocol_of, remarks_of
from paper.reading.messages import load_records
from paper.reading.questions import read_questions
from paper.show import read_verdicts, scales

COMMIT_DIGITS = 12


@dataclass(frozen=True)
class ScaleFiles:
    """The files of one scale.

    Attributes:
        folder: ``paper/records/<scale>`` or ``results/<scale>``.
        records: Answer records.
        questions: Texts of questions.
        testbed: Records of the test bed.
        items: Items of the test bed, which only a results folder has.
    """

    folder: Path
    records: tuple[Path, ...]
    questions: tuple[Path, ...]
    testbed: tuple[Path, ...]
    items: tuple[Path, ...]

    @classmethod
    def of(cls, folder: Path, root: Path = Path()) -> ScaleFiles:
        """The files of a folder of either kind; texts that committed records lack come from ``results/<scale>``.

        Raises:
            RefusedError: The folder holds no answer records.
        """
        results = root / "results" / folder.name
        if (folder / RECORDS).is_file():
            records, testbed = (folder / RECORDS,), tuple(filter(Path.is_file, [folder / TESTBED_RECORDS]))
        else:
            records = tuple(sorted(folder.glob("records/**/[!.]*.parquet")))
            testbed = tuple(sorted(folder.glob("testbed/records/*/*/seed*.parquet")))
        if not records:
            rule = "The folder of a scale must hold answer records"
            raise RefusedError(rule, str(folder), "Run the scale, or name a folder of paper/records")
        places = dict.fromkeys([folder, results])
        questions = tuple(path for place in places if (path := place / QUESTIONS).is_file())
        items = next(filter(None, (tuple(sorted(place.glob("testbed/items/*/*/test.jsonl"))) for place in places)), ())
        return cls(folder, records, questions, testbed, items)

    @property
    def scale(self) -> str:
        """The name of the scale."""
        return self.folder.name

    @property
    def inputs(self) -> list[Path]:
        """All files that are read."""
        claims = [path for name in ("claims.json", "claims_time.json") if (path := self.folder / name).is_file()]
        return [*self.records, *self.questions, *self.testbed, *self.items, *claims, *self.tables]

    @property
    def tables(self) -> list[Path]:
        """The tables as they are printed."""
        return sorted(self.folder.glob("tables/*.md"))

    @property
    def protocol(self) -> str:
        """By which answers are marked."""
        return protocol_of(self.folder)

    @property
    def remarks(self) -> list[str]:
        """What a reader of any number must know and the records do not hold."""
        return remarks_of(self.folder)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All answer records."""
        return read_records(self.records)

    @cached_property
    def answers(self) -> Answers:
        """The records, checked and marked."""
        return Answers(self.frame, self.protocol)

    @cached_property
    def messages(self) -> MessageRecords | None:
        """The records of the test bed; None where the scale has none."""
        return load_records(self.testbed) if self.testbed else None

    @cached_property
    def texts(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        """Texts of questions by `paper.reading.questions.QUESTION_KEY`; the first file that has a question counts."""
        rows: dict[tuple[str, str, str], dict[str, Any]] = {}
        for path in self.questions:
            frame = read_questions([path])
            rows = dict(zip(frame.index, frame.to_dict("records"), strict=True)) | rows
        return rows

    @cached_property
    def item_texts(self) -> dict[ItemKey, Item]:
        """The items of the test bed, where their files are there."""
        return read_item_files(self.items) if self.items else {}

    def claims(self) -> list[dict[str, Any]]:
        """The verdicts of the scale, in the order of ``claims.yaml``."""
        return list(read_verdicts(self.folder).values())

    def commits(self) -> list[str]:
        """Short commits of the code that made the records, where their provenance is there."""
        stamps = [stamp for path in self.records if (stamp := path.with_name(path.name + SUFFIX)).is_file()]
        codes = [code for stamp in stamps for code in _as_list(read_object(stamp, REMEDY).get("code"))]
        return sorted({str(code["commit"])[:COMMIT_DIGITS] for code in codes if code.get("commit")})


def scale_files(names: Iterable[str], root: Path = Path()) -> list[ScaleFiles]:
    """The files of some scales, by name or folder; of all that have verdicts where none is named.

    A name means ``results/<scale>`` where the scale was run here, else ``paper/records/<scale>``.

    Raises:
        RefusedError: A name is neither a scale with verdicts nor a folder, or two have the same name.
    """
    folders = []
    by_name = {folder.name: folder for folder in scales(root)}
    for name in names or by_name:
        folder = by_name.get(name, root / name)
        if not (folder / "claims.json").is_file():
            rule = "A scale of the site must be a folder with verdicts, or the name of one"
            raise RefusedError(rule, name, f"Choose among {', '.join(by_name)}, or name a folder with claims.json")
        folders.append(folder)
    if len({folder.name for folder in folders}) < len(folders):
        raise RefusedError("Scales of the site must have different names", [*map(str, folders)], "Leave one out")
    return [ScaleFiles.of(folder, root) for folder in folders]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []
