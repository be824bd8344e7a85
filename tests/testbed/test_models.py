"""Readings of the test bed hold what the model's own forward pass gives, however they are batched."""

from __future__ import annotations

import pytest
import torch

from c2c.cache.kv_cache import layers_of, prefill
from c2c.cache.rotation import check_rotation, rotate_layers
from c2c.errors import RefusedError
from c2c.testbed.layout import lay_out
from c2c.testbed.models import Receiver


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma3", "mistral", "phi3", "gpt_neox", "olmo2"])
def test_a_key_without_its_rotation_is_the_same_at_every_position(tiny_model, family) -> None:
    check_rotation(tiny_model(family))


def test_a_model_whose_keys_are_rotated_otherwise_is_refused(tiny_model, monkeypatch) -> None:
    model = tiny_model("llama")
    monkeypatch.setattr("c2c.cache.rotation._rotate", lambda keys, cos, sin: keys)
    with pytest.raises(RefusedError, match="must rotate the two halves"):
        check_rotation(model)


@pytest.mark.parametrize("family", ["llama", "gemma3", "phi3"])
def test_rotation_and_its_inverse_give_the_cache_back(tiny_model, family) -> None:
    model, ids = tiny_model(family), torch.arange(2, 8)[None]
    positions = torch.arange(6)[None]
    layers = layers_of(prefill(model, ids, torch.ones_like(ids), positions))
    back = rotate_layers(model, rotate_layers(model, layers, positions, inverse=True), positions)
    for (keys, _), (again, _) in zip(layers, back, strict=True):
        torch.testing.assert_close(again, keys)


def test_states_of_a_batch_are_those_of_each_text_alone(pair, items) -> None:
    contexts = [lay_out(item, pair.receiver).context for item in items["train"]]
    together = pair.sharer.states(contexts, rotated=True)
    for context, states in list(zip(contexts, together, strict=True))[::7]:
        ids = pair.sharer.tokenizer(context.texts[0], return_tensors="pt")["input_ids"]
        place = ids.shape[1] - 2
        alone = layers_of(prefill(pair.sharer.model, ids, torch.ones_like(ids), torch.arange(ids.shape[1])[None]))
        for layer, (keys, values) in enumerate(alone):
            torch.testing.assert_close(states[layer, 0, :, 0], keys[0, :, place], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(states[layer, 1, :, 0], values[0, :, place], rtol=1e-4, atol=1e-5)


def test_own_states_at_the_places_answer_as_a_cache_that_is_replaced_by_hand(pair, items) -> None:
    layouts = [lay_out(item, pair.receiver) for item in items["test"]]
    receiver, model = pair.receiver, pair.receiver.model
    states = receiver.states([layout.own for layout in layouts])
    prompts = [layout.prompt for layout in layouts]
    outcomes = receiver.answer(prompts, receiver.replaced(prompts, states))
    for layout, outcome in list(zip(layouts, outcomes, strict=True))[::5]:
        # By hand: the redacted prompt but for its last token, with the place of the unredacted one in every layer.
        ids, own = torch.tensor([layout.prompt.tokens]), torch.tensor([layout.full.tokens])
        (place,) = layout.prompt.places
        ones = torch.ones_like(ids)
        cache = prefill(model, ids[:, :-1], ones[:, :-1], torch.arange(ids.shape[1] - 1)[None])
        other = layers_of(prefill(model, own, torch.ones_like(own), torch.arange(own.shape[1])[None]))
        for slot, (keys, values) in zip(cache.layers, other, strict=True):
            slot.keys[:, :, place], slot.values[:, :, place] = keys[:, :, place], values[:, :, place]
        logits = model(input_ids=ids[:, -1:], attention_mask=ones, cache=cache).logits[0, -1]
        logps = logits.log_softmax(-1)
        expected = [float(logps[receiver.tokenizer(option)["input_ids"][0]]) for option in layout.prompt.options]
        assert outcome.option_logps == pytest.approx(expected, abs=1e-4)
        assert outcome.text == receiver.tokenizer.decode([int(logits.argmax())])


def test_a_prompt_whose_places_keep_their_own_states_answers_as_the_receiver(pair, items) -> None:
    layouts = [lay_out(item, pair.receiver) for item in items["test"]]
    prompts = [layout.prompt for layout in layouts]
    states = pair.receiver.states([layout.redacted for layout in layouts])
    replaced = pair.receiver.answer(prompts, pair.receiver.replaced(prompts, states))
    for one, other in zip(replaced, pair.receiver.answer(prompts), strict=True):
        assert one.option_logps == pytest.approx(other.option_logps, abs=1e-4)


def test_prompts_that_the_memory_cannot_hold_are_read_again(pair, items) -> None:
    prompts = [lay_out(item, pair.receiver).prompt for item in items["test"]]
    small = Receiver(pair.receiver.loaded)
    small._prefixes.limit = 1
    for one, other in zip(small.answer(prompts), pair.receiver.answer(prompts), strict=True):
        assert one.option_logps == pytest.approx(other.option_logps, abs=1e-4)
