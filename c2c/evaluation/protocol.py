"""Quirks of the reference evaluation that change scores. Imports no torch.

The protocol `corrected` is the default and has none of them; `paper` has all (docs/reference-behaviour.md, "Evaluation
prompts and answers" and "Benchmarks and subsets"). `released` has all of them too, and the prompts, lengths of answers
and training targets of the released code: its tasks are those whose ids end with `RELEASED_TASK`.
"""

from __future__ import annotations

from c2c.errors import check_choice

CORRECTED, PAPER, RELEASED = "corrected", "paper", "released"
PROTOCOLS = (CORRECTED, PAPER, RELEASED)
RELEASED_TASK = "_released"
"""Ends the id of a task that is asked with the prompts of the released code; without it the prompts are our own."""
FAILED_SHARE = 0.05
"""Share of failed questions above which an accuracy says more of a fault than of a method."""
ORACLE_TASK = f"_oracle{RELEASED_TASK}"
"""Ends the id of a task that the enrichment oracle asks, in the words of the released code's script for it."""

QUIRKS = {
    # Of the preparation of questions.
    "mmlu_redux_skips": "questions without one correct key are left out: no correct answer, an expert's note, or a "
    "correction that is not one digit or one capital letter; where no correction is given the original key stays",
    "arc_skips_number_keys": "ARC questions whose key is a number or E are left out; the corrected protocol gives them "
    "letters",
    "gsm8k_gold_stops_at_comma": "the gold answer of GSM8K ends at a thousands comma: 70,000 becomes 70, and a right "
    "answer is wrong (in scoring, too)",
    "ceval_test_split": "C-Eval is asked on its test split; where the hub withholds its keys, on the validation split, "
    "and the ids of the questions begin with val-",
    "repeats_are_asked": "a question that a data set contains several times is asked several times",
    # Of the scoring of records.
    "letter_extraction": "the first capital A to D behind an opening phrase counts, inside words too (an answer that "
    "starts with 'Apple' is A); failing that the last letter that stands alone, the article included",
    "four_letters_only": "extraction knows A to D alone, so that MMLU-Pro's options E to J can never be right in "
    "generated answers",
    "failed_left_out": "a question that failed is left out of the mean instead of counting as wrong",
}
"""What the reference does, by the name of the quirk."""


def active(protocol: str, name: str) -> bool:
    """Whether the quirk `name` is switched on.

    Raises:
        RefusedError: There is no such protocol or quirk.
    """
    check_choice("A protocol", protocol, PROTOCOLS)
    check_choice("A quirk of the reference", name, QUIRKS)
    return protocol in (PAPER, RELEASED)
