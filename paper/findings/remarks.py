"""What the caption of an artefact adds where it depends on the data: marks that occur, and what cannot be seen here.

Each function takes a results folder and returns sentences; `remarks` finds it by the artefact's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from c2c.testbed.card.numbers import decimal
from paper.findings.wording import percents, series
from paper.reading import names
from paper.reading.files import read_table
from paper.reading.fusers import FuserRun, read_tables
from paper.reading.losses import paper_losses
from paper.reading.names import has_own_tables
from paper.reading.reference import Reference
from paper.reading.sizes import family
from paper.tables.subjects import FEWEST

GATES, HISTORY = "gates.csv", "history.csv"
"""Files of a Fuser."""
SPREAD_OF_LENGTHS = 2
"""Lengths say something where the longest bucket's prompts are at least so many times as long as the shortest's."""
KNOWS_ALL = 99.5
"""From this accuracy on, in percent, a Sharer knows everything, and regions of right answers without it are empty."""


def remarks(kind: str, name: str, results: Path) -> list[str]:
    """Sentences behind the caption of a table or figure; none where nothing depends on the data."""
    function = REMARKS.get((kind, name))
    return function(results) if function else []


def training(results: Path) -> list[str]:
    """Stars where the paper trained a pair of this scale."""
    if not paper_losses(_fusers(results, HISTORY), Reference()):
        return []
    return ["Stars: the validation loss of the paper's Figure 13b, of the pairs that it trained as well."]


def gates(results: Path) -> list[str]:
    """What filled and hollow marks are, or that no gate closed."""
    folders = _fusers(results, GATES)
    is_open = (
        read_tables(folders, GATES).dropna(subset=["weight_mean"])["open"].astype(bool)
        if folders
        else pd.Series(dtype=bool)
    )
    if is_open.empty:
        return []
    if is_open.all():
        return ["Every gate is open, so that nothing here tells what a closed one does."]
    return ["Filled marks are open gates, hollow ones closed."]


def scaling(results: Path) -> list[str]:
    """Whether sizes differ, and whether families do too."""
    frame = _table(results, "scaling")
    sizes = frame.groupby("receiver")["sharer_m"].nunique()
    sentences = ["Hollow: the paper's."] if frame["paper"].notna().any() else []
    if sizes.empty or sizes.max() < 2:
        sentences.append("Each Receiver has Sharers of one size, so that the figure cannot show what size does.")
    sharers = frame[frame["receiver"].isin(sizes.index[sizes > 1])].drop_duplicates(["receiver", "sharer"])
    titles = sharers["sharer"].map(lambda name: names.title("models", name))
    if titles.map(family).groupby(sharers["receiver"]).nunique().max() > 1:
        sentences.append(
            f"The Sharers ({series(list(titles.unique()))}) are of different families: a difference between sizes "
            "may be one between families."
        )
    return sentences


def subjects(results: Path) -> list[str]:
    """What MMLU's subjects are grouped to, which are left out, and what is hollow."""
    frame = _table(results, "subjects")
    sentences = []
    if frame["benchmark"].str.startswith("mmlu").any():
        sentences.append("The subjects of MMLU are put into 17 groups.")
    rare = frame.loc[frame["n"] < FEWEST, "subject"].unique()
    if len(rare):
        sentences.append(f"Subjects with fewer than {FEWEST} questions are left out.")
    if frame["paper"].notna().any():
        sentences.append("Hollow: the paper's.")
    return sentences


def venn(results: Path) -> list[str]:
    """Regions that are empty because the Sharer knows everything."""
    main = _table(results, "main")
    sharers = main[(main["arm"] == "sharer") & (main["value"] >= KNOWS_ALL)]
    if sharers.empty:
        return []
    pairs = series([names.title("pairs", pair) for pair in sharers["pair"].unique()])
    return [f"The Sharer of {pairs} answers everything: regions without it are empty by construction."]


def enrichment(results: Path) -> list[str]:
    """Whether the model is above chance, without which an oracle has nothing to enrich."""
    frame, main = _table(results, "enrichment"), _table(results, "main")
    direct = frame[frame["kind"].isin(["receiver", "sharer"])].iloc[0]
    chances = main.loc[main["benchmark"] == direct["benchmark"], "chance"].dropna()
    if chances.empty or direct["low"] > chances.iloc[0]:
        return []
    return [
        f"The model answers {percents(direct)} directly, where a guess is worth "
        f"{decimal(chances.iloc[0], 0)} %: what it does not "
        "know no examples can bring out, so that nothing follows here about enrichment."
    ]


def length(results: Path) -> list[str]:
    """Whether prompts differ in length."""
    frame = _table(results, "length")
    narrow_cells = []
    for (pair, benchmark), rows in frame.groupby(["pair", "benchmark"], sort=False):
        bounds = [int(number) for bucket in rows["bucket"].unique() for number in re.findall(r"\d+", bucket)]
        is_tokens = rows["bucket"].str.contains("tokens").any()
        if is_tokens and max(bounds) < SPREAD_OF_LENGTHS * min(bounds):
            narrow_cells.append(
                (f"{names.title('pairs', pair)}, {names.title('benchmarks', benchmark)}", min(bounds), max(bounds))
            )
    if not narrow_cells:
        return []
    low, high = min(entry[1] for entry in narrow_cells), max(entry[2] for entry in narrow_cells)
    where = (
        "all prompts"
        if len(narrow_cells) == _cells_in_tokens(frame)
        else f"the prompts of {series([entry[0] for entry in narrow_cells])}"
    )
    return [f"Where buckets are of tokens, {where} have {low} to {high}: these rows say nothing about long texts."]


def _cells_in_tokens(frame: pd.DataFrame) -> int:
    """How many pairs and benchmarks have buckets of tokens."""
    of_tokens = frame[frame["bucket"].str.contains("tokens")]
    return len(of_tokens[["pair", "benchmark"]].drop_duplicates())


def _table(results: Path, name: str) -> pd.DataFrame:
    return read_table(results / f"tables/{name}.csv", empty_is_missing=True)


def _fusers(results: Path, file: str) -> list[Path]:
    """Folders of Fusers with this file, but of pairs that have tables of their own."""
    folders = sorted(path.parent for path in results.glob(f"fusers/*/*/*/seed*/{file}"))
    return [folder for folder in folders if not has_own_tables(FuserRun.of(folder).pair)]


REMARKS: dict[tuple[str, str], Callable[[Path], list[str]]] = {
    ("figure", "training"): training,
    ("figure", "gates"): gates,
    ("figure", "scaling"): scaling,
    ("figure", "subjects"): subjects,
    ("figure", "subject_gains"): subjects,
    ("figure", "venn"): venn,
    ("figure", "enrichment"): enrichment,
    ("table", "enrichment"): enrichment,
    ("table", "length"): length,
}
