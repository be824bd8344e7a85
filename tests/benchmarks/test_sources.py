from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sources import Source
from c2c.errors import RefusedError
from tests.bad_inputs.refusals import refused


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty mirror, and a cache of its own for what is read from it."""
    monkeypatch.setenv("C2C_HUB_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "mirror"


@pytest.fixture
def subjects(mirror: Path) -> str:
    """Hub id of a data set with three configs of two rows each, as files and a card."""
    folder = mirror / "owner" / "subjects"
    names = ("law", "anatomy", "logic")
    for name in names:
        write_rows(folder / name / "test.jsonl", [{"question": f"{name} {n}"} for n in range(2)])
    files = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: test\n    path: {name}/test.jsonl\n" for name in names
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{files}---\n")
    return "owner/subjects"


def test_a_pattern_takes_all_subsets_in_alphabetical_order(subjects: str) -> None:
    rows = list(Source("mmlu_redux", subjects, "main", "test", "*").rows())
    assert [place.subset for place, _ in rows] == ["anatomy", "anatomy", "law", "law", "logic", "logic"]
    assert [place.number for place, _ in rows] == [0, 1] * 3
    assert rows[3][1] == {"question": "law 1"}
    assert Source("mmlu_redux", subjects, "main", "test", "l*").subsets() == ["law", "logic"]


def test_a_limit_counts_rows_over_all_subsets(subjects: str) -> None:
    rows = Source("mmlu_redux", subjects, "main", "test", "*", limit=3).rows()
    assert [row["question"] for _, row in rows] == ["anatomy 0", "anatomy 1", "law 0"]


def test_a_pattern_that_nothing_fits_is_refused_with_what_there_is(subjects: str) -> None:
    with pytest.raises(RefusedError, match=r"must fit the pattern; received 'x\*'. It has: anatomy, law, logic"):
        Source("mmlu_redux", subjects, "main", "test", "x*").subsets()


@pytest.mark.parametrize(("subset", "split"), [("law", "dev"), ("history", "test")])
def test_an_unknown_subset_or_split_is_refused(subjects: str, subset: str, split: str) -> None:
    with pytest.raises(RefusedError, match="The data set must have the subset and the split"):
        list(Source("mmlu_redux", subjects, "main", split, subset).rows())


def test_longbench_is_read_from_the_archive_that_its_hub_keeps(mirror: Path) -> None:
    folder = mirror / "THUDM" / "LongBench"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        for name in ("qasper_e", "lcc_e", "qasper"):
            lines = [{"_id": f"{name}{n}", "context": "a\u2028b", "input": "Q"} for n in range(2)]
            archive.writestr(f"data/{name}.jsonl", "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines))
    source = Source("longbench", "THUDM/LongBench", "main", "test", "*_e")
    assert [row["_id"] for _, row in source.rows()] == ["lcc_e0", "lcc_e1", "qasper_e0", "qasper_e1"]
    assert next(iter(source.rows()))[1]["context"] == "a\u2028b"
    with pytest.raises(
        RefusedError, match=r"data\.zip must have the subset and the split; received 'data/trec\.jsonl'"
    ):
        list(Source("longbench", "THUDM/LongBench", "main", "test", "trec").rows())


def test_ceval_is_read_from_the_archive_that_its_hub_keeps(mirror: Path) -> None:
    folder = mirror / "ceval" / "ceval-exam"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "ceval-exam.zip", "w") as archive:
        archive.writestr("val/law_val.csv", 'id,question,A,B,C,D,answer\n0,"甲,乙",1,2,3,4,B\n')
        archive.writestr("dev/law_dev.csv", "id,question,A,B,C,D,answer\n")
        archive.writestr("dev/art_dev.csv", "id,question,A,B,C,D,answer\n")
    source = Source("ceval", "ceval/ceval-exam", "main", "val", "*")
    assert source.subsets() == ["law"]
    assert [row["question"] for _, row in source.rows()] == ["甲,乙"]


def test_a_data_set_of_one_file_needs_no_subset(mirror: Path) -> None:
    write_rows(mirror / "owner" / "chats" / "train.jsonl", [{"conversations": [{"from": "human", "value": "Hi"}]}])
    ((place, row),) = Source("chat", "owner/chats", "main", "train").rows()
    assert place == ("", 0)
    assert row["conversations"][0]["value"] == "Hi"


def test_a_source_is_what_the_command_line_says() -> None:
    text = "reader=arc,dataset=allenai/ai2_arc,subset=ARC-Easy,split=train,revision=v1,limit=7"
    assert Source.parse(text) == Source("arc", "allenai/ai2_arc", "v1", "train", "ARC-Easy", 7)


@pytest.mark.parametrize(
    "text", ["reader=arc,dataset=a/b,split=train", "reader=arc,dataset=a/b,split=train,revision=main,sbset=x"]
)
def test_a_source_with_a_missing_or_unknown_part_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="Name each part once"):
        Source.parse(text)


def test_a_limit_that_is_no_number_is_refused() -> None:
    with pytest.raises(RefusedError, match="must be a number; received 'many'"):
        Source.parse("reader=arc,dataset=a/b,split=train,revision=main,limit=many")


SPOILT: dict[str, Any] = {
    "a script that would run": lambda at: (
        [each.unlink() for each in at.glob("*.md")],
        shutil.rmtree(at / "law"),
        (at / f"{at.name}.py").write_text("raise SystemExit('ran')\n"),
    ),
    "an empty file": lambda at: (at / "law" / "test.jsonl").write_bytes(b""),
    "a binary file": lambda at: (at / "law" / "test.jsonl").write_bytes(bytes(range(256))),
    "lines cut off": lambda at: (at / "law" / "test.jsonl").write_text('{"question": "a"}\n{"quest'),
    "a file that is missing": lambda at: (at / "law" / "test.jsonl").unlink(),
    "a card that is no YAML": lambda at: (at / "README.md").write_text("---\nconfigs: [\n---\n"),
    "a card of another schema": lambda at: (at / "README.md").write_text("---\nconfigs: 7\n---\n"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_data_set_that_is_spoilt_is_refused(case: str, subjects: str, mirror: Path) -> None:
    SPOILT[case](mirror / "owner" / "subjects")
    with refused(subjects):
        list(Source("mmlu_redux", subjects, "main", "test", "law").rows())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", bytes(range(256))])
def test_an_archive_that_is_spoilt_is_refused(content: bytes, mirror: Path) -> None:
    folder = mirror / "THUDM" / "LongBench"
    folder.mkdir(parents=True)
    (folder / "data.zip").write_bytes(content)
    with refused("data.zip must be a whole zip archive"):
        list(Source("longbench", "THUDM/LongBench", "main", "test", "*_e").rows())
