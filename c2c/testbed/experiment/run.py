"""One experiment from start to end: check, items, all channels with their controls, records, card and report."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.models.hub import about
from c2c.provenance import stamp
from c2c.storage.files import written_whole
from c2c.storage.formats import write_json
from c2c.storage.locks import locked
from c2c.testbed.card import records as card_records
from c2c.testbed.card.gains import build_gains
from c2c.testbed.card.records import MARGIN, CardSettings, MessageRecords
from c2c.testbed.card.scorecard import build_card
from c2c.testbed.experiment.check import plan_experiment
from c2c.testbed.experiment.findings import Summary, accuracies, summarise
from c2c.testbed.experiment.report import report_text
from c2c.testbed.experiment.settings import Experiment
from c2c.testbed.experiment.tasks import CODES, TaskFolders, make_tasks
from c2c.testbed.run import ChannelRun, run_test_bed

SCALE = "experiment"
DECIMALS = 4
"""Of numbers in .csv files."""
RECORDS, CARD, GAINS = "records.parquet", "scorecard.csv", "gains.csv"
ACCURACIES, SUMMARY, REPORT = "accuracies.csv", "summary.json", "report.html"


def say(line: str) -> None:
    """Progress, on the standard error."""
    print(line, file=sys.stderr, flush=True)


def run_experiment(experiment: Experiment) -> Summary:
    """Run an experiment and write its folder; channels that are done are not measured again.

    Returns:
        What was found.

    Raises:
        RefusedError: If the models cannot be connected, a channel is unknown, or questions cannot be used.
    """
    with locked(experiment.output / ".experiment", "run the experiment"):
        # 1. Items and the check, which reads no weights
        tasks = make_tasks(experiment)
        plan = plan_experiment(experiment, tasks)
        say(f"This pair can be connected: {experiment.pair}")
        for line in plan.lines():
            say(line)
        # 2. All channels of every task and seed
        files = measure(experiment, tasks)
        # 3. Records, card and report
        return write_results(experiment, tasks, files, asdict(plan))


def measure(experiment: Experiment, tasks: TaskFolders) -> list[Path]:
    """The records of all tasks and seeds."""
    files, steps = [], len(tasks.folders) * (len(experiment.channels) + 1)
    progress = ChannelClock(steps)
    for number, ((task, seed), folder) in enumerate(tasks.folders.items(), 1):
        say(f"Task {number} of {len(tasks.folders)}: {task}, seed {seed}")
        files.append(experiment.output / "parts" / task / f"seed{seed}.parquet")
        run = ChannelRun(
            scale=SCALE,
            pair=experiment.pair,
            seed=seed,
            receiver=experiment.receiver,
            sharer=experiment.sharer,
            items=folder,
            channels=experiment.channels,
            settings=experiment.settings,
            dtype=experiment.dtype,
            output=files[-1],
        )
        run_test_bed(run, progress)
    return files


class ChannelClock:
    """Counts channels that are done and says how long the others are likely to take.

    Args:
        steps: Channels of all tasks, bounds included.
        clock: Seconds.
    """

    def __init__(self, steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.steps, self.clock = steps, clock
        self.done, self.measured, self.begin = 0, 0, clock()

    def __call__(self, channel: str, is_new: bool) -> None:
        """A channel is done; one that was done before says nothing about the time."""
        self.done += 1
        self.measured += is_new
        left, text = self.steps - self.done, ""
        if self.measured and left:
            pace = (self.clock() - self.begin) / self.measured
            text = f", {60 / max(pace, 1e-9):.1f} a minute, about {max(pace * left / 60, 1):.0f} min left"
        say(f"  {self.done} of {self.steps} channels done ({channel}){text}")


def write_results(experiment: Experiment, tasks: TaskFolders, files: list[Path], plan: dict[str, Any]) -> Summary:
    """Write records, tables, summary and report from the records of all tasks."""
    output = experiment.output
    settings = CardSettings(margin=experiment.margin, values={"redacted_code": CODES})
    records = MessageRecords(card_records.read(files), settings)
    choices = {item.name: getattr(experiment, item.name) for item in fields(experiment) if item.name != "output"}
    settings_text = json.loads(json.dumps(choices, default=str))
    inputs = [*files, *([experiment.data] if experiment.data else [])]
    with stamp(output / REPORT, inputs=inputs, settings=settings_text) as notes:
        card, gains, answers = build_card(records), build_gains(records), accuracies(records)
        origin = {role: about(getattr(experiment, role)) for role in ("receiver", "sharer")}
        summary = summarise(experiment, records, card, gains, tasks.warnings) | {"models": origin, "plan": plan}
        card_records.write(records.frame, output / RECORDS)
        for name, frame in ((CARD, card), (GAINS, gains), (ACCURACIES, answers)):
            write_csv(frame, output / name)
        write_json(output / SUMMARY, summary)
        with written_whole(output / REPORT) as path:
            path.write_text(report_text(summary, answers, command(experiment)), encoding="utf-8")
        notes["models"] = origin
    return summary


def command(experiment: Experiment) -> str:
    """The command line of an experiment."""
    models = ["--receiver", experiment.receiver, "--sharer", experiment.sharer]
    parts = ["c2c", "experiment", *(["--example"] if experiment.is_example else models)]
    parts += ["--method", *experiment.methods, "--size", experiment.size, "--seed", str(experiment.seed)]
    if experiment.data:
        parts += ["--data", str(experiment.data)]
    if experiment.settings:
        parts += ["--settings", json.dumps(experiment.settings)]
    if experiment.margin != MARGIN:
        parts += ["--margin", str(experiment.margin)]
    return shlex.join([*parts, "--dtype", experiment.dtype, "--output", str(experiment.output)])


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table whose numbers have `DECIMALS` decimals."""
    with written_whole(path) as unfinished:
        frame.to_csv(unfinished, index=False, float_format=f"%.{DECIMALS}f", lineterminator="\n")
