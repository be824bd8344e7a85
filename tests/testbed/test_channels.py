"""What each channel sends, how large it is, and what the Receiver makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch

from c2c.errors import RefusedError
from c2c.evaluation.methods.text_to_text import TextToText
from c2c.evaluation.questions.question import Question
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from c2c.testbed.channel import Message, Prompt, ReceiverAnswer, SharerContext, TokenSpan, TrainedChannel
from c2c.testbed.channels.activation import Activation, ActivationsAtPlaces, ActivationSettings
from c2c.testbed.channels.compressed import (
    Int4Ridge,
    Int8Ridge,
    LowRank,
    RankSettings,
    Subset,
    SubsetSettings,
    dequantise,
    pack,
    quantise,
    reduce_rank,
    unpack,
)
from c2c.testbed.channels.concept import Concept
from c2c.testbed.channels.copied import IdentityChannel
from c2c.testbed.channels.fused import FromRandomWeights, Latent, OnRidge
from c2c.testbed.channels.hidden import read_hidden, read_prompts
from c2c.testbed.channels.layerwise import HandOverSettings, Layerwise
from c2c.testbed.channels.ridge import Ridge, RidgeMap
from c2c.testbed.channels.text import CutText, WrittenText
from c2c.testbed.controls import random_like, zeroed
from c2c.testbed.layout import ItemLayout, lay_out
from c2c.testbed.models import Models, StateReader


@pytest.fixture
def layouts(pair, items) -> dict[str, list[ItemLayout]]:
    return {split: [lay_out(item, pair.receiver) for item in its_items] for split, its_items in items.items()}


def contexts(layouts: list[ItemLayout]) -> list[SharerContext]:
    return [layout.context for layout in layouts]


def prompts(layouts: list[ItemLayout]) -> list[Prompt]:
    return [layout.prompt for layout in layouts]


def fitted(channel: Any, layouts: dict[str, list[ItemLayout]]) -> Any:
    examples = {split: [layout.example for layout in layouts[split]] for split in ("train", "validation")}
    channel.fit(examples["train"], examples["validation"], 0)
    return channel


def assert_same(outcomes: Sequence[ReceiverAnswer], others: Sequence[ReceiverAnswer], tolerance: float = 1e-4) -> None:
    for one, other in zip(outcomes, others, strict=True):
        assert one.option_logps == pytest.approx(other.option_logps, abs=tolerance)
        assert one.value_logp == pytest.approx(other.value_logp, abs=tolerance)


# Text


def test_messages_and_answers_are_those_of_t2t(pair, layouts) -> None:
    channel, test = WrittenText(pair), layouts["test"]
    channel.settings = type(channel.settings)(message_tokens=7)
    messages = channel.send(contexts(test))
    questions = [
        Question(
            "testbed",
            number,
            {"prompt": layout.context.texts[0]},
            layout.prompt.text,
            layout.prompt.value,
            options=tuple(f" {option}" for option in layout.prompt.options),
            message_tokens=7,
            **channel.prompts,
        )
        for number, layout in enumerate(test)
    ]
    answers = TextToText(Pair(pair.receiver.loaded, pair.sharer.loaded)).answer(questions)
    assert [message.text for message in messages] == [answer.message for answer in answers]
    assert len({message.text for message in messages}) > 1
    for outcome, answer in zip(channel.receive(messages, prompts(test)), answers, strict=True):
        assert outcome.option_logps == pytest.approx(answer.choice_scores, abs=1e-4)


def test_the_bytes_of_a_text_are_its_utf8(pair, layouts) -> None:
    for message in WrittenText(pair).send(contexts(layouts["test"][:2])):
        assert message.size == len(message.text.encode()) > 0
    assert Message(text="é").size == 2


def test_without_a_text_the_receiver_reads_its_prompt_alone(pair, layouts) -> None:
    channel, test = WrittenText(pair), layouts["test"]
    silent = zeroed([Message(text="blue")] * len(test))
    assert_same(channel.receive(silent, prompts(test)), pair.receiver.answer(prompts(test)))


def test_a_cut_text_has_no_more_tokens_than_are_fused(pair) -> None:
    text = "ada color is red."
    context = SharerContext((text, "bo color is blue."), ((0, TokenSpan(12, 16, 2)), (1, TokenSpan(11, 16, 3))))
    alone = [
        CutText(pair).send([SharerContext((text,), ((0, TokenSpan(12, 16, count)),))])[0].text.split()
        for count in (1, 2, 3)
    ]
    assert [len(words) for words in alone] == [1, 2, 3]
    (message,) = CutText(pair).send([context])
    assert message.text.split()[:2] == alone[1] and len(message.text.split()) == 5


# Integers


@pytest.mark.parametrize("width", [7, 8])
def test_numbers_of_four_bits_are_packed_two_a_byte(width) -> None:
    numbers = torch.randint(-8, 8, (3, 5, width), dtype=torch.int8)
    assert pack(numbers).shape == (3, 5, 4) and pack(numbers).dtype == torch.uint8
    assert torch.equal(unpack(pack(numbers))[..., :width], numbers)


@pytest.mark.parametrize("bits", [8, 4])
def test_integers_differ_from_states_by_half_a_step_at_most(bits) -> None:
    states = torch.randn(4, 2, 3, 12, generator=torch.Generator().manual_seed(0)) * 20
    message = quantise(Message({"keys": states}), bits)
    again = dequantise(message, bits, 12).tensors["keys"]
    step = states.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((again - states).abs() <= step * 0.51).all()


@pytest.mark.parametrize(("channel", "bits"), [(Int8Ridge, 8), (Int4Ridge, 4)])
def test_bytes_of_integers_count_the_packed_numbers_and_the_scales(pair, layouts, channel, bits) -> None:
    shape = pair.sharer.shape
    for message, layout in zip(channel(pair).send(contexts(layouts["test"])), layouts["test"], strict=True):
        vectors = 2 * shape.layers * shape.heads * layout.context.tokens
        assert message.size == vectors * (shape.head_dim * bits // 8 + 2)


def test_integers_of_eight_bits_answer_as_the_closed_form(pair, layouts) -> None:
    test = layouts["test"]
    outcomes = []
    for channel in (Ridge(pair), Int8Ridge(pair)):
        fitted(channel, layouts)
        outcomes.append(channel.receive(channel.send(contexts(test)), prompts(test)))
    assert_same(*outcomes, tolerance=0.3)
    best = [[max(range(4), key=outcome.option_logps.__getitem__) for outcome in part] for part in outcomes]
    assert sum(one == other for one, other in zip(*best, strict=True)) >= 0.9 * len(test)


def test_random_integers_keep_no_message_whole() -> None:
    generator = torch.Generator().manual_seed(1)
    real = [Message({"keys": torch.randint(0, 256, (2, 1, 6), generator=generator).to(torch.uint8)}) for _ in range(50)]
    drawn = random_like(real, seed=0)
    assert not any(torch.equal(one.tensors["keys"], other.tensors["keys"]) for one in drawn for other in real)
    for feature in range(6):
        numbers = {int(message.tensors["keys"][0, 0, feature]) for message in real}
        assert {int(message.tensors["keys"][0, 0, feature]) for message in drawn} <= numbers


def test_a_random_message_has_no_text_and_may_lack_groups() -> None:
    drawn = random_like([Message({"code": torch.randn(3, 5)}, "blue") for _ in range(4)], seed=0)
    assert {message.text for message in drawn} == {""} and drawn[0].tensors["code"].shape == (3, 5)


# Tokens and layers


def test_a_subset_of_every_token_and_layer_is_the_closed_form(pair, layouts) -> None:
    test, whole = layouts["test"], fitted(Ridge(pair), layouts)
    channel = Subset(pair)
    channel.settings = SubsetSettings(1, 1)
    fitted(channel, layouts)
    assert_same(
        channel.receive(channel.send(contexts(test)), prompts(test)),
        whole.receive(whole.send(contexts(test)), prompts(test)),
    )


def test_a_subset_sends_the_last_token_of_each_stride_and_the_last_layer(pair, layouts) -> None:
    text = layouts["test"][0].context.texts[0]
    context = SharerContext((text,), ((0, TokenSpan(0, len(text) - 1, 5)),))
    channel = Subset(pair)
    channel.settings = SubsetSettings(token_stride=2, layer_stride=3)
    (message,), (whole,) = channel.send([context]), Ridge(pair).send([context])
    assert torch.equal(message.tensors["keys"], whole.tensors["keys"][[0, 3]][:, :, [0, 2, 4]])
    assert message.size == whole.size * 2 * 3 // (4 * 5)


def test_states_of_tokens_that_are_not_sent_are_predicted(pair, layouts) -> None:
    # Places of two tokens: the whole head of each text, of which the second token is sent.
    channel = Subset(pair)
    channel.settings = SubsetSettings(token_stride=2, layer_stride=1)
    fitted(channel, {split: [two_tokens(layout) for layout in part] for split, part in layouts.items()})
    assert len(channel.maps) == 2
    test = [two_tokens(layout) for layout in layouts["test"]]
    messages = channel.send(contexts(test))
    assert {message.tensors["keys"].shape[2] for message in messages} == {1}
    assert len(channel.receive(messages, prompts(test))) == len(test)


def two_tokens(layout: ItemLayout) -> ItemLayout:
    """The same item, whose place is the value and the word before it."""

    def wider(context: SharerContext) -> SharerContext:
        ((sender, span),) = context.spans
        start = context.texts[0].rindex(" ", 0, span.start)
        return SharerContext(context.texts, ((sender, TokenSpan(start, span.end, 2)),))

    (place,) = layout.prompt.places
    prompt = replace(layout.prompt, places=(place - 1, place))
    return replace(layout, context=wider(layout.context), prompt=prompt, target=wider(layout.target))


# Ranks


def test_a_map_of_full_rank_is_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, outputs = torch.randn(50, 6, generator=generator), torch.randn(50, 9, generator=generator)
    fit = RidgeMap.fit(inputs, outputs)
    encoder, decoder = reduce_rank(fit, 6)
    again = ((inputs - fit.mean) / fit.scale) @ encoder @ decoder + fit.offset
    torch.testing.assert_close(again, fit(inputs), rtol=1e-3, atol=1e-3)


def test_a_reduced_map_has_the_least_penalised_error_of_its_rank() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(50, 6, generator=generator) * torch.tensor([3.0, 1, 1, 1, 1, 0.2])
    outputs = inputs @ torch.randn(6, 9, generator=generator) + torch.randn(50, 9, generator=generator)
    fit = RidgeMap.fit(inputs, outputs)
    rows, penalty = fit.inputs, fit.penalty * float((fit.inputs @ fit.inputs.T).diagonal().mean())

    def error(weights: torch.Tensor) -> float:
        residuals = outputs - outputs.mean(0) - rows @ weights
        return float(residuals.square().sum() + penalty * weights.square().sum())

    encoder, decoder = reduce_rank(fit, 2)
    least = error(encoder @ decoder)
    # By hand: the truncated right vectors of the rows with those of the penalty.
    whole = rows.T @ fit.dual
    augmented = torch.cat([rows, penalty**0.5 * torch.eye(6)]) @ whole
    vectors = torch.linalg.svd(augmented).Vh[:2]
    assert least == pytest.approx(error(whole @ vectors.T @ vectors), rel=1e-3)
    for _ in range(20):
        near = encoder @ decoder + 0.05 * torch.randn(6, 2, generator=generator) @ decoder
        assert error(near) >= least * (1 - 1e-5)


def test_a_code_has_as_many_numbers_a_token_as_the_rank(pair, layouts) -> None:
    channel = LowRank(pair)
    channel.settings = RankSettings(rank=3)
    fitted(channel, layouts)
    for message, layout in zip(channel.send(contexts(layouts["test"])), layouts["test"], strict=True):
        assert message.tensors["code"].shape == (1, layout.context.tokens, 3)
        assert message.size == 4 * 3 * layout.context.tokens


# Latent spaces


def quick(channel: Any, **changes: Any) -> Any:
    """The channel with a short training."""
    channel.settings = replace(channel.settings, **{"batch_size": 8, "curve_items": 0, "width": 16} | changes)
    return channel


def test_a_latent_message_has_the_size_of_the_latent_cache(pair, layouts) -> None:
    channel = fitted(quick(Latent(pair), steps=2, latent_layers=3, latent_width=5), layouts)
    for message, layout in zip(channel.send(contexts(layouts["test"])), layouts["test"], strict=True):
        assert message.tensors["keys"].shape == (3, 1, layout.context.tokens, 5)
        assert message.size == 4 * 2 * 3 * 5 * layout.context.tokens


@pytest.mark.parametrize("channel", [FromRandomWeights, OnRidge, Latent, Concept])
def test_training_lowers_the_loss(pair, layouts, channel) -> None:
    sender = quick(channel(pair), steps=60, learning_rate=1e-2)
    examples = [layout.example for layout in layouts["train"]]
    losses = [point["loss"] for point in sender.fit(examples, [], 0).curve][1:]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("channel", [Ridge, LowRank, FromRandomWeights, Latent, Activation, Concept])
def test_a_silent_sharer_sends_zeros(pair, layouts, channel) -> None:
    sender = channel(pair)
    if hasattr(sender, "settings") and hasattr(sender.settings, "steps"):
        quick(sender, steps=1)
    pair.sharer.silent = True
    try:
        messages = fitted(sender, layouts).send(contexts(layouts["test"]))
    finally:
        pair.sharer.silent = False
    assert not any(tensor.any() for message in messages for tensor in message.tensors.values())


# Activations


@pytest.fixture
def twins(pair) -> Models:
    """The Receiver, and a copy of it as its Sharer."""
    copy = LoadedModel("copy", deepcopy(pair.receiver.model), pair.receiver.tokenizer)
    return Models.load(pair.receiver.loaded, copy)


def full_texts(layouts: list[ItemLayout]) -> list[SharerContext]:
    """Contexts in which the Sharer reads the Receiver's unredacted prompt."""
    return [layout.own for layout in layouts]


def test_an_embedding_in_the_place_of_the_placeholder_is_the_unredacted_text(twins, layouts) -> None:
    channel, test = ActivationsAtPlaces(twins), layouts["test"]
    channel.settings = replace(channel.settings, sharer_layer=0.0, receiver_layer=0.0)
    channel.map = lambda rows: rows
    outcomes = channel.receive(channel.send(full_texts(test)), prompts(test))
    assert_same(outcomes, twins.receiver.answer([layout.full for layout in test]))


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_hidden_states_are_those_of_each_text_alone(tiny_model, tokenizer, layer, family) -> None:
    model = tiny_model(family, layers=4, vocab=len(tokenizer))
    reader = StateReader(LoadedModel("model", model, tokenizer))
    head = reader.tokenise("ada color is red . Question : bo color is")[0]
    rows = [[*head, *reader.tokenise(value)[0]] for value in ("blue", "red .", "gold", "green . what")]
    rows += [reader.tokenise(text)[0] for text in ("cy color is pink", "di")]
    for row, states in zip(rows, read_hidden(reader, rows, layer), strict=True):
        whole = model(torch.tensor([row]), output_hidden_states=True).hidden_states[layer][0]
        torch.testing.assert_close(states, whole, rtol=1e-4, atol=1e-5)


def test_nothing_that_is_added_leaves_the_receiver_as_it_is(pair, layouts) -> None:
    channel, test = Activation(pair), layouts["test"]
    channel.settings = replace(channel.settings, combination="add")
    width = pair.receiver.model.config.hidden_size
    channel.map = lambda rows: torch.zeros(len(rows), width)
    assert_same(channel.receive(channel.send(contexts(test)), prompts(test)), pair.receiver.answer(prompts(test)))


@pytest.mark.parametrize("combination", ["replace", "add"])
def test_a_map_between_copies_of_a_model_brings_what_the_target_text_has(twins, layouts, combination) -> None:
    channel = ActivationsAtPlaces(twins)
    channel.settings = replace(channel.settings, sharer_layer=1 / 3, combination=combination)
    fitted(channel, layouts)
    assert channel.map.explained > 0.5


def test_an_activation_is_one_vector_of_the_last_token(pair, layouts) -> None:
    width = pair.sharer.model.config.hidden_size
    for channel, tokens in ((Activation, 1), (ActivationsAtPlaces, 2)):
        context = SharerContext(("ada color is red.",), ((0, TokenSpan(9, 16, 2)),))
        (message,) = channel(pair).send([context])
        assert message.tensors["activations"].shape == (1, tokens, width) and message.size == 4 * tokens * width


@pytest.mark.parametrize("changes", [{"tokens": "first"}, {"combination": "mean"}])
def test_an_unknown_choice_of_activations_is_refused(changes) -> None:
    with pytest.raises(RefusedError, match="must be a known name"):
        ActivationSettings(**changes)


def test_a_layer_beyond_the_model_is_refused(pair, layouts) -> None:
    channel = Activation(pair)
    channel.settings = replace(channel.settings, sharer_layer=1.0)
    with pytest.raises(RefusedError, match="must be a share from 0 to below 1"):
        channel.send(contexts(layouts["test"]))


# Concept vectors


def test_a_message_of_concepts_has_their_number_whatever_the_text(pair, layouts) -> None:
    channel = fitted(quick(Concept(pair), steps=1, concepts=3), layouts)
    width = pair.sharer.model.config.hidden_size
    texts = [SharerContext(("ada color is red.",) * count, ()) for count in (1, 2)]
    assert {message.size for message in channel.send(texts)} == {4 * 3 * width}


@pytest.mark.parametrize("front", [0, 1])
def test_soft_tokens_are_read_as_tokens_before_the_prompt(pair, layouts, front) -> None:
    receiver, test = pair.receiver, layouts["test"][:3]
    ids = receiver.tokenise("bo color is")[0]
    soft = receiver.model.get_input_embeddings()(torch.tensor(ids))
    longer = [
        replace(prompt, tokens=(*prompt.tokens[:front], *ids, *prompt.tokens[front:])) for prompt in prompts(test)
    ]
    read = read_prompts(receiver, prompts(test), soft_tokens=soft.expand(len(test), -1, -1), front=front)
    assert_same(receiver.answer(prompts(test), read), receiver.answer(longer))


# Layer-wise hand-over


def test_a_pair_of_different_models_is_refused(pair) -> None:
    with pytest.raises(RefusedError, match="must be the Receiver's own model"):
        Layerwise(pair)


def test_all_layers_of_a_copy_are_the_receivers_own_states(twins, layouts) -> None:
    channel, copied, test = Layerwise(twins), IdentityChannel(twins), layouts["test"]
    channel.settings = HandOverSettings(share=1.0)
    outcomes = channel.receive(channel.send(contexts(test)), prompts(test))
    assert_same(outcomes, copied.receive(copied.send(full_texts(test)), prompts(test)))


def test_layers_that_are_not_handed_over_stay_the_receivers_own(twins, layouts) -> None:
    channel, test = Layerwise(twins), layouts["test"]
    channel.settings = HandOverSettings(share=0.4)
    assert channel.layers == [1]
    messages = channel.send(contexts(test))
    whole = Ridge(twins).send(contexts(test))
    assert [message.size * 3 for message in messages] == [message.size for message in whole]
    # A message in which no layer differs from the Receiver's own changes nothing.
    own = channel.send([layout.redacted for layout in test])
    assert_same(channel.receive(own, prompts(test)), twins.receiver.answer(prompts(test)))


# Unequal tokenizers


@pytest.fixture
def unequal(tiny_model, tokenizer, chat_sharer) -> Models:
    """A Sharer whose tokenizer splits words of which the Receiver has a token each."""
    receiver = LoadedModel("receiver", tiny_model("qwen3", vocab=len(tokenizer)), tokenizer)
    sharer = tiny_model("llama", layers=4, kv_heads=1, head_dim=12, vocab=len(chat_sharer), seed=1)
    # A request in bytes is longer than the positions that tiny models have.
    sharer.config.max_position_embeddings = 512
    return Models.load(receiver, LoadedModel("sharer", sharer, chat_sharer))


@pytest.mark.parametrize(
    "channel",
    [Int4Ridge, Subset, LowRank, OnRidge, Latent, Activation, ActivationsAtPlaces, Concept, WrittenText, CutText],
)
def test_a_channel_serves_models_of_unequal_tokenizers(unequal, items, channel) -> None:
    layouts = {split: [lay_out(item, unequal.receiver) for item in items[split]] for split in items}
    assert len(unequal.sharer.tokenizer(" green")["input_ids"]) > 1
    sender = channel(unequal)
    if hasattr(sender, "settings") and hasattr(sender.settings, "steps"):
        quick(sender, steps=1)
    if isinstance(sender, TrainedChannel):
        fitted(sender, layouts)
    test = layouts["test"]
    assert len(sender.receive(sender.send(contexts(test)), prompts(test))) == len(test)
