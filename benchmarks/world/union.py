"""The union task: several Sharers share no fact and know all together; one Receiver answers with all of their caches.

    python -m benchmarks.world.union --sharers 3 --seed 1 --output results/union/three.parquet

makes a world, pretrains the Sharers and the Receiver, trains the Fusers of all Sharers together on the training
entities, and asks for the facts of the test entities, which neither the Receiver nor a Fuser has seen. Each question is
answered with every Sharer's cache of it, with those of another question (``deranged``), with zeros, with zeros for one
Sharer, and by the Receiver alone. It writes a record a question and message, and next to it a table in Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.world import corpus, texts
from benchmarks.world.pretrain import PretrainingConfig, pretrain
from benchmarks.world.world import World, generate
from c2c.alignment.derangement import derange
from c2c.alignment.tokens import SharerInput
from c2c.cache import kv_cache
from c2c.errors import RefusedError, exit_code
from c2c.fuser.stack import FuserStack
from c2c.fusion.prompt import section_index
from c2c.provenance import stamp
from c2c.rosetta import RosettaModel
from c2c.stats import wilson_interval
from c2c.storage.files import write_atomically
from c2c.training.config import TrainingConfig
from c2c.training.group import GroupBatch, train_group
from c2c.types import IGNORED, KeyValue

SHARER, RECEIVER = {"hidden": 96, "steps": 400}, {"hidden": 64, "steps": 300, "knows": "quarter"}
"""Settings of the pretraining; the others are the defaults."""
TRAINING = TrainingConfig(hidden_dim=128, intermediate_dim=128, steps=500, batch_size=64, learning_rate=3e-3)
COLUMNS = ("message", "id", "gold", "prediction", "correct")


@dataclass(frozen=True)
class Questions:
    """Questions about the facts of a split, with what the frozen models hold of their prefixes.

    Args:
        names: Ids, ``entity.attribute``.
        golds: The answers, a word each.
        input_ids: ``(Q, N)`` int64; prompts are equally long, since each name is one token.
        answers: ``(Q,)`` int64, the token of each answer.
        receiver: T layers ``(Q, H, N - 1, D)``.
        sharers: S layers ``(Q, H, N - 1, D)`` of each Sharer.
    """

    names: list[str]
    golds: list[str]
    input_ids: Tensor
    answers: Tensor
    receiver: list[KeyValue]
    sharers: list[list[KeyValue]]


def knowledge(number: int, sharers: int) -> str:
    """The key of `corpus.KNOWLEDGE` under which a Sharer's share of the entities is; added if it is not there."""
    name = f"part_{number + 1}_of_{sharers}"
    corpus.KNOWLEDGE.setdefault(name, lambda world: world.part(number, sharers))
    corpus.MIXTURES.setdefault(name, corpus.SHARER_MIXTURE)
    return name


@torch.no_grad()
def read_questions(
    world: World, split: str, tokenizer: PreTrainedTokenizerBase, models: list[PreTrainedModel]
) -> Questions:
    """The questions of a split, read once by each model; the Receiver is the first of `models`."""
    facts = world.facts([split])
    input_ids = torch.tensor([tokenizer(texts.question(fact).prompt)["input_ids"] for fact in facts])
    answers = torch.tensor([tokenizer(fact.value)["input_ids"][0] for fact in facts])
    prefix = input_ids[:, :-1]
    mask = torch.ones_like(prefix)
    positions = kv_cache.positions_of(mask)
    states = [list(kv_cache.layers_of(kv_cache.prefill(model, prefix, mask, positions))) for model in models]
    names = [f"{fact.entity}.{fact.attribute}" for fact in facts]
    return Questions(names, [fact.value for fact in facts], input_ids, answers, states[0], states[1:])


def batch(
    questions: Questions, rows: Tensor, sources: Tensor | None = None, zeroed: tuple[int, ...] = ()
) -> GroupBatch:
    """Some questions, with the caches of the same or of other questions.

    Args:
        questions: All of a split.
        rows: ``(B,)`` int64.
        sources: ``(B,)`` int64, the questions whose caches the Sharers send; the same if None.
        zeroed: Numbers of Sharers that send zeros.
    """
    prompts, sources = questions.input_ids[rows], rows if sources is None else sources
    input_ids = torch.cat([prompts, questions.answers[rows, None]], dim=1)  # (B, N) and (B, 1) -> (B, N + 1)
    labels = torch.full_like(input_ids, IGNORED)
    labels[:, -1] = input_ids[:, -1]
    read = SharerInput.of_receiver(questions.input_ids[sources, :-1], torch.ones_like(prompts[:, :-1]))
    inputs = [
        replace(read, zeroed=True) if number in zeroed else replace(read, layers=_rows(layers, sources))
        for number, layers in enumerate(questions.sharers)
    ]
    width = prompts.shape[1] - 1
    index = [section_index(2 ** len(inputs) - 1, width), section_index(-1, 2)]
    return GroupBatch(index, input_ids, labels, inputs, prefix=_rows(questions.receiver, rows))


def _rows(layers: list[KeyValue], rows: Tensor) -> list[KeyValue]:
    return [(keys[rows], values[rows]) for keys, values in layers]


@torch.no_grad()
def answer(model: RosettaModel, questions: Questions, words: Callable[[int], str], seed: int) -> pd.DataFrame:
    """A record a question and message: COLUMNS."""
    rows = torch.arange(len(questions.names))
    others = torch.tensor(derange([1] * len(rows), questions.golds, seed))
    numbers = range(len(questions.sharers))
    batches = {
        "matched": batch(questions, rows),
        "deranged": batch(questions, rows, others),
        "zeroed": batch(questions, rows, zeroed=tuple(numbers)),
        **{f"zeroed_{number + 1}": batch(questions, rows, zeroed=(number,)) for number in numbers},
    }
    # The last prompt token predicts the answer: (B, 2, V) -> (B,)
    predictions = {
        name: model(*part[:2], sharer_inputs=part.sharer_inputs, prefix=part.prefix).logits[:, 0].argmax(-1)
        for name, part in batches.items()
    }
    with model.restricted(gates="closed"):
        part = batches["zeroed"]
        alone = model(*part[:2], sharer_inputs=part.sharer_inputs, prefix=part.prefix).logits[:, 0].argmax(-1)
    records = [
        (name, question, gold, words(token), words(token) == gold)
        for name, tokens in {"none": alone, **predictions}.items()
        for question, gold, token in zip(questions.names, questions.golds, tokens.tolist(), strict=True)
    ]
    return pd.DataFrame(records, columns=list(COLUMNS))


def run(sharers: int, world: World, seed: int, training: TrainingConfig = TRAINING, **sizes: Any) -> pd.DataFrame:
    """All of it: pretraining, training, answers.

    Args:
        sharers: How many share the facts.
        world: Whose facts they are.
        seed: Of all models and of the training.
        training: Of the Fusers.
        **sizes: Settings of every pretraining, such as ``steps``, in place of SHARER and RECEIVER.
    """
    settings = [RECEIVER, *({**SHARER, "knows": knowledge(number, sharers)} for number in range(sharers))]
    results = [pretrain(world, PretrainingConfig(**{**each, "seed": seed, **sizes})) for each in settings]
    models, tokenizer = [model.requires_grad_(False) for model, _, _ in results], results[0][1]
    questions = {split: read_questions(world, split, tokenizer, models) for split in ("train", "test")}
    # Fusers of all Sharers; each message is read for itself, and the changes are added up
    torch.manual_seed(seed)
    stacks = [FuserStack.between(model.config, models[0].config, **training.fuser()) for model in models[1:]]
    rosetta = RosettaModel.of_stacks(models[0], models[1:], stacks, fusion="parallel")
    order = _order(len(questions["train"].names), training.steps * training.batch_size, seed)
    rows = order.view(training.steps, training.batch_size)
    train_group(rosetta, lambda step: batch(questions["train"], rows[step - 1]), training)
    return answer(rosetta, questions["test"], lambda token: tokenizer.decode([token]).strip(), seed)


def _order(count: int, needed: int, seed: int) -> Tensor:
    """Rows in random order, each as often as the others to within one: ``(needed,)``."""
    generator = torch.Generator().manual_seed(seed)
    epochs = [torch.randperm(count, generator=generator) for _ in range(-(-needed // count))]
    return torch.cat(epochs)[:needed]


MESSAGES = {
    "none": "the Receiver alone",
    "matched": "the caches of all Sharers",
    "deranged": "their caches of another question",
    "zeroed": "zeros from all of them",
}


def table(records: pd.DataFrame) -> str:
    """Accuracy by message with Wilson's 95 % interval, in Markdown."""
    lines = ["| message | accuracy, % [95 %] | n |", "| --- | --- | --- |"]
    for message, rows in records.groupby("message", sort=False):
        right, total = int(rows["correct"].sum()), len(rows)
        low, high = (100 * bound for bound in wilson_interval(right, total))
        words = MESSAGES.get(str(message), f"zeros from Sharer {str(message).removeprefix('zeroed_')} alone")
        lines.append(f"| {words} | {100 * right / total:.1f} [{low:.1f}, {high:.1f}] | {total} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """The command; a refusal is printed as one line and ends with exit code 2."""
    parser = argparse.ArgumentParser(description="Answer with the caches of several Sharers that share no fact.")
    parser.add_argument("--sharers", type=int, default=3, help="how many share the facts")
    parser.add_argument("--entities", type=int, default=512, help="of the world, a multiple of 16")
    parser.add_argument("--seed", type=int, default=1, help="of world, models and training")
    parser.add_argument("--output", type=Path, required=True, help="records (.parquet); the table is next to it (.md)")
    options = parser.parse_args(arguments)
    return exit_code("benchmarks.world.union", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if not 2 <= options.sharers <= 8:
        raise RefusedError("--sharers must be from 2 to 8", options.sharers, "Change it")
    settings: Mapping[str, Any] = {name: getattr(options, name) for name in ("sharers", "entities", "seed")}
    with stamp(options.output, settings=settings | {"training": TRAINING.to_dict()}):
        records = run(options.sharers, generate(entities=options.entities, seed=options.seed), options.seed)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        records.to_parquet(options.output, index=False)
    write_atomically(options.output.with_suffix(".md"), table(records))
    print(table(records))


if __name__ == "__main__":
    sys.exit(main())
