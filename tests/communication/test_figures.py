"""Figures of the test bed: a user's channel is in all tables and figures without a change to the project's files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from paper.communication import curves, decomposition, facts, scorecard, training_items
from paper.figures import bits, style, testbed_curves, testbed_facts, testbed_gains, testbed_items
from paper.reading.files import read_table
from paper.reading.messages import records_of
from tests.communication.simulator import TestBed

MINE = "my_channel"
FIGURES = {
    bits: "scorecard",
    testbed_gains: "testbed_gains",
    testbed_facts: "testbed_facts",
    testbed_items: "testbed_items",
    testbed_curves: "testbed_curves",
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of a bed in which C2C is a channel that nothing in the project names."""
    folder = tmp_path_factory.mktemp("tables")
    bed = TestBed(
        tasks=("redacted_word", "redacted_record"),
        channels=("identity", "random_states", "ridge", "c2c"),
        items=40,
        subsets=("1", "8"),
        item_counts=(100, 2000),
    )
    frame = bed.records().replace({"channel": {"c2c": MINE}})
    records = records_of(frame)
    pair = str(frame["pair"].iloc[0])
    trainings = pd.concat([bed.curves(pair, "redacted_word", seed) for seed in bed.seeds])
    modules = {"scorecard": scorecard, "testbed_gains": decomposition}
    modules |= {"testbed_facts": facts, "testbed_items": training_items}
    for name, module in modules.items():
        module.write(records, folder / name)
    curves.write(records, trainings.replace({"channel": {"c2c": MINE}}), folder / "testbed_curves")
    return folder


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
def test_a_channel_of_a_user_is_in_every_table_and_figure(figure, tables: Path, tmp_path: Path, monkeypatch) -> None:
    frame = read_table(tables / f"{FIGURES[figure]}.csv", empty_is_missing=True)
    assert MINE in set(frame["channel"])
    drawn = []
    monkeypatch.setattr(style, "save", lambda figure, stem: drawn.append(figure))
    figure.draw(frame, tmp_path / "figure")
    labels = [text.get_text() for legend in drawn[0].legends for text in legend.get_texts()]
    ticks = [text.get_text() for axis in drawn[0].axes for text in axis.get_yticklabels()]
    assert MINE in [*labels, *ticks]


def test_a_figure_is_the_same_bytes_whenever_it_is_drawn(tables: Path, tmp_path: Path) -> None:
    frame = read_table(tables / "scorecard.csv", empty_is_missing=True)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        bits.draw(frame, tmp_path / name / "bits")
    assert (tmp_path / "one/bits.png").read_bytes() == (tmp_path / "two/bits.png").read_bytes()


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
def test_the_same_records_give_the_same_bytes(figure, tables: Path, tmp_path: Path) -> None:
    frame = read_table(tables / f"{FIGURES[figure]}.csv", empty_is_missing=True)
    for name in ("one", "two"):
        figure.draw(frame, tmp_path / name)
    for suffix in style.SUFFIXES:
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
