"""Models and tokenizers loaded from the files of a folder, or refused; the folder's own code is never run."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from c2c.errors import RefusedError
from c2c.storage.manifests import read_object

COPY = "Copy or download the folder again"
MOST_LAYERS = 1_000
"""The deepest public models have fewer than 200 layers."""
FEWEST_BYTES, FEWEST_BYTES_QUANTISED = 2.0, 0.5
"""Bytes that a number takes in a file: two, or four bits where the config says that weights are quantised."""
SHOWN = 20
LONGEST_EXCERPT = 300


def load_model_folder(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The causal model of a folder, on the CPU.

    Raises:
        RefusedError: If the folder holds no model, one of a type that transformers does not know, one with weights
            that are missing, of other shapes, not finite, or pickled with anything but tensors, or a config for a
            model that its weights cannot fill.
    """
    config = read_config(folder)
    if (settings := folder / "generation_config.json").is_file():
        read_object(settings, COPY)  # transformers takes one that it cannot read for one that is not there
    _check_size(folder, config)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:
        raise _refusal(f"The weights of {folder.name} must be readable", error) from error
    model: PreTrainedModel = loaded[0]
    _check_complete(folder, loaded[1])
    check_finite(model, folder.name)
    return model


def load_part(loader: Any, folder: Path, what: str) -> Any:
    """What ``loader.from_pretrained`` reads from a folder, such as a tokenizer.

    Raises:
        RefusedError: If it cannot be read, or could only be read by running the folder's own code.
    """
    try:
        return loader.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise _refusal(f"The {what} of {folder.name} must be readable without running its own code", error) from error


def check_finite(model: torch.nn.Module, name: str) -> None:
    """Refuse a model with a weight that is NaN or infinite; 0.1 s for 500 million numbers on one CPU core.

    Raises:
        RefusedError: With the names of such weights.
    """
    wrong = [key for key, weight in model.named_parameters() if not _is_finite(weight.detach())]
    if wrong:
        dtype = next(model.parameters()).dtype
        remedy = f"{COPY}; if its numbers are too large for float16, load it in bfloat16 or float32"
        raise RefusedError(f"The weights of {name} must be finite (as {dtype})", wrong[:SHOWN], remedy)


def _is_finite(weight: torch.Tensor) -> bool:
    if weight.numel() == 0 or weight.is_meta or not weight.dtype.is_floating_point or weight.element_size() < 2:
        return True
    # Both ends are NaN where any number is, and no sum can overflow.
    low, high = torch.aminmax(weight)
    return bool(torch.isfinite(low) and torch.isfinite(high))


def read_config(folder: Path) -> PreTrainedConfig:
    """The config of a model folder, if transformers knows its type."""
    content = read_object(folder / "config.json", f"{COPY}; a model's folder holds config.json and weights")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        model_type = content.get("model_type")
        if isinstance(model_type, str) and model_type in CONFIG_MAPPING:
            rule = f"config.json of {folder.name} must be one that transformers {transformers.__version__} can read"
            raise _refusal(rule, error) from error
        code = ", and the code that its folder brings is never run" if "auto_map" in content else ""
        raise RefusedError(
            f"The model_type of {folder.name} must be one that transformers {transformers.__version__} knows{code}",
            model_type,
            "Use a model of a type that it knows, or a later version of transformers",
        ) from error


def _check_size(folder: Path, config: PreTrainedConfig) -> None:
    """Refuse a config that asks for more than the weights' files hold, before any memory is taken for it."""
    name = f"config.json of {folder.name}"
    # Building even without memory takes time for each layer.
    layers = getattr(config.get_text_config(decoder=True), "num_hidden_layers", 0)
    if not isinstance(layers, int) or not 0 <= layers <= MOST_LAYERS:
        raise RefusedError(f"num_hidden_layers in {name} must be a number up to {MOST_LAYERS}", layers, COPY)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        numbers = sum(weight.numel() for weight in model.parameters())
    except Exception as error:
        raise _refusal(f"{name} must describe a causal model that can be built", error) from error
    # No file of weights at all is refused by transformers, with a message of its own.
    size = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    least = FEWEST_BYTES_QUANTISED if getattr(config, "quantization_config", None) else FEWEST_BYTES
    if size and numbers * least > size:
        rule = f"The weights that {name} asks for must fit into its files, which hold {size:,} bytes"
        raise RefusedError(rule, f"{numbers:,} numbers", COPY)


def _check_complete(folder: Path, report: dict[str, Any]) -> None:
    """Refuse a model of which transformers drew some weights at random; tied weights are not missing."""
    # from_pretrained only warns of these.
    missing = [f"{key} is missing" for key in sorted(report["missing_keys"])]
    mismatched = [f"{_key(mismatch)} has another shape" for mismatch in sorted(report["mismatched_keys"], key=str)]
    if wrong := missing + mismatched:
        others = len(wrong) - SHOWN
        excerpt = wrong[:SHOWN] + ([f"and {others} others"] if others > 0 else [])
        raise RefusedError(
            f"The files of {folder.name} must hold all weights that its config.json names", excerpt, COPY
        )


def _key(mismatch: Any) -> str:
    """The name of a weight; transformers gives it with both shapes."""
    return str(mismatch[0]) if isinstance(mismatch, tuple) else str(mismatch)


def _refusal(rule: str, error: Exception) -> Exception:
    """A refusal of a file that cannot be read; an error of the machine (memory, device, rights) as it is."""
    if _is_of_the_machine(error):
        return error
    remedy = f"{COPY}; see that the file is whole, and of a version that transformers {transformers.__version__} reads"
    if any(isinstance(cause, pickle.UnpicklingError) for cause in _chain(error)):
        rule += " as tensors alone; a pickle can hold code, which is never run"
        remedy = "Use the model's safetensors files, or convert it on a machine where that code may run"
    return RefusedError(rule, _excerpt(error), remedy)


def _is_of_the_machine(error: Exception) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, RuntimeError) and any(word in str(error) for word in ("allocate memory", "CUDA error")):
        return True
    return isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError)


def _excerpt(error: Exception) -> str:
    """Type and beginning of an error's text, without advice to run foreign code."""
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        text = "it asks to run code of its own"
    return f"{type(error).__name__}: {text[:LONGEST_EXCERPT]}"


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
