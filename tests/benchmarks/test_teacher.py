"""A teacher's answers: sampled as asked, the same in any batch and after an interruption, and only those that end."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import teacher
from benchmarks.teacher import EMPTY, UNFINISHED, RowDraws, Sampling, answer_all, write_answers
from c2c.errors import RefusedError
from c2c.evaluation.answers.store import AnswerStore
from c2c.models.loading import LoadedModel

BUDGET = 4096
SHORT = Sampling(max_new_tokens=8, temperature=1.5, top_p=1.0, top_k=50)


@pytest.fixture
def loaded(tiny_model, chat_receiver) -> LoadedModel:
    model = tiny_model("qwen3", vocab=len(chat_receiver))
    return LoadedModel("owner/teacher", model, chat_receiver)


@pytest.fixture
def rows() -> list[dict[str, str]]:
    return [
        {"id": f"q{n}", "prompt": "what is " * (n + 1) + "red? Answer:", "response": "blue", "opening": "Answer:"}
        for n in range(6)
    ]


def texts(loaded: LoadedModel, rows: list[dict[str, str]], folder: Path, budget: int = BUDGET) -> list[str]:
    answers = answer_all(loaded, rows, SHORT, budget, AnswerStore(folder))
    return [str(answer.output_text) for answer in answers]


def test_answers_do_not_depend_on_the_batch_they_are_written_in(loaded, rows, tmp_path) -> None:
    together, alone = (texts(loaded, rows, tmp_path / str(budget), budget) for budget in (BUDGET, 1))
    assert together == alone and len(set(together)) > 1
    assert texts(loaded, rows[3:], tmp_path / "part") == together[3:]


def test_another_seed_gives_other_answers(loaded, rows, tmp_path) -> None:
    other = replace(SHORT, seed=1)
    answers = answer_all(loaded, rows, other, BUDGET, AnswerStore(tmp_path / "other"))
    assert [answer.output_text for answer in answers] != texts(loaded, rows, tmp_path / "one")


def test_draws_follow_the_softmax() -> None:
    scores = torch.log(torch.tensor([[0.6, 0.3, 0.1]])).repeat(6000, 1)
    drawn = RowDraws(range(6000), torch.device("cpu"))(torch.empty(0), scores).argmax(-1)
    shares = torch.bincount(drawn, minlength=3) / 6000
    for share, wanted in zip(shares.tolist(), (0.6, 0.3, 0.1), strict=True):
        assert abs(share - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / 6000)


def test_what_is_ruled_out_is_never_drawn(loaded, rows, tmp_path) -> None:
    greedy = Sampling(max_new_tokens=8, temperature=1.5, top_k=1)
    one, two = (
        answer_all(loaded, rows, replace(greedy, seed=seed), BUDGET, AnswerStore(tmp_path / str(seed)))
        for seed in (1, 2)
    )
    assert [answer.output_text for answer in one] == [answer.output_text for answer in two]


def test_a_batch_that_was_answered_before_an_interruption_is_not_asked_again(
    loaded, rows, tmp_path, monkeypatch
) -> None:
    whole = texts(loaded, rows, tmp_path / "whole", 64)
    asked: list[int] = []
    answer_batch = teacher.answer_batch

    def interrupted(reader, questions, sampling):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(questions))
        return answer_batch(reader, questions, sampling)

    monkeypatch.setattr(teacher, "answer_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        texts(loaded, rows, tmp_path / "cut", 64)
    monkeypatch.setattr(teacher, "answer_batch", lambda *a: asked.append(len(a[1])) or answer_batch(*a))
    assert texts(loaded, rows, tmp_path / "cut", 64) == whole
    assert sum(asked) == len(rows)


def test_only_answers_that_end_are_kept_and_the_others_counted(loaded, rows, tmp_path, monkeypatch) -> None:
    ends = iter(["red it is", UNFINISHED, "blue", EMPTY, "home", "oslo"])

    def answered(reader, questions, sampling):
        answers = reader.read_questions(questions).answers
        for answer in answers:
            text = next(ends)
            answer.output_text, answer.error = text, text if text in (UNFINISHED, EMPTY) else ""
        return answers

    monkeypatch.setattr(teacher, "answer_batch", answered)
    precisions: list[str] = []
    monkeypatch.setattr(teacher, "load_model", lambda source, dtype: precisions.append(dtype) or loaded)
    monkeypatch.setattr(teacher, "about", lambda source: {"id": source, "revision": None, "sha256": "0" * 64})
    lines, output = tmp_path / "lines.jsonl", tmp_path / "made" / "train.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output.parent.mkdir()
    notes = write_answers("owner/teacher", lines, output, SHORT, BUDGET, "bfloat16")
    assert precisions == ["bfloat16"]
    kept = [json.loads(line) for line in output.read_text().splitlines()]
    assert (notes["kept"], notes["left_out"]) == (4, {UNFINISHED: 1, EMPTY: 1})
    assert {row["response"] for row in kept} == {"red it is", "blue", "home", "oslo"}
    by_id = {row["id"]: row for row in rows}
    assert all({**row, "response": "blue"} == by_id[row["id"]] for row in kept)
    assert [path.name for path in output.parent.iterdir()] == ["train.jsonl"]


def test_a_row_ends_at_its_end_token_or_has_not_ended(loaded, rows, tmp_path) -> None:
    answers = answer_all(loaded, rows, SHORT, BUDGET, AnswerStore(tmp_path / "ends"))
    assert all(answer.error in ("", UNFINISHED, EMPTY) for answer in answers)
    long = [answer for answer in answers if answer.error == UNFINISHED]
    assert long, "eight tokens of a random model do not all hold an end token"


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_k": 0}, {"max_new_tokens": 0}])
def test_impossible_sampling_is_refused(wrong) -> None:
    with pytest.raises(RefusedError, match="A teacher must sample with"):
        Sampling(**wrong)


def test_a_teacher_without_chat_template_and_conversations_are_refused(
    tiny_model, word_tokenizer, rows, tmp_path
) -> None:
    plain = LoadedModel("owner/base", tiny_model("qwen3", vocab=len(word_tokenizer)), word_tokenizer)
    with pytest.raises(RefusedError, match="Chat prompts must be asked of models that have a chat template"):
        answer_all(plain, rows, SHORT, BUDGET, AnswerStore(tmp_path / "plain"))
    chat = {"id": "c", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (tmp_path / "chats.jsonl").write_text(json.dumps(chat) + "\n")
    with pytest.raises(RefusedError, match="A teacher must be asked questions; received '1 conversations"):
        write_answers("owner/base", tmp_path / "chats.jsonl", tmp_path / "out.jsonl", SHORT, BUDGET)
