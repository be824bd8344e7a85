"""The option letter that a generated answer names: by rules of this project, and by those of the reference."""

from __future__ import annotations

import re
import unicodedata

from c2c.types import LETTERS

LATIN = "A-Za-z0-9\u00c0-\u024f'\u2019"
"""Beside one of these a letter does not stand alone; Chinese characters are none of them."""
ALONE, END = f"(?<![{LATIN}])", f"(?![{LATIN}])"
NO_WORD = END + r"(?! +(?!(?:and|or) +\(?[A-J]\b)[a-z])"
"""Behind "A" and "I" where they are letters: before a lower-case word they are words themselves."""
CAPITAL = f"{ALONE}(?:[B-HJ]{END}|[AI]{NO_WORD})"
SMALL = f"{ALONE}(?:[b-hj]{END}|[ai]{NO_WORD})"
OPEN, CLOSE = r"[\s(\[（【「\"'“‘:：,，-]*", r"[\s)\]）】」\"'”’.]*"
"""What may stand between a phrase and its letter, and behind the letter."""

ANSWER_PHRASE = (
    r"(?i:\banswers?(?:\s+to\s[^.\n]{0,60}?)?|\b(?:correct|right|best|final)\s+(?:option|choice|letter)|\b(?:choice|option)(?=:)"
    r"|\b(?:choose|choosing|pick|select|go with))"
    r"(?:\W*(?i:is|are|was|be|would be|should be|must be)\b)?"
    r"(?:\W*\b(?i:option|choice|letter|clearly|therefore|thus|definitely|probably|indeed|but|simply|rather)\b)*"
    r"|答案(?:应该|应当|应)?(?:是|为|选)?|选择?"
)
STATED = re.compile(f"(?:{ANSWER_PHRASE}){OPEN}({ALONE}[A-J]{END}|{SMALL})")
CALLED_RIGHT = re.compile(rf"({CAPITAL}|{ALONE}[AI]){CLOSE}(?i:is|was|must be)\s+(?i:the\s+)?(?i:correct|right|best)\b")
OPENING = re.compile(rf"\W*({CAPITAL})")
JOINT = re.compile(
    rf"{CLOSE}(?:(?:\b(?:and|or)\b|[&/+和或与、]){OPEN}{CAPITAL}|[,，]{OPEN}{CAPITAL}{CLOSE}(?:[,，]|and\b|or\b|$))"
)
"""Behind a letter: another one that is named together with it."""
NEGATED = re.compile(
    rf"(?:\b(?i:not|neither|nor|isn['’]t|rather than|instead of)\b(?: +(?:option|choice))?|不是|不选)"
    rf"{OPEN}{ALONE}[A-Jb-hj]{END}"
)
BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
LATEX = re.compile(r"\\(?:text|textbf|textrm|textit|mathrm|mathbf|mathit)\s*\{([^{}]*)\}")
MARKS = re.compile(r"[*_`$]|\\[()\[\]]")


def extract_letter(text: str, options: int = len(LETTERS)) -> str | None:
    r"""The option letter that a generated answer names, or None where it names none, or several at once.

    In this order: the letter in the last ``\boxed{}``; the last letter that is stated to be the answer ("answer is X",
    "answer: X", "choose X", "X is correct", "答案是X", "选X"); a letter that opens the text and stands alone ("(B)",
    "B. because"); the only capital letter that stands alone anywhere. What is negated ("not B") names nothing. "A" and
    "I" before a lower-case word are words, unless the answer is stated to be "A". A letter beyond the number of
    `options` is none.
    """
    # 1. The last box, where a letter stands in it
    boxed = [_plain(inside) for inside in BOXED.findall(text)]
    if boxed and (inside := re.match(rf"\W*({CAPITAL}|[a-j](?=\W*$))", boxed[-1])):
        return _option_letter(inside.group(1), options)
    plain = NEGATED.sub(" ", _plain(BOXED.sub(r" \1 ", text)))
    # 2. The last letter that is stated, else one that opens the text; never one that is negated
    stated = [match for pattern in (STATED, CALLED_RIGHT) for match in pattern.finditer(plain)]
    named = max(stated, key=lambda match: match.end(1), default=None) or OPENING.match(plain)
    if named:
        return None if JOINT.match(plain, named.end(1)) else _option_letter(named.group(1), options)
    # 3. The only capital letter that stands alone
    alone = set(re.findall(CAPITAL, plain)) & set(LETTERS[:options])
    return alone.pop() if len(alone) == 1 else None


def extract_as_published(text: str, options: int = 4) -> str | None:
    """The letter that the reference's rules find (`protocol: paper`), in their order.

    Behind each of a list of opening phrases in turn: the first capital letter of the rest of the line, inside words
    too. Then the last letter of either case that stands alone at the end of the text or before a full stop or comma and
    a blank; then the last that stands alone anywhere; neither in a text of formulas that never speaks of an answer.
    Then the last capital letter, inside words too.
    """
    text = text.strip("\n")
    letters = LETTERS[:options]
    for phrase in OPENING_PHRASES:
        line = re.search(rf"{phrase}\s*(.*)", text, re.IGNORECASE)
        if line and (capital := re.search(f"[{letters}]", line.group(1))):
            return capital.group()
    formulas = FORMULA.search(text) and not re.search("answer|option|choice|correct", text, re.IGNORECASE)
    if not formulas:
        for pattern in (rf"\b([{letters}])(?:\W*$|[.,;:!?)]\s)", rf"\b([{letters}])\b"):
            if matches := re.findall(pattern, text, re.IGNORECASE):
                return str(matches[-1]).upper()
    capitals = re.findall(f"[{letters}]", text)
    return capitals[-1] if capitals and not formulas else None


OPENING_PHRASES = (
    "answer:", "your answer:", "the answer is", "correct answer is", "correct answer is:", "correct answer:",
    "jibu lako:", "jibu:", "jibu sahihi:", "response:", "choice:", "option:",
)  # fmt: skip
FORMULA = re.compile(r"[+\-*/=^]|\b(?:mod|sqrt|sin|cos|tan)\b", re.IGNORECASE)


def _plain(text: str) -> str:
    """The text without the marks of LaTeX and Markdown that surround letters, wide letters as plain ones."""
    text = unicodedata.normalize("NFKC", text)
    # Commands may be nested: \textbf{\text{B}}
    while LATEX.search(text):
        text = LATEX.sub(r"\1", text)
    return MARKS.sub("", text)


def _option_letter(letter: str, options: int) -> str | None:
    return letter.upper() if letter.upper() in LETTERS[:options] else None
