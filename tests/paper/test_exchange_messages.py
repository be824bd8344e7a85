"""Records of the test bed are exchanged with the texts of their items, by the same schemas as answer records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from c2c.errors import RefusedError
from c2c.testbed.card.records import read
from c2c.testbed.items import Item, Place, write_items
from paper.exchange.__main__ import export
from paper.exchange.messages import arm_of
from paper.reading.messages import load_records
from paper.rows import accuracy
from tests.communication.simulator import TestBed
from tests.paper.test_exchange import validator

BED = TestBed(channels=("identity", "ridge", "c2c"), items=12, seeds=(0, 1))
WORDS = ("forest", "cemetery", "pub", "jungle")


def item_of(row: dict) -> Item:
    """An item of the id of a record; its right option is that of the record."""
    answer = None if row["gold"] < 0 else int(row["gold"])
    value, options = ("1234", ()) if answer is None else (WORDS[answer], WORDS)
    head, question = "Ada's word is", "\nQuestion: Ada's word is what?\nAnswer:"
    span, blank = (len(head), len(head) + 1 + len(value)), (len(head), len(head) + len(" unknown"))
    full = f"{head} {value}.{question}"
    place = Place(0, span, blank, span, span)
    return Item(
        id=row["id"],
        task=row["task"],
        subset=row["subset"],
        sharer_texts=(f"{head} {value}.",),
        prompt=f"{head} unknown.{question}",
        full_prompt=full,
        target_prompt=full,
        places=(place,),
        question=question,
        options=options,
        answer=answer,
        value=value,
        facts={"word": value},
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path]]:
    folder = tmp_path_factory.mktemp("bed")
    records = BED.write(folder)
    frame = read(records)
    paths = []
    for (task, seed), rows in frame.drop_duplicates(["task", "seed", "id"]).groupby(["task", "seed"]):
        paths.append(folder / f"items/{task}/{seed}/test.jsonl")
        paths[-1].parent.mkdir(parents=True)
        write_items(paths[-1], map(item_of, rows.to_dict("records")))
    return records, paths


@pytest.fixture(scope="module")
def expected(files: tuple[list[Path], list[Path]]) -> dict[tuple[str, str, str], list[float]]:
    """Value and bounds of each pair, benchmark and arm, as the score card has them, in percent."""
    records = load_records(files[0])
    cells = {}
    for cell in records.cells:
        for message in records.messages(cell):
            for measure in records.measures(cell.task):
                row = accuracy(records.answers(cell, message, measure))
                numbers = [row[name] for name in ("value", "low", "high")]
                cells[cell.pair, f"{cell.task}_{measure}", arm_of(cell, message)] = numbers
    return cells


def test_every_eval_ever_files_of_messages_are_valid_and_hold_the_numbers_of_the_score_card(files, expected, tmp_path):
    whole = validator("every_eval_ever/eval.schema.json")
    line = validator("every_eval_ever/instance_level_eval.schema.json")
    compared = set()
    for path in export("every-eval-ever", *files, tmp_path):
        content = json.loads(path.read_text(encoding="utf-8"))
        whole.validate(content)
        rows = path.with_name(f"{path.stem}_samples.jsonl").read_text(encoding="utf-8").splitlines()
        samples = [json.loads(row) for row in rows]
        for sample in samples:
            line.validate(sample)
        about = content["model_info"]["additional_details"]
        for result in (result for result in content["evaluation_results"] if "/" not in result["evaluation_name"]):
            name, score = result["evaluation_name"], result["score_details"]
            bounds = score["uncertainty"]["confidence_interval"]
            key = (about["pair"], name, about["arm"])
            assert [100 * number for number in (score["score"], bounds["lower"], bounds["upper"])] == pytest.approx(
                expected[key]
            )
            own = [row["evaluation"]["score"] for row in samples if row["evaluation_name"].partition("/")[0] == name]
            assert sum(own) / len(own) == pytest.approx(score["score"])
            compared.add(key)
    assert compared == set(expected)


def test_inspect_logs_of_messages_are_valid_and_hold_the_numbers_of_the_score_card(files, expected, tmp_path):
    schema, compared = validator("inspect_ai/eval_log.schema.json", close=True), set()
    for path in export("inspect", *files, tmp_path):
        log = json.loads(path.read_text(encoding="utf-8"))
        schema.validate(log)
        (score,) = log["results"]["scores"]
        key = (log["eval"]["task_args"]["pair"], log["eval"]["task"], log["eval"]["task_args"]["arm"])
        values = [100 * score["metrics"][name]["value"] for name in ("accuracy", "ci_low", "ci_high")]
        assert values == pytest.approx(expected[key])
        compared.add(key)
    assert compared == set(expected)


def test_the_full_bound_shows_the_unredacted_text_and_every_other_arm_the_placeholder(files, tmp_path):
    for path in export("inspect", *files, tmp_path, benchmark=["redacted_word"]):
        log = json.loads(path.read_text(encoding="utf-8"))
        is_full = log["eval"]["task_args"]["arm"] == "full"
        assert all(("unknown" in sample["input"]) is not is_full for sample in log["samples"])


def test_a_message_of_another_item_names_it(files, tmp_path):
    paths = export("inspect", *files, tmp_path, method=["ridge"], benchmark=["redacted_word"])
    logs = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    (deranged,) = [
        log for log in logs if log["eval"]["task_args"]["arm"] == "ridge.deranged" and "choice" in log["eval"]["task"]
    ]
    assert all(sample["metadata"]["donor"] != sample["id"] for sample in deranged["samples"])


def test_the_receiver_alone_has_its_own_id_and_every_message_one_of_its_own(files, tmp_path):
    models = {}
    for path in export("every-eval-ever", *files, tmp_path):
        model = json.loads(path.read_text(encoding="utf-8"))["model_info"]
        models.setdefault(model["id"], set()).add(model["additional_details"]["arm"])
    assert models["HuggingFaceTB/SmolLM2-135M-Instruct"] == {"receiver"}
    assert all(len(arms) == 1 for arms in models.values())


def test_an_item_without_its_text_is_refused_with_the_remedy(files, tmp_path):
    with pytest.raises(RefusedError, match=r"must have its item.*redacted_word/1.*test\.jsonl"):
        export("inspect", files[0], [path for path in files[1] if "redacted_word/1" not in str(path)], tmp_path)


def test_items_outside_of_a_folder_of_a_seed_are_refused(files, tmp_path):
    path = tmp_path / "elsewhere/test.jsonl"
    path.parent.mkdir()
    path.write_bytes(files[1][0].read_bytes())
    with pytest.raises(RefusedError, match="named by its seed"):
        export("inspect", files[0], [path], tmp_path)
