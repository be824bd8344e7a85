"""``c2c train`` of a tiny pair as a process of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

from c2c.models.pair import Pair

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
FILES = ("model.safetensors", "config.json", "manifest.json", "history.csv", "gates.csv", "order.parquet")
"""What a training writes, all of it the same bytes whenever it was cut off."""


def save_inputs(folder: Path, pair: Pair, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write both models and the lines to learn from; returns the file of lines."""
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(folder / loaded.name)
        loaded.tokenizer.save_pretrained(folder / loaded.name)
    lines = folder / "set.jsonl"
    lines.write_text("\n".join(json.dumps(row) for row in rows))
    return lines


def command(folder: Path, output: str, sets: Mapping[str, Path], **changes: Any) -> list[str]:
    """The command of a training of 60 steps, a checkpoint every 5, into ``folder/output``."""
    arguments = {
        "receiver": folder / "receiver", "sharer": folder / "sharer",
        "checkpoints": folder / f"checkpoints-{output}", "output": folder / output,
        "steps": 60, "batch-size": 4, "hidden-dim": 16, "intermediate-dim": 16, "checkpoint-every": 5,
        "evaluate-every": 30, "max-length": 64, **changes,
    }  # fmt: skip
    flags = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
    given = [part for name, path in sets.items() for part in (f"--{name}", str(path))]
    if "tokenised" in sets:
        given.append(str(sets["tokenised"]))
    return [sys.executable, "-m", "c2c.cli", "train", *flags, *given]


def wait_for_step(process: Popen[Any], checkpoints: Path) -> None:
    """Return once the training has saved a step."""
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("*/step-*")):
        assert process.poll() is None, "the run ended before it saved a step"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def same_files(one: Path, other: Path) -> bool:
    """Whether two trainings have written the same bytes."""
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in FILES)
