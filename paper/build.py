"""The paper of one scale as a PDF: its text, and the results that it reads, compiled by typst."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import typst

from c2c.errors import RefusedError
from c2c.storage.files import written_whole
from c2c.storage.formats import read_yaml
from c2c.storage.manifests import read_object
from paper import claims
from paper.artefacts import GENERIC, Artefact, optional_files, read_artefacts, required_files
from paper.command import REMEDY, command
from paper.departures import departures
from paper.findings import read_sections
from paper.findings.remarks import remarks
from paper.reading import failures, names, preferences, runs
from paper.reading.commits import check_pinned
from paper.reading.committed import remarks_of
from paper.reading.files import read_csv, read_table
from paper.reading.precision import by_dtype
from paper.reading.reference import Reference
from paper.writing import citation
from paper.writing.output import stamped

TEXT = Path(__file__).parent
SOURCES = (
    "main.typ",
    "text/lib.typ",
    "text/data.typ",
    "text/setup.typ",
    "text/accuracy.typ",
    "text/communication.typ",
    "text/ablations.typ",
    "text/latency.typ",
    "text/artefacts.typ",
    "text/claims.typ",
    "text/closing.typ",
    "coverage.csv",
    "names.yaml",
    "references.bib",
    "text/related.typ",
)
WRITTEN = (*SOURCES, "deviations.md", "sections.yaml")
"""Sources of the text other than results."""
PRINTED_TRAINING = {
    name: f"app.-a.3/setup/-/-/c2c/-/openhermes-{value}"
    for name, value in (("steps", "steps"), ("batch", "macro-batch"))
}
"""Ids of the paper's settings of its main trainings."""
MARGINS = "tables/margins.csv"
SCOPE = "Verdicts concern the models and benchmarks of this scale, not those of the paper."


def build(results: Path, output: Path) -> None:
    """Compile the paper of a results folder.

    Raises:
        RefusedError: A table, figure or file of claims is missing, or the run must not be cited (`check_pinned`).
    """
    check_pinned(results)
    if gaps := [name for name in required_files() if not (results / name).is_file()]:
        raise RefusedError("The paper must have its tables, figures and claims", gaps, "Make them first")
    with tempfile.TemporaryDirectory() as temporary:
        stage = Path(temporary)
        for name in SOURCES:
            _copy(TEXT / name, stage / name)
        for name in inputs(results):
            _copy(results / name, stage / "results" / name)
        context = {**describe(results), "cite": cite(results)}
        (stage / "context.json").write_text(json.dumps(context), encoding="utf-8")
        pdf = typst.compile(stage / "main.typ", root=stage, ignore_system_fonts=True, timestamp=0)
    with written_whole(output) as unfinished:
        unfinished.write_bytes(pdf)


def inputs(results: Path) -> list[str]:
    """Names of the files of a results folder that the text reads."""
    return [name for name in (*required_files(), *optional_files()) if (results / name).is_file()]


def cite(results: Path) -> dict[str, Any]:
    """How the paper and each of its tables and figures is cited, and by whom they are."""
    scale = str(read_table(results / "tables/main.csv")["scale"].iloc[0])
    citations: dict[str, dict[str, Any]] = {kind: {} for kind in citation.KIND_OF_FOLDER.values()}
    for name in inputs(results):
        kind = citation.KIND_OF_FOLDER.get(Path(name).parent.name, "")
        if kind and (entry := citation.cite(kind, Path(name).stem, scale)):
            citations[kind][entry.name] = entry.described()
    paper_entry = citation.cite("paper", "paper", scale)
    columns = paper_entry.described() if paper_entry else {}
    return {**citations, **columns, "authors": citation.authors(), "version": str(citation.software()["version"])}


def describe(results: Path) -> dict[str, Any]:
    """What the text needs besides tables and claims: the scale, the world, training settings, the paper's numbers."""
    # The main table names the scale, the pairs, the benchmarks and the one that is timed
    main = read_table(results / "tables/main.csv")
    scale = str(main["scale"].iloc[0])
    timed_benchmarks = main.loc[main["time_ms"] != "", "benchmark"]
    # The paper's setting of the gates' temperature
    reference = Reference()
    trainings, is_from_config = runs.trainings(results, scale)
    start, end = ("app.-a.3/setup/-/-/c2c/-/gate-temperature-" + edge for edge in ("start", "end"))
    return {
        "scale": scale,
        "departures": departures(scale),
        "pairs": {
            row.pair: {"receiver": _model(row.receiver), "sharer": _model(row.sharer)} for row in main.itertuples()
        },
        "titles": _titles(main),
        "cells": {
            pair: {benchmark: names.cell_title(str(pair), str(benchmark)) for benchmark in rows["benchmark"].unique()}
            for pair, rows in main.groupby("pair", sort=False)
        },
        "training-sets": runs.training_sets(main["pair"].unique()),
        "timed-benchmark": timed_benchmarks.iloc[0] if len(timed_benchmarks) else "no benchmark",
        "temperature": {"first": reference.evaluate(start), "last": reference.evaluate(end)},
        "printed": reference.values(),
        "printed-training": {name: round(reference.evaluate(value)) for name, value in PRINTED_TRAINING.items()},
        "in-words": in_words(reference),
        "tables": _stems(results, "tables"),
        "figures": _stems(results, "figures"),
        "sections": sections(results),
        "left-out": left_out(results),
        "fusers": trainings,
        "configured": is_from_config,
        "settings": runs.shared_settings(trainings),
        "cost": runs.cost(results),
        "load": runs.loads(results),
        "margins": read_table(results / MARGINS).to_dict("records") if (results / MARGINS).is_file() else [],
        "remarks": remarks_of(results),
        "preferences": preferences.read(results, main),
        "precisions": by_dtype(results.glob("records/**/[!.]*.parquet"), results / "records"),
        "compared-pairs": _compared_pairs(results / "tables/alignment.csv"),
        "verdict-scope": SCOPE,
        "failures": failures.notes_of_tables(results),
        "world": _world(results / "world/world.json"),
    }


def sections(results: Path) -> list[dict[str, Any]]:
    """The sections that have an artefact to print, with what is found in each; unlisted ones last, with no text."""
    artefacts_of_text = [artefact for artefact in read_artefacts() if _is_printed(artefact, results)]
    sections_by_title = {section.title: section for section in read_sections()}
    last = next(reversed(sections_by_title.values())).chapter
    titles = [
        *sections_by_title,
        *(artefact.section for artefact in artefacts_of_text if artefact.section not in sections_by_title),
    ]
    entries = []
    for title in dict.fromkeys(titles):
        artefacts = [_described(artefact, results) for artefact in artefacts_of_text if artefact.section == title]
        section = sections_by_title.get(title)
        chapter, text = (section.chapter, section.text) if section else (last, "")
        sentences = section.sentences(results) if section else []
        entries.append(
            {"title": title, "chapter": chapter, "text": text, "sentences": sentences, "artefacts": artefacts}
        )
    return [entry for entry in entries if entry["artefacts"]]


def left_out(results: Path) -> list[str]:
    """Headings whose tables were made and have no rows, as nothing of the kind was run."""
    generic = [artefact for artefact in read_artefacts() if _is_generic(artefact, results)]
    headings = {artefact.section for artefact in generic if _is_printed(artefact, results)}
    return list(
        dict.fromkeys(
            artefact.section
            for artefact in generic
            if not _rows(artefact, results) and artefact.section not in headings
        )
    )


def in_words(reference: Reference) -> list[dict[str, Any]]:
    """Contradictions of the paper that no single comparison decides, with the printed values that belong to them."""
    entries = read_yaml(claims.PATH, claims.WRITTEN)["in_words"]
    return [
        {
            **entry,
            "numbers": [
                {**number, "value": reference.evaluate(number["value"])} for number in entry.get("numbers", [])
            ],
        }
        for entry in entries
    ]


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of one scale's results")
    parser.add_argument("--output", type=Path, required=True, help="the PDF to write")
    arguments = parser.parse_args()
    names_read = [
        *inputs(arguments.results),
        *(name for section in read_sections() for name in section.sources(arguments.results)),
    ]
    sources = [arguments.results / name for name in dict.fromkeys(names_read)]
    with stamped([arguments.output], [*sources, *(TEXT / name for name in WRITTEN)]):
        build(arguments.results, arguments.output)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _is_generic(artefact: Artefact, results: Path) -> bool:
    return artefact.text == GENERIC and (results / artefact.files[0]).is_file()


def _is_printed(artefact: Artefact, results: Path) -> bool:
    """Whether the text prints the artefact by itself, under its section: a table without rows it does not."""
    if not _is_generic(artefact, results) or not _rows(artefact, results):
        return False
    return not artefact.needs_paper or bool(read_csv(results / artefact.files[0])["paper"].notna().any())


def _rows(artefact: Artefact, results: Path) -> int:
    """Of a table; a figure counts as one."""
    return len(read_csv(results / artefact.files[0])) if artefact.kind == "table" else 1


def _described(artefact: Artefact, results: Path) -> dict[str, Any]:
    """What the text says of it."""
    fields = {field: getattr(artefact, field) for field in ("kind", "name", "title", "caption", "section", "stem")}
    caption = " ".join([artefact.caption, *remarks(artefact.kind, artefact.name, results)])
    return fields | {"places": list(artefact.places), "caption": caption}


def _titles(main: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Titles of the ids in the main table, as the text cannot make them up itself."""
    kinds = {"benchmarks": "benchmark", "pairs": "pair", "arms": "arm"}
    ids_by_kind = {kind: [str(name) for name in main[column].unique()] for kind, column in kinds.items()}
    return {kind: {name: names.title(kind, name) for name in ids} for kind, ids in ids_by_kind.items()}


def _stems(results: Path, kind: str) -> list[str]:
    return list(dict.fromkeys(Path(name).stem for name in inputs(results) if name.startswith(f"{kind}/")))


def _model(name: str) -> str:
    return names.title("models", name)


def _compared_pairs(table: Path) -> list[str]:
    """Pairs for which more than one token alignment was run."""
    if not table.is_file():
        return []
    frame = read_csv(table).dropna(subset=["c2c_value"])
    counts = frame.groupby("pair", sort=False)["alignment"].nunique()
    return [str(pair) for pair in counts[counts > 1].index]


def _world(path: Path) -> dict[str, Any] | None:
    """Sizes of the generated world, or None at a scale without one."""
    if not path.is_file():
        return None
    world = read_object(path, REMEDY)
    return {
        "entities": len(world["entities"]),
        "attributes": len(world["attributes"]),
        "values": max(len(values) for values in world["attributes"].values()),
        "splits": dict(Counter(entity["split"] for entity in world["entities"])),
    }


if __name__ == "__main__":
    sys.exit(main())
