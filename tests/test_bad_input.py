"""What is refused, and how: the rule, the value received and the remedy, before any model runs.

Bad files of Fusers, contracts and caches have tests of their own (test_checkpoint, test_released, test_contract,
test_sharer_cache), as have options of generation (test_generation) and the workflow's config (tests/workflow).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from c2c import (
    FuserConfig,
    FuserStack,
    RefusedError,
    RosettaModel,
    SharerInput,
    create_c2c_projector,
    generate_kv_cache_index,
)
from c2c.alignment.layers import align_layers
from c2c.training.config import TrainingConfig
from tests.conftest import SMALL, VOCABULARY, build_model, sections

N = 11
SILENCE = torch.zeros(2, 1, 10, 12)


@dataclass(frozen=True)
class Call:
    """Arguments of one call of a model with one Sharer."""

    index: Any
    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    given: list[SharerInput] | None = None

    def forward(self, model: RosettaModel) -> Any:
        return model(self.index, self.ids, self.mask, self.positions, self.labels, self.given)

    def generate(self, model: RosettaModel, **options: Any) -> Any:
        options = {"max_new_tokens": 2, **options}
        return model.generate(self.index, self.ids, self.mask, sharer_inputs=self.given, **options)


@pytest.fixture
def good(prompt_ids) -> Call:
    return Call(generate_kv_cache_index(N - 1, 1), prompt_ids, torch.ones_like(prompt_ids))


@pytest.fixture
def watched(open_model, monkeypatch) -> RosettaModel:
    """A model of which no part may run."""
    for model in open_model.model_list:
        monkeypatch.setattr(model.base_model, "forward", lambda **_: pytest.fail("a model ran"))
    return open_model


def at(tensor: torch.Tensor, place: tuple[int, ...], value: float) -> torch.Tensor:
    changed = tensor.clone()
    changed[place] = value
    return changed


def reading(good: Call, **changes: Any) -> list[SharerInput]:
    return [replace(SharerInput.of_receiver(good.ids[:, :-1], good.mask[:, :-1]), **changes)]


PROMPTS: dict[str, tuple[Callable[[Call], Call], str]] = {
    "ids without a batch": (lambda c: replace(c, ids=c.ids[0]), r"input_ids must be \(B, N\).*\(11,\)"),
    "a batch without rows": (lambda c: replace(c, ids=c.ids[:0], mask=c.mask[:0]), r"at least one row.*\(0, 11\)"),
    "ids that are no whole numbers": (lambda c: replace(c, ids=c.ids.float()), "whole numbers.*float32"),
    "an id beyond the vocabulary": (lambda c: replace(c, ids=at(c.ids, (1, 3), VOCABULARY)), "tokens 0 to 96.*97"),
    "a negative id": (lambda c: replace(c, ids=at(c.ids, (0, 0), -1)), "The Receiver must be given tokens.*-1"),
    "a shorter mask": (lambda c: replace(c, mask=c.mask[:, 1:]), r"attention_mask must be \(2, 11\).*\(2, 10\)"),
    "a mask of zeros": (lambda c: replace(c, mask=c.mask * 0), r"Each row of attention_mask.*row\(s\) \[0, 1\]"),
    "a row of zeros": (lambda c: replace(c, mask=at(c.mask, (1,), 0)), r"row\(s\) \[1\] of zeros.*Leave such"),
    "a mask that is a bias": (
        lambda c: replace(c, mask=at(c.mask.float(), (0, 0), -1e9)),
        "1 for tokens.*-1000000000.0",
    ),
    "positions of another shape": (
        lambda c: replace(c, positions=torch.arange(N)),
        r"position_ids must be \(2, 11\).*\(11,\)",
    ),
    "a negative position": (
        lambda c: replace(c, positions=at(torch.arange(N).expand(2, -1), (0, 0), -2)),
        "position_ids must be at least 0.*-2",
    ),
    "labels of another shape": (lambda c: replace(c, labels=c.ids[:, 1:]), r"labels must be \(2, 11\)"),
    "labels of the prefix alone": (
        lambda c: replace(c, labels=at(c.ids, (slice(None), slice(N - 1, None)), -100)),
        "at least one token after the first of the last section",
    ),
    "a label beyond the vocabulary": (
        lambda c: replace(c, index=generate_kv_cache_index(N - 2, 2), labels=at(c.ids, (0, N - 1), VOCABULARY)),
        "labels must be whole numbers.*from 0 to 96.*97",
    ),
    "labels of fractions": (lambda c: replace(c, labels=c.ids.float()), "labels must be whole numbers.*float32"),
    "a target that is not the Receiver": (
        lambda c: replace(c, index=[at(c.index[0], (0, 0, 1), 1), c.index[1]]),
        r"must name the Receiver, model 0.*\[0, 1\]",
    ),
    "a section past the prompt": (
        lambda c: replace(c, index=generate_kv_cache_index(N, 1)),
        "must add up to the 11 tokens",
    ),
    "sections that end too soon": (lambda c: replace(c, index=generate_kv_cache_index(N - 2, 1)), "must add up"),
    "no section": (lambda c: replace(c, index=[]), "must add up"),
    "a fused last section": (lambda c: replace(c, index=sections((1, N))), "must not be fused.*End with a section"),
    "a Sharer that is not there": (lambda c: replace(c, index=sections((2, N - 1), (-1, 1))), "bit mask of the 1 Shar"),
    "an index of fractions": (
        lambda c: replace(c, index=[each.float() for each in c.index]),
        "must hold whole numbers.*float32",
    ),
    "an index of another batch": (
        lambda c: replace(c, index=[each.expand(3, -1, -1) for each in c.index]),
        r"must be \(2 or 1, n, 2\)",
    ),
    "an index without its second column": (
        lambda c: replace(c, index=[each[..., :1] for each in c.index]),
        r"must be \(2 or 1, n, 2\).*\(1, 10, 1\)",
    ),
    "rows that disagree": (
        lambda c: replace(c, index=[at(c.index[0].repeat(2, 1, 1), (1, slice(None), 0), -1), c.index[1]]),
        "must select the same Sharers",
    ),
    "no reading for a Sharer": (
        lambda c: replace(c, given=[]),
        "must be a list with an input for each of the 1 Sharers.*0 inputs",
    ),
    "two readings for one Sharer": (lambda c: replace(c, given=reading(c) * 2), "2 inputs"),
    "a map that is too short": (
        lambda c: replace(c, given=reading(c, token_map=torch.zeros(2, 9, dtype=torch.long))),
        r"must cover the 10 fused tokens of 2 rows.*\(2, 9\)",
    ),
    "a map of fractions": (
        lambda c: replace(c, given=reading(c, token_map=torch.zeros(2, 10))),
        "token map must be whole numbers.*float32",
    ),
    "a reading without a batch": (
        lambda c: replace(c, given=reading(c, input_ids=c.ids[0], attention_mask=c.mask[0])),
        r"input_ids must be \(B, M\).*\(11,\)",
    ),
    "a reading of fractions": (
        lambda c: replace(c, given=reading(c, input_ids=c.ids[:, :-1].float())),
        "Sharer 1's input_ids must be whole numbers",
    ),
    "a silent reading without a token": (
        lambda c: replace(
            c,
            given=reading(
                c,
                input_ids=c.ids[:, :0],
                attention_mask=c.mask[:, :0],
                token_map=torch.full((2, 10), -1),
                zeroed=True,
            ),
        ),
        "at least one token",
    ),
    "a map past the Sharer's tokens": (
        lambda c: replace(c, given=reading(c, token_map=torch.full((2, 10), 10))),
        "must point at its 10 tokens, or be -1.*10",
    ),
    "a map below -1": (lambda c: replace(c, given=reading(c, token_map=torch.full((2, 10), -2))), "or be -1.*-2"),
    "a reading of fewer rows": (
        lambda c: replace(c, given=reading(c, input_ids=c.ids[:1, :-1], attention_mask=c.mask[:1, :-1])),
        "of 2 rows",
    ),
    "a reading whose mask has another shape": (
        lambda c: replace(c, given=reading(c, attention_mask=c.mask)),
        "input_ids and attention_mask must have one shape",
    ),
    "a reading of pads alone": (
        lambda c: replace(c, given=reading(c, attention_mask=c.mask[:, :-1] * 0)),
        "Each row of Sharer 1's attention_mask",
    ),
    "a reading beyond the Sharer's vocabulary": (
        lambda c: replace(c, given=reading(c, input_ids=c.ids[:, :-1] + 90)),
        "Sharer 1 must be given tokens 0 to 96.*Give it its own tokens",
    ),
    "a cache of too few layers": (
        lambda c: replace(c, given=reading(c, layers=[(torch.zeros(2, 1, 10, 12),) * 2] * 3)),
        "must have 4 layers.*3 layers",
    ),
    "a cache of other heads": (
        lambda c: replace(c, given=reading(c, layers=[(torch.zeros(2, 2, 10, 12),) * 2] * 4)),
        r"keys and values \(2, 1, 10, 12\).*\(2, 2, 10, 12\)",
    ),
    "a cache of integers": (
        lambda c: replace(c, given=reading(c, layers=[(torch.zeros(2, 1, 10, 12, dtype=torch.int8),) * 2] * 4)),
        "must hold floating-point numbers.*int8",
    ),
    "a cache of mixed precision": (
        lambda c: replace(
            c, given=reading(c, layers=[(torch.zeros(2, 1, 10, 12), torch.zeros(2, 1, 10, 12).half())] * 4)
        ),
        "of one precision.*float16, torch.float32",
    ),
    "no index": (lambda c: replace(c, index=None), "kv_cache_index must be a list of tensors.*NoneType"),
    "an index of nested lists": (
        lambda c: replace(c, index=[each.tolist() for each in c.index]),
        "kv_cache_index must be a list of tensors.*list",
    ),
    "an index that is one tensor": (lambda c: replace(c, index=c.index[0]), "must be a list of tensors.*Tensor"),
    "ids as a list": (lambda c: replace(c, ids=c.ids.tolist()), "input_ids must be one tensor.*list"),
    "ids as an array": (lambda c: replace(c, ids=c.ids.numpy()), "input_ids must be one tensor.*ndarray"),
    "ids of each model": (lambda c: replace(c, ids=[c.ids, c.ids]), "input_ids must be one tensor.*sharer_inputs"),
    "a mask as a list": (lambda c: replace(c, mask=c.mask.tolist()), "attention_mask must be a tensor.*list"),
    "labels as a list": (lambda c: replace(c, labels=c.ids.tolist()), "labels must be a tensor.*list"),
    "positions as a list": (lambda c: replace(c, positions=[0]), "position_ids must be a tensor.*list"),
    "positions of fractions": (
        lambda c: replace(c, positions=torch.arange(N).expand(2, -1).float()),
        "position_ids must be whole numbers.*float32",
    ),
    "positions that are a mask": (
        lambda c: replace(c, positions=torch.ones(2, N, dtype=torch.bool)),
        "position_ids must be whole numbers.*bool",
    ),
    "a reading that is not in a list": (lambda c: replace(c, given=reading(c)[0]), "received 'one SharerInput'"),
    "a reading of nothing": (lambda c: replace(c, given=[None]), "Sharer 1 reads must be a SharerInput.*NoneType"),
    "a reading of lists": (
        lambda c: replace(c, given=reading(c, token_map=[[0] * 10] * 2)),
        "token_map of Sharer 1 must be tensors.*list",
    ),
    "a map to a pad": (
        lambda c: replace(c, given=reading(c, attention_mask=at(c.mask[:, :-1], (1, slice(0, 3)), 0))),
        "must point at tokens, not at pads.*token 0 of row 1 is mapped to pad 0",
    ),
    "a cache with NaN": (
        lambda c: replace(c, given=reading(c, layers=[(torch.full((2, 1, 10, 12), torch.nan),) * 2] * 4)),
        "must be finite",
    ),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_that_cannot_be_is_refused_before_any_model_runs(name, good, watched) -> None:
    spoil, rule = PROMPTS[name]
    with pytest.raises(RefusedError, match=rule) as refusal:
        spoil(good).forward(watched)
    assert refusal.value.remedy


GENERATION: dict[str, tuple[Callable[[Call, RosettaModel], Any], str]] = {
    "right-padded rows": (
        lambda c, m: replace(c, mask=at(c.mask, (1, slice(8, None)), 0)).generate(m),
        "last column.*Pad at the left",
    ),
    "a prompt that is too long": (
        lambda c, m: c.generate(m, max_new_tokens=118),
        "must fit into the Receiver's 128 positions.*129",
    ),
    "no new token": (lambda c, m: c.generate(m, max_new_tokens=0), "max_new_tokens must be at least 1"),
    "a share of a token": (lambda c, m: c.generate(m, max_new_tokens=2.5), "max_new_tokens must be at least 1.*2.5"),
    "a stop string that is not in a list": (
        lambda c, m: c.generate(m, stop_strings="END", tokenizer=object()),
        "stop_strings must be a list of texts.*END",
    ),
    "a negative top_k": (lambda c, m: c.generate(m, do_sample=True, top_k=-5), "top_k must be a whole number.*-5"),
    "a temperature of None": (lambda c, m: c.generate(m, do_sample=True, temperature=None), "temperature.*None"),
    "a penalty that is no number": (
        lambda c, m: c.generate(m, frequency_penalty=float("nan")),
        "frequency_penalty must be a number.*nan",
    ),
    "a cutoff above 1": (lambda c, m: c.generate(m, do_sample=True, epsilon_cutoff=2.0), r"in \[0, 1\).*2.0"),
    "no number of new tokens": (lambda c, m: c.generate(m, max_new_tokens=None), "max_new_tokens must be.*None"),
    "new tokens that are a truth": (lambda c, m: c.generate(m, max_new_tokens=True), "max_new_tokens must be.*True"),
    "sampling that is a word": (lambda c, m: c.generate(m, do_sample="yes"), "do_sample must be True or False.*yes"),
    "an end that is a word": (lambda c, m: c.generate(m, eos_token_id="x"), "eos_token_id must hold ids.*'x'"),
    "an end beyond the vocabulary": (
        lambda c, m: c.generate(m, eos_token_id=[1, 1000]),
        "eos_token_id must hold ids of tokens from 0 to 96.*1000",
    ),
    "a negative end": (lambda c, m: c.generate(m, eos_token_id=-5), "eos_token_id must hold.*-5"),
    "a negative pad": (lambda c, m: c.generate(m, pad_token_id=-3), "pad_token_id must hold.*-3"),
    "a bad word beyond the vocabulary": (
        lambda c, m: c.generate(m, bad_words_ids=[[1000]]),
        "bad_words_ids must hold ids of tokens from 0 to 96.*1000",
    ),
    "bad words that are no lists": (lambda c, m: c.generate(m, bad_words_ids=[5]), "must be a list of lists.*5"),
    "more tokens than the most": (
        lambda c, m: c.generate(m, min_new_tokens=3),
        "min_new_tokens must be at most max_new_tokens = 2.*3",
    ),
    "no index to go on from": (lambda c, m: replace(c, index=None).generate(m), "kv_cache_index must be a list"),
    "a mask that is a list": (lambda c, m: replace(c, mask=[[1] * N] * 2).generate(m), "attention_mask must be a tens"),
    "an unknown form of cache": (lambda c, m: c.generate(m, cache="int2"), "'int2'.*Choose one of|'int2'.*int4"),
}


@pytest.mark.parametrize("name", GENERATION)
def test_an_answer_that_cannot_be_is_refused_before_any_model_runs(name, good, watched) -> None:
    ask, rule = GENERATION[name]
    with pytest.raises(RefusedError, match=rule):
        ask(good, watched)


SIZES = {"sharer_heads": 1, "sharer_head_dim": 8, "receiver_heads": 2, "receiver_head_dim": 8}


def stack_with_nan() -> RosettaModel:
    receiver, sharer = build_model("qwen3"), build_model("llama")
    stack = FuserStack.between(sharer.config, receiver.config, **SMALL)
    stack.fuser_of(0).key_in.weight.data[0, 0] = torch.nan
    return RosettaModel.of_stacks(receiver, [sharer], [stack])


SETTINGS: dict[str, tuple[Callable[[], Any], str]] = {
    "a Fuser of two layers": (lambda: FuserConfig(**SIZES, num_layers=2), "num_layers.*at least 3.*2"),
    "a width of nothing": (lambda: FuserConfig(**SIZES, hidden_dim=0), "hidden_dim.*at least 1"),
    "a fraction of a width": (lambda: FuserConfig(**SIZES, hidden_dim=8.5), "whole number"),
    "a dropout of one": (lambda: FuserConfig(**SIZES, dropout=1.0), r"dropout must be in \[0, 1\)"),
    "a rising temperature": (lambda: FuserConfig(**SIZES, final_temperature=2.0), "temperature must fall"),
    "an unknown noise": (lambda: FuserConfig(**SIZES, gate_noise="gauss"), "'gauss'.*gumbel, logistic"),
    "an unknown key of a config": (
        lambda: FuserConfig.from_dict({**SIZES, "hiden_dim": 8}),
        "Did you mean 'hidden_dim'",
    ),
    "an unknown layer alignment": (lambda: align_layers("nearst", 3, 4), "Did you mean 'nearest'"),
    "an unknown variant": (lambda: TrainingConfig(variant="fused"), "--variant.*'fused'"),
    "an unknown token alignment": (lambda: TrainingConfig(alignment="spans"), "Did you mean 'span'"),
    "an unknown response": (lambda: TrainingConfig(response="both"), "--response.*plain, fused"),
    "a learning rate of nothing": (lambda: TrainingConfig(learning_rate=0.0), "must be positive"),
    "a micro batch above the batch": (
        lambda: TrainingConfig(micro_batch_size=512),
        "must be at most batch_size, 256; received 512",
    ),
    "no steps": (lambda: TrainingConfig(steps=0), "steps must be a whole number of 1 to"),
    "a model without attention": (lambda: RosettaModel([]), "must be a Receiver"),
    "a Receiver that runs elsewhere": (lambda: RosettaModel([build_model("llama").config]), "must be a Receiver"),
    "a model that is in no list": (lambda: RosettaModel(build_model("llama")), "must be a list.*LlamaFor"),
    "a Sharer that is a name": (lambda: RosettaModel([build_model("llama"), "owner/model"]), "must be loaded"),
    "a Sharer that is in no list": (
        lambda: RosettaModel.of_stacks(build_model("llama"), build_model("qwen2"), []),
        "sharers must be a list.*Qwen2For",
    ),
    "Fusers with NaN": (lambda: stack_with_nan(), "Sharer 1's Fusers must be finite.*key_in.weight"),
    "layers that are one number": (
        lambda: RosettaModel([build_model("llama")] * 2).restricted(layers=1).__enter__(),
        "Layers must be a list.*1",
    ),
    "an unknown size of a Fuser": (
        lambda: create_c2c_projector(build_model("llama").config, build_model("llama").config, hidden=3),
        "Did you mean 'hidden_dim'",
    ),
    "a dropout that is a word": (lambda: FuserConfig(**SIZES, dropout="x"), "dropout must be a number.*'x'"),
    "a part that is a word": (
        lambda: FuserConfig.from_dict({**SIZES, "gated": "no"}),
        "gated must be True or False.*'no'",
    ),
    "a config without heads": (
        lambda: FuserConfig.from_dict({name: SIZES[name] for name in SIZES if name != "receiver_heads"}),
        "must hold the heads of both caches.*no receiver_heads",
    ),
    "an unknown fusion": (lambda: RosettaModel([build_model("llama")], fusion="both"), "'both'.*sequential, parallel"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_cannot_be_is_refused(name) -> None:
    make, rule = SETTINGS[name]
    with pytest.raises(RefusedError, match=rule):
        make()


@pytest.mark.parametrize(
    ("shape", "rule"),
    [
        ((2, 1, 5), r"The Sharer's keys and values must be \(B, 1, N, 12\)"),
        ((2, 2, 5, 12), r"received \(2, 2, 5, 12\)"),
        ((2, 1, 5, 8), r"received \(2, 1, 5, 8\)"),
        ((3, 1, 5, 12), "the same batch and as many tokens"),
        ((2, 1, 6, 12), "the same batch and as many tokens"),
    ],
)
def test_a_fuser_refuses_states_that_do_not_fit(shape, rule) -> None:
    receiver, sharer = build_model("qwen3"), build_model("llama", layers=4, kv_heads=1, head_dim=12)
    fuser = FuserStack.between(sharer.config, receiver.config, **SMALL).fuser_of(0)
    own = (torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8))
    with pytest.raises(RefusedError, match=rule):
        fuser((torch.randn(shape), torch.randn(shape)), own)


def test_the_good_call_of_these_tests_runs(good, open_model) -> None:
    assert torch.isfinite(good.forward(open_model).logits).all()
    assert good.generate(open_model).shape[0] == 2
    assert replace(good, given=reading(good)).generate(open_model).shape[0] == 2
