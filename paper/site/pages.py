"""The data of the site: claims, cells with their answers, printed values and tables, as objects that become JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.storage.formats import read_text
from c2c.testbed.card.numbers import decimal, show, show_difference
from paper.artefacts import of_kind
from paper.command import REMEDY
from paper.reading import names
from paper.reading.files import read_table
from paper.reading.reference import Reference
from paper.show import PROFILES
from paper.site.cells import CellPage, cell_pages
from paper.site.channels import channel_pages
from paper.site.marks import OUTCOMES
from paper.site.sources import ScaleFiles
from paper.verdicts import VERDICTS

CHUNK = 3000
"""About how many answers are one file, which the page of a question loads."""
PRINTED = ("artefact", "panel", "receiver", "sharer", "method", "benchmark", "metric", "unit", "source")
"""Columns of a printed value that its list shows."""
UNIT_DIGITS = {"ratio": 2}
"""Decimals of our value of a claim, where not 1."""


def site_data(scales: Sequence[ScaleFiles]) -> Iterator[tuple[str, Any]]:
    """Names and contents of all files of data; the index, which names the others, comes last."""
    entries = []
    comparisons: list[dict[str, Any]] = []
    for files in scales:
        cells = []
        for number, page in enumerate(chain(cell_pages(files), channel_pages(files))):
            name = f"{files.scale}/cells/{number:03d}"
            questions = questions_a_file(page)
            yield name, {**page.summary, **page.body, "chunk": questions}
            for place, chunk in enumerate(answer_chunks(page, questions)):
                yield f"{name}-{place:03d}", chunk
            cells.append({"file": name, **page.summary})
        tables = []
        for path in files.tables:
            table = printed_table(path)
            yield f"{files.scale}/tables/{path.stem}", table
            tables.append({"name": path.stem, "title": table["title"], "rows": len(table["rows"])})
        comparisons += compared_values(files)
        entries.append(scale_entry(files, cells, tables))
    yield "printed", {"values": printed_values(Reference()), "compared": comparisons}
    yield (
        "index",
        {
            "scales": entries,
            "verdicts": list(VERDICTS),
            "outcomes": [outcome._asdict() for outcome in OUTCOMES],
        },
    )


def questions_a_file(page: CellPage) -> int:
    """Of how many questions the answers are one file."""
    answers = max(len(question["answers"]) for question in page.answers.values())
    return max(1, CHUNK // answers)


def answer_chunks(page: CellPage, questions: int) -> Iterator[dict[str, Any]]:
    """The answers of a cell in the order of its list of questions, so many questions at a time."""
    ids = page.body["questions"]["ids"]
    for start in range(0, len(ids), questions):
        yield {name: page.answers[name] for name in ids[start : start + questions]}


def scale_entry(files: ScaleFiles, cells: list[dict[str, Any]], tables: list[dict[str, Any]]) -> dict[str, Any]:
    """What the index holds of one scale."""
    snakemake = f"snakemake {PROFILES.get(files.scale, f'--cores all --configfile config/{files.scale}.yaml --')}"
    return {
        "scale": files.scale,
        "folder": files.folder.as_posix() if not files.folder.is_absolute() else files.folder.name,
        "protocol": files.protocol,
        "commits": files.commits(),
        "remarks": files.remarks,
        "records": len(files.frame),
        "messages": 0 if files.messages is None else len(files.messages.frame),
        "commands": {
            "run": snakemake,
            "questions": f"{snakemake} results/{files.scale}/questions.parquet",
            "testbed": f"{snakemake} testbed",
        },
        "claims": [claim_entry(claim, cells) for claim in files.claims()],
        "cells": cells,
        "tables": tables,
    }


def claim_entry(claim: dict[str, Any], cells: list[dict[str, Any]]) -> dict[str, Any]:
    """A claim as its page shows it: the verdict, the paper's value and ours, and the cells on which it rests."""
    places = {(cell["pair"], cell["benchmark"]) for cell in cells}
    digits = UNIT_DIGITS.get(claim["unit"], 1)
    evidence = claim["evidence"]
    is_check = evidence["kind"] == "check"
    value = [claim[name] for name in ("value", "low", "high")]
    has_both = claim["paper_value"] is not None and value[0] is not None
    gaps = [number - claim["paper_value"] for number in value] if has_both else []
    return {
        **{name: claim[name] for name in ("id", "of", "sentence", "verdict", "where", "unit", "size", "n", "seeds")},
        **{name: claim[name] for name in ("seeds_note", "alignment", "reason", "cells")},
        "paper": decimal(claim["paper_value"], 2),
        "ours": f"printed elsewhere: {decimal(evidence['recomputed'], 2)}" if is_check else _estimate(claim, digits),
        "difference": show_difference(*gaps) if has_both else "",
        "detectable": decimal(claim["detectable"], 1),
        "kind": evidence["kind"],
        "rule": {name: str(part) for name, part in evidence.items() if name not in ("cells", "kind")},
        "earlier": claim["earlier"],
        "replication": claim["replication"],
        "evidence": [
            {
                "text": _estimate(cell, digits),
                **{name: round(float(cell[name]), 4) for name in ("value", "low", "high")},
                "n": cell["n"],
                "seeds": cell.get("seeds"),
                "title": _place_title(cell),
                **_link(cell, evidence.get("where", {}), places),
            }
            for cell in evidence.get("cells", [])
        ],
    }


def printed_values(reference: Reference) -> list[dict[str, str]]:
    """All values that the paper prints, in its order."""
    return [
        {name: str(row[name]) for name in PRINTED} | {"value": str(row["value"])}
        for row in reference.frame.to_dict("records")
    ]


def compared_values(files: ScaleFiles) -> list[dict[str, Any]]:
    """Cells of which both the paper and this scale have a value, from every table with a column of the paper's."""
    rows = []
    for path in sorted(files.folder.glob("tables/*.csv")):
        frame = read_table(path, empty_is_missing=True)
        if not {"paper", "value", "difference_value"} <= set(frame):
            continue
        for row in frame[frame["paper"].notna() & frame["value"].notna()].to_dict("records"):
            ids = {kind: str(row.get(kind) or "") for kind in ("pair", "benchmark", "arm")}
            titles = [names.title(f"{kind}s", name) for kind, name in ids.items() if name]
            rows.append(
                {
                    "scale": files.scale,
                    "table": path.stem,
                    **ids,
                    "title": ", ".join(titles),
                    "paper": decimal(row["paper"], 2),
                    "ours": _estimate(row, 1),
                    "difference": show_difference(*(row[f"difference_{name}"] for name in ("value", "low", "high"))),
                    "verdict": str(row.get("verdict") or ""),
                }
            )
    return rows


def printed_table(path: Path) -> dict[str, Any]:
    """A table of ours as it is printed: title, caption, head, rows and notes."""
    artefact = of_kind("table").get(path.stem)
    text = re.sub(r"<!--.*?-->", "", read_text(path, REMEDY), flags=re.DOTALL)
    lines = [line for line in text.splitlines() if line.strip()]
    rows = [_cells(line) for line in lines if line.startswith("|")]
    return {
        "title": artefact.title if artefact else path.stem,
        "caption": artefact.caption if artefact else "",
        "head": rows[0] if rows else [],
        "rows": rows[2:],
        "notes": [_plain(line.removeprefix("* ")) for line in lines if not line.startswith("|")],
    }


def _cells(line: str) -> list[str]:
    return [_plain(cell) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def _plain(text: str) -> str:
    """Text behind the escapes of `c2c.storage.markup.markdown`."""
    for escape, sign in ((r"\|", "|"), ("&#92;|", r"\|"), ("&lt;", "<"), (r"]\(", "]("), ("&amp;", "&")):
        text = text.replace(escape, sign)
    return text.strip()


def _estimate(row: dict[str, Any], digits: int) -> str:
    value, low, high = (float("nan") if pd.isna(row[name]) else float(row[name]) for name in ("value", "low", "high"))
    return show(value, low, high, digits=digits)


def _place_title(cell: dict[str, Any]) -> str:
    """The titles of the pair, the benchmark and the part of a claim's cell."""
    pair, benchmark = str(cell.get("pair") or ""), str(cell.get("benchmark") or "")
    place = names.cell_title(pair, benchmark) if pair and benchmark else pair or benchmark
    return ", ".join(filter(None, [place, *(str(cell.get(key) or "") for key in ("part", "against"))]))


def _link(cell: dict[str, Any], where: dict[str, Any], places: set[tuple[str, str]]) -> dict[str, str]:
    """The pair and benchmark of a claim's cell, where the site has a page of it."""
    task, channel = cell.get("task") or where.get("task"), where.get("channel")
    benchmark = f"{task}.{channel}" if channel else str(cell.get("benchmark"))
    place = (str(cell.get("pair")), benchmark)
    return {"pair": place[0], "benchmark": place[1]} if place in places else {}
