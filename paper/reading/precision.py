"""The precision of the models that wrote a file of records, from its provenance file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from c2c.provenance import SUFFIX
from c2c.storage.manifests import read_object
from paper.command import REMEDY

UNKNOWN = "not told"


def dtype_of(records: Path) -> str:
    """The `dtype` among the settings of the run that wrote `records`; `UNKNOWN` without a provenance that says so."""
    stamp = records.with_name(records.name + SUFFIX)
    if not stamp.is_file():
        return UNKNOWN
    return str(read_object(stamp, REMEDY).get("settings", {}).get("dtype", UNKNOWN))


def by_dtype(files: Iterable[Path], root: Path) -> dict[str, list[str]]:
    """Files of records by the precision of their models, each named below `root`; most files first."""
    files_by_dtype: dict[str, list[str]] = {}
    for path in sorted(files):
        files_by_dtype.setdefault(dtype_of(path), []).append(path.relative_to(root).with_suffix("").as_posix())
    return dict(sorted(files_by_dtype.items(), key=lambda entry: (-len(entry[1]), entry[0])))
