"""Evaluation holds the models, the Fusers and little more than the caches of a batch."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from c2c.alignment.chat import ChatAligner
from c2c.cache import kv_cache
from c2c.evaluation.methods.method import Method
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.fused import FusedReader, SharerPrompts
from c2c.evaluation.readers.prompt_memory import PromptMemory
from c2c.fuser.stack import FuserStack
from c2c.fusion.prompt import read_sections
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from c2c.rosetta import RosettaModel
from tests.conftest import open_gates

LAYERS = 24
SHARE = 1.2
"""Of the caches of both models: the most that an evaluation may hold besides models and Fusers."""


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that were made inside and are alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._storages: set[int] = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        outputs = function(*arguments, **(options or {}))
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._add(storage, storage._cdata, storage.nbytes())
        return outputs

    def _add(self, storage, number: int, size: int) -> None:
        if number in self._storages or not size:
            return
        self._storages.add(number)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._remove, number, size)

    def _remove(self, number: int, size: int) -> None:
        self._storages.discard(number)
        self.bytes -= size


@contextmanager
def live_bytes() -> Iterator[LiveBytes]:
    """The bytes of tensors that are made inside."""
    with LiveBytes() as counter:
        yield counter


def test_the_counter_sees_what_is_alive_and_its_peak() -> None:
    with live_bytes() as counter:
        one = torch.zeros(1000)
        two = one + 1
        view = two[:10]
        del two
        assert (counter.bytes, len(view)) == (8000, 10)
        del view
        assert (counter.bytes, counter.peak) == (4000, 8000)


@pytest.fixture
def deep_pair(tiny_model, word_tokenizer) -> Pair:
    """Models of many narrow layers, whose caches are much larger than what one layer computes."""
    sizes = {"layers": LAYERS, "heads": 4, "kv_heads": 4, "head_dim": 16, "vocab": len(word_tokenizer)}
    receiver, sharer = tiny_model("qwen3", **sizes), tiny_model("llama", seed=1, **sizes)
    return Pair(LoadedModel("receiver", receiver, word_tokenizer), LoadedModel("sharer", sharer, word_tokenizer))


@pytest.mark.parametrize("remembers", [False, True])
@pytest.mark.parametrize("options", [(), (" a", " b")])
def test_peak_memory_is_little_more_than_the_caches(deep_pair, words, remembers, options) -> None:
    configs = (deep_pair.sharer.model.config, deep_pair.receiver.model.config)
    stack = FuserStack.between(*configs, hidden_dim=8, intermediate_dim=8)
    stack.force_gates(True)
    model = RosettaModel.of_stacks(deep_pair.receiver.model, [deep_pair.sharer.model], [stack])
    aligner = ChatAligner(deep_pair.receiver.tokenizer, deep_pair.sharer.tokenizer)
    memory = PromptMemory(deep_pair.sharer, limit=0) if remembers else None
    reader = FusedReader([SharerPrompts(deep_pair, model, aligner, memory=memory)])
    text = " ".join(words[place % len(words)] for place in range(100))
    questions = [
        Question("b", row, {"id": str(row)}, f"{words[row]} {text}", "", options=options, max_new_tokens=6)
        for row in range(8)
    ]
    method = Method("c2c", reader, 100_000, progress=False)
    tokens = 8 * (reader.length(questions[0]) + 6)
    with live_bytes() as counter:
        answers = method.answer(questions)
    assert all(answer.error is None for answer in answers)
    # Keys and values of both models: 2 tensors of 4 heads x 16 numbers of 4 bytes, in each layer
    caches = 2 * tokens * LAYERS * 2 * 4 * 16 * 4
    assert counter.peak <= SHARE * caches, f"{counter.peak / caches:.2f} of the caches"


@pytest.mark.parametrize("build", ["open_model", "two_sharers"])
def test_fusing_layer_by_layer_has_the_bits_of_fusing_all_layers_at_once(request, build, prompt_ids, sections) -> None:
    model = open_gates(request.getfixturevalue(build))
    tokens = prompt_ids.shape[1]
    index = sections((1, 4), (-1, 2), (1, tokens - 7), (-1, 1))
    mask = torch.ones_like(prompt_ids)
    mask[0, :2] = 0
    read = read_sections(index, prompt_ids, len(model.stacks))
    positions = kv_cache.positions_of(mask)
    with torch.no_grad():
        streamed = model.read_prompt(read, prompt_ids, mask, positions)
    with torch.enable_grad():
        at_once = model.read_prompt(read, prompt_ids, mask, positions)
    for one, other in zip(kv_cache.layers_of(streamed.cache), kv_cache.layers_of(at_once.cache), strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
