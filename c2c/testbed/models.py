"""The two models of a pair as channels use them: states of a text at chosen tokens, and answers from a changed cache.

Everything here is computed once a text and kept within a limit, since all channels and controls of an item read the
same texts. Texts that begin alike, as the training texts of a person do, share the reading of their beginning.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache

from c2c.cache import kv_cache
from c2c.cache.rotation import check_rotation, rotate_layers
from c2c.cache.shape import cache_shape
from c2c.errors import RefusedError
from c2c.evaluation.answers.likelihood import PrefilledBatch, option_tokens, score_continuations
from c2c.evaluation.readers.prompt_memory import common_start
from c2c.models.loading import LoadedModel
from c2c.testbed.channel import Prompt, ReceiverAnswer, SharerContext
from c2c.types import KeyValue

KEPT_BYTES = 2 * 2**30
"""Of prefixes and states that one model's reader keeps."""
ROWS = 64
"""Texts of a batch."""
SHARED_ROWS = 4
"""A common beginning is read once where this many texts have it."""

Key = tuple[int, ...]
"""Token ids of a text, and what of it is kept."""
States = Tensor
"""Keys and values of one text at chosen tokens, ``(T, 2, H, n, D)``: layers, keys and values, heads, tokens."""


class Memory:
    """Tensors by key, the least recently used dropped first, and the seconds that each cost."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self.limit, self.size = limit, 0
        self._entries: OrderedDict[Key, tuple[Tensor, float]] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def get(self, key: Key) -> tuple[Tensor, float]:
        """The tensor and its seconds."""
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: Key, tensor: Tensor, seconds: float) -> None:
        """Keep a tensor; the oldest ones leave, but never the one that is put."""
        self._entries[key] = (tensor, seconds)
        self.size += tensor.numel() * tensor.element_size()
        while self.size > self.limit and len(self._entries) > 1:
            _, (dropped, _) = self._entries.popitem(last=False)
            self.size -= dropped.numel() * dropped.element_size()


class StateReader:
    """One frozen model that reads texts.

    Attributes:
        charged: Seconds of readings that were looked up instead of made again: a method's time holds them, whoever read
            the text first.
        silent: Whether the states of every text are zeros: what a method is trained on to have parameters and no
            message.

    Args:
        loaded: The model.
        keeps: Whether states are kept for the next channel.
    """

    def __init__(self, loaded: LoadedModel, keeps: bool = True) -> None:
        self.loaded, self.model, self.tokenizer = loaded, loaded.model, loaded.tokenizer
        self.shape = cache_shape(loaded.model.config)
        self.keeps, self.silent, self.charged = keeps, False, 0.0
        self._memory = Memory()

    def check_rotation(self) -> None:
        """Refuse a model whose keys cannot be moved; see `c2c.cache.rotation.check_rotation`."""
        check_rotation(self.model)

    def tokenise(
        self, text: str, spans: Sequence[tuple[int, int]] = (), *, has_gaps: bool = False
    ) -> tuple[list[int], list[list[int]]]:
        """Token ids of a text, and for each span of characters the numbers of the tokens that touch it.

        Args:
            text: The text.
            spans: Spans of characters.
            has_gaps: Whether a span that touches no token, such as a blank, gets the last token before it, or the first
                one, as the token alignment ``span`` does.

        Raises:
            RefusedError: If a span touches no token.
        """
        encoding = self.tokenizer(text, return_offsets_mapping=True)
        tokens = [(number, a, b) for number, (a, b) in enumerate(encoding["offset_mapping"]) if a < b]
        places = []
        for start, end in spans:
            touching = [number for number, a, b in tokens if a < end and b > start]
            if not touching and has_gaps and tokens:
                touching = [max((number for number, a, _ in tokens if a < end), default=tokens[0][0])]
            if not touching:
                rule = f"A place must touch a token of {self.loaded.name}"
                raise RefusedError(rule, f"{text[start:end]!r} of {text!r}", "Correct the spans of the item")
            places.append(touching)
        return encoding["input_ids"], places

    def tokens_of(self, context: SharerContext) -> list[tuple[int, list[int], list[int]]]:
        """For each text with places: its number, its token ids, and the token that each place's tokens read.

        A place of m Receiver tokens reads n tokens of this model: its token i reads token ``ceil((i + 1) n / m) - 1``,
        the last one that is whole where the first i + 1 tokens end.
        """
        rows = []
        for number, text in enumerate(context.texts):
            spans = [span for sender, span in context.spans if sender == number]
            if not spans:
                continue
            characters = [(span.start, span.end) for span in spans]
            ids, touching = self.tokenise(text, characters, has_gaps=context.is_whole)
            places = [
                own[-(-(i + 1) * len(own) // span.tokens) - 1]
                for span, own in zip(spans, touching, strict=True)
                for i in range(span.tokens)
            ]
            rows.append((number, ids, places))
        return rows

    def states(self, contexts: Sequence[SharerContext], *, rotated: bool = False) -> list[States]:
        """States at the places of each context, in the order of its spans.

        Args:
            contexts: All their texts are read up to the last place.
            rotated: Whether the keys keep the rotation of the position that they were read at.

        Returns:
            For each context ``(T, 2, H, n, D)`` in the model's precision, ``n`` of all its places.
        """
        # 1. The rows that all contexts need, and which are not kept.
        rows = [self.tokens_of(context) for context in contexts]
        if self.silent:
            layers, heads, width = self.shape
            sizes = [(layers, 2, heads, context.tokens, width) for context in contexts]
            return [torch.zeros(size, dtype=self.model.dtype, device=self.device) for size in sizes]
        keys = {
            (int(rotated), len(places), *places, *ids[: max(places) + 1]): (ids[: max(places) + 1], places)
            for its_rows in rows
            for _, ids, places in its_rows
        }
        missing = {key: row for key, row in keys.items() if key not in self._memory}
        fresh: dict[Key, tuple[Tensor, float]] = {}
        for batch in self._batches(missing):
            begin = time.perf_counter()
            states = self._read([missing[key] for key in batch], rotated)
            seconds = (time.perf_counter() - begin) / len(batch)
            fresh |= {key: (row, seconds) for key, row in zip(batch, states, strict=True)}
        if self.keeps:
            for key, (row, seconds) in fresh.items():
                self._memory.put(key, row, seconds)
        # 2. The rows of each context, in the order of its spans.
        states = []
        for context, its_rows in zip(contexts, rows, strict=True):
            parts = {}
            for number, ids, places in its_rows:
                key = (int(rotated), len(places), *places, *ids[: max(places) + 1])
                if key in fresh:
                    parts[number] = fresh[key][0]
                else:
                    parts[number], seconds = self._memory.get(key)
                    self.charged += seconds
            states.append(_in_order(context, parts))
        return states

    def _batches(self, rows: Mapping[Key, tuple[list[int], list[int]]]) -> list[list[Key]]:
        """Keys of rows with one beginning before their first place together, the others by their length and places."""
        groups: dict[tuple[int, ...], list[Key]] = {}
        for key, (ids, places) in rows.items():
            groups.setdefault(tuple(ids[: min(places)]), []).append(key)
        shared = [group for head, group in groups.items() if head and len(group) >= SHARED_ROWS]
        alone = [key for head, group in groups.items() if not head or len(group) < SHARED_ROWS for key in group]
        lists = [sorted(alone, key=len), *shared]
        return [keys[start : start + ROWS] for keys in lists for start in range(0, len(keys), ROWS)]

    @torch.no_grad()
    def _read(self, rows: Sequence[tuple[list[int], list[int]]], rotated: bool) -> list[States]:
        """States of rows of token ids at their places."""
        layers = self.read_rows([ids for ids, _ in rows])
        # Places of all rows are as many, or the shorter ones repeat their last: (B, n)
        width = max(len(places) for _, places in rows)
        index = torch.tensor([places + [places[-1]] * (width - len(places)) for _, places in rows], device=self.device)
        chosen = kv_cache.take_tokens(layers, index)
        if not rotated:
            chosen = rotate_layers(self.model, chosen, index, inverse=True)
        # T x (B, H, n, D) of keys and of values -> (B, T, 2, H, n, D)
        stack = torch.stack([torch.stack(layer, dim=1) for layer in chosen], dim=1)
        return [stack[row, :, :, :, : len(places)].clone() for row, (_, places) in enumerate(rows)]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @torch.no_grad()
    def read_rows(self, rows: Sequence[Sequence[int]]) -> list[KeyValue]:
        """Caches of rows of token ids, right-padded: T layers of keys and values ``(B, H, N, D)``."""
        shared = common_start(rows) if len(rows) >= SHARED_ROWS else 0
        rest = [list(row[shared:]) for row in rows]
        width = max(map(len, rest))
        count, device = len(rows), self.device
        cache: Cache | None = None
        if shared:
            ids = torch.tensor([list(rows[0][:shared])], device=device)
            cache = kv_cache.prefill(self.model, ids, torch.ones_like(ids), torch.arange(shared, device=device)[None])
            cache = kv_cache.repeat_rows(cache, torch.zeros(count, dtype=torch.long, device=device), self.model.config)
        ids = torch.tensor([row + [self.loaded.pad] * (width - len(row)) for row in rest], device=device)
        mask = torch.tensor([[1] * (shared + len(row)) + [0] * (width - len(row)) for row in rest], device=device)
        positions = torch.arange(shared, shared + width, device=device)[None].expand(count, -1)
        return kv_cache.layers_of(kv_cache.prefill(self.model, ids, mask, positions, cache))


def _in_order(context: SharerContext, parts: dict[int, States]) -> States:
    """The states of one context in the order of its spans, from those of its texts: ``(T, 2, H, n, D)``."""
    used = dict.fromkeys(parts, 0)
    pieces = []
    for number, span in context.spans:
        pieces.append(parts[number][:, :, :, used[number] : used[number] + span.tokens])
        used[number] += span.tokens
    return torch.cat(pieces, dim=3)


@dataclass(frozen=True)
class Prefixes:
    """Prompts of the Receiver without their last tokens, left-padded.

    Args:
        layers: T layers of keys and values ``(B, H, N, D)``.
        mask: ``(B, N)`` int64.
        last: ``(B, 1)`` int64, the last token of each prompt.
        starts: ``(B,)`` int64, column of each row's first token.
    """

    layers: list[KeyValue]
    mask: Tensor
    last: Tensor
    starts: Tensor


class Receiver(StateReader):
    """The model that answers."""

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__(loaded)
        self._prefixes = Memory()

    def prefixes(self, prompts: Sequence[Prompt]) -> Prefixes:
        """The caches of prompts without their last tokens; each text is read once."""
        texts = [prompt.tokens[:-1] for prompt in prompts]
        missing = sorted({text for text in texts if text not in self._prefixes}, key=len)
        for start in range(0, len(missing), ROWS):
            batch = missing[start : start + ROWS]
            layers = self.read_rows(batch)
            # T x (B, H, N, D) of keys and of values -> (B, T, 2, H, N, D)
            stack = torch.stack([torch.stack(layer, dim=1) for layer in layers], dim=1)
            for row, text in enumerate(batch):
                self._prefixes.put(text, stack[row, :, :, :, : len(text)].clone(), 0.0)
        kept = [self._prefixes.get(text)[0] if text in self._prefixes else self._read_alone(text) for text in texts]
        width, count = max(map(len, texts)), len(texts)
        # (B, T, 2, H, N, D), left-padded with zeros
        whole = kept[0].new_zeros(count, *kept[0].shape[:3], width, kept[0].shape[4])
        for row, states in enumerate(kept):
            whole[row, :, :, :, width - states.shape[3] :] = states
        starts = torch.tensor([width - len(text) for text in texts], device=self.device)
        mask = (torch.arange(width, device=self.device)[None] >= starts[:, None]).long()
        last = torch.tensor([[prompt.tokens[-1]] for prompt in prompts], device=self.device)
        layers = [(whole[:, layer, 0], whole[:, layer, 1]) for layer in range(whole.shape[1])]
        return Prefixes(layers, mask, last, starts)

    def read(self, prompts: Sequence[Prompt]) -> None:
        """Read prompts into the memory, before a time is taken that must not hold their reading."""
        for start in range(0, len(prompts), ROWS):
            self.prefixes(prompts[start : start + ROWS])

    def _read_alone(self, text: tuple[int, ...]) -> Tensor:
        return torch.stack([torch.cat(layer) for layer in self.read_rows([text])])

    def replaced(self, prompts: Sequence[Prompt], states: Sequence[States]) -> Prefixes:
        """Prefixes whose places hold other states.

        Args:
            prompts: B of them.
            states: For each prompt ``(T, 2, H, n, D)``, keys without rotation, ``n`` its places.
        """
        prefixes = self.prefixes(prompts)
        index, taken = place_columns(prompts, prefixes)
        positions = index - prefixes.starts[:, None]
        # B x (T, 2, H, n, D) -> (B, T, 2, H, n, D); shorter rows are filled up
        whole = pad_places(states, index.shape[1])
        new = [(whole[:, layer, 0], whole[:, layer, 1]) for layer in range(whole.shape[1])]
        new = rotate_layers(self.model, new, positions)
        return write_places(prefixes, new, index, taken)

    @torch.no_grad()
    def answer(self, prompts: Sequence[Prompt], prefixes: Prefixes | None = None) -> list[ReceiverAnswer]:
        """What the model answers to prompts whose caches are `prefixes`; its own ones if None."""
        prefixes = self.prefixes(prompts) if prefixes is None else prefixes
        cache = kv_cache.cache_of_layers(prefixes.layers, self.model.config)
        mask = torch.cat([prefixes.mask, torch.ones_like(prefixes.last)], dim=1)
        batch = PrefilledBatch(self.model, mask, prefixes.mask.shape[1], cache, None)
        return answer_batch(self, batch, batch.logits(prefixes.last, mask), prompts)


def place_columns(prompts: Sequence[Prompt], prefixes: Prefixes) -> tuple[Tensor, Tensor]:
    """Columns of the places of each row, ``(B, n)`` int64, and which of them exist, ``(B, n)`` bool.

    Rows with fewer places repeat their last; a row without places has column 0, which does not exist.
    """
    width = max(len(prompt.places) for prompt in prompts)
    device = prefixes.mask.device
    rows = [list(prompt.places) or [0] for prompt in prompts]
    filled = [row[:width] + row[-1:] * (width - len(row)) for row in rows]
    index = torch.tensor(filled, device=device) + prefixes.starts[:, None]
    counts = torch.tensor([len(prompt.places) for prompt in prompts], device=device)
    return index, torch.arange(width, device=device)[None] < counts[:, None]


def pad_places(states: Sequence[States], width: int) -> Tensor:
    """States of rows with different numbers of places as one tensor, ``(B, T, 2, H, n, D)``; zeros fill it up."""
    whole = states[0].new_zeros(len(states), *states[0].shape[:3], width, states[0].shape[4])
    for row, its_states in enumerate(states):
        whole[row, :, :, :, : its_states.shape[3]] = its_states
    return whole


def write_places(prefixes: Prefixes, new: Sequence[KeyValue], index: Tensor, taken: Tensor) -> Prefixes:
    """Prefixes with new states in some columns, gradients included.

    Args:
        prefixes: Of B rows.
        new: T layers of keys and values ``(B, H, n, D)``.
        index: ``(B, n)`` int64, their columns.
        taken: ``(B, n)`` bool: which of them are written.
    """
    # A column that does not exist is written into one behind the last, which is cut off: (B, n) -> (B, 1, n, 1)
    width = prefixes.mask.shape[1]
    columns = torch.where(taken, index, width)[:, None, :, None]

    def write(old: Tensor, states: Tensor) -> Tensor:
        room = torch.cat([old, old[:, :, :1]], dim=2)
        places = columns.expand(-1, old.shape[1], -1, old.shape[3])
        return room.scatter(2, places, states.to(old.dtype))[:, :, :width]

    layers = [
        (write(keys, new_keys), write(values, new_values))
        for (keys, values), (new_keys, new_values) in zip(prefixes.layers, new, strict=True)
    ]
    return Prefixes(layers, prefixes.mask, prefixes.last, prefixes.starts)


def answer_batch(
    receiver: StateReader, batch: PrefilledBatch, logits: Tensor, prompts: Sequence[Prompt]
) -> list[ReceiverAnswer]:
    """Options, value and generated text of prompts that have been read.

    Args:
        receiver: Reads and writes.
        batch: B prompts with their last tokens.
        logits: ``(B, V)`` after them.
        prompts: Of the rows.
    """
    # 1. Continuations of each row: its options, and the value where it is none of them.
    continuations = [list(dict.fromkeys([*prompt.options, prompt.value])) for prompt in prompts]
    tokens = [
        option_tokens(receiver.tokenizer, prompt.text, [f" {text}" for text in texts], special=True)
        for prompt, texts in zip(prompts, continuations, strict=True)
    ]
    rows = torch.tensor([row for row, texts in enumerate(continuations) for _ in texts], device=logits.device)
    flat = [ids for its_tokens in tokens for ids in its_tokens]
    sums, greedy = score_continuations(batch, logits, rows, flat)
    # 2. Greedy tokens, as many as the value has: the value itself where each of its tokens is the likeliest.
    values = [texts.index(prompt.value) for prompt, texts in zip(prompts, continuations, strict=True)]
    starts = [sum(map(len, continuations[:row])) for row in range(len(prompts))]
    ids_written = [
        its_tokens[value] if bool(greedy[start + value]) else []
        for its_tokens, value, start in zip(tokens, values, starts, strict=True)
    ]
    open_rows = [row for row, ids in enumerate(ids_written) if not ids]
    if open_rows:
        lengths = [len(tokens[row][values[row]]) for row in open_rows]
        numbers = torch.tensor(open_rows, device=logits.device)
        for row, ids in zip(open_rows, write_greedily(batch, logits, numbers, lengths), strict=True):
            ids_written[row] = ids
    scores = iter(sums.tolist())
    outcomes = []
    for prompt, texts, ids in zip(prompts, continuations, ids_written, strict=True):
        logps = {text: next(scores) for text in texts}
        text = str(receiver.tokenizer.decode(ids, skip_special_tokens=True))
        outcomes.append(
            ReceiverAnswer(tuple(logps[option] for option in prompt.options), logps[prompt.value], text.strip())
        )
    return outcomes


def write_greedily(batch: PrefilledBatch, logits: Tensor, rows: Tensor, lengths: Sequence[int]) -> list[list[int]]:
    """Greedy tokens of some rows of a batch.

    Args:
        batch: B prompts with their last tokens.
        logits: ``(B, V)`` after them.
        rows: ``(B',)`` int64.
        lengths: Tokens of each of these rows.
    """
    written = [logits[rows].argmax(-1)]
    part = batch.of_rows(rows) if max(lengths) > 1 else batch
    while len(written) < max(lengths):
        mask = torch.cat([part.mask, torch.ones_like(part.mask[:, :1])], dim=1)
        written.append(part.logits(written[-1][:, None], mask).argmax(-1))
    return [ids[:length] for ids, length in zip(torch.stack(written, dim=1).tolist(), lengths, strict=True)]


@dataclass
class Models:
    """The pair of a test bed.

    Args:
        receiver: Answers.
        sharer: Reads what the Receiver does not; every Sharer of an item is this model.
    """

    receiver: Receiver
    sharer: StateReader

    @classmethod
    def load(cls, receiver: LoadedModel, sharer: LoadedModel) -> Models:
        """Readers of both; one model that is both is read as two, so that its times are those of two."""
        return cls(Receiver(receiver), StateReader(sharer))

    def in_batches(
        self, receive: Callable[[Sequence[Prompt], Sequence[int]], list[ReceiverAnswer]], prompts: Sequence[Prompt]
    ) -> list[ReceiverAnswer]:
        """Outcomes of all prompts, read in batches of about one length.

        Args:
            receive: Answers some prompts, given with their numbers.
            prompts: All of them.
        """
        order = sorted(range(len(prompts)), key=lambda number: len(prompts[number].tokens))
        outcomes: dict[int, ReceiverAnswer] = {}
        for start in range(0, len(order), ROWS):
            numbers = order[start : start + ROWS]
            outcomes |= zip(numbers, receive([prompts[number] for number in numbers], numbers), strict=True)
        return [outcomes[number] for number in range(len(prompts))]
