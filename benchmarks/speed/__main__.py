"""Time the parts of training and answering: ``python -m benchmarks.speed --output speed.json``.

Machines differ and are noisy: compare two versions of the code by the ratio of their numbers from one sitting.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from c2c.alignment.tokens import AlignedPrompt
from c2c.errors import RefusedError, exit_code
from c2c.generation.decoding import continue_text
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from c2c.provenance import stamp
from c2c.storage.files import write_atomically
from c2c.training.batch_order import WINDOW, batch_order, padding
from c2c.training.config import TrainingConfig
from c2c.training.examples import Example
from c2c.training.fusers import FuserLearner

PROMPT_TOKENS, RESPONSE_TOKENS, VOCABULARY = 12, 2, 700
ROUNDS = 5
EXAMPLES = 256
"""That a batch is made of."""


def build_model(hidden: int, seed: int) -> LoadedModel:
    """A random three-layer model of the smoke scale's size."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden // 4,
        max_position_embeddings=512,
        pad_token_id=0,
        eos_token_id=None,
        bos_token_id=None,
    )
    model = Qwen3ForCausalLM(config).eval().requires_grad_(False)
    tokenizer: Any = SimpleNamespace(pad_token_id=0)  # all that the measured readers ask of one
    return LoadedModel(f"random-{hidden}", model, tokenizer)


def build_trainer(batch_size: int, folder: Path) -> FuserLearner:
    """A training run on random tokens."""
    pair = Pair(build_model(64, 0), build_model(96, 1))
    draw = torch.Generator().manual_seed(0)
    examples = []
    for _ in range(EXAMPLES):
        ids = torch.randint(1, VOCABULARY, (PROMPT_TOKENS + RESPONSE_TOKENS,), generator=draw).tolist()
        prompt = AlignedPrompt(ids[:PROMPT_TOKENS], ids[: PROMPT_TOKENS - 1], list(range(PROMPT_TOKENS - 1)))
        examples.append(Example(prompt, ids[PROMPT_TOKENS:]))
    config = TrainingConfig(steps=10_000, batch_size=batch_size, hidden_dim=128, intermediate_dim=128)
    return FuserLearner(pair, config, examples, examples[:batch_size], folder)


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median over rounds of the mean time of one call, in milliseconds, after one call that does not count."""
    work()
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        rounds.append((time.perf_counter() - started) / repeats * 1000)
    return round(statistics.median(rounds), 3)


def measure(batch_size: int, repeats: int) -> dict[str, float]:
    """Milliseconds of each part for one batch."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(batch_size, Path(folder))
    # The work of a training step, whole and in parts, on one batch.
    batch = trainer.collate(trainer.training[:batch_size])
    model = trainer.model
    width = PROMPT_TOKENS

    @torch.no_grad()
    def fused_prefill() -> object:
        model.eval()
        return model(
            batch.kv_cache_index, batch.input_ids, batch.attention_mask, sharer_inputs=[batch.sharer_input]
        ).logits

    def decode() -> object:
        prompt, mask = batch.input_ids[:, :width], batch.attention_mask[:, :width]
        return continue_text(model.receiver, prompt, mask, max_new_tokens=8)

    def whole_logits() -> object:
        model.train()
        inputs = (batch.kv_cache_index, batch.input_ids, batch.attention_mask, None, batch.labels)
        return model(*inputs, sharer_inputs=[batch.sharer_input]).loss.backward()

    def response_logits() -> object:
        model.train()
        return trainer._loss(batch).backward()

    indices = list(range(batch_size))
    return {
        "train_step_ms": median_ms(lambda: trainer._step(1, indices), repeats),
        "loss_whole_ms": median_ms(whole_logits, repeats),
        "loss_response_ms": median_ms(response_logits, repeats),
        "collate_ms": median_ms(lambda: trainer.collate(trainer.training[:batch_size]), repeats),
        "sharer_prefill_ms": median_ms(lambda: model.read_sharer(0, batch.sharer_input), repeats),
        "fused_forward_ms": median_ms(fused_prefill, repeats),
        "decode_8_tokens_ms": median_ms(decode, max(repeats // 4, 1)),
    }


def pads(batch_size: int) -> dict[str, float]:
    """Share of pads of an epoch whose prompts have 20 to 120 tokens and whose responses 1 to 40, as many are short."""
    draw = random.Random(0)
    lengths = [(draw.randint(20, 120), round(40 ** draw.random())) for _ in range(4096)]
    steps = len(lengths) // batch_size
    epochs = {"shuffled": 1, "similar_length": WINDOW}
    return {
        f"pads_{name}": round(
            padding(list(islice(batch_order(lengths, batch_size, 0, window=window), steps)), lengths), 4
        )
        for name, window in epochs.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write a JSON file if asked to; a refusal is one line and exit code 2."""
    parser = argparse.ArgumentParser(description="Time training and answering on tiny models.")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=8, help="calls a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args(arguments)
    return exit_code("benchmarks.speed", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    for name in ("batch_size", "repeats", "threads"):
        if not 1 <= getattr(options, name) <= EXAMPLES:
            flag = f"--{name.replace('_', '-')}"
            raise RefusedError(f"{flag} must be from 1 to {EXAMPLES}", getattr(options, name), f"Correct {flag}")
    torch.set_num_threads(options.threads)
    settings = {"batch_size": options.batch_size, "repeats": options.repeats, "threads": options.threads}
    result = {**settings, **pads(options.batch_size), **measure(options.batch_size, options.repeats)}
    text = json.dumps(result, indent=1)
    print(text)
    if options.output:
        with stamp(options.output, settings=settings):
            write_atomically(options.output, text + "\n")


if __name__ == "__main__":
    sys.exit(main())
