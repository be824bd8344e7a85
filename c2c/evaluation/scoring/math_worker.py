"""A process that reads gold and answer as JSON, one pair a line, and writes whether math-verify calls them equal.

It writes READY when it can begin. The system ends it if one pair takes more processor time than its argument says, and
gives it no more memory than `MEMORY_BYTES`: sympy can hang in places that no exception reaches.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import signal
import sys

from c2c.evaluation.scoring.numbers import in_digits

MEMORY_BYTES = 4 << 30
READY, RIGHT, WRONG, MEMORY = "ready", "right", "wrong", "memory"
"""What it writes: MEMORY of an answer for which that was not enough."""
PLAIN = re.compile(r"[-+]?\d+(?:\.\d+)?")

ROOT = re.compile(r"√\(?(\w+)\)?")


def equal(gold: str, answer: str) -> bool:
    """Whether the answer equals the gold answer, a plain number or LaTeX.

    The answer is taken whole. Where the gold answer is a number, and the answer holds one number among words, or a
    chain of equations, that number or the last side counts.
    """
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    both = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    number = PLAIN.fullmatch(gold) is not None
    gold_value = parse(gold if number else f"${gold}$", both, parsing_timeout=None, raise_on_error=True)
    if number:
        text = reduce_to_number(in_digits(answer))
    else:
        text = ROOT.sub(r"\\sqrt{\1}", answer.strip("$ ").removeprefix("\\(").removesuffix("\\)"))
    value = parse(f"\\boxed{{{text}}}", both, parsing_timeout=None, raise_on_error=True)
    if not value and not number:
        value = parse(answer, both, parsing_timeout=None, raise_on_error=True)
    return bool(value) and bool(verify(gold_value, value, timeout_seconds=None, raise_on_error=True))


def reduce_to_number(answer: str) -> str:
    """The last side of a chain of equations, and of words around one number that number."""
    side = answer.rpartition("=")[2].strip() or answer
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", side.replace("\\$", "").replace("$", ""))
    numbers = re.findall(r"(?<![A-Za-z0-9_.])[-+]?\d+(?:\.\d+)?(?:/\d+)?(?![A-Za-z0-9_/^]|\.\d)", plain)
    words = re.search(r"[A-Za-z]{2,}|[\u4e00-\u9fff]", re.sub(r"\\[a-zA-Z]+", "", plain))
    return numbers[0] if len(set(numbers)) == 1 and (words or numbers[0] == plain) else plain


def main() -> None:
    """Answer until the standard input ends."""
    limit = float(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    logging.disable(logging.CRITICAL)
    # What a library prints is no verdict.
    verdicts = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import math_verify  # noqa: F401  (before the clock of the first answer starts)

    print(READY, file=verdicts, flush=True)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, limit)
        try:
            verdict = RIGHT if equal(*json.loads(line)) else WRONG
        except MemoryError:
            verdict = MEMORY
        except Exception:  # what math-verify cannot read is no right answer; it raises errors of many kinds
            verdict = WRONG
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(verdict, file=verdicts, flush=True)


if __name__ == "__main__":
    main()
