"""Latency of each method, one question at a time, split into its phases (paper Table 3)."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.tasks import load_tasks, questions_of
from c2c.evaluation.readers.fused import FusedReader
from c2c.evaluation.readers.load import fused_reader
from c2c.evaluation.readers.reader import SingleReader, check_room, tokenise
from c2c.evaluation.run import EvaluationRun
from c2c.generation.decoding import StopAtText, TokenClock, continue_text
from c2c.models.loading import LoadedModel
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


@dataclass
class Phases:
    """Seconds and tokens of one answer; the fields are columns of a latency record."""

    sharer_prefill_s: float = 0.0
    sharer_decode_s: float = 0.0
    fusion_s: float = 0.0
    receiver_prefill_s: float = 0.0
    receiver_decode_s: float = 0.0
    total_s: float = 0.0
    sharer_tokens_in: int = 0
    sharer_tokens_out: int = 0
    receiver_tokens_in: int = 0
    receiver_tokens_out: int = 0


@dataclass
class Stopwatch:
    """Time between calls, after the device has finished its work."""

    device: torch.device
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.at = self._now()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last call."""
        before, self.at = self.at, self._now()
        return self.at - before


def _speak(loaded: LoadedModel, question: Question, text: str) -> tuple[str, float, float, int, int]:
    """What a model writes after `text`, seconds to its first token and after it, tokens read and written."""
    watch, clock = Stopwatch(loaded.model.device), TokenClock()
    ids, mask, (tokens_in,) = tokenise(loaded, [text], chat=bool(question.messages))
    check_room(loaded, tokens_in, question.max_new_tokens)
    criteria = [clock, *([StopAtText(loaded.tokenizer, question.stops, tokens_in)] if question.stops else [])]
    started = watch.at
    sequences = continue_text(loaded.model, ids, mask, max_new_tokens=question.max_new_tokens, criteria=criteria)
    text = str(loaded.tokenizer.decode(sequences[0, tokens_in:], skip_special_tokens=True))
    whole = watch.lap()
    # The prefill ends with the first token, which the forward pass over the prompt gives.
    first = clock.ticks[0] - started
    return text, first, whole - first, tokens_in, len(clock.ticks)


def time_single(reader: SingleReader, question: Question, role: str) -> Phases:
    """One model alone; `role` (receiver or sharer) says whose phases they are."""
    watch = Stopwatch(reader.loaded.model.device)
    _, prefill, decode, tokens_in, tokens_out = _speak(reader.loaded, question, reader.text(question))
    phases = Phases(total_s=watch.lap())
    columns = {"prefill_s": prefill, "decode_s": decode, "tokens_in": tokens_in, "tokens_out": tokens_out}
    for name, value in columns.items():
        setattr(phases, f"{role}_{name}", value)
    return phases


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
    watch = Stopwatch(receiver.model.device)
    request = method.request(question)
    message, prefill, decode, tokens_in, tokens_out = _speak(sharer, request, prompting.prompt_text(sharer, request))
    # The message as `TextToText` passes it on
    for stop in filter(None, request.stops):
        message = message.split(stop)[0]
    prompt = prompting.question_with_message(question, message.strip())
    text = prompting.prompt_text(receiver, prompt)
    _, receiver_prefill, receiver_decode, receiver_in, receiver_out = _speak(receiver, prompt, text)
    return Phases(
        sharer_prefill_s=prefill,
        sharer_decode_s=decode,
        receiver_prefill_s=receiver_prefill,
        receiver_decode_s=receiver_decode,
        total_s=watch.lap(),
        sharer_tokens_in=tokens_in,
        sharer_tokens_out=tokens_out,
        receiver_tokens_in=receiver_in,
        receiver_tokens_out=receiver_out,
    )


class PhaseTimer:
    """Seconds of each phase of a prefill; the timer that `RosettaModel.generate` takes.

    Args:
        device: Of the Receiver.

    Attributes:
        seconds: Of each phase by its name, those of several runs added up.
        end: When the last phase ended, on the clock of `Stopwatch`.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.end = device, 0.0
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Measure what runs inside."""
        watch = Stopwatch(self.device)
        yield
        self.seconds[phase] += watch.lap()
        self.end = watch.at


def time_c2c(reader: FusedReader, question: Question) -> Phases:
    """Sharer prefill, Receiver prefill, fusion, then the Receiver's answer.

    The Receiver's prefill is its prefix and the step that gives the first token, so that it means the same as for a
    model alone. Where the response is fused too, the steps of the Sharer and of the Fusers are part of it.
    """
    loaded, model = reader.receiver, reader.model
    watch, timer, clock = Stopwatch(loaded.model.device), PhaseTimer(loaded.model.device), TokenClock()
    (index, ids, mask, [sharer_input]), _ = reader.layout([question])
    width = ids.shape[1]
    criteria = [clock, *([StopAtText(loaded.tokenizer, question.stops, width)] if question.stops else [])]
    # The timer sees each phase of the prefill, the clock each token of the answer
    sequences = model.generate(
        index,
        ids,
        mask,
        max_new_tokens=question.max_new_tokens,
        sharer_inputs=[sharer_input],
        timer=timer,
        criteria=criteria,
    )
    # Decoding to text is part of an answer, for all methods.
    loaded.tokenizer.decode(sequences[0, width:], skip_special_tokens=True)
    total = watch.lap()
    return Phases(
        sharer_prefill_s=timer.seconds["sharer_prefill"],
        fusion_s=timer.seconds["fusion"],
        receiver_prefill_s=timer.seconds["receiver_prefill"] + clock.ticks[0] - timer.end,
        receiver_decode_s=watch.at - clock.ticks[0],
        total_s=total,
        sharer_tokens_in=int(sharer_input.attention_mask.sum()) if not sharer_input.zeroed else 0,
        receiver_tokens_in=width,
        receiver_tokens_out=len(clock.ticks),
    )


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
