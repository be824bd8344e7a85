"""Preflight of a task: which tokens can carry a value to the Receiver, measured without a training.

Three questions are asked of each token. What does the Receiver answer with its *own* states of the unredacted text
there (`copied`)? No message at this token can be expected to do better than a copy. What does it answer if the value
itself had stood there (`written`)? This is what a closed form aims at. And do the Sharer's states at a token hold the
value at all, so that a linear map can read it (`probe`)?

Tokens of different items are compared by name: the place, or a text and how often it occurred before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from c2c.cache import kv_cache
from c2c.cache.rotation import rotate_layers
from c2c.errors import RefusedError
from c2c.stats import wilson_interval
from c2c.testbed.channel import Prompt, ReceiverAnswer, SharerContext, TokenSpan
from c2c.testbed.channels.ridge import RidgeMap
from c2c.testbed.channels.states import answer_with_states, flatten_tokens
from c2c.testbed.items import Item, text_at
from c2c.testbed.models import ROWS, Models, StateReader, States

COMMON = 0.9
"""Share of the items that must have a token, for it to be a row."""
FOLDS = 5
"""Of the probe; no value is in two of them."""
CANDIDATES = 4
"""Values that an item without options is asked to choose among: its own and those of other items."""
COLUMNS = ("text", "token", "place", "n", "copied", "written", "probe")
RECEIVER, SHARER = "receiver", "sharer"


@dataclass(frozen=True)
class Token:
    """A token of one item's text, under a name by which other items have it too.

    Args:
        name: That of its place (`place_name`) or its text, and from the second time on its number among the equal ones.
        number: In the text, from 0.
        start: Its first character.
        end: Behind its last character.
        is_place: Whether it lies in a place.
    """

    name: str
    number: int
    start: int
    end: int
    is_place: bool


@dataclass(frozen=True)
class CarrierTask:
    """The items of a preflight with what both models read of them.

    Args:
        models: The pair.
        items: Those that are asked.
        prompts: Of the Receiver, with options to choose among.
        answers: Number of the right option of each item.
        tokens: Of each item's prompt, without the last one, which is read after a message, and without those that are
            read before the value (`from_first_place`).
        sent: Of each item's Sharer texts, by sender.
    """

    models: Models
    items: Sequence[Item]
    prompts: Sequence[Prompt]
    answers: Sequence[int]
    tokens: Sequence[Sequence[Token]]
    sent: Sequence[Sequence[Sequence[Token]]]

    @classmethod
    def of(cls, models: Models, items: Sequence[Item]) -> CarrierTask:
        """Find the tokens of all texts.

        Raises:
            RefusedError: If the items have fewer different values than `FOLDS`, or a place touches no token.
        """
        values = sorted({item.value for item in items})
        if len(values) < max(FOLDS, CANDIDATES):
            rule = f"The items of a preflight must have {max(FOLDS, CANDIDATES)} different values or more"
            raise RefusedError(rule, f"{len(values)} of {len(items)} items", "Ask more items: --questions")
        prompts, answers, tokens, sent = [], [], [], []
        for item in items:
            options = list(item.options) or _candidates(item, values)
            ids, _ = models.receiver.tokenise(item.prompt)
            prompts.append(Prompt(item.prompt, tuple(ids), (), tuple(options), item.value))
            answers.append(options.index(item.value))
            spans = [(place_name(item, number), place.receiver) for number, place in enumerate(item.places)]
            of_prompt = name_tokens(models.receiver, item.prompt, spans)[:-1]
            tokens.append(of_prompt if reads_before(item) else from_first_place(of_prompt))
            of_item = []
            for sender, text in enumerate(item.sharer_texts):
                spans = [
                    (place_name(item, number), place.sharer)
                    for number, place in enumerate(item.places)
                    if place.sender == sender
                ]
                of_text = name_tokens(models.sharer, text, spans)
                of_item.append(of_text if reads_before(item) else from_first_place(of_text))
            sent.append(of_item)
        return cls(models, items, prompts, answers, tokens, sent)

    def right(self, outcomes: Mapping[int, ReceiverAnswer]) -> list[bool]:
        """Whether each of some items' likeliest option is the right one."""
        scores = {number: outcome.option_logps for number, outcome in outcomes.items()}
        return [max(range(len(logps)), key=logps.__getitem__) == self.answers[n] for n, logps in scores.items()]


def examine_carriers(models: Models, items: Sequence[Item]) -> pd.DataFrame:
    """Accuracies by token: `COLUMNS`, and ``_low`` and ``_high`` bounds (95 %, Wilson) of the last three, as fractions.

    Rows without a token are the Receiver without a message (``none``) and with its own states at all tokens (``all``).

    Raises:
        RefusedError: As `CarrierTask.of`, or if the unredacted text is not the prompt with other places.
    """
    for reader in (models.receiver, models.sharer):
        reader.check_rotation()
    task = CarrierTask.of(models, items)
    rows = []
    # 1. Bounds, and the Receiver's own states of the unredacted text at each token.
    own = own_states(task)
    everywhere = [tuple(token.number for token in tokens) for tokens in task.tokens]
    rows.append(_row(RECEIVER, "none", False, copied=_answered(task, {number: () for number in range(len(items))}, {})))
    whole = dict(enumerate(everywhere))
    rows.append(_row(RECEIVER, "all", False, copied=_answered(task, whole, dict(enumerate(own)))))
    for name, at in common_tokens(task.tokens).items():
        copies = {item: own[item][:, :, :, [_index(task.tokens[item], token)]] for item, token in at.items()}
        places = {item: (token.number,) for item, token in at.items()}
        states_by_column = {"copied": copies, "written": written_states(task, at)}
        right = {name: _answered(task, places, states) for name, states in states_by_column.items()}
        rows.append(_row(RECEIVER, name, next(iter(at.values())).is_place, **right))
    # 2. The Sharer's states at each token of its texts.
    for sender in range(max(len(texts) for texts in task.sent)):
        texts = [of_item[sender] if sender < len(of_item) else [] for of_item in task.sent]
        states = sharer_states(task, sender, texts)
        for name, at in common_tokens(texts).items():
            inputs = {item: states[item][:, :, :, [_index(texts[item], token)]] for item, token in at.items()}
            text = SHARER if len(task.sent[0]) == 1 else f"{SHARER} {sender + 1}"
            rows.append(_row(text, name, next(iter(at.values())).is_place, probe=probe(task, inputs)))
    return pd.DataFrame(rows)


def place_name(item: Item, number: int) -> str:
    """How a place is called in the table: ``the value`` where it holds the one that is asked."""
    place = item.places[number]
    return "the value" if text_at(item.full_prompt, place.full).strip() == item.value else f"place {number + 1}"


def reads_before(item: Item) -> bool:
    """Whether the unredacted text differs from the prompt before its first place, as where a line precedes it."""
    if not item.places:
        return True
    first = item.places[0]
    return item.full_prompt[: first.full[0]] != item.prompt[: first.receiver[0]]


def from_first_place(tokens: Sequence[Token]) -> list[Token]:
    """The tokens from the first place on, and the one before it: what was read before cannot hold the value."""
    first = next((number for number, token in enumerate(tokens) if token.is_place), 1)
    return list(tokens[max(first - 1, 0) :])


def name_tokens(reader: StateReader, text: str, places: Sequence[tuple[str, tuple[int, int]]]) -> list[Token]:
    """The tokens of a text that hold characters, with their names.

    Args:
        reader: Its tokenizer is used.
        text: The text.
        places: Names and spans of the places in it.
    """
    counts: Counter[str] = Counter()
    tokens = []
    offsets = reader.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    for number, (start, end) in enumerate(offsets):
        if start == end:
            continue
        place = next((name for name, (a, b) in places if a < end and b > start), None)
        name = place or text[start:end].strip() or repr(text[start:end])
        counts[name] += 1
        again = f" ({counts[name]})" if counts[name] > 1 else ""
        tokens.append(Token(name + again, number, start, end, place is not None))
    return tokens


def common_tokens(texts: Sequence[Sequence[Token]]) -> dict[str, dict[int, Token]]:
    """Tokens by name, in the order of the first text that has most of them, and by item; those that are `COMMON`."""
    by_name: dict[str, dict[int, Token]] = {}
    for item, tokens in enumerate(texts):
        for token in tokens:
            by_name.setdefault(token.name, {})[item] = token
    shared = {name: at for name, at in by_name.items() if len(at) >= COMMON * len(texts)}
    return dict(sorted(shared.items(), key=lambda entry: _mean([token.number for token in entry[1].values()])))


def own_states(task: CarrierTask) -> list[States]:
    """The Receiver's states of each unredacted text at all tokens of its prompt but the last: ``(T, 2, H, n, D)``."""
    contexts = []
    for item, tokens in zip(task.items, task.tokens, strict=True):
        spans = [TokenSpan(*span_in_full(item, token.start, token.end), 1) for token in tokens]
        contexts.append(SharerContext((item.full_prompt,), tuple((0, span) for span in spans)))
    return task.models.receiver.states(contexts)


def span_in_full(item: Item, start: int, end: int) -> tuple[int, int]:
    """Where the unredacted text of an item has the characters of its prompt: at a place, the whole value.

    Raises:
        RefusedError: If it does not have them.
    """
    if not item.places:
        shift = len(item.full_prompt) - len(item.prompt)
    else:
        within = [place for place in item.places if place.receiver[0] < end and place.receiver[1] > start]
        if within:
            return within[0].full
        before = [place for place in item.places if place.receiver[1] <= start]
        first = item.places[0]
        shift = before[-1].full[1] - before[-1].receiver[1] if before else first.full[0] - first.receiver[0]
    if item.full_prompt[start + shift : end + shift] != item.prompt[start:end]:
        rule = f"The unredacted text of item {item.id} must be its prompt with other places, or with a text before it"
        raise RefusedError(rule, item.prompt[start:end], "Make the items anew: c2c.testbed.tasks.make")
    return start + shift, end + shift


@torch.no_grad()
def written_states(task: CarrierTask, at: Mapping[int, Token]) -> dict[int, States]:
    """The Receiver's states of the value, if it stood in its prompt in place of one token: ``(T, 2, H, 1, D)``.

    Of a value of several tokens it is the last one's.
    """
    receiver = task.models.receiver
    states: dict[int, States] = {}
    items = list(at)
    for begin in range(0, len(items), ROWS):
        batch = items[begin : begin + ROWS]
        prefixes = receiver.prefixes([task.prompts[item] for item in batch])
        numbers = torch.tensor([at[item].number for item in batch], device=receiver.device)
        # The tokens before the value, right-aligned: columns (B, w) of the prefixes, and which of them exist.
        width = max(int(numbers.max()), 1)
        offsets = torch.arange(width, device=receiver.device)[None] - (width - numbers[:, None])
        layers = kv_cache.take_tokens(prefixes.layers, (prefixes.starts[:, None] + offsets).clamp(min=0))
        # The value's tokens behind them, right-padded: (B, v)
        values = [_value_tokens(receiver, task.items[item].value) for item in batch]
        lengths = torch.tensor([len(ids) for ids in values], device=receiver.device)
        longest = int(lengths.max())
        pad = receiver.loaded.pad
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in values], device=receiver.device)
        columns = torch.arange(longest, device=receiver.device)[None]
        mask = torch.cat([offsets >= 0, columns < lengths[:, None]], dim=1).long()
        cache = kv_cache.cache_of_layers(layers, receiver.model.config)
        cache = kv_cache.prefill(receiver.model, ids, mask, numbers[:, None] + columns, cache)
        last = lengths[:, None] - 1
        chosen = kv_cache.take_tokens(kv_cache.layers_of(cache), width + last)
        chosen = rotate_layers(receiver.model, chosen, numbers[:, None] + last, inverse=True)
        # T x (B, H, 1, D) of keys and of values -> (B, T, 2, H, 1, D)
        stack = torch.stack([torch.stack(layer, dim=1) for layer in chosen], dim=1)
        states |= zip(batch, stack, strict=True)
    return states


def sharer_states(task: CarrierTask, sender: int, texts: Sequence[Sequence[Token]]) -> list[States]:
    """The Sharer's states at all tokens of one of its texts, for each item ``(T, 2, H, n, D)``."""
    contexts = []
    for item, tokens in zip(task.items, texts, strict=True):
        spans = tuple((sender, TokenSpan(token.start, token.end, 1)) for token in tokens)
        contexts.append(SharerContext(item.sharer_texts, spans))
    return task.models.sharer.states(contexts)


def probe(task: CarrierTask, inputs: Mapping[int, States]) -> list[bool]:
    """Whether a linear map reads the right option from states, by ridge regression to the embeddings of values.

    The items of a value are predicted from those of other values (`FOLDS` folds). The option counts whose embedding has
    the greatest cosine with the prediction, both less the mean value's. A value's embedding is that of its tokens in
    the Receiver, side by side where all values have as many.

    Args:
        task: Gives options and embeddings.
        inputs: Of some items, ``(T, 2, H, 1, D)`` each.
    """
    items = list(inputs)
    rows = flatten_tokens([inputs[item] for item in items])
    codes = embeddings_of(task)
    targets = torch.stack([codes[task.items[item].value] for item in items])
    folds = [int(sha256(task.items[item].value.encode()).hexdigest(), 16) % FOLDS for item in items]
    right = {}
    for fold in sorted(set(folds)):
        held_out = torch.tensor([other == fold for other in folds], device=rows.device)
        if held_out.all():
            continue
        fit = RidgeMap.fit(rows[~held_out], targets[~held_out])
        predictions = fit(rows[held_out]) - fit.offset
        for item, prediction in zip(
            [i for i, f in zip(items, folds, strict=True) if f == fold], predictions, strict=True
        ):
            options = torch.stack([codes[option] for option in task.prompts[item].options]) - fit.offset
            scores = torch.nn.functional.cosine_similarity(options, prediction[None], dim=1)
            right[item] = int(scores.argmax()) == task.answers[item]
    return [right[item] for item in items if item in right]


def embeddings_of(task: CarrierTask) -> dict[str, Tensor]:
    """Input embeddings of all options in the Receiver, one row each, float32."""
    receiver = task.models.receiver
    embeddings: Any = receiver.model.get_input_embeddings()
    weight: Tensor = embeddings.weight.detach().float()
    texts = sorted({option for prompt in task.prompts for option in prompt.options})
    tokens = {text: _value_tokens(receiver, text) for text in texts}
    if len({len(ids) for ids in tokens.values()}) == 1:
        return {text: weight[ids].flatten() for text, ids in tokens.items()}
    return {text: weight[ids].mean(0) for text, ids in tokens.items()}


def recommendation(frame: pd.DataFrame, items: Sequence[Item]) -> str:
    """What the table of `examine_carriers` says about where to fuse, in a sentence or two."""
    chance = _mean([1 / (len(item.options) or CANDIDATES) for item in items])
    alone = float(frame.loc[frame["token"] == "none", "copied"].iloc[0])
    tokens = frame[(frame["text"] == RECEIVER) & frame["written"].notna()].to_dict("records")
    best = {name: max(tokens, key=lambda row: row[name]) for name in ("copied", "written") if tokens}
    clear = {name: row for name, row in best.items() if row[f"{name}_low"] > max(chance, alone)}
    read = max(frame[frame["probe"].notna()].to_dict("records"), key=lambda row: row["probe"], default=None)
    if not clear:
        return (
            f"No token of the prompt carries the value: the Receiver answers {100 * alone:.0f} % without a message, "
            "and no more clearly with its own states of any one token. Choose another wording or another place."
        )
    name, row = max(clear.items(), key=lambda entry: float(entry[1][entry[0]]))
    states = {"copied": "the Receiver's own states of the unredacted text", "written": "the states of the value there"}
    sentence = f"Fuse at the token “{row['token']}”: {states[name]} give {100 * row[name]:.0f} %."
    if read is None or read["probe_low"] <= chance:
        remedy = "train a fuser, on many values"
        return f"{sentence} But no token of the Sharer's text holds the value for a linear map: {remedy}."
    whose = "the Sharer's" if read["text"] == SHARER else f"{read['text']}'s"
    share = 100 * read["probe"]
    return f"{sentence} Read {whose} token “{read['token']}”, from which a linear map tells {share:.0f} %."


def table_text(frame: pd.DataFrame) -> str:
    """The table in plain text, in percent with 95 % intervals."""
    lines = [f"{'text':10} {'token':24} {'n':>5} {'copied':>16} {'written':>16} {'probe':>16}"]
    for row in frame.to_dict("records"):
        cells = [
            "–"
            if pd.isna(row[name])
            else f"{100 * row[name]:.0f} [{100 * row[f'{name}_low']:.0f}, {100 * row[f'{name}_high']:.0f}]"
            for name in ("copied", "written", "probe")
        ]
        lines.append(
            f"{row['text']:10} {row['token'][:24]:24} {row['n']:>5} " + " ".join(f"{cell:>16}" for cell in cells)
        )
    return "\n".join(lines)


def _answered(task: CarrierTask, places: Mapping[int, tuple[int, ...]], states: Mapping[int, States]) -> list[bool]:
    """Whether items are answered rightly with states in some tokens of their prompts."""
    numbers = list(places)
    prompts = [replace(task.prompts[number], places=places[number]) for number in numbers]
    if states:
        outcomes = answer_with_states(task.models, [states[number] for number in numbers], prompts)
    else:
        receiver = task.models.receiver
        outcomes = task.models.in_batches(lambda batch, _: receiver.answer(batch), prompts)
    return task.right(dict(zip(numbers, outcomes, strict=True)))


def _row(text: str, token: str, is_place: bool, **right: Sequence[bool]) -> dict[str, object]:
    row: dict[str, object] = {
        "text": text,
        "token": token,
        "place": is_place,
        "n": max(map(len, right.values())),
    }
    for name in ("copied", "written", "probe"):
        answers = right.get(name, [])
        low, high = wilson_interval(sum(answers), len(answers)) if answers else (float("nan"),) * 2
        row |= {name: _mean(answers), f"{name}_low": low, f"{name}_high": high}
    return row


def _candidates(item: Item, values: Sequence[str]) -> list[str]:
    """The value of an item without options and those of others, in an order that its id decides."""
    others = sorted((value for value in values if value != item.value), key=lambda text: _hash(item.id + text))
    return sorted([item.value, *others[: CANDIDATES - 1]], key=lambda text: _hash(text + item.id))


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _value_tokens(reader: StateReader, value: str) -> list[int]:
    ids: list[int] = reader.tokenizer(f" {value}", add_special_tokens=False)["input_ids"]
    return ids


def _index(tokens: Sequence[Token], token: Token) -> int:
    """Where a token's states are among those of all tokens of its text."""
    return next(place for place, other in enumerate(tokens) if other.number == token.number)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if len(values) else float("nan")
