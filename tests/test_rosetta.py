"""The fused model: equal to the Receiver where it must be, right in batches, and clear about what it refuses."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from c2c import FuserStack, RefusedError, RosettaModel, create_c2c_projector, generate_kv_cache_index
from c2c.alignment.tokens import AlignedPrompt, batch_readings, left_pad
from c2c.evaluation.answering import ConfidenceMeter
from c2c.kv_cache import layers_of, positions_of
from c2c.types import HALVES

VOCAB, FUSED, TOTAL = 97, 8, 11
SMALL = {"hidden_dim": 16, "intermediate_dim": 16}


def open_gates(model: RosettaModel) -> RosettaModel:
    """Open every gate and make what the Fusers add large enough to change answers."""
    torch.manual_seed(5)
    for stack in model.stacks:
        for layer in stack.links:
            for half in HALVES:
                stack.fuser_of(layer).gate_logit(half).data.fill_(1.0)
                stack.fuser_of(layer).get_submodule(f"{half}_proj_out").weight.data.normal_(std=0.5)
    return model.eval()


@pytest.fixture
def closed(tiny_model) -> RosettaModel:
    torch.manual_seed(3)
    receiver, sharer = tiny_model("qwen3"), tiny_model("llama", layers=4, kv_heads=1, head_dim=12, seed=1)
    stack = FuserStack.between(sharer.config, receiver.config, **SMALL)
    return RosettaModel.of_stacks(receiver, [sharer], [stack]).eval()


@pytest.fixture
def fused(closed) -> RosettaModel:
    return open_gates(closed)


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(2, VOCAB, (2, TOTAL), generator=torch.Generator().manual_seed(0))


def index(fused_tokens: int = FUSED, total: int = TOTAL, mask: int = 1) -> list[torch.Tensor]:
    return [torch.tensor([value, 0]).expand(1, n, 2) for value, n in ((mask, fused_tokens), (-1, total - fused_tokens))]


def test_closed_gates_equal_the_receiver_in_the_same_two_sections_bit_for_bit(closed, ids) -> None:
    receiver, mask = closed.receiver, torch.ones_like(ids)
    cache = DynamicCache(config=receiver.config)
    receiver(input_ids=ids[:, :FUSED], attention_mask=mask[:, :FUSED], cache=cache, use_cache=True)
    alone = receiver(
        input_ids=ids[:, FUSED:], attention_mask=mask, position_ids=positions_of(mask)[:, FUSED:], cache=cache
    )
    output = closed(index(), ids)
    assert torch.equal(output.logits, alone.logits)
    for ours, theirs in zip(layers_of(output.past_key_values), layers_of(cache), strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


def test_closed_gates_generate_what_the_receiver_generates(closed, ids) -> None:
    alone = closed.receiver.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False)
    assert torch.equal(closed.generate(index(), ids, max_new_tokens=10), alone)


def test_open_gates_change_the_answer(fused, closed, ids) -> None:
    alone = fused.receiver.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False)
    assert not torch.equal(fused.generate(index(), ids, max_new_tokens=10), alone)


class Recorder(ConfidenceMeter):
    """Keeps the logits of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.logits: list[torch.Tensor] = []

    def __call__(self, input_ids, scores):
        self.logits.append(scores)
        return scores


def rows_of_different_length() -> list[list[int]]:
    draw = torch.Generator().manual_seed(2)
    return [torch.randint(2, VOCAB, (n,), generator=draw).tolist() for n in (5, 11, 8)]


def readings(rows: list[list[int]]) -> list[AlignedPrompt]:
    """A Sharer that reads other tokens, in another number, and one Receiver token that has none."""
    found = []
    for row in rows:
        theirs = [(token * 7) % 90 + 2 for token in row[:-1] for _ in range(2)]
        token_map = [2 * place + 1 for place in range(len(row) - 1)]
        token_map[0] = -1
        found.append(AlignedPrompt(row, theirs, token_map))
    return found


def run(model: RosettaModel, rows: list[list[int]], own_tokens: bool, **options):
    recorder = Recorder()
    batch, mask = left_pad(rows, pad=0)
    given = [batch_readings(readings(rows), pad=0)] if own_tokens else None
    written = model.generate(
        generate_kv_cache_index(batch.shape[1] - 1, 1), batch, mask, max_new_tokens=12, sharer_inputs=given,
        processors=[recorder], **options,
    )  # fmt: skip
    return written[:, batch.shape[1] :], torch.stack(recorder.logits, dim=1)


@pytest.mark.parametrize("own_tokens", [False, True])
def test_a_left_padded_batch_equals_one_by_one_token_for_token_and_logit_for_logit(fused, own_tokens) -> None:
    rows = rows_of_different_length()
    batched, logits = run(fused, rows, own_tokens)
    for number, row in enumerate(rows):
        single, single_logits = run(fused, [row], own_tokens)
        steps = single.shape[1]
        assert torch.equal(batched[number, :steps], single[0])
        torch.testing.assert_close(logits[number, :steps], single_logits[0], atol=1e-4, rtol=1e-4)


def test_sampling_in_a_batch_sees_the_logits_of_one_by_one_and_repeats_with_its_seed(fused) -> None:
    rows = rows_of_different_length()
    options = {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "top_k": 0}
    torch.manual_seed(0)
    batched, logits = run(fused, rows, True, **options)
    torch.manual_seed(0)
    again, _ = run(fused, rows, True, **options)
    assert torch.equal(batched, again)
    greedy, _ = run(fused, rows, True)
    assert not torch.equal(batched, greedy)
    for number, row in enumerate(rows):
        _, single_logits = run(fused, [row], True, **options)
        torch.testing.assert_close(logits[number, 0], single_logits[0, 0], atol=1e-4, rtol=1e-4)


def test_tokens_without_a_match_stay_the_receivers_bit_for_bit(fused) -> None:
    rows = rows_of_different_length()[1:2]
    batch, mask = left_pad(rows, pad=0)
    given = [batch_readings(readings(rows), pad=0)]
    sections = index(batch.shape[1] - 1, batch.shape[1])
    ours = layers_of(fused(sections, batch, mask, sharer_inputs=given).past_key_values)
    theirs = layers_of(fused(index(batch.shape[1] - 1, batch.shape[1], mask=-1), batch, mask).past_key_values)
    for (keys, _), (alone, _) in zip(ours, theirs, strict=True):
        assert torch.equal(keys[:, :, 0], alone[:, :, 0])
        assert not torch.equal(keys[:, :, 1], alone[:, :, 1])


def count_forwards(model, monkeypatch) -> list[int]:
    calls: list[int] = []
    original = model.base_model.forward
    monkeypatch.setattr(model.base_model, "forward", lambda *a, **k: calls.append(1) or original(*a, **k))
    return calls


def test_a_sharer_that_no_section_selects_does_not_run(fused, ids, monkeypatch) -> None:
    calls = count_forwards(fused.sharers[0], monkeypatch)
    fused(index(mask=-1), ids)
    fused(index(mask=0), ids)
    assert calls == []
    fused(index(), ids)
    assert len(calls) == 1


def test_a_section_that_is_fused_later_equals_reading_the_sharer_section_by_section(fused, ids) -> None:
    three = [torch.tensor([value, 0]).expand(1, n, 2) for value, n in ((-1, 3), (1, 5), (-1, 3))]
    output = fused(three, ids)
    whole = layers_of(output.past_key_values)
    alone = layers_of(fused(index(mask=-1), ids).past_key_values)
    assert torch.equal(whole[0][0][:, :, :3], alone[0][0][:, :, :3])
    assert not torch.equal(whole[0][0][:, :, 3:8], alone[0][0][:, :, 3:8])
    sharer = fused.sharers[0]
    cache = DynamicCache(config=sharer.config)
    for start, end in ((0, 3), (3, 8)):
        sharer(input_ids=ids[:, start:end], cache=cache, use_cache=True)
    own = layers_of(fused(index(3, mask=-1), ids).past_key_values)
    taken = layers_of(cache)[1]
    expected = fused.stacks[0].fuser_of(0)(tuple(t[:, :, 3:8] for t in taken), tuple(t[:, :, 3:8] for t in own[0]))
    torch.testing.assert_close(whole[0][0][:, :, 3:8], expected[0], atol=1e-5, rtol=1e-5)


def test_an_unmapped_receiver_layer_stays_as_it_is(tiny_model, ids) -> None:
    base, source = tiny_model("qwen3"), tiny_model("qwen2", seed=1)
    projector = create_c2c_projector(source.config, base.config, variant="fuse", **SMALL)
    model = RosettaModel([base, source], projector_list=[projector])
    model.set_projector_config(1, 2, 0, 1, 0)
    model.eval()
    ours, alone = (layers_of(model(index(mask=m), ids).past_key_values) for m in (1, -1))
    assert torch.equal(ours[0][0], alone[0][0])
    assert not torch.equal(ours[1][0][:, :, :FUSED], alone[1][0][:, :, :FUSED])


def test_parallel_fusion_adds_the_changes_and_sequential_fuses_what_was_left(tiny_model, ids) -> None:
    receiver, sharers = tiny_model("qwen3"), [tiny_model("qwen2", seed=1), tiny_model("llama", seed=2)]
    torch.manual_seed(0)
    stacks = [FuserStack.between(s.config, receiver.config, variant="fuse", **SMALL) for s in sharers]
    caches = {}
    for fusion in ("parallel", "sequential"):
        model = RosettaModel.of_stacks(receiver, sharers, stacks, fusion=fusion).eval()
        caches[fusion] = {m: layers_of(model(index(mask=m), ids).past_key_values)[0][0] for m in (-1, 1, 2, 3)}
    own, one, two, both = (caches["parallel"][m] for m in (-1, 1, 2, 3))
    torch.testing.assert_close(both[:, :, :FUSED], (one + two - own)[:, :, :FUSED])
    assert not torch.allclose(caches["sequential"][3], both)
    assert torch.equal(caches["sequential"][1], one)


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        ((2, 0, 0, 0, 0), "The Sharers are models 1 to 1"),
        ((1, 0, 1, 0, 0), "The target of a Fuser is the Receiver"),
        ((1, 9, 0, 0, 0), "The Sharer has layers 0 to 2"),
        ((1, 0, 0, 9, 0), "The Receiver has layers 0 to 2"),
        ((1, 0, 0, 0, 5), "projector_list holds Fusers 0 to 0"),
    ],
)
def test_a_layer_model_or_fuser_that_does_not_exist_is_refused(tiny_model, call, rule) -> None:
    base, source = tiny_model("qwen3"), tiny_model("qwen2", seed=1)
    model = RosettaModel([base, source], projector_list=[create_c2c_projector(source.config, base.config, **SMALL)])
    with pytest.raises(RefusedError, match=rule):
        model.set_projector_config(*call)


def test_tokens_that_the_sharer_does_not_know_are_refused_before_it_runs(tiny_model) -> None:
    base, source = tiny_model("qwen3"), tiny_model("qwen2", vocab=50, seed=1)
    stack = FuserStack.between(source.config, base.config, **SMALL)
    model = RosettaModel.of_stacks(base, [source], [stack]).eval()
    with pytest.raises(RefusedError, match="Sharer 1 knows tokens 0 to 49"):
        model(generate_kv_cache_index(2, 1), torch.tensor([[3, 60, 4]]))


def test_fusers_of_another_pair_an_unknown_fusion_and_no_model_are_refused(tiny_model, closed) -> None:
    other = tiny_model("qwen2", layers=5)
    with pytest.raises(RefusedError, match="must fit the sharer's cache"):
        RosettaModel.of_stacks(closed.receiver, [other], list(closed.stacks))
    with pytest.raises(RefusedError, match="Each Sharer needs one FuserStack"):
        RosettaModel.of_stacks(closed.receiver, [], list(closed.stacks))
    with pytest.raises(RefusedError, match="Did you mean 'parallel'"):
        RosettaModel([closed.receiver], fusion="paralel")
    with pytest.raises(RefusedError, match="needs a Receiver"):
        RosettaModel([])
