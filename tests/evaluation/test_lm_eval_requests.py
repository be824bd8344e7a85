"""Every kind of request is answered as lm-eval's own `hf` model answers it, by the Receiver and with closed gates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from c2c.checkpoints.checkpoint import save_stack
from c2c.errors import RefusedError
from c2c.evaluation.harness import LMEvalModel
from c2c.evaluation.harness.requests import text_settings
from c2c.evaluation.methods.routing import ConfidenceRouting
from c2c.evaluation.methods.single import SingleModel
from c2c.evaluation.methods.text_to_text import TextToText
from c2c.fuser.stack import FuserStack
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from tests.bad_inputs.refusals import refused
from tests.conftest import PLAIN_TEMPLATE, build_model, byte_level
from tests.evaluation.conftest import fused_method

ACCURACY = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
EXACT = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]
QUESTIONS = [
    {"question": "what is the color of home?", "options": ["red", "the blue home", "oslo"], "answer": 0},
    {"question": "what is red?", "options": ["blue", "home is red", "athens"], "answer": 1},
    {"question": "is oslo home, or is athens the color?", "options": ["oslo", "athens", "a"], "answer": 2},
]
ASKED = {"doc_to_text": "question: {{question}}\nanswer:", "doc_to_target": "answer", "doc_to_choice": "options"}
CHOICE = {"output_type": "multiple_choice", **ASKED, "metric_list": ACCURACY}
WRITTEN = {"output_type": "generate_until", **ASKED, "doc_to_target": "{{options[answer]}}", "metric_list": EXACT}
del WRITTEN["doc_to_choice"]
GREEDY = {"until": ["\n\n"], "do_sample": False}
MUTUAL = [*ACCURACY, {"metric": "acc_mutual_info", "aggregation": "mean", "higher_is_better": True}]
SENTENCES = [
    {"good": "the color of home is red", "bad": "the home of color is red"},
    {"good": "oslo is blue.", "bad": "is oslo blue."},
]
TASKS: dict[str, dict[str, Any]] = {
    "arc": CHOICE,
    "blank_at_the_end": {**CHOICE, "doc_to_text": "question: {{question}}\nanswer: ", "target_delimiter": ""},
    "mutual_information": {**CHOICE, "metric_list": MUTUAL},
    "long_context": {**CHOICE, "doc_to_text": "{{'home is the color of oslo ' * 100}}{{question}}"},
    "few_shots": {**CHOICE, "num_fewshot": 1, "fewshot_split": "test", "gen_prefix": "it is"},
    "blimp": {
        "output_type": "multiple_choice", "doc_to_text": "", "doc_to_target": 0, "doc_to_choice": "{{[good, bad]}}",
        "target_delimiter": "", "metric_list": ACCURACY, "docs": SENTENCES,
    },
    "blimp_reversed": {
        "output_type": "multiple_choice", "doc_to_text": "", "doc_to_target": 0, "doc_to_choice": "{{[bad, good]}}",
        "target_delimiter": "", "metric_list": ACCURACY, "docs": SENTENCES,
    },
    "winogrande": {
        "output_type": "multiple_choice", "doc_to_text": "{{0}}", "doc_to_target": "is blue",
        "doc_to_choice": "{{[good, bad]}}", "metric_list": ACCURACY, "docs": SENTENCES,
    },
    "lambada": {
        "output_type": "loglikelihood", "doc_to_text": "{{good}}", "doc_to_target": "{{' ' + bad.split(' ')[-1]}}",
        "metric_list": [*ACCURACY, {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}],
        "docs": SENTENCES,
    },
    "rolling": {
        "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{good * 90}}", "docs": SENTENCES,
        "metric_list": [
            {"metric": "word_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False}
        ],
    },
    "without_limit": {**WRITTEN, "generation_kwargs": GREEDY},
    "other_limit": {**WRITTEN, "generation_kwargs": {**GREEDY, "max_new_tokens": 9}},
    "long_context_written": {
        **WRITTEN, "doc_to_text": "{{'home is the color of oslo ' * 100}}{{question}}",
        "generation_kwargs": {**GREEDY, "max_gen_toks": 9},
    },
}  # fmt: skip
CHATS = ("arc", "few_shots", "without_limit")
SINGLE = ("mutual_information", "long_context", "blimp", "blimp_reversed", "rolling", "long_context_written")
"""What a fused method refuses."""


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"), TASKS)


def write_tasks(folder: Path, tasks: dict[str, dict[str, Any]]) -> Path:
    """Task files, each with its own questions."""
    for name, task in tasks.items():
        docs = task.get("docs", QUESTIONS)
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(doc) for doc in docs))
        config = {
            "task": name, "dataset_path": "json", "test_split": "test",
            "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
            **{key: value for key, value in task.items() if key != "docs"},
        }  # fmt: skip
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return folder


def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """Byte-level pairs with a chat template; one of a kind that puts a token before each text."""
    tokenizer = byte_level(["what is the color of home? question answer red blue athens oslo"], 330)
    tokenizer.chat_template = PLAIN_TEMPLATE
    if kind == "begins":
        tokenizer.add_special_tokens({"bos_token": "<bos>"})
        begin = [("<bos>", tokenizer.bos_token_id)]
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", None, begin)
    return tokenizer


@pytest.fixture(scope="module", params=["plain", "begins"])
def pair(request) -> Pair:
    tokenizer = tokenizer_of(request.param)
    models = [build_model("qwen3", vocab=len(tokenizer)), build_model("llama", vocab=len(tokenizer), layers=4, seed=1)]
    for model in models:
        model.config.max_position_embeddings = 400
    return Pair(*(LoadedModel(f"m{n}", model, tokenizer) for n, model in enumerate(models)))


def fuser_of(pair: Pair, folder: Path, *, opened: bool = False) -> str:
    torch.manual_seed(0)
    stack = FuserStack.between(pair.sharer.model.config, pair.receiver.model.config, hidden_dim=16, intermediate_dim=16)
    for layer in stack.links if opened else ():
        for half in ("key", "value"):
            stack.fuser_of(layer).gate_logit(half).data.fill_(1.0)
            stack.fuser_of(layer).get_submodule(f"{half}_proj_out").weight.data.mul_(8)
    shutil.rmtree(folder, ignore_errors=True)
    lines = {"receiver": pair.receiver.description, "sharer": pair.sharer.description}
    save_stack(stack, folder, **lines, about={"alignment": "span", "sharer_cache": "own"})
    return str(folder)


def hf(loaded: LoadedModel) -> HFLM:
    return HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, backend="causal", enable_thinking=False)


def ask(model: Any, folder: Path, tasks: list[str], **options: Any) -> dict[str, Any]:
    """The responses of each document, and all results."""
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = simple_evaluate(model, tasks=tasks, task_manager=manager, bootstrap_iters=0, **options)
    samples = {
        name: [each["resps"] for each in sorted(found["samples"][name], key=lambda each: each["doc_id"])]
        for name in tasks
    }
    return {"samples": samples, "results": found["results"], "found": found}


def assert_alike(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Texts and greedy marks are equal; likelihoods and metrics differ by 1e-3 at most."""
    for name, documents in theirs["samples"].items():
        for one, other in zip(ours["samples"][name], documents, strict=True):
            for mine, expected in zip(one, other, strict=True):
                for answer, wanted in zip(mine, expected, strict=True):
                    if isinstance(wanted, tuple | list):
                        assert answer[1] == wanted[1], name
                        answer, wanted = answer[0], wanted[0]
                    assert answer == (wanted if isinstance(wanted, str) else pytest.approx(wanted, abs=1e-3)), name
        for metric, value in theirs["results"][name].items():
            if isinstance(value, float):
                assert ours["results"][name][metric] == pytest.approx(value, rel=1e-3), (name, metric)


@pytest.fixture(scope="module")
def expected(pair, written) -> dict[str, Any]:
    return ask(hf(pair.receiver), written, list(TASKS))


@pytest.mark.parametrize("rows", [None, 1])
def test_the_receiver_answers_every_kind_of_request_as_hf_does(pair, written, expected, rows) -> None:
    found = ask(LMEvalModel(SingleModel(pair.receiver), rows=rows), written, list(TASKS))
    assert_alike(found, expected)
    assert found["results"]["blimp"]["acc,none"] + found["results"]["blimp_reversed"]["acc,none"] == 1
    greedy = [each[0][1] for document in found["samples"]["lambada"] for each in document]
    assert all(isinstance(each, bool) for each in greedy)
    texts = [document[0][0] for document in found["samples"]["without_limit"]]
    assert max(len(pair.receiver.tokenizer.encode(text)) for text in texts) > 200


def test_with_closed_gates_every_kind_of_request_that_has_a_prompt_is_answered_as_by_hf(
    pair, written, expected, tmp_path
) -> None:
    asked = [name for name in TASKS if name not in SINGLE]
    found = ask(LMEvalModel(fused_method("c2c", pair, fuser_of(pair, tmp_path / "fuser"))), written, asked)
    theirs = {name: {task: expected[name][task] for task in asked} for name in ("samples", "results")}
    assert_alike(found, theirs)


def test_open_gates_change_the_answers(pair, written, expected, tmp_path) -> None:
    found = ask(
        LMEvalModel(fused_method("c2c", pair, fuser_of(pair, tmp_path / "fuser", opened=True))), written, ["arc"]
    )
    assert all(
        abs(one[0][0] - other[0][0]) > 1e-3
        for ours, theirs in zip(found["samples"]["arc"], expected["samples"]["arc"], strict=True)
        for one, other in zip(ours, theirs, strict=True)
    )


def test_conversations_are_answered_as_hf_answers_them(pair, written, tmp_path) -> None:
    if pair.receiver.tokenizer.bos_token:
        pytest.skip("hf puts the first token before a rendered conversation, whose template has it where it is wanted")
    theirs = ask(hf(pair.receiver), written, list(CHATS), apply_chat_template=True)
    for method in (SingleModel(pair.receiver), fused_method("c2c", pair, fuser_of(pair, tmp_path / "fuser"))):
        assert_alike(ask(LMEvalModel(method), written, list(CHATS), apply_chat_template=True), theirs)


@pytest.mark.parametrize("name", SINGLE)
def test_what_a_fused_method_cannot_read_is_refused_before_anything_is_answered(
    pair, written, name, tmp_path, monkeypatch
) -> None:
    fused = LMEvalModel(fused_method("c2c", pair, fuser_of(pair, tmp_path / "fuser")))
    for model in (pair.receiver.model, pair.sharer.model):
        monkeypatch.setattr(model, "forward", lambda *_, **__: pytest.fail("a model ran"))
    with refused():
        ask(fused, written, ["other_limit", "arc", name])


@pytest.mark.parametrize("context", ["a", " ", "\n \n"])
def test_a_context_without_two_tokens_is_refused_by_a_fused_method(pair, context, tmp_path) -> None:
    if context == "a" and pair.receiver.tokenizer.bos_token:
        pytest.skip("with the token before it these are two")
    folder = write_tasks(tmp_path, {"short": {**CHOICE, "doc_to_text": context}})
    with refused():
        ask(LMEvalModel(fused_method("c2c", pair, fuser_of(pair, tmp_path / "fuser"))), folder, ["short"])


def test_a_deranged_sharer_reads_another_documents_context(pair, written, tmp_path) -> None:
    fuser = fuser_of(pair, tmp_path / "fuser", opened=True)
    model = LMEvalModel(fused_method("c2c_deranged", pair, fuser))
    seen = []
    inner = model.respondent.prompts.sharer_prompt
    model.respondent.prompts.sharer_prompt = lambda question: (
        seen.append((question, inner(question)[1])) or inner(question)
    )
    ask(model, written, ["winogrande"])
    assert len(seen) == 4
    assert all(question.doc["good"] != other.doc["good"] for question, other in seen)


def test_a_special_token_as_stop_ends_the_text_as_it_does_for_hf(pair, tmp_path) -> None:
    tokenizer = pair.receiver.tokenizer
    loud = build_model("qwen3", vocab=len(tokenizer))
    loud.config.max_position_embeddings = 400
    plain = {**GREEDY, "max_gen_toks": 20}
    folder = write_tasks(tmp_path, {"free": {**WRITTEN, "generation_kwargs": plain}})
    mark = tokenizer.convert_tokens_to_ids("<|open|>")
    loaded = LoadedModel("loud", loud, tokenizer)
    texts = [document[0][0] for document in ask(LMEvalModel(SingleModel(loaded)), folder, ["free"])["samples"]["free"]]
    third = tokenizer.encode(max(texts, key=len), add_special_tokens=False)[2]
    # The special token takes the place of one that the model writes.
    head = loud.get_output_embeddings().weight.data
    head[mark] = head[third] * 1.01
    cut = {**WRITTEN, "generation_kwargs": {**plain, "until": ["<|open|>"]}}
    folder = write_tasks(tmp_path, {"cut": cut, "free": {**WRITTEN, "generation_kwargs": plain}})
    ours, theirs = (ask(model, folder, ["cut", "free"]) for model in (LMEvalModel(SingleModel(loaded)), hf(loaded)))
    assert_alike(ours, theirs)
    assert any(
        len(a[0][0]) < len(b[0][0]) for a, b in zip(ours["samples"]["cut"], ours["samples"]["free"], strict=True)
    )


SAMPLED = {"until": ["\n"], "do_sample": True, "temperature": 1.0, "max_gen_toks": 12}
TAKEN = [{"name": "all", "filter": [{"function": "take_first_k", "k": 4}]}]


@pytest.mark.parametrize("built", ["receiver", "c2c"])
def test_repeats_of_a_sampled_answer_are_different_and_follow_the_seed(pair, built, tmp_path) -> None:
    task = {**WRITTEN, "generation_kwargs": SAMPLED, "repeats": 4, "filter_list": TAKEN}
    folder = write_tasks(tmp_path, {"sampled": task})
    method = (
        SingleModel(pair.receiver)
        if built == "receiver"
        else fused_method("c2c", pair, fuser_of(pair, tmp_path / "fuser"))
    )
    runs = [ask(LMEvalModel(method), folder, ["sampled"], torch_random_seed=seed)["samples"] for seed in (1, 1, 2)]
    assert all(len(set(document[0])) > 1 for document in runs[0]["sampled"])
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("requests", [False, True])
def test_text_to_text_and_routing_answer_plain_requests(pair, written, requests, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("c2c.evaluation.methods.text_to_text.MESSAGE_TOKENS", 6)
    told = LMEvalModel(TextToText(pair))
    asked = ["arc", "other_limit"]
    options = {"apply_chat_template": requests}
    found = ask(told, written, asked, **options)
    assert all(text for document in found["samples"]["other_limit"] for text in document[0])
    assert all(each.message and "question:" in each.prompt_read for each in told.method.answers.values())
    assert all(-500 < each[0][0] < 0 for document in found["samples"]["arc"] for each in document)
    singles = [ask(LMEvalModel(SingleModel(part, name)), written, asked, **options)
               for part, name in ((pair.receiver, "receiver"), (pair.sharer, "sharer"))]  # fmt: skip
    routed = ask(
        LMEvalModel(ConfidenceRouting(SingleModel(pair.receiver), SingleModel(pair.sharer, "sharer"))),
        written,
        asked,
        **options,
    )
    for place, text in enumerate(routed["samples"]["other_limit"]):
        assert text in [single["samples"]["other_limit"][place] for single in singles]


@pytest.mark.parametrize("name", ["blimp", "rolling", "winogrande", "lambada"])
def test_what_cannot_be_routed_is_refused(pair, written, name) -> None:
    with refused():
        ask(
            LMEvalModel(ConfidenceRouting(SingleModel(pair.receiver), SingleModel(pair.sharer, "sharer"))),
            written,
            [name],
        )


def test_conversations_are_known_when_lm_eval_takes_them_from_its_own_cache(
    pair, written, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(tmp_path))
    options = {"apply_chat_template": True, "cache_requests": True}
    runs = [
        ask(LMEvalModel(SingleModel(pair.receiver)), written, ["other_limit"], **options)["samples"] for _ in range(2)
    ]
    fresh = ask(LMEvalModel(SingleModel(pair.receiver)), written, ["other_limit"], apply_chat_template=True)["samples"]
    assert list(tmp_path.glob("requests-*"))
    assert runs[0] == runs[1] == fresh


def test_a_failure_of_a_model_is_no_answer(pair, written, monkeypatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(pair.receiver.model, "forward", fail)
    with pytest.raises(RuntimeError, match="device lost"):
        ask(LMEvalModel(SingleModel(pair.receiver)), written, ["arc"])


BAD_SETTINGS = {
    "G11 an empty stop string": {"until": [""]},
    "G12 a number as stop string": {"until": 5},
    "a number among the stop strings": {"until": ["x", 5]},
    "beams": {"num_beams": 4},
    "several texts at once": {"num_return_sequences": 2},
    "a misspelt setting": {"max_gen_tokens": 5},
    "a length with the prompt": {"max_length": 100},
    "a limit that is no number": {"max_gen_toks": "many"},
    "no token at all": {"max_gen_toks": 0},
    "a limit beyond the model": {"max_gen_toks": 400},
    "sampling without a temperature": {"do_sample": True},
    "sampling at temperature 0": {"do_sample": True, "temperature": 0},
    "sampling as a text": {"do_sample": "yes"},
    "a share above 1": {"do_sample": True, "temperature": 1.0, "top_p": 2},
}


@pytest.mark.parametrize("settings", BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_settings_of_generation_that_cannot_be_honoured_are_refused(pair, settings, tmp_path, monkeypatch) -> None:
    folder = write_tasks(tmp_path, {"free": {**WRITTEN, "generation_kwargs": {**GREEDY, **settings}}})
    monkeypatch.setattr(pair.receiver.model, "forward", lambda *_, **__: pytest.fail("a model ran"))
    with refused():
        ask(LMEvalModel(SingleModel(pair.receiver)), folder, ["free"])


@pytest.mark.parametrize("name", ["temperature", "max_new_tokens", "max_tokens"])
@pytest.mark.parametrize("value", ["hot", True, [1]])
def test_numbers_of_generation_must_be_numbers(name, value) -> None:
    with refused(name):
        text_settings({"until": [], name: value}, "", "a task")


GOOD_SETTINGS = {
    "what has no effect on greedy text": {"temperature": 0.7, "top_p": 0.9, "num_beams": 1},
    "max_tokens": {"max_tokens": 9},
    "max_completion_tokens": {"max_completion_tokens": 9},
    "one stop string": {"until": " the", "max_gen_toks": 9},
    "no stop string": {"until": [], "max_gen_toks": 9},
    "a penalty": {"repetition_penalty": 1.3, "max_gen_toks": 9},
}


@pytest.mark.parametrize("settings", GOOD_SETTINGS.values(), ids=GOOD_SETTINGS)
def test_settings_of_generation_are_honoured_as_by_hf(pair, settings, tmp_path) -> None:
    folder = write_tasks(tmp_path, {"free": {**WRITTEN, "generation_kwargs": {**GREEDY, **settings}}})
    assert_alike(
        *(ask(model, folder, ["free"]) for model in (LMEvalModel(SingleModel(pair.receiver)), hf(pair.receiver)))
    )


def test_a_method_by_itself_refuses_what_only_a_door_answers(pair, written) -> None:
    with pytest.raises(RefusedError, match="LMEvalModel"):
        ask(SingleModel(pair.receiver), written, ["arc"])
