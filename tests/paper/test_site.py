"""The pages of the results site hold the numbers of the records and tables, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from c2c.errors import RefusedError
from c2c.evaluation.schema import read_records
from paper.collect import collect
from paper.reading.files import read_table
from paper.show import read_verdicts
from paper.site import __main__ as command
from paper.site.__main__ import write_data, write_site
from paper.site.cells import CellPage, cell_pages
from paper.site.channels import channel_pages
from paper.site.marks import OUTCOMES, Marks
from paper.site.pages import answer_chunks, printed_table, scale_entry, site_data
from paper.site.sources import ScaleFiles, scale_files
from tests.paper.builder import write
from tests.paper.site_builder import add_testbed, make_folder

ROOT = Path(__file__).resolve().parents[2]
LAPTOP, SMOKE = (ROOT / "paper/records" / name for name in ("laptop", "smoke"))
BOUNDS = ["value", "low", "high"]


def content_of(path: Path) -> Any:
    """What a file of data hands to the page."""
    text = path.read_text(encoding="utf-8")
    return json.loads(text[text.index(",") + 1 : text.rindex(")")])


@pytest.fixture(scope="module")
def laptop() -> list[CellPage]:
    return list(cell_pages(ScaleFiles.of(LAPTOP, LAPTOP)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("run") / "results/smoke")


@pytest.fixture(scope="module")
def pages(folder: Path) -> list[CellPage]:
    return list(cell_pages(ScaleFiles.of(folder, folder)))


def rows_of(laptop: list[CellPage], table: str) -> Iterator[tuple[CellPage, dict[str, Any]]]:
    """Rows with a value of a committed table, each with the page of its cell."""
    by_place = {(page.summary["pair"], page.summary["benchmark"]): page for page in laptop}
    frame = read_table(LAPTOP / f"tables/{table}.csv", empty_is_missing=True).dropna(subset="value")
    for row in frame.to_dict("records"):
        yield by_place[row["pair"], row["benchmark"]], row


@pytest.mark.parametrize("committed", [LAPTOP, SMOKE], ids=["laptop", "smoke"])
def test_every_committed_claim_is_on_the_site_with_its_verdict(committed: Path) -> None:
    entries = {entry["id"]: entry for entry in scale_entry(ScaleFiles.of(committed, committed), [], [])["claims"]}
    verdicts = read_verdicts(committed)
    assert {name: entry["verdict"] for name, entry in entries.items()} == {
        name: claim["verdict"] for name, claim in verdicts.items()
    }
    assert all(
        len(entries[name]["evidence"]) == len(claim["evidence"].get("cells", [])) for name, claim in verdicts.items()
    )


def test_gains_are_those_of_the_committed_table(laptop: list[CellPage]) -> None:
    compared = 0
    for page, row in rows_of(laptop, "gains"):
        gain = next(gain for gain in page.body["gains"] if gain["id"] == row["gain"])
        assert [gain[name] for name in BOUNDS] == pytest.approx([row[name] for name in BOUNDS], abs=1e-4)
        compared += 1
    assert compared == sum(len(page.body["gains"]) for page in laptop) > 50


def test_arms_have_the_accuracies_of_the_committed_table(laptop: list[CellPage]) -> None:
    compared = 0
    for page, row in rows_of(laptop, "main"):
        arm = next(arm for arm in page.body["arms"] if arm["id"] == row["arm"])
        assert [arm[name] for name in BOUNDS] == pytest.approx([row[name] for name in BOUNDS], abs=1e-4)
        assert arm["n"] == row["n"]
        compared += 1
    assert compared > 90


def test_the_2x2_table_has_the_discordant_questions_of_the_committed_table(laptop: list[CellPage]) -> None:
    for page, row in rows_of(laptop, "gains"):
        pair = next(
            entry
            for entry in page.body["comparisons"]
            if (entry["of"], entry["against"]) == (row["of"], row["against"])
        )
        assert pair["counts"]["all"][1:3] == [row["of_only"], row["against_only"]]
        assert pair["counts"]["all"] == [
            sum(counts)
            for counts in zip(*(pair["counts"][seed] for seed in pair["counts"] if seed != "all"), strict=True)
        ]


def test_sentences_are_those_of_the_readme(laptop: list[CellPage]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(page.summary["words"] in readme and page.summary["words"] for page in laptop)


def test_every_answer_of_a_trio_has_one_outcome(pages: list[CellPage]) -> None:
    for page in pages:
        for trio in page.body["trios"]:
            assert sum(trio["tally"]["all"].values()) == len(page.body["question"]) == len(trio["outcomes"])
            signs = [page.body["marks"][arm] for arm in (trio["alone"], trio["matched"], trio["deranged"])]
            by_outcome = {"right_message": "010", "any_message": "011"}
            for outcome, marks in by_outcome.items():
                number = [entry.id for entry in OUTCOMES].index(outcome)
                rows = [row for row, sign in enumerate(trio["outcomes"]) if sign == str(number)]
                assert rows and {"".join(column[row] for column in signs) for row in rows} == {marks}


def test_a_page_has_each_answer_of_each_arm_once(pages: list[CellPage], folder: Path) -> None:
    answers = [answer for page in pages for question in page.answers.values() for answer in question["answers"]]
    assert len(answers) == len(read_records([folder / "records/all.parquet"]))
    ids = [name for chunk in answer_chunks(pages[0], 7) for name in chunk]
    assert ids == pages[0].body["questions"]["ids"] and len(ids) == 24


def test_a_question_shows_its_texts_its_message_and_whose_question_the_sharer_read(pages: list[CellPage]) -> None:
    question = pages[0].answers["q003"]
    assert question["prompt"] == "What is the value of number 3?\nAnswer:"
    assert question["private"] == "A secret of number 3."
    answers = {(answer["arm"], answer.get("seed")): answer for answer in question["answers"]}
    assert answers["c2c_deranged", 1]["sharer_question_id"] == "q004"
    assert answers["t2t", None]["message"].startswith("It must be ")
    choice = next(page for page in pages if page.summary["benchmark"] == "knowledge_gap_choice")
    scores = next(answer["scores"] for answer in choice.answers["q003"]["answers"] if answer["arm"] == "c2c")
    assert sorted(scores) == [-3, -3, -3, -1]


def test_a_text_of_another_question_is_not_shown(folder: Path, tmp_path: Path) -> None:
    records = read_records([folder / "records/all.parquet"])
    records["question_hash"] = records["question_hash"] + "changed"
    copy = make_folder(tmp_path / "smoke", has_claims=False)
    write(records, copy / "records/all.parquet")
    page = next(cell_pages(ScaleFiles.of(copy, copy)))
    assert not page.body["questions"]["has_texts"] and "prompt" not in page.answers["q000"]


def test_another_alignment_is_an_arm_of_its_own(pages: list[CellPage]) -> None:
    page = next(page for page in pages if page.summary["pair"] == "gap_b")
    titles = {arm["id"]: arm["title"] for arm in page.body["arms"]}
    assert titles["c2c@longest"] == "C2C, alignment longest"
    assert {trio["deranged"] for trio in page.body["trios"]} == {"c2c_deranged", "c2c_deranged@longest"}


def test_a_changed_record_changes_the_data_of_its_page(pages: list[CellPage], folder: Path, tmp_path: Path) -> None:
    records = read_records([folder / "records/all.parquet"])
    is_changed = (records["pair"] == "gap_a") & (records["benchmark"] == "knowledge_gap_free")
    is_changed &= (records["method"] == "receiver") & (records["question_id"] == "q000")
    row = records.index[is_changed][0]
    is_right = records.loc[row, "gold"] in records.loc[row, "output_text"]
    records.loc[row, "output_text"] = "nothing" if is_right else records.loc[row, "gold"]
    copy = make_folder(tmp_path / "smoke", has_claims=False)
    write(records, copy / "records/all.parquet")
    changes = {
        page.summary["title"]
        for page, other in zip(pages, cell_pages(ScaleFiles.of(copy, copy)), strict=True)
        if any(page.body[name] != other.body[name] for name in ("arms", "marks", "comparisons", "trios"))
    }
    assert changes == {pages[0].summary["title"]}
    first = next(cell_pages(ScaleFiles.of(copy, copy))).body
    sides = [next(arm for arm in body["arms"] if arm["id"] == "receiver")["value"] for body in (pages[0].body, first)]
    assert abs(sides[0] - sides[1]) == pytest.approx(100 / 24, abs=1e-3)


def test_committed_records_give_the_pages_of_the_run(pages: list[CellPage], folder: Path, tmp_path: Path) -> None:
    collect(folder, tmp_path / "smoke", partial=True)
    committed = list(cell_pages(ScaleFiles.of(tmp_path / "smoke", tmp_path)))
    assert [page.body for page in committed] == [page.body for page in pages]


def test_graded_answers_have_no_2x2_table() -> None:
    frame = pd.DataFrame({-1: [0.0, 0.5, 1.0]}, index=["a", "b", "c"])
    marks = Marks.of_frames({"receiver": frame, "t2t": frame}, {"receiver": frame < 0, "t2t": frame < 0})
    assert marks.text("receiver") == "0p1" and marks.counts("receiver", "t2t") == {}


def test_a_failed_question_is_wrong_and_marked() -> None:
    frame = pd.DataFrame({-1: [0.0, 1.0]}, index=["a", "b"])
    failures = frame == 0
    marks = Marks.of_frames({"receiver": frame, "t2t": frame}, {"receiver": failures, "t2t": failures & False})
    assert marks.text("receiver") == "f1" and marks.counts("t2t", "receiver")["all"] == [1, 0, 0, 1]


def test_channels_have_the_numbers_of_the_committed_score_card() -> None:
    files = ScaleFiles.of(SMOKE, SMOKE)
    cards = read_table(SMOKE / "tables/scorecard.csv").set_index("channel")
    gains = read_table(SMOKE / "tables/testbed_gains.csv", empty_is_missing=True)
    for page in channel_pages(files):
        card = cards.loc[page.summary["channel"]]
        assert page.summary["level"] == card["level"]
        arms = {arm["id"]: arm for arm in page.body["arms"]}
        matched = [float(card[f"choice_{name}"]) for name in BOUNDS]
        assert [arms["matched"][name] for name in BOUNDS] == pytest.approx(matched, abs=1e-4)
        rows = gains[(gains["channel"] == page.summary["channel"]) & (gains["measure"] == "choice")]
        assert [gain["value"] for gain in page.body["gains"]] == pytest.approx(rows["value"].tolist(), abs=1e-4)


def test_an_item_shows_its_texts_and_whose_message_the_receiver_got(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "smoke", has_claims=False)
    add_testbed(folder)
    pages = list(channel_pages(ScaleFiles.of(folder, folder)))
    page = next(page for page in pages if page.summary["channel"] == "ridge")
    assert page.body["questions"]["has_texts"] and set(page.body["questions"]["ids"]) == set(page.answers)
    for name, question in page.answers.items():
        assert question["prompt"].startswith("Ada's word is unknown.") and question["gold"] in question["full_prompt"]
        deranged = [answer for answer in question["answers"] if answer["arm"] == "deranged"]
        assert all(answer["sharer_question_id"].partition(":")[0] == name.partition(":")[0] for answer in deranged)
        assert all(answer["sharer_question_id"] in page.answers for answer in deranged) and deranged


def test_a_printed_table_is_there_with_all_rows_and_notes() -> None:
    table = printed_table(LAPTOP / "tables/gains.md")
    frame = read_table(LAPTOP / "tables/gains.csv")
    assert len(table["rows"]) == len(frame) and all(len(row) == len(table["head"]) for row in table["rows"])
    assert table["head"][0] == "Pair" and table["caption"]
    assert table["notes"] and not any(note.startswith("*") for note in table["notes"])


def test_a_site_is_whole_names_its_files_and_replaces_an_earlier_one(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "site"
    page = write_site([str(folder)], output)
    index = content_of(output / "data/index.js")
    (scale,) = index["scales"]
    assert [cell["file"] for cell in scale["cells"]] == [f"smoke/cells/{number:03d}" for number in range(4)]
    assert all((output / "data" / f"{cell['file']}.js").is_file() for cell in scale["cells"])
    assert {entry["name"] for entry in scale["tables"]} == {path.stem for path in folder.glob("tables/*.md")}
    claim = next(claim for claim in scale["claims"] if claim["id"] == "c2c_above_receiver")
    assert [cell["pair"] for cell in claim["evidence"]] == ["gap_a", "gap_a", "gap_b", "gap_b"]
    assert page.with_name("index.html.provenance.json").is_file()
    (output / "data/old.js").write_text("")
    write_site([str(folder)], output)
    assert not (output / "data/old.js").exists() and page.is_file()


def test_a_site_loads_nothing_from_a_network(folder: Path, tmp_path: Path) -> None:
    write_site([str(folder)], tmp_path / "site")
    for path in (ROOT / "paper/site/assets").iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text and "fetch(" not in text and "innerHTML" not in text


def test_an_output_with_other_files_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RefusedError, match="must be a new or empty folder, or an earlier site"):
        write_site([str(folder)], tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_unknown_scale_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="must be a folder with verdicts"):
        write_site(["huge"], tmp_path / "site", ROOT)
    assert not (tmp_path / "site").exists()


def test_two_scales_of_one_name_are_refused(folder: Path) -> None:
    with pytest.raises(RefusedError, match="must have different names"):
        scale_files([str(folder), str(SMOKE)])


def test_the_command_prints_the_page(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setattr("sys.argv", ["paper.site", "--scales", str(folder), "--output", str(tmp_path / "site")])
    assert command.main() == 0
    assert "site/index.html" in capsys.readouterr().out


def test_a_number_that_json_does_not_have_is_null_and_a_file_names_itself_to_the_page(tmp_path: Path) -> None:
    write_data(
        tmp_path / "folder/x.js", "folder/x", {"low": float("nan"), "rows": [float("inf"), 1.5], "text": "</script>"}
    )
    assert (tmp_path / "folder/x.js").read_text().startswith('c2cProvide("folder/x",{')
    assert content_of(tmp_path / "folder/x.js") == {"low": None, "rows": [None, 1.5], "text": "</script>"}


def test_the_index_comes_last_and_names_of_files_differ(folder: Path) -> None:
    names = [name for name, _ in site_data([ScaleFiles.of(folder, folder)])]
    assert names[-1] == "index" and len(names) == len(set(names))
