"""The closed form from smaller messages: fewer bits, fewer tokens and layers, or fewer dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from c2c.settings import check_values, setting
from c2c.testbed.channel import Message, Prompt, ReceiverAnswer, SharerContext, TrainingItem, TrainingResult
from c2c.testbed.channels.ridge import Ridge, RidgeMap, numbers_to_fit
from c2c.testbed.channels.states import answer_with_states, flatten_tokens, states_of, unflatten_tokens

SCALE = "_scale"
"""Ends the name of the scales of a tensor."""


class Int8Ridge(Ridge):
    """The closed form from states in 8 bits, one scale a layer, head and token of keys and of values.

    A message holds ``D`` bytes and a scale of 2 bytes for each vector of ``D`` numbers: symmetric absmax quantisation
    (Dettmers et al. 2022, arXiv 2208.07339, section 2), by token as KIVI quantises values (arXiv 2402.02750).
    """

    bits = 8

    def send(self, contexts: Sequence[SharerContext]) -> list[Message]:
        """The Sharer's states as integers and scales."""
        return [quantise(message, self.bits) for message in super().send(contexts)]

    def receive(self, messages: Sequence[Message], prompts: Sequence[Prompt]) -> list[ReceiverAnswer]:
        """Answers with the states that the integers predict."""
        width = self.models.sharer.shape.head_dim
        return super().receive([dequantise(message, self.bits, width) for message in messages], prompts)


class Int4Ridge(Int8Ridge):
    """The same in 4 bits, two numbers a byte: ``D / 2`` bytes and a scale of 2 bytes for each vector."""

    bits = 4


def quantise(message: Message, bits: int) -> Message:
    """Turn the tensors ``(..., D)`` of a message into integers, one or two a byte, and their scales.

    Args:
        message: Of floating tensors.
        bits: 8 or 4.

    Returns:
        For each name an int8 tensor, or a uint8 one ``(..., ceil(D / 2))``, and the name with `SCALE`: float16
        ``(..., 1)``.
    """
    most = 2 ** (bits - 1) - 1
    tensors: dict[str, Tensor] = {}
    for name, tensor in message.tensors.items():
        # The scale is rounded first, so that the integers are those of the scale that is sent.
        scale = (tensor.float().abs().amax(-1, keepdim=True) / most).half()
        integers = (tensor.float() / scale.float().clamp(min=1e-8)).round().clamp(-most, most).to(torch.int8)
        tensors |= {name: pack(integers) if bits == 4 else integers, name + SCALE: scale}
    return Message(tensors)


def dequantise(message: Message, bits: int, width: int) -> Message:
    """The float32 message that `quantise` was given, of vectors of `width` numbers."""
    names = [name for name in message.tensors if not name.endswith(SCALE)]
    tensors = {}
    for name in names:
        integers = message.tensors[name]
        integers = unpack(integers)[..., :width] if bits == 4 else integers
        tensors[name] = integers.float() * message.tensors[name + SCALE].float()
    return Message(tensors)


def pack(integers: Tensor) -> Tensor:
    """Two numbers of -8 to 7 a byte: ``(..., D)`` int8 to ``(..., ceil(D / 2))`` uint8."""
    numbers = torch.nn.functional.pad(integers, (0, integers.shape[-1] % 2))
    nibbles = (numbers & 15).to(torch.uint8)
    return nibbles[..., ::2] | nibbles[..., 1::2] << 4


def unpack(pairs: Tensor) -> Tensor:
    """The numbers of `pack`: ``(..., d)`` uint8 to ``(..., 2 d)`` int8."""
    # (..., d) -> (..., d, 2) -> (..., 2 d)
    nibbles = torch.stack((pairs & 15, pairs >> 4), dim=-1).flatten(-2).to(torch.int8)
    return torch.where(nibbles > 7, nibbles - 16, nibbles)


@dataclass(frozen=True)
class SubsetSettings:
    """Which tokens and layers of the Sharer are sent, both counted from the last one.

    Args:
        token_stride: Every how many tokens of the places one is sent.
        layer_stride: Every how many layers one is sent.
    """

    token_stride: int = setting(2, "every which token is sent", least=1, most=10**6)
    layer_stride: int = setting(2, "every which layer is sent", least=1, most=10**6)

    def __post_init__(self) -> None:
        check_values(self)


class Subset(Ridge):
    """The closed form from every second token of the places, counted from the last, and every second layer.

    Of a place's tokens the last has read the others, so the Receiver's states at a token that is not sent are predicted
    from the next one that is, by a regression of their own for each distance. The message is smaller by both strides.
    """

    settings = SubsetSettings()
    maps: list[RidgeMap]

    def fit(self, training: Sequence[TrainingItem], validation: Sequence[TrainingItem], seed: int) -> TrainingResult:
        """Fit a regression for each distance of a token to the one that is sent for it."""
        examples = [training[number] for number in numbers_to_fit(training)]
        sources = [states_of(message) for message in self.send([example.context for example in examples])]
        targets = self.models.receiver.states([example.target for example in examples])
        self.maps = []
        for distance in range(self.settings.token_stride):
            outputs = [target[:, :, :, self._at(distance, target.shape[3])] for target in targets]
            if not any(part.shape[3] for part in outputs):
                break
            # The first token that is sent has fewer tokens before it than the others.
            inputs = [
                source[:, :, :, source.shape[3] - part.shape[3] :]
                for source, part in zip(sources, outputs, strict=True)
            ]
            self.maps.append(RidgeMap.fit(flatten_tokens(inputs), flatten_tokens(outputs)))
        curve = [{"step": 0, "explained": fit.explained, "penalty": fit.penalty} for fit in self.maps[:1]]
        return TrainingResult(sum(fit.parameters for fit in self.maps), curve=curve)

    def send(self, contexts: Sequence[SharerContext]) -> list[Message]:
        """Some tokens and layers of the Sharer's states, ``(layers, H, tokens, D)`` of keys and of values."""
        messages = super().send(contexts)
        layers = _every(self.settings.layer_stride, self.models.sharer.shape.layers)
        return [
            message.with_tensors(lambda _, tensor: tensor[layers][:, :, self._at(0, tensor.shape[2])])
            for message in messages
        ]

    def receive(self, messages: Sequence[Message], prompts: Sequence[Prompt]) -> list[ReceiverAnswer]:
        """Answers with predicted states in all places, those of tokens that were not sent among them."""
        shape = self.models.receiver.shape
        predictions = []
        for message, prompt in zip(messages, prompts, strict=True):
            source, tokens = states_of(message), len(prompt.places)
            states = source.new_zeros(shape.layers, 2, shape.heads, tokens, shape.head_dim)
            for distance in range(min(self.settings.token_stride, tokens)):
                places = self._at(distance, tokens)
                rows = self.maps[min(distance, len(self.maps) - 1)](flatten_tokens([source[:, :, :, -len(places) :]]))
                (states[:, :, :, places],) = unflatten_tokens(rows, [len(places)], states)
            predictions.append(states)
        return answer_with_states(self.models, predictions, prompts)

    def _at(self, distance: int, tokens: int) -> list[int]:
        """Numbers of the tokens, of so many, that have this distance to the next one that is sent."""
        return _every(self.settings.token_stride, tokens - distance)


def _every(stride: int, count: int) -> list[int]:
    """Every number below `count` with a stride, in order, the last one among them."""
    return list(range(count - 1, -1, -stride))[::-1]


@dataclass(frozen=True)
class RankSettings:
    """Of a map of reduced rank.

    Args:
        rank: Numbers that are sent for a token.
    """

    rank: int = setting(32, "numbers of a code", least=1, most=10**6)

    def __post_init__(self) -> None:
        check_values(self)


class LowRank(Ridge):
    """Reduced-rank regression: the message is a code of ``rank`` numbers a token, ``(1, n, rank)``.

    Of the closed form ``B`` the map of rank r with the least penalised squared error is ``B V V'``, with ``V`` the r
    first right singular vectors of the fitted values, the penalty's rows among them (Izenman 1975, Journal of
    Multivariate Analysis 5; with a ridge penalty Mukherjee and Zhu 2011, Statistical Analysis and Data Mining 4). The
    Sharer encodes with ``B V``, the Receiver decodes with ``V'``.
    """

    settings = RankSettings()
    encoder: Tensor
    decoder: Tensor

    def fit(self, training: Sequence[TrainingItem], validation: Sequence[TrainingItem], seed: int) -> TrainingResult:
        """Fit the closed form and reduce its rank."""
        result = super().fit(training, validation, seed)
        self.encoder, self.decoder = reduce_rank(self.fit_of_pair, self.settings.rank)
        mean = self.fit_of_pair.offset.numel()
        return TrainingResult(self.encoder.numel() + self.decoder.numel() + mean, curve=result.curve)

    def send(self, contexts: Sequence[SharerContext]) -> list[Message]:
        """Codes of the Sharer's states, in the Sharer's precision."""
        fit, states = self.fit_of_pair, self.models.sharer.states(contexts)
        codes = ((flatten_tokens(states) - fit.mean) / fit.scale) @ self.encoder
        # (sum of n, r) -> (1, n, r) each
        parts = codes.to(states[0].dtype).split([part.shape[3] for part in states])
        return [Message({"code": part[None]}) for part in parts]

    def receive(self, messages: Sequence[Message], prompts: Sequence[Prompt]) -> list[ReceiverAnswer]:
        """Answers with the states that the codes stand for."""
        shape, codes = self.models.receiver.shape, [message.tensors["code"][0] for message in messages]
        rows = torch.cat(codes).float() @ self.decoder + self.fit_of_pair.offset
        like = codes[0].new_zeros(shape.layers, 2, shape.heads, 1, shape.head_dim)
        return answer_with_states(self.models, unflatten_tokens(rows, [len(code) for code in codes], like), prompts)


def reduce_rank(fit: RidgeMap, rank: int) -> tuple[Tensor, Tensor]:
    """Encoder ``(F, r)`` and decoder ``(r, G)`` of a regression's best approximation of a rank; see `LowRank`."""
    # With K = X X' and B = X' A, the fitted values and the penalty's rows have the Gram matrix A' (K K + λ K) A, which
    # is M' M for M = L A with L = (S S + λ S)^(1/2) Q' and K = Q S Q': (N, G), whose right vectors follow from M M'.
    values, vectors = torch.linalg.eigh((fit.inputs @ fit.inputs.T).double())
    values = values.clamp(min=0)
    penalty = fit.penalty * (float(values.mean()) or 1.0)
    rows = (values * (values + penalty)).sqrt()[:, None] * (vectors.T @ fit.dual.double())
    squares, left = torch.linalg.eigh(rows @ rows.T)
    rank = min(rank, len(squares))
    # Largest last: (N, r)
    left, sizes = left[:, -rank:], squares[-rank:].clamp(min=1e-12).sqrt()
    decoder = (rows.T @ left / sizes).T
    encoder = fit.inputs.T @ (fit.dual @ decoder.T.float())
    return encoder, decoder.float()
