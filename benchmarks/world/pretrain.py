"""Pretrains one tiny model of the knowledge-gap world from random weights.

    python -m benchmarks.world.pretrain --world results/smoke/world/world.json --architecture qwen3
        --tokenizer word --knows all --output results/smoke/models/gap_sharer

writes a Hugging Face folder with model and tokenizer, and next to it the model manifest ``gap_sharer.json``. The same
command writes the same bytes: it runs in fp32 on one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.world import corpus, models, vocabulary
from benchmarks.world.corpus import Corpus
from benchmarks.world.sizes import HEADS
from benchmarks.world.world import World
from c2c.errors import RefusedError, check_choice, exit_code
from c2c.provenance import file_hash, stamp
from c2c.storage.files import sync, write_atomically
from c2c.storage.locks import locked
from c2c.storage.manifests import describe_source
from c2c.types import IGNORED

BETAS, GRADIENT_NORM = (0.9, 0.95), 1.0
"""Betas of AdamW, and the norm to which gradients are clipped. No result depends on them, so they are not settings."""
MOST = {"hidden": 2**16, "layers": 1000, "steps": 10**8, "batch_size": 10**6, "seed": 2**63 - 1}
"""Upper bounds of the settings; tiny models suffice for these worlds."""


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """The settings of a pretraining; the command's flags are its fields.

    Weight decay is strong, so that all names share the form in which facts are stored: a Fuser must read new ones.
    Embeddings learn `embedding_rate` times faster than the other weights: most are names, few of which are in a batch.

    Raises:
        RefusedError: If a name is unknown or a number is out of range.
    """

    architecture: str = "qwen3"
    tokenizer: str = "word"
    knows: str = "all"
    hidden: int = 96
    layers: int = 3
    heads: int = HEADS
    key_value_heads: int = HEADS
    steps: int = 300
    batch_size: int = 128
    learning_rate: float = 1.5e-3
    embedding_rate: float = 8.0
    warmup_ratio: float = 0.05
    weight_decay: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("--architecture", self.architecture, models.ARCHITECTURES)
        check_choice("--tokenizer", self.tokenizer, vocabulary.TOKENIZERS)
        check_choice("--knows", self.knows, corpus.KNOWLEDGE)
        for name in (
            "hidden",
            "layers",
            "heads",
            "key_value_heads",
            "steps",
            "batch_size",
            "learning_rate",
            "embedding_rate",
        ):
            if not 0 < getattr(self, name) < math.inf:
                raise RefusedError(f"{name} must be positive and finite", getattr(self, name), f"Change {name}")
        if not 0 <= self.warmup_ratio < 1:
            rule = "warmup_ratio must be at least 0 and less than 1"
            raise RefusedError(rule, self.warmup_ratio, "Change warmup_ratio")
        if not 0 <= self.weight_decay < math.inf:
            raise RefusedError("weight_decay must be at least 0 and finite", self.weight_decay, "Change weight_decay")
        for name, most in MOST.items():
            if not 0 <= getattr(self, name) <= most:
                raise RefusedError(f"{name} must be from 0 to {most}", getattr(self, name), f"Change {name}")
        models.check_heads(self.hidden, self.heads, self.key_value_heads)


def pretrain(world: World, settings: PretrainingConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, float]:
    """A trained model, its tokenizer, and the mean loss of its last steps."""
    torch.set_num_threads(1)  # sums in another order would be other bytes
    torch.manual_seed(settings.seed)
    tokenizer = vocabulary.build(settings.tokenizer, world)
    model = models.build(
        settings.architecture,
        tokenizer,
        hidden=settings.hidden,
        layers=settings.layers,
        heads=settings.heads,
        key_value_heads=settings.key_value_heads,
    )
    rows = corpus.build(
        world,
        tokenizer,
        knows=settings.knows,
        steps=settings.steps,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    losses = list(_steps(model, rows, settings))
    last = losses[-max(1, len(losses) // 20) :]
    return model.eval(), tokenizer, sum(last) / len(last)


def _steps(model: PreTrainedModel, rows: Corpus, settings: PretrainingConfig) -> Iterator[float]:
    optimizer = _optimizer(model, settings)
    schedule = LambdaLR(optimizer, lambda step: _rate(step, settings.steps, settings.warmup_ratio))
    model.train()
    progress = tqdm(rows, total=settings.steps, unit="step", mininterval=1.0)
    for number, (ids, labels) in enumerate(progress, start=1):
        loss = _loss(model, ids, labels)
        if not math.isfinite(loss.item()):
            received = f"{loss.item()} at step {number} of {settings.steps}"
            raise RefusedError("The loss must be a finite number at every step", received, "Lower --learning-rate")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        yield loss.item()


def _loss(model: PreTrainedModel, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the labels. Padding is at the right, so causal attention needs no mask."""
    positions = torch.arange(ids.shape[1])[None]
    states = model.base_model(input_ids=ids, position_ids=positions, use_cache=False)[0]
    is_label = labels != IGNORED
    return functional.cross_entropy(model.get_output_embeddings()(states[is_label]), labels[is_label])


def _optimizer(model: PreTrainedModel, settings: PretrainingConfig) -> AdamW:
    embeddings = list(
        {
            id(module.weight): module.weight for module in (model.get_input_embeddings(), model.get_output_embeddings())
        }.values()
    )
    embedding_ids = {id(weight) for weight in embeddings}
    weights = [weight for weight in model.parameters() if id(weight) not in embedding_ids]
    groups: list[dict[str, Any]] = [
        {"params": embeddings, "lr": settings.learning_rate * settings.embedding_rate},
        {"params": [weight for weight in weights if weight.dim() > 1]},
        {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=settings.learning_rate, betas=BETAS, weight_decay=settings.weight_decay, fused=True)


def _rate(step: int, steps: int, warmup_ratio: float) -> float:
    """Share of the learning rate: a linear rise, then a linear fall to zero."""
    warmup = max(1, int(steps * warmup_ratio))
    return min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, output: Path) -> None:
    """Write the Hugging Face folder `output`, and then the manifest ``<output>.json``."""
    Path(f"{output}.json").unlink(missing_ok=True)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    for path in [*output.iterdir(), output]:
        sync(path)  # the manifest must not outlive what it is of
    here = Path.cwd()
    absolute = output.resolve()
    manifest = describe_source(
        output,
        id=output.name,
        revision=file_hash(output / "model.safetensors"),
        path=str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute),
        source="knowledge_gap",
    )
    write_atomically(Path(f"{output}.json"), json.dumps(manifest, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """The command; a refusal is printed as one line and ends with exit code 2."""
    parser = argparse.ArgumentParser(description="Pretrain one model of the knowledge-gap world.")
    parser.add_argument("--world", type=Path, required=True, help="world.json")
    parser.add_argument("--output", type=Path, required=True, help="folder of the model; its manifest is beside it")
    for field in fields(PretrainingConfig):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    flags = parser.parse_args(arguments)
    return exit_code("benchmarks.world.pretrain", lambda: _run(flags))


def _run(flags: argparse.Namespace) -> None:
    options = dict(vars(flags))
    path, output = options.pop("world"), options.pop("output")
    settings = PretrainingConfig(**options)
    world = World.load(path)
    manifest = Path(f"{output}.json")
    with locked(output, "pretrain"), stamp(manifest, inputs=[path], settings=asdict(settings)) as notes:
        model, tokenizer, loss = pretrain(world, settings)
        save(model, tokenizer, output)
        notes |= {"final_loss": loss, "parameters": model.num_parameters()}


if __name__ == "__main__":
    sys.exit(main())
