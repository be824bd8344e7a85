"""The loss on supervised tokens alone is that of the whole forward, with the same gradients, for any head."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from c2c.training.batches import collate
from c2c.training.config import TrainingConfig
from c2c.training.examples import Example, Examples
from c2c.training.fusers import FuserLearner
from c2c.training.loss import response_loss

ROWS = [
    {"id": "0", "prompt": "what is the color of home", "response": "red"},
    {"id": "1", "prompt": "is home", "response": "red blue athens oslo"},
    {"id": "2", "prompt": "the color of home is the", "response": "blue red"},
]
FAMILIES = ["qwen3", "gpt_neox", "gemma3", "granite"]


def build(tiny_model, tokenizer, family: str, folder, **changes) -> tuple[FuserLearner, list[Example]]:
    models = (tiny_model(family, vocab=len(tokenizer)), tiny_model("qwen2", vocab=len(tokenizer), layers=4, seed=1))
    pair = Pair(*(LoadedModel(str(number), model, tokenizer) for number, model in enumerate(models)))
    examples = list(Examples(tokenizer, tokenizer, "span", "plain", 64).of(ROWS))
    config = TrainingConfig(steps=2, batch_size=3, hidden_dim=8, intermediate_dim=8, dropout=0.0, **changes)
    return FuserLearner(pair, config, examples, examples, folder), examples


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("response", ["plain", "fused"])
def test_loss_and_gradients_are_those_of_the_whole_forward(
    tiny_model, word_tokenizer, tmp_path, family: str, response: str
) -> None:
    trainer, examples = build(tiny_model, word_tokenizer, family, tmp_path, response=response)
    batch = trainer.collate(examples)
    results = []
    for whole in (True, False):
        torch.manual_seed(0)
        trainer.model.train()
        trainer.stack.zero_grad()
        if whole:
            given = (batch.kv_cache_index, batch.input_ids, batch.attention_mask)
            loss = trainer.model(*given, labels=batch.labels, sharer_inputs=[batch.sharer_input]).loss
        else:
            loss = response_loss(trainer.model, batch, torch.device("cpu"))
        loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in trainer.stack.parameters() if p.grad is not None])
        results.append((loss.item(), gradients))
    (one, before), (other, after) = results
    assert other == pytest.approx(one, rel=1e-6)
    assert before.abs().max() > 0
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-7)


def test_the_head_reads_supervised_tokens_alone_and_is_as_before_afterwards(
    tiny_model, word_tokenizer, tmp_path
) -> None:
    trainer, examples = build(tiny_model, word_tokenizer, "qwen3", tmp_path)
    batch = trainer.collate(examples)
    head, seen = trainer.model.receiver.get_output_embeddings(), []
    handle = head.register_forward_hook(lambda module, given, output: seen.append(tuple(output.shape)))
    response_loss(trainer.model, batch, torch.device("cpu"))
    handle.remove()
    assert seen == [(1, batch.supervised, len(word_tokenizer))]
    assert not head._forward_pre_hooks


@pytest.mark.parametrize("reencode", [None, lambda ids: ids], ids=["plain", "fused"])
def test_the_sharer_reads_nothing_after_the_last_token_that_is_fused(
    tiny_model, word_tokenizer, tmp_path, reencode
) -> None:
    trainer, (example, *_) = build(tiny_model, word_tokenizer, "qwen3", tmp_path)
    prompt = example.prompt
    longer = example._replace(prompt=replace(prompt, sharer_ids=[*prompt.sharer_ids, 4, 5]))
    batches = [collate([each], trainer.pair, reencode=reencode) for each in (example, longer)]
    assert batches[1].sharer_input.input_ids.tolist() == batches[0].sharer_input.input_ids.tolist()
