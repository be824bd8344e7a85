"""A file of items is refused where a span, an answer or a text breaks a rule of the test bed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from c2c.errors import RefusedError
from c2c.testbed.items import Item, Place, filled, holds_word, read_items, text_at, write_items

TEXT, QUESTION = "Bogal Brick's pet is{}.", "\nQuestion: Bogal Brick's pet is what?\nAnswer:"
PROMPT, FULL = TEXT.format(" unknown") + QUESTION, TEXT.format(" bear") + QUESTION
REDACTED = Item(
    id="first",
    task="redacted_word",
    subset="pet",
    sharer_texts=(TEXT.format(" bear"),),
    prompt=PROMPT,
    full_prompt=FULL,
    target_prompt=FULL,
    places=(Place(0, (20, 25), (20, 28), (20, 25), (20, 25)),),
    question="Bogal Brick's pet is what?",
    options=("bear", "bat", "bee", "crab"),
    answer=0,
    value="bear",
    facts={"pet": "bear"},
)
LINE, ASK = "Bogal Brick's pet is bear.\n", "Question: Bogal Brick's pet is{}?\nAnswer:"
PRIVATE = Item(
    id="second",
    task="private_line",
    subset="first",
    sharer_texts=(LINE + ASK.format(" what"),),
    prompt=ASK.format(" what"),
    full_prompt=LINE + ASK.format(" what"),
    target_prompt=ASK.format(" bear"),
    places=(Place(0, (54, 57), (30, 35), (57, 62), (30, 35)),),
    question="Bogal Brick's pet is what?",
    options=(),
    answer=None,
    value="bear",
    facts={"pet": "bear"},
)


def test_items_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    write_items(path, [REDACTED, PRIVATE])
    assert read_items(path) == [REDACTED, PRIVATE]
    assert text_at(PRIVATE.sharer_texts[0], PRIVATE.places[0].sharer) == " is"
    assert filled(REDACTED) == FULL and filled(PRIVATE) == ASK.format(" bear")


def test_an_item_without_places_needs_no_spans(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    row = REDACTED.row | {"places": [], "prompt": FULL}
    path.write_text(json.dumps(row) + "\n")
    assert read_items(path)[0].places == () and not read_items(path)[0].need


def place(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """Changes the place of a row."""
    return lambda row: row["places"][0].update(changes)


def fields(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """Changes fields of a row."""
    return lambda row: row.update(changes)


SPOILT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a column is missing": (lambda row: row.pop("facts"), "no facts"),
    "the answer is missing": (lambda row: row.pop("answer"), "must hold answer"),
    "an unknown column": (fields(placeholder="unknown"), "unknown placeholder"),
    "an option that is no text": (fields(options=["bear", 4]), "options must hold texts"),
    "options that repeat": (fields(options=["bear", "bear"]), "options must differ"),
    "an answer beside the value": (fields(answer=1), "answer must be the index of the value"),
    "an answer beyond the options": (fields(answer=4), "answer must be the index of the value"),
    "an answer that is true": (fields(answer=True), "answer must be the index of the value"),
    "an answer without options": (fields(options=[]), "answer must be null"),
    "no text of a sharer": (fields(sharer_texts=[]), "sharer_texts must hold a text"),
    "a prompt that ends with a space": (fields(prompt=PROMPT + " "), "prompt must end before the space"),
    "a value that is no fact": (fields(facts={"pet": "bat"}), "value must be a fact"),
    "a span of one number": (place(sharer=[20]), "sharer must be two whole numbers"),
    "a span of fractions": (place(full=[20.0, 25.0]), "full must be two whole numbers"),
    "an empty span": (place(receiver=[20, 20]), "span receiver of place 0 must lie in its text"),
    "a span beyond its text": (place(sharer=[20, 99]), "span sharer of place 0 must lie in its text"),
    "a span below zero": (place(target=[-6, 4]), "span target of place 0 must lie in its text"),
    "an unknown sender": (place(sender=1), "sender of place 0 must be the index"),
    "a target without its space": (place(target=[21, 25]), "span target of place 0 must hold a fact's value"),
    "a sharer's span without its space": (place(sharer=[21, 25]), "span sharer of place 0 must hold the value"),
    "a full span beside the value": (place(full=[19, 24]), "span full of place 0 must hold the value"),
    "a receiver's span that is too short": (place(receiver=[20, 27]), "prompt must be the target prompt"),
}


@pytest.mark.parametrize("case", list(SPOILT))
def test_a_row_that_breaks_a_rule_is_refused_with_its_line(case: str, tmp_path: Path) -> None:
    spoil, words = SPOILT[case]
    good = REDACTED.row
    row = json.loads(json.dumps(REDACTED.row | {"id": "second"}))
    spoil(row)
    path = tmp_path / "test.jsonl"
    path.write_text(f"{json.dumps(good)}\n{json.dumps(row)}\n")
    with pytest.raises(RefusedError, match=f"Line 2 of test.jsonl.*{words}"):
        read_items(path)


def test_a_prompt_that_holds_a_value_elsewhere_is_refused(tmp_path: Path) -> None:
    head = "A bear asks. "
    shift = len(head)
    spans = {
        name: [bound + shift for bound in span] for name, span in REDACTED.row["places"][0].items() if name in SHIFT
    }
    row = REDACTED.row | {name: head + REDACTED.row[name] for name in ("prompt", "full_prompt", "target_prompt")}
    row["places"] = [REDACTED.row["places"][0] | spans]
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(RefusedError, match="prompt must not hold a value"):
        read_items(path)


SHIFT = ("receiver", "full", "target")


def test_places_that_overlap_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps(REDACTED.row | {"places": REDACTED.row["places"] * 2}) + "\n")
    with pytest.raises(RefusedError, match="must not overlap"):
        read_items(path)


def test_the_words_of_a_private_line_stay_as_they_are(tmp_path: Path) -> None:
    row = json.loads(json.dumps(PRIVATE.row))
    row["places"][0]["full"] = [54, 57]
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(RefusedError, match="span full of place 0 must hold the words of the prompt"):
        read_items(path)


def test_two_items_of_one_id_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    write_items(path, [REDACTED, REDACTED])
    with pytest.raises(RefusedError, match="must have an id of its own"):
        read_items(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text("")
    with pytest.raises(RefusedError, match="must hold items"):
        read_items(path)


@pytest.mark.parametrize(
    ("text", "holds"),
    [("A Bear.", True), ("bear", True), ("A bearing", False), ("unbear", False), ("bears, bear", True), ("", False)],
)
def test_a_word_is_found_as_a_whole_word(text: str, holds: bool) -> None:
    assert holds_word(text, "bear") == holds
