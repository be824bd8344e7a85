"""Which letter an answer names, on a table of tricky answers; and which one the reference finds in the same."""

import pytest

from c2c.evaluation.scoring.letters import extract_as_published, extract_letter

# The answer, the letter among four options, the letter that the reference's rules find.
ANSWERS = [
    ("B", "B", "B"),
    ("(C)", "C", "C"),
    ("**D**", "D", None),
    ("`A`", "A", "A"),
    ("A", "A", "A"),
    ("b", None, "B"),
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
    ("Vitamin C", "C", "C"),
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
    # nothing
    ("", None, None),
    ("42", None, None),
    ("None of the above", None, None),
]


@pytest.mark.parametrize(("text", "letter", "published"), ANSWERS)
def test_a_letter_is_what_the_answer_names_and_not_what_it_mentions(text, letter, published):
    assert extract_letter(text, options=4) == letter


@pytest.mark.parametrize(("text", "letter", "published"), ANSWERS)
def test_the_published_rules_find_what_the_description_of_the_reference_says(text, letter, published):
    assert extract_as_published(text) == published


def test_letters_up_to_the_number_of_options_are_known():
    for text, options, letter in (("E", 4, None), ("E", 5, "E"), ("The answer is J.", 10, "J"), ("Answer: I", 10, "I")):
        assert extract_letter(text, options) == letter
    assert extract_letter("I think it is J", 10) == "J"
    assert extract_as_published("The answer is J.") is None
