"""A Receiver and a Sharer with their tokenizers, loaded once and frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from c2c.alignment.chat import ChatAligner
from c2c.alignment.tokens import TokenAligner
from c2c.errors import RefusedError
from c2c.models.loading import Device, Dtype, LoadedModel, load_model, load_tokenizer, model_name
from c2c.types import UNALIGNED

__all__ = ["LoadedModel", "Pair", "load_model", "load_models", "load_pair", "load_tokenizer", "model_name"]


@dataclass(frozen=True)
class Pair:
    """A Receiver and its Sharer."""

    receiver: LoadedModel
    sharer: LoadedModel

    def aligner(self, alignment: str) -> TokenAligner:
        """Token alignment of plain texts between the two; see `TokenAligner`, refused as by `chat_aligner`."""
        return self.chat_aligner(alignment).tokens

    def chat_aligner(self, alignment: str) -> ChatAligner:
        """Token alignment of conversations and plain texts between the two; see `ChatAligner`.

        Raises:
            RefusedError: If the alignment is unknown, a tokenizer does not give what it needs, or the Sharer would read
                token ids of the Receiver for which it has no embedding (`check_embeddings`).
        """
        receiver, sharer = self.receiver.tokenizer, self.sharer.tokenizer
        check_embeddings(alignment, receiver, self.sharer.model.config)
        return ChatAligner(receiver, sharer, alignment)


def check_embeddings(alignment: str, receiver: PreTrainedTokenizerBase, sharer: PreTrainedConfig) -> None:
    """Refuse ``unaligned`` where the Sharer has fewer embeddings than the Receiver's tokenizer has token ids.

    The released code looks such ids up all the same, and stops with an index error, as Llama-3.2 (128,256 embeddings)
    does with Qwen3's ids. Rows with which a model pads its embeddings count as embeddings.

    Args:
        alignment: Token alignment; none but ``unaligned`` is refused.
        receiver: The Receiver's tokenizer.
        sharer: The Sharer's config.
    """
    tokens, embeddings = len(receiver), sharer.get_text_config().vocab_size
    if alignment == UNALIGNED and embeddings < tokens:
        raise RefusedError(
            f"Under the alignment {UNALIGNED} the Sharer must have embeddings of all {tokens} tokens of the Receiver",
            f"{embeddings} embeddings",
            "Choose the alignment span, first or longest, or for released fusers the models that they were trained for",
        )


def load_pair(receiver: str | Path, sharer: str | Path, dtype: Dtype = "float32", device: Device | None = None) -> Pair:
    """Load both models; see `load_models`."""
    return Pair(*load_models([receiver, sharer], dtype, device))


def load_models(
    sources: Sequence[str | Path], dtype: Dtype = "float32", device: Device | None = None
) -> list[LoadedModel]:
    """Load models in their order; one that is named twice, as in the recipe `identical`, is loaded once."""
    models = {source: load_model(source, dtype, device) for source in dict.fromkeys(map(str, sources))}
    return [models[str(source)] for source in sources]
