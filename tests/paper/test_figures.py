"""Properties of the figures: the same data give the same bytes, fonts are embedded, gaps are drawn as gaps."""

import pandas as pd
import pytest
from PIL import Image

from c2c.errors import RefusedError
from paper.artefacts import of_kind, of_testbed
from paper.figures import (
    accuracy,
    accuracy_latency,
    gains,
    gates,
    scaling,
    style,
    subject_gains,
    subjects,
    training,
    venn,
)
from paper.reading.fusers import FuserRun, read_tables
from tests.paper.builder import SMOKE

ELSEWHERE = {
    *(name for name, each in of_kind("figure").items() if each.analysis or of_testbed(each)),
    "accuracy_by_steps",
}
"""Figures whose bytes test_analyses.py, test_steps.py and tests/communication compare."""


@pytest.fixture
def table(made_results):
    return pd.read_csv(made_results / "tables/main.csv", keep_default_na=False, na_values=[""])


@pytest.fixture
def fusers(made_results):
    return [made_results / "fusers" / run.path for run in SMOKE if run.recipe]


@pytest.fixture
def draw(table, fusers, made_results):
    return {
        "accuracy": lambda stem: accuracy.draw(table, stem),
        "accuracy_latency": lambda stem: accuracy_latency.draw(table, stem),
        "gains": lambda stem: style.save(gains.draw(made_results / "tables/gains.csv"), stem),
        "gates": lambda stem: gates.draw(read_tables(fusers, gates.FILE), stem),
        "training": lambda stem: training.draw(read_tables(fusers, training.FILE), stem),
        "scaling": lambda stem: scaling.draw(read(made_results, "scaling"), stem),
        "venn": lambda stem: venn.draw(read(made_results, "venn"), stem),
        "subjects": lambda stem: subjects.draw(read(made_results, "subjects"), stem),
        "subject_gains": lambda stem: subject_gains.draw(read(made_results, "subjects"), stem),
    }


def read(results, table):
    return pd.read_csv(results / f"tables/{table}.csv", keep_default_na=False, na_values=[""])


def test_tables_without_a_row_to_draw_give_a_picture_that_says_so(made_results, tmp_path):
    for module, table in ((venn, "venn"), (subjects, "subjects"), (subject_gains, "subjects"), (scaling, "scaling")):
        module.draw(read(made_results, table).iloc[:0], tmp_path / module.__name__)
        assert (tmp_path / f"{module.__name__}.png").is_file()


@pytest.mark.parametrize("name", sorted(set(of_kind("figure")) - ELSEWHERE))
def test_the_same_data_give_the_same_bytes(draw, name, tmp_path):
    draw[name](tmp_path / "one")
    draw[name](tmp_path / "two")
    for suffix in style.SUFFIXES:
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_fonts_are_embedded_and_no_date_is_written(draw, tmp_path):
    draw["accuracy"](tmp_path / "figure")
    content = (tmp_path / "figure.pdf").read_bytes()
    assert b"/FontFile2" in content and b"/Type3" not in content and b"CreationDate" not in content


def test_pictures_have_the_resolution_and_width_of_the_text(draw, tmp_path):
    draw["accuracy"](tmp_path / "figure")
    with Image.open(tmp_path / "figure.png") as picture:
        assert round(picture.info["dpi"][0]) == style.RESOLUTION
        assert picture.width == pytest.approx(style.TEXT_WIDTH * style.RESOLUTION, abs=2)


def test_what_was_never_run_and_never_timed_can_be_drawn(table, tmp_path):
    table.loc[table["arm"] == "adapter", ["value", "low", "high", "n"]] = float("nan")
    accuracy.draw(table, tmp_path / "accuracy")
    accuracy_latency.draw(table.assign(time_ms=float("nan")), tmp_path / "latency")
    assert (tmp_path / "accuracy.pdf").is_file() and (tmp_path / "latency.pdf").is_file()


def test_pairs_that_were_asked_different_benchmarks_have_panels_for_those_alone(table, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(style, "save", lambda figure, stem: drawn.append(figure))
    kept = table[(table["pair"] == "gap_a") | (table["benchmark"] == "knowledge_gap_free")]
    accuracy.draw(kept, tmp_path / "accuracy")
    titles = [axis.get_title(loc="left").splitlines()[0] for axis in drawn[0].axes if axis.get_visible()]
    assert titles == ["Pair A", "Pair A", "Pair B"]


def test_names_of_points_that_lie_side_by_side_stand_apart():
    rows = pd.DataFrame({"arm": ["receiver", "sharer", "t2t"], "time_ms": [10.0, 10.5, 40.0], "value": [50.0, 50, 90]})
    rows["chance"] = 25.0
    places = accuracy_latency.label_offsets(rows)
    assert places[0] != places[1] and places[2] == (7, 0)
    assert accuracy_latency.label_offsets(rows[2:]) == [(7, 0)]
    assert accuracy_latency.label_offsets(rows[2:].assign(chance=90.0)) == [(0, -11)]


def test_fusers_without_weights_and_gates_are_left_out(fusers, tmp_path):
    plain = [folder for folder in fusers if FuserRun.of(folder).recipe == "project"]
    gates.draw(read_tables(plain, gates.FILE), tmp_path / "gates")
    assert (tmp_path / "gates.png").is_file()


def test_a_fuser_is_named_by_its_folder(tmp_path):
    assert FuserRun.of(tmp_path / "pair/c2c/span/seed7") == ("pair", "c2c", "span", 7)
    with pytest.raises(RefusedError, match="seed<number>"):
        FuserRun.of(tmp_path / "pair/c2c/span/last")


def test_a_folder_without_its_table_is_refused(tmp_path):
    with pytest.raises(RefusedError, match="history"):
        read_tables([tmp_path / "pair/c2c/span/seed0"], training.FILE)


def test_the_picture_of_the_gains_holds_the_hash_of_its_table(made_results, tmp_path):
    table = made_results / "tables/gains.csv"
    for name in ("one", "two"):
        gains.save_picture(table, tmp_path / f"{name}.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.info[gains.HASH] == gains.table_hash(table)


def test_each_gain_has_a_shape_and_filling_of_its_own():
    assert len({(shape, filling == "white") for shape, _, filling in gains.MARKERS.values()}) == len(gains.MARKERS)


def test_the_content_gain_is_drawn_only_where_it_is_a_row(made_results, tmp_path):
    frame = pd.read_csv(made_results / "tables/gains.csv")
    content = frame[(frame["pair"] == "gap_a") & (frame["gain"] == "pairing")].assign(gain="content")
    pd.concat([frame, content]).to_csv(tmp_path / "gains.csv", index=False)
    legends = {
        path: [text.get_text() for text in gains.draw(path).legends[0].get_texts()]
        for path in (made_results / "tables/gains.csv", tmp_path / "gains.csv")
    }
    without, with_content = legends.values()
    assert set(with_content) - set(without) == {"Content gain"}
    # The other pair's panel has an empty place, which nobody must take for a missing run.
    texts = [text.get_text() for axis in gains.draw(tmp_path / "gains.csv").axes for text in axis.texts]
    assert " not run" not in texts


def test_pairs_without_a_gain_and_single_missing_gains_can_be_drawn(made_results, tmp_path):
    frame = pd.read_csv(made_results / "tables/gains.csv")
    lost = (frame["pair"] == "gap_b") | (frame["gain"] == "adaptation")
    frame.loc[lost, ["value", "low", "high"]] = None
    frame.to_csv(tmp_path / "gains.csv", index=False)
    figure = gains.draw(tmp_path / "gains.csv")
    titles = [axis.get_title(loc="left") for axis in figure.axes if axis.get_visible()]
    assert titles == ["Pair A (3 seeds)"] and "not run" in {text.get_text().strip() for text in figure.axes[0].texts}


def test_every_time_lies_within_the_panel_that_shows_it(table, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(style, "save", lambda figure, stem: figures.append(figure))
    slower = table.copy()
    times = ["time_ms", "time_low_ms", "time_high_ms"]
    slower.loc[slower["pair"] == "gap_a", times] *= 20
    accuracy_latency.draw(slower, tmp_path / "latency")
    timed = slower.dropna(subset=["time_ms", "value"])
    for axis in figures[0].axes:
        low, high = axis.get_xlim()
        assert low < timed["time_low_ms"].min() and timed["time_high_ms"].max() < high


def test_arms_that_share_a_training_figure_differ_in_colour_or_mark():
    looks = [
        (style.colour(arm), style.MARKERS.get(arm, "o"))
        for arm in ("c2c", "adapter", "project", "fuse", "projected", "identical")
    ]
    assert len(set(looks)) == len(looks) and style.colour("project") != style.colour("projected")


def test_the_legend_of_gates_names_a_state_only_where_both_occur(fusers):
    frame = read_tables(fusers, gates.FILE).dropna(subset=["weight_mean"])
    states = [
        [line.get_label() for line in gates._legend(frame.assign(open=values))]
        for values in (True, [True, False] * (len(frame) // 2) + [True] * (len(frame) % 2))
    ]
    assert states == [
        ["keys", "values"],
        ["keys, gate open", "keys, gate closed", "values, gate open", "values, gate closed"],
    ]


def test_intervals_of_one_training_are_told_apart_by_caps_and_the_legend(made_results, tmp_path):
    frame = pd.read_csv(made_results / "tables/gains.csv")
    labels = {}
    for seeds in (1, 3):
        frame.assign(seeds=seeds).to_csv(tmp_path / "gains.csv", index=False)
        figure = gains.draw(tmp_path / "gains.csv")
        labels[seeds] = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[1] == [*labels[3], "thin, with caps: one training seed"]


def test_sharers_of_every_panel_lie_within_it(made_results, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(style, "save", lambda figure, stem: figures.append(figure))
    frame = read(made_results, "scaling")
    frame.loc[frame["pair"] == "gap_b", "sharer_m"] = 100.0
    scaling.draw(frame, tmp_path / "scaling")
    low, high = figures[0].axes[0].get_xlim()
    assert low < frame["sharer_m"].min() and frame["sharer_m"].max() < high


def test_subjects_of_a_few_questions_are_left_out(made_results, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(style, "save", lambda figure, stem: figures.append(figure))
    frame = read(made_results, "subjects")
    rare = frame["subject"].iloc[0]
    frame.loc[frame["subject"] != rare, "n"] = subjects.FEWEST
    frame.loc[frame["subject"] == rare, "n"] = subjects.FEWEST - 1
    subjects.draw(frame, tmp_path / "subjects")
    labels = [label.get_text() for axis in figures[0].axes for label in axis.get_yticklabels()]
    assert labels and not any(label.startswith(f"{rare} ") for label in labels)


def test_titles_are_no_wider_than_their_panels() -> None:
    figure, axes = style.panels(1, 3, 2.0)
    for axis in axes:
        axis.set_title("SmolLM2-135M from Qwen2.5-Coder-0.5B, Chinese words, four-way choice (n = 500)", loc="left")
    style.fit_titles(figure)
    figure.draw_without_rendering()
    for axis in axes:
        text = next(each for each in axis.get_children() if getattr(each, "get_text", str)().startswith("SmolLM2"))
        assert text.get_window_extent().width <= axis.get_window_extent().width
        assert "(n = 500)" in text.get_text().replace(style.FIXED_BLANK, " ").splitlines()[-1]
    style.plt.close(figure)


def test_a_title_that_fits_stays_on_its_line() -> None:
    assert style.wrapped("Pair A from the Sharer", 40) == "Pair A from the Sharer"
    assert style.wrapped("Pair A from the Sharer", 20) == "Pair A\nfrom the Sharer"
