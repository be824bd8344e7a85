"""Methods: a batch equals one by one, likelihoods are the model's own, controls read what they should."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import pytest
import torch
from lm_eval.api.registry import get_model
from lm_eval.evaluator import evaluate

from c2c.checkpoints.checkpoint import load_stack, save_stack
from c2c.errors import RefusedError
from c2c.evaluation.answers import writing
from c2c.evaluation.answers.likelihood import PrefilledBatch
from c2c.evaluation.harness import MODELS
from c2c.evaluation.methods.declarations import DECLARATIONS, by_name
from c2c.evaluation.methods.method import Method
from c2c.evaluation.methods.routing import ConfidenceRouting
from c2c.evaluation.methods.single import SingleModel
from c2c.evaluation.methods.text_to_text import TextToText
from c2c.evaluation.questions.tasks import load_tasks
from tests.evaluation.conftest import ask, fused_method

CONTROLS = ("c2c_deranged", "c2c_same_answer", "c2c_zeroed")


@pytest.fixture
def methods(pair, fuser) -> dict[str, Method]:
    built = [
        SingleModel(pair.receiver, "receiver"), SingleModel(pair.sharer, "sharer"), TextToText(pair),
        *(fused_method(name, pair, fuser) for name in ("c2c", *CONTROLS)),
    ]  # fmt: skip
    return {method.name: method for method in built}


NAMES = ("receiver", "sharer", "t2t", "c2c", *CONTROLS)


@pytest.fixture(autouse=True)
def short_messages(monkeypatch) -> None:
    monkeypatch.setattr("c2c.evaluation.methods.text_to_text.MESSAGE_TOKENS", 6)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_free_answers_equals_one_by_one_token_for_token(methods, questions, name) -> None:
    batched, single = (ask(methods[name], questions["free"], size) for size in (10_000, 1))
    assert [answer.output_ids for answer in batched] == [answer.output_ids for answer in single]
    assert [answer.message for answer in batched] == [answer.message for answer in single]


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_have_ended_leave_the_batch_and_the_others_write_on_as_before(
    methods, questions, name, monkeypatch
) -> None:
    whole = ask(methods[name], questions["free"], 10_000)
    ends = [[*answer.output_text.split(), "never"][: 2 + place % 3][-1] for place, answer in enumerate(whole)]
    asked = [
        replace(question, stops=(end,), max_new_tokens=5 + 3 * (place % 2))
        for place, (question, end) in enumerate(zip(questions["free"], ends, strict=True))
    ]
    one_by_one = ask(methods[name], asked, 1)
    rows = []
    forward = PrefilledBatch.of_rows
    monkeypatch.setattr(PrefilledBatch, "of_rows", lambda self, kept: (rows.append(len(kept)), forward(self, kept))[1])
    together = ask(methods[name], asked, 10_000)
    assert rows and all(0 < kept < len(asked) for kept in rows)
    for one, other in zip(one_by_one, together, strict=True):
        assert (one.output_ids, one.output_text, one.message) == (other.output_ids, other.output_text, other.message)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_greedy_answers_are_those_that_generate_of_transformers_writes(methods, questions, name, monkeypatch) -> None:
    whole = ask(methods[name], questions["free"], 10_000)
    stops = tuple(sorted({[*answer.output_text.split(), "never"][:3][-1] for answer in whole[:3]}))
    asked = [
        replace(question, stops=stops, max_new_tokens=5 + 3 * (place % 2))
        for place, question in enumerate(questions["free"])
    ]
    greedy = ask(methods[name], asked, 10_000)
    monkeypatch.setattr(writing, "STRETCH", 2)
    monkeypatch.setattr(writing, "write_greedily", lambda state, rows: writing._write_in_stretches(state, rows, {}))
    plain = ask(methods[name], asked, 10_000)
    for one, other in zip(greedy, plain, strict=True):
        assert (one.output_ids, one.output_text, one.message) == (other.output_ids, other.output_text, other.message)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_likelihoods_equals_one_by_one(methods, questions, name) -> None:
    batched, single = (ask(methods[name], questions["choice"], size) for size in (10_000, 1))
    for one, other in zip(batched, single, strict=True):
        assert one.choice_scores == pytest.approx(other.choice_scores, abs=1e-4)


def test_a_likelihood_is_the_models_own_log_probability(pair, methods, questions) -> None:
    question = questions["choice"][3]
    answer = ask(methods["receiver"], [question], 1)[0]
    tokenizer = pair.receiver.tokenizer
    for option, score in zip(question.options, answer.choice_scores, strict=True):
        prompt, rest = tokenizer(question.prompt)["input_ids"], tokenizer(option, add_special_tokens=False)["input_ids"]
        logits = pair.receiver.model(torch.tensor([prompt + rest])).logits[0].log_softmax(-1)
        expected = sum(logits[len(prompt) - 1 + k, token].item() for k, token in enumerate(rest))
        assert score == pytest.approx(expected, abs=1e-4)


def test_the_fused_answer_depends_on_what_the_sharer_reads(methods, questions) -> None:
    scores = {
        name: [score for answer in ask(methods[name], questions["choice"], 10_000) for score in answer.choice_scores]
        for name in ("receiver", "c2c", *CONTROLS)
    }
    for one in scores:
        for other in scores:
            assert (one == other) == (scores[one] == pytest.approx(scores[other], abs=1e-4))


def test_records_say_whose_question_the_sharer_read(methods, questions) -> None:
    own = [question.doc["id"] for question in questions["free"]]
    assert [answer.sharer_question_id for answer in ask(methods["c2c"], questions["free"], 10_000)] == own
    deranged = [answer.sharer_question_id for answer in ask(methods["c2c_deranged"], questions["free"], 10_000)]
    assert sorted(deranged) == sorted(own)
    assert all(here != there for here, there in zip(own, deranged, strict=True))
    assert all(a.sharer_question_id is None for a in ask(methods["c2c_zeroed"], questions["free"], 10_000))


def test_the_control_of_the_same_answer_reads_another_question_with_the_same_gold_answer(methods, questions) -> None:
    golds = {question.doc["id"]: question.gold for question in questions["free"]}
    own = [question.doc["id"] for question in questions["free"]]
    read = [answer.sharer_question_id for answer in ask(methods["c2c_same_answer"], questions["free"], 10_000)]
    assert sorted(read) == sorted(own)
    assert all(here != there and golds[here] == golds[there] for here, there in zip(own, read, strict=True))


def test_the_training_seed_of_the_fusers_draws_the_questions_of_a_control(pair, fuser, questions, tmp_path) -> None:
    stack, about = load_stack(fuser)
    lines = {"receiver": pair.receiver.description, "sharer": pair.sharer.description}
    even = [replace(question, prompt=" ".join(question.prompt.split()[-3:])) for question in questions["free"]]

    def reads(folder: str) -> tuple[str, ...]:
        answers = ask(fused_method("c2c_deranged", pair, folder), even, 10_000)
        return tuple(answer.sharer_question_id for answer in answers)

    for seed in (0, 1, 2):
        save_stack(stack, tmp_path / f"seed{seed}", **lines, about={**about, "seed": seed})
    drawn = [reads(str(tmp_path / f"seed{seed}")) for seed in (0, 1, 2)]
    assert len(set(drawn)) == 3
    # A folder that names no seed, as those of released fusers, has seed 0.
    assert reads(fuser) == drawn[0]


def test_the_zeroed_control_does_not_run_the_sharer(pair, methods, questions, monkeypatch) -> None:
    def refuse(*_, **__):
        raise AssertionError("the Sharer ran")

    monkeypatch.setattr(pair.sharer.model, "forward", refuse)
    monkeypatch.setattr(pair.sharer.model.base_model, "forward", refuse)
    ask(methods["c2c_zeroed"], questions["free"], 10_000)
    with pytest.raises(AssertionError):
        ask(methods["c2c"], questions["free"], 10_000)


def test_the_router_sends_the_half_of_which_the_receiver_is_least_sure(methods, questions) -> None:
    receiver, sharer = methods["receiver"], methods["sharer"]
    routed = ask(ConfidenceRouting(receiver, sharer), questions["free"], 10_000)
    sent = [answer.confidence for answer in routed if answer.routed_to == "sharer"]
    kept = [answer.confidence for answer in routed if answer.routed_to == "receiver"]
    assert len(sent) == len(kept) == 4
    assert max(sent) <= min(kept)
    for question, answer in zip(questions["free"], routed, strict=True):
        origin = {"receiver": receiver, "sharer": sharer}[answer.routed_to]
        assert answer.output_ids == origin.answers[question.benchmark, question.number].output_ids


def test_the_receiver_reads_the_sharers_message_before_the_prompt(methods, questions) -> None:
    for question, answer in zip(questions["free"], ask(methods["t2t"], questions["free"], 10_000), strict=True):
        assert answer.prompt_read == f"{answer.message} {question.prompt}"
        assert answer.sharer_tokens_out > 0


@pytest.mark.parametrize("kind", ["free", "choice"])
def test_messages_and_answers_of_t2t_each_fill_batches_of_their_own(methods, questions, kind, monkeypatch) -> None:
    budget, read = 64, {"t2t message": [], "t2t": []}
    respond = Method._answer_batch

    def noted(method: Method, batch: list) -> list:
        read[method.name].append((len(batch), *map(max, zip(*map(method._size, batch), strict=True))))
        return respond(method, batch)

    monkeypatch.setattr(Method, "_answer_batch", noted)
    answers = ask(methods["t2t"], questions[kind], budget)
    assert all(answer.message and answer.tokens_in > len(answer.message.split()) for answer in answers)
    for batches in read.values():
        assert sum(rows for rows, *_ in batches) == len(questions[kind])
        assert all(rows == 1 or rows * width * options <= budget for rows, width, options in batches)


def test_a_question_that_fails_is_an_answer_with_its_error_and_spares_its_batch(methods, questions) -> None:
    broken = replace(questions["free"][2], prompt="alone")
    asked = [*questions["free"][:2], broken, *questions["free"][3:]]
    answers = methods["c2c"].answer(asked)
    assert [answer.error is not None for answer in answers] == [n == 2 for n in range(8)]
    assert "at least two tokens" in answers[2].error


def test_a_stop_string_ends_the_text_and_is_not_part_of_it(methods, questions) -> None:
    plain = ask(methods["receiver"], questions["free"], 1)
    text = plain[0].output_text
    stop = text.split()[1]
    stopped = ask(methods["receiver"], [replace(questions["free"][0], stops=(stop,))], 1)[0]
    assert stopped.output_text == text.split(stop)[0]
    assert len(stopped.output_ids) < len(plain[0].output_ids)


def test_rows_that_stop_early_have_no_more_tokens_in_a_batch_than_alone(methods, questions) -> None:
    text = ask(methods["receiver"], questions["free"], 1)[0].output_text
    asked = [replace(question, stops=(text.split()[1],)) for question in questions["free"]]
    batched, single = (ask(methods["receiver"], asked, budget) for budget in (10_000, 1))
    assert len(batched[0].output_ids) < asked[0].max_new_tokens
    for one, other in zip(batched, single, strict=True):
        assert (one.output_ids, one.tokens_out) == (other.output_ids, other.tokens_out)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)


def test_the_methods_are_models_that_lm_eval_knows_by_name(pair, fuser, benchmark_files, tmp_path) -> None:
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(tmp_path / loaded.name)
        loaded.tokenizer.save_pretrained(tmp_path / loaded.name)
    tasks, files = benchmark_files
    where = {"receiver": str(tmp_path / "receiver"), "sharer": str(tmp_path / "sharer")}
    arguments = {
        "c2c_receiver": {"model": where["receiver"]}, "c2c_routing": where, "c2c": {**where, "fuser": fuser},
        "c2c_deranged": {**where, "fuser": fuser}, "c2c_zeroed": {**where, "fuser": fuser},
    }  # fmt: skip
    assert set(arguments) < set(MODELS)
    for name, given in arguments.items():
        loaded = load_tasks(tasks, {"choice": files["choice"]})
        method = get_model(name).create_from_arg_obj(given, {"token_budget": 400, "device": None})
        results = evaluate(method, loaded, bootstrap_iters=0)
        assert results["n-samples"]["choice"]["effective"] == 8
        assert 0 <= results["results"]["choice"]["acc,none"] <= 1


def test_t2t_without_the_prompts_of_a_task_file_is_an_error_of_each_question(methods, questions) -> None:
    answers = methods["t2t"].answer([replace(question, t2t_question="") for question in questions["free"]])
    assert all("A task of T2T must have the prompts" in answer.error for answer in answers)


def test_every_declared_method_has_its_builder() -> None:
    for declared in DECLARATIONS.values():
        module, _, function = declared.builder.partition(":")
        assert callable(getattr(import_module(f"c2c.evaluation.methods.{module}"), function))


def test_a_method_that_is_declared_twice_or_reads_an_unknown_cache_is_refused() -> None:
    row = DECLARATIONS["c2c"]
    with pytest.raises(RefusedError, match="must be declared once; received 'c2c'"):
        by_name(row, row)
    with pytest.raises(RefusedError, match="Did you mean 'matched'"):
        replace(row, sharer_cache="machted")
