"""Which mathematical answers are right, on a table of tricky ones; and that no answer stops the grading."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from c2c.errors import RefusedError
from c2c.evaluation.scoring import mathematics
from c2c.evaluation.scoring.numbers import in_digits
from tests.bad_inputs.refusals import refused

MATRIX = r"\begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix}"
# Gold answer (a number, a solution of GSM8K, or LaTeX), generated text, whether it is right.
ANSWERS = [
    ("18", "She makes $18 per day.", True),
    ("18", "It costs $5 and she gets $13. So 5+13=18. Answer: 18", True),
    ("70000", "The answer is $70,000.", True),
    ("70,000", "Answer: 70,000", True),
    ("-3", "Answer: -3", True),
    ("18", "**18**", True),
    ("18", "18 eggs", True),
    ("12", "Answer: 12 apples", True),
    ("0.5", "Answer: 1/2", True),
    ("5", "#### 5", True),
    ("50", "Answer: 50%", True),
    ("18", "Answer: $18.00", True),
    ("18", "The answer is 18. Question: how many 7 balls? Answer: 7", True),
    ("10", "The final answer is \\boxed{10}", True),
    ("10", "so \\boxed{9} no \\boxed{10}", True),
    ("10", "", False),
    ("1234567", "1,234,567", True),
    ("3", "three", True),
    ("18", "x = 18", True),
    ("5", "Answer: 5 or 6", False),
    ("18", "Answer: 16 - 3 - 4 = 9, 9 * 2 = $18", True),
    ("Janet sells...\n#### 1,200", "Answer: 1200.", True),
    ("5", "Answer: 15", False),
    ("3", "Answer: -3", False),
    ("2", "Answer: 2.5", False),
    ("2", "Answer: 2 hours 30 minutes", False),
    ("18", "**Answer:** 18", True),
    ("18", "Answer: **$18**", True),
    ("18", "Answer: \\$18", True),
    ("18", "Answer:\n18", True),
    ("9", "Answer: 3^2", True),
    ("7", "Answer: 3, 5, 7", False),
    ("25", "The answer is: 25 km/h.", True),
    ("\\frac{1}{2}", "Answer: 1/2", True),
    ("\\frac{1}{2}", "\\boxed{0.5}", True),
    ("\\left( 3, \\frac{\\pi}{2} \\right)", "Answer: $(3, \\pi/2)$", True),
    ("\\text{Evelyn}", "Answer: Evelyn", True),
    ("\\text{Evelyn}", "\\boxed{\\text{Evelyn}}", True),
    ("14", "\\boxed{14}", True),
    ("x^2+1", "\\boxed{1+x^2}", True),
    ("\\text{(A)}", "\\boxed{A}", True),
    ("90^\\circ", "Answer: $90$ degrees", True),
    ("10\\%", "Answer: 10", True),
    ("3,5,7", "Answer: 3, 5, 7", True),
    ("3,5,7", "\\boxed{7,5,3}", True),
    ("6 - 5i", "Answer: $6-5i$", True),
    ("6 - 5i", "$-5i+6$", True),
    ("\\pi", "Answer: \\pi", True),
    ("2k+2", "Answer: 2k+2", True),
    ("2k+2", "Answer: 2(k+1)", True),
    ("11\\sqrt2", "Answer: $11\\sqrt{2}$", True),
    ("5.4 \\text{ cents}", "\\boxed{5.4}", True),
    ("p - q", "Answer: p - q", True),
    ("p - q", "Answer: q - p", False),
    ("(3,4]", "Answer: (3, 4]", True),
    ("(3,4]", "Answer: [3, 4]", False),
    ("(3,4)", "Answer: (4,3)", False),
    ("x=5", "Answer: 5", True),
    ("52_8", "\\boxed{52_8}", True),
    ("\\frac{14}{3}", "\\[\\boxed{\\dfrac{14}{3}}\\]", True),
    ("1,-2", "Answer: 1 and -2", True),
    (
        "\\begin{pmatrix} -1/3 \\\\ 2/3 \\\\ 5/3 \\end{pmatrix}",
        "\\boxed{\\begin{pmatrix} -1/3 \\\\ 2/3 \\\\ 5/3 \\end{pmatrix}}",
        True,
    ),
    ("2000", "Answer: 2,000", True),
    ("\\pi", "Answer: \\( \\pi \\)", True),
    ("\\text{east}", "Answer: West", False),
    ("4", "Answer: $x=4$", True),
    ("\\sqrt{51}", "Answer: \\sqrt{51} units", True),
    ("145^\\circ", "答案是$145^\\circ$", True),
    # a later statement without a number, whole sentences, thoughts
    ("20", "Final answer: 20\nLet me double check: 4*5 = 20. Answer: correct", True),
    ("20", "Answer: 20. Let me check: 21 - 1 = 20.", True),
    ("10", "She has 4 and then 6 more, which makes 10 apples in total.", True),
    ("33", "1. Find the double: 22.\n2. Add: 33.\n3. Done.", True),
    ("3", "Thus she has 14 marbles and 3 bags.", True),
    ("14", "Thus she has 14 marbles and 3 bags.", False),
    ("10", "所以一共有10个苹果。", True),
    ("8", "<think>\nAnswer: 9? No.\n</think>\n\nAnswer: 8", True),
    ("8", "<think>\nThe answer is 8", False),
    ("\\frac{3}{4}", "Therefore, the probability is $\\frac{3}{4}$.", True),
    # boxes, words, units, powers of ten
    ("7", "\\boxed{\\frac{\\boxed{14}}{2}}", True),
    ("5", "five", True),
    ("205", "Answer: two hundred and five", True),
    ("2400", "Answer: twenty-four hundred", True),
    ("12", "Answer: a dozen", True),
    ("21000", "Answer: twenty-one thousand", True),
    ("5", "Answer: five hundred", False),
    ("5", "5 hours and 0 minutes", True),
    ("540", "5.4e2", True),
    ("57500", "Answer: $5.75 \\times 10^4", True),
    ("0.02", "Answer: 2 × 10^{-2}", True),
    ("1500000", "Answer: 1.5 million", True),
    ("2.5", "Answer: 2 1/2", True),
    ("2.5", "Answer: 5/2 hours", True),
    ("26", "Answer: 26 cm^2", True),
    ("-4", "Answer: -4 °C", True),
    ("2\\sqrt{3}", "Answer: 2√3", True),
]
# Gold answer, generated text, what a reader says, and why no rule does.
KNOWN_WRONG = [
    ("12", "12 inches = 1 foot", True, "the last side of an equation counts, whatever its unit"),
    ("20", "Tim has 20 more than Bob, who has 5", True, "the last number of a sentence counts"),
    ("24", "Answer: She needs 24 more eggs than the 6 she has", True, "two numbers in a statement are no answer"),
    ("160", "Answer: 2 hours and 40 minutes", True, "the gold answer does not name its unit"),
    ("2.5", "Answer: two and a half", True, "fractions in words are not read"),
    ("3", "Answer: 3:1", False, "math-verify reads the first part of a ratio"),
    ("[0,1)", "Answer: $0 \\le x < 1$", True, "an inequality is not compared with an interval"),
    ("\\text{Monday}", "Answer: It is a Monday.", True, "words are compared whole"),
]
HANGS = ("5", r"Answer: $9^{9^{9^{9}}}$")
RAISES = ("\\frac{1}{2}", r"\boxed{\frac{1}{}}")


@pytest.fixture(scope="module")
def graded() -> dict[tuple[str, str], bool]:
    return mathematics.grade((gold, text) for gold, text, *_ in (*ANSWERS, *KNOWN_WRONG))


@pytest.mark.parametrize(("gold", "text", "right"), ANSWERS)
def test_an_answer_is_right_if_it_equals_the_gold_answer(graded, gold, text, right):
    assert graded[gold, text] == right


@pytest.mark.parametrize(
    ("gold", "text", "right"),
    [pytest.param(*row, marks=pytest.mark.xfail(reason=why, strict=True)) for *row, why in KNOWN_WRONG],
)
def test_what_no_rule_grades_as_a_reader_does_is_known(graded, gold, text, right):
    assert graded[gold, text] == right


@pytest.mark.parametrize(
    "part", ["Answer: ", "one ", "1 ", "1, ", "\\boxed{", "1. ", "and 0 ", "$", "a dozen ", "* 10 ^"]
)
def test_the_answer_of_a_long_text_is_taken_in_short_time(part):
    started = time.process_time()
    in_digits(mathematics.stated_answer(part * (12_000 // len(part)), number=True))
    assert time.process_time() - started < 5


def test_an_answer_that_hangs_or_raises_is_wrong_and_the_next_one_is_graded_in_a_thread_too():
    after = ("x+1", "Answer: 1+x")
    found = {}
    thread = threading.Thread(target=lambda: found.update(mathematics.grade([HANGS, RAISES, after], cpu_seconds=2)))
    started = time.perf_counter()
    thread.start()
    thread.join()
    assert found == {HANGS: False, RAISES: False, after: True}
    assert time.perf_counter() - started < 60


def worker_that(act: str) -> Callable[[mathematics._Worker], subprocess.Popen[str]]:
    """A grader that does something of its own with each pair."""
    code = f"import os, signal, sys, time\n{act}"
    return lambda worker: subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


EACH = "print('ready', flush=True)\nfor line in sys.stdin:\n    "
HARD = ("x+1", "Answer: 1+x")


@pytest.mark.parametrize(
    "act",
    [
        EACH + "time.sleep(60)",
        EACH + "os.kill(os.getpid(), signal.SIGKILL)",
        EACH + "sys.exit(0)",
        EACH + "print('what?', flush=True)",
        "time.sleep(60)",
        "sys.exit(1)",
    ],
    ids=["too busy", "S9 killed from outside", "ended", "speaks otherwise", "never ready", "not started"],
)
def test_an_answer_without_a_verdict_is_an_error_and_not_a_wrong_answer(act, monkeypatch, capsys):
    monkeypatch.setattr(mathematics, "WALL_SECONDS", 1.0)
    monkeypatch.setattr(mathematics, "START_SECONDS", 1.0 if "ready" not in act else 60.0)
    monkeypatch.setattr(mathematics._Worker, "_start", worker_that(act))
    with refused("1 that were not", "less busy"):
        mathematics.grade([HARD, ("3", "Answer: 3")])
    assert "1 of 1 answers have no verdict" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGPROF)", "more than 5 s of processor time"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "ended the grader"),
        ("print('memory', flush=True)", "more memory"),
    ],
)
def test_an_answer_that_meets_a_limit_of_its_own_is_wrong_and_counted(act, words, monkeypatch, capsys):
    monkeypatch.setattr(mathematics._Worker, "_start", worker_that(EACH + act))
    assert mathematics.grade([HARD]) == {HARD: False}
    told = capsys.readouterr().err
    assert "1 of 1 answers" in told and words in told and "count as wrong" in told


def test_the_start_of_a_grader_is_not_counted(monkeypatch, capsys):
    """S9: under load the first answer took 99.7 s, most of them for the imports of its process."""
    monkeypatch.setattr(mathematics, "WALL_SECONDS", 2.0)
    slow = "time.sleep(3)\n" + EACH + "print('right', flush=True)"
    monkeypatch.setattr(mathematics._Worker, "_start", worker_that(slow))
    assert mathematics.grade([HARD]) == {HARD: True}
    assert capsys.readouterr().err == ""


def test_what_is_no_text_is_wrong_and_what_a_library_prints_is_no_verdict(monkeypatch):
    """K26; newlines in an answer are none in the protocol either."""
    odd = [("1/2", "\\boxed{\x00\ud800}"), ("x", "\\boxed{y\nright\n}"), ("x", "\\boxed{}\x85\u2028")]
    assert set(mathematics.grade(odd).values()) == {False}


def test_plain_numbers_need_no_process(monkeypatch):
    monkeypatch.setattr(mathematics._Worker, "_start", lambda worker: pytest.fail("a process was started"))
    found = mathematics.grade([("70000", "Answer: $70,000.00"), ("18", "so it is 18. Answer: 19"), ("3", "")])
    assert list(found.values()) == [True, False, False]


@pytest.mark.parametrize(
    ("gold", "answer", "published"),
    [("... #### 70,000", "70000", "70"), ("#### -3", "-3", "-3"), ("1,234.5", "1234.5", "1"), ("1/2", "1/2", "1")],
)
def test_the_gold_answer_is_what_follows_the_mark_and_the_reference_stops_at_its_comma(gold, answer, published):
    assert (mathematics.gold_of(gold), mathematics.gold_at_comma(gold)) == (answer, published)


def test_without_the_grader_nothing_is_scored(monkeypatch):
    monkeypatch.setattr(mathematics, "PACKAGE", "no_such_package")
    with pytest.raises(RefusedError, match="math-verify"):
        mathematics.grade([("1", "1")])
