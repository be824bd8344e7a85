"""The main alignment of a pair: the token alignment that its tables and claims show where they name none.

Imports no pandas, since the workflow asks it which fuser of a pair is timed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from c2c.types import TOKEN_ALIGNMENTS
from paper.reading import names

if TYPE_CHECKING:
    import pandas as pd

MAIN_ALIGNMENT = "span"
"""The main alignment of a pair that was run with several, where ``names.yaml`` names none."""
UNTRAINED = ""
"""The alignment of a method without a fuser."""
DECIDING = "c2c"
"""The arm whose alignments are those that a pair was run with; all of its arms where it was not run."""


def main_alignment(pair: str, alignments: Iterable[str]) -> str:
    """The main one of the alignments that a pair was run with.

    It is the one that ``names.yaml`` names for the pair (`main_alignment`), else `MAIN_ALIGNMENT`, else the first of
    `TOKEN_ALIGNMENTS`, whichever comes first among those that were run.
    """
    candidates = [names.main_alignment(pair), MAIN_ALIGNMENT, *TOKEN_ALIGNMENTS]
    was_run = set(alignments) - {UNTRAINED}
    return next((name for name in candidates if name in was_run), MAIN_ALIGNMENT)


def main_alignments(rows: pd.DataFrame) -> dict[str, str]:
    """The main alignment of each pair.

    Args:
        rows: Columns `pair`, `arm` (or `recipe`) and `alignment`; those of arm c2c decide where there are any.
    """
    arm = "arm" if "arm" in rows else "recipe"
    runs = rows[["pair", arm, "alignment"]].drop_duplicates()
    main = {}
    for pair, group in runs.groupby("pair"):
        c2c_rows = group[group[arm] == DECIDING]
        main[str(pair)] = main_alignment(str(pair), (c2c_rows if len(c2c_rows) else group)["alignment"])
    return main


def of_main_alignment(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without a fuser, and of each pair those of its main alignment; columns as in `main_alignments`."""
    return rows[(rows["alignment"] == UNTRAINED) | (rows["alignment"] == rows["pair"].map(main_alignments(rows)))]
