"""A fused response in chats: the Sharer reads the opening of the answer once, in training, evaluation and pipeline."""

from __future__ import annotations

import copy

import pytest
import torch

import c2c
from c2c import ChatAligner
from c2c.fusion.batch import collate_chats
from c2c.training.batches import collate
from c2c.training.examples import Examples
from tests.evaluation.conftest import ask, fused_method
from tests.evaluation.test_prompting import chats


@pytest.fixture
def read(chat_pair, monkeypatch) -> list[list[int]]:
    """All ids that the Sharer is run on from here on, row by row as they come, pads left out."""
    seen: list[list[int]] = []
    base = chat_pair.sharer.model.base_model.forward

    def forward(input_ids=None, **named):
        mask = named.get("attention_mask")
        for row, ids in enumerate(input_ids):
            kept = mask[row, -len(ids) :] > 0 if torch.is_tensor(mask) and mask.dim() == 2 else slice(None)
            seen.append(ids[kept].tolist())
        return base(input_ids=input_ids, **named)

    monkeypatch.setattr(chat_pair.sharer.model.base_model, "forward", forward)
    return seen


def text_of(pair, pieces: list[list[int]]) -> str:
    return pair.sharer.tokenizer.decode([token for piece in pieces for token in piece])


@pytest.fixture
def fusing(chat_pair, chat_fuser) -> c2c.ChatPipeline:
    pipe = c2c.pipeline(chat_pair.receiver, chat_pair.sharer, chat_fuser)
    pipe.model.include_response = True
    return pipe


def openings(text: str) -> int:
    """How often a text opens an answer, in the words of either template (the Sharer has no token for every word)."""
    return text.count("[assistant]") + text.count("<|open|>")


def test_the_sharer_of_the_pipeline_reads_up_to_the_last_message_and_then_the_receivers_words(
    fusing, chat_pair, read
) -> None:
    fusing("what is home?", max_new_tokens=1)
    rendered = "[system] the user is home [/system][user] what is home?"
    assert text_of(chat_pair, read[:1]) == rendered
    tail = chat_pair.receiver.tokenizer("<|close|>\n<|open|>assistant\n", add_special_tokens=False)["input_ids"]
    assert read[1] == fusing.aligner.reencode(torch.tensor([tail]))[0].tolist()
    assert openings(text_of(chat_pair, read)) == 1


def test_the_sharer_reads_in_evaluation_what_it_reads_in_training(chat_pair, chat_fuser, read) -> None:
    method = fused_method("c2c", chat_pair, chat_fuser)
    method.reader.model.include_response = True
    question = chats("choice")[2]
    ask(method, [question], 1)
    evaluated, read[:] = read[:2], []
    opening = question.messages[-1]["content"]
    tokenizers = (chat_pair.receiver.tokenizer, chat_pair.sharer.tokenizer)
    row = {"id": "1", "prompt": question.prompt + opening, "response": "red", "opening": opening}
    example = Examples(*tokenizers, "span", "chat", 256).example(row)
    batch = collate([example], chat_pair, reencode=ChatAligner(*tokenizers).reencode)
    method.reader.model(batch.kv_cache_index, batch.input_ids, batch.attention_mask, sharer_inputs=[batch.sharer_input])
    assert read[0] == evaluated[0]
    assert read[1][: len(evaluated[1])] == evaluated[1]
    assert len(read[1]) == len(evaluated[1]) + len(example.response_ids)
    assert openings(text_of(chat_pair, read)) == 1


@pytest.mark.parametrize("kind", ["free", "choice"])
@pytest.mark.parametrize("name", ["c2c", "c2c_deranged"])
def test_chats_with_a_fused_response_are_answered_in_batches_as_one_by_one(name, kind, chat_pair, chat_fuser) -> None:
    method = fused_method(name, chat_pair, chat_fuser)
    method.reader.model.include_response = True
    batched, single = (ask(method, chats(kind), budget) for budget in (10_000, 1))
    for one, other in zip(batched, single, strict=True):
        assert (one.output_ids, one.sharer_question_id) == (other.output_ids, other.sharer_question_id)
        if kind == "choice":
            assert one.choice_scores == pytest.approx(other.choice_scores, abs=1e-4)


def test_what_the_sharer_reads_after_the_last_fused_token_is_left_out_of_every_batch(chat_pair) -> None:
    tokenizers = (chat_pair.receiver.tokenizer, copy.deepcopy(chat_pair.sharer.tokenizer))
    aligned = [ChatAligner(*tokenizers).align([{"role": "user", "content": text}]) for text in ("red", "is home blue")]
    batch = collate_chats(aligned, 0, 0)
    assert int(batch.sharer_input.token_map.max()) == batch.sharer_input.input_ids.shape[1] - 1
    kept = [int(row.sum()) for row in batch.sharer_input.attention_mask]
    assert kept == [max(each.token_map) + 1 for each in aligned]
    assert all(count < len(each.sharer_ids) for count, each in zip(kept, aligned, strict=True))
