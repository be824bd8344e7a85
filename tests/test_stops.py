"""Stop strings end a text, those that name a special token too, wherever text is written."""

from __future__ import annotations

import pytest
import torch
from transformers import LogitsProcessor

import c2c
from c2c import FuserStack
from c2c.agents.chat_pipeline import ChatPipeline
from c2c.evaluation.methods.single import SingleModel
from c2c.evaluation.questions.question import Question
from c2c.generation.decoding import StopStrings, check_stops, continue_text
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair

MARK = "<|open|>"
PROMPT = "what is the color of home?"


class Writes(LogitsProcessor):
    """Lets a model write a special token after three of its own, and its own again."""

    def __init__(self, token: int, prompt_tokens: int) -> None:
        self.token, self.place = token, prompt_tokens + 3

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        if input_ids.shape[1] == self.place:
            scores[:, self.token] = 1e4
        else:
            scores[:, :5] = -1e4  # no special token by itself
        return scores


@pytest.fixture(scope="module")
def pair(tiny_model, chat_receiver) -> Pair:
    models = [tiny_model("qwen3", vocab=len(chat_receiver)), tiny_model("llama", vocab=len(chat_receiver), seed=1)]
    return Pair(*(LoadedModel("m", model, chat_receiver) for model in models))


@pytest.fixture(scope="module")
def pipe(pair) -> ChatPipeline:
    stack = FuserStack.between(pair.sharer.model.config, pair.receiver.model.config, hidden_dim=16, intermediate_dim=16)
    return c2c.pipeline(pair.receiver, pair.sharer, stack)


def writes(pipe: ChatPipeline, chat: bool) -> Writes:
    tokenizer = pipe.pair.receiver.tokenizer
    aligned = pipe.aligner.align([{"role": "user", "content": PROMPT}]) if chat else pipe.aligner.align_text(PROMPT)
    return Writes(tokenizer.convert_tokens_to_ids(MARK), len(aligned.receiver_ids))


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        (f"red{MARK}blue", [MARK], "red"),
        (f"red{MARK}blue", [f"{MARK}bl"], "red"),
        (f"red{MARK}blue", [f"ed{MARK}"], "r"),
        (f"red{MARK}blue", [f"d{MARK}b", MARK], "re"),
        (f"{MARK}red", [MARK], ""),
        (f"<|close|>red 你{MARK}", [MARK], "red 你"),
        (f"red{MARK}blue<eos>", [f"{MARK}red"], "redblue"),
        (f"red{MARK}blue", [], "redblue"),
        (f"red{MARK}blue", ["blue"], "redblue"),  # what needs no special token is cut where the text is known
    ],
)
def test_a_text_ends_before_a_stop_string_with_a_special_token(chat_receiver, text, stops, expected) -> None:
    ids = chat_receiver.encode(text, add_special_tokens=False)
    assert StopStrings(chat_receiver, stops).text(ids) == expected
    ended = any(stop in text for stop in stops)
    assert StopStrings(chat_receiver, stops).end(torch.tensor([ids])) == [ended]


@pytest.mark.parametrize("stop", [MARK, [MARK], ["never", MARK]])
@pytest.mark.parametrize("chat", [True, False])
def test_the_pipeline_ends_an_answer_before_a_special_token_that_is_its_stop(pipe, chat, stop) -> None:
    ask = pipe if chat else pipe.complete
    mark = writes(pipe, chat)
    whole = ask(PROMPT, max_new_tokens=8, processors=[mark])
    stopped = ask(PROMPT, max_new_tokens=8, processors=[mark], stop=stop)
    assert stopped == ask(PROMPT, max_new_tokens=3, processors=[mark])
    assert 0 < len(stopped) < len(whole)


def test_writing_stops_at_a_special_token_where_transformers_stops(pair, pipe) -> None:
    tokenizer, model = pair.receiver.tokenizer, pair.receiver.model
    ids = torch.tensor([tokenizer.encode(PROMPT)])
    mark = writes(pipe, False)
    options = {"max_new_tokens": 12, "stop_strings": [MARK], "tokenizer": tokenizer}
    theirs = model.generate(ids, do_sample=False, logits_processor=[mark], **options)
    ours = continue_text(model, ids, torch.ones_like(ids), processors=[mark], **options)
    index = c2c.generate_kv_cache_index(ids.shape[1] - 1, 1)
    fused = pipe.model.generate(index, ids, processors=[mark], **options)
    assert ours.tolist() == theirs.tolist() == fused.tolist()
    assert ours.shape[1] == ids.shape[1] + 4


def test_an_answer_to_a_question_ends_before_a_special_token(pair) -> None:
    tokenizer, model = pair.receiver.tokenizer, pair.receiver.model
    method = SingleModel(pair.receiver, progress=False)
    question = Question("mine", 0, {"id": "0"}, PROMPT, gold="", max_new_tokens=12)
    (free,) = method.answer([question])
    head, kept = model.get_output_embeddings().weight, model.get_output_embeddings().weight.data.clone()
    try:
        head.data[tokenizer.convert_tokens_to_ids(MARK)] = kept[free.output_ids[2]] * 1.01
        (marked,) = method.answer([Question("mine", 1, {"id": "1"}, PROMPT, gold="", max_new_tokens=12, stops=(MARK,))])
    finally:
        head.data.copy_(kept)
    assert marked.output_ids == [*free.output_ids[:2], tokenizer.convert_tokens_to_ids(MARK)]
    assert marked.output_text == tokenizer.decode(free.output_ids[:2])


def test_stop_strings_are_a_text_or_a_list_of_texts() -> None:
    assert [check_stops("stop", given) for given in ("x", ["x", "y"], ("x",), [])] == [["x"], ["x", "y"], ["x"], []]
