"""Exact resume: everything that the rest of a training run depends on, written whole and checked when it is read.

A step is a folder ``step-<number>``. Its ``progress.json`` is written last; it holds the version of this format, the
SHA-256 of each other file, and that of its own content. The last two steps are kept, so that one that was spoilt on
the disk costs the time since the one before.
"""

from __future__ import annotations

import json
import pickle
import random
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import load as load_states
from accelerate.utils.constants import SAFE_MODEL_NAME
from safetensors.torch import load_file, save_file
from torch import Tensor

from c2c.errors import RefusedError
from c2c.provenance import file_hash, settings_hash
from c2c.storage.files import replace, unfinished_path, written_whole
from c2c.storage.manifests import read_object
from c2c.training.processes import Processes

PROGRESS = "progress.json"
BEST = "best.safetensors"
VERSION = 1
STEPS_KEPT = 2
STEP = re.compile(r"step-(\d{1,15})")
RANDOM_STATES = "random_states_{}.pkl"
"""As accelerate names those of a process."""


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
        shared_seconds: This run's share of passes that several runs have used; `seconds` has nothing of them.
        shared_seconds_at: The same at the end of steps whose Fusers are kept.
        kept: SHA-256 of the files of these Fusers, by their step.
        micro_batch_tokens: Tokens that fit into the memory at once, where this was measured or fewer than the config's
            fitted; else 0.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    trained: list[list[int]] = field(default_factory=list)
    best_step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    processes: int = 1
    seconds: float = 0.0
    seconds_at: dict[str, float] = field(default_factory=dict)
    shared_seconds: float = 0.0
    shared_seconds_at: dict[str, float] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    micro_batch_tokens: int = 0

    @property
    def steps(self) -> int:
        """Steps that are done."""
        return len(self.history)

    def charge(self, step: int, own: float, shared: float) -> None:
        """Add seconds of a step that is done, negative ones where others bear them."""
        self.seconds += own
        self.shared_seconds += shared
        for kept in self.seconds_at:
            if int(kept) >= step:
                self.seconds_at[kept] += own
                self.shared_seconds_at[kept] = self.shared_seconds_at.get(kept, 0.0) + shared


class _SpoiltError(Exception):
    """Why training cannot resume from a step."""


def keep_rows_apart(accelerator: Accelerator) -> None:
    """Save and load parameters that are views of one tensor as others; safetensors' models refuse or drop them."""

    def copy_weights(models: Any, weights: list[dict[str, Tensor]], folder: str) -> None:
        weights[:] = [{name: tensor.clone() for name, tensor in module.items()} for module in weights]

    def load(models: list[Any], folder: str) -> None:
        # What is loaded here is taken from accelerate's list.
        (module,) = models
        module.load_state_dict(load_file(Path(folder) / f"{SAFE_MODEL_NAME}.safetensors"))
        models.clear()

    accelerator.register_save_state_pre_hook(copy_weights)
    accelerator.register_load_state_pre_hook(load)


def save(processes: Processes, folder: Path, progress: Progress) -> None:
    """Keep weights, optimiser, schedule, the random states of each process and progress in ``folder/step-<step>``.

    The folder gets its name only when it is complete and on the disk; a process that is killed leaves the previous one.

    Raises:
        OSError: In all processes, if one of them cannot write.
    """
    target = folder / f"step-{progress.steps}"
    with processes.together():
        name = str(unfinished_path(target)) if processes.is_first else ""
    # Every process writes its random states into one and the same folder.
    unfinished = Path(processes.agree(name))
    try:
        with processes.together():
            processes.accelerator.save_state(str(unfinished), safe_serialization=True)
        with processes.together():
            if processes.is_first:
                _finish(unfinished, target, progress)
    finally:
        if processes.is_first:
            shutil.rmtree(unfinished, ignore_errors=True)


def _finish(unfinished: Path, target: Path, progress: Progress) -> None:
    if progress.best:
        save_file(progress.best, unfinished / BEST)
    files = {path.name: file_hash(path) for path in sorted(unfinished.iterdir())}
    names = [RANDOM_STATES.format(rank) for rank in range(progress.processes)]
    if gaps := [name for name in names if name not in files]:
        raise RefusedError(
            "The random states of every process must be in one folder",
            f"{gaps} are missing in {target.parent}",
            "Let --checkpoints be on a file system that all hosts of the training share",
        )
    # All of `Progress` but the weights, which have a file of their own
    content = {item.name: getattr(progress, item.name) for item in fields(progress) if item.name != "best"}
    content |= {"version": VERSION, "files": files}
    text = json.dumps({**content, "sha256": settings_hash(content)})
    (unfinished / PROGRESS).write_text(text, encoding="utf-8")
    _remove(target)
    replace(unfinished, target)
    # Those behind it were spoilt, or training would have resumed from them.
    complete = [path for path in _steps(target.parent) if (path / PROGRESS).is_file()]
    last = complete[: complete.index(target) + 1][-STEPS_KEPT:]
    for step in _steps(target.parent):
        if step not in last:
            _remove(step)


def forget(folder: Path) -> None:
    """Remove what `save` and `save_weights` wrote; a process that is killed in between leaves nothing that resumes."""
    for step in _steps(folder):
        _remove(step)
    shutil.rmtree(folder, ignore_errors=True)


def steps_of(folder: Path) -> list[int]:
    """The steps that `save` has kept, the last one last."""
    return [_number(step) for step in _steps(folder) if (step / PROGRESS).is_file()]


def _steps(folder: Path) -> list[Path]:
    """The folders of steps, the last one last; what has another name is none."""
    return sorted((path for path in folder.glob("step-*") if STEP.fullmatch(path.name) and path.is_dir()), key=_number)


def _number(step: Path) -> int:
    return int(step.name.removeprefix("step-"))


def _remove(step: Path) -> None:
    """First the file that says that the step is complete."""
    (step / PROGRESS).unlink(missing_ok=True)
    shutil.rmtree(step, ignore_errors=True)


def resume(processes: Processes, folder: Path) -> Progress:
    """Load the last step of `folder` that is as it was saved; an empty progress if there is none.

    A step that is not (a file is missing, cut off or changed) is reported on stderr, and the one before is taken.

    Raises:
        RefusedError: In all processes: if the step was trained by another number of processes, whose noise and sums
            would be others, is of a newer version of this package, or does not fit this training.
    """
    # One process checks the hashes of large files; all take the step that it chose.
    progress, last = Progress(processes=processes.count), ""
    with processes.together():
        if processes.is_first:
            last = _last_step(folder, processes.count)
    last = processes.agree(last)
    if not last:
        return progress
    with processes.together():
        content = read_object(folder / last / PROGRESS)
        saved = {item.name: content[item.name] for item in fields(Progress) if item.name in content}
        best = load_file(folder / last / BEST) if BEST in content["files"] else {}
        progress = Progress(**saved, best=best)
        _load(processes, folder / last)
    return progress


def _last_step(folder: Path, processes: int) -> str:
    """The name of the last step that is as it was saved, or none; steps that are not used are reported."""
    spoilt, name = [], ""
    for step in reversed(_steps(folder)):
        try:
            _check(step, processes)
        except _SpoiltError as fault:
            spoilt.append(f"{step.name} is not used: {fault}")
        else:
            name = step.name
            break
    if spoilt:
        remedy = f"The training resumes from {name}" if name else "The training begins anew"
        print(f"{folder}: {'; '.join(spoilt)}. {remedy}.", file=sys.stderr)
    return name


def _check(step: Path, processes: int) -> None:
    """Compare a step with what its `PROGRESS` says.

    Raises:
        RefusedError: If it is sound, but not for this package or this number of processes.
    """
    try:
        content = read_object(step / PROGRESS)
    except RefusedError as refusal:
        raise _SpoiltError(str(refusal)) from refusal
    version = content.get("version")
    if isinstance(version, int) and version > VERSION:
        raise RefusedError(
            f"Saved states must be of version {VERSION}, or an earlier one",
            f"version {version} in {step}",
            f"Resume with the version of this package that saved them, or remove {step.parent} to begin anew",
        )
    hash_content = {name: value for name, value in content.items() if name != "sha256"}
    if version != VERSION:
        raise _SpoiltError("an earlier version of this package saved it")
    if settings_hash(hash_content) != content.get("sha256") or len(content["history"]) != _number(step):
        raise _SpoiltError(f"{PROGRESS} has changed since it was saved")
    # Files of the step itself, and fusers of earlier steps that the training must still write.
    hashes = {step / name: sha256 for name, sha256 in content["files"].items()}
    hashes |= {_weights_path(step.parent, int(number)): sha256 for number, sha256 in content["kept"].items()}
    for path, sha256 in hashes.items():
        if not path.is_file():
            raise _SpoiltError(f"{path.name} is missing")
        if file_hash(path) != sha256:
            raise _SpoiltError(f"{path.name} has changed since it was saved")
    if content["processes"] != processes:
        raise RefusedError(
            f"A training must be resumed with as many processes as it was begun with: {content['processes']}",
            processes,
            f"Start {content['processes']}, or remove {step.parent} to begin anew",
        )


def _load(processes: Processes, step: Path) -> None:
    """Weights, optimiser, schedule and the random states of this process."""
    try:
        # accelerate loads the random states without saying whether it could; they are compared afterwards.
        processes.accelerator.load_state(str(step))
        exact = _has_random_states(step / RANDOM_STATES.format(processes.rank), processes.device)
    except (RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise RefusedError(
            "Saved states must fit the training that resumes from them",
            str(error),
            f"Resume with the version of this package that saved them, or remove {step.parent} to begin anew",
        ) from error
    if not exact:
        raise RefusedError(
            "The random states of every process must be those that were saved",
            f"others, after {step} was loaded on {processes.device}",
            f"Resume on the kind of machine that saved them, or remove {step.parent} to begin anew",
        )


def _has_random_states(path: Path, device: torch.device) -> bool:
    """Whether this process has the saved random states, which accelerate may fail to set without a warning."""
    states = load_states(path)
    # Python, numpy, torch on the CPU, and the GPU of this process
    numbers = states["numpy_random_seed"]
    numpy_state: Any = np.random.get_state(legacy=True)
    matches = [
        random.getstate() == states["random_state"],
        all(np.array_equal(*parts) for parts in zip(numbers, numpy_state, strict=True)),
        torch.equal(torch.get_rng_state(), states["torch_manual_seed"]),
    ]
    if device.type == "cuda":
        number = torch.cuda.current_device() if device.index is None else device.index
        gpus = states.get("torch_cuda_manual_seed", [])
        matches.append(number < len(gpus) and torch.equal(torch.cuda.get_rng_state(device), gpus[number]))
    return all(matches)


def save_weights(folder: Path, step: int, weights: Mapping[str, Tensor]) -> str:
    """Keep the Fusers' weights after a step until the run ends; they are there whole or not at all.

    Returns:
        SHA-256 of the file.
    """
    path = _weights_path(folder, step)
    with written_whole(path) as unfinished:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, unfinished)
    return file_hash(path)


def load_weights(folder: Path, step: int, sha256: str) -> dict[str, Tensor]:
    """The weights that `save_weights` saved.

    Raises:
        RefusedError: If the file is not there, or is another one.
    """
    path = _weights_path(folder, step)
    if (received := file_hash(path)) != sha256:
        rule = f"{path.name} must be as it was saved, with SHA-256 {sha256}"
        raise RefusedError(rule, received, f"Remove {folder}, and train anew")
    return load_file(path)


def _weights_path(folder: Path, step: int) -> Path:
    return folder / f"kept-{step}.safetensors"
