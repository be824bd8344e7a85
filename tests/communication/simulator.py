"""Simulated records of the test bed, whose true accuracies are chosen: for tests, and to look at tables and figures."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from c2c.testbed.card.records import (
    ADAPTER,
    BOUNDS,
    DERANGED,
    KEYS,
    MATCHED,
    RANDOM,
    SCHEMA,
    SELF,
    TEXT,
    VALUES,
    ZEROED,
    write,
)
from paper.communication import curves as training_curves

OPTIONS = 4
CHANCE = 1 / OPTIONS
CONTROLS = (DERANGED, RANDOM, ZEROED, SELF, KEYS, VALUES)
CHOICE_RATES = {
    "receiver": CHANCE,
    "full": 1.0,
    "own_states": 0.72,
    "text": 0.9,
    "text_cut": 0.6,
    "identity": 0.72,
    "random_states": CHANCE,
    "ridge": 0.52,
    "c2c": 0.92,
    "c2c_on_ridge": 0.995,
    "low_rank": 0.7,
    "activation": 0.45,
    "concept": 0.35,
    "ridge_int8": 0.51,
    "ridge_int4": 0.4,
}
"""How often each channel's matched message leads to the right option."""
EXACT_RATES = {"receiver": 0.0, "full": 0.98, "own_states": 0.85, "identity": 0.85, "text": 0.8, "random_states": 0.0}
"""The same of written answers, where it is not the rate of the choice less 0.05."""
BYTES = {"text": 40, "text_cut": 12, "ridge_int8": 5_000, "ridge_int4": 2_500, "activation": 3_600, "concept": 14_000}
"""Of a message; 40,000 of a cache."""
TRAINED = ("ridge", "c2c", "c2c_on_ridge", "low_rank", "activation", "concept", "ridge_int8", "ridge_int4")
WITH_COURSE = ("c2c", "c2c_on_ridge")
"""Channels that are trained in steps, and so have curves."""


@dataclass(frozen=True)
class TestBed:
    """What is simulated.

    Attributes:
        pairs: Ids.
        tasks: Ids; one that ends in `code` has written answers alone, of four digits.
        channels: Ids besides the bounds.
        seeds: Training seeds.
        items: Test items of a task.
        rates: Share of right options by channel, in the place of `CHOICE_RATES`.
        controls: Share of right options by channel and message, where it is not chance.
        seed_sd: Standard deviation of a trained channel's rate over its seeds.
        item_counts: Numbers of training items of the trained channels; the controls are asked after the last.
        subsets: Parts of a task, in turn.
    """

    __test__ = False

    pairs: Sequence[str] = ("smollm2_from_coder",)
    tasks: Sequence[str] = ("redacted_word", "redacted_code")
    channels: Sequence[str] = ("identity", "random_states", "ridge", "c2c", "c2c_on_ridge")
    seeds: Sequence[int] = (0, 1, 2)
    items: int = 120
    rates: Mapping[str, float] = field(default_factory=dict)
    controls: Mapping[tuple[str, str], float] = field(default_factory=dict)
    seed_sd: float = 0.01
    item_counts: Sequence[int] = (2000,)
    subsets: Sequence[str] = ("",)

    def records(self) -> pd.DataFrame:
        """Records with the types of `SCHEMA`."""
        frames = []
        for pair in self.pairs:
            for task in self.tasks:
                for seed in self.seeds:
                    for channel in (*BOUNDS, TEXT, *self.channels):
                        for message in self._messages(channel):
                            counts = self.item_counts if channel in TRAINED else (0,)
                            counts = counts if message == MATCHED else counts[-1:]
                            frames += [self._answers(pair, task, seed, channel, message, items) for items in counts]
        frame = pd.concat(frames, ignore_index=True)
        return frame[SCHEMA.names]

    @staticmethod
    def _messages(channel: str) -> tuple[str, ...]:
        if channel in BOUNDS:
            return (BOUNDS[channel],)
        return (MATCHED, *CONTROLS, *((ADAPTER,) if channel in TRAINED else ()))

    def _answers(self, pair: str, task: str, seed: int, channel: str, message: str, items: int) -> pd.DataFrame:
        """Rows of one channel with one message; what was not trained answers alike in all seeds."""
        is_trained = channel in TRAINED
        # An adapter is one training, whatever channel it is the control of: it does not know the item.
        name = "own_states" if channel == "identity" and message == MATCHED else channel
        words = (pair, task, name, message, seed if is_trained or message == DERANGED else -1, items)
        draw = np.random.default_rng(zlib.crc32(repr(words).encode()))
        # What no message tells is guessed alike by all: the items' own difficulty is common to the controls.
        common = np.random.default_rng(zlib.crc32(repr((pair, task)).encode())).random(self.items)
        is_free = task.endswith("code")
        base = 0.0 if is_free else CHANCE
        rate = self.rates.get(channel, CHOICE_RATES[channel])
        if is_free:
            rate = EXACT_RATES.get(channel, max(0.0, rate - 0.05))
        rate = base + (rate - base) * self._learned(channel, items)
        if message not in (MATCHED, BOUNDS["receiver"]):
            rate = self.controls.get((channel, message), base)
        if is_trained and base < rate < 1:
            rate = float(np.clip(rate + self.seed_sd * draw.standard_normal(), 0, 1))
        is_guess = rate == base
        # Answers without information agree on nearly all items.
        own = draw.random(self.items)
        luck = np.where(draw.random(self.items) < 0.95, common, own) if is_guess else own
        right = luck < rate
        gold = np.random.default_rng(5).integers(OPTIONS, size=self.items)
        wrong = (gold + 1 + np.floor(common * 3 - 1e-9).astype(int)) % OPTIONS
        prediction = np.where(right, gold, np.where(wrong == gold, (gold + 1) % OPTIONS, wrong))
        logps = draw.normal(-6, 0.4, size=(self.items, OPTIONS))
        logps[np.arange(self.items), prediction] = logps.max(axis=1) + (0.3 if is_guess else 3.0)
        ids = [f"{task}-{number:04d}" for number in range(self.items)]
        names_donor = (draw.random(self.items) < (0.9 if message == DERANGED and rate <= base else 0.02)) & ~right
        values = [f"{(number * 7919) % 10_000:04d}" for number in range(self.items)]
        texts = [value if hit else "0000" for value, hit in zip(values, right, strict=True)]
        size = BYTES.get(channel, 40_000)
        return pd.DataFrame(
            {
                "scale": "laptop",
                "pair": pair,
                "task": task,
                "seed": seed,
                "channel": channel,
                "message": message,
                "id": ids,
                "subset": [self.subsets[number % len(self.subsets)] for number in range(self.items)],
                "gold": -1 if is_free else gold,
                "option_logps": [[]] * self.items if is_free else list(map(list, logps)),
                "prediction": -1 if is_free else prediction,
                "correct": False if is_free else right,
                "answer_logp": np.where(right, -0.05, -7.0),
                "text": texts if is_free else "",
                "exact": right if is_free else False,
                "donor": [ids[number - 1] for number in range(self.items)] if message == DERANGED else "",
                "donor_named": names_donor if message == DERANGED else False,
                "bytes": 0 if message in (BOUNDS["receiver"], ADAPTER) else size,
                "send_ms": 0.0 if channel in ("receiver", "full") else 9.0,
                "receive_ms": 12.0 if channel == "receiver" else 14.0,
                "parameters": 1_500_000 if is_trained else 0,
                "training_seconds": 60.0 if is_trained else 0.0,
                "training_items": items,
                "training_steps": 100 if channel in WITH_COURSE else 0,
            }
        )

    @staticmethod
    def _learned(channel: str, items: int) -> float:
        """How much of its gain a channel reaches with so many training items."""
        half = {"ridge": 150, "c2c": 600, "c2c_on_ridge": 60}.get(channel, 0)
        return 1.0 if not half else items / (items + half) * (2000 + half) / 2000

    def curves(self, pair: str, task: str, seed: int) -> pd.DataFrame:
        """Training curves of one seed: c2c is slow, c2c on ridge fast, and no control leaves the base."""
        draw = np.random.default_rng(zlib.crc32(repr((pair, task, seed)).encode()))
        rows = []
        base = 0.0 if task.endswith("code") else CHANCE
        for channel in WITH_COURSE:
            for message in (MATCHED, DERANGED, ZEROED, ADAPTER):
                for step in (1, 3, 10, 30, 100, 300, 1000, 2000):
                    half = {"c2c": 300, "c2c_on_ridge": 12}[channel]
                    top = base + (0.97 - base) * step**2 / (step**2 + half**2) if message == MATCHED else base
                    rate = float(np.clip(top + 0.02 * draw.standard_normal(), 0, 1))
                    loss = 2.03 + 1.5 * half / (step + half) - 1.8 * (top - base) / (0.97 - base)
                    ids = (pair, task, seed, channel, message, step)
                    rows.append((*ids, loss + 0.03 * draw.standard_normal(), rate, max(0.0, rate - 0.1)))
        return pd.DataFrame(rows, columns=training_curves.COLUMNS)

    def write(self, folder: Path) -> list[Path]:
        """Write records and curves as the test bed does, and return the record files."""
        frame = self.records()
        paths = []
        for (pair, task, seed), rows in frame.groupby(["pair", "task", "seed"]):
            path = folder / f"testbed/records/{pair}/{task}/seed{seed}.parquet"
            write(rows, path)
            curves = self.curves(str(pair), str(task), int(str(seed)))
            own_columns = [name for name in training_curves.COLUMNS if name not in ("pair", "task", "seed")]
            curves[own_columns].to_csv(path.with_name(path.stem + training_curves.SUFFIX), index=False)
            paths.append(path)
        return paths
