"""One run of the test bed: one pair, one task and one seed, through all channels with all their controls.

Every channel gets the same items, the same controls and the same measurements: it only sends and receives. A channel's
rows are kept when it is done, so that an interrupted run resumes with the next one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.errors import RefusedError, check_choice
from c2c.evaluation.answers.store import versions
from c2c.models.loading import model_state
from c2c.models.pair import load_models
from c2c.provenance import file_hash, settings_hash
from c2c.storage.files import written_whole
from c2c.storage.locks import locked
from c2c.testbed.channel import Channel, Message, ReceiverAnswer, TrainedChannel, TrainingResult
from c2c.testbed.channels.states import answer_with_states
from c2c.testbed.checks import change_settings, check_answers, check_messages, check_splits
from c2c.testbed.controls import donors, has_halves, random_like, with_half_of, zeroed
from c2c.testbed.items import read_items
from c2c.testbed.layout import ItemLayout, lay_out
from c2c.testbed.models import Models
from c2c.testbed.records import COLUMNS, CURVE_COLUMNS, MESSAGES
from c2c.testbed.registry import Factory, registered_channels, source_hash
from c2c.training.config import GREATEST_SEED

SPLITS = ("train", "validation", "test")
ChannelProgress = Callable[[str, bool], None]
"""Is told which channel is done, and whether it was measured now."""


@dataclass(frozen=True, kw_only=True)
class ChannelRun:
    """Settings of ``c2c testbed``.

    Args:
        scale: Name of the scale, noted in records.
        pair: Name of the pair, noted in records.
        seed: Of trainings, controls and the items.
        receiver: The Receiver: folder, manifest or hub id.
        sharer: The Sharer.
        items: Folder of ``train.jsonl``, ``validation.jsonl`` and ``test.jsonl``.
        channels: Names of registered channels.
        messages: Controls besides ``matched``, of `c2c.testbed.records.MESSAGES`.
        settings: Settings of channels that differ from their own, by channel and name.
        test_items: How many test items are asked, the first ones; 0 for all.
        dtype: Precision of the models.
        output: Records (.parquet); curves are written next to it (.curves.csv).

    Raises:
        RefusedError: If a message is unknown, a channel is named twice, settings are of another channel, or a number or
            the output cannot be.
    """

    scale: str
    pair: str
    seed: int
    receiver: str | Path
    sharer: str | Path
    items: Path
    channels: Sequence[str]
    messages: Sequence[str] = MESSAGES
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    test_items: int = 0
    dtype: str = "float32"
    output: Path = Path("records.parquet")

    def __post_init__(self) -> None:
        for message in self.messages:
            check_choice("A message of the test bed", message, MESSAGES)
        if len(set(self.channels)) < len(self.channels):
            raise RefusedError("Each channel of a run must be named once", list(self.channels), "Drop the repetition")
        for name in self.settings:
            check_choice("A channel in --settings", name, self.channels)
        if not 0 <= self.seed <= GREATEST_SEED:
            raise RefusedError(f"The seed must be 0 to {GREATEST_SEED}", self.seed, "Correct --seed")
        if self.test_items < 0:
            raise RefusedError("--test-items must be at least 0", self.test_items, "0 asks all")
        if self.output.suffix != ".parquet":
            raise RefusedError("--output must end with .parquet", str(self.output), "Rename it")

    def fingerprint(self, channel: str) -> str:
        """Hash of everything that decides the rows of a channel: settings, items, and the code of this package."""
        places = ("channels", "output", "items", "settings", "receiver", "sharer")
        settings = {item.name: str(getattr(self, item.name)) for item in fields(self) if item.name not in places}
        # Places do not count, but what lies there does.
        files = {split: file_hash(self.items / f"{split}.jsonl") for split in SPLITS}
        models = [model_state(model) for model in (self.receiver, self.sharer)]
        own = {"channel": channel, "settings": dict(self.settings.get(channel, {})), "source": source_hash(channel)}
        return settings_hash(settings | files | own | {"models": models, "versions": versions()})

    def part(self, channel: str) -> Path:
        """Where the rows of a channel are kept until all are there; another version of it has another name."""
        folder = self.output.with_name(f".{self.output.stem}.parts")
        return folder / f"{channel}.{self.fingerprint(channel)[:16]}.json"


@dataclass
class Bed:
    """What all channels of a run share.

    Args:
        run: Settings.
        models: The pair.
        splits: Items of each split as both models read them.
    """

    run: ChannelRun
    models: Models
    splits: dict[str, list[ItemLayout]]

    @classmethod
    def load(cls, run: ChannelRun) -> Bed:
        """Read the items and load the models.

        Raises:
            RefusedError: If items or models cannot be used.
        """
        items = {split: read_items(run.items / f"{split}.jsonl") for split in SPLITS}
        check_splits(items)
        if run.test_items:
            items["test"] = items["test"][: run.test_items]
        receiver, sharer = load_models([run.receiver, run.sharer], run.dtype)
        models = Models.load(receiver, sharer)
        return cls(run, models, {split: [lay_out(item, models.receiver) for item in items[split]] for split in SPLITS})

    @property
    def test(self) -> list[ItemLayout]:
        """The items that are asked."""
        return self.splits["test"]

    def rows(
        self, channel: str, message: str, outcomes: Sequence[ReceiverAnswer], **columns: Any
    ) -> list[dict[str, Any]]:
        """Records of one channel and message, one for each test item.

        Args:
            channel: Its name.
            message: What was received.
            outcomes: Of the test items, in their order.
            **columns: Further columns of all rows; ``donor`` is a list of numbers of test items.
        """
        partners = columns.pop("donor", None)
        rows = []
        for number, (layout, outcome) in enumerate(zip(self.test, outcomes, strict=True)):
            item = layout.item
            scores = outcome.option_logps
            prediction = layout.prompt.choose(scores)
            # Of an item whose choice alone counts, nothing written is recorded.
            written = "" if item.by_character else outcome.text
            donor = self.test[partners[number]].item if partners else None
            if donor is item:
                # There was no other message of this shape: nothing was exchanged, so nothing is recorded.
                continue
            answers = {written, item.options[prediction] if scores else written}
            rows.append(
                {
                    "scale": self.run.scale,
                    "pair": self.run.pair,
                    "task": item.task,
                    "seed": self.run.seed,
                    "channel": channel,
                    "message": message,
                    "id": item.id,
                    "subset": item.subset,
                    "gold": -1 if item.answer is None else item.answer,
                    "option_logps": list(scores),
                    "prediction": prediction,
                    "correct": prediction >= 0 and prediction == item.answer,
                    "answer_logp": outcome.value_logp,
                    "text": written,
                    "exact": written == item.value,
                    "donor": donor.id if donor else "",
                    "donor_named": donor is not None and donor.value in answers,
                    "bytes": 0,
                    "send_ms": 0.0,
                    "receive_ms": 0.0,
                    "parameters": 0,
                    "training_seconds": 0.0,
                    "training_items": 0,
                    "training_steps": 0,
                }
                | {name: value[number] if isinstance(value, list) else value for name, value in columns.items()}
            )
        return rows

    # Bounds

    def bounds(self) -> list[dict[str, Any]]:
        """The Receiver without a message, with the unredacted text, and with its own states of it at the places."""
        receiver, test = self.models.receiver, self.test
        rows: list[dict[str, Any]] = []
        prompts = {"receiver": [layout.prompt for layout in test], "full": [layout.full for layout in test]}
        for name, its_prompts in prompts.items():
            receiver.read(its_prompts)
            outcomes, ms = timed(
                lambda its_prompts=its_prompts: self.models.in_batches(  # type: ignore[misc]
                    lambda batch, _: receiver.answer(batch), its_prompts
                ),
                len(test),
            )
            rows += self.rows(name, "none", outcomes, receive_ms=ms)
        states = receiver.states([layout.own for layout in test])
        outcomes, ms = timed(lambda: answer_with_states(self.models, states, prompts["receiver"]), len(test))
        return rows + self.rows("own_states", "matched", outcomes, receive_ms=ms)

    # Channels

    def measure(self, name: str, factory: Factory) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Records and curves of one channel with all messages of the run."""
        run, rows = self.run, []
        channel = self._build(name, factory)
        training, columns, curves = self._train(name, channel, "matched")
        prompts = [layout.prompt for layout in self.test]
        # The first channel that needs them would be charged for what all of them share.
        self.models.receiver.read(prompts)
        # 1. Messages of all items, and the others that are made from them.
        with noted(f"in the channel {name}, while it sends"):
            messages, send_ms = self._send(channel, own=getattr(channel, "reads_own", False))
        messages = check_messages(name, messages, len(self.test))
        lengths, values = [len(prompt.tokens) for prompt in prompts], [prompt.value for prompt in prompts]
        partners = donors(messages, lengths, values, run.seed)
        variants = self._variants(channel, messages, partners)
        # 2. What the Receiver makes of each of them.
        for message, (received, exchanged) in variants.items():
            with noted(f"in the channel {name}, message {message}"):
                check_messages(name, received, len(prompts))
                outcomes, receive_ms = timed(partial(channel.receive, received, prompts), len(prompts))
            outcomes = check_answers(name, message, outcomes, prompts)
            more = columns | {"bytes": [item.size for item in received], "send_ms": send_ms, "receive_ms": receive_ms}
            rows += self.rows(name, message, outcomes, **more, **({"donor": partners} if exchanged else {}))
        # 3. The same parameters trained without a message.
        if training is not None and "adapter" in run.messages:
            adapter = self._build(name, factory)
            self.models.sharer.silent = True
            try:
                _, columns, curve = self._train(name, adapter, "adapter")
            finally:
                self.models.sharer.silent = False
            outcomes = check_answers(name, "adapter", adapter.receive(zeroed(messages), prompts), prompts)
            rows += self.rows(name, "adapter", outcomes, **columns)
            curves += curve
        return rows, curves

    def _build(self, name: str, factory: Factory) -> Channel:
        channel = factory(self.models)
        if not isinstance(channel, Channel):
            raise RefusedError("A channel must have the methods send and receive", name, "See docs/testbed.md")
        change = dict(self.run.settings.get(name, {}))
        if change:
            configurable: Any = channel
            configurable.settings = change_settings(name, getattr(channel, "settings", None), change)
        return channel

    def _train(
        self, name: str, channel: Channel, message: str
    ) -> tuple[TrainingResult | None, dict[str, Any], list[dict[str, Any]]]:
        """Train a channel that is trained; its columns of a record, and the rows of its curve."""
        if not isinstance(channel, TrainedChannel):
            return None, {}, []
        examples = {split: [layout.example for layout in self.splits[split]] for split in ("train", "validation")}
        begin = time.perf_counter()
        training = channel.fit(examples["train"], examples["validation"], self.run.seed)
        columns = {
            "parameters": training.parameters,
            "training_seconds": time.perf_counter() - begin,
            "training_items": len(examples["train"]),
            "training_steps": training.steps,
        }
        facts = {"scale": self.run.scale, "pair": self.run.pair, "task": self.test[0].item.task, "seed": self.run.seed}
        curve = [facts | {"channel": name, "training": message} | point for point in training.curve]
        return training, columns, curve

    def _send(self, channel: Channel, own: bool) -> tuple[list[Message], float]:
        """Messages of all test items and their mean time in milliseconds, readings that were kept included."""
        contexts = [layout.own if own else layout.context for layout in self.test]
        readers = (self.models.receiver, self.models.sharer)
        charged = sum(reader.charged for reader in readers)
        messages, ms = timed(lambda: channel.send(contexts), len(contexts))
        charged = sum(reader.charged for reader in readers) - charged
        return messages, ms + 1000 * charged / len(contexts)

    def _variants(
        self, channel: Channel, messages: list[Message], partners: Sequence[int]
    ) -> dict[str, tuple[list[Message], bool]]:
        """Messages of each kind, and whether they are another item's in whole or part."""
        others = [messages[partner] for partner in partners]
        makers: dict[str, tuple[Callable[[], list[Message]], bool]] = {
            "matched": (lambda: messages, False),
            "deranged": (lambda: others, True),
            "zeroed": (lambda: zeroed(messages), False),
        }
        # Where the Sharer reads the Receiver's own text, its reading of that text is the matched message.
        if any(layout.redacted != layout.context for layout in self.test):
            makers["self"] = (lambda: channel.send([layout.redacted for layout in self.test]), False)
        if all(message.tensors for message in messages):
            makers["random"] = (lambda: random_like(messages, self.run.seed), False)
        if all(has_halves(message) for message in messages):
            for half, wrong in (("keys", "values"), ("values", "keys")):
                makers[half] = (
                    lambda wrong=wrong: [  # type: ignore[misc]
                        with_half_of(message, other, wrong) for message, other in zip(messages, others, strict=True)
                    ],
                    True,
                )
        kinds = ["matched", *(kind for kind in self.run.messages if kind in makers and kind != "matched")]
        return {kind: (makers[kind][0](), makers[kind][1]) for kind in kinds}


@contextmanager
def noted(where: str) -> Iterator[None]:
    """Add to an error of a channel's own code where it happened."""
    try:
        yield
    except Exception as error:
        error.add_note(where)
        raise


def is_whole(part: Path) -> bool:
    """Whether the rows of a channel are there; a file that is cut off is measured again."""
    try:
        return bool(json.loads(part.read_text(encoding="utf-8"))["rows"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def timed(act: Callable[[], Any], count: int) -> tuple[Any, float]:
    """What `act` returns, and its milliseconds for each of `count` items."""
    begin = time.perf_counter()
    result = act()
    return result, 1000 * (time.perf_counter() - begin) / max(count, 1)


def run_test_bed(run: ChannelRun, progress: ChannelProgress | None = None) -> dict[str, Any]:
    """Measure all channels of a run and write records and curves; channels that are done are not measured again.

    Args:
        run: Settings.
        progress: Called when a channel is done, with its name and whether it was measured now.

    Returns:
        Notes for the provenance file.

    Raises:
        RefusedError: If a channel is unknown or refuses the pair, or items or models cannot be used.
    """
    factories = registered_channels()
    for name in run.channels:
        check_choice("A channel", name, factories)
        # A class shows its settings before it is built; a function does not.
        if isinstance(factories[name], type):
            change_settings(name, getattr(factories[name], "settings", None), dict(run.settings.get(name, {})))
    for split in SPLITS:
        if not (path := run.items / f"{split}.jsonl").is_file():
            raise RefusedError(f"--items must hold {split}.jsonl", str(path), "Make them: c2c.testbed.tasks.make")
    check_places(run, factories)
    names = ("bounds", *run.channels)
    with locked(run.output.with_name(f".{run.output.name}"), "measure channels for"):
        _measure_missing(run, names, factories, progress or (lambda name, is_new: None))
        parts = [json.loads(run.part(name).read_text(encoding="utf-8")) for name in names]
        return write_records(run.output, parts)


def check_places(run: ChannelRun, factories: Mapping[str, Factory]) -> None:
    """Refuse channels that need places (`needs_places`) where an item has none.

    Raises:
        RefusedError: With the channels.
    """
    channels = [name for name in run.channels if getattr(factories[name], "needs_places", False)]
    if channels and any(not item.places for split in SPLITS for item in read_items(run.items / f"{split}.jsonl")):
        raise RefusedError(
            f"The items of {', '.join(channels)} must have places",
            "an item that is fused over its whole prefix",
            "Leave these channels out, or choose a task with places (docs/testbed.md)",
        )


def _measure_missing(
    run: ChannelRun, names: Sequence[str], factories: Mapping[str, Factory], progress: ChannelProgress
) -> None:
    """Measure the channels that have no part yet, each of which is kept when it is done."""
    bed: Bed | None = None
    for name in names:
        part = run.part(name)
        if is_whole(part):
            print(f"{name}: done before", file=sys.stderr)
            progress(name, False)
            continue
        bed = bed or Bed.load(run)
        begin = time.perf_counter()
        rows, curves = (bed.bounds(), []) if name == "bounds" else bed.measure(name, factories[name])
        with written_whole(part) as path:
            path.write_text(json.dumps({"rows": rows, "curves": curves}), encoding="utf-8")
        right = [row["correct"] if row["gold"] >= 0 else row["exact"] for row in rows if row["message"] == "matched"]
        share = f"{100 * sum(right) / len(right):.1f} % right, " if right else ""
        print(f"{name}: {share}{time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
        progress(name, True)


def write_records(output: Path, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write the records and curves of all channels, and say how many there are."""
    frame = pd.DataFrame([row for part in parts for row in part["rows"]], columns=list(COLUMNS))
    frame = frame.astype({name: kind for name, kind in COLUMNS.items() if kind not in ("list", "str")})
    curves = pd.DataFrame([row for part in parts for row in part["curves"]]).reindex(columns=list(CURVE_COLUMNS))
    with written_whole(output) as path:
        frame.to_parquet(path, index=False)
    with written_whole(output.with_suffix(".curves.csv")) as path:
        curves.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
    return {"rows": len(frame), "curves": len(curves)}
