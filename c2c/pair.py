"""A Receiver and a Sharer with their tokenizers, loaded once and frozen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from c2c import hub
from c2c.alignment.tokens import TokenAligner
from c2c.checkpoint import load_causal_model


@dataclass(frozen=True)
class LoadedModel:
    """A frozen causal model, its tokenizer with a pad token, and the name that records carry."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def pad(self) -> int:
        """Id that fills rows; masked wherever it stands."""
        return int(self.tokenizer.pad_token_id or 0)


@dataclass(frozen=True)
class Pair:
    """A Receiver and its Sharer."""

    receiver: LoadedModel
    sharer: LoadedModel

    def aligner(self, alignment: str) -> TokenAligner:
        """Token alignment between the two; see `TokenAligner`."""
        return TokenAligner(self.receiver.tokenizer, self.sharer.tokenizer, alignment)


def model_name(source: str | Path) -> str:
    """The id in a model manifest, else `source` itself."""
    path = Path(source)
    if path.suffix == ".json" and path.is_file():
        return str(json.loads(path.read_text(encoding="utf-8"))["id"])
    return str(source)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder.

    For a folder whose tokenizer is of no special class, AutoTokenizer takes the class of the model's family, which
    may split every text differently; then the generic class is asked for by name.
    """
    config = folder / "tokenizer_config.json"
    named = json.loads(config.read_text(encoding="utf-8")).get("tokenizer_class") if config.is_file() else None
    generic = named in ("PreTrainedTokenizerFast", "TokenizersBackend")
    loader = PreTrainedTokenizerFast if generic else AutoTokenizer
    return loader.from_pretrained(folder)


def load_model(source: str | Path, dtype: str = "float32") -> LoadedModel:
    """Load a model and its tokenizer from a folder, a manifest or a hub id.

    Raises:
        RefusedError: If nothing has that name.
    """
    tokenizer = load_tokenizer(hub.resolve(source))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return LoadedModel(model_name(source), load_causal_model(source, dtype), tokenizer)


def load_pair(receiver: str | Path, sharer: str | Path, dtype: str = "float32") -> Pair:
    """Load both models; a Sharer that is the Receiver itself (recipe `identical`) is loaded once."""
    loaded = load_model(receiver, dtype)
    return Pair(loaded, loaded if str(sharer) == str(receiver) else load_model(sharer, dtype))
