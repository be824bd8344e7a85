"""How much memory a job of real models holds, from the sizes of its models and its settings. Imports no torch.

The sum of what is in memory at the same time, at the longest example or the fullest batch that the settings allow:

* weights of the models, each parameter in the scale's `dtype`;
* Fusers: in use a parameter is held in `dtype`; in training it is fp32, with two moments of AdamW and a gradient, all
  fp32: 16 bytes;
* caches of a batch in use: keys and values of both models for each of `token_budget` tokens; where decoding is
  compiled, also in caches of fixed size, with up to twice the rows and half as many columns again;
* activations that training keeps for the backward pass, for each of ``micro_batch_size * max_length`` tokens, or of
  `micro_batch_tokens`, if these are fewer (``auto`` needs one example of `max_length` and uses what is free): of each
  Receiver layer 34 bytes a hidden unit in 16 bits, twice that in fp32 (Korthikanti et al., arXiv 2205.05198, section
  4.1, without the attention matrix, which is not kept); and those of the Fusers (`fuser_activations`), of a
  single Fuser with ``recompute: fusers``.

`ROOM_MB` is for the process itself. Logits are left out: the head reads supervised tokens alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from c2c.settings import AUTO

ROOM_MB = 2000
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
LEARNED = 16
"""Bytes of a parameter that learns: weight, two moments of AdamW and gradient, in fp32."""
ACTIVATION_BYTES = 34
"""Bytes that a layer keeps of a token for each hidden unit, in 16 bits."""
HALVES = 2
"""Keys and values."""
MEMO_MB = 4300
"""States that trainings of one job hold for each other (`c2c.training.together`)."""
STORED_TOKENS = 32768
"""Tokens whose states a job that stores them holds at a time: a batch and a shard, in two copies."""


@dataclass(frozen=True)
class Sizes:
    """How many weights a model has, and its sizes from ``config.json``."""

    parameters: float
    layers: int
    hidden: int
    kv_heads: int
    head_dim: int

    @property
    def kv_width(self) -> int:
        """Width of one layer's keys, or values, of a token."""
        return self.kv_heads * self.head_dim

    @property
    def cached(self) -> int:
        """Numbers that the cache holds of a token."""
        return HALVES * self.layers * self.kv_width


def fuser_parameters(sharer: Sizes, receiver: Sizes, settings: Mapping[str, Any], *, projected: bool = False) -> int:
    """Parameters of the Fusers of a pair, one for each Receiver layer (``docs/reference-behaviour.md``, "Fuser").

    No variant has more but C2C-C (`projected`), whose Sharer states pass an MLP of three layers to the Receiver's width
    first.
    """
    width, inner = settings["hidden_dim"], settings["intermediate_dim"]
    features = receiver.kv_width + (receiver.kv_width if projected else sharer.kv_width)
    half = _linear(features, width) + (settings["num_layers"] - 1) * _block(width, inner) + _block(width, width)
    half += _linear(width, receiver.kv_heads) + _linear(width, receiver.kv_width) + 1
    if projected:
        half += _three_layers(sharer.kv_width, width, receiver.kv_width)
    return HALVES * receiver.layers * half


def encoder_parameters(sharer: Sizes, latent: Sizes, width: int) -> int:
    """Parameters of a Sharer's encoder into a latent cache, whose Fusers have `width` hidden units."""
    return HALVES * latent.layers * _three_layers(sharer.kv_width, width, latent.kv_width)


def fuser_activations(sharer: Sizes, receiver: Sizes, settings: Mapping[str, Any]) -> int:
    """Numbers that the Fusers keep of a token for the backward pass.

    Each half keeps what it reads, of each residual block its input and norm and three inner states, and of the end the
    projection, twice: with its weight, and with its gate.
    """
    width, inner = settings["hidden_dim"], settings["intermediate_dim"]
    blocks = (settings["num_layers"] - 1) * (2 * width + 3 * inner) + 5 * width
    half = sharer.kv_width + receiver.kv_width + blocks + 2 * receiver.kv_width
    fusers = 1 if settings.get("recompute") == "fusers" else receiver.layers
    return HALVES * fusers * half


def cached_tokens(generation: Mapping[str, Any]) -> int:
    """The most tokens of a batch whose keys and values are held at once, by the config's block `generation`."""
    # A compiled batch: what was read, and a cache of fixed size, of up to 2 * 1.5 as many (c2c/generation/compiled.py).
    return int(generation["token_budget"]) * (4 if generation.get("compile") == "decoding" else 1)


def answering_mb(sharer: Sizes, receiver: Sizes, settings: Mapping[str, Any], token_budget: int, gpus: int = 1) -> int:
    """Memory of a job in which both models answer, in MB; `token_budget` is the most tokens of a batch."""
    # Without a GPU, the files of weights are in memory too.
    numbers = (1 if gpus else 2) * (sharer.parameters + receiver.parameters)
    numbers += fuser_parameters(sharer, receiver, settings, projected=True)
    numbers += token_budget * (sharer.cached + receiver.cached)
    return ROOM_MB + int(BYTES[settings["dtype"]] * numbers / 1e6)


def training_mb(
    sharer: Sizes, receiver: Sizes, settings: Mapping[str, Any], *, projected: bool = False, stored: bool = False
) -> int:
    """Memory of a job that trains the Fusers of a pair, in MB.

    Args:
        sharer: Its sizes.
        receiver: Its sizes.
        settings: Of the training.
        projected: As in `fuser_parameters`.
        stored: States are stored, so that the Sharer's weights are not loaded.
    """
    parameters = fuser_parameters(sharer, receiver, settings, projected=projected)
    return _learning_mb(
        [receiver] if stored else [sharer, receiver],
        parameters,
        _token_bytes(sharer, receiver, sharer, settings),
        settings,
    )


def latent_mb(
    sharers: Mapping[str, Sizes], receivers: Mapping[str, Sizes], latent: Sizes, settings: Mapping[str, Any]
) -> int:
    """Memory of a job that trains all encoders and decoders of a latent space, in MB.

    Models come by name, because one with both an encoder and a decoder is in memory once.
    """
    learned = sum(encoder_parameters(sharer, latent, settings["hidden_dim"]) for sharer in sharers.values())
    learned += sum(fuser_parameters(latent, receiver, settings) for receiver in receivers.values())
    pairs = product(sharers.values(), receivers.values())
    token_bytes = max(_token_bytes(sharer, receiver, latent, settings) for sharer, receiver in pairs)
    return _learning_mb({**sharers, **receivers}.values(), learned, token_bytes, settings)


def single_mb(receiver: Sizes, settings: Mapping[str, Any]) -> int:
    """Memory of a job that fine-tunes the Receiver itself, in MB: each of its weights learns."""
    return _learning_mb([], receiver.parameters, _receiver_bytes(receiver, settings), settings)


def alone_mb(model: Sizes, dtype: str, token_budget: int) -> int:
    """Memory of a job in which one model answers, in MB."""
    return ROOM_MB + int(BYTES[dtype] * (model.parameters + token_budget * model.cached) / 1e6)


def _learning_mb(frozen: Iterable[Sizes], learned: float, token_bytes: float, settings: Mapping[str, Any]) -> int:
    length, budget = settings["max_length"], settings.get("micro_batch_tokens", 0)
    tokens = (settings["micro_batch_size"] or settings["batch_size"]) * length
    if budget:
        # An example beyond the budget is run alone.
        tokens = min(tokens, length if budget == AUTO else max(budget, length))
    weights = BYTES[settings["dtype"]] * sum(model.parameters for model in frozen)
    return ROOM_MB + int((weights + LEARNED * learned + tokens * token_bytes) / 1e6)


def _token_bytes(sharer: Sizes, receiver: Sizes, source: Sizes, settings: Mapping[str, Any]) -> float:
    """Caches and activations of a token in training; the Fusers read a cache of the sizes `source`."""
    caches = BYTES[settings["dtype"]] * (sharer.cached + receiver.cached)
    activations = fuser_activations(source, receiver, settings) * (2 if settings.get("autocast") == "bfloat16" else 4)
    return _receiver_bytes(receiver, settings) + caches + activations


def _receiver_bytes(receiver: Sizes, settings: Mapping[str, Any]) -> float:
    """Activations of a token that a Receiver keeps for the backward pass."""
    return receiver.layers * receiver.hidden * ACTIVATION_BYTES * BYTES[settings["dtype"]] / 2


def _three_layers(inputs: int, width: int, outputs: int) -> int:
    """Three linear layers with a norm after each of the first two."""
    return _linear(inputs, width) + _linear(width, width) + _linear(width, outputs) + 2 * width


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _block(width: int, inner: int) -> int:
    return 2 * width * inner + width
