"""A training that measures its memory: which budget it chooses, and that the choice changes no result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from c2c import RefusedError
from c2c.cli.main import main
from c2c.models.memory_meter import MEMORY_SHARE, MemoryMeter, most_rows
from c2c.training.config import TrainingConfig, read_budget
from c2c.training.run import cost
from tests.training.command import command, same_files, save_inputs
from tests.training.conftest import weights

BYTES = 10**5
"""Of a token."""
LEARNED = 12
"""Bytes of a parameter's gradient and of AdamW's two moments."""


@pytest.fixture
def folder(pair, rows, tmp_path) -> Path:
    save_inputs(tmp_path, pair, rows)
    return tmp_path


class TokenMeter:
    """A device on which a token of a micro-batch takes so many bytes, and a backward pass some more.

    Args:
        built: The learner whose batches are counted.
        tokens: How many fit into what is free.
        fails: Tokens from which memory runs out.
    """

    def __init__(self, built, tokens: int, fails: int = 10**9) -> None:
        self.built, self.fails, self.runs = built, fails, []
        learned = LEARNED * sum(parameter.numel() for parameter in built.parameters)
        # One byte more, since the share of what is free is rounded.
        self.bytes = int((BYTES * tokens + learned) / MEMORY_SHARE) + 1

    def free(self) -> int:
        return self.bytes

    def peak_of(self, work) -> int | None:
        batches, original = [], self.built.collate

        def collate(examples):
            batches.append(original(examples))
            return batches[-1]

        self.built.collate = collate
        # Gradients of micro-batches before this one
        assert all(parameter.grad is not None for parameter in self.built.parameters)
        work()
        self.built.collate = original
        tokens = batches[0].input_ids.numel()
        self.runs.append(tokens)
        return None if tokens >= self.fails else BYTES * tokens


def measured(trainer, name: str, tokens: int, fails: int = 10**9, **changes):
    """A trainer with ``auto`` on a device that holds so many tokens."""
    built = trainer(name, micro_batch_tokens="auto", **changes)
    built.meter = TokenMeter(built, tokens, fails)
    return built


def longest(built) -> int:
    """Tokens of the longest example."""
    return max(map(sum, built.lengths))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_budget_is_the_most_whole_examples_that_fit(trainer, count) -> None:
    built = measured(trainer, "auto", 0)
    longest_first = sorted(built.training, key=lambda row: len(row.prompt.receiver_ids) + len(row.response_ids))[::-1]
    tokens = built.collate(longest_first[:count]).input_ids.numel()
    built.meter = TokenMeter(built, tokens)
    assert built._measure_budget() == tokens


def test_a_budget_that_holds_the_whole_batch_cuts_nothing(trainer) -> None:
    # A trainer draws its noise from where it was built: one is run before the next is built.
    history = measured(trainer, "auto", 10**6).run()[1]
    assert history.to_csv() == trainer("plain").run()[1].to_csv()


def test_memory_that_runs_out_while_it_is_measured_is_the_upper_bound(trainer) -> None:
    built = measured(trainer, "auto", 10**6)
    size = longest(built)
    built.meter = TokenMeter(built, 10**6, fails=2 * size + 1)
    assert built._measure_budget() == 2 * size
    assert max(built.meter.runs) > 2 * size


def test_a_longest_example_for_which_memory_does_not_suffice_is_refused(trainer) -> None:
    built = measured(trainer, "auto", 10**6, fails=1)
    with pytest.raises(RefusedError, match="Memory must suffice for the longest example"):
        built.run()


def test_an_example_beyond_the_share_of_free_memory_is_run_alone(trainer) -> None:
    built = measured(trainer, "auto", 1)
    assert built._measure_budget() == longest(built)


@pytest.mark.parametrize("grouping", ["loop", "grouped"])
def test_measuring_leaves_weights_gradients_optimiser_and_noise_as_they_were(trainer, grouping) -> None:
    built = measured(trainer, "auto", 30, dropout=0.5, grouping=grouping)
    built._step(1, [0, 1, 2, 3])
    before, noise = weights(built), torch.get_rng_state()
    moments = [state["exp_avg"].clone() for state in built.optimizer.state.values()]
    built._measure_budget()
    assert built.meter.runs
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(built).items())
    assert all(parameter.grad is None for parameter in built.parameters)
    now = [state["exp_avg"] for state in built.optimizer.state.values()]
    assert all(torch.equal(*pair) for pair in zip(now, moments, strict=True))
    assert torch.equal(torch.get_rng_state(), noise)


def test_a_measured_budget_trains_with_the_bytes_of_the_same_number(trainer) -> None:
    auto = measured(trainer, "auto", 40, dropout=0.5)
    _, history = auto.run()
    budget = auto.token_budget
    assert 0 < budget <= 40
    number = trainer("number", micro_batch_tokens=budget, dropout=0.5)
    assert number.run()[1].to_csv() == history.to_csv()
    assert all(torch.equal(tensor, weights(number)[name]) for name, tensor in weights(auto).items())
    assert cost(auto)["micro_batch_tokens"] == cost(number)["micro_batch_tokens"] == budget


def test_losses_without_noise_depend_on_no_budget(trainer) -> None:
    # With this rate rounding is not amplified from step to step, as AdamW's first steps do it.
    exact = {"dropout": 0.0, "variant": "ungated", "learning_rate": 1e-5}
    plain = trainer("plain", **exact).run()[1]
    for tokens in (1, 25, 45):
        auto = measured(trainer, f"auto{tokens}", tokens, **exact).run()[1]
        for column in ("loss", "validation_loss"):
            assert auto[column].dropna().tolist() == pytest.approx(plain[column].dropna().tolist(), abs=1e-6)


@pytest.mark.parametrize("stop", [1, 5])
def test_a_training_that_was_cut_off_resumes_with_the_budget_it_began_with(trainer, monkeypatch, stop, capsys) -> None:
    whole = measured(trainer, "whole", 40)
    _, history = whole.run()
    cut = measured(trainer, "cut", 40)
    original = cut._step

    def interrupted(step, indices):
        if step == stop:
            raise KeyboardInterrupt
        return original(step, indices)

    monkeypatch.setattr(cut, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    # More memory is free than before.
    resumed = measured(trainer, "cut", 1000)
    capsys.readouterr()
    assert resumed.run()[1].to_csv() == history.to_csv()
    assert resumed.meter.runs == []
    assert "micro_batch_tokens" not in capsys.readouterr().err
    assert all(torch.equal(tensor, weights(resumed)[name]) for name, tensor in weights(whole).items())


def test_a_measured_budget_that_does_not_hold_later_is_halved(trainer, capsys) -> None:
    built = measured(trainer, "auto", 80)
    original = built._loss

    def loss(batch):
        if len(built.progress.history) and torch.is_grad_enabled() and batch.input_ids.numel() > 30:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return original(batch)

    built._loss = loss
    built.run()
    assert built.token_budget < 40
    assert "memory does not suffice" in capsys.readouterr().err


def test_the_command_measures_this_machine_and_its_records_have_the_budget(folder) -> None:
    sets = {"data": folder / "set.jsonl", "validation": folder / "set.jsonl"}
    assert main(command(folder, "auto", sets, steps=2, **{"micro-batch-tokens": "auto"})[3:]) == 0
    config = json.loads((folder / "auto/config.json").read_text())["about"]["training"]
    provenance = json.loads((folder / "auto.provenance.json").read_text())
    assert config["micro_batch_tokens"] == provenance["training"]["cost"]["micro_batch_tokens"] > 0
    assert provenance["settings"]["micro_batch_tokens"] == "auto"
    # The number alone gives the same weights on any machine.
    again = {"micro-batch-tokens": config["micro_batch_tokens"]}
    assert main(command(folder, "number", sets, steps=2, **again)[3:]) == 0
    assert same_files(folder / "auto", folder / "number")


def test_the_search_takes_the_most_rows_of_any_growth_and_runs_none_that_must_fail() -> None:
    runs: list[int] = []

    def peak_of(rows: int) -> int:
        runs.append(rows)
        return max(20 + 10 * rows, 15 * rows)

    for allowance, most in ((25, 64), (30, 64), (45, 64), (60, 64), (200, 64), (500, 64), (500, 7), (10**6, 64)):
        exact = max((n for n in range(1, most + 1) if peak_of(n) <= allowance), default=0)
        runs.clear()
        rows = most_rows(peak_of, allowance, most)
        assert max(runs) <= max(2 * exact, 1)
        assert exact // 2 <= rows <= exact


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_meter_of_a_gpu_sees_what_is_allocated() -> None:
    meter = MemoryMeter(torch.device("cuda"))
    assert meter.peak_of(lambda: torch.empty(10**8, dtype=torch.uint8, device="cuda")) == pytest.approx(1e8, rel=0.01)
    assert meter.peak_of(lambda: torch.empty(10**13, dtype=torch.uint8, device="cuda")) is None
    assert 0 < meter.free() <= torch.cuda.mem_get_info()[1]


def test_the_meter_of_a_cpu_sees_what_is_allocated_and_freed_again() -> None:
    meter, size = MemoryMeter(torch.device("cpu")), 2 * 10**8
    assert meter.free() > 0
    assert meter.peak_of(lambda: torch.ones(size, dtype=torch.uint8)) == pytest.approx(size, rel=0.3)
    assert meter.peak_of(lambda: torch.ones(size // 4, dtype=torch.uint8)) < size
    assert meter.peak_of(lambda: torch.empty(10**15, dtype=torch.uint8)) is None


def test_an_error_that_is_no_lack_of_memory_is_passed_on() -> None:
    def work() -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        MemoryMeter(torch.device("cpu")).peak_of(work)


def test_memory_of_another_device_is_refused() -> None:
    with pytest.raises(RefusedError, match="Memory must be that of a CUDA device"):
        MemoryMeter(torch.device("meta"))


def test_a_budget_is_auto_or_a_number() -> None:
    assert [read_budget(text) for text in ("auto", "0", "8192")] == ["auto", 0, 8192]
    for text in ("all", "-1", "1.5"):
        with pytest.raises(RefusedError, match="must be auto or a whole number"):
            read_budget(text)
    for value in ("all", -1, True, 1.5, None):
        with pytest.raises(RefusedError, match="micro_batch_tokens must be auto or a whole number of 0 to"):
            TrainingConfig(micro_batch_tokens=value)
