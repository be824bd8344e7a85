"""At the paper's own scale each printed value stands beside the one training that it is of, and beside no other."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import yaml

from paper.reading import names
from paper.reading.reference import Reference
from workflow.load import load_settings
from workflow.settings import Settings

ROOT = Path(__file__).parents[2]
TRAINED_ON = {
    "openhermes": ["Table 3", "Table 4", "Table 6", "Table 8", "Table 9", "Table 12", "Figure 13"],
    "mmlu_aux": ["Table 2", "Table 7", "Table 13", *(f"Figure {number}" for number in (6, 7, 8, 9, 10, 11, 12))],
    "longbench_train": ["Table 5", "Table 11"],
    "gsm8k_teacher": ["Table 15"],
}
"""Of what the paper's App. A.3 says of its trainings; C2C-C's own figures are of MMLU's, as those around them."""
UNTRAINED = ["Table 1", "Table 10", "Figure 4"]
"""Of one model alone."""
COMPARED = {
    "Table 4": ("accuracy", "inference time"),
    "Table 5": ("score",),
    "Table 6": ("accuracy",),
    "Table 7": ("accuracy", "inference time"),
    "Table 9": ("accuracy", "inference time", "PGR"),
    "Table 11": ("score",),
    "Table 15": ("accuracy",),
    "Figure 6": ("accuracy",),
    "Figure 8": ("accuracy",),
    "Figure 9": ("accuracy gain over Receiver",),
    "Figure 10": ("accuracy gain over Receiver",),
}
"""What tables look up cell by cell."""
FREE = ("single", "identical")
CONTENT = yaml.safe_load(names.PATH.read_text(encoding="utf-8"))
ARMS = [arm for arm, entry in CONTENT["arms"].items() if "paper" in entry]
MODELS = {entry["paper"] for entry in CONTENT["models"].values() if "paper" in entry}


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8")), ROOT)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


def models(settings: Settings, pair: str) -> tuple[str, str]:
    receiver, sharer = (str(settings.models[settings.pairs[pair][role]]["hub_id"]) for role in ("receiver", "sharer"))
    return receiver, sharer


def test_each_pair_of_the_scale_has_a_place_where_the_paper_has_its_training(settings) -> None:
    for pair in settings.used_pairs:
        allowed = {*TRAINED_ON[settings.pairs[pair]["training_set"]], *UNTRAINED}
        assert names.places(pair) and set(names.places(pair)) <= allowed, pair
    assert {place for pair in settings.used_pairs for place in names.places(pair)} == {
        *UNTRAINED,
        *(place for places in TRAINED_ON.values() for place in places),
    }


@pytest.mark.parametrize("artefact", [*UNTRAINED, *(place for places in TRAINED_ON.values() for place in places)])
def test_every_printed_number_is_of_one_pair_alone(settings, reference, artefact) -> None:
    for metric in reference.frame.loc[reference.frame["artefact"] == artefact, "metric"].unique():
        for row in reference.rows(artefact, metric):
            of = [
                pair
                for pair in settings.used_pairs
                if row in reference.of_pair(artefact, metric, pair, models(settings, pair))
            ]
            named = [row[role] for role in ("receiver", "sharer") if row[role]]
            of_two_models = len(named) == 2 and named[0] != named[1] and not {*named} - MODELS
            assert len(of) == 1 or not of_two_models, (row["id"], of)
            assert of or not {*named} <= MODELS or len(set(named)) < len(named), row["id"]


@pytest.mark.parametrize(("artefact", "metric"), [(each, metric) for each in COMPARED for metric in COMPARED[each]])
def test_each_cell_of_a_printed_table_is_found_by_our_ids_for_one_training_alone(
    settings, reference, artefact, metric
) -> None:
    rows = {row["id"]: row for row in reference.rows(artefact, metric)}
    found: dict[str, set[str]] = {name: set() for name in rows}
    parts = {row["benchmark"].partition("/")[1:] for row in rows.values()}
    panels = {row["panel"] for row in rows.values()} if metric == "score" else {""}
    for pair in settings.used_pairs:
        receiver, sharer = models(settings, pair)
        tasks = [task + "".join(part) for task, part in product(settings.tasks(pair), parts)]
        for arm, task, panel in product(ARMS, tasks, panels):
            of = (receiver, None if arm in FREE else sharer)
            row = reference.row(artefact, metric, pair, of, arm, task, panel)
            if row:
                found[row["id"]].add(pair)
    assert not [name for name, pairs in found.items() if not pairs]
    twice = {name for name, pairs in found.items() if len(pairs) > 1}
    assert all("" in (rows[name]["receiver"], rows[name]["sharer"]) for name in twice)
