"""Writing artefacts: a table as .csv, .tex and .md from one frame, and each file with its provenance."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pandas as pd

from c2c import markup
from c2c.evaluation.protocol import CORRECTED, PROTOCOLS
from c2c.provenance import stamp
from c2c.stats import Estimate
from c2c.storage.files import write_atomically
from paper.command import command
from paper.reading import failures, names
from paper.reading.answers import Answers
from paper.writing import citation

NOT_RUN = "not run"
NOTHING, MINUS = "–", "−"
KINDS = {"pair": "pairs", "arm": "arms", "benchmark": "benchmarks", "gain": "gains"}
"""Columns of a frame whose ids have titles."""
SUFFIXES = (".csv", ".tex", ".md")
KEPT = 4
"""Decimals of every number in a .csv."""


@contextmanager
def stamped(
    outputs: Iterable[Path], inputs: Iterable[Path], settings: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """`stamp` for several files that one block makes, with how each is cited; inside, `citation` knows the inputs."""
    sources = [*inputs, names.PATH]
    with ExitStack() as stack:
        stack.enter_context(citation.made_from(sources))
        for output in outputs:
            notes = stack.enter_context(stamp(output, inputs=[*sources, citation.CFF], settings=settings))
            if cited := citation.cite_file(output.absolute()):
                notes["citation"] = cited.described()
        yield


def beside(stem: Path, suffix: str) -> Path:
    """`stem` with `suffix`, also where the stem has a dot in its name."""
    return stem.with_name(stem.name + suffix)


def write_table(
    frame: pd.DataFrame, printed: pd.DataFrame, stem: Path, notes: Sequence[str] = (), answers: Answers | None = None
) -> pd.DataFrame:
    """Write the tidy `frame` as .csv, and `printed`, what a person reads of it, as .tex and .md with `notes` below.

    Both carry how the table is cited as a comment, where it has a caption. With `answers`, their remarks and what
    failed of them stand below too, and in a column of the .csv.

    Returns:
        `frame`.
    """
    if answers is not None:
        notes = [*notes, *failures.notes(answers), *answers.remarks]
        frame = failures.with_failures(frame, answers)
    write_atomically(beside(stem, ".csv"), markup.csv_text(frame, KEPT))
    scales = ", ".join(sorted(frame["scale"].astype(str).unique())) if "scale" in frame else ""
    cited = citation.cite("table", stem.name, scales)
    entry = cited.bibtex() if cited else ""
    write_atomically(beside(stem, ".md"), _markdown(printed, notes) + _remarked(entry))
    write_atomically(beside(stem, ".tex"), _commented(entry) + _tex(printed, notes))
    return frame


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
        given = {flag: getattr(arguments, flag) for flag in readers}
        inputs = [path for paths in given.values() for path in (paths if isinstance(paths, list) else [paths]) if path]
        with stamped([beside(arguments.output_stem, suffix) for suffix in SUFFIXES], inputs):
            more = {flag: [arguments.protocol] if flag == "records" else [] for flag in readers}
            write(*(readers[flag](paths, *more[flag]) for flag, paths in given.items()), arguments.output_stem)

    if code := main():
        sys.exit(code)


def table_parser(description: str, *flags: str) -> argparse.ArgumentParser:
    """A parser with `--output-stem` and the given flags of input files; `--records` takes several, and a protocol."""
    parser = argparse.ArgumentParser(description=description)
    for flag in flags:
        several = {"nargs": "+"} if flag in ("--records", "--fusers") else {}
        needed = not (flag == "--latency" and "--records" in flags)
        parser.add_argument(flag, type=Path, required=needed, **several)  # type: ignore[arg-type]
    if "--records" in flags:
        parser.add_argument("--protocol", choices=PROTOCOLS, default=CORRECTED, help="by which answers are marked")
    parser.add_argument("--output-stem", type=Path, required=True, help="path of the outputs without suffix")
    return parser


def percent(estimate: Estimate | None, prefix: str = "") -> dict[str, float | int | None]:
    """Columns `value`, `low`, `high`, `n`, `seeds` of an estimate in percent; empty for None."""
    if estimate is None:
        return {f"{prefix}{name}": None for name in ("value", "low", "high")} | {"n": None, "seeds": None}
    scaled = estimate.scaled(100)
    bounds = {f"{prefix}value": scaled.value, f"{prefix}low": scaled.low, f"{prefix}high": scaled.high}
    return bounds | {"n": scaled.n, "seeds": scaled.seeds}


def show(value: float, low: float, high: float, digits: int = 1, sign: bool = False) -> str:
    """A number with its interval, as in "93.4 [91.0, 95.2]"; "not run" where there is none."""
    if pd.isna(value):
        return NOT_RUN
    plus = "+" if sign else ""
    number = _signed(value, digits, plus)
    return number if pd.isna(low) else f"{number} [{_signed(low, digits)}, {_signed(high, digits)}]"


def fixed(value: float, digits: int) -> str:
    """The number with so many decimals: what the .csv holds of it, halves away from zero, as the PDF rounds it too."""
    rounded = Decimal(f"{value:.{KEPT}f}").quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return str(rounded if rounded else abs(rounded))


def count(value: float | int | None) -> str:
    """A whole number, or a dash."""
    return NOTHING if value is None or pd.isna(value) else f"{int(value)}"


def arm_cells(frame: pd.DataFrame) -> list[list[str]]:
    """What a person reads of each row of arms: pair, benchmark, arm, accuracy, `difference`, n and seeds."""
    return [
        [
            names.title("pairs", row.pair),
            names.title("benchmarks", row.benchmark),
            names.title("arms", row.arm),
            show(row.value, row.low, row.high),
            NOTHING
            if pd.isna(row.difference_value)
            else show(row.difference_value, row.difference_low, row.difference_high, sign=True),
            count(row.n),
            count(row.seeds),
        ]
        for row in frame.itertuples()
    ]


def notes_on_gaps(frame: pd.DataFrame, what: Sequence[str]) -> list[str]:
    """One sentence for each reason for which rows of `frame` hold no number, naming the rows by the columns `what`."""
    gaps = frame[frame["reason"] != ""]
    if gaps.empty:
        return []
    titled = [
        [names.title(KINDS[column], name) if column in KINDS else name for name in gaps[column]] for column in what
    ]
    if "benchmark" in what:
        others = [column for column in what if column != "benchmark"]
        asked = frame.groupby(others)["benchmark"].transform("nunique").loc[gaps.index]
        missing = gaps.groupby([*others, "reason"])["benchmark"].transform("nunique")
        everywhere = (asked == missing) & (asked > 2)
        titles = titled[what.index("benchmark")]
        titled[what.index("benchmark")] = [
            "all benchmarks" if whole else title for whole, title in zip(everywhere, titles, strict=True)
        ]
    labels = pd.Series([" / ".join(parts) for parts in zip(*titled, strict=True)], index=gaps.index)
    return [
        f"Not run: {'; '.join(dict.fromkeys(group))}. Reason: {why}." for why, group in labels.groupby(gaps["reason"])
    ]


def _signed(value: float, digits: int, plus: str = "") -> str:
    """The number with a true minus sign, and no sign before a zero."""
    text = fixed(value, digits)
    return (plus if float(text) > 0 else "") + text.replace("-", MINUS)


def _markdown(printed: pd.DataFrame, notes: Sequence[str]) -> str:
    head, *body = [
        [markup.markdown(cell) for cell in row]
        for row in [list(printed.columns), *printed.astype(str).to_numpy().tolist()]
    ]
    rows = [head, ["---"] * printed.shape[1], *body]
    below = [f"* {markup.markdown(note)}" for note in notes]
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + ["", *below, ""])


def _remarked(entry: str) -> str:
    return f"\n<!-- Cite as:\n{entry}\n-->\n" if entry else ""


def _commented(entry: str) -> str:
    return "".join(f"% {line}\n" for line in ["Cite as:", *entry.splitlines()]) if entry else ""


def _tex(printed: pd.DataFrame, notes: Sequence[str]) -> str:
    """A booktabs table; written out here so that no template engine is needed to verify it."""
    head, *body = [
        " & ".join(markup.latex(cell) for cell in row) + r" \\"
        for row in [list(printed.columns), *printed.astype(str).to_numpy().tolist()]
    ]
    lines = [rf"\begin{{tabular}}{{{'l' * printed.shape[1]}}}", r"\toprule", head, r"\midrule", *body]
    below = [rf"\par\footnotesize {markup.latex(note)}" for note in notes]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *below, ""])
