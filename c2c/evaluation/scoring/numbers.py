"""Numbers as people write them, in words, with powers of ten and with units, turned into plain digits."""

from __future__ import annotations

import re
from decimal import Decimal

ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
SCALES = {"dozen": 12, "hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9}
VALUES = {**{word: value for value, word in enumerate(ONES)}, **{word: 20 + 10 * k for k, word in enumerate(TENS)}}
WORD = "|".join(sorted((*VALUES, *SCALES), key=len, reverse=True))
NUMBER_WORDS = re.compile(rf"(?:\ba\s+)?\b(?:{WORD})(?:(?:\s+and\s+|[\s-]+)(?:{WORD}))*\b", re.IGNORECASE)
DIGITS = r"(?<![\w.])(\d+(?:,\d{3})*(?:\.\d+)?)"
SCALE_NUMBER = re.compile(rf"{DIGITS}\s+({'|'.join(SCALES)})\b", re.IGNORECASE)
POWER_OF_TEN = re.compile(
    rf"{DIGITS}(?:[eE]([-+]?\d{{1,2}})|\s*(?:×|\\times|\*|x)\s*10\s*\^\s*\{{?\s*(-?\d{{1,2}})\}}?)(?!\w)"
)
MIXED_FRACTION = re.compile(r"(?<![\w./])(\d+)\s+(\d+)/(\d+)\b")
ZERO_PART = re.compile(r",? and 0 [a-z]+\b")
UNITS = re.compile(r"(?<=[A-Za-z])\s*\^\s*\{?[23]\}?|\s*°\s*[CF]?\b")
LAST_NUMBER = re.compile(r"[-+−]?\$?(?<![A-Za-z0-9_.^/])(?:\d[\d,]*(?:\.\d+)?)(?![\w]*\.\d)")


def holds_number(text: str) -> bool:
    """Whether a number is written in the text, in digits or in words."""
    return bool(re.search(r"\d", text) or NUMBER_WORDS.search(text))


def in_digits(text: str) -> str:
    """The text with numbers in words ("a dozen", "two hundred and five", "1 million") and powers of ten as digits.

    Mixed fractions become plain ones. Nothing of a second unit ("and 0 minutes"), powers of units ("cm^2") and
    degrees are left out.
    """
    text = POWER_OF_TEN.sub(lambda match: _shifted(match[1], match[2] or match[3]), text)
    text = SCALE_NUMBER.sub(lambda match: _plain(_decimal(match[1]) * SCALES[match[2].lower()]), text)
    text = NUMBER_WORDS.sub(lambda match: str(_value(match.group())), text)
    text = MIXED_FRACTION.sub(lambda match: f"{int(match[1]) * int(match[3]) + int(match[2])}/{match[3]}", text)
    return UNITS.sub("", ZERO_PART.sub("", text))


def from_last_number(text: str) -> str:
    """The text from its last number on, where the numbers stand among words; else all of it."""
    text = ZERO_PART.sub("", text)
    numbers = list(LAST_NUMBER.finditer(text))
    words = re.search(r"[^\W\d_]{2,}", re.sub(r"\\[a-zA-Z]+", "", text))
    return text[numbers[-1].start() :] if numbers and words else text


def _value(words: str) -> int:
    """The value of a number in words: "two hundred and five" is 205."""
    total, group = 0, 0
    for word in re.findall(r"[a-z]+", words.lower()):
        if word in VALUES:
            group += VALUES[word]
        elif word in SCALES:
            group = max(group, 1) * SCALES[word]
            # Thousands and more close a group, a hundred and a dozen belong to it.
            if SCALES[word] >= 1_000:
                total, group = total + group, 0
    return total + group


def _decimal(digits: str) -> Decimal:
    return Decimal(digits.replace(",", ""))


def _shifted(digits: str, exponent: str) -> str:
    return _plain(_decimal(digits).scaleb(int(exponent)))


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"
