"""A latent space in training: its pairs learn in turn, the result is whole after a cut, and any pair can be asked."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from c2c.cli.main import main
from c2c.errors import RefusedError
from c2c.evaluation.schema import TOGETHER, read_records
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from c2c.training import state
from c2c.training.config import TrainingConfig
from c2c.training.latent import LatentLearner, PairExamples
from c2c.training.tokenise import TokeniseRun, tokenise_file
from c2c.types import CacheShape
from tests.evaluation.conftest import benchmark_files, words  # noqa: F401
from tests.training.conftest import SMALL, tokenise

LATENT = CacheShape(2, 2, 8)
NAMES = [("one", "first", "left"), ("two", "first", "right"), ("three", "second", "left"), ("four", "second", "right")]
"""Each ordered pair with its Receiver and its Sharer."""


@pytest.fixture
def models(tiny_model, word_tokenizer) -> dict[str, LoadedModel]:
    vocab = len(word_tokenizer)
    built = {
        "first": tiny_model("qwen3", vocab=vocab),
        "second": tiny_model("llama", vocab=vocab, seed=3),
        "left": tiny_model("qwen2", vocab=vocab, layers=4, seed=1),
        "right": tiny_model("qwen3", vocab=vocab, layers=2, kv_heads=1, seed=2),
    }
    return {name: LoadedModel(name, model, word_tokenizer) for name, model in built.items()}


@pytest.fixture
def latent(models, rows, tmp_path):
    def build(folder: str = "checkpoints", pairs=NAMES, **changes) -> LatentLearner:
        made = []
        for name, receiver, sharer in pairs:
            pair = Pair(models[receiver], models[sharer])
            examples = tokenise(rows, pair, "span", 64)
            made.append(PairExamples(name, pair, examples, examples[:3]))
        config = TrainingConfig(**{**SMALL, "steps": 8, "learning_rate": 1e-2, **changes})
        return LatentLearner(made, LATENT, config, tmp_path / folder)

    return build


def weights(trainer: LatentLearner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.space.state_dict().items()}


def test_every_encoder_and_decoder_learns_and_the_loss_falls(latent) -> None:
    built = latent(steps=60, batch_size=20, evaluate_every=60)
    before = weights(built)
    stacks, history = built.run()
    after = weights(built)
    assert list(stacks) == [name for name, *_ in NAMES]
    still = [name for name in before if torch.equal(before[name], after[name]) and "gate" not in name]
    assert still == []
    assert history["loss"].iloc[-5:].mean() < 0.6 * history["loss"].iloc[:5].mean()
    assert history["validation_deranged_loss"].notna().sum() == 1


def test_decoders_whose_layers_learn_together_have_the_losses_of_those_one_after_the_other(latent) -> None:
    exact = {"dropout": 0.0, "learning_rate": 1e-3, "batch_size": 8}
    # A trainer draws its noise from where it was built: each is run before the next is built.
    _, expected = latent("loop", grouping="loop", **exact).run()
    grouped = latent("grouped", grouping="grouped", **exact)
    assert all(decoder.fusers.trains_grouped for decoder in grouped.gated_stacks)
    pd.testing.assert_frame_equal(grouped.run()[1], expected, rtol=1e-5, atol=1e-6)


def test_an_encoder_learns_from_the_pairs_of_its_sharer_and_from_no_others(latent) -> None:
    built = latent()
    for number, (_, receiver, sharer) in enumerate(NAMES):
        built.space.zero_grad()
        built.model.train()
        batch = built.collate([example for example in built.training if example.number == number])
        built._loss(batch).backward()
        touched = {
            ".".join(name.split(".")[:2]) for name, each in built.space.named_parameters() if each.grad is not None
        }
        encoders = {"left": "encoders.0", "right": "encoders.1"}
        assert touched == {encoders[sharer], {"first": "decoders.0", "second": "decoders.1"}[receiver]}


def test_the_gradient_of_a_step_is_that_of_all_pairs_together(latent) -> None:
    built = latent(variant="ungated", dropout=0.0, batch_size=8, max_gradient_norm=1e9)
    indices = next(built._batches(0))
    batches = [
        built.collate([built.training[index] for index in part]) for part in built._parts(built.training, indices)
    ]
    assert len(batches) == 4
    total = sum(built._loss(batch) * batch.supervised for batch in batches) / sum(each.supervised for each in batches)
    total.backward()
    expected = float(torch.nn.utils.get_total_norm([each.grad for each in built.space.parameters()]))
    built.space.zero_grad()
    row, _ = built._step(1, indices)
    assert row["gradient_norm"] == pytest.approx(expected, rel=1e-4)
    assert row["loss"] == pytest.approx(float(total), rel=1e-5)


def test_all_gates_anneal_together(latent) -> None:
    built = latent(steps=4)
    built.run()
    temperatures = {float(each) for name, each in built.space.named_buffers() if "temperature" in name}
    assert len(temperatures) == 1 and temperatures.pop() == pytest.approx(0.001)


def test_each_step_has_as_many_examples_of_every_pair_and_each_pair_sees_all_of_its_own(latent) -> None:
    built = latent(steps=10, batch_size=8)
    built.run()
    owners = built.example_ids()["ids"].map(lambda ids: sorted(each.split("/")[0] for each in ids))
    assert all(each == sorted([name for name, *_ in NAMES] * 2) for each in owners)
    seen = built.example_ids()["ids"].iloc[:5].explode()
    assert seen.nunique() == len(seen) == 40  # five steps of two examples are one epoch of each pair's ten


def test_a_run_cut_off_amid_the_pairs_and_resumed_ends_with_the_same_bits_and_history(latent, monkeypatch) -> None:
    whole = latent("whole", checkpoint_every=3)
    _, history = whole.run()
    save = state.save

    def save_then_die(processes, folder, progress) -> None:
        save(processes, folder, progress)
        if progress.steps == 3:
            raise KeyboardInterrupt

    cut = latent("cut", checkpoint_every=3)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(state, "save", save_then_die)
        cut.run()
    resumed = latent("cut", checkpoint_every=3)
    _, again = resumed.run()
    assert history.to_csv() == again.to_csv()
    assert whole.example_ids().equals(resumed.example_ids())
    other = weights(resumed)
    assert all(torch.equal(tensor, other[name]) for name, tensor in weights(whole).items())


def test_memory_is_measured_with_examples_of_one_pair_at_a_time(latent) -> None:
    built = latent("auto", micro_batch_tokens="auto", steps=1)
    collate, batches = built.collate, []
    built.collate = lambda examples: batches.append({example.number for example in examples}) or collate(examples)
    built.run()
    assert built.token_budget > 0
    assert {number for numbers in batches for number in numbers} == set(range(len(built.pairs)))
    assert all(len(numbers) == 1 for numbers in batches)


def test_micro_batches_learn_what_the_whole_batch_does(latent) -> None:
    whole, parts = (
        latent("whole", variant="ungated", dropout=0.0),
        latent("parts", variant="ungated", dropout=0.0, micro_batch_size=1),
    )
    whole.run(), parts.run()
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(tensor, weights(parts)[name], atol=1e-4, rtol=1e-3)


def test_impossible_pairs_and_batches_are_refused(latent) -> None:
    for pairs in ([], [NAMES[0], NAMES[0]]):
        with pytest.raises(RefusedError, match="must have pairs, each once"):
            latent(pairs=pairs)
    with pytest.raises(RefusedError, match="as many examples of each of the 4 pairs; received 'batch_size 6'"):
        latent(batch_size=6)
    with pytest.raises(RefusedError, match="plain responses"):
        latent(response="fused")


@pytest.fixture
def trained(models, rows, tmp_path) -> Path:
    """The folder that ``c2c train-latent`` wrote."""
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, loaded in models.items():
        loaded.model.save_pretrained(tmp_path / name)
        loaded.tokenizer.save_pretrained(tmp_path / name)
    for name, receiver, sharer in NAMES:
        tokenise_file(
            TokeniseRun(
                receiver=str(tmp_path / receiver), sharer=str(tmp_path / sharer), alignment="span", prompts="plain",
                max_length=64, data=tmp_path / "rows.jsonl", output=tmp_path / f"{name}.parquet",
            )
        )  # fmt: skip
    sets = [str(tmp_path / f"{name}.parquet") for name, *_ in NAMES]
    lists = {"pairs": [name for name, *_ in NAMES], "receivers": [str(tmp_path / each) for _, each, _ in NAMES],
             "sharers": [str(tmp_path / each) for *_, each in NAMES], "train": sets, "validation": sets}  # fmt: skip
    one = {**SMALL, "steps": 80, "evaluate_every": 80, "checkpoint_every": 80, "learning_rate": "1e-2",
           "max_length": 64, "latent_layers": 2, "latent_heads": 2, "latent_head_dim": 8,
           "checkpoints": tmp_path / "states", "output": tmp_path / "space"}  # fmt: skip
    given = [part for name, each in lists.items() for part in (f"--{name}", *each)]
    given += [part for name, each in one.items() for part in (f"--{name.replace('_', '-')}", str(each))]
    assert main(["train-latent", *given]) == 0
    return tmp_path / "space"


@pytest.fixture
def asked(trained, benchmark_files, tmp_path):  # noqa: F811
    tasks, files = benchmark_files

    def ask(command: str, output: str, **given) -> pd.DataFrame:
        told = {"scale": "smoke", "tasks": str(tasks), "benchmarks": [f"{name}={path}" for name, path in files.items()],
                "methods": ["c2c", "c2c_deranged"], "recipe": "latent", "alignment": "span", "seed": "42",
                "output": str(tmp_path / output), **given}  # fmt: skip
        flags = [
            (f"--{name.replace('_', '-')}", *([each] if isinstance(each, str) else each)) for name, each in told.items()
        ]
        assert main([command, *(part for flag in flags for part in flag)]) == 0
        return read_records([tmp_path / output])

    return ask


def test_the_command_leaves_each_pair_as_fusers_that_share_what_they_have_in_common(trained) -> None:
    saved = {name: load_file(trained / "pairs" / name / "model.safetensors") for name, *_ in NAMES}

    def part(name: str, kind: str) -> dict[str, torch.Tensor]:
        return {key: tensor for key, tensor in saved[name].items() if key.startswith(kind)}

    def same(kind: str, one: str, other: str) -> bool:
        left, right = part(one, kind), part(other, kind)
        return left.keys() == right.keys() and all(torch.equal(tensor, right[key]) for key, tensor in left.items())

    assert same("encoder", "one", "three") and same("fusers", "one", "two")
    assert not same("encoder", "one", "two") and not same("fusers", "one", "three")
    assert (trained / "history.csv").is_file() and (trained / "order.parquet").is_file()
    told = json.loads(trained.with_name("space.provenance.json").read_text())["training"]
    assert set(told["parameters"]) == {"encoders", "decoders"}


def test_a_pair_is_asked_as_any_with_another_question_as_the_control_and_batches_equal_one_by_one(
    asked, tmp_path
) -> None:
    pair = {"pair": "one", "receiver": str(tmp_path / "first"), "sharer": str(tmp_path / "left"),
            "fuser": str(tmp_path / "space" / "pairs" / "one")}  # fmt: skip
    records = asked("generate", "together.parquet", **pair)
    swapped = records[records["method"] == "c2c_deranged"]
    assert (swapped["sharer_question_id"] != swapped["question_id"]).all()
    right = records[records["method"] == "c2c"]
    assert (right["sharer_question_id"] == right["question_id"]).all()
    assert set(records["recipe"]) == {"latent"}
    singly = asked("generate", "singly.parquet", token_budget="1", **pair)
    assert list(records["output_text"]) == list(singly["output_text"])


def test_two_sharers_are_asked_together_with_encoders_of_one_space(asked, tmp_path) -> None:
    folders = [str(tmp_path / "space" / "pairs" / name) for name in ("one", "two")]
    sharers = [str(tmp_path / name) for name in ("left", "right")]
    records = asked("generate", "both.parquet", pair="both", receiver=str(tmp_path / "first"), sharer=sharers,
                    fuser=folders, fusion="sequential")  # fmt: skip
    assert set(records["recipe"]) == {"latent_sequential"}
    assert set(records["sharer"]) == {TOGETHER.join(sharers)}
    assert records["error"].fillna("").eq("").all()


def test_lists_of_different_lengths_are_refused_before_any_model_is_loaded(capsys, tmp_path) -> None:
    given = ["--pairs", "a", "b", "--receivers", "x", "--sharers", "y", "z", "--train", "t", "--validation", "v"]
    sizes = ["--latent-layers", "1", "--latent-heads", "1", "--latent-head-dim", "1"]
    assert main(["train-latent", *given, *sizes, "--checkpoints", "c", "--output", str(tmp_path / "o")]) == 2
    assert "Each of the 2 pairs must have a Receiver" in capsys.readouterr().err
