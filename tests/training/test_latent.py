"""A latent space in training: its pairs learn in turn, the result is whole after a cut, and any pair can be asked."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from c2c.cli import main
from c2c.errors import RefusedError
from c2c.evaluation.schema import TOGETHER, read_records
from c2c.pair import LoadedModel, Pair
from c2c.training import state
from c2c.training.config import TrainingConfig
from c2c.training.latent import LatentTrainer, PairExamples
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
    def build(folder: str = "checkpoints", pairs=NAMES, **changes) -> LatentTrainer:
        made = []
        for name, receiver, sharer in pairs:
            pair = Pair(models[receiver], models[sharer])
            examples = tokenise(rows, pair, "span", 64)
            made.append(PairExamples(name, pair, examples, examples[:3]))
        config = TrainingConfig(**{**SMALL, "steps": 8, "learning_rate": 1e-2, **changes})
        return LatentTrainer(made, LATENT, config, tmp_path / folder)

    return build


def weights(trainer: LatentTrainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.space.state_dict().items()}


def test_each_step_moves_the_encoder_and_decoder_of_the_pair_whose_turn_it_is_and_no_other(latent) -> None:
    built, parts = latent(), {}
    step = LatentTrainer._step
    for number, (_, receiver, sharer) in enumerate(NAMES, start=1):
        before = weights(built)
        step(built, number, [0, 1, 2, 3])
        moved = {
            ".".join(name.split(".")[:2])
            for name, tensor in weights(built).items()
            if not torch.equal(tensor, before[name]) and "temperature" not in name
        }
        parts[receiver, sharer] = moved
    encoders, decoders = {"left": "encoders.0", "right": "encoders.1"}, {"first": "decoders.0", "second": "decoders.1"}
    # With a warm-up the first step has a learning rate of zero.
    assert parts.pop(("first", "left")) <= {"encoders.0", "decoders.0"}
    assert parts == {key: {encoders[key[1]], decoders[key[0]]} for key in parts}


def test_all_gates_anneal_together_whichever_pair_learned(latent) -> None:
    built = latent(steps=4, warmup_ratio=0.0)
    built.run()
    temperatures = {float(each) for name, each in built.space.named_buffers() if "temperature" in name}
    assert len(temperatures) == 1 and temperatures.pop() == pytest.approx(0.001)


def test_the_loss_falls_and_history_and_order_name_the_pair_of_each_step(latent) -> None:
    built = latent(steps=80, evaluate_every=80)
    stacks, history = built.run()
    assert list(stacks) == [name for name, *_ in NAMES]
    assert list(history["pair"][:5]) == ["one", "two", "three", "four", "one"]
    assert list(built.trained()["pair"]) == list(history["pair"])
    assert history["loss"].iloc[-8:].mean() < 0.5 * history["loss"].iloc[:8].mean()
    assert history["validation_deranged_loss"].notna().sum() == 1
    for name, _, _ in NAMES:
        ids = built.trained().set_index("pair").loc[[name], "ids"].explode()
        assert set(ids.iloc[:10]) == {str(number) for number in range(10)} or ids.iloc[:10].nunique() >= 8


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
    assert whole.trained().equals(resumed.trained())
    other = weights(resumed)
    assert all(torch.equal(tensor, other[name]) for name, tensor in weights(whole).items())


def test_micro_batches_learn_what_the_whole_batch_does(latent) -> None:
    whole, parts = (
        latent("whole", variant="ungated", dropout=0.0),
        latent("parts", variant="ungated", dropout=0.0, micro_batch_size=1),
    )
    whole.run(), parts.run()
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(tensor, weights(parts)[name], atol=1e-4, rtol=1e-3)


def test_no_pair_a_pair_twice_and_fused_responses_are_refused(latent) -> None:
    for pairs in ([], [NAMES[0], NAMES[0]]):
        with pytest.raises(RefusedError, match="has pairs, each once"):
            latent(pairs=pairs)
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
    records = asked("generate-group", "both.parquet", pair="both", receiver=str(tmp_path / "first"), sharers=sharers,
                    fusers=folders, fusion="sequential")  # fmt: skip
    assert set(records["recipe"]) == {"latent_sequential"}
    assert set(records["sharer"]) == {TOGETHER.join(sharers)}
    assert records["error"].fillna("").eq("").all()


def test_lists_of_different_lengths_are_refused_before_any_model_is_loaded(capsys, tmp_path) -> None:
    given = ["--pairs", "a", "b", "--receivers", "x", "--sharers", "y", "z", "--train", "t", "--validation", "v"]
    sizes = ["--latent-layers", "1", "--latent-heads", "1", "--latent-head-dim", "1"]
    assert main(["train-latent", *given, *sizes, "--checkpoints", "c", "--output", str(tmp_path / "o")]) == 2
    assert "Each of the 2 pairs has a Receiver" in capsys.readouterr().err
