"""Several Sharers at once, with Fusers that were trained alone: what each of them reads counts, and only that."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from c2c.checkpoints.checkpoint import save_stack
from c2c.cli.main import main
from c2c.errors import RefusedError
from c2c.evaluation.generate import GenerationRun, generate
from c2c.evaluation.methods.declarations import GROUP_METHODS
from c2c.evaluation.methods.method import Method
from c2c.evaluation.methods.registry import C2C
from c2c.evaluation.readers.load import group_reader
from c2c.evaluation.schema import TOGETHER, read_records
from c2c.fuser.stack import FuserStack
from c2c.models.loading import LoadedModel
from tests.evaluation.conftest import ask

METHODS = [name for name in GROUP_METHODS if name[-1] not in "34"]


@pytest.fixture
def second(tiny_model, word_tokenizer) -> LoadedModel:
    return LoadedModel("second", tiny_model("qwen2", vocab=len(word_tokenizer), seed=2), word_tokenizer)


@pytest.fixture
def fusers(pair, fuser, second, tmp_path) -> list[str]:
    torch.manual_seed(1)
    stack = FuserStack.between(second.model.config, pair.receiver.model.config, hidden_dim=16, intermediate_dim=16)
    for layer in stack.links:
        for half in ("key", "value"):
            stack.fuser_of(layer).gate_logit(half).data.fill_(1.0)
            stack.fuser_of(layer).get_submodule(f"{half}_proj_out").weight.data.mul_(8)
    lines = {"receiver": pair.receiver.description, "sharer": second.description}
    save_stack(stack, tmp_path / "second_fuser", **lines, about={"alignment": "span", "sharer_cache": "own"})
    return [fuser, str(tmp_path / "second_fuser")]


def scores(pair, second, fusers, questions, reads, fusion="sequential", budget=10_000) -> torch.Tensor:
    reader = group_reader(pair.receiver, [pair.sharer, second], fusers, reads, fusion=fusion)
    answers = ask(Method("c2c", reader), questions["choice"], budget)
    return torch.tensor([answer.choice_scores for answer in answers])


BOTH = ("matched", "matched")


@pytest.mark.parametrize("fusion", ["sequential", "parallel"])
def test_a_batch_equals_one_by_one_and_each_sharer_changes_the_answer(pair, second, fusers, questions, fusion) -> None:
    both = scores(pair, second, fusers, questions, BOTH, fusion)
    torch.testing.assert_close(both, scores(pair, second, fusers, questions, BOTH, fusion, 1), atol=1e-4, rtol=1e-4)
    for reads in (("zeroed", "matched"), ("matched", "zeroed"), ("deranged", "deranged")):
        assert not torch.allclose(both, scores(pair, second, fusers, questions, reads, fusion), atol=1e-3)


def test_a_second_sharer_with_closed_gates_leaves_what_the_first_says_alone(pair, second, fusers, questions) -> None:
    reader = group_reader(pair.receiver, [pair.sharer, second], fusers, BOTH)
    reader.model.stack(1).force_gates(False)
    answers = ask(Method("c2c", reader), questions["free"], 10_000)
    alone = ask(C2C(pair, fuser=fusers[0]), questions["free"], 10_000)
    assert [answer.output_ids for answer in answers] == [answer.output_ids for answer in alone]


def test_one_after_the_other_and_added_up_are_different(pair, second, fusers, questions) -> None:
    one, other = (scores(pair, second, fusers, questions, BOTH, fusion) for fusion in ("sequential", "parallel"))
    assert not torch.allclose(one, other, atol=1e-3)


def test_in_a_derangement_all_sharers_read_the_same_other_question(pair, second, fusers, questions) -> None:
    reader = group_reader(pair.receiver, [pair.sharer, second], fusers, ("deranged", "deranged"))
    reader.prepare(questions["free"], 100)
    for question in questions["free"]:
        first, other = (part.sharer_prompt(question)[1] for part in reader.sharers)
        assert first.doc["id"] == other.doc["id"] != question.doc["id"]


def test_fusers_of_different_alignments_are_refused_together(pair, second, fusers, tmp_path) -> None:
    from c2c.checkpoints.checkpoint import load_stack

    stack, _ = load_stack(fusers[1])
    lines = {"receiver": pair.receiver.description, "sharer": second.description}
    save_stack(stack, tmp_path / "longest", **lines, about={"alignment": "longest", "sharer_cache": "own"})
    with pytest.raises(RefusedError, match="one token alignment"):
        group_reader(pair.receiver, [pair.sharer, second], [fusers[0], str(tmp_path / "longest")], BOTH)


def test_fusers_in_the_wrong_order_are_refused(pair, second, fusers) -> None:
    with pytest.raises(RefusedError, match="models that they were trained for"):
        group_reader(pair.receiver, [pair.sharer, second], fusers[::-1], BOTH)


@pytest.fixture
def run(pair, second, fusers, benchmark_files, tmp_path) -> GenerationRun:
    tasks, files = benchmark_files
    for loaded in (pair.receiver, pair.sharer, second):
        loaded.model.save_pretrained(tmp_path / loaded.name)
        loaded.tokenizer.save_pretrained(tmp_path / loaded.name)
    return GenerationRun(
        scale="smoke", pair="tiny", receiver=str(tmp_path / "receiver"),
        sharers=[str(tmp_path / "sharer"), str(tmp_path / "second")], fusers=fusers, methods=METHODS, tasks=tasks,
        benchmarks=files, output=tmp_path / "records.parquet", recipe="c2c", alignment="span", seed=0, token_budget=100,
    )  # fmt: skip


def test_every_method_of_a_group_answers_every_question_and_names_all_models(run) -> None:
    records = generate(run)
    assert set(records.groupby(["method", "benchmark"]).question_id.nunique()) == {8}
    assert set(records.method) == set(METHODS)
    assert list(records.receiver.unique()) == [run.receiver]
    assert list(records.sharer.unique()) == [TOGETHER.join(run.sharers)]
    assert list(records.recipe.unique()) == ["sequential"]
    read = records.groupby("method").sharer_tokens_in.sum()
    assert read["c2c_zeroed"] == 0 < read["c2c_zeroed_1"]
    assert read["c2c_zeroed_1"] + read["c2c_zeroed_2"] == read["c2c"]


def test_the_command_writes_what_the_function_gives_with_its_provenance(run) -> None:
    files = [f"{name}={path}" for name, path in run.benchmarks.items()]
    given = {"scale": [run.scale], "pair": [run.pair], "receiver": [run.receiver], "sharer": run.sharers,
             "fuser": run.fusers, "recipe": ["c2c"],
             "alignment": ["span"], "seed": ["0"], "methods": ["c2c"], "tasks": [str(run.tasks)],
             "benchmarks": files, "output": [str(run.output)], "fusion": ["parallel"]}  # fmt: skip
    assert main(["generate", *(part for flag, value in given.items() for part in (f"--{flag}", *value))]) == 0
    assert set(read_records([run.output]).recipe) == {"parallel"}
    assert run.output.with_name("records.parquet.provenance.json").is_file()


def test_other_weights_of_a_fuser_make_other_answers(run) -> None:
    before = run.fingerprint()
    moved = Path(shutil.copytree(run.fusers[0], f"{run.fusers[0]}_changed"))
    (moved / "model.safetensors").write_bytes(b"other")
    assert replace(run, fusers=[str(moved), run.fusers[1]]).fingerprint() != before


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"methods": ("c2c_zeroed_3",)}, "--methods"),
        ({"fusion": "serial"}, "--fusion"),
        ({"sharers": ["one"] * 5, "fusers": ["one"] * 5}, "1 to 4 Sharers"),
        ({"methods": ("t2t",)}, "--methods"),
        ({"sharers": ["one"], "fusers": ["one"]}, "--methods"),
        ({"fusers": ["one"]}, "2 Sharers, 1 folders"),
        ({"token_budget": 0}, "token budget"),
    ],
)
def test_impossible_groups_are_refused(run, changes, rule) -> None:
    with pytest.raises(RefusedError, match=rule):
        replace(run, **changes)
