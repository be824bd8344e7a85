"""One generation run: a row a question and method, resumable, with nothing repeated or lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from transformers import Gemma3Config

from c2c.cli.main import main
from c2c.errors import RefusedError
from c2c.evaluation.answers.answer import Answer
from c2c.evaluation.generate import GenerationRun, generate, record
from c2c.evaluation.methods.declarations import PAIR_METHODS
from c2c.evaluation.methods.inputs import MethodInputs
from c2c.evaluation.methods.method import Method
from c2c.evaluation.questions.tasks import load_tasks, questions_of
from c2c.evaluation.readers.reader import check_room
from c2c.evaluation.run import check_fusers_precision
from c2c.evaluation.schema import read_records
from c2c.evaluation.scoring import score_records
from c2c.evaluation.token_budget import measure_budget
from c2c.models.pair import load_models
from c2c.storage.folders import PREVIOUS
from c2c.storage.formats import write_json
from c2c.storage.manifests import describe_source
from tests.checkout import ROOT

UNTRAINED = [name for name in PAIR_METHODS if name != "routing_trained"]


@pytest.fixture
def run(pair, fuser, benchmark_files, tmp_path) -> GenerationRun:
    tasks, files = benchmark_files
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(tmp_path / loaded.name)
        loaded.tokenizer.save_pretrained(tmp_path / loaded.name)
    return GenerationRun(
        scale="smoke", pair="tiny", receiver=str(tmp_path / "receiver"), sharers=[str(tmp_path / "sharer")],
        methods=UNTRAINED, tasks=tasks, benchmarks=files, output=tmp_path / "records.parquet", fusers=[fuser],
        recipe="c2c", alignment="span", seed=0, token_budget=100,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def short_messages(monkeypatch) -> None:
    monkeypatch.setattr("c2c.evaluation.methods.text_to_text.MESSAGE_TOKENS", 6)


def same_but_for_times(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    pd.testing.assert_frame_equal(one.drop(columns="time_s"), other.drop(columns="time_s"), check_exact=True)
    return True


def test_every_method_answers_every_question_of_every_benchmark_once(run) -> None:
    records = generate(run)
    counts = records.groupby(["method", "benchmark"]).question_id.nunique()
    assert len(records) == len(UNTRAINED) * 2 * 8
    assert set(counts) == {8}
    assert same_but_for_times(records, read_records([run.output]))
    assert set(score_records(records)["n"]) == {8, 4}


def test_every_method_answers_the_same_by_compiled_steps(run, monkeypatch) -> None:
    monkeypatch.setattr("c2c.generation.compiled.BACKEND", "eager")
    plain = generate(run)
    compiled = generate(replace(run, compile="decoding", output=run.output.with_name("compiled.parquet")))
    numbers = ["confidence", "choice_scores", "time_s"]
    pd.testing.assert_frame_equal(compiled.drop(columns=numbers), plain.drop(columns=numbers))
    pd.testing.assert_series_equal(compiled.confidence, plain.confidence, rtol=1e-4)


def test_compiled_steps_are_refused_where_the_response_is_fused_and_for_an_unknown_stage(run, monkeypatch) -> None:
    monkeypatch.setattr("c2c.generation.compiled.BACKEND", "eager")
    build = MethodInputs.build_together

    def fused(self, names):
        methods = build(self, names)
        methods["c2c"].reader.model.include_response = True
        return methods

    monkeypatch.setattr(MethodInputs, "build_together", fused)
    with pytest.raises(RefusedError, match="decoding is compiled must leave its response unfused"):
        generate(replace(run, compile="decoding", methods=["c2c"]))
    with pytest.raises(RefusedError, match="--compile"):
        replace(run, compile="everything")


def test_a_record_of_a_letter_names_the_options_and_the_opening_of_the_prompt(tmp_path) -> None:
    doc = {"id": "q", "question": "Which?", "options": ["red", "blue"], "answer": "B", "subject": ""}
    questions = tmp_path / "openbookqa_letter.jsonl"
    questions.write_text(json.dumps(doc) + "\n")
    tasks = load_tasks(ROOT / "benchmarks/tasks", {"openbookqa_letter": questions})
    question = questions_of(tasks["tasks"]["openbookqa_letter"])[0]
    row = record({}, "receiver", question, Answer(output_text=" B"), tasks)
    assert (row["scoring"], row["opening"], row["choices"]) == ("letter", "Answer:", ["red", "blue"])


def test_a_run_that_was_cut_off_goes_on_and_repeats_no_question(run, monkeypatch) -> None:
    whole = generate(run)
    answered: list[str] = []
    original = Method._answer_batch

    def count(self, batch):
        answered.extend(f"{self.name} {question.benchmark} {question.doc['id']}" for question in batch)
        if len(answered) > 40 and not count.cut:
            count.cut = True
            del answered[-len(batch) :]
            raise KeyboardInterrupt
        return original(self, batch)

    count.cut = False
    monkeypatch.setattr(Method, "_answer_batch", count)
    with pytest.raises(KeyboardInterrupt):
        generate(run)
    assert same_but_for_times(generate(run), whole)
    assert len(answered) == len(set(answered))


def test_answers_of_other_settings_are_not_taken_for_these(run, benchmark_files) -> None:
    before = run.fingerprint()
    path = benchmark_files[1]["free"]
    path.write_text(path.read_text().replace('"q1"', '"q1-changed"'))
    assert run.fingerprint() != before


def test_a_run_with_another_seed_keeps_its_answers_apart_so_that_no_resume_mixes_two_derangements(run) -> None:
    fingerprints = {replace(run, seed=seed).fingerprint() for seed in (0, 1)}
    assert len(fingerprints) == 2


def test_a_control_without_partners_is_refused_before_a_model_is_loaded(run, benchmark_files, monkeypatch) -> None:
    path = benchmark_files[1]["free"]
    alone, *others = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(alone), "answer": "none"}), *others]))

    def refuse(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("c2c.evaluation.generate.load_models", refuse)
    with pytest.raises(RefusedError, match=r"each gold answer of free must be that of two questions.*'none'"):
        generate(replace(run, methods=("c2c", "c2c_same_answer")))
    # The first questions alone have other partners than the whole benchmark.
    with pytest.raises(RefusedError, match=r"each gold answer of choice must be that of two questions"):
        generate(replace(run, methods=("c2c_same_answer",), limit=4, benchmarks={"choice": run.benchmarks["choice"]}))
    with pytest.raises(AssertionError, match="a model was loaded"):
        generate(replace(run, methods=("c2c",)))


def test_models_run_in_the_precision_asked_for_and_answers_in_another_are_not_taken(run, monkeypatch) -> None:
    loaded = []

    def remember(*args, **options):
        loaded.append(load_models(*args, **options))
        return loaded[-1]

    monkeypatch.setattr("c2c.evaluation.generate.load_models", remember)
    half = replace(run, dtype="bfloat16", methods=("receiver", "c2c"), limit=2)
    assert not generate(half)["error"].fillna("").any()
    assert {each.model.dtype for each in loaded[-1]} == {torch.bfloat16}
    assert half.fingerprint() != replace(half, dtype="float32").fingerprint()


def test_the_gold_answer_of_a_choice_is_the_options_text(run, benchmark_files) -> None:
    records = generate(run)
    docs = {doc["id"]: doc for doc in map(json.loads, benchmark_files[1]["choice"].read_text().splitlines())}
    for row in records[records.benchmark == "choice"].itertuples():
        assert row.gold == docs[row.question_id]["answer"]
        assert list(row.choices) == docs[row.question_id]["options"]


def test_a_limit_takes_the_first_questions(run) -> None:
    records = generate(replace(run, limit=2, methods=("receiver",)))
    assert sorted(records.question_id.unique()) == ["q0", "q1"]


def test_a_receiver_that_was_itself_trained_has_the_recipe_and_the_seed_of_its_training(run) -> None:
    from dataclasses import replace

    records = generate(replace(run, limit=1, methods=("receiver", "sharer"), recipe="single", seed=3))
    said = records.drop_duplicates("method").set_index("method")
    assert said.loc["receiver", ["recipe", "alignment", "seed"]].tolist() == ["single", "", 3]
    assert said.loc["sharer", "recipe"] == "" and pd.isna(said.loc["sharer", "seed"])


def test_chats_are_refused_before_any_question_where_a_model_has_no_template(run) -> None:
    with pytest.raises(RefusedError, match="--prompts plain"):
        generate(replace(run, prompts="chat"))
    assert not run.output.exists()


def test_records_of_before_there_were_chats_are_read_as_plain_ones(run, tmp_path) -> None:
    import pyarrow.parquet as pq

    records = generate(replace(run, limit=1, methods=("receiver",)))
    assert set(records.prompts) == {"plain"}
    table = pq.read_table(run.output)
    pq.write_table(table.drop_columns(["prompts"]), tmp_path / "old.parquet")
    assert same_but_for_times(read_records([tmp_path / "old.parquet"]), records)


def test_records_name_models_by_the_ids_in_their_manifests(run, tmp_path) -> None:
    manifests = {}
    for role in ("receiver", "sharer"):
        manifests[role] = str(tmp_path / f"{role}.json")
        folder = getattr(run, role)
        about = {"id": f"owner/{role}-1B", "revision": None, "path": folder, "source": "folder"}
        write_json(tmp_path / f"{role}.json", describe_source(Path(folder), **about))
    models = {"receiver": manifests["receiver"], "sharers": [manifests["sharer"]]}
    records = generate(replace(run, **models, limit=1, methods=("receiver",)))
    assert set(records.receiver) == {"owner/receiver-1B"}
    assert set(records.sharer) == {"owner/sharer-1B"}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"prompts": "chats"}, "Did you mean 'chat'"),
        ({"token_budget": 0}, "token budget must be at least 1"),
        ({"methods": ("routing_trained",)}, "must be run with a router"),
        ({"methods": ("c2cc",)}, "Did you mean 'c2c'"),
        ({"fusers": []}, "must be run with trained Fusers"),
        ({"dtype": "half"}, "--dtype"),
        ({"accept_difference": ["receiver.ropes"]}, "Did you mean 'receiver.rope'"),
    ],
)
def test_impossible_runs_are_refused(run, changes, rule) -> None:
    with pytest.raises(RefusedError, match=rule):
        replace(run, **changes)


def test_a_missing_benchmark_file_and_an_unknown_benchmark_are_refused(run, tmp_path) -> None:
    with pytest.raises(RefusedError, match="must be a file"):
        generate(replace(run, benchmarks={"free": tmp_path / "none.jsonl"}))
    (tmp_path / "some.jsonl").write_text("{}")
    with pytest.raises(RefusedError, match="A benchmark"):
        generate(replace(run, benchmarks={"fre": tmp_path / "some.jsonl"}))


@pytest.fixture
def retrained(run, tiny_model, word_tokenizer) -> GenerationRun:
    """The same run with a Receiver of the same size that was trained otherwise."""
    tiny_model("qwen3", vocab=len(word_tokenizer), seed=9).save_pretrained(run.receiver)
    return run


def command(name: str, run: GenerationRun, *more: str) -> list[str]:
    given = {"scale": run.scale, "pair": run.pair, "receiver": run.receiver, "sharer": run.sharer, "fuser": run.fuser,
             "recipe": run.recipe, "alignment": run.alignment, "seed": run.seed, "methods": "c2c",
             "tasks": run.tasks, "benchmarks": f"free={run.benchmarks['free']}",
             "output": run.output}  # fmt: skip
    return [name, *(part for flag, value in given.items() for part in (f"--{flag}", str(value))), *more]


LIMITS = {"generate": ("--limit", "1"), "latency": ("--questions", "1", "--repeats", "1")}


@pytest.mark.parametrize("name", ["generate", "latency"])
def test_another_receiver_is_refused_and_its_acceptance_is_in_the_provenance(retrained, capsys, name) -> None:
    assert main(command(name, retrained, *LIMITS[name])) == 2
    assert "receiver.weights_sha256: expected" in capsys.readouterr().err
    assert not retrained.output.exists()
    line = "receiver.weights_sha256"
    assert main(command(name, retrained, *LIMITS[name], "--accept-difference", line)) == 0
    noted = json.loads(retrained.output.with_name("records.parquet.provenance.json").read_text())
    (accepted,) = noted["contract"]["accepted"]
    assert accepted.startswith(f"{line}: expected")
    assert noted["settings"]["accept_difference"] == [line]


def test_a_line_that_is_accepted_makes_other_answers_than_one_that_is_not(run) -> None:
    assert replace(run, accept_difference=["receiver.rope"]).fingerprint() != run.fingerprint()


def test_a_precision_is_checked_also_where_a_kill_left_the_fusers_among_the_previous_files(fuser) -> None:
    previous = Path(fuser) / PREVIOUS
    previous.mkdir()
    for path in [entry for entry in Path(fuser).iterdir() if entry.is_file()]:
        path.rename(previous / path.name)
    with pytest.raises(RefusedError, match="Models must be loaded in float16 if"):
        check_fusers_precision(fuser, "float16")


def test_positions_are_those_of_a_multimodal_models_text(pair) -> None:
    config = Gemma3Config(text_config={"max_position_embeddings": 40})
    loaded = replace(pair.receiver, model=SimpleNamespace(config=config))
    check_room(loaded, 30, 10)
    with pytest.raises(RefusedError, match="must fit into 40 positions"):
        check_room(loaded, 30, 11)


def test_answers_in_batches_by_measured_memory_are_those_of_a_number(run, monkeypatch) -> None:
    expected = generate(run)
    monkeypatch.setattr("c2c.evaluation.generate.measure_budget", lambda models: run.token_budget)
    notes: dict[str, object] = {}
    assert same_but_for_times(generate(replace(run, token_budget="auto"), notes), expected)
    assert notes["token_budget"] == run.token_budget
    with pytest.raises(RefusedError, match="A token budget must be auto or a whole number"):
        replace(run, token_budget="most")


def test_this_machine_measures_a_budget(pair) -> None:
    assert measure_budget([pair.receiver, pair.sharer]) > 0
