"""Pages of the test bed: what a channel's messages do to the answers of a pair on a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from c2c.stats import accuracy_with_interval
from c2c.testbed.card.comparing import difference
from c2c.testbed.card.gains import build_gains
from c2c.testbed.card.numbers import count, decimal, p_value, show
from c2c.testbed.card.records import (
    BOUNDS,
    CHOICE,
    DERANGED,
    MATCHED,
    MEASURES,
    RECEIVER,
    CellIds,
    MessageRecords,
)
from c2c.testbed.card.scorecard import build_card
from c2c.testbed.items import Item
from paper.exchange.messages import ItemKey
from paper.reading import names
from paper.site.cells import HEAD, OPTIONS, SCORE_DIGITS, CellPage, estimate_row
from paper.site.marks import RIGHT, ROW, WRONG, Marks, Trio
from paper.site.sources import ScaleFiles

COLUMNS = (*("choice", "exact", "donor", "of_full", "of_own_states"), "bits", "bits_gain")
"""Estimates of the score card that a page shows, by the prefix of their columns."""


def channel_pages(files: ScaleFiles) -> Iterator[CellPage]:
    """A page for each channel on each task of a pair, in the order of ``names.yaml``; none without a test bed."""
    records = files.messages
    if records is None:
        return
    cards, gains = build_card(records), build_gains(records)
    key = list(CellIds._fields)
    frame = records.frame.assign(name=list(map(item_name, records.frame["seed"], records.frame["id"])))
    groups = {(CellIds(*ids), str(message)): rows for (*ids, message), rows in frame.groupby([*key, "message"])}
    for cell in records.cells:
        if cell.channel not in BOUNDS:
            card = cards[(cards[key] == list(cell)).all(axis=1)].iloc[0]
            page = _ChannelCell(files, records, groups, cell)
            rows = gains[(gains[key] == list(cell)).all(axis=1) & (gains["measure"] == page.measure)]
            yield CellPage(page.summary(card), page.body(card, rows), page.questions())


class _ChannelCell:
    """The answers of a channel's messages and of the bounds of its task."""

    def __init__(
        self,
        files: ScaleFiles,
        records: MessageRecords,
        groups: Mapping[tuple[CellIds, str], pd.DataFrame],
        cell: CellIds,
    ) -> None:
        self.files, self.records, self.cell = files, records, cell
        self.measure = records.measures(cell.task)[0]
        # The arms: bounds of the task, then the channel's messages.
        self.arms: dict[str, tuple[CellIds, str]] = {
            channel: (place, message)
            for channel, message in BOUNDS.items()
            if (place := cell._replace(channel=channel)) in records.cells
        }
        self.arms |= {message: (cell, message) for message in records.messages(cell)}
        # Of the training on the most items.
        self.rows = {
            arm: rows[rows["training_items"] == rows["training_items"].max()]
            for arm, place in self.arms.items()
            for rows in [groups[place]]
        }
        column = MEASURES[self.measure]
        signs = {
            arm: rows.set_index([rows["seed"], rows["name"]])[column].map({True: RIGHT, False: WRONG})
            for arm, rows in self.rows.items()
        }
        self.marks = Marks(pd.DataFrame(signs).rename_axis(ROW))

    def title(self, arm: str) -> str:
        """How an arm is written."""
        return names.title("channels" if arm in BOUNDS else "messages", arm)

    def summary(self, card: pd.Series) -> dict[str, Any]:
        """Ids, titles, the evidence level and the numbers that lists show."""
        return {
            "kind": "channel",
            "pair": self.cell.pair,
            "benchmark": f"{self.cell.task}.{self.cell.channel}",
            "task": self.cell.task,
            "channel": self.cell.channel,
            "title": f"{names.title('channels', self.cell.channel)}: {names.title('tasks', self.cell.task)}, "
            f"{names.title('pairs', self.cell.pair)}",
            "pair_title": names.title("pairs", self.cell.pair),
            "benchmark_title": names.title("tasks", self.cell.task),
            "channel_title": names.title("channels", self.cell.channel),
            "questions": int(card["n"]),
            "arms": len(self.arms),
            "seeds": int(card["seeds"]),
            "words": card["level"] or card["reason"] or "a check of the gate",
            "level": card["level"],
            "gains": {
                "right": _text(card, f"{self.measure}_"),
                "CAG": _text(card, "cag_", sign=True),
                "communication": _text(card, "communication_", sign=True),
                "of_full": _text(card, "of_full_"),
            },
        }

    def body(self, card: pd.Series, gains: pd.DataFrame) -> dict[str, Any]:
        """Everything of the cell but its single answers."""
        trio = Trio(MATCHED, DERANGED, RECEIVER)
        has_trio = set(trio) <= set(self.arms)
        order = {name: number for number, name in enumerate(sorted({name for _, name in self.marks.rows}))}
        return {
            "measure": self.measure,
            "card": {
                **{name: _text(card, f"{name}_", digits=2 if "bits" in name else 1) for name in COLUMNS},
                **{name: count(card[name]) for name in ("bytes", "parameters", "training_items", "training_steps")},
                **{name: decimal(card[name], 1) for name in ("time_added_ms", "training_s")},
                **{name: card[name] for name in ("gate", "level", "reason")},
            },
            "gains": [self._gain(row) for row in gains.to_dict("records")],
            "arms": [self._arm(arm) for arm in self.arms],
            "comparisons": self._comparisons(),
            "seeds": self.marks.seeds,
            ROW[0]: [seed for seed, _ in self.marks.rows],
            ROW[1]: [order[name] for _, name in self.marks.rows],
            "marks": {arm: self.marks.text(arm) for arm in self.arms},
            "trios": [
                {**trio._asdict(), "outcomes": self.marks.outcomes(trio), "tally": self.marks.tally(trio)}
                for _ in range(has_trio)
            ],
            "questions": self._heads(),
        }

    def _arm(self, arm: str) -> dict[str, Any]:
        cell, message = self.arms[arm]
        frame = self.records.answers(cell, message, self.measure)
        assert frame is not None
        receiver = (self.cell._replace(channel=RECEIVER), BOUNDS[RECEIVER])
        estimate = None if arm == RECEIVER else difference(self.records, (cell, message), receiver, self.measure)
        seeds = [seed for seed in frame if seed >= 0]
        return {
            "id": arm,
            "title": self.title(arm),
            **estimate_row(accuracy_with_interval(frame)),
            "seeds": len(seeds),
            "by_seed": {str(seed): estimate_row(accuracy_with_interval(frame[[seed]]))["text"] for seed in seeds},
            "failed": 0,
            "gain": estimate_row(estimate, sign=True, factor=1),
        }

    def _gain(self, row: dict[str, Any]) -> dict[str, Any]:
        numbers = {name: round(float(row[name]), SCORE_DIGITS) for name in ("value", "low", "high")}
        return {
            "id": row["gain"],
            "title": names.title("gains", row["gain"]),
            "audit": "",
            "of": row["of"],
            "against": row["against"],
            "difference": f"{self.title(row['of'])} − {self.title(row['against'])}",
            **numbers,
            "text": show(row["value"], row["low"], row["high"], sign=True),
            "n": int(row["n"]),
            "seeds": int(row["seeds"]),
            "p": p_value(row["p_value"]),
            "p_holm": p_value(row["p_holm"]),
            "finding": row["finding"],
        }

    def _comparisons(self) -> list[dict[str, Any]]:
        """Arms that are compared item by item: the matched message with all others, then each with the Receiver."""
        pairs = [(MATCHED, arm) for arm in self.arms] + [(arm, RECEIVER) for arm in self.arms]
        rows = []
        for of, against in dict.fromkeys(pair for pair in pairs if set(pair) <= set(self.arms)):
            estimate = None
            if of != against:
                estimate = difference(self.records, self.arms[of], self.arms[against], self.measure)
            if estimate is not None:
                row = {"of": of, "against": against, "title": f"{self.title(of)} − {self.title(against)}"}
                row |= {"mcnemar": [], "counts": self.marks.counts(of, against)}
                rows.append(row | estimate_row(estimate, sign=True, factor=1))
        return rows

    def _item(self, row: Mapping[str, Any]) -> Item | None:
        return self.files.item_texts.get(ItemKey(self.cell.task, int(row["seed"]), str(row["id"])))

    def _heads(self) -> dict[str, Any]:
        """What the list of items shows and searches, a value for each item of each seed in order."""
        first = pd.concat(self.rows.values()).drop_duplicates("name").sort_values("name").to_dict("records")
        items = [self._item(row) for row in first]
        pairs = list(zip(first, items, strict=True))
        return {
            "ids": [row["name"] for row in first],
            "subset": [str(row["subset"]) for row in first],
            "gold": [item.value if item else _option(row["gold"]) for row, item in pairs],
            "text": [(item.prompt or OPTIONS.join(item.options))[:HEAD] if item else "" for item in items],
            "has_texts": any(items),
        }

    def questions(self) -> dict[str, dict[str, Any]]:
        """What the page of each item shows: its texts where a file has them, and the answer with each message."""
        pages: dict[str, dict[str, Any]] = {}
        for arm, rows in self.rows.items():
            for row in rows.to_dict("records"):
                item = self._item(row)
                if row["name"] not in pages:
                    texts: dict[str, Any] = {"gold": _option(row["gold"]), "choices": None}
                    if item:
                        texts = {"gold": item.value, "choices": list(item.options) or None, "prompt": item.prompt}
                        texts |= {"full_prompt": item.full_prompt, "sharer_texts": list(item.sharer_texts)}
                    pages[row["name"]] = {**texts, "answers": []}
                pages[row["name"]]["answers"].append(self._answer(arm, row, item))
        return pages

    def _answer(self, arm: str, row: dict[str, Any], item: Item | None) -> dict[str, Any]:
        is_choice = self.measure == CHOICE
        chosen = item.options[row["prediction"]] if item and item.options else _option(row["prediction"])
        answer = {
            "arm": arm,
            "seed": int(row["seed"]),
            "credit": float(row[MEASURES[self.measure]]),
            "answer": chosen if is_choice else str(row["text"] or ""),
        }
        if len(row["option_logps"]):
            answer["scores"] = [round(float(logp), SCORE_DIGITS) for logp in row["option_logps"]]
        if row["text"]:
            answer["output_text"] = row["text"]
        if row["donor"]:
            answer["sharer_question_id"] = item_name(int(row["seed"]), row["donor"])
            answer |= {"donor_named": bool(row["donor_named"])}
        return answer | {"bytes": int(row["bytes"])}


def item_name(seed: int, name: str) -> str:
    """The name of an item on the pages: items of two seeds may have one id and differ."""
    return f"seed{seed}:{name}"


def _option(number: float) -> str:
    """An option by its place, where no file has its text."""
    return f"option {int(number) + 1}" if number >= 0 else ""


def _text(card: pd.Series, prefix: str, digits: int = 1, sign: bool = False) -> str:
    bounds = [card[f"{prefix}{name}"] for name in ("value", "low", "high")]
    return "" if pd.isna(bounds[0]) else show(*bounds, digits=digits, sign=sign)
