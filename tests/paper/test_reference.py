"""The paper's printed values: addressable, complete, and computed with."""

import pandas as pd
import pytest

from c2c.errors import RefusedError
from paper.reading import names
from paper.reading.reference import PATH, Reference

CONFIG = PATH.parent.parent / "config"
PAIR = ("Qwen/Qwen3-0.6B", "Qwen/Qwen2.5-0.5B-Instruct")
QWEN = "table-4/main/qwen3-0.6b/qwen2.5-0.5b-instruct"


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


def test_every_value_has_its_place_source_and_trust(reference):
    assert (reference.frame[["id", "artefact", "value", "source", "confidence"]] != "").all(axis=None)


def test_an_id_that_stands_twice_is_refused(tmp_path):
    lines = PATH.read_text(encoding="utf-8").splitlines()
    (tmp_path / "twice.csv").write_text("\n".join([*lines, lines[-1]]), encoding="utf-8")
    with pytest.raises(RefusedError, match="unique"):
        Reference(tmp_path / "twice.csv")


def test_the_printed_gain_is_the_difference_of_the_printed_means(reference):
    gain = {"difference": [{"mean": f"{QWEN}/c2c/*/accuracy"}, {"mean": f"{QWEN}/receiver/*/accuracy"}]}
    assert reference.evaluate(gain) == pytest.approx(
        reference.evaluate("sec4.2/text/qwen3-0.6b/qwen2.5-0.5b-instruct/c2c/average-of-4/gain-over-receiver"), abs=0.01
    )


def test_ratio_sum_and_number(reference):
    assert reference.evaluate({"ratio": [6, {"sum": [1, 2]}]}) == 2


@pytest.mark.parametrize("formula", ["table-99/nothing", {"mean": "table-99/*"}, {"median": "table-4/*"}])
def test_a_formula_over_nothing_is_refused(reference, formula):
    with pytest.raises(RefusedError):
        reference.evaluate(formula)


def test_a_cell_is_found_by_our_names(reference):
    assert reference.cell("qwen3_from_qwen25", *PAIR, "c2c", "openbookqa_letter") == reference.evaluate(
        f"{QWEN}/c2c/openbookqa/accuracy"
    )


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(CONFIG / f"{name}.tsv", sep="\t", keep_default_na=False).set_index(name.removesuffix("s"))


def test_each_model_from_the_hub_has_a_title_by_the_id_that_records_carry():
    ids = table("models").query("source == 'hub'")["hub_id"]
    assert len(ids) and all(names.title("models", hub_id) != hub_id for hub_id in ids)


FIGURE_6 = "figure-6/a/qwen3-0.6b/qwen2.5-0.5b-instruct/c2c/mmlu-redux/accuracy"


def test_the_same_models_trained_on_something_else_stand_elsewhere_in_the_paper(reference):
    pairs = ("qwen3_from_qwen25", "qwen3_from_qwen25_mmlu", "qwen3_from_qwen25_longbench", "own_pair")
    found = [reference.cell(pair, *PAIR, "c2c", "mmlu_redux_letter") for pair in pairs]
    main = reference.evaluate(f"{QWEN}/c2c/mmlu-redux/accuracy")
    assert found == [main, reference.evaluate(FIGURE_6), None, None]


def test_a_control_has_no_value_in_the_paper(reference):
    assert reference.cell("qwen3_from_qwen25", *PAIR, "adapter", "openbookqa_letter") is None
    assert reference.mean_of("Table 4", "adapter") is None


def test_everything_that_stands_beside_our_tables_is_a_number(reference):
    assert all(entry["value"] == entry["value"] for entries in reference.values().values() for entry in entries)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n"])
def test_a_file_that_holds_no_printed_values_is_refused_by_its_name(text, tmp_path):
    path = tmp_path / "values.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RefusedError, match=r"values\.csv must"):
        Reference(path)
