"""Two tiny models that are trained in half a minute to read a fact and repeat it: an experiment without a download."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.nn import functional
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from c2c.storage.folders import exchange
from c2c.testbed.tasks.bank import bank
from c2c.testbed.tasks.texts import QUESTION
from c2c.testbed.tasks.values import TEMPLATE_WORDS

NAMES = ("receiver", "sharer")
STEPS, BATCH, RATE = 300, 48, 3e-3
WORD_NUMBERS, WORD_SEED = 32, 7
"""Of the vectors of words that both models see through projections of their own."""
FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")


def models_of(folder: Path) -> tuple[str, str]:
    """Where the Receiver and the Sharer of the example are, or will be."""
    return str(folder / NAMES[0]), str(folder / NAMES[1])


def example_pair(folder: Path) -> dict[str, Path]:
    """The folders of a Receiver and a Sharer of another architecture and depth; trained if they are not there."""
    places = {name: folder / name for name in NAMES}
    if all((place / name).is_file() for place in places.values() for name in FILES):
        return places
    tokenizer = build_tokenizer()
    for seed, name in enumerate(NAMES):
        print(f"Training the example's {name} ({STEPS} steps)", file=sys.stderr)
        model = train(build_model(name, len(tokenizer), seed), tokenizer, seed)
        with exchange(places[name], FILES) as unfinished:
            model.save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)
    return places


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word of the bank and of the sentences; names of persons are unknown words."""
    attributes = bank()
    words = [word for values in attributes.values() for word in values]
    words += [word for attribute in attributes for word in attribute.split()]
    marks = ["<pad>", "<eos>", "<unk>", ".", ":", "?", "'", "s", "Question", "Answer", *"0123456789"]
    entries = dict.fromkeys([*marks, *TEMPLATE_WORDS.split(), *words])
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(entries)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(True)])
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def build_model(name: str, vocabulary: int, seed: int) -> PreTrainedModel:
    """A model with random weights: a Llama of two layers as Receiver, a Qwen3 of three as Sharer.

    Its words are projections of vectors that both models share, and stay so: models that have learned one language see
    its words alike, which two models that are trained for half a minute would not.
    """
    words = torch.randn(vocabulary, WORD_NUMBERS, generator=torch.Generator().manual_seed(WORD_SEED))
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": None,
    }
    model: PreTrainedModel
    if name == "receiver":
        model = LlamaForCausalLM(LlamaConfig(**shape, num_hidden_layers=2, num_key_value_heads=2))
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**shape, num_hidden_layers=3, num_key_value_heads=1))
    embedding = next(model.get_input_embeddings().parameters()).requires_grad_(False)
    embedding.copy_(words @ torch.randn(WORD_NUMBERS, shape["hidden_size"]) / WORD_NUMBERS**0.5)
    return model


def train(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
    """Train a model to answer questions about the fact before them; the loss is of the answer alone."""
    chance, attributes = random.Random(f"example {seed}"), bank()
    optimiser = torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad], RATE, weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        texts, answers = zip(*(fact(chance, attributes) for _ in range(BATCH)), strict=True)
        batch = tokenizer(list(texts), return_tensors="pt", padding=True, padding_side="left")
        targets = torch.tensor(tokenizer.convert_tokens_to_ids(list(answers)))
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, -1]
        functional.cross_entropy(logits, targets).backward()
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
    return model.eval()


def fact(chance: random.Random, attributes: dict[str, list[str]]) -> tuple[str, str]:
    """A text with a question about it, and the answer."""
    attribute = chance.choice(sorted(attributes))
    # Any word of the bank may be the value, so that the model repeats what it reads and learns nothing by heart.
    value = chance.choice(attributes[chance.choice(sorted(attributes))])
    topic = f"Ada Lovelace's {attribute}"
    return f"{topic} is {value}.{QUESTION.format(question=f'{topic} is what?')}", value
