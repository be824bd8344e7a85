"""Exact resume: everything that the rest of a training run depends on, written atomically (design §7)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator

PROGRESS = "progress.json"


def save(accelerator: Accelerator, folder: Path, step: int, history: list[dict[str, Any]]) -> None:
    """Keep weights, optimiser, schedule and random states of step `step` in ``folder/step-<step>``.

    The folder gets its name only when it is complete; a process that is killed leaves the previous one.
    """
    unfinished, finished = folder / "unfinished", folder / f"step-{step}"
    shutil.rmtree(unfinished, ignore_errors=True)
    accelerator.save_state(str(unfinished), safe_serialization=True)
    (unfinished / PROGRESS).write_text(json.dumps({"step": step, "history": history}), encoding="utf-8")
    if finished.exists():
        shutil.rmtree(finished)
    unfinished.rename(finished)
    for older in folder.glob("step-*"):
        if older != finished:
            shutil.rmtree(older)


def resume(accelerator: Accelerator, folder: Path) -> tuple[int, list[dict[str, Any]]]:
    """Load the last complete step of `folder`.

    Returns:
        The number of steps done and the history so far; ``(0, [])`` if there is nothing to resume.
    """
    complete = sorted(folder.glob(f"step-*/{PROGRESS}"), key=lambda path: int(path.parent.name.split("-")[1]))
    if not complete:
        return 0, []
    progress = json.loads(complete[-1].read_text(encoding="utf-8"))
    accelerator.load_state(str(complete[-1].parent))
    return progress["step"], progress["history"]
