"""Quirks of the reference evaluation that move numbers, each with its evidence. Imports no torch.

The protocol `corrected` is the default and has none of them; `paper` has all (design §8). Sections are those of the
description of the reference implementation on which this project rests.
"""

from __future__ import annotations

from dataclasses import dataclass

from c2c.errors import check_choice

CORRECTED, PAPER = "corrected", "paper"
PROTOCOLS = (CORRECTED, PAPER)


@dataclass(frozen=True)
class Quirk:
    """What the reference does.

    Args:
        evidence: Where it was found.
        effect: What it does to a number.
        stage: Who asks for it: `preparation` of the questions, or `scoring` of the records.
    """

    evidence: str
    effect: str
    stage: str


QUIRKS: dict[str, Quirk] = {
    "mmlu_redux_skips": Quirk(
        "§6.2, verified",
        "questions without one correct key are left out: no correct answer, an expert's note, or a correction that is "
        "not one digit or one capital letter; where no correction is given the original key stays",
        "preparation",
    ),
    "arc_skips_number_keys": Quirk(
        "§6.2", "ARC questions whose key is a number or E are left out; the corrected protocol letters them anew",
        "preparation",
    ),
    "gsm8k_gold_stops_at_comma": Quirk(
        "§6.2, verified",
        "the gold answer of GSM8K ends at a thousands comma: 70,000 becomes 70, and a right answer is wrong",
        "preparation and scoring",
    ),
    "ceval_test_split": Quirk(
        "§6.2", "C-Eval is asked on its test split; where the hub's keys are empty, every question is left out",
        "preparation",
    ),
    "repeats_are_asked": Quirk(
        "§6.2", "a question that stands in a data set several times is asked several times", "preparation"
    ),
    "letter_extraction": Quirk(
        "§6.5",
        "the first capital A to D behind an opening phrase counts, inside words too (an answer that starts with "
        "'Apple' is A); failing that the last letter that stands alone, the article included",
        "scoring",
    ),
    "four_letters_only": Quirk(
        "§6.2 and §6.5, verified",
        "extraction knows A to D alone, so that MMLU-Pro's options E to J can never be right in generated answers",
        "scoring",
    ),
    "failed_left_out": Quirk(
        "§6.1", "a question that failed is left out of the mean instead of counting as wrong", "scoring"
    ),
}  # fmt: skip


def active(protocol: str, name: str) -> bool:
    """Whether the quirk `name` is switched on.

    Raises:
        RefusedError: There is no such protocol or quirk.
    """
    check_choice("A protocol", protocol, PROTOCOLS)
    check_choice("A quirk of the reference", name, QUIRKS)
    return protocol == PAPER
