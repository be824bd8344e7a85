"""Models and tokenizers from where they are: a folder, a model manifest, a mirrored id, a hub id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from c2c.errors import RefusedError, check_choice
from c2c.models import hub
from c2c.models.contract import Lines, describe_model, identify_model
from c2c.models.hub import Identity
from c2c.models.model_folder import load_model_folder, load_part, read_config
from c2c.storage.manifests import is_manifest, read_object, read_source
from c2c.types import DTYPES

FEWEST_TOKENS = 1_000
"""A vocabulary of more tokens holds more than special ones."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")

Dtype = str | torch.dtype
Device = str | torch.device


@dataclass(frozen=True)
class LoadedModel:
    """A frozen causal model, its tokenizer with a pad token, and the name and revision that records carry.

    `lines` are those of a model without weights (`load_without_weights`), which cannot be described otherwise.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    revision: str | None = None
    lines: Lines | None = None

    @property
    def pad(self) -> int:
        """Id that fills rows; masked wherever it stands."""
        return int(self.tokenizer.pad_token_id or 0)

    @cached_property
    def description(self) -> Lines:
        """Its lines in a compatibility contract; see `c2c.models.contract.describe_model`."""
        if self.lines is not None:
            return self.lines
        return describe_model(self.model, self.tokenizer, name=self.name, revision=self.revision)


ModelSource = PreTrainedModel | LoadedModel | str | Path
SharerSource = ModelSource | PreTrainedConfig
"""A Sharer that runs elsewhere is named by its config; see `c2c.rosetta.RosettaModel`."""


def as_list(value: Any) -> list[Any]:
    """A list of `value`, or `value` itself as a list if it is a sequence of things."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]


def load_causal_model(source: ModelSource, dtype: Dtype | None = None, device: Device | None = None) -> PreTrainedModel:
    """A frozen causal model in eval mode: `source` itself if it is one, else loaded from where `source` resolves to.

    Args:
        source: A model, or where it is.
        dtype: Of the weights, one of DTYPES; None is fp32, or what a model that is given has.
        device: Where the weights go; None is the CPU, or where a model that is given is.

    Raises:
        RefusedError: If nothing has that name, its folder is refused (`load_model_folder`), its files are
            not those of its manifest, there is no such device, or a model that is given has another dtype or device.
    """
    dtype_name = None if dtype is None else check_choice("A dtype", str(dtype).removeprefix("torch."), DTYPES)
    if isinstance(source, LoadedModel):
        source = source.model
    if isinstance(source, PreTrainedModel):
        _check_placed(source, dtype_name, None if device is None else _device(device))
        return source
    place = check_device(device)
    model: Any = load_model_folder(hub.resolve(source), getattr(torch, dtype_name or "float32"))
    return model.to(place).eval().requires_grad_(False)


def check_device(device: Any) -> torch.device:
    """A device on which a tensor can be made; the CPU if None.

    Raises:
        RefusedError: If there is no such device here.
    """
    place = _device("cpu" if device is None else device)
    try:
        # Some devices can be named, and even hold a tensor, but compute nothing.
        torch.empty(1, device=place).add_(1)
        if place.type != "meta":
            return place
    except (RuntimeError, AssertionError, NotImplementedError):
        pass
    raise _no_device(device)


def _device(device: Any) -> torch.device:
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise _no_device(device) from error


def _no_device(device: Any) -> RefusedError:
    return RefusedError("device must be one that this machine has", str(device), "Choose cpu, or leave it out")


def _check_placed(model: PreTrainedModel, dtype: str | None, device: torch.device | None) -> None:
    placed = (str(model.dtype).removeprefix("torch."), model.device)
    # "cuda" means whichever CUDA device; only a number says which.
    elsewhere = device is not None and (device.type != placed[1].type or device.index not in (None, placed[1].index))
    if (dtype is not None and dtype != placed[0]) or elsewhere:
        raise RefusedError(
            f"A model that is given must have the dtype and device asked for ({dtype}, {device})",
            f"{placed[0]} on {placed[1]}",
            "Convert it with model.to(...), leave the arguments out, or name the model instead of passing it",
        )


def model_name(source: str | Path) -> str:
    """The id in a model manifest, else `source` itself."""
    return str(read_source(Path(source))["id"]) if is_manifest(source) else str(source)


def model_state(source: str | Path) -> list[str]:
    """All of a model that answers and trained weights depend on: its name in records, and the hash of its files.

    Raises:
        RefusedError: If nothing has that name, or the files are not those of its manifest.
    """
    return [model_name(source), hub.content(source)]


def has_tokenizer(folder: Path) -> bool:
    """Whether a model folder holds a tokenizer."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder.

    For a folder whose tokenizer is of no special class, AutoTokenizer takes the class of the model's family, which
    may split every text differently; then the generic class is asked for by name.

    Raises:
        RefusedError: If its files cannot be read.
    """
    config = folder / "tokenizer_config.json"
    class_name = (
        read_object(config, "Copy or download the folder again").get("tokenizer_class") if config.is_file() else None
    )
    generic = class_name in ("PreTrainedTokenizerFast", "TokenizersBackend")
    tokenizer: PreTrainedTokenizerBase = load_part(
        PreTrainedTokenizerFast if generic else AutoTokenizer, folder, "tokenizer"
    )
    _check_vocabulary(folder, tokenizer)
    return tokenizer


def _check_vocabulary(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that reads every text as nothing: what transformers makes where the vocabulary is missing."""
    if len(tokenizer) > FEWEST_TOKENS:
        return
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens) - set(tokenizer.get_added_vocab()):
        raise RefusedError(
            f"The tokenizer of {folder.name} must know more than special tokens",
            sorted(tokenizer.get_vocab()),
            "Copy the tokenizer's files (tokenizer.json and tokenizer_config.json) into the folder",
        )


def load_model(source: str | Path, dtype: Dtype = "float32", device: Device | None = None) -> LoadedModel:
    """Load a model and its tokenizer from a folder, a manifest or a hub id.

    Raises:
        RefusedError: As `load_causal_model`, or if its tokenizer cannot be read.
    """
    device = check_device(device)
    # Resolved once: a manifest's files are hashed, and a hub id may be downloaded.
    folder = hub.resolve(source)
    tokenizer = _tokenizer_with_pad(folder)
    model = load_causal_model(folder, dtype, device)
    return LoadedModel(model_name(source), model, tokenizer, hub.identify(source).revision)


def load_without_weights(source: str | Path, lines: Lines) -> LoadedModel:
    """A model on the device ``meta``, which takes no memory and cannot run: config, sizes and tokenizer.

    Args:
        source: A folder, a manifest or a hub id.
        lines: The description of the model when it had weights.
    """
    folder = hub.resolve(source)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(read_config(folder), trust_remote_code=False)
    return LoadedModel(model_name(source), model, _tokenizer_with_pad(folder), hub.identify(source).revision, lines)


def _tokenizer_with_pad(folder: Path) -> PreTrainedTokenizerBase:
    tokenizer = load_tokenizer(folder)
    if tokenizer.pad_token_id is None:
        # Pads are masked, so any id serves; the end token is one that every vocabulary has.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def identify(source: SharerSource) -> Identity:
    """Id and revision of a model, or of what is to be loaded."""
    if isinstance(source, LoadedModel):
        return Identity(hub.identify(source.name).id, source.revision)
    return hub.identify(source) if isinstance(source, (str, Path)) else identify_model(source)


def load_sharer(source: SharerSource, dtype: Dtype | None = None, device: Device | None = None) -> Any:
    """As `load_causal_model`; the config of a Sharer that runs elsewhere stays what it is."""
    return source if isinstance(source, PreTrainedConfig) else load_causal_model(source, dtype, device)


def load_described(source: SharerSource, dtype: Dtype | None = None, device: Device | None = None) -> tuple[Any, Lines]:
    """A model as `load_sharer` gives it, and its lines in a contract.

    A tokenizer is described where there is one: in the folder, or in a LoadedModel.

    Raises:
        RefusedError: As `load_causal_model`.
    """
    if isinstance(source, LoadedModel):
        return load_sharer(source, dtype, device), source.description
    tokenizer = None
    if isinstance(source, (str, Path)):
        # Resolved once: a manifest's files are hashed, and a hub id may be downloaded.
        folder = hub.resolve(source)
        model = load_sharer(folder, dtype, device)
        if has_tokenizer(folder):
            tokenizer = load_tokenizer(folder)
    else:
        model = load_sharer(source, dtype, device)
    name, revision = identify(source)
    return model, describe_model(model, tokenizer, name=name, revision=revision)
