"""Where and when evaluations were made, for the head of their files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from c2c.provenance import SUFFIX
from c2c.storage.manifests import read_object
from paper.command import REMEDY

EPOCH = "SOURCE_DATE_EPOCH"
"""Environment variable with the time of an export in seconds since 1970; with it equal records give equal files."""


@dataclass(frozen=True)
class Origin:
    """The run behind some records.

    Attributes:
        timestamp: Of the export, in seconds since 1970.
        version: Of this package.
        organisation: Who publishes the evaluations.
        commit: Of the code that answered; empty where it is unknown.
        is_dirty: Whether that code had changes which no commit holds.
        packages: Versions of the packages that answered.
        details: Whatever else the provenance of the records says, all of it texts.
    """

    timestamp: str
    version: str
    organisation: str
    commit: str
    is_dirty: bool
    packages: dict[str, str]
    details: dict[str, str]

    @property
    def time(self) -> str:
        """The timestamp as ISO 8601."""
        return datetime.fromtimestamp(float(self.timestamp), UTC).isoformat()


def origin_of(records: Iterable[Path], organisation: str) -> Origin:
    """The origin of some files of records, from the provenance file of each that has one.

    Raises:
        RefusedError: A provenance file holds no JSON object.
    """
    stamps: list[dict[str, Any]] = [
        read_object(stamp, REMEDY) for path in records if (stamp := path.with_name(path.name + SUFFIX)).is_file()
    ]
    codes = [code for stamp in stamps for code in _listed(stamp.get("code")) if code.get("commit")]
    first = stamps[0] if stamps else {}
    configs = sorted({str(text) for stamp in stamps for text in _listed(stamp.get("config_sha256"))})
    details = {
        "commits": " ".join(sorted({str(code["commit"]) for code in codes})),
        "config_sha256": " ".join(configs),
        **{name: str(value) for name, value in (first.get("hardware") or {}).items()},
    }
    try:
        number = version("cache-to-cache")
    except PackageNotFoundError:
        number = "unknown"
    return Origin(
        timestamp=os.environ.get(EPOCH) or f"{time.time():.0f}",
        version=number,
        organisation=organisation,
        commit=str(codes[0]["commit"]) if codes else "",
        is_dirty=any(code.get("dirty") for code in codes),
        packages={name: str(number) for name, number in (first.get("packages") or {}).items()},
        details={name: text for name, text in details.items() if text},
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
