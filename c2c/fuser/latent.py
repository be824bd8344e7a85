"""A cache that several models share: one encoder into it and one decoder out of it a model (paper, Table 14).

With a FuserStack for each ordered pair the parameters grow as N², with these as N. The paper says no more than that;
what an encoder and a decoder are is ours: an encoder is a three-layer MLP for each latent layer and half, a decoder an
ordinary FuserStack that reads the latent cache in the place of a Sharer's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from c2c.alignment.layers import align_layers
from c2c.errors import RefusedError, check_choice
from c2c.fuser.stack import FuserStack
from c2c.fuser.variants import three_layers
from c2c.types import HALVES, CacheShape, KeyValue


class LatentEncoder(nn.Module):
    """Encodes one model's cache into the latent cache; keys and values, and all layers, share no parameters.

    Args:
        model: Cache sizes of the model (S, Hs, Ds).
        latent: Sizes of the latent cache (L, H, D).
        reads: The model's layer that each latent layer is made from.
        hidden_dim: Width of the MLPs.

    Raises:
        RefusedError: If a size is not positive, or `reads` is not one existing layer for each latent layer.
    """

    def __init__(self, model: CacheShape, latent: CacheShape, reads: Sequence[int], hidden_dim: int) -> None:
        super().__init__()
        if min(*latent, hidden_dim) < 1:
            raise RefusedError("Sizes of a latent cache must be positive", (*latent, hidden_dim), "Choose 1 or more")
        if len(reads) != latent.layers or not all(0 <= layer < model.layers for layer in reads):
            rule = f"Each of {latent.layers} latent layers must read one of the model's layers 0 to {model.layers - 1}"
            raise RefusedError(rule, list(reads), "Choose them by a layer alignment (LatentEncoder.aligned)")
        self.model, self.latent, self.reads, self.hidden_dim = model, latent, list(reads), hidden_dim
        widths = (model.heads * model.head_dim, hidden_dim, latent.heads * latent.head_dim)
        self.layers = nn.ModuleList(
            nn.ModuleDict({half: three_layers(*widths) for half in HALVES}) for _ in range(latent.layers)
        )

    @classmethod
    def aligned(cls, model: CacheShape, latent: CacheShape, hidden_dim: int, layer_alignment: str) -> LatentEncoder:
        """An encoder whose latent layers read the model's as Receiver layers read a Sharer's."""
        return cls(model, latent, align_layers(layer_alignment, latent.layers, model.layers), hidden_dim)

    def forward(self, cache: Sequence[KeyValue]) -> list[KeyValue]:
        """S layers of keys and values ``(B, Hs, N, Ds)`` to L layers ``(B, H, N, D)`` in the encoder's precision."""
        return [
            (self._encode(layer, 0, cache[source][0]), self._encode(layer, 1, cache[source][1]))
            for layer, source in enumerate(self.reads)
        ]

    def _encode(self, layer: int, half: int, states: Tensor) -> Tensor:
        mlp = self.get_submodule(f"layers.{layer}.{HALVES[half]}")
        # (B, Hs, N, Ds) -> (B, N, Hs * Ds)
        flat = states.transpose(1, 2).flatten(2).to(next(mlp.parameters()).dtype)
        # (B, N, H * D) -> (B, H, N, D)
        return mlp(flat).unflatten(-1, (self.latent.heads, self.latent.head_dim)).transpose(1, 2)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the weights, as JSON has it."""
        return {"shape": self.latent._asdict(), "reads": self.reads, "hidden_dim": self.hidden_dim}

    @classmethod
    def from_dict(cls, model: CacheShape, values: Mapping[str, Any]) -> LatentEncoder:
        """A new encoder for a model's cache, of the sizes that `to_dict` wrote."""
        return cls(model, CacheShape(**values["shape"]), values["reads"], values["hidden_dim"])


class LatentStack(FuserStack):
    """The Fusers of one ordered pair: the Sharer's encoder, then the Receiver's decoder.

    Both may be shared with the stacks of other pairs. A link's `sharer_layer` is a latent layer here; `sharer` is
    still the shape of the Sharer's own cache, so that its users pass that cache.

    Args:
        encoder: Of the Sharer.
        decoder: Of the Receiver; its Fusers and links are used, not copied.

    Raises:
        RefusedError: If the decoder reads another latent cache than the encoder makes.
    """

    def __init__(self, encoder: LatentEncoder, decoder: FuserStack) -> None:
        # Not of the latent shape: contracts and checks of inputs compare the cache that the Sharer really has.
        super().__init__(encoder.model, decoder.receiver)
        if decoder.source_shape != encoder.latent:
            raise RefusedError(
                f"The decoder must read the latent cache that the encoder makes, {tuple(encoder.latent)}",
                tuple(decoder.source_shape),
                "Take both from one latent space",
            )
        # The same modules, not copies: what one pair learns, all pairs with this model have.
        self.encoder, self.fusers, self.links = encoder, decoder.fusers, decoder.links

    @property
    def source_shape(self) -> CacheShape:
        """Sizes of the latent cache."""
        return self.encoder.latent

    def source_layers(self, sharer: Sequence[KeyValue]) -> Sequence[KeyValue]:
        """The Sharer's cache in the latent space: L layers ``(B, H, N, D)``."""
        encoded: list[KeyValue] = (
            self.apply_in_training(self.encoder, sharer) if self.training else self.encoder(sharer)
        )
        return encoded


class LatentSpace(nn.Module):
    """The encoders of all Sharers and the decoders of all Receivers that share one latent cache.

    Attributes:
        encoders: In the order of `sharers`.
        decoders: In the order of `receivers`.

    Args:
        sharers: Cache sizes of each model whose cache is encoded, by its name.
        receivers: Cache sizes of each model that answers, by its name.
        latent: Sizes of the latent cache.
        layer_alignment: Which layer of a model a latent layer reads, and which latent layer a Receiver layer reads:
            ``terminal`` or ``nearest``.
        hidden_dim: Width of encoders, and of the decoders' Fusers.
        **fuser: What else `FuserConfig.between` takes.

    Raises:
        RefusedError: If an argument is unknown or out of range.
    """

    def __init__(
        self,
        sharers: Mapping[str, CacheShape],
        receivers: Mapping[str, CacheShape],
        latent: CacheShape,
        *,
        layer_alignment: str = "terminal",
        hidden_dim: int = 1024,
        **fuser: Any,
    ) -> None:
        super().__init__()
        self.sharers, self.receivers, self.latent = list(sharers), list(receivers), latent
        self.encoders = nn.ModuleList(
            LatentEncoder.aligned(shape, latent, hidden_dim, layer_alignment) for shape in sharers.values()
        )
        self.decoders = nn.ModuleList(
            FuserStack.of_shapes(latent, shape, layer_alignment=layer_alignment, hidden_dim=hidden_dim, **fuser)
            for shape in receivers.values()
        )

    def stack(self, receiver: str, sharer: str) -> LatentStack:
        """The stack of an ordered pair, which uses this space's own encoder and decoder.

        Raises:
            RefusedError: If one of the two has none.
        """
        check_choice("A Sharer of the latent space", sharer, self.sharers)
        check_choice("A Receiver of the latent space", receiver, self.receivers)
        encoder, decoder = self.encoders[self.sharers.index(sharer)], self.decoder(receiver)
        assert isinstance(encoder, LatentEncoder)
        return LatentStack(encoder, decoder)

    def decoder(self, receiver: str) -> FuserStack:
        """A Receiver's decoder."""
        decoder = self.decoders[self.receivers.index(receiver)]
        assert isinstance(decoder, FuserStack)
        return decoder
