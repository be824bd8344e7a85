"""What is asked on the page survives its link and its command line, and the examples give a wrong message."""

from __future__ import annotations

import json
import shlex
from urllib.parse import parse_qsl

import pytest

from c2c.cli.demo import Demo
from c2c.cli.main import parse_command
from c2c.demo.cards import card, heat_map_table, token_text
from c2c.demo.heat_map import HeatMap
from c2c.demo.questions import ExampleQuestion, QuestionSet, file_questions, package_questions
from c2c.demo.request import PageRequest
from c2c.demo.session import ColumnAnswer
from c2c.errors import RefusedError

REQUEST = PageRequest('what is 1 + 1 & "2"?\n\'?', "red; <b>", "ö → é", "x=y", 7, (0, 2), ("random",))


def test_a_link_names_the_whole_request() -> None:
    assert PageRequest.of_query(dict(parse_qsl(REQUEST.query())), 24) == REQUEST


def test_a_link_without_a_question_asks_nothing() -> None:
    assert PageRequest.of_query({"private": "red"}, 24) is None


def test_the_command_names_the_whole_request_for_a_shell() -> None:
    program, *arguments = shlex.split(REQUEST.command(["--results", "results/a b"]))
    name, options = parse_command(arguments)
    assert isinstance(options, Demo)
    assert (program, name, str(options.results)) == ("c2c", "c2c demo", "results/a b")
    texts = (options.question, options.private, options.donor, options.donor_private, options.max_new_tokens)
    assert PageRequest(*texts, tuple(options.closed_layers), tuple(options.controls)) == REQUEST


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ({"question": " "}, "A question must have characters"),
        ({"question": "x", "max_new_tokens": "many"}, "max_new_tokens of the link must be a whole number"),
        ({"question": "x", "max_new_tokens": "0"}, "The longest answer must have 1 to 1024 tokens"),
        ({"question": "x", "closed_layers": "1,-2"}, "closed_layers of the link must be a whole number"),
        ({"question": "x", "controls": "zeroes"}, "A control of the live page must be a known name"),
    ],
)
def test_a_link_that_does_not_fit_is_refused_with_its_parameter(query, rule) -> None:
    with pytest.raises(RefusedError, match=rule):
        PageRequest.of_query(query, 24)


def test_a_wrong_message_is_about_another_answer_and_of_the_nearest_length() -> None:
    examples = [
        ExampleQuestion("aaaa", answer="red"),
        ExampleQuestion("bbbb", answer="red"),
        ExampleQuestion("a longer one", answer="blue"),
        ExampleQuestion("ccccc", answer="green"),
    ]
    donors = QuestionSet(examples, []).donors("aaaa", "")
    assert [donor.answer for donor in donors] == ["green", "blue"]


@pytest.mark.parametrize("chat", [False, True])
def test_the_examples_of_the_package_have_wrong_messages_and_one_wording(chat) -> None:
    questions = package_questions(chat=chat)
    for example in questions.examples:
        assert questions.donors(example.prompt, example.private)
        doc = {"prompt": example.prompt, "private": example.private, **example.doc}
        assert questions.wording_for(doc) == questions.wordings[0]


def test_the_wording_of_a_task_is_left_where_it_hides_the_private_line_or_lacks_a_column(questions_file) -> None:
    task, package = {"t2t_question": "state the {{attribute}}", "t2t_prompt": ""}, {"t2t_question": "{{private}}"}
    questions = QuestionSet([], [task, package])
    assert questions.wording_for({"attribute": "color", "private": ""}) == task
    assert questions.wording_for({"attribute": "color", "private": "red"}) == package
    assert questions.wording_for({"private": ""}) == package


def test_questions_of_a_file_follow_its_task(questions_file) -> None:
    questions = file_questions(questions_file, questions_file.parent, chat=False)
    assert [example.prompt for example in questions.examples] == [
        json.loads(line)["question"] for line in questions_file.read_text().splitlines()
    ]
    assert (questions.max_new_tokens, questions.stops) == (6, ("\n",))


def test_questions_that_are_no_file_are_refused(tmp_path) -> None:
    with pytest.raises(RefusedError, match="The questions must be a file"):
        file_questions(tmp_path / "none.jsonl", None, chat=False)


def test_texts_of_models_and_users_are_no_markup_on_the_page() -> None:
    evil = "<script>alert(1)</script>"
    answer = ColumnAnswer("t2t", evil, evil, [(evil, 0.5)], 0.1, 0.2, {"receiver_prefill_s": 0.1}, 3)
    heat = HeatMap([evil], {"key": [[0.5]], "value": [[None]]}, (0,))
    for text in (card(answer), card(ColumnAnswer("c2c", error=evil)), heat_map_table(heat)):
        assert "<script" not in text and "&lt;script&gt;" in text


def test_blanks_of_tokens_are_shown_as_signs() -> None:
    assert [token_text(token) for token in (" red", "\n", "")] == ["␣red", "⏎", "∅"]
