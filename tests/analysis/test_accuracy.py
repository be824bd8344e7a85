"""From records of an analysis to accuracies: known answers give known numbers, paired within their setting."""

from __future__ import annotations

import pandas as pd
import pytest

from c2c.analysis.accuracy import COLUMNS, accuracy_table
from c2c.errors import RefusedError
from c2c.evaluation.schema import RECORD_SCHEMA, conform

ANSWERS = {
    ("c2c", "front 0.5"): "yyyn",
    ("c2c", "front 1"): "yyyy",
    ("c2c_deranged", "front 0.5"): "ynnn",
    ("c2c_deranged", "front 1"): "nnny",
}


def records(answers: dict[tuple[str, str], str]) -> pd.DataFrame:
    rows = [
        dict.fromkeys(RECORD_SCHEMA.names)
        | {"scale": "smoke", "pair": "p", "receiver": "r", "sharer": "s", "recipe": "c2c", "alignment": "span"}
        | {
            "seed": 0,
            "method": method,
            "setting": setting,
            "benchmark": "b",
            "scoring": "exact",
            "tokens_in": 4 + number,
        }
        | {"question_id": f"q{number}", "gold": "yes", "output_text": "yes" if letter == "y" else "no"}
        for (method, setting), given in answers.items()
        for number, letter in enumerate(given)
    ]
    return conform(pd.DataFrame(rows), RECORD_SCHEMA)


def cell(table: pd.DataFrame, method: str, setting: str) -> pd.Series:
    return table[(table["method"] == method) & (table["setting"] == setting)].iloc[0]


def test_accuracies_and_differences_in_the_same_setting() -> None:
    table = accuracy_table(records(ANSWERS), "c2c_deranged")
    assert tuple(table.columns) == COLUMNS and len(table) == 4
    half, whole = (cell(table, "c2c", f"front {share}") for share in ("0.5", "1"))
    assert (half["value"], half["difference_value"], half["n"]) == (75, 50, 4)
    assert (whole["value"], whole["difference_value"]) == (100, 75)
    assert half["tokens_in"] == pytest.approx(5.5)
    control = cell(table, "c2c_deranged", "front 1")
    assert control["value"] == 25 and pd.isna(control["difference_value"]) and control["against"] == ""


def test_a_method_without_settings_is_compared_with_in_all_of_them() -> None:
    answers = {("receiver", ""): "ynnn", ("oracle", ""): "yynn", ("oracle_layers", "layer 3"): "nnnn"}
    table = accuracy_table(records(answers), "receiver")
    assert cell(table, "oracle", "")["difference_value"] == 25
    assert cell(table, "oracle_layers", "layer 3")["difference_value"] == -25


def test_settings_without_the_method_to_compare_with_are_refused() -> None:
    with pytest.raises(RefusedError, match="must hold the method receiver once"):
        accuracy_table(records(ANSWERS), "receiver")


def test_a_setting_with_other_questions_is_refused() -> None:
    frame = records(ANSWERS)
    with pytest.raises(RefusedError, match="answer the same questions"):
        accuracy_table(frame.drop(index=0), "c2c_deranged")
