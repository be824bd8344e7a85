"""The option letter that a generated answer names: by rules of this project, and by those of the reference."""

from __future__ import annotations

import re
import unicodedata

from c2c.evaluation.scoring.texts import boxes, own_part
from c2c.types import LETTERS

# 1. A letter that stands alone
LATIN = "A-Za-z0-9\u00c0-\u024f"
ALONE = f"(?<![{LATIN}°\\\\])(?<![{LATIN}]['’])"
"""In front of a letter: nothing that makes it a part of a word ("C'est") or of a unit ("25 °C")."""
END = f"(?![{LATIN}])(?!['’][{LATIN}])"
PREDICATE = r"(?:is|isn['’]t|are|was|because|since|due|and|or|but|seems|must be|should be)\b"
NO_WORD = rf"{END}(?! +(?!{PREDICATE})[a-z])"
"""Behind "A" and "I" where they are letters: before another lower-case word than these they are words themselves."""
CAPITAL = f"{ALONE}(?:[B-HJ]{END}|[AI]{NO_WORD})"
SMALL = f"{ALONE}(?:[b-hj]{END}|[ai]{NO_WORD})"
OPEN, CLOSE = r"[\s(\[（【「】」)\]\"'“‘:：,，-]*", r"[\s)\]）】」\"'”’.]*"
"""What may stand between a phrase and its letter, and behind the letter."""
BETWEEN = rf"{CLOSE}(?:[,、/&和或](?:\s*(?:and|or)\b)?|\band\b|\bor\b)(?:\s*(?:option|choice))?[\s(]*"
LIST = rf"(?>(?:\b(?:option|choice)s?{OPEN})?{CAPITAL}(?:{BETWEEN}{CAPITAL}){{0,9}})"
"""One letter, or several that are listed: "A, B or C", "A、B"."""

# 2. Letters that are denied
DENIAL = (
    r"(?:\b(?i:not|never|neither|nor|none of|rather than|instead of|eliminate|exclude|rule out)"
    r"|n['’]t(?: be)?|\bcannot be|不是|不应?选|并非|排除|除了)"
)
WRONG = "not|wrong|false|incorrect|impossible|invalid|untrue|ruled out|out|too"
ADVERBS = "(?:(?:both|all|also|clearly|obviously|simply) )*"
BLAME = (
    rf"{CAPITAL}[ )\]\"'”’]*(?i:(?:is|was|seems?|would be) {ADVERBS}(?:{WRONG})\b)"
    rf"|{LIST}[ )\]\"'”’]*(?i:(?:are|were|seem|would be) {ADVERBS}(?:{WRONG})\b)"
    rf"|{CAPITAL}[ \"'”’]*(?:cannot\b|(?i:is|does|ca)n['’]t\b)"
    rf"|{LIST}(?:选?项)?(?:的?说法|的|都|均|也|是)*(?:错|有误|不)"
)
"""With a verb: "B) not enough light" and "D) cannot be determined" quote an option."""
DENIED_LETTERS = re.compile(rf"{DENIAL}{OPEN}(?:{LIST}|{ALONE}[b-hj]{END})|{BLAME}")

# 3. Letters that are stated to be the answer
SUBJECT = (
    r"(?:(?i:(?<!wrong )(?<!incorrect )\banswers?(?:\s+to\s[^.\n]{0,60}?)?|\bans\b\.?"
    r"|\b(?:correct|right|best|final)\s+(?:option|choice|letter)|\b(?:choice|option)(?=:)"
    r"|\b(?:choose|choosing|pick|select|go with))"
)
FILLERS = "option|choice|letter|clearly|therefore|thus|definitely|probably|most likely|indeed|but|simply|rather"
ANSWER_PHRASE = (
    rf"{SUBJECT}(?:\W*(?i:is|are|was|be|would be|should be|must be)\b)?(?:\W*\b(?i:{FILLERS})\b)*"
    r"|答案(?:应该|应当|应)?(?:是|为|选)?|正确(?:的?选项)?(?:是|为)|选择?)"
)
OPENS_ANSWER = re.compile(rf"{ANSWER_PHRASE}\W*$")
"""At the end of a prompt: what follows is the answer."""
STATEMENT = re.compile(f"{ANSWER_PHRASE}{OPEN}({CAPITAL}|{SMALL})")
PRAISE = re.compile(
    rf"({CAPITAL})(?:{CLOSE}(?i:(?:is|was|must be)\s+(?:the\s+|an?\s+)?|:\s*)"
    r"(?i:correct|right|best|only|true|yes|answer)\b|(?:选?项)?(?:是|最)?(?:正确|对|符合))"
)
CONCLUSION = re.compile(
    r"(?i:\b(?:so|thus|hence|therefore|leaves|leaving)\b)(?:\W*\b(?i:it|is|must|be|option|choice|the|answer)\b)*"
    rf"{OPEN}({CAPITAL})(?={CLOSE}(?:$|[,;:!\n.]|because|since|is (?:true|right|correct)))"
)

# 4. Letters at the beginning, together, and in names
OPENING = re.compile(
    r"\W*(?:(?i:option|choice|the letter|letter)\s+\W*)?"
    rf"({CAPITAL}|{SMALL}(?=[)\].:,]|\s*$|\s*\n| (?:because|since)\b))"
)
OPTION_LIST = re.compile(r"\W*(?:A([).:])[\s\S]*?\bB\1|a([).:])[\s\S]*?\bb\2|A\s*\n\s*B\b|A/B/C)")
SLASH_LIST = re.compile(r"A/B(?:/[C-J])+\)?(?=:)")
JOINT_LETTER = re.compile(
    rf"{CLOSE}(?:(?:\b(?:and|or)\b|[&/+和或与、–-]|或者){OPEN}{CAPITAL}"
    rf"|[,，]{OPEN}{CAPITAL}{CLOSE}(?:[,，]|and\b|or\b|$))"
)
"""Behind a letter: another one that is named together with it."""
LINKS = (
    rf"options?|choices?|both|either|is|be|it|it['’]s|so|hence|with|for|to|in|only|leaves|leaving|or|and|than|then|es|ist|est"
    rf"|say|answer|guess|pick|choose|chose|select|selected|maybe|perhaps|certainly|likely|{FILLERS}"
)
"""Words that may stand in front of a letter that is meant as an option."""
NAME = re.compile(
    rf"(?i:(?<!['’])\b(?!(?:{LINKS})\b)[^\W\d_]+['’]?[^\W\d_]*|\d)\s+$|[\u4e00-\u9fff](?<![项选是为择有案即填])$"
)
"""In front of a letter that belongs to a name or a quantity, "Vitamin C", "2 A", "维生素C": any word but the LINKS."""
LONGEST_WORD = 40

LATEX = re.compile(r"\\(?:text|textbf|textrm|textit|mathrm|mathbf|mathit)\s*\{([^{}]*)\}")
MARKS = re.compile(r"[*_`$]|\\[()\[\]]")


def extract_letter(text: str, options: int = len(LETTERS), opening: str = "") -> str | None:
    r"""The option letter that a generated answer names, or None where it names none, or several at once.

    Thoughts, and further questions that the model writes itself, are left out (see `own_part`). Letters that are denied
    ("not B", "B is wrong") name nothing. Then the first rule that finds a letter decides:

    1. The letter in the last ``\boxed{}``: a box is made for the answer.
    2. Where the prompt opened the answer ("Answer:"), the letter with which the text begins: it completes that
       statement, whatever the text says later.
    3. The last letter that is stated to be the answer ("answer is X", "X is correct", "答案是X"): a later statement
       corrects an earlier one.
    4. The letter with which the text begins, as an option is quoted ("(B)", "B. because").
    5. The last letter that a conclusion names ("so C", "which leaves C").
    6. The only capital letter that stands alone and belongs to no name ("Vitamin C"): nothing else can be meant.

    Options that are repeated from the first one on ("A) ... B) ...") are no beginning. "A" and "I" before a lower-case
    word are words, unless a reason or a predicate follows. Two letters that are named together are none.

    Args:
        text: What the model wrote.
        options: How many options the question has; a letter beyond them is none.
        opening: How the prompt opened the answer, such as ``Answer:``; empty where it did not.
    """
    text = own_part(text)
    # 1. The last box
    if (contents := boxes(text)) and (inside := re.match(rf"\W*({CAPITAL}|[a-j](?=\W*$))", _plain(contents[-1]))):
        return _option_letter(inside.group(1), options)
    plain = DENIED_LETTERS.sub(" ", SLASH_LIST.sub(" ", _plain(text)))
    lists_options = OPTION_LIST.match(plain)
    beginning = None if lists_options else OPENING.match(plain)
    # 2. The beginning where the prompt opened the answer  3. The last statement  4. The beginning  5. The conclusion
    verdicts = (match for match in PRAISE.finditer(plain) if not _in_name(plain, match.start(1)))
    statement = max((*STATEMENT.finditer(plain), *verdicts), key=lambda match: match.end(1), default=None)
    if beginning and OPENS_ANSWER.search(opening):
        statement = None
    if (
        mention := statement
        or beginning
        or max(CONCLUSION.finditer(plain), key=lambda match: match.end(1), default=None)
    ):
        return None if JOINT_LETTER.match(plain, mention.end(1)) else _option_letter(mention.group(1), options)
    # 6. The only letter
    letters = {match.group() for match in re.finditer(CAPITAL, plain) if not _in_name(plain, match.start())}
    letters &= set(LETTERS[:options])
    return letters.pop() if len(letters) == 1 and not lists_options else None


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


def _in_name(text: str, start: int) -> bool:
    """Whether the word in front of a letter makes it a part of a name or a quantity."""
    return NAME.search(text[max(0, start - LONGEST_WORD) : start]) is not None


def _option_letter(letter: str, options: int) -> str | None:
    return letter.upper() if letter.upper() in LETTERS[:options] else None
