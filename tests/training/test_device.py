"""What spares a device time in a training changes no result: grouping, budgets of tokens, rare readings, compiling."""

from __future__ import annotations

import csv
import re
import threading
import traceback

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from c2c import RefusedError
from c2c.training.config import TrainingConfig
from c2c.training.fusers import FuserLearner
from c2c.training.learner import within_budget
from c2c.training.utilisation import PEAKS, peak_flops

from .conftest import weights

EXACT = {"dropout": 0.0, "learning_rate": 1e-3}


def assert_alike(first, second) -> None:
    for column in ("loss", "gradient_norm", "validation_loss"):
        a, b = (history[column].dropna().tolist() for history in (first, second))
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("changes", [{}, {"gate_noise": "logistic"}, {"variant": "low_rank"}, {"recompute": "fusers"}])
def test_fusers_that_are_trained_together_have_the_losses_of_those_one_after_the_other(trainer, changes) -> None:
    # A trainer draws its noise from where it was built: each is run before the next is built.
    loop = trainer("loop", grouping="loop", **EXACT, **changes)
    stack, history = loop.run()
    grouped = trainer("grouped", grouping="grouped", **EXACT, **changes)
    twin, twin_history = grouped.run()
    assert_alike(history, twin_history)
    assert list(stack.state_dict()) == list(twin.state_dict())
    assert len(grouped.parameters) < len(loop.parameters) or changes.get("variant") == "low_rank"


def test_grouped_training_that_was_cut_off_resumes_with_the_same_bits(trainer, monkeypatch) -> None:
    whole = trainer("whole", grouping="grouped")
    _, history = whole.run()
    cut = trainer("cut", grouping="grouped")
    original = cut._step

    def interrupted(step, indices):
        if step == 5:
            raise KeyboardInterrupt
        return original(step, indices)

    monkeypatch.setattr(cut, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    resumed = trainer("cut", grouping="grouped")
    _, resumed_history = resumed.run()
    assert history.to_csv() == resumed_history.to_csv()
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


def test_the_history_does_not_depend_on_how_often_the_device_is_read(trainer) -> None:
    histories = [trainer(f"every{every}", log_every=every).run()[1].to_csv() for every in (1, 4, 1000)]
    assert len(set(histories)) == 1


@pytest.mark.parametrize("grouping", ["loop", "grouped"])
@pytest.mark.parametrize("what", ["loss", "gradients"])
def test_a_step_that_is_not_finite_is_named_and_the_weights_stay_those_before_it(trainer, grouping, what) -> None:
    options = {"log_every": 1000, "evaluate_every": 100, "checkpoint_every": 100, "grouping": grouping}
    built = trainer(**options)
    original, before, calls = built._loss, {}, []

    def loss(batch):
        calls.append(batch)
        if len(calls) == 3:
            before.update(weights(built))
        value = original(batch)
        if len(calls) != 3:
            return value
        # Of the gradients alone: the square root of zero has no finite slope.
        return value * torch.nan if what == "loss" else value + (value - value.detach()).clamp(min=0).sqrt()

    built._loss = loss
    rule = "The loss" if what == "loss" else "The norm of the gradients"
    with pytest.raises(RefusedError, match=rf"{rule} must be a finite number at every step; received 'nan at step 3"):
        built.run()
    assert len(calls) > 3
    for name, tensor in weights(built).items():
        if "temperature" not in name:
            assert torch.equal(tensor, before[name]), name


def test_micro_batches_keep_to_their_budget_of_padded_tokens() -> None:
    lengths = [(5, 1), (6, 2), (6, 2), (7, 9), (30, 1)]
    parts = within_budget(range(5), lengths, 24)
    assert parts == [[0, 1, 2], [3], [4]]
    assert within_budget(range(5), lengths, 1) == [[0], [1], [2], [3], [4]]


def test_a_budget_that_memory_does_not_hold_is_halved_recorded_and_gives_the_same_training(trainer, capsys) -> None:
    small = trainer("small", micro_batch_tokens=25, **EXACT)
    _, expected = small.run()
    limited = trainer("limited", micro_batch_tokens=100, **EXACT)
    original = limited._loss

    def loss(batch):
        if torch.is_grad_enabled() and batch.input_ids.numel() > 25:
            raise torch.OutOfMemoryError("too large")
        return original(batch)

    limited._loss = loss
    _, history = limited.run()
    assert limited.progress.micro_batch_tokens == 25
    assert history.to_csv() == expected.to_csv()
    assert "memory does not suffice for 100 tokens at once: 50 from now on" in capsys.readouterr().err


def test_without_a_budget_and_for_a_single_example_a_lack_of_memory_is_an_error(trainer) -> None:
    def loss(batch):
        raise torch.OutOfMemoryError("too large")

    for budget in (0, 4):
        built = trainer(f"budget{budget}", micro_batch_tokens=budget)
        built._loss = loss
        with pytest.raises(torch.OutOfMemoryError):
            built.run()


def test_compiled_fusers_train_as_others_do(trainer, monkeypatch) -> None:
    # Captured and differentiated as a compiler does it, but without the minutes of making kernels.
    compilation, compiled = torch.compile, []

    def capture(function, **options):
        compiled.append(function)
        return compilation(function, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", capture)
    options = {**EXACT, "steps": 1, "grouping": "grouped", "num_layers": 3}
    histories = [trainer(name, compile=name, **options).run()[1] for name in ("none", "fusers")]
    assert_alike(*histories)
    assert len(compiled) == 1


def test_compiled_fusers_must_be_computed_together() -> None:
    with pytest.raises(RefusedError, match="Fusers that are compiled must be computed together"):
        TrainingConfig(compile="fusers", grouping="loop")


def test_batches_that_are_collated_ahead_are_those_of_the_order_whatever_the_budget(trainer, monkeypatch) -> None:
    plain = trainer("plain", micro_batch_tokens=25, **EXACT).run()[1]
    monkeypatch.setattr(FuserLearner, "prefetches", property(lambda self: True))
    ahead = trainer("ahead", micro_batch_tokens=100, **EXACT)
    original, threads = ahead._loss, set()
    collate = ahead.collate

    def named(examples):
        threads.add(threading.current_thread().name.partition("_")[0])
        return collate(examples)

    def loss(batch):
        if torch.is_grad_enabled() and batch.input_ids.numel() > 25:
            raise torch.OutOfMemoryError("too large")
        return original(batch)

    ahead.collate, ahead._loss = named, loss
    assert ahead.run()[1].to_csv() == plain.to_csv()
    assert "collate" in threads


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_grouped_from_pinned_batches_as_a_cpu_does(trainer) -> None:
    built = trainer(**EXACT, variant="fuse")
    assert built.prefetches
    _, history = built.run()
    assert built.stack.fusers.trains_grouped
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]


CPU_SIDE = {"collate", "check_inputs", "read_sections", "logits_at", "tokens"}
"""Functions that read values of the batch before it is moved to the device."""


@pytest.mark.parametrize("grouping", ["loop", "grouped"])
def test_a_step_waits_for_the_device_nowhere_but_in_the_masks_of_transformers(trainer, grouping) -> None:
    waits = []

    class Waits(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if any(name in str(func) for name in ("local_scalar_dense", "is_nonzero", "nonzero")):
                frames = traceback.extract_stack()
                if not any(frame.name in CPU_SIDE or "masking_utils" in frame.filename for frame in frames):
                    waits.append((str(func), [frame.name for frame in frames[-6:]]))
            return func(*args, **(kwargs or {}))

    built = trainer(grouping=grouping)
    with Waits():
        row, _ = built._step(1, [0, 1, 2, 3])
    assert waits == []
    assert isinstance(row["loss"], torch.Tensor)


def test_every_peak_has_a_source_and_is_found_by_the_name_of_its_own_device(monkeypatch) -> None:
    with PEAKS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        # The document and its address.
        assert re.fullmatch(r"NVIDIA \w+ .+: https://\S+", row["source"]), row
        monkeypatch.setattr("c2c.training.utilisation.device_name", lambda device, row=row: f"NVIDIA {row['device']}")
        assert peak_flops(torch.device("cpu"), row["precision"]) == float(row["tflops"]) * 1e12


def test_the_share_of_the_peak_is_shown_for_devices_that_are_listed_and_no_other(trainer, monkeypatch, capsys) -> None:
    device = torch.device("cpu")
    assert peak_flops(device, "float32") is None
    plain = trainer("plain")
    _, history = plain.run()
    assert "MFU" not in capsys.readouterr().err
    monkeypatch.setattr("c2c.training.utilisation.device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert peak_flops(device, "bfloat16") == 989e12
    assert peak_flops(device, "float16") is None
    counted = trainer("counted")
    assert counted.run()[1].to_csv() == history.to_csv()
    assert "tokens/s, MFU 0%" in capsys.readouterr().err


def test_a_process_without_a_micro_batch_counts_operations_as_the_others_do(trainer, monkeypatch) -> None:
    built = trainer("counted")
    expected = built._flops_of_token([0, 1])
    monkeypatch.setattr(type(built.processes), "share", lambda self, parts: [])
    assert built._flops_of_token([0, 1]) == expected > 0
