"""Several processes: the same training as one, noise of their own, one exchange a step, exact resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from c2c.cli.main import main
from c2c.errors import NoRoomError, RefusedError
from c2c.training import launch, state
from c2c.training.config import TrainingConfig
from c2c.training.processes import Processes

ALONE = [sys.executable, "-m"]
BY_TORCHRUN = [*ALONE, "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--module"]
FILES = ("model.safetensors", "config.json", "manifest.json", "history.csv", "gates.csv", "order.parquet")


@pytest.fixture
def folder(pair, rows, tmp_path) -> Path:
    """Two models, and a training set whose responses are of very different length."""
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(tmp_path / loaded.name)
        loaded.tokenizer.save_pretrained(tmp_path / loaded.name)
    uneven = [row | {"response": " ".join([row["response"]] * (1 + 3 * (int(row["id"]) % 3)))} for row in rows]
    (tmp_path / "set.jsonl").write_text("\n".join(json.dumps(row) for row in uneven))
    return tmp_path


def arguments(folder: Path, output: str, **changes: Any) -> list[str]:
    given = {
        "receiver": folder / "receiver", "sharer": folder / "sharer",
        "data": folder / "set.jsonl", "validation": folder / "set.jsonl",
        "checkpoints": folder / "checkpoints", "output": folder / output,
        "steps": 8, "batch_size": 5, "hidden_dim": 8, "intermediate_dim": 8, "checkpoint_every": 3,
        "evaluate_every": 4, "max_length": 64, "learning_rate": 1e-3, **changes,
    }  # fmt: skip
    return ["train", *(part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value)))]


def call(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True, **options)


@pytest.mark.parametrize("micro", [0, 2], ids=["whole shares", "a short last part"])
def test_two_processes_train_as_one_does_with_the_same_batches(folder, micro) -> None:
    """Dropout is off and the gates' noise is silent, so that all that differs is who does what.

    Five examples a batch: the two never have as many, nor as many supervised tokens.
    """
    for name, started in (("one", ALONE), ("two", BY_TORCHRUN)):
        given = arguments(folder, name, dropout=0, micro_batch_size=micro, keep_steps=4)
        call([*started, "tests.training.quiet", *given])
    for kept in ("", ".steps/step4"):
        one, two = (load_file(folder / f"{name}{kept}" / "model.safetensors") for name in ("one", "two"))
        for name, tensor in one.items():
            torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-5)
    first = load_file(folder / "one.steps/step4/model.safetensors")
    last = load_file(folder / "one/model.safetensors")
    assert max(float((last[name] - first[name]).abs().max()) for name in last) > 1e-3
    history, other = (pd.read_csv(folder / name / "history.csv").drop(columns="padding") for name in ("one", "two"))
    pd.testing.assert_frame_equal(history, other, rtol=1e-5, atol=1e-5)
    assert (folder / "one/order.parquet").read_bytes() == (folder / "two/order.parquet").read_bytes()
    costs = [
        json.loads((folder / f"{name}.provenance.json").read_text())["training"]["cost"] for name in ("one", "two")
    ]
    assert [cost["processes"] for cost in costs] == [1, 2]
    assert list(costs[1]["seconds"]) == ["4", "8"] and costs[1]["seconds"]["4"] < costs[1]["seconds"]["8"]


def test_two_processes_measure_their_memory_and_train_with_one_budget(folder) -> None:
    output = call([*BY_TORCHRUN, "c2c.cli", *arguments(folder, "two", steps=2, micro_batch_tokens="auto")]).stderr
    budget = json.loads((folder / "two/config.json").read_text())["about"]["training"]["micro_batch_tokens"]
    assert output.count("micro_batch_tokens: ") == 1
    assert f"micro_batch_tokens: {budget} tokens are run at once" in output


@pytest.mark.slow
def test_two_processes_killed_and_started_again_end_with_the_bytes_of_a_whole_run_and_none_trains_on(folder) -> None:
    noisy = {"processes": 2, "steps": 40}
    call([*ALONE, "c2c.cli", *arguments(folder, "whole", **noisy)])
    command = [*ALONE, "c2c.cli", *arguments(folder, "killed", **noisy)]
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (complete := list((folder / "checkpoints").glob("*/step-*/progress.json"))):
        assert killed.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    while _alive(killed.pid):
        assert time.monotonic() < deadline, "a process trains on without its launcher"
        time.sleep(0.05)
    assert not (folder / "killed/manifest.json").exists()
    assert sorted(path.name for path in complete[0].parent.glob("random_states_*")) == [
        "random_states_0.pkl", "random_states_1.pkl",
    ]  # fmt: skip
    refused = subprocess.run(
        [*ALONE, "c2c.cli", *arguments(folder, "killed", steps=40)], capture_output=True, text=True
    )
    assert refused.returncode == 2 and "as many processes as it was begun with: 2; received 1" in refused.stderr
    call(command)
    for name in FILES:
        assert (folder / "whole" / name).read_bytes() == (folder / "killed" / name).read_bytes(), name
    assert not list((folder / "checkpoints").iterdir())


def _alive(session: int) -> list[int]:
    """Processes of a session that are no zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def test_what_several_processes_refuse_is_said_once_and_ends_with_the_same_code(folder) -> None:
    (folder / "set.jsonl").write_text("")
    command = [*ALONE, "c2c.cli", *arguments(folder, "empty", processes=2)]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.count("A training set must have at least one example") == 1
    assert "Traceback" not in refused.stderr


def test_settings_are_refused_before_any_process_is_started(folder, monkeypatch) -> None:
    monkeypatch.setattr(launch, "start", lambda *_: pytest.fail("started"))
    assert main(arguments(folder, "none", processes=2, steps=0)) == 2
    assert main(arguments(folder, "none", processes=0)) == 2
    assert main(arguments(folder, "none", processes=2, batch_size=1)) == 2


TOGETHER = """
import sys
from c2c.errors import NoRoomError, RefusedError
from c2c.training.processes import Processes
processes = Processes.of_this_run()
for error in (OSError(28, "No space left on device", "states"), RefusedError("A rule must hold", 1, "Mend it")):
    try:
        with processes.together():
            if processes.rank == 1:
                raise error
    except type(error) as caught:
        sys.stdout.write(f"{processes.rank}: {type(caught).__name__} {caught}\\n")
with processes.together():
    pass
processes.end()
"""


@pytest.mark.slow
def test_what_one_process_refuses_or_cannot_write_all_processes_raise(tmp_path) -> None:
    (tmp_path / "together.py").write_text(TOGETHER)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launcher, str(tmp_path / "together.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = [
        "OSError [Errno 28] No space left on device: 'states'",
        "RefusedError A rule must hold; received {}. Mend it.",
    ]
    said = sorted(done.stdout.strip().splitlines())
    assert said == sorted(f"{rank}: {text.format(1 if rank else repr('1'))}" for rank in range(2) for text in told)


def _of(rank: int, count: int) -> Processes:
    return Processes(SimpleNamespace(process_index=rank, num_processes=count))  # type: ignore[arg-type]


def test_a_refusal_of_any_class_is_a_refusal_in_the_other_processes(monkeypatch) -> None:
    monkeypatch.setattr("c2c.training.processes.gather_object", lambda items: [*items, (False, ())])
    (own, gathered) = _of(0, 2)._errors(NoRoomError("A text must fit", 9, "Shorten it"))
    assert isinstance(own, NoRoomError)
    assert isinstance(gathered, RefusedError)
    assert gathered.rule == "A text must fit"


def test_each_process_draws_noise_of_its_own_the_same_one_each_time_and_the_first_that_of_one_alone() -> None:
    def drawn(rank: int, seed: int) -> list[float]:
        torch.manual_seed(seed)
        _of(rank, 3).seed_noise(seed)
        return torch.rand(3).tolist()

    alone = torch.rand(3, generator=torch.Generator().manual_seed(7)).tolist()
    assert drawn(0, 7) == alone
    streams = [drawn(rank, seed) for seed in (7, 8) for rank in range(3)]
    assert len({tuple(stream) for stream in streams}) == 6
    assert drawn(2, 7) == streams[2]


def test_each_part_of_a_batch_is_done_by_exactly_one_process() -> None:
    shares = [_of(rank, 3).share(range(7)) for rank in range(3)]
    assert sorted(part for share in shares for part in share) == list(range(7))
    assert {len(share) for share in shares} == {2, 3}


def test_gradients_are_exchanged_once_a_step_and_only_those_of_the_fusers(trainer, monkeypatch) -> None:
    built, exchanged = trainer(micro_batch_size=1), []
    monkeypatch.setattr(Processes, "sum_gradients", lambda self, parameters: exchanged.append(parameters))
    built.run()
    assert len(exchanged) == built.config.steps
    fusers = {id(parameter) for parameter in built.stack.parameters()}
    assert all({id(parameter) for parameter in parameters} == fusers for parameters in exchanged)


def test_a_training_is_not_resumed_by_another_number_of_processes(trainer) -> None:
    built = trainer(steps=3)
    built.run()
    with pytest.raises(RefusedError, match="must be resumed with as many processes as it was begun with: 1"):
        state._last_step(built.checkpoints, processes=2)


def test_a_batch_has_an_example_for_each_process() -> None:
    TrainingConfig(batch_size=4).check_processes(4)
    with pytest.raises(RefusedError, match="each of the 4 processes"):
        TrainingConfig(batch_size=3).check_processes(4)


def test_a_process_that_no_launcher_started_is_alone(monkeypatch) -> None:
    for name in (launch.RANK, launch.COUNT, launch.LAUNCHER):
        monkeypatch.delenv(name, raising=False)
    assert launch.is_first() and not launch.is_started()
    launch.end_with_launcher()
    assert os.getpid()
