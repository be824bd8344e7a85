"""Records of the test bed and its items as evaluations: a channel with one message is an arm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from c2c.errors import RefusedError
from c2c.stats import NO_SEED, accuracy_with_interval
from c2c.testbed.card.records import BOUNDS, CHOICE, FULL, CellIds, MessageRecords
from c2c.testbed.items import Item, read_items
from paper.exchange.evaluations import Evaluation, Sample
from paper.reading.commits import read_revisions
from paper.reading.runs import pair_models

REMEDY = "Name the files of the items that were asked, <results>/testbed/items/<task>/<seed>/test.jsonl"


class ItemKey(NamedTuple):
    """What names an item: items of two seeds may have one id."""

    task: str
    seed: int
    id: str


def read_item_files(paths: Iterable[Path]) -> dict[ItemKey, Item]:
    """Items by task, seed and id; the seed is the name of a file's folder.

    Raises:
        RefusedError: A file lies in no folder of a seed, or as `read_items`.
    """
    items = {}
    for path in paths:
        seed = path.resolve().parent.name
        if not seed.isdecimal():
            raise RefusedError("A file of items must lie in a folder that is named by its seed", str(path), REMEDY)
        items |= {ItemKey(item.task, int(seed), item.id): item for item in read_items(path)}
    return items


def evaluations_of_messages(
    records: MessageRecords, items: dict[ItemKey, Item], results: Path | None = None
) -> Iterator[Evaluation]:
    """Each channel and message of each pair and task, by choice and by written answer.

    Raises:
        RefusedError: An item that was asked is not among `items`.
    """
    _check_items(records.frame, items)
    revisions = read_revisions(results)
    for cell in records.cells:
        receiver, sharer = pair_models(cell.pair)
        for message in records.messages(cell):
            layout = records.layout(cell, message)
            for measure in records.measures(cell.task) if layout else ():
                answers = records.answers(cell, message, measure)
                assert layout is not None and answers is not None
                rows = records.frame.iloc[layout.rows.T.ravel()]
                has_seeds = NO_SEED not in layout.seeds
                first = rows.iloc[0]
                yield Evaluation(
                    scale=records.scale,
                    pair=cell.pair,
                    arm=arm_of(cell, message),
                    alignment="",
                    receiver=receiver,
                    sharer=sharer,
                    benchmark=f"{cell.task}_{measure}",
                    metric="accuracy",
                    estimate=accuracy_with_interval(answers),
                    by_seed={int(seed): accuracy_with_interval(answers[[seed]]) for seed in answers if has_seeds},
                    samples=tuple(
                        _sample(row, items[ItemKey(row["task"], row["seed"], row["id"])], measure, has_seeds)
                        for row in rows.to_dict("records")
                    ),
                    details={
                        "channel": cell.channel,
                        "message": message,
                        "scoring": measure,
                        **{name: f"{first[name]:.0f}" for name in ("parameters", "training_items", "training_steps")},
                    },
                    revisions={model: revisions[model] for model in (receiver, sharer) if model in revisions},
                )


def arm_of(cell: CellIds, message: str) -> str:
    """Channel and message as one arm; of a bound the channel alone."""
    return cell.channel if BOUNDS.get(cell.channel) == message else f"{cell.channel}.{message}"


def _check_items(frame: pd.DataFrame, items: dict[ItemKey, Item]) -> None:
    keys = set(map(ItemKey._make, frame[["task", "seed", "id"]].itertuples(index=False, name=None)))
    if gaps := sorted(keys - items.keys()):
        rule = "Every record of the test bed that is exchanged must have its item"
        tasks = ", ".join(sorted({f"{key.task}/{key.seed}" for key in gaps}))
        raise RefusedError(rule, f"none for {len(gaps)} items of {tasks}", REMEDY)


def _sample(row: Mapping[str, Any], item: Item, measure: str, has_seeds: bool) -> Sample:
    """The sample of one record under one measure."""
    is_choice = measure == CHOICE
    output = item.options[row["prediction"]] if is_choice else str(row["text"])
    details = {name: row[name] for name in ("subset", "donor") if row[name]}
    details |= {"sharer_texts": list(item.sharer_texts), "bytes": int(row["bytes"])}
    if row["donor"]:
        details["donor_named"] = str(bool(row["donor_named"]))
    if is_choice and len(row["option_logps"]):
        details["choice_scores"] = [float(logp) for logp in row["option_logps"]]
    return Sample(
        id=item.id,
        seed=int(row["seed"]) if has_seeds else None,
        prompt=item.full_prompt if row["channel"] == FULL else item.prompt,
        choices=item.options if is_choice else (),
        reference=item.value,
        output=output,
        answer=output,
        score=float(row["correct" if is_choice else "exact"]),
        tokens_in=None,
        tokens_out=None,
        seconds=(float(row["send_ms"]) + float(row["receive_ms"])) / 1000,
        error="",
        details=details,
    )
