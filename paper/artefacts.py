"""The registry of tables and figures (``artefacts.yaml``): what each reads, its caption, and its place in the paper."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError, check_choice
from c2c.storage.formats import read_yaml

PATH = Path(__file__).with_name("artefacts.yaml")
PRINTED = Path(__file__).with_name("reference_values.csv")
CLAIMS = Path(__file__).with_name("claims.yaml")
SUFFIXES = {"table": (".csv", ".tex", ".md"), "figure": (".pdf", ".png")}
"""Kinds of artefact, and the files of each."""
RECORDS, RELEASED, LATENCY = "records", "released", "latency.csv"
"""Sources in `Artefact.reads` that are no plain path: all answer records, those of published fusers, which a scale may
lack, and the times, likewise."""
TESTBED, CURVES = "testbed", "testbed_curves"
"""The same of a scale with a test bed: all records of its channels, and the curves of their trainings."""
SOURCES = (
    RECORDS,
    RELEASED,
    LATENCY,
    TESTBED,
    CURVES,
    "training_cost.csv",
    "scores.csv",
    "claims.json",
    "claims_time.json",
)
RUN_FILES = ("gates.csv", "history.csv", "config.json", "manifest.json", "order.parquet")
"""What a trained fuser's folder holds for a table or figure: sources ``fusers/{run}/<file>``."""
ANALYSIS_FILES = {
    "enrichment": ("accuracy.csv", "orders.csv", "records.parquet"),
    "partial": ("accuracy.csv", "records.parquet"),
    "effective_rank": ("ranks.csv",),
    "tsne": ("points.csv", "clouds.csv"),
}
"""What each kind of analysis writes: sources ``analysis/<kind>/<file>``."""
WITHOUT_VALUES = ("Figure 3",)
"""Places of the paper of which ``reference_values.csv`` has no value: clouds of points."""
REMEDY = "Write it as the comment at the head of paper/artefacts.yaml says"
NEEDED, OWN, GENERIC, FIGURE = "needed", "own", "generic", "figure"
TEXTS = (NEEDED, OWN, GENERIC, FIGURE)
KEYS = {"title", "caption", "reads", "places", "text", "section", "timed", "needs_paper", "module", "analysis"}


@dataclass(frozen=True)
class Artefact:
    """One table or figure.

    Args:
        kind: ``table`` or ``figure``.
        name: Stem of its files; a target of the workflow.
        title: Short, without a full stop.
        caption: What is seen; the report and the PDF print it.
        reads: By flag of its command, what it reads: `RECORDS`, `RELEASED`, `LATENCY`, or a path in the results folder,
            in which ``{run}`` stands for every fuser and ``{pair}`` for every pair. The flag ``fusers`` is given their
            folders.
        places: Of the paper, as in ``Table 4``; targets of the workflow too (``table4``).
        text: `NEEDED`: the PDF cannot do without it; `OWN`: the text has a passage for it; `GENERIC`: it is printed
            under `section`; `FIGURE`: the PDF shows the figure that is drawn from it.
        section: Heading in the PDF of a `GENERIC` one; neighbours with the same heading share it.
        timed: Whether there is nothing to show where nothing was timed.
        needs_paper: Whether the PDF prints it only if a cell of it has a value of the paper (column ``paper``).
        module: That makes it.
        analysis: Kind of analysis (`analysis` of the config) without which there is nothing to show; empty for none.
    """

    kind: str
    name: str
    title: str
    caption: str
    reads: Mapping[str, str]
    places: tuple[str, ...] = ()
    text: str = GENERIC
    section: str = ""
    timed: bool = False
    needs_paper: bool = False
    module: str = field(default="")
    analysis: str = ""

    @property
    def stem(self) -> str:
        """Path below a results folder, without suffix."""
        return f"{self.kind}s/{self.name}"

    @property
    def files(self) -> tuple[str, ...]:
        """Its files below a results folder."""
        return tuple(f"{self.stem}{suffix}" for suffix in SUFFIXES[self.kind])

    @property
    def targets(self) -> tuple[str, ...]:
        """Targets of the workflow that make it: its name, and its places in the paper."""
        return (self.name, *map(key, self.places))

    def command(self, results: str) -> str:
        """The command that makes it, with patterns in the place of many files."""
        flags = [f"--{flag} {results}/{_pattern_of(flag, source)}" for flag, source in self.reads.items()]
        return " ".join([f"python -m {self.module}", *flags, f"--output-stem {results}/{self.stem}"])


@cache
def read_artefacts(path: Path = PATH) -> tuple[Artefact, ...]:
    """All artefacts, tables first, in the file's order.

    Raises:
        RefusedError: An entry is there twice, has an unknown key, place or source, lacks one, or is generic without a
            section.
    """
    content = read_yaml(path, REMEDY)
    tables = {f"tables/{name}.csv" for name in content["tables"]}
    artefacts = tuple(_artefact(kind, name, row) for kind in SUFFIXES for name, row in content[f"{kind}s"].items())
    for artefact in artefacts:
        _check_entry(artefact, tables)
    return artefacts


def of_testbed(artefact: Artefact) -> bool:
    """Whether a table or figure is made from the records of a test bed, or from a table that is."""
    tables = {f"{table.stem}.csv": table for table in of_kind("table").values()}
    sources = artefact.reads.values()
    return TESTBED in sources or any(source in tables and of_testbed(tables[source]) for source in sources)


def of_kind(kind: str) -> dict[str, Artefact]:
    """The tables, or the figures, by name."""
    return {artefact.name: artefact for artefact in read_artefacts() if artefact.kind == kind}


def by_target(artefacts: Iterable[Artefact]) -> dict[str, list[Artefact]]:
    """Which artefacts each target makes: ``gains`` is a table and a figure, ``table4`` whatever has that place."""
    targets: dict[str, list[Artefact]] = {}
    for artefact in artefacts:
        for target in dict.fromkeys(artefact.targets):
            targets.setdefault(target, []).append(artefact)
    return targets


def required_files() -> tuple[str, ...]:
    """Files of a results folder without which the PDF cannot be set; the workflow asks before any job starts."""
    verdicts = ("claims.json", "claims_time.json")
    return (*verdicts, *(_file_in_text(artefact) for artefact in read_artefacts() if artefact.text == NEEDED))


def optional_files() -> tuple[str, ...]:
    """Files of a results folder that the PDF prints where they exist."""
    return tuple(_file_in_text(artefact) for artefact in read_artefacts() if artefact.text in (OWN, GENERIC))


@cache
def places_of_paper() -> tuple[str, ...]:
    """Tables and figures of the paper that have values, or whose values are not printed."""
    with PRINTED.open(encoding="utf-8", newline="") as file:
        names = dict.fromkeys(row["artefact"] for row in csv.DictReader(file))
    numbers = [name for name in names if re.fullmatch(r"(Table|Figure) \d+", name)]
    return tuple(
        sorted([*numbers, *WITHOUT_VALUES], key=lambda name: (name.split()[0] != "Table", int(name.split()[1])))
    )


def key(place: str) -> str:
    """`Table 4` and `table-4` as `table4`."""
    return re.sub(r"[^a-z0-9.]", "", place.lower())


def _file_in_text(artefact: Artefact) -> str:
    """The file that the PDF includes: a figure's PDF, the text of a generic table, the numbers of any other table."""
    suffix = ".pdf" if artefact.kind == "figure" else ".md" if artefact.text == GENERIC else ".csv"
    return artefact.stem + suffix


def _artefact(kind: str, name: str, row: dict[str, Any]) -> Artefact:
    for name_of_key in row:
        check_choice(f"A key of the {kind} {name} in {PATH.name}", name_of_key, sorted(KEYS))
    if gaps := {"title", "caption", "reads"} - set(row):
        raise RefusedError(
            f"The {kind} {name} in {PATH.name} must have title, caption and reads",
            f"without {sorted(gaps)}",
            "Add them",
        )
    fields = {"module": f"paper.{kind}s.{name}", "text": GENERIC} | row
    fields |= {"places": tuple(fields.get("places", ())), "caption": " ".join(fields["caption"].split())}
    check_choice(f"The text of the {kind} {name} in {PATH.name}", fields["text"], TEXTS)
    if fields["text"] == GENERIC and not fields.get("section"):
        rule = f"The {kind} {name} in {PATH.name}, whose text is {GENERIC}, must have the key section"
        raise RefusedError(rule, "no section", "Add section, the heading in the PDF below which it is printed")
    return Artefact(kind=kind, name=name, **fields)


def _check_entry(artefact: Artefact, tables: set[str]) -> None:
    """Places are the paper's, each once, and sources are what a results folder has; `tables` are its tables."""
    title = f"the {artefact.kind} {artefact.name} in artefacts.yaml"
    for place in artefact.places:
        check_choice(f"A place of {title}", place, places_of_paper())
    if len(set(artefact.places)) < len(artefact.places):
        raise RefusedError(f"Each place of {title} must be named once", list(artefact.places), "Drop the second")
    of_runs = [f"fusers/{{run}}/{file}" for file in RUN_FILES]
    of_analyses = [f"analysis/{kind}/{file}" for kind, files in ANALYSIS_FILES.items() for file in files]
    for flag, source in artefact.reads.items():
        check_choice(f"The source {flag} of {title}", source, [*SOURCES, *of_runs, *of_analyses, *sorted(tables)])


def _pattern_of(flag: str, source: str) -> str:
    if source in (RECORDS, RELEASED):
        return "records/..."
    if source in (TESTBED, CURVES):
        return f"testbed/records/*/*/seed*{'.curves.csv' if source == CURVES else '.parquet'}"
    pattern = source.replace("{run}", "*/*/*/seed*").replace("{pair}", "*")
    return str(Path(pattern).parent) if flag == "fusers" else pattern


def claim_files(path: Path = CLAIMS) -> list[str]:
    """The files below a results folder that claims read besides records: tables, and what analyses wrote."""
    claims = read_yaml(path, "Write it as the comment at the head of paper/claims.yaml says")["claims"]
    return sorted({claim["evidence"]["file"] for claim in claims if "file" in claim.get("evidence", {})})
