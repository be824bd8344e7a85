from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest

from benchmarks.readers import READERS, Outcome, RowPlace
from benchmarks.readers.longbench import CUT, SETS, bucket, cut_middle
from c2c.errors import RefusedError

Row = dict[str, Any]


def read(reader: str, row: Row, subset: str = "", number: int = 0, protocol: str = "corrected") -> Outcome:
    return READERS[reader](row, RowPlace(subset, number), protocol)


def asked(reader: str, row: Row, subset: str = "", protocol: str = "corrected") -> Row:
    found = read(reader, row, subset, protocol=protocol).question
    assert found is not None
    return found


def redux(error_type: str, correct_answer: str | None = None, answer: int = 0) -> Row:
    options = ["w", "x", "y", "z"]
    about = {"error_type": error_type, "correct_answer": correct_answer}
    return {"question": "Q?", "choices": options, "answer": answer, **about}


def arc(key: str, labels: str) -> Row:
    texts = [f"option {label}" for label in labels]
    return {"id": "q7", "question": "Why?", "choices": {"text": texts, "label": list(labels)}, "answerKey": key}


def gpqa(**columns: str) -> Row:
    given = {"Question": "Q?", "Correct Answer": "right"} | {f"Incorrect Answer {n}": f"wrong {n}" for n in (1, 2, 3)}
    return {"Record ID": "rec1", "High-level domain": "Physics", **given, **columns}


def long(subset: str = "qasper_e", **columns: Any) -> tuple[Row, str]:
    row = {"input": "Who?", "context": "A long text.", "answers": ["Ann"], "length": 5000, "all_classes": None}
    return {**row, "_id": "id2", **columns}, subset


CHOICE_ROWS: dict[str, tuple[Row, str, Row]] = {
    "mmlu": (
        {"question": " Q? ", "subject": "law", "choices": ["a", "b", "c", "d"], "answer": 2},
        "all",
        {"id": "law-00000", "subset": "law", "question": "Q?", "options": ["a", "b", "c", "d"], "answer": "C"},
    ),
    "mmlu_redux": (
        redux("ok", answer=3),
        "anatomy",
        {"id": "anatomy-00000", "subset": "anatomy", "question": "Q?", "options": ["w", "x", "y", "z"], "answer": "D"},
    ),
    "openbookqa": (
        {
            "id": "7-980",
            "question_stem": "Ice is",
            "choices": {"text": ["hot", "cold"], "label": ["A", "B"]},
            "answerKey": "B",
        },
        "main",
        {"id": "7-980", "subset": "", "question": "Ice is", "options": ["hot", "cold"], "answer": "B"},
    ),
    "ceval": (
        {"id": 4, "question": "问题", "A": "一", "B": "二", "C": "三", "D": "四", "answer": "B", "explanation": ""},
        "physician",
        {
            "id": "physician-4",
            "subset": "physician",
            "question": "问题",
            "options": ["一", "二", "三", "四"],
            "answer": "B",
        },
    ),
    "mmlu_pro": (
        {
            "question_id": 70,
            "question": "Q?",
            "options": list("abcdefghij"),
            "answer": "J",
            "answer_index": 9,
            "category": "business",
        },
        "default",
        {"id": "70", "subset": "business", "question": "Q?", "options": list("abcdefghij"), "answer": "J"},
    ),
}


@pytest.mark.parametrize("reader", CHOICE_ROWS)
def test_a_row_becomes_a_question_with_lettered_options(reader: str) -> None:
    row, subset, expected = CHOICE_ROWS[reader]
    assert asked(reader, row, subset) == expected


def test_rows_of_the_auxiliary_set_may_be_nested_in_one_column() -> None:
    row = {"question": "Q?", "subject": "", "choices": ["a", "b", "c", "d"], "answer": 1}
    assert asked("mmlu", {"train": row}) == asked("mmlu", row)
    assert asked("mmlu", row)["answer"] == "B"


@pytest.mark.parametrize(
    ("row", "outcome", "answer"),
    [
        (redux("ok", "3"), "kept", "A"),
        (redux("bad_question_clarity"), "kept", "A"),
        (redux("bad_options_clarity"), "kept", "A"),
        (redux("wrong_groundtruth", "2"), "corrected", "C"),
        (redux("wrong_groundtruth", "D"), "corrected", "D"),
        (redux("wrong_groundtruth", " b"), "corrected", "B"),
    ],
)
def test_a_wrong_key_of_mmlu_redux_is_corrected_and_any_other_kept(row: Row, outcome: str, answer: str) -> None:
    found = read("mmlu_redux", row, "anatomy")
    assert (found.outcome, found.group) == (outcome, row["error_type"])
    assert found.question and found.question["answer"] == answer


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (redux("no_correct_answer", "6"), "no option is right"),
        (redux("expert", "2"), "only an expert could tell which option is right"),
        (redux("multiple_correct_answers", "1"), "more than one option is right"),
        (redux("wrong_groundtruth"), "the key is wrong and no right one is named"),
        (redux("wrong_groundtruth", "A, C"), "more than one option is right"),
        (redux("wrong_groundtruth", "2 or 3"), "more than one option is right"),
        (redux("wrong_groundtruth", "7"), "the key is wrong and the one named is no option"),
    ],
)
def test_a_question_of_mmlu_redux_without_one_right_option_is_left_out_with_its_reason(row: Row, why: str) -> None:
    found = read("mmlu_redux", row, "anatomy")
    assert (found.outcome, found.why, found.question) == ("left out", why, None)


def test_the_papers_protocol_keeps_keys_of_mmlu_redux_that_it_cannot_correct() -> None:
    assert asked("mmlu_redux", redux("wrong_groundtruth", None, 1), protocol="paper")["answer"] == "B"
    assert asked("mmlu_redux", redux("multiple_correct_answers", "1, 2", 1), protocol="paper")["answer"] == "B"
    for row in (redux("no_correct_answer"), redux("expert"), redux("wrong_groundtruth", "A, C")):
        assert read("mmlu_redux", row, protocol="paper").question is None


@pytest.mark.parametrize(
    ("key", "labels", "answer"), [("1", "1234", "A"), ("4", "1234", "D"), ("E", "ABCDE", "E"), ("C", "ABC", "C")]
)
def test_keys_of_arc_are_lettered_by_the_place_of_their_option(key: str, labels: str, answer: str) -> None:
    assert asked("arc", arc(key, labels))["answer"] == answer


def test_a_key_of_arc_without_its_option_is_left_out() -> None:
    assert read("arc", arc("E", "ABCD")).why == "the key names no option"


@pytest.mark.parametrize(("key", "labels"), [("1", "1234"), ("E", "ABCDE")])
def test_the_papers_protocol_skips_number_keys_and_e_of_arc(key: str, labels: str) -> None:
    assert read("arc", arc(key, labels), protocol="paper").why == "the key is a number or E"
    assert asked("arc", arc("D", "ABCDE"), protocol="paper")["answer"] == "D"


def test_an_empty_key_of_ceval_is_a_reason() -> None:
    row = CHOICE_ROWS["ceval"][0] | {"answer": ""}
    assert read("ceval", row, "physician").why == "the key is empty"


def test_places_of_mmlu_pro_without_an_option_are_dropped_and_the_key_moves_along() -> None:
    row = CHOICE_ROWS["mmlu_pro"][0] | {"options": ["a", "N/A", "c", "N/A"], "answer": "C"}
    assert asked("mmlu_pro", row) == {
        "id": "70",
        "subset": "business",
        "question": "Q?",
        "options": ["a", "c"],
        "answer": "B",
    }
    assert read("mmlu_pro", row | {"answer": "B"}).why == "the key names no option"


def test_gpqa_is_shuffled_by_a_seed_of_its_own_text() -> None:
    texts = ["Q?", "right", "wrong 1", "wrong 2", "wrong 3"]
    order = list(range(4))
    random.Random(int(hashlib.md5("||".join(texts).encode()).hexdigest(), 16) % 2**32).shuffle(order)
    found = asked("gpqa", gpqa())
    assert found["options"] == [texts[1:][at] for at in order]
    assert found["options"]["ABCD".index(found["answer"])] == "right"
    orders = {tuple(asked("gpqa", gpqa(Question=f"Q{n}?"))["options"]) for n in range(40)}
    assert len(orders) > 5


def test_gpqa_takes_the_last_revision_where_there_is_one() -> None:
    found = asked("gpqa", gpqa(**{"Extra Revised Question": "Better?", "Extra Revised Correct Answer": ""}))
    assert found["question"] == "Better?"
    assert "right" in found["options"]


@pytest.mark.parametrize(("protocol", "answer"), [("corrected", "70000"), ("paper", "70")])
def test_a_thousands_comma_ends_the_gold_of_gsm8k_in_the_papers_protocol_alone(protocol: str, answer: str) -> None:
    row = {"question": "How much?", "answer": "7*10000=<<7*10000=70000>>70000\n#### 70,000"}
    found = asked("gsm8k", row, protocol=protocol)
    assert found["answer"] == answer
    assert found["solution"] == "7*10000=70000"


def test_a_row_of_gsm8k_without_its_mark_is_left_out() -> None:
    assert read("gsm8k", {"question": "Q?", "answer": "70"}).why == "the answer has no line with ####"


def test_math_answers_stay_as_they_are() -> None:
    row = {"problem": "Solve.", "answer": "[0,1)", "solution": "So.", "subject": "Algebra", "unique_id": "t/1.json"}
    assert asked("math500", row) == {
        "id": "t/1.json",
        "subset": "Algebra",
        "question": "Solve.",
        "answer": "[0,1)",
        "solution": "So.",
    }


def test_longbench_names_set_metric_and_bucket() -> None:
    assert asked("longbench", *long()) == {
        "id": "qasper-id2",
        "subset": "4-8k",
        "dataset": "qasper",
        "context": "A long text.",
        "question": "Who?",
        "answers": ["Ann"],
        "classes": None,
        "metric": "qa_f1",
        "first_line": False,
        "length": 5000,
        "bucket": "4-8k",
    }
    trec = asked("longbench", *long("trec_e", all_classes=["x", "y"]))
    assert (trec["metric"], trec["first_line"], trec["classes"]) == ("classification", True, ["x", "y"])


@pytest.mark.parametrize(
    ("words", "name"), [(0, "0-4k"), (3999, "0-4k"), (4000, "4-8k"), (7999, "4-8k"), (8000, "8k+"), (30000, "8k+")]
)
def test_buckets_meet_without_a_gap(words: int, name: str) -> None:
    assert bucket(words) == name


def test_longbench_e_has_its_thirteen_sets_and_no_other() -> None:
    assert len(SETS) == 13
    assert read("longbench", *long("narrativeqa")).why == "its set is not one of LongBench-E"


@pytest.mark.parametrize("protocol", ["corrected", "paper"])
def test_a_question_of_longbench_is_asked_or_trained_on_by_the_hash_of_its_id_and_never_both(protocol: str) -> None:
    found = 0
    for number in range(400):
        row, subset = long(_id=f"id{number}")
        in_quarter = int(hashlib.sha256(f"id{number}".encode()).hexdigest(), 16) % 4 == 1
        in_benchmark = read("longbench", row, subset, protocol=protocol).question
        in_training = read("longbench_training", row, subset, protocol=protocol).question
        assert (in_benchmark is not None, in_training is not None) == (in_quarter, not in_quarter)
        found += in_quarter
    assert 70 < found < 130


@pytest.mark.parametrize("limit", [100, 101, 150])
def test_a_long_context_loses_its_middle_and_says_how_much(limit: int) -> None:
    context = "".join(chr(ord("a") + n % 26) for n in range(400))
    cut = cut_middle({"context": context}, limit)
    head, tail = cut["context"].split(CUT)
    assert len(cut["context"]) == limit
    assert context.startswith(head) and context.endswith(tail)
    assert cut["cut"] == 400 - len(head) - len(tail)
    assert abs(len(head) - len(tail)) <= 1


def test_a_context_that_fits_is_not_cut() -> None:
    assert cut_middle({"context": "x" * 100}, 100) == {"context": "x" * 100, "cut": 0}


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": " Hi "}, {"from": "gpt", "value": " Hello. "}]},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " Hello. "}]},
        {"conversations": ["Hi", " Hello. "]},
        {"instruction": "Hi", "input": "", "response": " Hello. "},
    ],
)
def test_conversations_of_any_layout_become_messages(row: Row) -> None:
    assert asked("chat", row)["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": " Hello. "},
    ]


def test_the_system_turn_of_openhermes_is_dropped_and_all_others_stay() -> None:
    turns = [("system", "Be kind."), ("human", "Hi"), ("gpt", "Hello."), ("human", "Bye"), ("gpt", "See you.")]
    row = {"conversations": [{"from": who, "value": text, "weight": None} for who, text in turns], "source": "x"}
    assert [message["content"] for message in asked("chat", row)["messages"]] == ["Hi", "Hello.", "Bye", "See you."]


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ([("human", "Hi")], "the last turn is not an assistant's"),
        ([("system", "Be kind.")], "the last turn is not an assistant's"),
        ([], "the last turn is not an assistant's"),
        ([("gpt", "Hello.")], "turns do not go to and fro, from a human's on"),
        ([("human", "Hi"), ("human", "Hi?"), ("gpt", "Yes")], "turns do not go to and fro, from a human's on"),
        ([("human", "Hi"), ("gpt", "  ")], "a turn is empty"),
        ([("human", "Hi"), ("tool", "1"), ("gpt", "Yes")], "a turn is by 'tool'"),
    ],
)
def test_a_conversation_that_cannot_be_learned_is_left_out_with_its_reason(
    turns: list[tuple[str, str]], why: str
) -> None:
    assert read("chat", {"conversations": [{"from": who, "value": text} for who, text in turns]}).why == why


def test_a_set_without_conversations_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"must have the column conversations or messages.*\['text'\]"):
        read("chat", {"text": "x"})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"question": " "}, "the question is empty"),
        ({"choices": ["a", "", "c", "d"]}, "an option is empty"),
        ({"choices": ["a"]}, "it has not 2 to 10 options"),
        ({"answer": 4}, "the key names no option"),
    ],
)
def test_what_cannot_be_asked_is_left_out_with_its_reason(change: Row, why: str) -> None:
    assert read("mmlu", {**CHOICE_ROWS["mmlu"][0], **change}).why == why
