"""Records of the test bed: an item that a channel answered with one of its messages, and frames of their values.

A *channel* brings a message from the Sharer to the Receiver; a *cell* is a pair, a task and a channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from c2c.errors import RefusedError
from c2c.stats import NO_SEED, OWN_QUESTIONS

MATCHED, DERANGED, RANDOM, ZEROED = "matched", "deranged", "random", "zeroed"
SELF, KEYS, VALUES, ADAPTER, NONE = "self", "keys", "values", "adapter", "none"
MESSAGES = (MATCHED, DERANGED, RANDOM, ZEROED, SELF, KEYS, VALUES, ADAPTER, NONE)
RECEIVER, FULL, OWN_STATES, TEXT = "receiver", "full", "own_states", "text"
BOUNDS = {RECEIVER: NONE, FULL: NONE, OWN_STATES: MATCHED}
"""Channels without two models that bound the others, and the message of each."""
IDENTITY, RANDOM_STATES = "identity", "random_states"
"""The channels of the gate."""
CHOICE, EXACT = "choice", "exact"
MEASURES = {CHOICE: "correct", EXACT: "exact"}
"""What is measured, and the column of it: the likeliest option is right; the written answer equals the value."""
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("scale", "pair", "task")),
        ("seed", pa.int64()),
        *((name, pa.string()) for name in ("channel", "message", "id", "subset")),
        ("gold", pa.int64()),
        ("option_logps", pa.list_(pa.float64())),
        ("prediction", pa.int64()),
        ("correct", pa.bool_()),
        ("answer_logp", pa.float64()),
        ("text", pa.string()),
        ("exact", pa.bool_()),
        ("donor", pa.string()),
        ("donor_named", pa.bool_()),
        ("bytes", pa.int64()),
        ("send_ms", pa.float64()),
        ("receive_ms", pa.float64()),
        ("parameters", pa.int64()),
        ("training_seconds", pa.float64()),
        ("training_items", pa.int64()),
        ("training_steps", pa.int64()),
    ]
)
DECIMALS = 2
"""Of log-likelihoods in committed records."""
MARGIN = 2.8
"""Of equivalence, in points."""
CELL = ["pair", "task", "channel"]
KEY = [*CELL, "seed", "message", "training_items", "id"]
"""Columns that name a record."""
REMEDY = "Make the records again: snakemake with the target testbed"


@dataclass(frozen=True)
class CardSettings:
    """What the records do not say of themselves.

    Attributes:
        margin: Of equivalence, in points, fixed before the run.
        measures: By task, the measure on which its evidence level rests. It is the choice by default, or the written
            answer where items have no options.
        values: By task whose answers are written, how many values are equally likely; bits are computed from it.
        order: By `pair`, `task` and `channel`, the ids in the order in which tables show them; others follow in
            alphabetical order. Without a list the order is that of the records.
    """

    margin: float = MARGIN
    measures: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, int] = field(default_factory=dict)
    order: Mapping[str, Sequence[str]] = field(default_factory=dict)


class CellIds(NamedTuple):
    """Ids of a pair, a task and a channel."""

    pair: str
    task: str
    channel: str


@dataclass(frozen=True)
class Layout:
    """Where the records of one cell and message lie: items as rows, seeds as columns.

    Attributes:
        rows: Numbers of the records, `(Q, S)`.
        items: Ids of the items, or ranks where each seed has items of its own.
        seeds: Training seeds, or `NO_SEED` alone.
        has_own_items: Whether each seed has items of its own.
    """

    rows: np.ndarray
    items: Sequence[str]
    seeds: Sequence[int]
    has_own_items: bool = False

    def frame(self, values: np.ndarray) -> pd.DataFrame:
        """A column of all records as the frame of these, `(Q, S)`."""
        return pd.DataFrame(values[self.rows], self.index, list(self.seeds))

    @property
    def index(self) -> pd.Index:
        """The items; it has the name `OWN_QUESTIONS` where each seed has its own."""
        return pd.Index(list(self.items), name=OWN_QUESTIONS if self.has_own_items else None)


class MessageRecords:
    """Records of one scale, with a frame of values `(Q, S)` for each cell and message.

    A frame is of the training on the most items, and of the items that all seeds answered. Where each seed draws items
    of its own, which the gold options tell even if ids repeat, rows have nothing in common and the index is named
    `OWN_QUESTIONS`. A channel that was not trained and answers the same items alike in all seeds has the single column
    `NO_SEED`.

    Args:
        frame: Records as `read` gives them.
        settings: Margin, measures and order.

    Raises:
        RefusedError: There is no record, they are of several scales, two have the same `KEY`, or one contradicts itself
            or another.
    """

    def __init__(self, frame: pd.DataFrame, settings: CardSettings | None = None) -> None:
        self.settings = settings or CardSettings()
        scales = sorted(frame["scale"].unique())
        if len(scales) != 1:
            raise RefusedError("Records of the test bed must be of one scale", scales, REMEDY)
        if (double := frame[frame.duplicated(KEY)]).size:
            raise RefusedError("A record of the test bed must be there once", double[KEY].iloc[0].to_dict(), REMEDY)
        _check_rows(frame)
        self.scale = str(scales[0])
        self._order = {kind: list(self.settings.order.get(kind, frame[kind].unique())) for kind in CELL}
        self.frame = frame.assign(training_items=frame["training_items"].fillna(0)).sort_values(KEY, ignore_index=True)
        self._columns = {name: self.frame[name].to_numpy() for name in SCHEMA.names if name != "option_logps"}
        self._options = _padded(self.frame["option_logps"])
        groups = self.frame.groupby([*CELL, "message", "training_items"], sort=False).indices
        # By cell and message, the records after each number of training items.
        self._rows: dict[tuple[CellIds, str], dict[int, np.ndarray]] = {}
        for key, rows in groups.items():
            pair, task, channel, message, items = cast(tuple[str, str, str, str, float], key)
            self._rows.setdefault((CellIds(pair, task, channel), message), {})[int(items)] = np.sort(rows)
        self._layouts: dict[tuple[CellIds, str, int], Layout] = {}

    @classmethod
    def load(cls, paths: Iterable[Path], settings: CardSettings | None = None) -> MessageRecords:
        """The records of some files."""
        return cls(read(paths), settings)

    @cached_property
    def cells(self) -> list[CellIds]:
        """All cells, in the order of the settings."""

        def rank(kind: str, name: str) -> tuple[int, str]:
            order = self._order[kind]
            return order.index(name) if name in order else len(order), name

        cells = {cell for cell, _ in self._rows}
        return sorted(cells, key=lambda cell: [rank(kind, getattr(cell, kind)) for kind in CELL])

    @property
    def tasks(self) -> list[tuple[str, str]]:
        """Pairs with their tasks."""
        return list(dict.fromkeys((cell.pair, cell.task) for cell in self.cells))

    def messages(self, cell: CellIds) -> list[str]:
        """Messages with which a cell's channel was asked."""
        present = {message for of_cell, message in self._rows if of_cell == cell}
        return [*(name for name in MESSAGES if name in present), *sorted(present - set(MESSAGES))]

    def measures(self, task: str) -> list[str]:
        """Which of `MEASURES` a task has; that on which its evidence level rests comes first.

        That is the one that the settings name, else the choice where the task has options.
        """
        first = self.settings.measures.get(task, CHOICE)
        return sorted(self._measures[task], key=lambda measure: measure != first)

    @cached_property
    def _measures(self) -> dict[str, list[str]]:
        has = {CHOICE: self.frame["gold"] >= 0, EXACT: self.frame["text"].fillna("") != ""}
        tasks = self.frame["task"]
        by_measure = {measure: set(tasks[rows]) for measure, rows in has.items()}
        return {task: [name for name in MEASURES if task in by_measure[name]] for task in tasks.unique()}

    def answers(self, cell: CellIds, message: str, measure: str) -> pd.DataFrame | None:
        """Zeros and ones of a measure, `(Q, S)`; None where the channel was not asked with this message."""
        return self.numbers(cell, message, MEASURES[measure])

    def answers_naming_donor(self, cell: CellIds) -> pd.DataFrame | None:
        """Zeros and ones `(Q, S)`: whether an answer with a deranged message names the value of that message's item."""
        return self.numbers(cell, DERANGED, "donor_named")

    def numbers(self, cell: CellIds, message: str, column: str) -> pd.DataFrame | None:
        """A column of the records as numbers, `(Q, S)`; None where there are none."""
        layout = self.layout(cell, message)
        return None if layout is None else layout.frame(self._columns[column]).astype(float)

    def options(self, cell: CellIds, message: str) -> np.ndarray | None:
        """Log-likelihoods of the options in nats, `(Q, S, options)`, filled up with minus infinity."""
        layout = self.layout(cell, message)
        return None if layout is None else self._options[layout.rows]

    def by_training_items(self, cell: CellIds, message: str, measure: str) -> dict[int, pd.DataFrame]:
        """The answers of a cell and message, by how many items the channel was trained on."""
        column = self._columns[MEASURES[measure]]
        by_items = self._rows.get((cell, message), {})
        layouts = {items: self.layout(cell, message, items) for items in sorted(by_items)}
        return {items: layout.frame(column).astype(float) for items, layout in layouts.items() if layout}

    def needs_message(self, pair: str, task: str) -> bool:
        """Whether the Receiver lacks what the full text says.

        It does not where both prompts are the same text: then every right answer has the same log-likelihood.
        """
        bounds = [self.numbers(CellIds(pair, task, name), BOUNDS[name], "answer_logp") for name in (FULL, RECEIVER)]
        full, receiver = bounds
        return full is None or receiver is None or not full.equals(receiver)

    def mean(self, cell: CellIds, message: str, column: str) -> float:
        """Mean of a column of numbers over items and seeds; not a number where there is none."""
        frame = self.numbers(cell, message, column)
        return float("nan") if frame is None else float(frame.to_numpy().mean())

    def layout(self, cell: CellIds, message: str, items: int | None = None) -> Layout | None:
        """Where the records after training on so many items lie; without a number, on the most."""
        by_items = self._rows.get((cell, message))
        if not by_items:
            return None
        items = max(by_items) if items is None else items
        if (cell, message, items) not in self._layouts:
            self._layouts[cell, message, items] = self._lay_out(by_items[items])
        return self._layouts[cell, message, items]

    def _lay_out(self, rows: np.ndarray) -> Layout:
        seeds, starts = np.unique(self._columns["seed"][rows], return_index=True)
        # Rows are sorted by seed and id.
        of_seeds = np.split(rows, starts[1:])
        ids_of_seeds = [self._columns["id"][of_seed] for of_seed in of_seeds]
        common = set(ids_of_seeds[0]).intersection(*ids_of_seeds)
        if not common:
            size = min(map(len, of_seeds))
            ranks = [f"rank {rank:06d}" for rank in range(size)]
            return Layout(np.stack([of_seed[:size] for of_seed in of_seeds], axis=1), ranks, seeds.tolist(), True)
        # S x (Q,) -> (Q, S): an item without a partner for its seed's permutation has no record of that seed.
        grid = np.stack(
            [of_seed[[name in common for name in ids]] for of_seed, ids in zip(of_seeds, ids_of_seeds, strict=True)],
            axis=1,
        )
        ids = self._columns["id"][grid]
        gold = self._columns["gold"][grid]
        if (gold != gold[:, :1]).any():
            return Layout(grid, ids[:, 0].tolist(), seeds.tolist(), True)
        is_trained = bool((np.nan_to_num(self._columns["parameters"][rows].astype(float)) > 0).any())
        if is_trained or not self._is_same(grid):
            return Layout(grid, ids[:, 0].tolist(), seeds.tolist())
        return Layout(grid[:, :1], ids[:, 0].tolist(), [NO_SEED])

    def _is_same(self, grid: np.ndarray) -> bool:
        """Whether the answers of all seeds are the same."""
        values = [self._columns[name][grid].astype(float) for name in (*MEASURES.values(), "prediction", "answer_logp")]
        return all(np.array_equal(part, np.broadcast_to(part[:, :1], part.shape), equal_nan=True) for part in values)


def read(paths: Iterable[Path]) -> pd.DataFrame:
    """Records of some parquet files, with the types of `SCHEMA`.

    Raises:
        RefusedError: A file is none of records, or there is none.
    """
    frames = []
    for path in paths:
        try:
            frames.append(pq.read_table(path, columns=SCHEMA.names).cast(SCHEMA).to_pandas())
        except (pa.ArrowException, ValueError, KeyError) as error:
            raise RefusedError(f"{path.name} must hold records of the test bed", str(error), REMEDY) from error
    if not frames:
        raise RefusedError("There must be records of the test bed", "no file", REMEDY)
    return pd.concat(frames, ignore_index=True)


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write records as one parquet file, sorted by their key, so that the same records are the same bytes."""
    rows = frame.sort_values(KEY, ignore_index=True)[SCHEMA.names]
    table = pa.Table.from_pandas(rows, schema=SCHEMA, preserve_index=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd", compression_level=15)


def compact(frame: pd.DataFrame) -> pd.DataFrame:
    """Records as they are committed: log-likelihoods rounded, those of options only where bits are computed from them.

    A dictionary of rounded numbers makes the file a tenth as large.
    """
    has_bits = frame["message"].isin([MATCHED, NONE])
    options = [
        np.round(np.asarray(logps, dtype=float), DECIMALS) if is_used else np.array([])
        for logps, is_used in zip(frame["option_logps"], has_bits, strict=True)
    ]
    return frame.assign(option_logps=pd.Series(options, frame.index), answer_logp=frame["answer_logp"].round(DECIMALS))


def _padded(lists: pd.Series) -> np.ndarray:
    """Lists of numbers, of which some are empty, as `(records, longest)`, filled up with minus infinity."""
    values = [np.asarray([] if numbers is None else numbers, dtype=float) for numbers in lists]
    lengths = np.array([len(numbers) for numbers in values])
    matrix = np.full((len(values), max(lengths.max(initial=0), 1)), -np.inf)
    matrix[np.arange(matrix.shape[1]) < lengths[:, None]] = np.concatenate(values) if len(values) else []
    return matrix


def _check_rows(frame: pd.DataFrame) -> None:
    """Refuse records that no run can have written: a changed row would be a wrong number.

    Raises:
        RefusedError: A message is unknown, an item has two right answers, a mark is not that of the prediction, a
            log-probability is not finite, or the channels of a task were not asked the same items.
    """
    unknown = sorted(set(frame["message"]) - set(MESSAGES))
    if unknown:
        raise RefusedError("A message of a record must be a known one", unknown, REMEDY)
    place = ["pair", "task", "seed"]
    golds = frame.groupby([*place, "id"])["gold"].nunique()
    if (golds > 1).any():
        raise RefusedError("All records of an item must have one right answer", golds[golds > 1].index[0], REMEDY)
    marked = frame["correct"].astype(bool) == ((frame["prediction"] == frame["gold"]) & (frame["gold"] >= 0))
    if not marked.all():
        rule = "A record must be correct where its prediction is the right answer, and nowhere else"
        raise RefusedError(rule, frame.loc[~marked, [*CELL, "seed", "message", "id"]].iloc[0].to_dict(), REMEDY)
    if not np.isfinite(frame["answer_logp"].to_numpy(float)).all():
        raise RefusedError("The log-probability of an answer must be finite", "another number", REMEDY)
    own = frame[frame["message"].isin([MATCHED, NONE])]
    for ids, part in own.groupby(place):
        items = part.groupby("channel")["id"].agg(frozenset)
        if items.nunique() > 1:
            counts = items.map(len).to_dict()
            raise RefusedError(f"All channels of {ids} must have been asked the same items", counts, REMEDY)
