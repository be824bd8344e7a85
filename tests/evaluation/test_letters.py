"""Which letter an answer names, on a table of tricky answers; and which one the reference finds in the same."""

import time

import pytest

from c2c.evaluation.scoring.letters import extract_as_published, extract_letter

# The answer, the letter among four options, the letter that the reference's rules find.
ANSWERS = [
    ("B", "B", "B"),
    ("(C)", "C", "C"),
    ("**D**", "D", None),
    ("`A`", "A", "A"),
    ("A", "A", "A"),
    ("b", "B", "B"),
    ("B. photosynthesis", "B", "B"),
    ("B) because A is wrong", "B", "B"),
    ("B: the sun\nC: the moon", "B", "C"),
    ("B because of the heat", "B", "B"),
    ("Ａ", "A", None),
    ("The correct answer is C", "C", "C"),
    ("The correct answer is (c).", "C", "C"),
    ("Answer: D", "D", "D"),
    ("Answer:\n\nB", "B", "B"),
    ("answer: (b)", "B", "B"),
    ("The answer is **B**", "B", "B"),
    ("The answer is:\n(A) gravity", "A", "A"),
    ("The correct option is: **C) copper**", "C", "C"),
    ("The best choice is (D).", "D", "D"),
    ("<answer>B</answer>", "B", "B"),
    ("Answer is probably B", "B", "B"),
    ("The answer to the question is B.", "B", "B"),
    ("I choose C because A is wrong", "C", "A"),
    ("I first thought the answer is A. But the answer is D.", "D", "A"),
    # "A" and "I" as words
    ("A dog is an animal, so D.", "D", "D"),
    ("The answer is a plant", None, "A"),
    ("The answer is A because of the heat", "A", "A"),
    ("the answer is b because of the heat", "B", "B"),
    ("A cat", None, "A"),
    ("Both. A cat sat.", None, "A"),
    ("I would say C", "C", "C"),
    # letters inside words, and beyond the options
    ("Apple", None, "A"),
    ("The answer is Apple", None, "A"),
    ("It's Dublin", None, "D"),
    ("C'est la vie", None, "C"),
    ("Vitamin C", None, "C"),
    ("the capital of E", None, None),
    ("The answer is E", None, None),
    ("Answer: F", None, "A"),
    # several letters, and letters that are denied
    ("Either B or C", None, "C"),
    ("A or B", None, "B"),
    ("A and B are both right", None, "B"),
    ("B, C", None, "C"),
    ("B/C", None, None),
    ("The answer is B or C.", None, "B"),
    ("Answer: A, C", None, "A"),
    ("Answer: B, because A is too cold", "B", "B"),
    ("The answer is not B but D", "D", "B"),
    ("The answer is not B.", None, "B"),
    ("The answer is D, not B.", "D", "D"),
    ("The answer isn't A; it's B", "B", "A"),
    ("neither A nor B, so C", "C", "C"),
    ("Although A seems right, C is correct.", "C", "C"),
    ("Option A is wrong, option B is right", "B", "B"),
    ("Option B is right because option A is too cold", "B", "A"),
    # LaTeX
    (r"The answer is \text{(A)}", "A", "A"),
    (r"\boxed{C}", "C", "C"),
    (r"We get $\boxed{\text{(D)}}$ as A and B fail.", "D", "B"),
    (r"\boxed{b}", "B", "B"),
    (r"$\textbf{(B)}\ 12$", "B", "B"),
    ("x = B + C", None, None),
    # Chinese
    ("答案是B", "B", "B"),
    ("答案：C。", "C", "C"),
    ("答案为（D）", "D", "D"),
    ("故选A。", "A", "A"),
    ("应选B项，因为A不对", "B", "A"),
    ("答案不是B而是D", "D", "D"),
    ("选项A是错的，答案是D", "D", "D"),
    # letter beside letter, denials, names, thoughts, repeated options
    ("b)", "B", "B"),
    ("(d)", "D", "D"),
    ("option b", "B", "B"),
    ("Correct answer: B. Explanation: Answer A is wrong because the answer is never A here.", "B", "B"),
    ("Answer: none of A, B or C fits, so D", "D", "A"),
    ("The answer can't be A, so it is B", "B", "B"),
    ("My answer: 'B'", "B", "B"),
    ("My answer: ‘B’", "B", "B"),
    ("A is wrong because it is too small. B is too large. So C.", "C", "C"),
    ("The statement A is false, as heat flows, therefore D is true.", "D", "D"),
    ("D) cannot be determined", "D", "D"),
    ("Both B and C are correct.", None, "C"),
    ("(B) is wrong, so C", "C", "C"),
    ("<think>Maybe A? No, B.</think>\n\nC", "C", None),
    ("Maybe A? No, B.</think>\n\nC", "C", None),
    ("<think>The answer is B, or", None, "B"),
    ("A because of gravity", "A", "A"),
    ("Vitamin C is the answer, so option D", "D", "D"),
    ("Hepatitis B", None, "B"),
    ("25 °C", None, "C"),
    ("a current of 2 A", None, "A"),
    ("维生素C", None, "C"),
    ("A) cat B) dog", None, "B"),
    ("A) cat\nB) dog\nC) bat\n\nSo C.", "C", "C"),
    ("B\nQuestion: Which gas?\nAnswer: A", "B", "A"),
    ("\\boxed{\\text{\\boxed{B}}}", "B", "B"),
    ("【答案】：C【解析】A项错误", "C", "C"),
    ("【解析】A项错误，故选：B．", "B", "B"),
    ("排除A、B，只有D项符合题意", "D", "B"),
    ("A和C都正确", None, "C"),
    # nothing
    ("", None, None),
    ("42", None, None),
    ("None of the above", None, None),
]

# What follows the "Answer:" of the prompt, and the letter among four options.
CONTINUATIONS = [
    (" c", "C"),
    (" (a)", "A"),
    (" b. water", "B"),
    (" option b", "B"),
    (" 'C'", "C"),
    (" B\nExplanation: Answer A is wrong", "B"),
    (" B\nQuestion: Which gas?\nAnswer: A", "B"),
    (" B) 5 m\n\nAnswer: D", "B"),
    (" A/B/C/D: C", "C"),
    (" A) cat B) dog", None),
    (" A\nB\nC\nD", None),
    (" B) not enough light", "B"),
    (" D. Not because of A", "D"),
    (" A is wrong, so B", "B"),
    (" a force", None),
    (" A dog", None),
    (" it is D", "D"),
    (" <think>A?</think> B", "B"),
    (" 答案是A", "A"),
    ("\\boxed{D}", "D"),
]
# Opening of the prompt, answer, the letter that a reader takes from it, and why no rule does.
KNOWN_WRONG = [
    ("", "Eliminate A. Eliminate C. Between B and D, B is better supported.", "B", "a comparison is no statement"),
    ("Answer:", " (i) and (ii)", None, "small letters that are named together may be Roman numbers"),
]


@pytest.mark.parametrize(("text", "letter", "published"), ANSWERS)
def test_a_letter_is_what_the_answer_names_and_not_what_it_mentions(text, letter, published):
    assert extract_letter(text, options=4) == letter


@pytest.mark.parametrize(("text", "letter", "published"), ANSWERS)
def test_the_published_rules_find_what_the_description_of_the_reference_says(text, letter, published):
    assert extract_as_published(text) == published


@pytest.mark.parametrize(("text", "letter"), CONTINUATIONS)
def test_a_letter_behind_the_opening_of_the_prompt_is_the_answer_whatever_follows(text, letter):
    assert extract_letter(text, 4, "Answer:") == extract_letter(text, 4, "The correct answer is") == letter


def test_an_opening_that_states_no_answer_leaves_the_last_statement():
    assert extract_letter(" B) 5 m\n\nAnswer: D", 4, "Let us think:") == "D"


@pytest.mark.parametrize(
    ("opening", "text", "letter"),
    [pytest.param(*row, marks=pytest.mark.xfail(reason=why, strict=True)) for *row, why in KNOWN_WRONG],
)
def test_what_no_rule_reads_is_known(opening, text, letter):
    assert extract_letter(text, 10 if "(i)" in text else 4, opening) == letter


@pytest.mark.parametrize(
    "part", ["A) ", "A, ", "answer ", "not ", "\\boxed{", "答案", "A or ", "((", "A is both ", "\\text{", "<think>"]
)
def test_a_long_answer_is_read_in_short_time(part):
    started = time.process_time()
    extract_letter(part * (12_000 // len(part)), 4, "Answer:")
    assert time.process_time() - started < 5


def test_letters_up_to_the_number_of_options_are_known():
    for text, options, letter in (("E", 4, None), ("E", 5, "E"), ("The answer is J.", 10, "J"), ("Answer: I", 10, "I")):
        assert extract_letter(text, options) == letter
    assert extract_letter("I think it is J", 10) == "J"
    assert extract_as_published("The answer is J.") is None
