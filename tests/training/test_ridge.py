"""Fusers that start from a closed form: what is fitted, that step 0 fuses it, and that it stays with the Fusers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from c2c.checkpoints.checkpoint import load_stack
from c2c.errors import RefusedError
from c2c.fuser.ridge import PENALTIES, RidgeFit, RidgeStack, flatten_halves, solve_ridge
from c2c.fuser.stack import FuserStack
from c2c.provenance import file_hash
from c2c.rosetta import RosettaModel
from c2c.training import state
from c2c.training.config import TrainingConfig
from c2c.training.fusers import FuserLearner, TrainingRun
from c2c.training.latent import LatentRun
from c2c.training.run import train
from c2c.training.store_states import StoreStatesRun, store_states
from c2c.training.together import train_together
from c2c.types import CacheShape, KeyValue
from tests.training.command import save_inputs
from tests.training.conftest import SMALL, tokenise

RIDGE = {**SMALL, "output_init": "ridge", "dropout": 0.1, "learning_rate": 1e-3}


@pytest.fixture
def rows(word_tokenizer) -> list[dict[str, str]]:
    """Enough tokens for the features of a layer."""
    words = [word for word in word_tokenizer.get_vocab() if word.isalpha()][:8]
    return [
        {"id": str(n), "prompt": " ".join((words * 2)[n % 8 : n % 8 + 5 + n % 4]), "response": words[n % len(words)]}
        for n in range(96)
    ]


@pytest.fixture
def examples(pair, rows):
    return tokenise(rows, pair, "span", 64)


@pytest.fixture
def learner(pair, examples, tmp_path) -> Callable[..., FuserLearner]:
    def build(folder: str = "checkpoints", **changes) -> FuserLearner:
        config = TrainingConfig(**{**RIDGE, **changes})
        return FuserLearner(pair, config, examples, examples[:6], tmp_path / folder)

    return build


@pytest.fixture
def folder(pair, rows, tmp_path) -> Path:
    save_inputs(tmp_path, pair, rows)
    return tmp_path


def run_of(folder: Path, output: str, **changes) -> TrainingRun:
    return TrainingRun(
        receiver=str(folder / "receiver"),
        sharer=str(folder / "sharer"),
        recipe="c2c",
        config=TrainingConfig(**{**RIDGE, "max_length": 64, **changes}),
        data=folder / "set.jsonl",
        validation=folder / "set.jsonl",
        checkpoints=folder / "checkpoints",
        output=folder / output,
    )


def rows_of(count: int = 90) -> tuple[Tensor, Tensor]:
    """Rows of ten features, one of which never changes, and six outputs that partly follow from them."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(count, 10, generator=draw, dtype=torch.float64) * torch.arange(1, 11) + 3
    rows[:, 4] = 2.0
    targets = rows @ torch.randn(10, 6, generator=draw, dtype=torch.float64)
    return rows, targets + 9 * torch.randn(count, 6, generator=draw, dtype=torch.float64)


def solved(rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, float, float]:
    sums = (rows.sum(0), targets.sum(0), rows.T @ rows, rows.T @ targets, targets.square().sum())
    return solve_ridge(len(rows), *sums)


def test_the_regression_from_sums_is_that_of_the_rows_with_the_penalty_of_the_least_error() -> None:
    rows, targets = rows_of()
    weight, bias, penalty, explained = solved(rows, targets)
    # By the hat matrix of the standardised rows
    spread = rows.std(0, unbiased=False)
    inputs = (rows - rows.mean(0)) / (spread + 1e-3 * spread.square().mean().sqrt() + 1e-12)
    centred, gram = targets - targets.mean(0), inputs.T @ inputs
    size, errors, leave_one_out, predictions = float(gram.trace()) / 10, {}, {}, {}
    for share in PENALTIES:
        hat = inputs @ torch.linalg.solve(gram + share * size * torch.eye(10), inputs.T) + 1 / len(rows)
        residuals = targets - hat @ targets
        errors[share] = float(residuals.square().sum()) / len(rows) / (1 - float(hat.trace()) / len(rows)) ** 2
        leave_one_out[share] = float((residuals / (1 - hat.diagonal())[:, None]).square().mean(0).sum())
        predictions[share] = hat @ targets
    assert penalty == min(errors, key=errors.__getitem__)
    torch.testing.assert_close(rows @ weight + bias, predictions[penalty], rtol=1e-6, atol=1e-6)
    assert explained == pytest.approx(1 - errors[penalty] * len(rows) / float(centred.square().sum()))
    # Close to the error of rows that are left out, one at a time
    assert errors[penalty] == pytest.approx(leave_one_out[penalty], rel=0.05)


def test_rows_that_hold_nothing_give_the_mean() -> None:
    _, targets = rows_of()
    weight, bias, _, explained = solved(torch.zeros(len(targets), 10, dtype=torch.float64), targets)
    assert not weight.any() and explained <= 0
    torch.testing.assert_close(bias, targets.mean(0))


def states_of(model: torch.nn.Module, ids: list[int]) -> list[KeyValue]:
    cache = model(input_ids=torch.tensor([ids]), use_cache=True).past_key_values
    return [(layer.keys, layer.values) for layer in cache.layers]


@torch.no_grad()
def test_the_closed_form_is_fitted_on_what_both_models_read_of_the_prefix(learner, pair, examples) -> None:
    built = learner()
    stack = built.stack
    assert isinstance(stack, RidgeStack)
    for layer, link in stack.links.items():
        parts = []
        for example in examples:
            ids = example.prompt.receiver_ids[:-1]
            sharer, receiver = (states_of(loaded.model, ids) for loaded in (pair.sharer, pair.receiver))
            parts.append((flatten_halves(sharer[link.sharer_layer])[0], flatten_halves(receiver[layer])[0]))
        rows, targets = (torch.cat(part).double() for part in zip(*parts, strict=True))
        weight, bias, penalty, _ = solved(rows, targets)
        torch.testing.assert_close(stack.base.weight[layer], weight.float(), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(stack.base.bias[layer], bias.float(), rtol=1e-3, atol=1e-3)
        assert built.ridge["penalties"][str(layer)] == penalty
    assert built.ridge["examples"] == len(examples) and built.ridge["tokens"] == len(rows) == stack.base.tokens


@torch.no_grad()
def test_the_first_step_fuses_the_closed_form_and_nothing_else(learner) -> None:
    stack = learner().stack.eval()
    draw = torch.Generator().manual_seed(1)
    sharer, receiver = (
        [
            (
                torch.randn(2, shape.heads, 5, shape.head_dim, generator=draw),
                torch.randn(2, shape.heads, 5, shape.head_dim, generator=draw),
            )
            for _ in range(shape.layers)
        ]
        for shape in (stack.sharer, stack.receiver)
    )
    matched = torch.tensor([[True, True, False, True, False], [True] * 5])
    for is_open in (True, False):
        stack.force_gates(is_open)
        fused = stack(sharer, receiver, matched)
        for layer, link in stack.links.items():
            predictions = stack.base.predict(layer, sharer[link.sharer_layer])
            alone = stack.fuse_layer(layer, sharer[link.sharer_layer], receiver[layer], matched)
            for half in range(2):
                expected = torch.where(matched[:, None, :, None], predictions[half], receiver[layer][half])
                torch.testing.assert_close(fused[layer][half], expected)
                torch.testing.assert_close(alone[half], expected)
    stack.only_layers([])
    assert all(new is old for new, old in zip(stack(sharer, receiver), receiver, strict=True))


def test_a_run_cut_off_and_resumed_ends_with_the_same_bits(learner, monkeypatch) -> None:
    stack, history = learner("whole").run()
    save, base = state.save, stack.base.weight.clone()

    def save_then_die(accelerator, folder, progress) -> None:
        save(accelerator, folder, progress)
        if progress.steps == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(state, "save", save_then_die)
        with pytest.raises(KeyboardInterrupt):
            learner("cut").run()
    resumed, history_resumed = learner("cut").run()
    for name, tensor in stack.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert history.to_csv() == history_resumed.to_csv()
    assert torch.equal(base, resumed.base.weight) and base.any()


def test_what_learns_is_the_fusers_alone(learner) -> None:
    built = learner()
    before = {name: tensor.clone() for name, tensor in built.stack.state_dict().items()}
    stack, _ = built.run()
    changed = {name for name, tensor in stack.state_dict().items() if not torch.equal(tensor, before[name])}
    assert any("proj_out" in name for name in changed) and not any(name.startswith("base.") for name in changed)


def test_a_plain_training_has_no_closed_form_in_its_files(learner, folder) -> None:
    stack = learner(output_init="default").stack
    assert type(stack) is FuserStack and not any(name.startswith("base.") for name in stack.state_dict())
    train(run_of(folder, "plain", output_init="default"))
    assert "base" not in json.loads((folder / "plain" / "config.json").read_text())


def test_a_checkpoint_keeps_the_closed_form(folder, examples) -> None:
    notes = train(run_of(folder, "fuser", keep_steps=(2,)))
    stack, about = load_stack(folder / "fuser")
    assert isinstance(stack, RidgeStack) and about["training"]["output_init"] == "ridge"
    assert stack.base.tokens == notes["ridge"]["tokens"] > 0 and notes["ridge"]["examples"] == len(examples)
    kept, _ = load_stack(folder / "fuser.steps" / "step2")
    assert torch.equal(kept.base.weight, stack.base.weight)
    sources = {"receiver": str(folder / "receiver"), "sharers": str(folder / "sharer")}
    model = RosettaModel.from_pretrained(folder / "fuser", **sources)
    assert isinstance(model.stacks[0], RidgeStack)
    model.save_pretrained(folder / "again")
    again = RosettaModel.from_pretrained(folder / "again", **sources)
    ids = torch.tensor([examples[0].prompt.receiver_ids])
    sections = [torch.tensor([[1, 0]]).expand(1, ids.shape[1] - 1, 2), torch.tensor([[[-1, 0]]])]
    answers = [part.generate(sections, ids, max_new_tokens=3).tolist() for part in (model, again)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("base", "rule"),
    [
        ({"tokens": "many"}, r"base in config\.json must hold"),
        ({}, r"base in config\.json must hold"),
        (None, "must hold exactly the tensors"),
    ],
)
def test_a_checkpoint_whose_closed_form_does_not_fit_its_config_is_refused(folder, base, rule) -> None:
    train(run_of(folder, "fuser"))
    config, manifest = (folder / "fuser" / name for name in ("config.json", "manifest.json"))
    content = json.loads(config.read_text()) | {"base": base}
    config.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    hashes = json.loads(manifest.read_text())
    hashes["sha256"]["config.json"] = file_hash(config)
    manifest.write_text(json.dumps(hashes))
    with pytest.raises(RefusedError, match=rule):
        load_stack(folder / "fuser")


def test_stored_states_and_training_together_give_the_same_closed_form_and_losses(folder) -> None:
    plain = run_of(folder, "plain")
    train(plain)
    sources = {"receiver": plain.receiver, "sharer": plain.sharer}
    store_states(StoreStatesRun(**sources, data=[folder / "set.jsonl"], max_length=64, output=folder / "states"))
    train(replace(plain, states=folder / "states", output=folder / "stored"))
    train_together([replace(plain, output=folder / "together"), run_of(folder, "default", output_init="default")])
    weight = load_stack(folder / "plain")[0].base.weight
    losses = pd.read_csv(folder / "plain" / "history.csv")
    for name in ("stored", "together"):
        torch.testing.assert_close(load_stack(folder / name)[0].base.weight, weight, rtol=1e-4, atol=1e-5)
        pd.testing.assert_frame_equal(pd.read_csv(folder / name / "history.csv"), losses, rtol=1e-5, atol=1e-5)


def test_the_closed_form_of_a_silent_sharer_is_the_mean(learner) -> None:
    stack = learner(sharer_cache="zeroed").stack
    assert not stack.base.weight.any() and stack.base.bias.any()


def test_too_few_tokens_are_refused_before_any_step(learner) -> None:
    with pytest.raises(RefusedError, match="must be fitted on 4 tokens or more"):
        learner(ridge_examples=2)


def test_a_fit_counts_only_tokens_that_are_fused() -> None:
    shape = CacheShape(2, 1, 2)
    stack = RidgeStack(FuserStack.of_shapes(shape, shape, hidden_dim=4, intermediate_dim=4))
    states = [(torch.randn(2, 1, 3, 2), torch.randn(2, 1, 3, 2)) for _ in range(2)]
    with RidgeFit(stack) as fit:
        stack.eval()(states, states, torch.tensor([[True, False, True], [True, False, False]]))
    assert fit.tokens == {0: 3, 1: 3} and stack.fit is None
    with pytest.raises(RefusedError, match="for each of 4 features"):
        fit.solve()


def test_a_latent_space_has_no_such_start(tmp_path) -> None:
    with pytest.raises(RefusedError, match="must start from random weights"):
        LatentRun(
            pairs=["one"],
            receivers=["receiver"],
            sharers=["sharer"],
            train=[tmp_path],
            validation=[tmp_path],
            latent_layers=1,
            latent_heads=1,
            latent_head_dim=2,
            config=TrainingConfig(**RIDGE),
            checkpoints=tmp_path,
            output=tmp_path,
        )
