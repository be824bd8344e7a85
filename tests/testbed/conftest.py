"""Tiny pairs and items of the test bed, built in code."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from c2c.models.loading import LoadedModel
from c2c.testbed.items import Item, Place, write_items
from c2c.testbed.models import Models

PEOPLE = ["ada", "bo", "cy", "di", "eve", "fay", "gus", "hal", "ida", "jo", "kim", "lea"]
VALUES = ["red", "blue", "green", "pink", "gold", "gray", "black", "white", "navy", "teal", "lime", "plum"]
VOCABULARY = ["<pad>", "<eos>", "<unk>", *PEOPLE, *VALUES, "color", "is", "what", "unknown", "Question", "Answer"]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; a space before it is part of it."""
    words = {word: number for number, word in enumerate([*VOCABULARY, ".", ":", "?"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def item(person: str, value: str, options: list[str], name: str) -> Item:
    """One person's color, which the Receiver reads as unknown."""
    head, question = f"{person} color is", f"\nQuestion: {person} color is what?\nAnswer:"
    place = Place(
        0,
        (len(head), len(head) + 1 + len(value)),
        (len(head), len(head) + len(" unknown")),
        (len(head), len(head) + 1 + len(value)),
        (len(head), len(head) + 1 + len(value)),
    )
    full = f"{head} {value}.{question}"
    return Item(
        id=name,
        task="redacted_word",
        subset="color",
        sharer_texts=(f"{head} {value}.",),
        prompt=f"{head} unknown.{question}",
        full_prompt=full,
        target_prompt=full,
        places=(place,),
        question=question,
        options=tuple(options),
        answer=options.index(value),
        value=value,
        facts={"color": value},
    )


@pytest.fixture(scope="session")
def items() -> dict[str, list[Item]]:
    """Items by split; no person and no value of the test is in the training."""
    bounds = {"train": slice(6), "validation": slice(6, 8), "test": slice(8, None)}
    return {
        split: [
            item(person, value, VALUES[part], f"{split}.{person}.{value}")
            for person, value in itertools.product(PEOPLE[part], VALUES[part])
        ]
        for split, part in bounds.items()
    }


@pytest.fixture
def items_folder(items, tmp_path) -> Path:
    """The items as files."""
    for split, its_items in items.items():
        write_items(tmp_path / "items" / f"{split}.jsonl", its_items)
    return tmp_path / "items"


@pytest.fixture(scope="session")
def pair(tiny_model, tokenizer) -> Models:
    """A Receiver, and a Sharer of another family, depth and cache size."""
    size = len(tokenizer)
    receiver = tiny_model("qwen3", vocab=size)
    sharer = tiny_model("llama", layers=4, kv_heads=1, head_dim=12, vocab=size, seed=1)
    return Models.load(LoadedModel("receiver", receiver, tokenizer), LoadedModel("sharer", sharer, tokenizer))


@pytest.fixture(scope="session")
def folders(tiny_model, tokenizer, tmp_path_factory) -> dict[str, Path]:
    """Folders of a Receiver and a Sharer."""
    root, size = tmp_path_factory.mktemp("models"), len(tokenizer)
    pair = {
        "receiver": tiny_model("qwen3", vocab=size),
        "sharer": tiny_model("llama", layers=4, kv_heads=1, head_dim=12, vocab=size, seed=1),
    }
    for role, model in pair.items():
        model.save_pretrained(root / role)
        tokenizer.save_pretrained(root / role)
    return {role: root / role for role in pair}
