"""The report: one page without a network, whose numbers are those of the summary and the tables next to it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.testbed.card.comparing import MINIMAL_ROOM
from c2c.testbed.card.gate import PASSED
from c2c.testbed.card.numbers import decimal
from c2c.testbed.card.records import MATCHED
from c2c.testbed.experiment.findings import ARMS, MEANINGS, MESSAGES, Summary, interval, points

CSS = Path(__file__).with_name("report.css")
TICKS = (0, 25, 50, 75, 100)
GAINS = {
    "OPE": ("OPE", "the whole gain over the Receiver alone"),
    "OME": ("= OME", "what any message brings"),
    "CAG": ("+ CAG", "what only the right message brings"),
    "communication": ("Matched − adapter", "against the same parameters, trained without a message"),
}
"""How a gain is written, and what it is."""
FILES = {
    "records.parquet": "one row for each item, channel and message",
    "scorecard.csv": "the score card of every channel",
    "gains.csv": "all paired differences, with p values and equivalence",
    "accuracies.csv": "the numbers of the plots",
    "summary.json": "the verdicts and sentences of this page",
    "report.html.provenance.json": "settings, versions, hashes and hardware",
}


def report_text(summary: Summary, answers: pd.DataFrame, command: str) -> str:
    """The page.

    Args:
        summary: What was found.
        answers: Accuracies by task, channel and message.
        command: The command that makes it again.
    """
    tasks = "".join(_task(summary, task, answers) for task in summary["tasks"])
    parts = [
        f"<h1>{escape(summary['pair'])}</h1>",
        f'<p class="soft">Does a message from the Sharer reach the Receiver? Methods: '
        f"{escape(', '.join(summary['methods']))}. Size {escape(summary['size'])}, seeds "
        f"{', '.join(map(str, summary['seeds']))}.</p>",
        *(f'<div class="warning"><b>Warning.</b> {escape(text)}</div>' for text in summary["warnings"]),
        f'<div class="verdict">{"".join(_verdicts(summary))}</div>',
        tasks,
        _sentences(summary),
        _levels(summary),
        _reproduce(summary, command),
    ]
    title = escape(f"{summary['pair']}: does a message cross?")
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}'
        f"</title><style>{CSS.read_text(encoding='utf-8')}</style>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body><main>{"".join(parts)}</main></body></html>\n'


def _verdicts(summary: Summary) -> Iterator[str]:
    for task in summary["tasks"]:
        for about in task["methods"]:
            yield f"<p><b>{escape(task['title'])}.</b> {escape(about['verdict'])}</p>"


# One task


def _task(summary: Summary, task: dict[str, Any], answers: pd.DataFrame) -> str:
    """The score card of a task: plot with numbers, and the decomposition of each method."""
    rows = answers[answers["task"] == task["task"]]
    items = sorted({int(count) for count in rows["n"]})
    count = f"{items[0]} to {items[-1]}" if len(items) > 1 else f"{items[0]}"
    need = "The Receiver needs a message." if task["needs_message"] else "No message is needed: both read everything."
    gate = "The gate holds." if task["gate"] == PASSED else "The gate is red: no number counts."
    return (
        f"<h2>{escape(task['title'])}</h2>"
        f'<p class="soft">Task <code>{escape(task["task"])}</code>, {count} items, answers {task["measure"]}. '
        f"{need} {gate} Right answers in percent, with 95 % intervals.</p>"
        f'<div class="arms">{"".join(_arms(summary, rows))}</div>'
        f"{''.join(_decomposition(about, task) for about in task['methods'])}"
    )


def _arms(summary: Summary, rows: pd.DataFrame) -> Iterator[str]:
    ticks = "".join(
        f'<text x="{tick}%" y="1.1em" text-anchor="middle" fill="currentColor">{tick}</text>' for tick in TICKS
    )
    yield '<div class="label axis"></div>'
    yield f'<div class="plot axis"><svg>{ticks}</svg></div><div class="number axis"></div>'
    by_arm = {(row["channel"], row["message"]): row for row in rows.to_dict("records")}
    yield '<div class="group">Bounds and text</div>'
    for arm, label in ARMS.items():
        if arm in by_arm:
            yield from _arm(label, by_arm[arm], "bound")
    for method in summary["methods"]:
        yield f'<div class="group">{escape(method)}, by message</div>'
        for message, label in MESSAGES.items():
            if (method, message) in by_arm:
                yield from _arm(label, by_arm[method, message], "matched" if message == MATCHED else "control")


def _arm(label: str, row: dict[Any, Any], kind: str) -> Iterator[str]:
    """Label, dot with its interval, and number of one arm."""
    grid = "".join(f'<line class="grid" x1="{tick}%" x2="{tick}%" y1="-50%" y2="150%"/>' for tick in TICKS)
    low, high, value = (f"{row[name]:.2f}%" for name in ("low", "high", "value"))
    text = interval({name: row[name] for name in ("value", "low", "high")})
    mark = (
        f'<line class="{kind}" x1="{low}" x2="{high}" y1="50%" y2="50%" stroke-width="3" stroke-linecap="round"/>'
        f'<circle class="{kind}" cx="{value}" cy="50%" r="5.5"/>'
    )
    yield f'<div class="label">{escape(label)}</div>'
    yield f'<div class="plot"><svg role="img" aria-label="{escape(f"{label}: {text} %")}">{grid}{mark}</svg></div>'
    yield f'<div class="number">{text}</div>'


def _decomposition(about: dict[str, Any], task: dict[str, Any]) -> str:
    """OPE = OME + CAG of one method, with its evidence level."""
    gains = about["gains"]
    level = about["level"] or ("no level" if task["needs_message"] else "needs no message")
    kind = "" if about["level"] not in ("", "none") else " none"
    terms = [
        f"<li><b>{term}: {escape(points(gains[name]))}</b> <span>{text}</span></li>"
        for name, (term, text) in GAINS.items()
        if name in gains
    ]
    return (
        f'<h3>{escape(about["method"])} <span class="level{kind}">{escape(level)}</span></h3>'
        f'<ul class="sum">{"".join(terms)}</ul>'
    )


# Below the tasks


def _sentences(summary: Summary) -> str:
    quotes = "".join(
        f"<blockquote>{escape(about['sentence'])}</blockquote>"
        for task in summary["tasks"]
        for about in task["methods"]
        if about["level"]
    )
    return f"<h2>To put into a paper</h2>{quotes}" if quotes else ""


def _levels(summary: Summary) -> str:
    margin = decimal(summary["margin"], 1)
    rows = "".join(
        f"<tr><td><b>{escape(level)}</b></td><td>{escape(text)}</td></tr>" for level, text in MEANINGS.items()
    )
    return (
        f'<h2>What the levels mean</h2><div class="scroll"><table>{rows}</table></div>'
        f'<p class="soft">Each level asks for all that those above it ask for. An interval must lie above zero for a '
        f"message to help. The parameters alone do nothing where their difference to the Receiver is shown to lie "
        f"within {margin} points, which takes many items: with few of them a method stays at “this message helps” "
        f"although nothing speaks against it. A task on which the Receiver gains less than "
        f"{decimal(MINIMAL_ROOM, 0)} points from the text itself cannot show communication. Before any number counts, "
        f"the gate must hold: the Receiver's own states, sent through the test bed, must reach what they reach in "
        f"place, and random states must not help.</p>"
    )


def _reproduce(summary: Summary, command: str) -> str:
    models = "".join(
        f"<tr><td>{role}</td><td>{escape(str(about.get('id') or ''))} "
        f"<code>{escape(str(about.get('revision') or about.get('sha256') or '')[:40])}</code></td></tr>"
        for role, about in summary["models"].items()
    )
    files = "".join(f"<tr><td><code>{escape(name)}</code></td><td>{text}</td></tr>" for name, text in FILES.items())
    return (
        f"<h2>To make it again</h2><pre>{escape(command)}</pre>"
        f'<p class="soft">cache-to-cache {escape(summary["version"])}. The same command in the same folder measures '
        f'only what is not there yet.</p><div class="scroll"><table>{models}{files}</table></div>'
    )
