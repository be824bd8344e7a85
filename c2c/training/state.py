"""Exact resume: everything that the rest of a training run depends on, written atomically (design §7)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from c2c.errors import RefusedError
from c2c.training.processes import Processes

PROGRESS = "progress.json"
BEST = "best.safetensors"


@dataclass
class Progress:
    """How far a run has come.

    Args:
        history: One row a step that is done.
        trained: The examples of each of them, by their numbers: the sampler's position is their count.
        best_step: The step with the lowest validation loss, 0 if weights are not kept for it.
        best: The Fusers' weights after that step.
        processes: How many processes have trained.
        seconds: How long these steps took, with validation and checkpoints.
        seconds_at: The same at the end of steps whose Fusers are kept.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    trained: list[list[int]] = field(default_factory=list)
    best_step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    processes: int = 1
    seconds: float = 0.0
    seconds_at: dict[str, float] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Steps that are done."""
        return len(self.history)


def save(processes: Processes, folder: Path, progress: Progress) -> None:
    """Keep weights, optimiser, schedule, the random states of each process and progress in ``folder/step-<step>``.

    The folder gets its name only when it is complete; a process that is killed leaves the previous one.
    """
    unfinished, finished = folder / "unfinished", folder / f"step-{progress.steps}"
    if processes.is_first:
        shutil.rmtree(unfinished, ignore_errors=True)
    processes.wait()
    processes.accelerator.save_state(str(unfinished), safe_serialization=True)
    processes.wait()
    if processes.is_first:
        _finish(unfinished, finished, progress)
    processes.wait()


def _finish(unfinished: Path, finished: Path, progress: Progress) -> None:
    if progress.best:
        save_file(progress.best, unfinished / BEST)
    told = {name: value for name, value in vars(progress).items() if name != "best"}
    (unfinished / PROGRESS).write_text(json.dumps(told), encoding="utf-8")
    _remove(finished)
    unfinished.rename(finished)
    for other in _steps(finished.parent):
        if other != finished:
            _remove(other)


def forget(folder: Path) -> None:
    """Remove all that `save` and `keep` wrote; a process that is killed in between leaves nothing that resumes."""
    for step in _steps(folder):
        _remove(step)
    shutil.rmtree(folder, ignore_errors=True)


def _steps(folder: Path) -> list[Path]:
    """The folders of steps, the last one last."""
    return sorted(folder.glob("step-*"), key=lambda path: int(path.name.split("-")[1]))


def _remove(step: Path) -> None:
    """First the file that says that the step is complete."""
    (step / PROGRESS).unlink(missing_ok=True)
    shutil.rmtree(step, ignore_errors=True)


def resume(processes: Processes, folder: Path) -> Progress:
    """Load the last complete step of `folder`; an empty progress if there is nothing to resume.

    Raises:
        RefusedError: If it was trained by another number of processes, whose noise and sums would be others.
    """
    complete = [step.name for step in _steps(folder) if (step / PROGRESS).is_file()]
    last = processes.agree(complete[-1] if complete else "")
    if not last:
        return Progress(processes=processes.count)
    state = folder / last
    told = json.loads((state / PROGRESS).read_text(encoding="utf-8"))
    if (before := told.get("processes", 1)) != processes.count:
        raise RefusedError(
            f"A training is resumed with as many processes as it was begun with: {before}",
            processes.count,
            f"Start {before}, or remove {folder} to begin anew",
        )
    best = load_file(state / BEST) if (state / BEST).is_file() else {}
    processes.accelerator.load_state(str(state))
    return Progress(**told, best=best)


def keep(folder: Path, step: int, weights: Mapping[str, Tensor]) -> None:
    """Keep the Fusers' weights after a step until the run ends; they are there whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "unfinished.safetensors"
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, unfinished)
    unfinished.replace(_kept(folder, step))


def kept(folder: Path, step: int) -> dict[str, Tensor]:
    """The weights that `keep` kept."""
    return load_file(_kept(folder, step))


def _kept(folder: Path, step: int) -> Path:
    return folder / f"kept-{step}.safetensors"
