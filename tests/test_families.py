"""Every family of models as Receiver and as Sharer: prefill, fuse, and answer in batches as one by one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from c2c import FuserStack, RosettaModel, SharerInput, TokenAligner
from c2c.alignment.tokens import batch_readings, left_pad
from c2c.cache.kv_cache import empty_cache, layers_of, positions_of

FAMILIES = ("qwen2", "qwen3", "llama", "gemma3", "mistral", "phi3", "gpt_neox", "granite", "olmo2")
WINDOWED = ("gemma3", "mistral")
SMALL = {"hidden_dim": 16, "intermediate_dim": 16}
LENGTHS, NEW_TOKENS, PAD, SPLIT_VOCABULARY = (11, 7), 5, 0, 400
TEXTS = ("what is the color the home is red zorvex", "zorvex is mubilo is home athens")

Index = Callable[..., list[Tensor]]


@pytest.fixture(scope="session")
def model(tiny_model) -> Callable[..., PreTrainedModel]:
    """A model of a family, built once: 3 layers as Receiver, 2 as Sharer."""

    @functools.cache
    def build(family: str, role: str, vocab: int = 97) -> PreTrainedModel:
        layers, seed = {"receiver": (3, 0), "sharer": (2, 1), "second": (4, 2)}[role]
        return tiny_model(family, layers=layers, vocab=vocab, seed=seed + FAMILIES.index(family))

    return build


def fused_model(receiver: PreTrainedModel, *sharers: PreTrainedModel, fusion: str = "sequential", **options):
    """All gates closed; `opened` opens them."""
    torch.manual_seed(3)
    stacks = [FuserStack.between(sharer.config, receiver.config, **SMALL) for sharer in sharers]
    for stack in stacks:
        for name, parameter in stack.named_parameters():
            if "proj_out.weight" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return RosettaModel.of_stacks(receiver, sharers, stacks, fusion=fusion, **options)


def opened(model: RosettaModel) -> RosettaModel:
    for stack in model.stacks:
        stack.force_gates(True)
    return model


def prompts() -> tuple[Tensor, Tensor]:
    """Rows of different lengths, left-padded: ids and mask, ``(2, 11)``."""
    draw = torch.Generator().manual_seed(0)
    return left_pad([torch.randint(2, 97, (length,), generator=draw).tolist() for length in LENGTHS], PAD)


def unpadded(ids: Tensor, mask: Tensor) -> list[Tensor]:
    return [row[mark > 0][None] for row, mark in zip(ids, mask, strict=True)]


def alone(given: Sequence[SharerInput] | None, row: int, length: int) -> list[SharerInput] | None:
    """What the Sharers read for one row, without the pads of the batch."""
    if given is None:
        return None
    found = []
    for each in given:
        mark = each.attention_mask[row] > 0
        token_map, pads = each.token_map[row, -(length - 1) :], int((~mark).sum())
        shifted = torch.where(token_map >= 0, token_map - pads, token_map)
        found.append(SharerInput(each.input_ids[row, mark][None], mark[mark][None].long(), shifted[None]))
    return found


def assert_batch_equals_one_by_one(
    model: RosettaModel, sections: Index, ids: Tensor, mask: Tensor, given: Sequence[SharerInput] | None = None
) -> None:
    bits, width = (1 << len(model.sharers)) - 1, ids.shape[1]
    last = bits if model.include_response else -1
    logits = model(sections((bits, width - 1), (last, 1)), ids, mask, sharer_inputs=given).logits
    written = model.generate(
        sections((bits, width - 1), (last, 1)), ids, mask, max_new_tokens=NEW_TOKENS, sharer_inputs=given
    )
    for row, single in enumerate(unpadded(ids, mask)):
        length = single.shape[1]
        index, theirs = sections((bits, length - 1), (last, 1)), alone(given, row, length)
        torch.testing.assert_close(
            model(index, single, sharer_inputs=theirs).logits[0], logits[row], atol=1e-5, rtol=1e-5
        )
        answer = model.generate(index, single, max_new_tokens=NEW_TOKENS, sharer_inputs=theirs)[0, length:]
        in_batch = written[row, width:]
        assert torch.equal(in_batch[: len(answer)], answer)
        assert (in_batch[len(answer) :] == PAD).all()


def in_two_sections(receiver: PreTrainedModel, ids: Tensor, mask: Tensor) -> tuple[Tensor, list]:
    """Logits of the last token and the cache of the Receiver alone, which reads the prefix first."""
    cache, positions, split = empty_cache(receiver.config), positions_of(mask), ids.shape[1] - 1
    receiver(input_ids=ids[:, :split], attention_mask=mask[:, :split], position_ids=positions[:, :split], cache=cache)
    output = receiver(input_ids=ids[:, split:], attention_mask=mask, position_ids=positions[:, split:], cache=cache)
    return output.logits, layers_of(cache)


@pytest.mark.parametrize(("receiver", "sharer"), list(product(FAMILIES, FAMILIES)))
def test_every_pair_of_families_prefills_fuses_and_answers_in_batches(receiver, sharer, model, sections) -> None:
    pair, (ids, mask) = fused_model(model(receiver, "receiver"), model(sharer, "sharer")), prompts()
    index = sections((1, ids.shape[1] - 1), (-1, 1))
    closed = pair(index, ids, mask)
    logits, cache = in_two_sections(pair.receiver, ids, mask)
    assert torch.equal(closed.logits, logits)
    for ours, theirs in zip(layers_of(closed.cache), cache, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
    assert not torch.allclose(opened(pair)(index, ids, mask).logits, logits, atol=1e-2)
    assert_batch_equals_one_by_one(pair, sections, ids, mask)


@pytest.mark.parametrize("fusion", ["sequential", "parallel"])
@pytest.mark.parametrize("receiver", FAMILIES)
def test_two_sharers_answer_in_batches_as_one_by_one(receiver, fusion, model, sections) -> None:
    place = FAMILIES.index(receiver)
    sharers = [model(FAMILIES[(place + step) % len(FAMILIES)], role) for step, role in ((1, "sharer"), (2, "second"))]
    trio, (ids, mask) = opened(fused_model(model(receiver, "receiver"), *sharers, fusion=fusion)), prompts()
    width = ids.shape[1]
    one, both = (trio(sections((bits, width - 1), (-1, 1)), ids, mask).logits for bits in (1, 3))
    assert not torch.allclose(one, both, atol=1e-2)
    assert_batch_equals_one_by_one(trio, sections, ids, mask)


@pytest.mark.parametrize("sharers", [1, 2])
@pytest.mark.parametrize("receiver", FAMILIES)
def test_aligned_tokens_answer_in_batches_as_one_by_one(
    receiver, sharers, model, sections, word_tokenizer, split_tokenizer
) -> None:
    place = FAMILIES.index(receiver)
    readers = [
        (model(FAMILIES[(place + 4) % len(FAMILIES)], "sharer", SPLIT_VOCABULARY), split_tokenizer),
        (model(FAMILIES[(place + 7) % len(FAMILIES)], "second"), word_tokenizer),
    ][:sharers]
    fused = opened(fused_model(model(receiver, "receiver"), *(sharer for sharer, _ in readers)))
    ids, mask = left_pad([word_tokenizer(text)["input_ids"] for text in TEXTS], PAD)
    aligned = [[TokenAligner(word_tokenizer, theirs).align(text) for text in TEXTS] for _, theirs in readers]
    given = [batch_readings(rows, PAD) for rows in aligned]
    assert given[0].input_ids.shape[1] > ids.shape[1]
    assert_batch_equals_one_by_one(fused, sections, ids, mask, given)


@pytest.mark.parametrize("receiver", FAMILIES)
def test_a_fused_response_is_answered_in_batches_as_one_by_one(receiver, model, sections) -> None:
    sharer = model(FAMILIES[FAMILIES.index(receiver) - 1], "sharer")
    pair, (ids, mask) = opened(fused_model(model(receiver, "receiver"), sharer, include_response=True)), prompts()
    assert_batch_equals_one_by_one(pair, sections, ids, mask)


@pytest.mark.parametrize("receiver", FAMILIES)
def test_with_closed_gates_every_family_writes_what_it_writes_by_itself(receiver, model, sections) -> None:
    pair, (ids, mask) = fused_model(model(receiver, "receiver"), model("qwen2", "sharer")), prompts()
    index = sections((1, ids.shape[1] - 1), (-1, 1))
    own = pair.receiver.generate(
        ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=1, pad_token_id=PAD
    )
    assert torch.equal(pair.generate(index, ids, mask, max_new_tokens=NEW_TOKENS), own)


@pytest.mark.parametrize("family", WINDOWED)
def test_a_window_shorter_than_the_prompt_limits_the_receiver_as_it_does_the_plain_model(
    family, model, sections, tiny_model
) -> None:
    pair, (ids, mask) = fused_model(model(family, "receiver"), model("qwen2", "sharer")), prompts()
    plain = pair.receiver(input_ids=ids, attention_mask=mask, position_ids=positions_of(mask)).logits[:, -1:]
    fused = pair(sections((1, ids.shape[1] - 1), (-1, 1)), ids, mask).logits
    torch.testing.assert_close(fused, plain, atol=1e-5, rtol=1e-5)
    wide = tiny_model(family, seed=FAMILIES.index(family))
    wide.load_state_dict(pair.receiver.state_dict())
    wide.config.sliding_window = 64
    unlimited = wide(input_ids=ids, attention_mask=mask, position_ids=positions_of(mask)).logits[:, -1:]
    assert not torch.allclose(unlimited, plain, atol=1e-2)


@pytest.mark.parametrize("family", WINDOWED)
def test_a_sharer_with_short_windows_hands_over_every_token_of_the_prompt(family, model) -> None:
    pair, (ids, mask) = fused_model(model("qwen3", "receiver"), model(family, "sharer")), prompts()
    read = pair.read_sharer(0, SharerInput.of_receiver(ids, mask))
    own = pair.sharers[0](input_ids=ids, attention_mask=mask, position_ids=positions_of(mask)).cache
    for (keys, values), layer in zip(read, own.layers, strict=True):
        kept = layer.keys.shape[2]
        assert keys.shape[2] == ids.shape[1]
        torch.testing.assert_close(keys[:, :, -kept:], layer.keys)
        torch.testing.assert_close(values[:, :, -kept:], layer.values)
    assert min(layer.keys.shape[2] for layer in own.layers) < ids.shape[1]
