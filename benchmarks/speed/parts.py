"""What is timed: each part yields comparisons of ways to do the same work.

A part is a generator of `Comparison` that takes a `Bench`. A new part is one function here, with an entry in PARTS and
its sizes in `settings.yaml`.
"""

from __future__ import annotations

import copy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.speed import reference_order
from benchmarks.speed.clock import Comparison, Work
from benchmarks.speed.models import build_model
from c2c.alignment.tokens import AlignedPrompt
from c2c.cache import kv_cache
from c2c.cache.shape import cache_shape
from c2c.fuser.stack import FuserStack
from c2c.generation.decoding import continue_text
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from c2c.rosetta import RosettaModel
from c2c.training.batches import Batch, collate
from c2c.training.config import TrainingConfig
from c2c.training.examples import Example
from c2c.training.fusers import FuserLearner
from c2c.training.operations import ExampleOperations, example_operations
from c2c.training.stored_states import (
    STATES,
    Role,
    StoredStates,
    StoredText,
    add_cost,
    receiver_ids,
    text_key,
    write_index,
)
from c2c.training.together import SharedPasses
from c2c.types import KeyValue

SMALLEST_VOCABULARY = 700
"""Token ids are drawn below it, so that every shape knows them."""


@dataclass
class Bench:
    """Where and with which sizes is measured.

    Args:
        settings: Sizes of each part; see `settings.yaml`.
        device: Of models and Fusers.
        dtype: Of the models; Fusers are in float32, as they are trained.
    """

    settings: Mapping[str, Any]
    device: torch.device
    dtype: torch.dtype

    def model(self, role: str, layers: int | None = None) -> LoadedModel:
        """The Receiver or the Sharer, perhaps with another number of layers."""
        return build_model(self.settings[role], self.device, self.dtype, layers)

    def pair(self, layers: int | None = None) -> Pair:
        """Receiver and Sharer."""
        return Pair(self.model("receiver", layers), self.model("sharer", layers))

    def stack(self, pair: Pair) -> FuserStack:
        """Fusers with open gates: the time does not depend on what they have learned."""
        torch.manual_seed(0)
        width = self.settings["hidden_dim"]
        stack = FuserStack.between(
            pair.sharer.model.config, pair.receiver.model.config, hidden_dim=width, intermediate_dim=width
        )
        stack.force_gates(True)
        return stack.to(self.device)

    def rosetta(self, pair: Pair, sharers: int = 1) -> RosettaModel:
        """The pair with its Fusers in eval mode; with several Sharers each is the same model."""
        stacks = [self.stack(pair) for _ in range(sharers)]
        return RosettaModel.of_stacks(pair.receiver.model, [pair.sharer.model] * sharers, stacks).eval()

    def examples(self, count: int, prompt: int, response: int) -> list[Example]:
        """Examples of random tokens; the Sharer reads the Receiver's tokens."""
        draw = torch.Generator().manual_seed(0)
        rows = torch.randint(1, SMALLEST_VOCABULARY, (count, prompt + response), generator=draw).tolist()
        return [
            Example(AlignedPrompt(ids[:prompt], ids[: prompt - 1], list(range(prompt - 1))), ids[prompt:])
            for ids in rows
        ]

    def batch(self, pair: Pair, count: int, prompt: int, response: int = 1) -> Batch:
        """One batch of such examples on the device."""
        batch = collate(self.examples(count, prompt, response), pair)
        return Batch(
            batch.kv_cache_index,
            batch.input_ids.to(self.device),
            batch.attention_mask.to(self.device),
            batch.labels.to(self.device),
            batch.sharer_input.to(self.device),
            batch.supervised,
        )


def fusion(bench: Bench) -> Iterator[Comparison]:
    """The Fusers of all layers against their matrix products alone."""
    sizes = bench.settings["fusion"]
    pair = bench.pair()
    stack = bench.stack(pair).eval()
    together = copy.deepcopy(stack)
    stack.grouping, together.grouping = "loop", "grouped"
    shapes = [cache_shape(model.model.config) for model in (pair.sharer, pair.receiver)]
    linear = [module for module in stack.modules() if isinstance(module, nn.Linear)]
    for tokens in sizes["tokens"]:
        states = [
            [
                (torch.randn(1, shape.heads, tokens, shape.head_dim, device=bench.device),) * 2
                for _ in range(shape.layers)
            ]
            for shape in shapes
        ]
        inputs = [torch.randn(tokens, layer.in_features, device=bench.device) for layer in linear]
        ways: dict[str, Work] = {
            "matmuls": lambda inputs=inputs: _multiply(linear, inputs),
            "fusers one by one": lambda states=states: _fuse(stack, *states),
            "fusers together": lambda states=states: _fuse(together, *states),
        }
        yield Comparison("fusion", {"tokens": tokens}, ways, "matmuls", {"layers": len(stack.links)})


@torch.no_grad()
def _multiply(layers: Sequence[nn.Linear], inputs: Sequence[Tensor]) -> None:
    for layer, states in zip(layers, inputs, strict=True):
        states @ layer.weight.t()


@torch.no_grad()
def _fuse(stack: FuserStack, sharer: list[KeyValue], receiver: list[KeyValue]) -> list[KeyValue]:
    return stack(sharer, receiver)


def prefill(bench: Bench) -> Iterator[Comparison]:
    """A prompt to its first token: ours, the reference's order of work, and the passes that cannot be spared."""
    pair = bench.pair()
    model = bench.rosetta(pair)
    for tokens in bench.settings["prefill"]["tokens"]:
        batch = bench.batch(pair, 1, tokens)
        yield Comparison("prefill", {"tokens": tokens}, _prefill_ways(model, batch), "c2c", {"tokens_read": tokens})


def _prefill_ways(model: RosettaModel, batch: Batch) -> dict[str, Work]:
    start = batch.kv_cache_index[0].shape[1]
    linear = [module for module in model.stacks.modules() if isinstance(module, nn.Linear)]
    inputs = [torch.randn(start, layer.in_features, device=batch.input_ids.device) for layer in linear]

    @torch.no_grad()
    def floor() -> None:
        # Both models read the prefix without heads; the Fusers' products; the Receiver's last token.
        ids, mask = batch.input_ids[:, :start], batch.attention_mask[:, :start]
        positions = kv_cache.positions_of(mask)
        cache = kv_cache.prefill(model.receiver, ids, mask, positions)
        kv_cache.prefill(model.sharers[0], ids, mask, positions)
        _multiply(linear, inputs)
        rest = {"input_ids": batch.input_ids[:, start : start + 1], "cache": cache, "use_cache": True}
        model.receiver(**rest, attention_mask=batch.attention_mask[:, : start + 1])

    return {
        "floor": floor,
        "c2c": lambda: fused_logits(model, batch),
        "reference order": lambda: reference_order.first_token(model, batch),
    }


@torch.no_grad()
def fused_logits(model: RosettaModel, batch: Batch) -> Tensor:
    """Logits of the last section after a fused prefix."""
    logits: Tensor = model(
        batch.kv_cache_index, batch.input_ids, batch.attention_mask, sharer_inputs=[batch.sharer_input]
    ).logits
    return logits


def training(bench: Bench) -> Iterator[Comparison]:
    """One optimiser step: from stored states, live, and in the reference's order of work without and with anomaly
    detection, which it ships with. Then a step of several Fusers of the pair: on the same batches, and each alone.
    """
    sizes = bench.settings["training"]
    pair = bench.pair()
    width, count = bench.settings["hidden_dim"], sizes["batch"]
    examples = bench.examples(count, sizes["prompt"], sizes["response"])
    config = TrainingConfig(steps=10_000, batch_size=count, hidden_dim=width, intermediate_dim=width)
    batch = bench.batch(pair, count, sizes["prompt"], sizes["response"])
    with tempfile.TemporaryDirectory() as folder:
        learner = FuserLearner(pair, config, examples, examples, Path(folder))
        states = store_states(pair, examples, Path(folder))
        from_states = FuserLearner(pair, config, examples, examples, Path(folder), states)
        yield _training_steps(learner, from_states, batch, sizes)
        del from_states, states
        seeds = range(1, sizes["fusers"])
        others = [FuserLearner(pair, replace(config, seed=seed), examples, examples, Path(folder)) for seed in seeds]
        yield _steps_together(pair, [learner, *others], sizes)


def _training_steps(
    learner: FuserLearner, from_states: FuserLearner, batch: Batch, sizes: Mapping[str, int]
) -> Comparison:
    count = sizes["batch"]

    def reference_step() -> None:
        learner.model.train()
        reference_order.training_loss(learner.model, batch).backward()
        torch.nn.utils.clip_grad_norm_(learner.module.parameters(), learner.config.max_gradient_norm)
        learner.optimizer.step()
        learner.optimizer.zero_grad()

    def as_shipped() -> None:
        with torch.autograd.set_detect_anomaly(True):
            reference_step()

    ways: dict[str, Work] = {
        "stored states": lambda: from_states._step(1, list(range(count))),
        "live": lambda: learner._step(1, list(range(count))),
        "reference order": reference_step,
        "reference as shipped": as_shipped,
    }
    setting = {"batch": count, "tokens": sizes["prompt"] + sizes["response"]}
    example = _example_operations(learner, sizes)
    operations = {way: count * (example.learning if way == "stored states" else example.total) for way in ways}
    return Comparison("training", setting, ways, "stored states", {"examples": count}, operations)


def _steps_together(pair: Pair, learners: Sequence[FuserLearner], sizes: Mapping[str, int]) -> Comparison:
    count, passes = sizes["batch"], SharedPasses(pair)

    def step_all(states: SharedPasses | None) -> None:
        for learner in learners:
            learner.states = states
            learner._step(1, list(range(count)))
        passes.forget()

    ways: dict[str, Work] = {"together": lambda: step_all(passes), "each alone": lambda: step_all(None)}
    example = _example_operations(learners[0], sizes)
    fusers = len(learners)
    operations = {
        "together": count * (example.reading + fusers * example.learning),
        "each alone": count * fusers * example.total,
    }
    setting = {"batch": count, "tokens": sizes["prompt"] + sizes["response"], "fusers": fusers}
    # Times are those of all Fusers; the ratio is the same for one of them.
    return Comparison("training", setting, ways, "together", {"examples": count * fusers}, operations)


def _example_operations(learner: FuserLearner, sizes: Mapping[str, int]) -> ExampleOperations:
    weights = (
        sum(weight.numel() for weight in module.parameters())
        for module in (learner.pair.receiver.model, learner.pair.sharer.model, learner.module)
    )
    return example_operations(sizes["prompt"], sizes["response"], *weights)


@torch.no_grad()
def store_states(pair: Pair, examples: Sequence[Example], folder: Path) -> StoredStates:
    """States of both models for examples of one length, in the layout of ``c2c store-states``."""
    texts: dict[Role, dict[str, StoredText]] = {}
    roles: dict[Role, tuple[LoadedModel, list[list[int]]]] = {
        "receiver": (pair.receiver, [receiver_ids(example.prompt) for example in examples]),
        "sharer": (pair.sharer, [example.prompt.sharer_ids for example in examples]),
    }
    for role, (loaded, rows) in roles.items():
        begin = time.perf_counter()
        ids = torch.tensor(rows, device=loaded.model.device)
        mask = torch.ones_like(ids)
        layers = kv_cache.layers_of(kv_cache.prefill(loaded.model, ids, mask, kv_cache.positions_of(mask)))
        # (L, 2, B, H, N, D) -> (B, N, L, 2, H, D) -> (B * N, L, 2, H, D)
        states = torch.stack([torch.stack(layer) for layer in layers]).permute(2, 4, 0, 1, 3, 5).flatten(0, 1)
        shard, tokens = f"{role}.safetensors", ids.shape[1]
        save_file({STATES: states.cpu().contiguous()}, folder / shard)
        add_cost(folder, shard, time.perf_counter() - begin, int(states.is_cuda))
        texts[role] = {
            text_key(row): StoredText(shard, number * tokens, list(range(tokens))) for number, row in enumerate(rows)
        }
    shapes = {role: list(cache_shape(loaded.model.config)) for role, (loaded, _) in roles.items()}
    about = {"shapes": shapes, "sharer_layers": list(range(shapes["sharer"][0])), "sharer": {}}
    write_index(folder, texts, about)
    return StoredStates(folder)


def evaluation(bench: Bench) -> Iterator[Comparison]:
    """Free answers of several questions: in one batch, one by one, and in the reference's order of work."""
    sizes = bench.settings["evaluation"]
    pair = bench.pair()
    model = bench.rosetta(pair)
    new, lengths = sizes["new_tokens"], sizes["prompts"]
    examples = [bench.examples(len(lengths), length, 1)[row] for row, length in enumerate(lengths)]
    whole = _on(bench.device, collate(examples, pair))
    single = [_on(bench.device, collate([example], pair)) for example in examples]
    ways: dict[str, Work] = {
        "batch": lambda: write(model, whole, new),
        "one by one": lambda: [write(model, batch, new) for batch in single],
        "reference order": lambda: [reference_order.write_answer(model, _prompt(batch), new) for batch in single],
    }
    yield Comparison("evaluation", {"questions": len(lengths), "new_tokens": new}, ways, "batch")


def _on(device: torch.device, batch: Batch) -> Batch:
    tensors = (batch.input_ids, batch.attention_mask, batch.labels)
    moved = (tensor.to(device) for tensor in tensors)
    return Batch(batch.kv_cache_index, *moved, batch.sharer_input.to(device), batch.supervised)


def _prompt(batch: Batch) -> Batch:
    """The batch without its response of one token."""
    index = [batch.kv_cache_index[0], batch.kv_cache_index[-1][:, :1]]
    tensors = (batch.input_ids[:, :-1], batch.attention_mask[:, :-1], batch.labels[:, :-1])
    return Batch(index, *tensors, batch.sharer_input, 0)


def write(model: RosettaModel, batch: Batch, new_tokens: int) -> Tensor:
    """Greedy answers of a batch from the fused prompt, ``(B, N + new)``."""
    prompt = _prompt(batch)
    return model.generate(
        prompt.kv_cache_index,
        prompt.input_ids,
        prompt.attention_mask,
        max_new_tokens=new_tokens,
        sharer_inputs=[prompt.sharer_input],
    )


def messages(bench: Bench) -> Iterator[Comparison]:
    """Cache against text: the Sharer's reading is fused, or it writes a message that the Receiver reads too."""
    sizes = bench.settings["messages"]
    pair = bench.pair()
    model = bench.rosetta(pair)
    prompt, new = sizes["prompt"], sizes["new_tokens"]
    batch = bench.batch(pair, 1, prompt)
    ids, mask = batch.input_ids[:, :prompt], batch.attention_mask[:, :prompt]

    def text(length: int) -> Tensor:
        # Receiver and Sharer read ids below the smallest vocabulary alike; a message is cut to it.
        written = continue_text(pair.sharer.model, ids, mask, max_new_tokens=length)[:, prompt:]
        both = torch.cat([written % SMALLEST_VOCABULARY, ids], dim=1)
        return continue_text(pair.receiver.model, both, torch.ones_like(both), max_new_tokens=new)

    for length in sizes["tokens"]:
        ways: dict[str, Work] = {
            "c2c": lambda: write(model, batch, new),
            "t2t": lambda length=length: text(length),
        }
        yield Comparison("messages", {"message": length}, ways, "c2c")


def growth(bench: Bench) -> Iterator[Comparison]:
    """The fused prefill as prompt, Sharers, layers and batch grow; `report.exponents` fits the power of each."""
    sizes = bench.settings["growth"]
    pair = bench.pair(sizes["layers"][-1])
    model = bench.rosetta(pair)

    def comparison(axis: str, prompts: Mapping[int, Work]) -> Comparison:
        ways = {str(size): work for size, work in prompts.items()}
        return Comparison("growth", {"axis": axis}, ways, next(iter(ways)))

    def prefill_of(model: RosettaModel, batch: Batch) -> Work:
        return lambda: fused_logits(model, batch)

    tokens = sizes["prompt"][0]
    yield comparison("prompt", {length: prefill_of(model, bench.batch(pair, 1, length)) for length in sizes["prompt"]})
    yield comparison("batch", {count: prefill_of(model, bench.batch(pair, count, tokens)) for count in sizes["batch"]})
    by_sharers = {}
    for count in sizes["sharers"]:
        several, batch = bench.rosetta(pair, count), bench.batch(pair, 1, tokens)
        index = [batch.kv_cache_index[0].clone(), batch.kv_cache_index[-1]]
        index[0][..., 0] = (1 << count) - 1
        by_sharers[count] = _several(several, index, batch, count)
    yield comparison("sharers", by_sharers)
    by_layers = {}
    for layers in sizes["layers"]:
        short = bench.pair(layers)
        by_layers[layers] = prefill_of(bench.rosetta(short), bench.batch(short, 1, tokens))
    yield comparison("layers", by_layers)


def _several(model: RosettaModel, index: list[Tensor], batch: Batch, sharers: int) -> Work:
    @torch.no_grad()
    def work() -> object:
        return model(index, batch.input_ids, batch.attention_mask, sharer_inputs=[batch.sharer_input] * sharers)

    return work


COMMANDS: Mapping[str, Sequence[str]] = {
    "python": ("-c", "pass"),
    "import torch": ("-c", "import torch"),
    "import transformers' Auto classes": ("-c", "from transformers import AutoModelForCausalLM"),
    "c2c --help": ("-m", "c2c.cli", "--help"),
    "c2c claims show table4": ("-m", "c2c.cli", "claims", "show", "table4"),
    "c2c generate --help": ("-m", "c2c.cli", "generate", "--help"),
    "import c2c": ("-c", "import c2c"),
}


def start_up(bench: Bench) -> Iterator[Comparison]:
    """Commands that do next to nothing, each in a process of its own."""

    def command(arguments: Sequence[str]) -> Work:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    ways = {name: command(arguments) for name, arguments in COMMANDS.items()}
    yield Comparison("start-up", {}, ways, "python")


PARTS: Mapping[str, Callable[[Bench], Iterator[Comparison]]] = {
    "fusion": fusion,
    "prefill": prefill,
    "training": training,
    "evaluation": evaluation,
    "messages": messages,
    "growth": growth,
    "start-up": start_up,
}
