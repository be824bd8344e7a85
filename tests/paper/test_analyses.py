"""Tables and figures of the analyses follow from their tidy files, and say what the paper has beside them."""

from __future__ import annotations

from itertools import product

import pandas as pd
import pytest

from c2c.analysis.accuracy import COLUMNS
from paper import collect as collecting
from paper.figures import effective_rank as rank_figure
from paper.figures import enrichment as enrichment_figure
from paper.figures import partial as partial_figure
from paper.figures import style
from paper.figures import tsne as tsne_figure
from paper.reading.fusers import read_tables
from paper.recompute import RECORD_SOURCES, not_from_records, recomputed_tables
from paper.tables import effective_rank, enrichment, gates, partial
from tests.paper.builder import Run, make_gates, write_fuser

RUN = {"scale": "smoke", "pair": "gap_a", "receiver": "gap_receiver_a", "sharer": "gap_sharer", "benchmark": "b"}
ENRICHED = {"pair": "qwen3_17b_from_qwen25_15b_mmlu", "receiver": "Qwen/Qwen3-1.7B"}
PARTIAL = {"pair": "qwen3_from_qwen3_4b_mmlu", "receiver": "Qwen/Qwen3-0.6B", "sharer": "Qwen/Qwen3-4B"}
ASKED = {"benchmark": "mmlu_redux_letter"}


def accuracies(values: dict[tuple[str, str], float], against: str) -> pd.DataFrame:
    """Rows of accuracy.csv as read from their file; differences to `against` where it has the same setting or one."""
    rows = []
    for (method, setting), value in values.items():
        other = values.get((against, setting), values.get((against, "")))
        gap = "" if method == against else value - other
        numbers = {
            "value": value,
            "low": value - 2,
            "high": value + 2,
            "n": 50,
            "seeds": 1,
            "failed": 0,
            "tokens_in": 9,
        }
        rows.append(
            RUN
            | {"recipe": "c2c", "alignment": "span", "method": method, "setting": setting, "against": against}
            | numbers
            | {f"difference_{name}": gap for name in ("value", "low", "high")}
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.fixture
def enriched() -> tuple[pd.DataFrame, pd.DataFrame]:
    values = {("receiver", ""): 50.0, ("few_shot", ""): 60.0, ("oracle", ""): 55.0}
    values |= {("oracle_layers", f"layer {layer}"): 50.0 + layer for layer in range(3)}
    for end, k, same in product(("best", "worst"), (1, 2, 3), ("", ", same questions")):
        values["oracle_layers", f"{end} {k}{same}"] = 50.0 + k + (4 if same and end == "best" else 0)
    orders = [("half 0", [2, 1, 0]), ("half 1", [1, 2, 0]), ("all", [2, 0, 1])]
    rows = [(name, rank, layer, 50, 25) for name, order in orders for rank, layer in enumerate(order, 1)]
    return accuracies(values, "receiver"), pd.DataFrame(rows, columns=["chosen_on", "rank", "layer", "accuracy", "n"])


def test_the_enrichment_table_names_the_layers_that_each_half_was_given(enriched, tmp_path):
    frame = enrichment.write(*enriched, tmp_path / "t").set_index(["kind", "number", "chosen_on"])
    assert frame.loc[("best", 1, "other half"), "layers"] == "2 / 1"
    assert frame.loc[("best", 2, "other half"), "layers"] == "1 2"
    assert frame.loc[("worst", 2, "same"), "layers"] == "0 1"
    assert frame.loc[("best", 2, "same"), "difference_value"] == 6
    written = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "the best K layers are +4.0 points from where others chose" in written


def test_the_enrichment_table_has_the_papers_values_beside_it(enriched):
    assert enrichment.build(*enriched)["paper"].isna().all()
    accuracy, orders = enriched
    assert enrichment.build(accuracy.assign(**ENRICHED | {"receiver": "other"}, **ASKED), orders)["paper"].isna().all()
    frame = enrichment.build(accuracy.assign(**ENRICHED, **ASKED), orders)
    paper = frame.set_index(["kind", frame["number"].fillna(-1), "chosen_on"])["paper"]
    assert (
        paper["receiver", -1, ""] == 58.42 and paper["oracle", -1, ""] == 62.34 and paper["few_shot", -1, ""] == 63.39
    )
    assert paper["layer", 2, ""] == 57.14
    assert paper["best", 1, "other half"] == 58.52 and paper["worst", 3, "same"] == 50.76


@pytest.fixture
def ranks() -> pd.DataFrame:
    values = {"sharer": 40, "receiver": 10, "fused": 16, "fused_deranged": 15}
    head = {"scale": "smoke", "pair": "gap_a", "recipe": "c2c", "alignment": "span", "seed": 0, "benchmark": "b"}
    rows = [
        head
        | {"layer": layer, "sharer_layer": layer, "half": half, "cache": cache}
        # The fused values' rank falls below the Receiver's in the last of three layers.
        | {"effective_rank": value + layer - (9 if (half, cache, layer) == ("value", "fused", 2) else 0)}
        | {"tokens": 500, "width": 64}
        for layer, half, (cache, value) in product(range(3), ("key", "value"), values.items())
    ]
    return pd.DataFrame(rows)


def test_the_rank_table_is_the_mean_over_layers_and_counts_those_in_which_fusion_adds(ranks, tmp_path):
    ranks = ranks.assign(pair="qwen3_from_qwen3_4b_mmlu")
    frame = effective_rank.write(ranks, tmp_path / "t").set_index(["half", "cache"])
    assert frame.loc[("key", "fused"), ["value", "above_receiver", "layers_above"]].tolist() == [17, 6, 3]
    assert frame.loc[("value", "fused"), ["value", "above_receiver", "layers_above"]].tolist() == [14, 3, 2]
    assert frame.loc[("key", "sharer"), "paper"] == 539 and frame.loc[("value", "fused"), "paper"] == 560
    assert pd.isna(frame.loc[("key", "fused_deranged"), "paper"])
    assert "5.0 is added, against the 6.0 that fusion adds to the rank of keys" in (tmp_path / "t.md").read_text()


@pytest.fixture
def shares() -> pd.DataFrame:
    places = list(product(("front", "back"), ("0", "0.5", "1")))
    values = {("c2c", f"{side} {share}"): 10 + 80 * float(share) for side, share in places}
    values |= {("c2c_deranged", f"{side} {share}"): 10 - 5 * float(share) for side, share in places}
    return accuracies(values, "c2c_deranged")


def test_a_fuser_that_is_not_the_papers_has_no_rank_of_it_beside_but_its_values_in_a_note(ranks, tmp_path):
    for other in (ranks, ranks.assign(pair="qwen3_from_qwen3_4b_mmlu", recipe="projected")):
        frame = effective_rank.write(other, tmp_path / "t")
        assert frame[frame["cache"] == "fused"]["paper"].isna().all()
    effective_rank.write(ranks, tmp_path / "t")
    text = (tmp_path / "t.md").read_text()
    assert "Table 2 prints: keys of the Sharer, Qwen3-4B 539" in text and "| Paper" not in text


def test_the_partial_table_pairs_each_share_with_its_control_and_the_paper(shares, tmp_path):
    of_paper = shares.assign(**PARTIAL, **ASKED)
    for other in (shares.assign(recipe="projected"), of_paper):
        assert partial.write(other, tmp_path / "t")["paper"].isna().all()
    assert "Figure 11 prints" in (tmp_path / "t.md").read_text()
    frame = partial.write(of_paper.assign(recipe="projected"), tmp_path / "t").set_index(["side", "share"])
    assert "| C2C-C, % [95 %] | C2C-C deranged, % [95 %] |" in (tmp_path / "t.md").read_text()
    half = frame.loc[("back", 50.0)]
    assert half["step_value"] == pytest.approx(50 - frame.loc[("back", 0.0), "value"])
    assert half["step_low"] < half["step_value"] < half["step_high"]
    assert pd.isna(frame.loc[("back", 0.0), "step_value"])
    assert (half["value"], half["deranged_value"], half["difference_value"]) == (50, 7.5, 42.5)
    assert (half["paper"], frame.loc[("front", 50.0), "paper"], frame.loc[("front", 0.0), "paper"]) == (
        33.65,
        46.64,
        35.53,
    )


def test_the_gates_table_counts_open_gates_over_layers_and_seeds(tmp_path):
    runs = [Run("gap_a", "c2c", "span", seed) for seed in (0, 1)] + [Run("gap_a", "fuse", "span", 0)]
    folders = [write_fuser(run, tmp_path / "fusers") for run in runs]
    frame = gates.write(read_tables(folders, gates.FILE), tmp_path / "t")
    assert set(frame["recipe"]) == {"c2c"}, "a recipe without gates is left out"
    expected = pd.concat([make_gates(run) for run in runs[:2]]).query("half == 'key'")
    row = frame.query("half == 'key' and layer == 'all'").iloc[0]
    assert (row["gates"], row["open"]) == (6, expected["open"].sum())
    assert row["weight_mean"] == pytest.approx(expected["weight_mean"].astype(float).mean())
    assert row["lowest"] == pytest.approx(
        expected.astype({"weight_mean": float}).groupby("layer")["weight_mean"].mean().min()
    )
    assert "98.21 % after OpenHermes" in (tmp_path / "t.md").read_text()


def test_the_same_data_give_the_same_figures(enriched, ranks, shares, tmp_path):
    clouds = pd.DataFrame({"cache": list(tsne_figure.CLOUDS), "spread": [1, 2, 3, 4], "distance": [1, 9, 1.5, 7]})
    points = pd.DataFrame({"cache": list(tsne_figure.CLOUDS) * 2, "x": range(8), "y": range(8)})
    draw = {
        "enrichment": lambda stem: enrichment_figure.draw(enrichment.build(*enriched), stem),
        "rank": lambda stem: rank_figure.draw(ranks, stem),
        "partial": lambda stem: partial_figure.draw(shares, stem),
        "tsne": lambda stem: tsne_figure.draw(points, clouds, stem),
    }
    for name, make in draw.items():
        for copy in ("one", "two"):
            make(tmp_path / copy / name)
        for suffix in style.SUFFIXES:
            one, two = (tmp_path / copy / f"{name}{suffix}" for copy in ("one", "two"))
            assert one.read_bytes() == two.read_bytes() and len(one.read_bytes()) > 1000


def test_of_the_tables_of_analyses_only_those_that_claims_read_are_collected(results, tmp_path):
    for name in ("enrichment", "partial", "gates_of_nobody"):
        (results / f"tables/{name}.csv").write_text("value\n1\n")
    collecting.collect(results, tmp_path / "kept")
    kept = {f"tables/{path.name}" for path in (tmp_path / "kept/tables").glob("*.csv")}
    followed = {f"tables/{name}.csv" for name in recomputed_tables(RECORD_SOURCES)}
    assert kept - followed == {f"tables/{name}.csv" for name in ("enrichment", "partial")} & set(not_from_records())
