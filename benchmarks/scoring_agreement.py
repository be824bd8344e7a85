"""How often the rules of scoring agree with a reader on labelled answers: our rules, and those of the released code.

python -m benchmarks.scoring_agreement writes tests/evaluation/outputs/agreement.csv, and the same as a table (.md).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from c2c.evaluation.scoring import mathematics
from c2c.evaluation.scoring.letters import extract_as_published, extract_letter
from c2c.storage.files import write_atomically

OUTPUTS = Path(__file__).parents[1] / "tests/evaluation/outputs"
"""Labelled answers, described in their README.md, and the agreement with them."""
AGREEMENT, FIRST_SIGHT = OUTPUTS / "agreement.csv", OUTPUTS / "first_sight.csv"
PREFILLED, FREE, CHINESE = 'letters behind "Answer:"', "letters in free answers", "letters in Chinese answers"
NUMBERS, FORMULAS = "problems with a number", "problems with a formula or a word"


def read_outputs(name: str) -> pd.DataFrame:
    """The labelled answers ``letters`` or ``mathematics``, one a row."""
    return pd.read_json(OUTPUTS / f"{name}.jsonl", lines=True, dtype=False)


def measure() -> pd.DataFrame:
    """One row a group of answers: their number, and on how many our and the released rules agree with the reader."""
    letters, problems = read_outputs("letters"), read_outputs("mathematics")
    # Letters: a missing label means that a reader takes no letter from the answer.
    labels = [letter if isinstance(letter, str) else None for letter in letters["letter"]]
    is_chinese = letters["text"].str.contains("[\u4e00-\u9fff]")
    letters["group"] = is_chinese.map({True: CHINESE, False: FREE}).where(
        is_chinese | (letters["opening"] == ""), PREFILLED
    )
    rows = list(letters[["text", "options", "opening"]].itertuples(index=False, name=None))
    letters["ours"] = [extract_letter(*row) == label for row, label in zip(rows, labels, strict=True)]
    letters["released"] = [extract_as_published(text) == label for (text, *_), label in zip(rows, labels, strict=True)]
    # Mathematics: a verdict of right or wrong.
    pairs = list(problems[["gold", "text"]].itertuples(index=False, name=None))
    verdicts = mathematics.grade(pairs)
    is_number = [re.fullmatch(r"-?[\d.]+", gold) is not None for gold, _ in pairs]
    problems["group"] = [NUMBERS if number else FORMULAS for number in is_number]
    problems["ours"] = [verdicts[pair] for pair in pairs] == problems["right"]
    graded = [grade_as_released(*pair, number=number) for pair, number in zip(pairs, is_number, strict=True)]
    problems["released"] = graded == problems["right"]
    columns = ["group", "ours", "released"]
    groups = pd.concat([letters[columns], problems[columns]]).groupby("group", sort=False)
    return groups.agg(n=("ours", "size"), ours=("ours", "sum"), released=("released", "sum")).reset_index()


def grade_as_released(gold: str, text: str, *, number: bool) -> bool:
    """Whether math-verify, with the released code's settings, calls an answer right."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    normalization = NormalizationConfig(
        nits=False, malformed_operators=False, basic_latex=True, boxed="all", units=True
    )
    latex = LatexExtractionConfig(
        normalization_config=normalization, boxed_match_priority=0, try_extract_without_anchor=False
    )
    value = parse(text, [latex, ExprExtractionConfig()], extraction_mode="first_match")
    if not value:
        return False
    gold_value = parse(gold, [ExprExtractionConfig()]) if number else parse(f"${gold}$", [LatexExtractionConfig()])
    return bool(verify(gold_value, value))


def summary(rows: pd.DataFrame, first_sight: pd.DataFrame) -> str:
    """The table of the documentation, in Markdown: shares in percent."""
    rows = rows.merge(first_sight, on="group")
    lines = [
        "| Answers | n | Our rules | At first sight | Released rules |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows.itertuples():
        shares = (f"{100 * int(agreed) / int(row.n):.0f} %" for agreed in (row.ours, row.first_sight, row.released))
        lines.append(f"| {row.group} | {row.n} | {' | '.join(shares)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the numbers and their table."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    rows = measure()
    write_atomically(AGREEMENT, rows.to_csv(index=False, lineterminator="\n"))
    write_atomically(AGREEMENT.with_suffix(".md"), summary(rows, pd.read_csv(FIRST_SIGHT)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
