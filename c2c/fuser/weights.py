"""Weights of Fusers in files: what a file holds is compared with what the Fusers need before anything is allocated.

The order in which a folder is read: its JSON; the header of its weights, which names each tensor and is bounded by the
file's size; Fusers on the meta device, which have shapes and no memory, compared with the header; hashes; and only then
memory, and the numbers. So a small file cannot ask for more memory than its own size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from c2c.errors import RefusedError
from c2c.fuser.config import FuserConfig
from c2c.fuser.variants import create_fuser

NUMBERS = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Kinds of numbers that weights can be, by their names in safetensors and in torch."""
USE_MATCHING = "Use the matching files"
FEW_LAYERS = 16


class Form(NamedTuple):
    """Shape and dtype of a tensor in a file, the dtype by its name in torch."""

    shape: tuple[int, ...]
    dtype: str


def read_header(path: Path, remedy: str) -> dict[str, Form]:
    """The form of each tensor in a safetensors file, of which nothing else is read.

    Raises:
        RefusedError: If it is no safetensors file, or claims more than it holds.
    """
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {name: _form(view.get_shape(), view.get_dtype()) for name, view in slices.items()}
    except (SafetensorError, OSError, MemoryError) as error:
        raise RefusedError(f"{path.name} must be a safetensors file", str(error), remedy) from error


def _form(shape: Iterable[int], dtype: str) -> Form:
    return Form(tuple(shape), NUMBERS.get(dtype, dtype))


def forms(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a module, by its name."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


class Needs:
    """The tensors that Fusers need, each kind of Fuser built once, on the meta device."""

    def __init__(self) -> None:
        self._forms: dict[FuserConfig, dict[str, tuple[int, ...]]] = {}

    def of(self, config: FuserConfig) -> dict[str, tuple[int, ...]]:
        """Names and shapes of one Fuser's tensors."""
        # The layers of a stack usually have one config, so one Fuser is built for all of them.
        if config not in self._forms:
            with torch.device("meta"):
                self._forms[config] = forms(create_fuser(config))
        return self._forms[config]


def check_depth(config: FuserConfig, tensors: int, where: str) -> None:
    """Refuse a deep Fuser of more layers than its file holds tensors, before its modules are built without memory.

    One of few layers is built at once, and `check_forms` names each tensor that is missing.

    Raises:
        RefusedError: With both numbers.
    """
    if config.num_layers > max(tensors, FEW_LAYERS):
        received = f"{tensors} tensors; of {config.num_layers} layers some are missing"
        raise RefusedError(f"{where} must hold exactly the tensors of its fuser", received, USE_MATCHING)


def check_forms(needed: Mapping[str, tuple[int, ...]], actual: Mapping[str, Form], where: str) -> None:
    """Refuse tensors that are missing, unknown, misshapen or no floating-point numbers.

    Raises:
        RefusedError: With the names that differ.
    """
    # Names, then shapes, then dtypes
    wrong = [f"missing {name}" for name in needed if name not in actual]
    wrong += [f"unknown {name!s:.80}" for name in actual if name not in needed]
    wrong += [
        f"{name} is {actual[name].shape}, expected {shape}"
        for name, shape in needed.items()
        if name in actual and actual[name].shape != shape
    ]
    wrong += [
        f"{name} is {actual[name].dtype:.20}, expected floating-point numbers"
        for name in needed
        if name in actual and actual[name].dtype not in NUMBERS.values()
    ]
    if wrong:
        raise RefusedError(f"{where} must hold exactly the tensors of its fuser", wrong, USE_MATCHING)


def check_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        RefusedError: With the names of the tensors that hold them.
    """
    wrong = [f"{name} is not finite" for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if wrong:
        raise RefusedError(f"{where} must hold finite weights", wrong, "Download or train the fuser again")


def load_weights(module: nn.Module, state: Mapping[str, Any], where: str) -> None:
    """Give a module of the meta device memory, in its own precision, and the numbers of `state`, whose forms fit.

    Raises:
        RefusedError: If a number is not finite.
    """
    check_finite(state, where)
    # Memory without numbers: `load_state_dict` with strict=True fills every tensor, buffers included.
    module.to_empty(device="cpu")
    module.load_state_dict(state, strict=True)
