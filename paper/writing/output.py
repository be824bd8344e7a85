"""Writing artefacts: a table as .csv, .tex and .md from one frame, and each file with its provenance."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.evaluation.protocol import CORRECTED, PROTOCOLS
from c2c.provenance import stamp
from c2c.storage import markup
from c2c.storage.files import written_whole
from c2c.testbed.card.numbers import DECIMALS
from paper.command import command
from paper.reading import failures, names
from paper.reading.alignments import MAIN_ALIGNMENT
from paper.reading.answers import Answers
from paper.writing import citation
from paper.writing.columns import NAME_KINDS

SUFFIXES = (".csv", ".tex", ".md")
MOST_NAMES = 4
"""A note on rows without a number names so many rows; more are counted."""


@contextmanager
def stamped(
    outputs: Iterable[Path], inputs: Iterable[Path], settings: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """`stamp` for several files that one block makes, with how each is cited; inside, `citation` knows the inputs."""
    sources = [*inputs, *names.files()]
    with ExitStack() as stack:
        stack.enter_context(citation.made_from(sources))
        for output in outputs:
            notes = stack.enter_context(stamp(output, inputs=[*sources, citation.CFF], settings=settings))
            if cited := citation.cite_file(output.absolute()):
                notes["citation"] = cited.described()
        yield


def path_with(stem: Path, suffix: str) -> Path:
    """`stem` with `suffix`, also where the stem has a dot in its name."""
    return stem.with_name(stem.name + suffix)


def write_table(
    frame: pd.DataFrame, table: pd.DataFrame, stem: Path, notes: Sequence[str] = (), answers: Answers | None = None
) -> pd.DataFrame:
    """Write the tidy `frame` as .csv, and `table`, what a person reads of it, as .tex and .md with `notes` below.

    The three files take their names together, once the last of them is written. Both printed forms carry how the table
    is cited as a comment, where it has a caption. With `answers`, their remarks and failures are printed below, and the
    .csv has a column of failures.

    Returns:
        `frame`.
    """
    if answers is not None:
        notes = [*notes, *_note_on_alignments(frame, answers), *failures.notes(answers), *answers.remarks]
        frame = failures.with_failures(frame, answers)
    scales = ", ".join(sorted(frame["scale"].astype(str).unique())) if "scale" in frame else ""
    citation_entry = citation.cite("table", stem.name, scales)
    entry = citation_entry.bibtex() if citation_entry else ""
    texts = {
        ".csv": markup.csv_text(frame, DECIMALS),
        ".tex": _commented(entry) + _tex(table, notes),
        ".md": _markdown(table, notes) + _remarked(entry),
    }
    # The names are taken when the stack is left, and none of them if a file cannot be written.
    with ExitStack() as stack:
        for suffix in SUFFIXES:
            unfinished = stack.enter_context(written_whole(path_with(stem, suffix)))
            unfinished.write_text(texts[suffix], encoding="utf-8")
    return frame


def _note_on_alignments(frame: pd.DataFrame, answers: Answers) -> list[str]:
    """The pairs of a table without a column of alignments whose fusers have another token alignment than span."""
    if "alignment" in frame or "pair" not in frame:
        return []
    alignments = {name: answers.main_alignment(name) for name in frame["pair"].unique()}
    exceptions = [
        f"{names.title('pairs', name)}: {alignment}"
        for name, alignment in alignments.items()
        if alignment != MAIN_ALIGNMENT
    ]
    return (
        [f"Token alignment of what was trained, where it is not {MAIN_ALIGNMENT}. {'; '.join(exceptions)}."]
        if exceptions
        else []
    )


def run_table(description: str, write: Callable[..., object], **readers: Callable[[Any], object]) -> None:
    """Command line of a table: read the files of each flag, and hand what was read to `write` with the output's stem.

    Args:
        description: Of the table.
        write: Takes what the readers return, in their order, and `--output-stem`.
        readers: By flag: `records` gets a list of files and the protocol, any other flag one file;
            `latency` may be left out, and its reader gets None.
    """

    @command
    def main() -> None:
        arguments = table_parser(description, *(f"--{flag}" for flag in readers)).parse_args()
        paths_by_flag = {flag: getattr(arguments, flag) for flag in readers}
        inputs = [
            path for paths in paths_by_flag.values() for path in (paths if isinstance(paths, list) else [paths]) if path
        ]
        with stamped([path_with(arguments.output_stem, suffix) for suffix in SUFFIXES], inputs):
            more = {flag: [arguments.protocol] if flag == "records" else [] for flag in readers}
            write(*(readers[flag](paths, *more[flag]) for flag, paths in paths_by_flag.items()), arguments.output_stem)

    if code := main():
        sys.exit(code)


def table_parser(description: str, *flags: str) -> argparse.ArgumentParser:
    """A parser with `--output-stem` and the given flags of input files; `--records` takes several, and a protocol."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    for flag in flags:
        several: dict[str, Any] = {"nargs": "+"} if flag in ("--records", "--fusers", "--testbed", "--curves") else {}
        is_required = not (flag == "--latency" and "--records" in flags)
        parser.add_argument(flag, type=Path, required=is_required, **several)
    if "--records" in flags:
        parser.add_argument("--protocol", choices=PROTOCOLS, default=CORRECTED, help="by which answers are marked")
    parser.add_argument("--output-stem", type=Path, required=True, help="path of the outputs without suffix")
    return parser


def notes_on_gaps(frame: pd.DataFrame, what: Sequence[str]) -> list[str]:
    """One sentence for each reason for which rows of `frame` hold no number.

    It names the rows by the columns `what`, or, where they are more than `MOST_NAMES`, counts them.
    """
    gaps = frame[frame["reason"] != ""]
    if gaps.empty:
        return []
    titles = [
        [names.title(NAME_KINDS[column], name) if column in NAME_KINDS else name for name in gaps[column]]
        for column in what
    ]
    if "benchmark" in what:
        keys = [column for column in what if column != "benchmark"]
        benchmarks_of = frame.groupby(keys)["benchmark"].transform("nunique").loc[gaps.index]
        counts = gaps.groupby([*keys, "reason"])["benchmark"].transform("nunique")
        everywhere = (benchmarks_of == counts) & (benchmarks_of > 2)
        benchmarks = titles[what.index("benchmark")]
        titles[what.index("benchmark")] = [
            "all benchmarks" if is_everywhere else title
            for is_everywhere, title in zip(everywhere, benchmarks, strict=True)
        ]
    labels = pd.Series([" / ".join(parts) for parts in zip(*titles, strict=True)], index=gaps.index)
    notes = []
    for why, group in labels.groupby(gaps["reason"]):
        rows = list(dict.fromkeys(group))
        if len(rows) <= MOST_NAMES:
            notes.append(f"Not run: {'; '.join(rows)}. Reason: {why}.")
        else:
            where = "the column reason of the table's .csv file lists them"
            notes.append(f"Not run: {len(group)} of {len(frame)} rows ({why}); {where}.")
    return notes


def _markdown(table: pd.DataFrame, notes: Sequence[str]) -> str:
    head, *body = [
        [markup.markdown(cell) for cell in row] for row in [list(table.columns), *table.astype(str).to_numpy().tolist()]
    ]
    rows = [head, ["---"] * table.shape[1], *body]
    below = [f"* {markup.markdown(note)}" for note in notes]
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + ["", *below, ""])


def _remarked(entry: str) -> str:
    return f"\n<!-- Cite as:\n{entry}\n-->\n" if entry else ""


def _commented(entry: str) -> str:
    return "".join(f"% {line}\n" for line in ["Cite as:", *entry.splitlines()]) if entry else ""


def _tex(table: pd.DataFrame, notes: Sequence[str]) -> str:
    """A booktabs table; written out here so that no template engine is needed to verify it."""
    head, *body = [
        " & ".join(markup.latex(cell) for cell in row) + r" \\"
        for row in [list(table.columns), *table.astype(str).to_numpy().tolist()]
    ]
    lines = [rf"\begin{{tabular}}{{{'l' * table.shape[1]}}}", r"\toprule", head, r"\midrule", *body]
    below = [rf"\par\footnotesize {markup.latex(note)}" for note in notes]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *below, ""])
