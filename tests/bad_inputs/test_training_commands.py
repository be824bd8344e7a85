"""Each command of training and of made data, with each of its input files spoilt: one line, exit code 2, no output."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import agreement, prepare, teacher
from benchmarks.private import make as gap
from benchmarks.speed import __main__ as speed
from benchmarks.world import make, pretrain, shots
from c2c.cli.main import main as c2c
from c2c.evaluation.methods.routing import RouterTrainingRun, train_router
from c2c.storage.files import host
from c2c.storage.locks import locked
from c2c.training.config import TrainingConfig
from c2c.training.examples import Examples
from c2c.training.fusers import TrainingRun
from c2c.training.latent import LatentRun
from c2c.training.run import train
from c2c.training.single import SingleRun
from c2c.training.tokenised_set import identity, write_tokenised
from tests.bad_inputs.refusals import refused

Command = Callable[[list[str]], int]
SPOIL: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-30]),
    "compressed": lambda path: path.write_bytes(gzip.compress(path.read_bytes())),
    "random bytes": lambda path: path.write_bytes(b"\xff\xfe" + os.urandom(600)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "of another kind": lambda path: path.write_text("[[1, 2], [3]]\n"),
}
TRAIN = [
    "train",
    "--checkpoints",
    "states",
    "--output",
    "out",
    "--hidden-dim",
    "8",
    "--steps",
    "2",
    "--batch-size",
    "2",
]
SIZES = ["--latent-layers", "2", "--latent-heads", "1", "--latent-head-dim", "4"]
CONFIG = TrainingConfig(steps=2, batch_size=2)
MODELS = {"receiver": "receiver", "sharer": "sharer"}
SETS = (Path("set.parquet"), Path("good.parquet"))
SOURCE = "reader=arc,dataset=a/b,split=train,revision=main"


def of_arguments(main: Callable[[], int]) -> Command:
    """A command that reads ``sys.argv``."""

    def run(arguments: list[str]) -> int:
        sys.argv = ["command", *arguments]
        return main()

    return run


PAIR = ["--receiver", "receiver", "--sharer", "sharer"]
COMMANDS: dict[str, tuple[str, Command, list[str]]] = {
    "tokenise --data": ("lines.jsonl", c2c, ["tokenise", *PAIR, "--data", "lines.jsonl", "--output", "out"]),
    "train --data": ("lines.jsonl", c2c, [*TRAIN, *PAIR, "--data", "lines.jsonl", "--validation", "good.jsonl"]),
    "train --validation": ("lines.jsonl", c2c, [*TRAIN, *PAIR, "--data", "good.jsonl", "--validation", "lines.jsonl"]),
    "train --tokenised": ("set.parquet", c2c, [*TRAIN, *PAIR, "--tokenised", "good.parquet", "set.parquet"]),
    "train-single --tokenised": (
        "set.parquet",
        c2c,
        ["train-single", *TRAIN[1:], *PAIR, "--tokenised", "set.parquet", "good.parquet"],
    ),
    "train-latent --train": (
        "set.parquet",
        c2c,
        ["train-latent", *TRAIN[1:], *SIZES, "--pairs", "a", "--receivers", "receiver", "--sharers", "sharer",
         "--train", "set.parquet", "--validation", "good.parquet"],
    ),
    "teacher --lines": (
        "lines.jsonl",
        of_arguments(teacher.main),
        ["--model", "receiver", "--lines", "lines.jsonl", "--output", "out"],
    ),
    "prepare --without": (
        "lines.jsonl",
        of_arguments(prepare.main),
        ["training-set", "--source", SOURCE, "--asked-as", "letter", "--without", "lines.jsonl", "--validation", "1",
         "--train-output", "out", "--validation-output", "out2"],
    ),
    "pretrain --world": ("world.json", pretrain.main, ["--world", "world.json", "--output", "out"]),
    "shots --world": (
        "world.json",
        shots.main,
        ["--world", "world.json", "--benchmark", "knowledge_gap_free", "--output", "out"],
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch, chat_receiver, chat_sharer, capsys) -> Path:
    """A current folder with good files; models there are tokenizers alone, so that loading one would be an error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["command"])
    for name, tokenizer in (("receiver", chat_receiver), ("sharer", chat_sharer)):
        tokenizer.save_pretrained(name)
    row = '{"id": "a", "question": "home", "prompt": "what is the color of home", "response": "red"}\n'
    examples = Examples(chat_receiver, chat_sharer, "span", "plain", 2048)
    rows = [{"id": str(n), "prompt": "what is the color of home", "response": "red"} for n in range(4)]
    for name in ("lines", "good"):
        (tmp_path / f"{name}.jsonl").write_text(row * 4)
    for name in ("set", "good"):
        made_for = identity(chat_receiver, chat_sharer, "span", "plain", 2048)
        write_tokenised(tmp_path / f"{name}.parquet", examples.of(rows), made_for, {"left_out": {}})
    assert make.main(["--entities", "16", "--output", "world.json", "--benchmarks", "b", "--training-set", "t"]) == 0
    capsys.readouterr()
    return tmp_path


def ended_with_one_line(code: int, error: str) -> bool:
    last = error.strip().splitlines()[-1]
    return code == 2 and "Traceback" not in error and " must " in last and len(last) < 4000


# A benchmark without questions leaves nothing out of a training set, so an empty one is no fault.
SPOILT = [(name, how) for name in COMMANDS for how in SPOIL if (name, how) != ("prepare --without", "empty")]


@pytest.mark.parametrize(("name", "how"), SPOILT)
def test_a_spoilt_input_file_is_refused_before_anything_is_written(name, how, folder, capsys) -> None:
    file, command, arguments = COMMANDS[name]
    SPOIL[how](folder / file)
    before = set(folder.iterdir())
    code = command(arguments)
    assert ended_with_one_line(code, capsys.readouterr().err)
    assert not {path.name for path in set(folder.iterdir()) - before} - {"states"}
    assert not (folder / "states").exists() or not list((folder / "states").iterdir())


WRONG: dict[str, tuple[Command, list[str]]] = {
    "make of no sixteenths": (
        make.main,
        ["--entities", "17", "--output", "out", "--benchmarks", "out", "--training-set", "out"],
    ),
    "pretrain of NaN": (pretrain.main, ["--world", "world.json", "--output", "out", "--learning-rate", "nan"]),
    "gap of negative sizes": (
        of_arguments(gap.main),
        ["--task", "words", "--seed", "0", "--test", "-1", "--train", "5", "--validation", "5", "--benchmark", "out"],
    ),
    "gap of more rows than names": (
        of_arguments(gap.main),
        ["--task", "private_line", "--seed", "0", "--test", "1000000000", "--train", "5", "--validation", "5",
         "--benchmark", "out"],
    ),
    "prepare of a negative sample": (
        of_arguments(prepare.main),
        ["benchmark", "--reader", "arc", "--dataset", "a/b", "--split", "test", "--sample", "-1", "--output", "out"],
    ),
    "teacher of NaN": (
        of_arguments(teacher.main),
        ["--model", "receiver", "--lines", "lines.jsonl", "--output", "out", "--temperature", "nan"],
    ),
    "speed of no thread": (speed.main, ["--threads", "0", "--output", "out"]),
    "train of NaN": (
        c2c,
        [*TRAIN, *PAIR, "--data", "lines.jsonl", "--validation", "good.jsonl", "--learning-rate", "nan"],
    ),
    "train of an endless seed": (
        c2c,
        [*TRAIN, *PAIR, "--data", "lines.jsonl", "--validation", "good.jsonl", "--seed", str(2**70)],
    ),
    "train-latent of a billion layers": (
        c2c,
        ["train-latent", *TRAIN[1:], *SIZES, "--latent-layers", "1000000000", "--pairs", "a", "--receivers", "receiver",
         "--sharers", "sharer", "--train", "set.parquet", "--validation", "good.parquet"],
    ),
    "agreement on a benchmark that is not there": (
        agreement.main,
        ["--receiver", "receiver", "--tasks", "none", "--benchmarks", "a=none.jsonl"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_an_impossible_setting_is_refused_before_anything_is_written(name, folder, capsys) -> None:
    command, arguments = WRONG[name]
    before = set(folder.iterdir())
    code = command(arguments)
    assert ended_with_one_line(code, capsys.readouterr().err)
    assert set(folder.iterdir()) == before


RUNS: dict[str, Callable[[], Any]] = {
    "train": lambda: TrainingRun(
        **MODELS, recipe="c2c", config=CONFIG, tokenised=SETS, checkpoints=Path("states"), output=Path("out")
    ),
    "train-single": lambda: SingleRun(
        **MODELS, config=CONFIG, tokenised=SETS, checkpoints=Path("states"), output=Path("out.json")
    ),
    "train-latent": lambda: LatentRun(
        pairs=["a"], receivers=["receiver"], sharers=["sharer"], train=SETS[:1], validation=SETS[1:], latent_layers=1,
        latent_heads=1, latent_head_dim=2, config=CONFIG, checkpoints=Path("states"), output=Path("out"),
    ),
    "train-router": lambda: RouterTrainingRun(
        receiver="receiver", records=Path("none"), tasks=Path("none"), benchmarks={}, output=Path("out")
    ),
}  # fmt: skip
TRAINERS = {
    "train": train, "train-single": train, "train-latent": train, "train-router": train_router,
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_f16_a_training_that_runs_already_is_refused_before_a_model_is_read_and_told_who_runs_it(name, folder) -> None:
    run = RUNS[name]()
    place = run.output if name == "train-router" else run.checkpoints / run.key()
    with locked(place, "train"), refused("must train", f'"pid": {os.getpid()}', host(), "end it"):
        TRAINERS[name](run)
    assert not (folder / "out").exists()
