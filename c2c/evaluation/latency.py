"""Latency of each method, one question at a time, split into its phases (paper Table 3)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from tqdm import tqdm

from c2c.errors import RefusedError
from c2c.evaluation import schema
from c2c.evaluation.generate import note_contract
from c2c.evaluation.methods.declarations import TIMED_METHODS
from c2c.evaluation.methods.routing import ConfidenceRouting, sharer_half
from c2c.evaluation.methods.single import SingleModel
from c2c.evaluation.methods.text_to_text import TextToText
from c2c.evaluation.phases import Phases, answer_alone, answer_fused, answer_with_message
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.tasks import load_tasks, questions_of
from c2c.evaluation.readers.fused import FusedReader
from c2c.evaluation.readers.load import fused_reader
from c2c.evaluation.readers.reader import SingleReader
from c2c.evaluation.run import EvaluationRun
from c2c.models.pair import Pair, load_pair

MOST_THREADS = 1024
STAT = Path("/proc/stat")
"""CPU time of the whole machine since it started (Linux)."""
IDLE = (3, 4)
"""Places of idle time and of waiting for devices among the first eight numbers of a line of `STAT`."""


class CpuTimes(NamedTuple):
    """Seconds: CPU time at work of the whole machine, that of this process with its children, and a clock."""

    machine: float
    own: float
    wall: float
    cores: int


def time_single(reader: SingleReader, question: Question, role: str) -> Phases:
    """One model alone; `role` (receiver or sharer) says whose phases they are."""
    return answer_alone(reader, question, role).phases


def time_routing(
    receiver: SingleReader, sharer: SingleReader, to_sharer: Collection[str], question: Question
) -> Phases:
    """The Receiver's answer, without which its confidence is unknown; then the Sharer's, of a question that goes there.

    Args:
        receiver: Answers every question.
        sharer: Answers those in `to_sharer`.
        to_sharer: Ids of questions (`routed_questions`).
        question: The question.
    """
    phases = time_single(receiver, question, "receiver")
    if str(question.doc["id"]) not in to_sharer:
        return phases
    second = time_single(sharer, question, "sharer")
    return Phases(**{name: value + getattr(second, name) for name, value in vars(phases).items()})


def routed_questions(pair: Pair, questions: Sequence[Question]) -> set[str]:
    """Ids of the half of `questions` of which the Receiver is least sure, which routing gives to the Sharer."""
    routing = ConfidenceRouting(SingleModel(pair.receiver, progress=False), SingleModel(pair.sharer, "sharer"))
    _, priorities = routing.priorities(questions)
    return {str(questions[place].doc["id"]) for place in sharer_half(priorities)}


def time_t2t(method: TextToText, question: Question) -> Phases:
    """The Sharer's message, then the Receiver's answer."""
    receiver, sharer = method.models
    return answer_with_message(receiver, sharer, question, method.request(question)).phases


def time_c2c(reader: FusedReader, question: Question) -> Phases:
    """Sharer prefill, Receiver prefill, fusion, then the Receiver's answer; see `answer_fused`."""
    return answer_fused(reader, question).phases


def measure(
    methods: dict[str, Callable[[Question], Phases]], questions: Sequence[Question], repeats: int
) -> list[dict[str, Any]]:
    """Time all methods on all questions, batch one.

    The methods take turns on each question, so that a machine that slows down slows all of them; one round over the
    first questions is not counted.

    Returns:
        One row a method, question and repeat: ``method``, ``question_id``, ``repeat`` and the fields of `Phases`.
    """
    rows: list[dict[str, Any]] = []
    for question in questions[:2]:
        for run in methods.values():
            run(question)
    with tqdm(total=repeats * len(questions), desc="latency", unit="question") as bar:
        for repeat in range(repeats):
            for question in questions:
                for name, run in methods.items():
                    phases = run(question)
                    rows.append(
                        {"method": name, "question_id": str(question.doc["id"]), "repeat": repeat, **vars(phases)}
                    )
                bar.update()
    return rows


@dataclass(frozen=True, kw_only=True)
class LatencyRun(EvaluationRun):
    """What one call of ``c2c latency`` times.

    Args:
        questions: The first of each benchmark.
        repeats: How often each is asked.
        threads: Those of torch on a CPU: tiny models are slower with more than one; 0 leaves it to torch.

    Raises:
        RefusedError: If a number is too small, a method cannot be timed, or `EvaluationRun` is refused.
    """

    questions: int = 32
    repeats: int = 3
    threads: int = 0

    @classmethod
    def methods_for(cls, sharers: int) -> Sequence[str]:
        """Methods that can be timed."""
        return TIMED_METHODS

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("questions", "repeats"):
            if getattr(self, name) < 1:
                raise RefusedError(f"--{name} must be at least 1", getattr(self, name), f"Raise --{name}")
        if not 0 <= self.threads <= MOST_THREADS:
            raise RefusedError(f"--threads must be 0 to {MOST_THREADS}", self.threads, "Pass 0 to leave it to torch")


def cpu_times() -> CpuTimes | None:
    """CPU times until now; None where the system has no `STAT`."""
    if not STAT.is_file():
        return None
    lines = [line.split() for line in STAT.read_text(encoding="ascii").splitlines() if line.startswith("cpu")]
    # The first line sums over the cores, each of which has a line of its own
    ticks = [int(number) for number in lines[0][1:9]]
    work = sum(number for place, number in enumerate(ticks) if place not in IDLE)
    own = os.times()
    return CpuTimes(
        work / os.sysconf("SC_CLK_TCK"),
        own.user + own.system + own.children_user + own.children_system,
        time.perf_counter(),
        len(lines) - 1,
    )


def other_load(before: CpuTimes | None, after: CpuTimes | None) -> float | None:
    """Share of the machine's CPU time between two moments that went to other processes than this one.

    Unlike the load average it does not count this process or what ran before. It counts processes outside a container
    and, as lost, time that a hypervisor gave to other machines. Work of others on a GPU is not seen.

    Returns:
        0 to 1, or None where it cannot be told.
    """
    if before is None or after is None or after.wall <= before.wall:
        return None
    others = (after.machine - before.machine) - (after.own - before.own)
    # Clocks of the machine tick in hundredths of a second
    return min(1.0, max(0.0, others / ((after.wall - before.wall) * after.cores)))


def measure_pair(run: LatencyRun, notes: dict[str, Any] | None = None) -> pd.DataFrame:
    """Time the methods of one pair, and write the latency records.

    Args:
        run: What is timed.
        notes: Gets what provenance should know: ``other_load``, the share of the machine's CPU time that other
            processes took meanwhile (`other_load`), and ``contract``, if there is a fuser.

    Returns:
        One row a method, question and repeat (`c2c.evaluation.schema.LATENCY_SCHEMA`).

    Raises:
        RefusedError: If an input is missing or does not fit.
    """
    if run.threads:
        torch.set_num_threads(run.threads)
    tasks = load_tasks(run.tasks, run.benchmarks)["tasks"]
    pair = load_pair(run.receiver, run.sharer, run.dtype)
    prompting.check_prompts(run.prompts, [pair.receiver, pair.sharer])
    # How each method is timed
    receiver, sharer = SingleReader(pair.receiver), SingleReader(pair.sharer, private=True)
    timers: dict[str, Callable[[Question], Phases]] = {
        "receiver": partial(time_single, receiver, role="receiver"),
        "sharer": partial(time_single, sharer, role="sharer"),
        "t2t": partial(time_t2t, TextToText(pair)),
    }
    if run.fuser:
        reader = fused_reader(pair, run.fuser, "matched", run.accept_difference)
        timers["c2c"] = partial(time_c2c, reader)
        note_contract(reader, notes)
    # The questions of each benchmark, by all methods in turn; what else runs on the machine lengthens every time
    before = cpu_times()
    rows = []
    for benchmark, task in tasks.items():
        questions = questions_of(task, run.prompts, run.questions, pair=run.pair)
        if "routing" in run.methods:
            timers["routing"] = partial(time_routing, receiver, sharer, routed_questions(pair, questions))
        rows += [
            {"benchmark": benchmark, **run.columns(row["method"]), **row}
            for row in measure({name: timers[name] for name in run.methods}, questions, run.repeats)
        ]
    if notes is not None:
        notes["other_load"] = other_load(before, cpu_times())
    frame = schema.frame_of(rows, schema.LATENCY_SCHEMA)
    schema.write_records(frame, run.output, schema.LATENCY_SCHEMA)
    return frame
