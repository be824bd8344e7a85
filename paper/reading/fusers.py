"""Folders of trained fusers: which run each holds, and its tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from c2c.errors import RefusedError
from c2c.storage.manifests import read_object
from paper.command import REMEDY
from paper.reading import names
from paper.reading.alignments import MAIN_ALIGNMENT
from paper.reading.files import read_csv


class FuserRun(NamedTuple):
    """A trained fuser, named by the last four parts of its folder: pair, recipe, alignment, seed."""

    pair: str
    recipe: str
    alignment: str
    seed: int

    @classmethod
    def of(cls, folder: Path) -> FuserRun:
        """The run of a folder ``.../<pair>/<recipe>/<alignment>/seed<number>``.

        Raises:
            RefusedError: The folder is named otherwise.
        """
        parts = folder.resolve().parts[-4:]
        seed = re.fullmatch(r"seed(\d+)", parts[-1])
        if len(parts) < 4 or seed is None:
            rule = "A fuser must lie in <pair>/<recipe>/<alignment>/seed<number>"
            raise RefusedError(rule, str(folder), "Name such a folder")
        return cls(*parts[:3], int(seed.group(1)))


def read_tables(folders: Iterable[Path], file: str) -> pd.DataFrame:
    """The CSV called `file` of all folders, one below the other in the order of the names, with the run's columns."""
    frames = []
    for folder in folders:
        if not (folder / file).is_file():
            raise RefusedError(f"A fuser's folder must hold its {file}", str(folder), "Train the fuser first")
        frames.append(read_csv(folder / file).assign(**FuserRun.of(folder)._asdict()))
    table = pd.concat(frames, ignore_index=True)
    rank = {"pair": _ranks("pairs", table["pair"]), "recipe": _ranks("arms", table["recipe"])}
    rank["alignment"] = {name: int(name != MAIN_ALIGNMENT) for name in table["alignment"].unique()}
    keys = [*FuserRun._fields, "step" if "step" in table else "layer"]
    return table.sort_values(
        keys,
        key=lambda column: column.map(rank[str(column.name)]) if column.name in rank else column,
        ignore_index=True,
    )


def models_of(config: Path) -> dict[str, str]:
    """Receiver and Sharer of a fuser, as its ``config.json`` names them: by hub id, or by their name in the world."""
    about = read_object(config, REMEDY)["about"]
    return {role: str(about[role]) for role in ("receiver", "sharer")}


def _ranks(kind: str, ids: pd.Series) -> dict[str, int]:
    return {name: place for place, name in enumerate(names.in_order(kind, ids))}


def label(recipe: str, alignment: str, several: bool) -> str:
    """Title of a recipe, with its alignment where a pair has several."""
    title = names.title("arms", recipe)
    return f"{title}, {alignment}" if several else title
