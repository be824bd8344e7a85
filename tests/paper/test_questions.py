"""Questions people ask: each number is from a file, each command runs, and `c2c claims show` answers too."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml

from c2c.cli.main import main
from c2c.errors import RefusedError
from paper import facts, questions, show
from paper.reading.reference import Reference
from tests.conftest import build_model

ENTRIES = yaml.safe_load(questions.PATH.read_text(encoding="utf-8"))
QUESTIONS = questions.read_questions()
NUMBER = re.compile(r"\d+[.,]\d+|\d+ %")
NAMES = re.compile(r"Qwen[\d.]+(-[\w.]+)*|section \d+(\.\d+)*|arXiv [\d.]+|`[^`]*`")
"""What holds digits and states no result."""


@pytest.fixture
def root(monkeypatch):
    monkeypatch.chdir(facts.ROOT)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["question"][:40])
def test_no_answer_states_a_decimal_or_a_percentage_that_is_not_read_from_a_file(entry) -> None:
    prose = facts.PLACEHOLDER.sub("", entry["question"] + " " + entry["answer"])
    assert not NUMBER.findall(NAMES.sub("", prose))
    assert list(facts.placeholders(entry["answer"])) or "number" in entry["question"]


@pytest.fixture(scope="module")
def models(chat_receiver, chat_sharer, tmp_path_factory) -> dict[str, str]:
    """Folders of a Receiver and a Sharer, by the words that commands have in their places."""
    folders = {}
    for word, tokenizer, family in (("RECEIVER", chat_receiver, "qwen3"), ("SHARER", chat_sharer, "llama")):
        folder = tmp_path_factory.mktemp(word)
        build_model(family, vocab=len(tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folders[word] = str(folder)
    return folders


@pytest.mark.parametrize("command", sorted({question.command for question in QUESTIONS}))
def test_each_command_of_an_answer_runs(root, models, capsys, command) -> None:
    program, *arguments = (models.get(word, word) for word in shlex.split(command))
    assert program == "c2c"
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("key", sorted({key for question in QUESTIONS for key in question.about}))
def test_what_a_question_is_about_exists_and_shows_the_answer(root, capsys, key) -> None:
    assert show.main(["show", key]) == 0
    out = capsys.readouterr().out
    for question in QUESTIONS:
        assert (question.question in out) == (key in question.about)


def test_the_page_has_a_section_with_answer_command_and_source_for_each_question() -> None:
    page = questions.page()
    for question in QUESTIONS:
        section = page.partition(f"## {question.question}\n")[2].partition("\n## ")[0]
        assert question.answer in section and question.command in section and question.sources[0].address in section
    assert "{" not in page


def test_the_questions_of_the_reference_implementation_are_answered() -> None:
    addresses = " ".join(source.address for question in QUESTIONS for source in question.sources)
    issues = {int(number) for number in re.findall(r"thu-nics/C2C/issues/(\d+)", addresses)}
    assert issues >= {3, 5, 9, 10, 11, 12, 13, 15}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{value:table-15/agentic-flow/qwen3-0.6b/qwen3-4b/c2c/gsm8k/accuracy}", "62.55"),
        ("{cell:config/released.tsv subfolder released=qwen3_4b}", "qwen3_0.6b+qwen3_4b_Fuser"),
        ("{file:config/config.yaml training.max_length}", "2,048"),
        ("{claim:swap_t2t} points", "−6.30 points"),
    ],
)
def test_a_placeholder_becomes_the_value_of_its_file(text, value) -> None:
    assert facts.fill(text) == value


def test_a_mean_of_printed_values_is_that_of_the_reference() -> None:
    pattern = "table-13/*/accuracy"
    assert float(facts.fill(f"{{mean:{pattern}}}")) == pytest.approx(Reference().evaluate({"mean": pattern}), abs=0.005)


@pytest.mark.parametrize(
    "text",
    [
        "{value:table-99/none}",
        "{claim:none}",
        "{ours:laptop/none}",
        "{file:config/config.yaml training.none}",
        "{file:config/none.yaml training}",
        "{cell:config/released.tsv subfolder released=none}",
        "{cell:config/released.tsv none released=qwen3_4b}",
        "{cell:config/released.tsv subfolder none=qwen3_4b}",
        "{cell:config/models.tsv parameters_m:1 model=qwen3_06b}",
        "{range:config/released.tsv pair}",
        "{count:config/none.tsv}",
    ],
)
def test_a_placeholder_that_its_file_does_not_hold_is_refused(text) -> None:
    with pytest.raises(RefusedError):
        facts.fill(text)
