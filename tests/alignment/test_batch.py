"""Batches of conversations: a padded row is read as it is read alone, and only messages change by fusion."""

from __future__ import annotations

import copy
from itertools import combinations

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from c2c import FuserStack, RosettaModel
from c2c.alignment.chat import ChatAligner, ChatSection
from c2c.alignment.tokens import AlignedPrompt, TokenAligner, batch_readings, left_pad
from c2c.cache import kv_cache
from c2c.errors import RefusedError
from c2c.fusion.batch import ChatBatch, collate_chats, up_to_fused
from c2c.fusion.prompt import generate_kv_cache_index, read_sections
from tests.conftest import FAMILIES

CONVERSATIONS = [
    ["what is home?"],
    ["the color of 😀", "red", "and zorvex 你好?"],
    [" oslo ", "a blue home", "is", "athens is red", "the home?"],
    ["", "red", "what"],
    [""],
]  # fmt: skip


@pytest.fixture(scope="module")
def chats(chat_receiver, chat_sharer) -> dict[str, list]:
    def turns(contents):
        roles = ["user", "assistant"] * len(contents)
        return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]

    made = {
        alignment: [ChatAligner(chat_receiver, chat_sharer, alignment).align(turns(each)) for each in CONVERSATIONS]
        for alignment in ("span", "longest")
    }
    continued = ChatAligner(chat_receiver, chat_sharer).align(turns(CONVERSATIONS[2][:2]), continue_final_message=True)
    plain = TokenAligner(chat_receiver, chat_sharer).align("what is the color")
    return made | {"mixed": [made["span"][1], continued, plain]}


@pytest.fixture
def models(tiny_model, chat_receiver, chat_sharer, open_gates) -> RosettaModel:
    """A Receiver and a Sharer for the two tokenizers, with open gates, in doubles: no difference is rounding."""
    torch.manual_seed(3)
    receiver = tiny_model("qwen3", vocab=len(chat_receiver))
    sharer = tiny_model("llama", layers=4, kv_heads=1, head_dim=12, vocab=len(chat_sharer), seed=1)
    sharer.config.max_position_embeddings = 256  # its tokens are shorter, and more, than the Receiver's
    stack = FuserStack.between(sharer.config, receiver.config, hidden_dim=16, intermediate_dim=16)
    return open_gates(RosettaModel.of_stacks(receiver, [sharer], [stack])).double()


class Recorder(LogitsProcessor):
    """Keeps the logits of each step."""

    def __init__(self) -> None:
        self.logits: list[torch.Tensor] = []

    def __call__(self, input_ids, scores):
        self.logits.append(scores)
        return scores


def write(model: RosettaModel, batch: ChatBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """What is written, ``(B, new)``, and the logits of each step, ``(B, new, V)``; a row never ends early."""
    recorder = Recorder()
    written = model.generate(
        batch.kv_cache_index, batch.input_ids, batch.attention_mask, max_new_tokens=10,
        sharer_inputs=batch.sharer_inputs, processors=LogitsProcessorList([recorder]), min_new_tokens=10,
    )  # fmt: skip
    return written[:, batch.input_ids.shape[1] :], torch.stack(recorder.logits, dim=1)


def prefilled(model: RosettaModel, batch: ChatBatch) -> list[torch.Tensor]:
    """The Receiver's keys and values after all sections but the last."""
    mask = batch.attention_mask
    sections = read_sections(batch.kv_cache_index, batch.input_ids, 1)
    cache = model.prefill(sections, batch.input_ids, mask, kv_cache.positions_of(mask), [batch.sharer_input])
    return [states for layer in kv_cache.layers_of(cache) for states in layer]


@pytest.mark.parametrize("kind", ["span", "longest", "mixed"])
@pytest.mark.parametrize("zeroed", [False, True])
def test_rows_with_other_numbers_of_turns_and_pads_in_the_middle_equal_each_row_alone_at_every_step(
    models, chats, kind, zeroed
) -> None:
    rows = chats[kind]
    batch = collate_chats(rows, 0, 0, zeroed)
    mask = batch.attention_mask
    assert any("10" in "".join(map(str, row.tolist())) for row in mask), "no row has a pad in the middle"
    tokens, logits = write(models, batch)
    for number, row in enumerate(rows):
        alone, alone_logits = write(models, collate_chats([row], 0, 0, zeroed))
        assert torch.equal(tokens[number], alone[0])
        torch.testing.assert_close(logits[number], alone_logits[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("response", ["plain", "fused"])
@pytest.mark.parametrize("role", ["receiver", "sharer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_reads_past_pads_in_the_middle_at_every_step(
    tiny_model, chat_receiver, chat_sharer, open_gates, chats, family, role, response
) -> None:
    torch.manual_seed(3)
    families = {"receiver": "qwen3", "sharer": "llama", role: family}
    receiver = tiny_model(families["receiver"], vocab=len(chat_receiver))
    sharer = tiny_model(families["sharer"], layers=4, vocab=len(chat_sharer), seed=1)
    sharer.config.max_position_embeddings = 256
    stack = FuserStack.between(sharer.config, receiver.config, hidden_dim=16, intermediate_dim=16)
    model = open_gates(RosettaModel.of_stacks(receiver, [sharer], [stack], include_response=response == "fused"))
    reencode = TokenAligner(chat_receiver, chat_sharer).reencode
    rows = chats["span"][:3]
    tokens, logits = write(model.double(), collate_chats(rows, 0, 0, reencode=reencode))
    for number, row in enumerate(rows):
        alone, alone_logits = write(model, collate_chats([row], 0, 0, reencode=reencode))
        assert torch.equal(tokens[number], alone[0])
        torch.testing.assert_close(logits[number], alone_logits[0], atol=1e-5, rtol=0)


def test_the_fused_prefix_changes_what_is_written(models, chats) -> None:
    batch = collate_chats(chats["span"][:3], 0, 0)
    _, fused = write(models, batch)
    for fuser in models.stacks[0].fusers:
        fuser.key_gate_logit.data.fill_(-1.0)
        fuser.value_gate_logit.data.fill_(-1.0)
    _, closed = write(models, batch)
    assert all(float((fused[row, 0] - closed[row, 0])[2:].abs().max()) > 1e-3 for row in range(3))


def test_fusion_changes_the_first_messages_rows_and_no_template_row_before_it(models, chats) -> None:
    batch = collate_chats(chats["span"][1:3], 0, 0)
    opened = prefilled(models, batch)
    for fuser in models.stacks[0].fusers:
        fuser.key_gate_logit.data.fill_(-1.0)
        fuser.value_gate_logit.data.fill_(-1.0)
    closed = prefilled(models, batch)
    for row, chat in enumerate(chats["span"][1:3]):
        present = batch.attention_mask[row, : opened[0].shape[2]].bool()
        mapped = batch.sharer_input.token_map[row][present] >= 0
        first = chat.sections[1]
        assert first.kind == "message"
        for one, other in zip(opened, closed, strict=True):
            changed = (one[row] != other[row]).any(0).any(-1)[present]
            assert not changed[: first.start].any()
            assert torch.equal(changed[first.start : first.end], mapped[first.start : first.end])


def test_a_template_token_after_a_message_is_read_after_the_fused_cache_but_not_fused_itself(models, chats) -> None:
    """The first layer's keys and values depend on the token alone, so there a template's must be the Receiver's own."""
    batch = collate_chats(chats["span"][:3], 0, 0)
    opened = prefilled(models, batch)[:2]
    mask = batch.attention_mask
    own = kv_cache.prefill(models.receiver, batch.input_ids, mask, kv_cache.positions_of(mask))
    columns = opened[0].shape[2]
    fused = (batch.sharer_input.token_map >= 0) & mask[:, :columns].bool()
    template = ~fused & mask[:, :columns].bool()
    for one, other in zip(opened, kv_cache.layers_of(own)[0], strict=True):
        same = (one - other[:, :, :columns]).abs().amax((1, 3)) < 1e-6
        assert same[template].all()
        assert not same[fused].any()


def test_sections_stand_at_the_right_and_kinds_agree_over_all_rows(chats) -> None:
    rows = chats["span"]
    batch = collate_chats(rows, 7, 9)
    masks = [int(index[0, 0, 0]) for index in batch.kv_cache_index]
    assert masks == [-1, 1] * (len(masks) // 2) + [-1]
    assert sum(index.shape[1] for index in batch.kv_cache_index) == batch.input_ids.shape[1]
    assert batch.attention_mask[:, -1].all()
    for row, chat in enumerate(rows):
        kept = batch.attention_mask[row].bool()
        assert batch.input_ids[row][kept].tolist() == chat.receiver_ids
        assert (batch.input_ids[row][~kept] == 7).all()
        read = batch.sharer_input.attention_mask[row].bool()
        assert batch.sharer_input.input_ids[row][read].tolist() == up_to_fused(chat).sharer_ids
        columns = batch.sharer_input.token_map.shape[1]
        places = batch.sharer_input.token_map[row]
        assert (places[~kept[:columns]] == -1).all()
        shift = int((~read).sum())
        wanted = [place + shift if place >= 0 else -1 for place in chat.token_map]
        assert places[kept[:columns]].tolist() == wanted[: int(kept[:columns].sum())]


def test_positions_are_consecutive_over_a_rows_tokens(chats) -> None:
    mask = collate_chats(chats["span"], 0, 0).attention_mask
    for row, positions in zip(mask.bool(), kv_cache.positions_of(mask), strict=True):
        assert positions[row].tolist() == list(range(int(row.sum())))


def test_plain_prompts_are_laid_out_as_left_padded_rows() -> None:
    prompts = [AlignedPrompt([4, 5, 6], [8, 9], [0, -1]), AlignedPrompt([3, 4, 5, 6], [7], [0, 0, 0])]
    batch = collate_chats(prompts, 0, 0)
    ids, mask = left_pad([prompt.receiver_ids for prompt in prompts], 0)
    assert torch.equal(batch.input_ids, ids) and torch.equal(batch.attention_mask, mask)
    assert torch.equal(
        batch.sharer_input.token_map, batch_readings([up_to_fused(each) for each in prompts], 0).token_map
    )
    for one, other in zip(batch.kv_cache_index, generate_kv_cache_index(3, 1), strict=True):
        assert torch.equal(one, other)


def test_a_sharer_whose_vocabulary_is_too_small_for_unaligned_tokens_is_refused(tiny_model, chats) -> None:
    receiver, sharer = tiny_model("qwen3", vocab=400), tiny_model("llama", vocab=40, seed=1)
    stack = FuserStack.between(sharer.config, receiver.config, hidden_dim=16, intermediate_dim=16)
    batch = collate_chats(chats["span"][:1], 0, 0)
    with pytest.raises(RefusedError, match="must be given tokens 0 to 39"):
        RosettaModel.of_stacks(receiver, [sharer], [stack]).generate(batch.kv_cache_index, batch.input_ids)


def with_third_template(chat_sharer):
    """A second Sharer's tokenizer: other words around the same messages, and no pads before them."""
    other = copy.deepcopy(chat_sharer)
    other.chat_template = (
        "{% for turn in messages %}({{ turn.role }}: {{ turn.content }}){% endfor %}"
        "{% if add_generation_prompt %}(assistant: {% endif %}"
    )
    return other


@pytest.fixture
def two_sharers(tiny_model, chat_receiver, chat_sharer, models, open_gates) -> RosettaModel:
    """The models, and a second Sharer of another family and size."""
    receiver, first = models.receiver, models.sharers[0]
    second = tiny_model("qwen2", layers=2, kv_heads=2, head_dim=8, vocab=len(chat_sharer), seed=2)
    stacks = [
        FuserStack.between(each.config, receiver.config, hidden_dim=16, intermediate_dim=16) for each in (first, second)
    ]
    for each in (receiver, second):
        each.config.max_position_embeddings = 256
    return open_gates(RosettaModel.of_stacks(receiver, [first, second], stacks)).double()


@pytest.fixture(scope="module")
def rows_of_two(chat_receiver, chat_sharer) -> list[list[AlignedPrompt]]:
    """Each conversation aligned with two Sharers, whose templates differ from the Receiver's and from each other."""
    aligners = [
        ChatAligner(chat_receiver, chat_sharer, "span"),
        ChatAligner(chat_receiver, with_third_template(chat_sharer), "longest"),
    ]
    roles = ["user", "assistant"] * 3
    conversations = [
        [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
        for contents in CONVERSATIONS[:4]
    ]
    return [[aligner.align(each) for aligner in aligners] for each in conversations]


@pytest.mark.parametrize("mask", [None, 1, 2, 0])
def test_conversations_with_two_sharers_of_other_templates_are_written_in_a_batch_as_one_by_one(
    two_sharers, rows_of_two, mask
) -> None:
    assert all(first.sharer_ids != second.sharer_ids for first, second in rows_of_two)
    batch = collate_chats(rows_of_two, 0, [0, 0], mask=mask)
    masks = [int(index[0, 0, 0]) for index in batch.kv_cache_index]
    assert masks == [-1, 3 if mask is None else mask] * (len(masks) // 2) + [-1]
    tokens, logits = write(two_sharers, batch)
    for number, row in enumerate(rows_of_two):
        alone, alone_logits = write(two_sharers, collate_chats([row], 0, [0, 0], mask=mask))
        assert torch.equal(tokens[number], alone[0])
        torch.testing.assert_close(logits[number], alone_logits[0], atol=1e-5, rtol=0)


def test_each_sharer_of_a_conversation_changes_what_is_written_and_the_mask_says_which_does(
    two_sharers, rows_of_two
) -> None:
    logits = [write(two_sharers, collate_chats(rows_of_two, 0, [0, 0], mask=mask))[1] for mask in (0, 1, 2, 3)]
    for one, other in combinations(logits, 2):
        assert ((one - other)[:, 0, 2:].abs().amax(-1) > 1e-3).all()


def test_a_batch_of_a_mask_with_one_sharer_equals_the_batch_with_that_sharer_alone(rows_of_two) -> None:
    both = collate_chats(rows_of_two, 0, [0, 0], mask=1)
    only = collate_chats([first for first, _ in rows_of_two], 0, 0)
    assert torch.equal(both.sharer_inputs[0].token_map, only.sharer_input.token_map)
    assert all(torch.equal(*each) for each in zip(both.kv_cache_index, only.kv_cache_index, strict=True))


def test_several_sharers_pad_and_reencode_each_in_their_own_way(rows_of_two) -> None:
    encoders = [lambda ids: ids, lambda ids: ids + 1]
    batch = collate_chats(rows_of_two, 0, [5, 6], reencode=encoders)
    for given, pad, reencode in zip(batch.sharer_inputs, (5, 6), encoders, strict=True):
        assert (given.input_ids[given.attention_mask == 0] == pad).all() and (given.attention_mask == 0).any()
        assert given.reencode is reencode


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda rows: [rows[0], rows[1][:1]], {}, "the same number of Sharers"),
        (lambda rows: [[]], {}, "the same number of Sharers"),
        (lambda rows: [[rows[0][0], rows[1][1]]], {}, "tokens and sections in common; received 'conversation 0'"),
        (lambda rows: rows, {"mask": 4}, "a bit mask of the 2"),
        (lambda rows: rows, {"mask": -1}, "a bit mask of the 2"),
        (lambda rows: rows, {"sharer_pad": 0}, "one pad id for each of the 2"),
        (lambda rows: rows, {"reencode": [None]}, "one reencode for each of the 2"),
    ],
)
def test_a_batch_that_does_not_fit_its_sharers_is_refused(rows_of_two, change, options, message) -> None:
    with pytest.raises(RefusedError, match=message):
        collate_chats(change(rows_of_two), 0, **{"sharer_pad": [0, 0]} | options)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(RefusedError, match="at least one conversation"):
        collate_chats([], 0, 0)


def test_sections_of_a_chat_say_which_kind_they_are(chats) -> None:
    assert chats["span"][4].sections == (ChatSection(0, len(chats["span"][4].receiver_ids), "template"),)
