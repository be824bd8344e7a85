"""A Receiver and a Sharer with their tokenizers, loaded once and frozen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from c2c.alignment.tokens import TokenAligner
from c2c.models.loading import Device, Dtype, LoadedModel, load_model, load_tokenizer, model_name

__all__ = ["LoadedModel", "Pair", "load_model", "load_pair", "load_tokenizer", "model_name"]


@dataclass(frozen=True)
class Pair:
    """A Receiver and its Sharer."""

    receiver: LoadedModel
    sharer: LoadedModel

    def aligner(self, alignment: str) -> TokenAligner:
        """Token alignment between the two; see `TokenAligner`."""
        return TokenAligner(self.receiver.tokenizer, self.sharer.tokenizer, alignment)


def load_pair(receiver: str | Path, sharer: str | Path, dtype: Dtype = "float32", device: Device | None = None) -> Pair:
    """Load both models; a Sharer that is the Receiver itself (recipe `identical`) is loaded once."""
    loaded = load_model(receiver, dtype, device)
    return Pair(loaded, loaded if str(sharer) == str(receiver) else load_model(sharer, dtype, device))
