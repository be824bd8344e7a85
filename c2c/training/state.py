"""Exact resume: everything that the rest of a training run depends on, written atomically (design §7)."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor

PROGRESS = "progress.json"
BEST = "best.safetensors"


@dataclass
class Progress:
    """How far a run has come.

    Args:
        history: One row a step that is done.
        trained: The examples of each of them, by their numbers.
        best_step: The step with the lowest validation loss, 0 if weights are not kept for it.
        best: The Fusers' weights after that step.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    trained: list[list[int]] = field(default_factory=list)
    best_step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Steps that are done."""
        return len(self.history)


def save(accelerator: Accelerator, folder: Path, progress: Progress) -> None:
    """Keep weights, optimiser, schedule, random states and progress in ``folder/step-<step>``.

    The folder gets its name only when it is complete; a process that is killed leaves the previous one.
    """
    unfinished, finished = folder / "unfinished", folder / f"step-{progress.steps}"
    shutil.rmtree(unfinished, ignore_errors=True)
    accelerator.save_state(str(unfinished), safe_serialization=True)
    if progress.best:
        save_file(progress.best, unfinished / BEST)
    told = {name: value for name, value in vars(progress).items() if name != "best"}
    (unfinished / PROGRESS).write_text(json.dumps(told), encoding="utf-8")
    if finished.exists():
        shutil.rmtree(finished)
    unfinished.rename(finished)
    for older in folder.glob("step-*"):
        if older != finished:
            shutil.rmtree(older)


def resume(accelerator: Accelerator, folder: Path) -> Progress:
    """Load the last complete step of `folder`; an empty progress if there is nothing to resume."""
    complete = sorted(folder.glob(f"step-*/{PROGRESS}"), key=lambda path: int(path.parent.name.split("-")[1]))
    if not complete:
        return Progress()
    state = complete[-1].parent
    told = json.loads(complete[-1].read_text(encoding="utf-8"))
    best = load_file(state / BEST) if (state / BEST).is_file() else {}
    accelerator.load_state(str(state))
    return Progress(**told, best=best)
