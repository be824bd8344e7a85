"""The pickles of released fusers, read without running code and without trust in the sizes that they name."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from c2c.checkpoints.released_folder import DOWNLOAD_AGAIN
from c2c.errors import RefusedError
from c2c.fuser.weights import Form

LARGEST_PICKLE = 16 * 2**20
"""Bytes of the part of a file that names its tensors; a fuser's has a few thousand."""
CALLABLES = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch DoubleStorage",
    "torch FloatStorage",
    "torch HalfStorage",
    "torch BFloat16Storage",
}
"""What a state dict of dense floating-point tensors is made by. torch's own list has more, some of which allocate what
they are told to (``bytearray``), or make tensors without memory."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of ``torch.save``, mapped from the disk: no number is read and no memory allocated yet.

    Raises:
        RefusedError: If the file is no state dict of dense floating-point tensors alone.
    """
    # The archive and the operations of its pickle, then the tensors
    rule = f"{path.name} must be a pickle of tensors alone"
    try:
        problem = _problem(path)
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise RefusedError(rule, type(error).__name__, DOWNLOAD_AGAIN) from error
    if problem:
        raise RefusedError(rule, problem, DOWNLOAD_AGAIN)
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise RefusedError(rule, type(error).__name__, DOWNLOAD_AGAIN) from error
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise RefusedError(f"{path.name} must hold tensors by name", type(state).__name__, "Use the matching files")
    if odd := [name for name in state if not isinstance(name, str)]:
        raise RefusedError(f"{path.name} must hold tensors by names that are text", odd, "Use the matching files")
    # A tensor of few numbers may claim a large shape by strides of 0
    shared = [name for name, tensor in state.items() if tensor.nbytes > tensor.untyped_storage().nbytes()]
    if shared:
        raise RefusedError(
            f"{path.name} must hold each number of a tensor",
            [f"{name[:80]} is {tuple(state[name].shape)} with strides {state[name].stride()}" for name in shared],
            "Save contiguous tensors (tensor.contiguous()), or download it again",
        )
    return dict(state)


def forms_of(state: Mapping[str, Tensor]) -> dict[str, Form]:
    """The form of each tensor."""
    return {name: Form(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for name, tensor in state.items()}


def _problem(path: Path) -> str | None:
    """What is wrong with the archive, or what its pickle calls beyond CALLABLES."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            return "a compressed archive"
        names = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(names) != 1 or names[0].file_size > LARGEST_PICKLE:
            return "an archive without one data.pkl of a few kilobytes"
        content = archive.read(names[0])
    # The operations are listed, not run: nothing is called before its name is known to be harmless.
    for operation, argument, _ in pickletools.genops(content):
        if operation.name == "GLOBAL" and argument not in CALLABLES:
            return f"a call of {argument!s:.80}"
        if operation.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            return f"the operation {operation.name}, which torch.save does not write"
    return None
