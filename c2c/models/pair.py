"""A Receiver and a Sharer with their tokenizers, loaded once and frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from c2c.alignment.tokens import TokenAligner
from c2c.models.loading import Device, Dtype, LoadedModel, load_model, load_tokenizer, model_name

__all__ = ["LoadedModel", "Pair", "load_model", "load_models", "load_pair", "load_tokenizer", "model_name"]


@dataclass(frozen=True)
class Pair:
    """A Receiver and its Sharer."""

    receiver: LoadedModel
    sharer: LoadedModel

    def aligner(self, alignment: str) -> TokenAligner:
        """Token alignment between the two; see `TokenAligner`."""
        return TokenAligner(self.receiver.tokenizer, self.sharer.tokenizer, alignment)


def load_pair(receiver: str | Path, sharer: str | Path, dtype: Dtype = "float32", device: Device | None = None) -> Pair:
    """Load both models; see `load_models`."""
    return Pair(*load_models([receiver, sharer], dtype, device))


def load_models(
    sources: Sequence[str | Path], dtype: Dtype = "float32", device: Device | None = None
) -> list[LoadedModel]:
    """Load models in their order; one that is named twice, as in the recipe `identical`, is loaded once."""
    models = {source: load_model(source, dtype, device) for source in dict.fromkeys(map(str, sources))}
    return [models[str(source)] for source in sources]
