r"""Whether a generated answer to a mathematical question equals the gold answer (math-verify).

Plain numbers are compared as numbers; everything else goes to processes of their own (`math_worker`). There an answer
that takes too much processor time or memory is wrong, and counted on stderr; one that raises is wrong. An answer for
which the machine was too busy has no verdict: nothing is scored then.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from queue import SimpleQueue

from c2c.errors import RefusedError
from c2c.evaluation.scoring.math_worker import MEMORY, READY, RIGHT, WRONG
from c2c.evaluation.scoring.numbers import from_last_number, holds_number
from c2c.evaluation.scoring.texts import boxes, own_part

CPU_SECONDS = 5.0
"""Processor time that one answer may take: the same on a busy machine, as time on the clock would not be."""
WALL_SECONDS = 120.0
"""Time on the clock that a process may take for one answer: more than CPU_SECONDS on any machine that is not stuck."""
START_SECONDS = 600.0
"""Time on the clock in which a process must be ready."""
WORKERS = 2
SLOW, CRASH, NONE = "slow", "crash", "none"
"""Verdicts beside the worker's own: over the limit of processor time, a crash of the grader, nothing at all."""
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
"""What an answer does to a grader; other signals come from outside, such as that for want of the machine's memory."""

PACKAGE = "math_verify"
NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?")
PUBLISHED_GOLD = re.compile(r"[-+]?\d+(?:\.\d+)?")
STATEMENT = re.compile(r"(?:(?i:\banswers?\s*(?:is|are|:|=)+|####)|答案(?:是|为|[:：]))[ \t]*[:：]?\s*([^\n]*)")
"""Behind it, on its line or the next one that is not empty: the answer."""
REMARK = re.compile(r"(?<=[^\s.])[.;!](?=\s+[^\s\d])|\s\(?(?:since|because|as in)\b|。")
"""What follows an answer on its line: another sentence, or a reason."""
SENTENCE_END = re.compile(r"(?<=[^\W\d])[.!?](?=\s)|(?<=\d)[.!?](?=\s+\D)|[。\n]")
LIST_NUMBER = re.compile(r"^\s*\d+[.)][ \t]+(?=\S)", re.MULTILINE)
FORMULA = re.compile(r"\$+([^$]+)\$+|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
EMPHASIS = re.compile(r"\*\*|__|`|\\\$|(?<!\\)\\(?=\s)")


def grade(questions: Iterable[tuple[str, str]], cpu_seconds: float = CPU_SECONDS) -> dict[tuple[str, str], bool]:
    """Whether each pair of gold answer and generated text agrees.

    Args:
        questions: Gold answer (a number, LaTeX, or a solution that ends in ``#### number``), and generated text.
        cpu_seconds: Processor time after which an answer is wrong.

    Raises:
        RefusedError: math-verify is not installed, or the machine did not grade an answer within WALL_SECONDS.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise RefusedError("The package math-verify must be installed for the scoring math", "not installed",
                           "pip install 'cache-to-cache[graders]'")  # fmt: skip
    questions = dict.fromkeys(questions)
    stated = {
        question: (gold_of(question[0]), stated_answer(question[1], _number(gold_of(question[0])) is not None))
        for question in questions
    }
    plainly_equal = {question: compare_plainly(*pair) for question, pair in stated.items()}
    hard = [question for question, right in plainly_equal.items() if right is None]
    verdicts = dict(zip(hard, _ask_workers([stated[question] for question in hard], cpu_seconds), strict=True))
    _report_limits(verdicts, cpu_seconds)
    return {question: bool(plainly_equal[question]) or verdicts.get(question) == RIGHT for question in questions}


def _report_limits(verdicts: Mapping[tuple[str, str], str], cpu_seconds: float) -> None:
    """Say how many answers met a limit, and refuse to score where that was the machine's fault."""
    counts = Counter(verdicts.values())
    limits = {
        SLOW: f"took more than {cpu_seconds:g} s of processor time",
        MEMORY: "took more memory than a grader has",
        CRASH: "ended the grader",
    }
    for verdict, limit in limits.items():
        if counts[verdict]:
            notice = f"{counts[verdict]} of {len(verdicts)} answers {limit}, and count as wrong"
            print(f"math-verify: {notice}", file=sys.stderr)
    if open_ones := [question for question, verdict in verdicts.items() if verdict == NONE]:
        print(f"math-verify: {len(open_ones)} of {len(verdicts)} answers have no verdict", file=sys.stderr)
        rule = f"Every answer to a mathematical question must be graded within {WALL_SECONDS:g} s on the clock"
        received = f"{len(open_ones)} that were not, such as {open_ones[0][1][-200:]!r}"
        raise RefusedError(rule, received, "Score again on a machine that is less busy")


def gold_of(gold: str) -> str:
    """The gold answer itself: what follows ``####``, if there is that mark; a plain number without its commas."""
    answer = gold.rpartition("####")[2].strip()
    return answer.replace(",", "") if NUMBER.fullmatch(answer) else answer


def gold_at_comma(gold: str) -> str:
    """The gold answer as the reference reads it: the first number, which ends at a thousands comma."""
    number = PUBLISHED_GOLD.search(gold.rpartition("####")[2])
    return number.group() if number else gold


def stated_answer(text: str, number: bool = False) -> str:
    r"""What the text gives as its answer.

    Thoughts, and further problems that the model writes itself, are left out
    (`c2c.evaluation.scoring.texts.own_part`). Then the first rule that finds something decides:

    1. The last ``\boxed{}``: a box is made for the answer.
    2. What follows the last "answer:", "answer is" or ``####``, up to the end of its sentence or to a reason. Where the
       answer is a `number`, the last of these that holds one ("Answer: correct" does not).
    3. Where the answer is a `number`, the last number in digits, with what follows it in its sentence: a solution ends
       with its result.
    4. Where it is not a number, the last formula between dollars or LaTeX's brackets; else the whole text.
    """
    text = own_part(text)
    # 1. The last box
    if contents := boxes(text):
        return _tidy(contents[-1].removeprefix("{").removesuffix("}") if contents[-1].startswith("{") else contents[-1])
    # 2. The last statement
    statements = [REMARK.split(line, maxsplit=1)[0] for line in STATEMENT.findall(text)]
    statements = [line for line in statements if (holds_number(line) if number else line.strip())]
    if statements:
        return _tidy(statements[-1])
    # 3. The last number  4. The last formula, or the whole text
    sentences = [REMARK.split(sentence)[0] for sentence in SENTENCE_END.split(LIST_NUMBER.sub("", text))]
    with_number = [sentence for sentence in sentences if re.search(r"\d", sentence)] if number else []
    if with_number:
        return _tidy(from_last_number(with_number[-1]))
    formulas = [] if number else FORMULA.findall(text)
    return _tidy(next(filter(None, formulas[-1])) if formulas else text)


def compare_plainly(gold: str, answer: str) -> bool | None:
    """Whether two plain answers agree: the same text, or two numbers; None where that cannot be seen plainly."""
    if not answer:
        return False
    if _bare(gold) == _bare(answer):
        return True
    numbers = _number(gold), _number(answer)
    if None in numbers:
        return None
    return numbers[0] == numbers[1]


def _tidy(answer: str) -> str:
    """Without emphasis, blanks around it and a full stop at its end."""
    return EMPHASIS.sub("", answer).strip().removesuffix(".").strip()


def _bare(answer: str) -> str:
    """The answer without marks that say nothing: dollars around it, LaTeX's text, blanks, letter case."""
    inside = re.sub(r"\\(?:text|mathrm|textbf)\s*\{([^{}]*)\}", r"\1", answer.strip().strip("$"))
    return re.sub(r"\s+|\\left|\\right|\\[,!;]", "", inside).casefold()


def _number(answer: str) -> Decimal | None:
    """The one plain number that the answer consists of, money or not."""
    text = re.sub(r"^([-+]?)\$\s*|\$$", r"\1", answer.strip()).strip()
    if not NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None


def _ask_workers(pairs: Sequence[tuple[str, str]], cpu_seconds: float) -> list[str]:
    """The workers' verdicts in the order of `pairs`."""
    if not pairs:
        return []
    idle: SimpleQueue[_Worker] = SimpleQueue()
    # A thread waits for each worker; sympy itself runs in their processes.
    crew = [_Worker(cpu_seconds) for _ in range(min(WORKERS, os.cpu_count() or 1, len(pairs)))]
    for worker in crew:
        idle.put(worker)

    def ask(pair: tuple[str, str]) -> str:
        worker = idle.get()
        try:
            return worker.ask(pair)
        finally:
            idle.put(worker)

    try:
        with ThreadPoolExecutor(len(crew)) as threads:
            return list(threads.map(ask, pairs))
    finally:
        for worker in crew:
            worker.stop()


class _Worker:
    """A process that grades one answer after another; one that dies or hangs is replaced."""

    def __init__(self, cpu_seconds: float) -> None:
        self.cpu_seconds = cpu_seconds
        self.process: subprocess.Popen[str] | None = None

    def ask(self, pair: tuple[str, str]) -> str:
        """The verdict on gold and answer."""
        if self.process is None or self.process.poll() is not None:
            self.process = self._start()
            if self._read_line(START_SECONDS) != READY:
                self.stop()
                return NONE
        stdin = self.process.stdin
        assert stdin is not None
        with suppress(BrokenPipeError):
            stdin.write(json.dumps(pair) + "\n")
            stdin.flush()
        verdict = self._read_line(WALL_SECONDS)
        if verdict in (RIGHT, WRONG, MEMORY):
            return verdict
        verdict = self._death() if verdict == "" else NONE
        self.stop()
        return verdict

    def _death(self) -> str:
        """The verdict where none was written: that of the signal which ended the process, if it is the answer's."""
        assert self.process is not None
        try:
            code = self.process.wait(WALL_SECONDS)  # its pipe is closed a moment before it has ended
        except subprocess.TimeoutExpired:
            return NONE
        return SLOW if code == -signal.SIGPROF else CRASH if -code in CRASHES else NONE

    def _read_line(self, seconds: float) -> str | None:
        """The next line of the process; empty if it has closed its output, None if nothing came in so many seconds."""
        assert self.process is not None and self.process.stdout is not None
        ready = select.select([self.process.stdout], [], [], seconds)[0]
        return self.process.stdout.readline().strip() if ready else None

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "c2c.evaluation.scoring.math_worker", str(self.cpu_seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
