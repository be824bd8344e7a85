"""Tables as files of comma-separated values."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.errors import RefusedError
from c2c.storage.formats import read_text
from paper.command import REMEDY


def read_table(path: Path, *, empty_is_missing: bool = False) -> pd.DataFrame:
    """A written .csv in which an empty cell of text stays an empty text.

    Args:
        path: The file.
        empty_is_missing: Make it no value instead.

    Raises:
        RefusedError: It is no table, or not there.
    """
    return read_csv(path, keep_default_na=False, na_values=[""] if empty_is_missing else None)


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """`pandas.read_csv` of a file of UTF-8 text, with its options.

    Raises:
        RefusedError: It is no table, or not there.
    """
    text = read_text(path, REMEDY)
    if "\0" in text:
        raise RefusedError(f"{path.name} must be a table of comma-separated values", "a NUL", REMEDY)
    try:
        frame: pd.DataFrame = pd.read_csv(StringIO(text), **options)
    except (ValueError, OverflowError) as error:
        raise RefusedError(f"{path.name} must be a table of comma-separated values", str(error), REMEDY) from error
    return frame


def read_if_given(path: Path | None) -> pd.DataFrame | None:
    """`read_table`, or None for no path."""
    return None if path is None else read_table(path)
