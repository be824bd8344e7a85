"""The two tokenizers of the world, both as fast tokenizers of the transformers library.

``word``
    Every word is one token, entity names too.
``split``
    A byte-level BPE whose merges were learned from the wordings and values, but not from the names: the former are
    single tokens, each name is at least two.

For both, a prompt and a space with the answer have the same tokens apart as together, and a token's offsets are the
characters that it encodes. Neither adds tokens before or after a text.
"""

from __future__ import annotations

from collections.abc import Callable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from benchmarks.world import texts
from benchmarks.world.world import World
from c2c.errors import check_choice

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
ENOUGH_MERGES = 1_000_000
"""A bound that is never reached: training ends when every word is one token."""


def word_tokenizer(world: World) -> Tokenizer:
    """One token a word; an unknown word is ``<unk>``."""
    vocabulary = [PAD, EOS, UNK, *texts.words(), *sorted(world.names)]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def split_tokenizer(world: World) -> Tokenizer:
    """Byte-level BPE; it is trained on the world's wordings and values only, so that names are several tokens."""
    del world
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=ENOUGH_MERGES,
        min_frequency=1,
        special_tokens=[PAD, EOS, UNK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((form for word in texts.words() for form in (word, f" {word}")), trainer)
    return tokenizer


TOKENIZERS: dict[str, Callable[[World], Tokenizer]] = {"word": word_tokenizer, "split": split_tokenizer}


def build(name: str, world: World) -> PreTrainedTokenizerFast:
    """The tokenizer called `name` of `world`, with end-of-text, padding and unknown token.

    Raises:
        RefusedError: If there is no tokenizer of that name.
    """
    tokenizer = TOKENIZERS[check_choice("A tokenizer of the world", name, TOKENIZERS)](world)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
