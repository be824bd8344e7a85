"""Exported evaluations are valid in their formats and hold the numbers of the tables."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest

from c2c.errors import RefusedError
from c2c.evaluation.schema import QUESTION_SCHEMA, frame_of, read_records, write_records
from paper.exchange import __main__ as command
from paper.exchange.__main__ import export
from paper.reading.answers import Answers
from paper.reading.questions import committable, read_questions
from paper.tables import main
from tests.paper.builder import VALUES, Bench, Run, make_records, write

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = Path(__file__).with_name("exchange_schemas")
RUNS = (
    Run("gap_a"),
    *(Run("gap_a", recipe, "span", seed) for recipe in ("c2c", "adapter") for seed in (0, 1, 2)),
    Run("gap_b"),
    Run("gap_b", "c2c", "longest", 0),
)
BENCH = Bench(("knowledge_gap_free", "knowledge_gap_choice", "openbookqa"), questions=12)


def prompt_of(benchmark: str, number: int, chat: bool) -> str:
    text = f"Question {number} of {benchmark}?"
    return json.dumps([{"role": "user", "content": text}]) if chat else text


def make_files(folder: Path, chat: bool = False) -> tuple[Path, Path]:
    records = make_records(RUNS, BENCH)
    rows = [
        {
            "benchmark": benchmark,
            "prompts": "chat" if chat else "plain",
            "question_id": f"q{number:03d}",
            "question_hash": f"hash{number}",
            "subset": "",
            "prompt": prompt_of(benchmark, number, chat),
            "private": "",
            "choices": None if benchmark.endswith("free") else VALUES["color"],
            "gold": "amber",
            "max_new_tokens": 4 if benchmark.endswith("free") else None,
        }
        for benchmark in BENCH.benchmarks
        for number in range(BENCH.questions)
    ]
    questions = frame_of(rows, QUESTION_SCHEMA)
    texts = questions.set_index(["benchmark", "question_id"])["prompt"]
    key = pd.MultiIndex.from_frame(records[["benchmark", "question_id"]])
    hashes = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts[key]]
    records = records.assign(prompt_hash=hashes, prompts="chat" if chat else "plain")
    # One question failed, so that both formats hold an error.
    place = records.index[(records["method"] == "t2t") & (records["benchmark"] == "openbookqa")][0]
    records.loc[place, ["error", "output_text"]] = ["RefusedError: too long", None]
    write_records(questions, folder / "questions.parquet", QUESTION_SCHEMA)
    return write(records, folder / "records.parquet"), folder / "questions.parquet"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def table(files: tuple[Path, Path]) -> pd.DataFrame:
    frame = main.build(Answers.load([files[0]]), None).dropna(subset="value")
    return frame.set_index(["pair", "benchmark", "arm"])[["value", "low", "high"]] / 100


def closed(schema: Any) -> Any:
    """The schema with every object closed against keys that it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: closed(part) for name, part in schema.items()}
    return parts | {"additionalProperties": False} if "properties" in parts and "type" in parts else parts


def validator(name: str, close: bool = False) -> jsonschema.protocols.Validator:
    schema = json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    return kind(closed(schema) if close else schema)


@pytest.mark.parametrize("chat", [False, True])
def test_every_eval_ever_files_are_valid_by_its_schemas_0_3(tmp_path, chat):
    records, questions = make_files(tmp_path, chat)
    paths = export("every-eval-ever", [records], [questions], tmp_path / "out")
    whole, line = (
        validator("every_eval_ever/eval.schema.json"),
        validator("every_eval_ever/instance_level_eval.schema.json"),
    )
    assert whole.schema["version"] == line.schema["version"] == "0.3.0"
    assert len(paths) == len(set(paths)) == 4 + 4 + 4 + 3
    for path in paths:
        content = json.loads(path.read_text(encoding="utf-8"))
        whole.validate(content)
        assert content["schema_version"] == "0.3.0"
        samples = tmp_path / "out" / content["detailed_evaluation_results"]["file_path"]
        assert samples == path.with_name(f"{path.stem}_samples.jsonl")
        rows = [json.loads(text) for text in samples.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            line.validate(row)
        assert len(rows) == content["detailed_evaluation_results"]["total_rows"]
        assert {row["evaluation_id"] for row in rows} == {content["evaluation_id"]}
        results = {result["evaluation_result_id"] for result in content["evaluation_results"]}
        assert {row["evaluation_result_id"] for row in rows} <= results


def test_scores_of_every_eval_ever_files_are_those_of_the_main_table(files, table, tmp_path):
    compared = set()
    for path in export("every-eval-ever", [files[0]], [files[1]], tmp_path):
        content = json.loads(path.read_text(encoding="utf-8"))
        about = content["model_info"]["additional_details"]
        samples = path.with_name(f"{path.stem}_samples.jsonl").read_text(encoding="utf-8").splitlines()
        rows = pd.DataFrame(
            {"result": row["evaluation_result_id"], "score": row["evaluation"]["score"]}
            for row in map(json.loads, samples)
        )
        for result in content["evaluation_results"]:
            name, details = result["evaluation_result_id"], result["score_details"]
            own = (
                rows[rows["result"].str.partition("/")[0] == name] if "/" not in name else rows[rows["result"] == name]
            )
            assert own["score"].mean() == pytest.approx(details["score"])
            if "/" not in name:
                cell = table.loc[(about["pair"], name, about["arm"])]
                bounds = details["uncertainty"]["confidence_interval"]
                assert [details["score"], bounds["lower"], bounds["upper"]] == pytest.approx(list(cell))
                compared.add((about["pair"], name, about["arm"]))
    assert compared == set(table.index)


@pytest.mark.parametrize("chat", [False, True])
def test_inspect_logs_are_valid_by_the_models_of_inspect(tmp_path, chat):
    records, questions = make_files(tmp_path, chat)
    paths = export("inspect", [records], [questions], tmp_path / "out")
    schema = validator("inspect_ai/eval_log.schema.json", close=True)
    assert len(set(paths)) == (4 + 4 + 4 + 3) * len(BENCH.benchmarks)
    for path in paths:
        log = json.loads(path.read_text(encoding="utf-8"))
        schema.validate(log)
        # What the schema can't say: a sample is there once an epoch, and the name is one that Inspect takes for a log.
        keys = [(sample["id"], sample["epoch"]) for sample in log["samples"]]
        assert len(keys) == len(set(keys)) == log["results"]["total_samples"]
        time, _, identifier = path.stem.split("_")
        assert identifier == log["eval"]["task_id"] and time[:10] == log["eval"]["created"][:10]


def test_scores_of_inspect_logs_are_those_of_the_main_table(files, table, tmp_path):
    for path in export("inspect", [files[0]], [files[1]], tmp_path):
        log = json.loads(path.read_text(encoding="utf-8"))
        (score,) = log["results"]["scores"]
        values = {name: metric["value"] for name, metric in score["metrics"].items()}
        cell = table.loc[(log["eval"]["task_args"]["pair"], log["eval"]["task"], log["eval"]["task_args"]["arm"])]
        assert [values["accuracy"], values["ci_low"], values["ci_high"]] == pytest.approx(list(cell))
        samples = [sample["scores"][score["scorer"]]["value"] for sample in log["samples"]]
        assert sum(samples) / len(samples) == pytest.approx(values["accuracy"])
        assert len({sample["epoch"] for sample in log["samples"]}) == log["eval"]["config"]["epochs"]


def test_a_misspelt_key_of_a_log_is_noticed(files, tmp_path):
    path = export("inspect", [files[0]], [files[1]], tmp_path, method=["receiver"])[0]
    log = json.loads(path.read_text(encoding="utf-8"))
    log["samples"][0]["targets"] = log["samples"][0].pop("target")
    with pytest.raises(jsonschema.ValidationError):
        validator("inspect_ai/eval_log.schema.json", close=True).validate(log)


def test_no_control_has_the_id_of_the_receiver(files, tmp_path):
    owners: dict[str, set[str]] = {}
    for path in export("every-eval-ever", [files[0]], [files[1]], tmp_path):
        model = json.loads(path.read_text(encoding="utf-8"))["model_info"]
        owners.setdefault(model["id"], set()).add(model["additional_details"]["arm"])
    assert all(len(arms) == 1 for arms in owners.values())
    assert owners["cache-to-cache/gap_receiver_a"] == {"receiver"}
    assert owners["cache-to-cache/gap_a.c2c_zeroed"] == {"c2c_zeroed"}


def test_a_failed_question_keeps_its_error_and_counts_as_wrong(files, tmp_path):
    (path,) = export(
        "inspect", [files[0]], [files[1]], tmp_path, method=["t2t"], benchmark=["openbookqa"], pair=["gap_a"]
    )
    log = json.loads(path.read_text(encoding="utf-8"))
    lost = [sample for sample in log["samples"] if "error" in sample]
    assert [sample["error"]["message"] for sample in lost] == ["RefusedError: too long"]
    assert lost[0]["scores"]["letter"]["value"] == 0 and log["results"]["completed_samples"] == BENCH.questions - 1


def test_equal_records_give_equal_files_at_a_stated_time(files, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for form in ("every-eval-ever", "inspect"):
        first, second = (export(form, [files[0]], [files[1]], tmp_path / name / form) for name in ("one", "two"))
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_an_unknown_format_is_refused_in_one_line(files, tmp_path, monkeypatch, capsys):
    given = ["--records", str(files[0]), "--questions", str(files[1]), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["paper.exchange", "--format", "helm", *given])
    assert command.main() == 2
    shown = capsys.readouterr().err
    assert shown.startswith("paper.exchange: ") and shown.count("\n") == 1 and "inspect" in shown and "helm" in shown
    assert not (tmp_path / "out").exists()


def test_records_without_the_text_of_their_question_are_refused_with_the_remedy(files, tmp_path):
    questions = read_questions([files[1]]).reset_index()
    few = questions[questions["benchmark"] != "openbookqa"]
    write_records(few, tmp_path / "few.parquet", QUESTION_SCHEMA)
    with pytest.raises(RefusedError, match=r"must have the text.*openbookqa.*questions\.parquet.*--benchmarks"):
        export("inspect", [files[0]], [tmp_path / "few.parquet"], tmp_path / "out")
    assert export("inspect", [files[0]], [tmp_path / "few.parquet"], tmp_path / "out", benchmark=["knowledge_gap_free"])


@pytest.mark.parametrize("column", ["question_hash", "prompt"])
def test_the_text_of_another_question_is_refused(files, tmp_path, column):
    questions = read_questions([files[1]]).reset_index()
    questions.loc[3, column] = "something else"
    write_records(questions, tmp_path / "stale.parquet", QUESTION_SCHEMA)
    with pytest.raises(RefusedError, match="must be what the record's model read"):
        export("inspect", [files[0]], [tmp_path / "stale.parquet"], tmp_path / "out")


def test_an_id_without_records_is_refused_with_those_there_are(files, tmp_path):
    with pytest.raises(RefusedError, match="gap_a, gap_b"):
        export("inspect", [files[0]], [files[1]], tmp_path, pair=["gap_c"])


def test_texts_of_generated_benchmarks_alone_are_committed_and_only_those_that_records_refer_to(files):
    questions, records = read_questions([files[1]]), read_records([files[0]])
    kept = committable(questions, records)
    assert set(kept.index.get_level_values("benchmark")) == {"knowledge_gap_free", "knowledge_gap_choice"}
    assert len(committable(questions, records[records["question_id"] == "q001"])) == 2


def test_the_commands_of_the_guide_export_committed_records(tmp_path, monkeypatch):
    text = (ROOT / "docs/guides/exchange.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"^python -m paper\.exchange (.*)$", text, flags=re.MULTILINE)
    committed = [line for line in commands if "paper/records" in line]
    assert len(committed) == 2
    for line in committed:
        arguments = line.replace("paper/records", str(ROOT / "paper/records")).split()
        monkeypatch.setattr(sys, "argv", ["paper.exchange", *arguments])
        monkeypatch.chdir(tmp_path)
        assert command.main() == 0
    assert len(list((tmp_path / "exchange/logs").glob("*.json"))) > 2
    assert list((tmp_path / "exchange/data").rglob("*_samples.jsonl"))
