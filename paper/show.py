"""One claim, or one table of the paper: the paper's value, ours, its interval, the verdict, the records, the commands.

    c2c claims list                        (the same: python -m paper.show list)
    c2c claims show c2c_above_receiver
    c2c claims show table4 [--values]

reads ``results/<scale>`` where a scale was run here, else the committed ``paper/records/<scale>``. Imports no torch.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.catalogue import FOLDER, read_benchmarks
from c2c.errors import RefusedError, check_choice
from c2c.evaluation.protocol import CORRECTED, RELEASED, RELEASED_TASK
from c2c.storage.formats import read_json, read_text
from c2c.testbed.card.numbers import NOTHING, decimal, show
from paper.artefacts import by_target, claim_files, read_artefacts
from paper.artefacts import key as _key
from paper.command import REMEDY, command
from paper.questions import lines_about
from paper.reading import names
from paper.reading.alignments import MAIN_ALIGNMENT
from paper.reading.commits import CONFIG
from paper.reading.committed import RECORDS, TIMES, basis_of, protocol_of
from paper.reading.files import read_table
from paper.reading.reference import MAIN, Reference

PROGRAM = "c2c claims"
CLAIMS = ("claims.json", "claims_time.json")
PROFILES = {"smoke": "--profile smoke", "laptop": "--profile laptop", "paper": "--profile slurm"}
OWNERS = {"paper": "Claims of the paper", "project": "Claims of this project, about the controls"}
ACCURACY = "c2c_above_receiver"
"""The claim whose cells are the pairs and benchmarks that verdicts on accuracy rest on."""
COMMIT = 12
"""Digits of a commit that are shown."""
CONTROLS = ("pairing_gain", "communication_gain", "content_gain")
"""The project's claims that compare C2C with its controls."""
METRICS = {
    "letter": "accuracy of the letter that is written",
    "logits": "accuracy of the letter with the highest logit",
    "text": "accuracy of the option with the highest likelihood",
    "choice": "accuracy of the option with the highest likelihood",
}
"""What is counted under each scoring of a benchmark's tasks."""
BOUNDS = ("value", "low", "high")
KEYS = {"receiver": "models", "sharer": "models", "arm": "arms", "benchmark": "benchmarks"}
"""Columns of the main table whose names the paper has too, with the kind of name."""


def scales(root: Path = Path()) -> list[Path]:
    """The folder of each scale that has verdicts: this machine's results where it has them, else committed records."""
    folders = {}
    for pattern in ("paper/records/*", "results/*"):
        folders |= {path.parent.name: path.parent for path in sorted(root.glob(f"{pattern}/{CLAIMS[0]}"))}
    if not folders:
        raise RefusedError("There must be verdicts to show", str(root.resolve()), "Run this in the repository's root")
    return list(folders.values())


def read_verdicts(folder: Path) -> dict[str, dict[str, Any]]:
    """The claims of a scale by id."""
    files = [folder / name for name in CLAIMS if (folder / name).exists()]
    return {claim["id"]: claim for file in files for claim in read_json(file, REMEDY)}


def listing(folders: list[Path], reference: Reference) -> Iterator[str]:
    """The paper's claims with their verdicts by scale, the project's, then tables and figures that can be shown."""
    verdicts = {folder.name: read_verdicts(folder) for folder in folders}
    claims_by_name = {name: claim for claims in verdicts.values() for name, claim in claims.items()}
    for whose, title in OWNERS.items():
        yield title
        for name, claim in claims_by_name.items():
            if claim["of"] == whose:
                states = "; ".join(
                    f"{scale}: {claims[name]['verdict']}" for scale, claims in verdicts.items() if name in claims
                )
                place = f"{claim['where']}: " if claim["where"] else ""
                yield f"{name:30} {states:45} {place}{claim['sentence']}"
        yield ""
    yield f"Of the paper: {', '.join(map(_key, reference.frame['artefact'].unique()))}"


def show_claim(name: str, folders: list[Path]) -> Iterator[str]:
    """A claim at every scale that has it, and the questions that people ask about it."""
    verdicts_by_folder = [(folder, verdicts[name]) for folder in folders if name in (verdicts := read_verdicts(folder))]
    first = verdicts_by_folder[0][1]
    yield first["sentence"]
    yield f"  paper      {_number(first['paper_value'])} {first['unit']} ({first['where'] or 'the project'})"
    for folder, claim in verdicts_by_folder:
        yield ""
        yield f"Scale {folder.name}: {claim['verdict']}{' (' + claim['reason'] + ')' if claim['reason'] else ''}"
        yield f"  {_our_value(claim)}, n = {claim['n'] or 0}{_of_alignment(claim['alignment'])}"
        if claim.get("seeds_note"):
            yield f"  {claim['seeds_note']}"
        yield from _sizes(claim)
        if claim["value"] is not None and (number := sum(claim["cells"].values()) - claim["cells"]["missing"]):
            yield f"  rests on {number} cell{'s' if number > 1 else ''}"
        for cell in claim["evidence"].get("cells", []):
            place = ", ".join(str(cell[key]) for key in ("pair", "benchmark", "part", "against") if cell.get(key))
            yield f"    {place:40} {_estimate(cell, 2)}, n = {cell['n']}{_of_alignment(cell.get('alignment', ''))}"
        timed = claim["evidence"]["kind"] == "time_ratio"
        yield from _origin(folder, CLAIMS[timed], timed)
    yield from lines_about(name)


def show_table(key: str, folders: list[Path], reference: Reference, has_values: bool = False) -> Iterator[str]:
    """The claims on one table or figure of the paper at every scale, and our artefacts of the same form.

    Args:
        key: The table or figure, as in ``table4``.
        folders: Of the scales.
        reference: The paper's values.
        has_values: Whether the paper's printed values follow, with ours of the same cell where a scale has it.
    """
    paper_rows = reference.frame[reference.frame["artefact"].map(_key) == key]
    artefact = paper_rows["artefact"].iloc[0]
    yield f"{artefact}: {len(paper_rows)} printed values" + ("" if has_values else f" ({PROGRAM} show {key} --values)")
    # The claims of each scale, and where none is about this place, a sentence.
    claims = {
        folder: [claim for claim in read_verdicts(folder).values() if _mentions(claim["where"], key)]
        for folder in folders
    }
    if not any(claims.values()):
        yield f"No claim is about {artefact}; {PROGRAM} list names all claims."
    # Each scale: verdicts, then the commands behind them.
    for folder in folders:
        yield ""
        yield f"Scale {folder.name}, {_prompts(protocol_of(folder) == RELEASED)}:"
        for claim in claims[folder]:
            yield _verdict(claim)
        for note in dict.fromkeys(claim["seeds_note"] for claim in claims[folder] if claim.get("seeds_note")):
            yield f"  {note}"
        if key == _key(MAIN):
            yield from _controls(folder)
            yield from _settings(folder)
        if claims[folder]:
            yield from _origin(folder, CLAIMS[0], timed=False)
        yield from _artefacts(folder, key)
    if has_values:
        yield ""
        yield from _values(paper_rows, key, folders)
    yield from lines_about(key)


def _controls(folder: Path) -> Iterator[str]:
    """The gains over the controls at one scale, without which a gain over the Receiver shows no communication."""
    verdicts = read_verdicts(folder)
    yield "  Controls of C2C: a gain over the Receiver is communication only where both lie above zero."
    yield from (_verdict(verdicts[name]) for name in CONTROLS if name in verdicts)


def _settings(folder: Path) -> Iterator[str]:
    """What verdicts of one scale rest on: each benchmark's source, split and metric, and each pair's checkpoints."""
    verdicts = read_verdicts(folder)
    cells = verdicts[ACCURACY]["evidence"].get("cells", []) if ACCURACY in verdicts else []
    main = folder / "tables/main.csv"
    if not cells or not main.is_file():
        return
    # Benchmarks.
    benchmarks = read_benchmarks([CONFIG.parent / FOLDER])
    yield "  Benchmarks (data set at the revision that config pins, split, metric):"
    for task in dict.fromkeys(cell["benchmark"] for cell in cells):
        name = names.benchmark_of(task)
        row = benchmarks.get(name, {})
        place = (
            f"{row['hub_id']}@{row['revision'][:COMMIT]}, split {row['split']}" if row.get("hub_id") else "generated"
        )
        yield f"    {names.title('benchmarks', task):40} {place}, {_metric(name, task)}"
    # Checkpoints.
    rows = [row for row in _rows(CONFIG / "models.tsv") if row["source"] == "hub"]
    models = {row[key]: f"{row['hub_id']}@{row['revision'][:COMMIT]}" for row in rows for key in ("model", "hub_id")}
    released_rows = _rows(CONFIG / "released.tsv")
    frame = read_table(main).drop_duplicates("pair").set_index("pair")
    yield "  Checkpoints (id at the revision that config pins):"
    for pair in dict.fromkeys(cell["pair"] for cell in cells if cell["pair"] in frame.index):
        places = [models.get(name, name) for name in (frame.loc[pair, "receiver"], frame.loc[pair, "sharer"])]
        seeds = max(cell["seeds"] for cell in cells if cell["pair"] == pair)
        origin = f"fusers trained by the workflow, {seeds} seed{'s' if seeds > 1 else ''}"
        yield f"    {names.title('pairs', pair):40} Receiver {places[0]}, Sharer {places[1]}, {origin}"
        for row in (row for row in released_rows if row["pair"] == pair):
            place = f"{row['hub_id']}@{row['revision'][:COMMIT]}, {row['subfolder']}"
            yield f"    {'':40} in the table released: fusers of {place}"


def _verdict(claim: dict[str, Any]) -> str:
    """A claim in one line."""
    value = f"{_our_value(claim)}{_of_alignment(claim['alignment'])}"
    paper_value = "" if claim["of"] == "project" else f"paper {_number(claim['paper_value'])}, "
    seeds = f", {claim['seeds_note'].partition(';')[0]}" if claim.get("seeds_note") else ""
    return f"  {claim['id']:30} {claim['verdict']:28} {paper_value}{value}{seeds}"


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table of ``config/``."""
    head, *lines = [line.split("\t") for line in read_text(path, "Restore the table").splitlines()]
    return [dict(zip(head, line, strict=False)) for line in lines]


def _metric(benchmark: str, task: str) -> str:
    """How answers to a task are marked."""
    scoring = task.removeprefix(f"{benchmark}_").removesuffix(RELEASED_TASK) if task != benchmark else ""
    return METRICS.get(scoring, "accuracy of the generated answer")


def _artefacts(folder: Path, key: str) -> Iterator[str]:
    """Our tables and figures of the same place at one scale, and the command that makes them."""
    artefacts = by_target(read_artefacts()).get(key, [])
    if not artefacts:
        yield "  ours       no table or figure of this form"
        return
    files = [str(file) for artefact in artefacts if (file := folder / artefact.files[-1]).is_file()]
    names = ", ".join(f"{artefact.kind} {artefact.name}" for artefact in artefacts)
    yield f"  ours       {', '.join(files) or f'not here: the next command makes {names}'}"
    yield f"  replicate  {_snakemake(folder.name)} {key}"


def _values(paper_rows: pd.DataFrame, key: str, folders: list[Path]) -> Iterator[str]:
    """The paper's printed values, and ours of the same cell."""
    cells = {folder.name: _cells(folder) for folder in folders}
    for row in paper_rows.itertuples():
        place = ", ".join(filter(None, (row.panel, row.receiver, row.sharer, row.method, row.benchmark, row.metric)))
        where = (row.receiver, row.sharer, row.method, row.benchmark)
        is_accuracy = key == "table4" and row.metric == "accuracy"
        values = [f"{scale} {table[where]}" for scale, table in cells.items() if is_accuracy and where in table]
        yield f"  {place:90} {row.value:>8} {row.unit:4} ours: {', '.join(values) or NOTHING}"


@functools.partial(command, name=PROGRAM)
def main(arguments: list[str] | None = None) -> None:
    """Command line; a refusal is printed as one line."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["list", "show"])
    parser.add_argument("name", nargs="?", help="id of a claim, or a table or figure of the paper: table4")
    parser.add_argument("--values", action="store_true", help="of a table or figure: list the paper's values, too")
    options = parser.parse_args(arguments)
    print("\n".join(_lines(options.action, options.name, options.values)))


def _lines(action: str, name: str | None, has_values: bool) -> list[str]:
    if action == "list" and name:
        rule = "c2c claims list must be given nothing more"
        raise RefusedError(rule, name, f"Write c2c claims show {name}, or leave it out")
    folders, reference = scales(), Reference()
    if action == "list":
        return list(listing(folders, reference))
    tables = [_key(artefact) for artefact in reference.frame["artefact"].unique()]
    ids = list(dict.fromkeys(claim for folder in folders for claim in read_verdicts(folder)))
    if not name:
        rule = "c2c claims show must be given a claim, or a table or figure of the paper"
        raise RefusedError(rule, "no name", f"Name one of: {', '.join([*ids, *tables])}")
    if _key(name) in tables:
        return list(show_table(_key(name), folders, reference, has_values))
    check_choice("What is shown", name, [*ids, *tables])
    return list(show_claim(name, folders))


def _origin(folder: Path, file: str, timed: bool) -> Iterator[str]:
    """Where the records lie, and the commands that make the number of them, and them from nothing."""
    is_committed = (folder / RECORDS).is_file()
    answers, times = (folder / RECORDS, folder / TIMES) if is_committed else (folder / "records", folder / "latency")
    flags = [f"--records {answers}" if is_committed else f"--records $(find {answers} -name '*.parquet')"]
    tables = [str(folder / name) for name in claim_files() if (folder / name).is_file()]
    if tables:
        flags.append(f"--tables {' '.join(tables)}")
    if times.exists():
        flags.append(f"--latency-records {times}" if is_committed else f"--latency-records {times}/*.parquet")
    if (protocol := protocol_of(folder)) != CORRECTED:
        flags.append(f"--protocol {protocol}")
    if (basis := basis_of(folder)) not in ("", folder.name):
        flags.append(f"--basis {basis}")
    outputs = "--output fresh/claims.json --output-time fresh/claims_time.json"
    yield f"  records    {times if timed and times.exists() else answers}"
    yield f"  recompute  python -m paper.claims {' '.join(flags)} {outputs}"
    yield f"  replicate  {_snakemake(folder.name)} results/{folder.name}/{file}"


def _snakemake(scale: str) -> str:
    return f"snakemake {PROFILES.get(scale, f'--cores all --configfile config/{scale}.yaml --')}"


def _our_value(claim: dict[str, Any]) -> str:
    """Our value, or for a contradiction the other printed value."""
    if claim["evidence"]["kind"] == "check":
        return f"printed elsewhere {_number(claim['evidence']['recomputed'])} {claim['unit']}"
    return f"ours {_estimate(claim, 2)} {claim['unit']}"


def _sizes(claim: dict[str, Any]) -> Iterator[str]:
    """Whether the printed value agrees with ours in size, where pairs are the same; and an earlier version's."""
    if claim["size"]:
        yield f"  in size    {claim['size']}"
    earlier = claim["earlier"]
    if earlier:
        size = f": {earlier['size']}" if earlier["size"] else ""
        yield f"  {earlier['note']}: {_number(earlier['value'])} {earlier['unit']}{size}"


def _cells(folder: Path) -> dict[tuple[str | None, ...], str]:
    """Our accuracy, its interval and the prompts, by what the paper calls Receiver, Sharer, method and benchmark."""
    frame = read_table(folder / "tables/main.csv")
    of_main = [MAIN in names.places(pair) for pair in frame["pair"]]
    rows = frame[pd.Series(of_main, frame.index, dtype=bool) & (frame["value"] != "")].to_dict("records")
    return {
        tuple(names.paper_name(kind, str(row[column])) for column, kind in KEYS.items()): (
            f"{_estimate(row, 1)} ({_prompts(names.has_released_prompts(row['benchmark']))}"
            f"{_of_alignment(_alignment(row))})"
        )
        for row in rows
    }


def _alignment(row: dict[Any, Any]) -> str:
    """The token alignment of a row of the main table, which has no such column where all that was trained has one."""
    return str(row.get("alignment", MAIN_ALIGNMENT if row["seeds"] else ""))


def _of_alignment(alignment: str) -> str:
    """Names the token alignment behind a number; nothing behind one for which nothing was trained."""
    return f", alignment {alignment}" if alignment else ""


def _prompts(are_released: bool) -> str:
    """Which set of prompts numbers come from."""
    return "released prompts" if are_released else "own prompts"


def _estimate(row: dict[Any, Any], digits: int) -> str:
    value, low, high = (pd.to_numeric(row[name]) if row[name] is not None else float("nan") for name in BOUNDS)
    return show(value, low, high, digits=digits)


def _mentions(where: str, key: str) -> bool:
    return key in {_key(place) for place in re.findall(r"(?:Table|Figure) \d+", where)}


def _number(value: float | None) -> str:
    return NOTHING if value is None else decimal(value, 2)


if __name__ == "__main__":
    sys.exit(main())
