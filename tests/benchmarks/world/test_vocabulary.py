from __future__ import annotations

import re

import pytest
from transformers import PreTrainedTokenizerFast

from benchmarks.world import texts, vocabulary
from benchmarks.world.world import CONSONANTS, ENDINGS, VOWELS, World, generate
from c2c.alignment.tokens import UNMATCHED, TokenAligner
from c2c.errors import RefusedError

Tokenizers = dict[str, PreTrainedTokenizerFast]
ANY_NAME = re.compile(f"Ġ?([{CONSONANTS}][{VOWELS}]){{2,3}}[{ENDINGS}]")
FORMS = sorted(texts.FORMS)


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer(text)["input_ids"]


def pieces(tokenizer: PreTrainedTokenizerFast, text: str, word: str) -> list[int]:
    """Indices of the tokens that lie within the first `word` of `text`."""
    start = text.index(f" {word} ") + 1
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    return [index for index, (first, end) in enumerate(offsets) if start <= first < end <= start + len(word)]


def test_the_split_tokenizer_splits_every_name(tokenizers: Tokenizers) -> None:
    for name in generate(entities=512).names:
        assert len(ids(tokenizers["split"], name)) >= 2
        assert len(ids(tokenizers["split"], f" {name}")) >= 2


def test_no_token_of_the_split_tokenizer_is_a_name_of_any_world(tokenizers: Tokenizers) -> None:
    assert not list(filter(ANY_NAME.fullmatch, tokenizers["split"].get_vocab()))


def test_the_split_tokenizer_depends_on_no_name(tokenizers: Tokenizers) -> None:
    other = vocabulary.build("split", generate(entities=64, seed=9))
    assert other.backend_tokenizer.to_str() == tokenizers["split"].backend_tokenizer.to_str()


def test_no_tokenizer_splits_a_word_of_the_wordings_or_a_value(tokenizer: PreTrainedTokenizerFast) -> None:
    for word in texts.words():
        assert len(ids(tokenizer, word)) == len(ids(tokenizer, f" {word}")) == 1


def test_the_word_tokenizer_splits_no_name_and_knows_all(world: World, tokenizers: Tokenizers) -> None:
    tokens = [ids(tokenizers["word"], name) for name in world.names]
    assert all(len(each) == 1 for each in tokens)
    assert len({each for (each,) in tokens} - {tokenizers["word"].unk_token_id}) == len(world.names)


@pytest.mark.parametrize("form", FORMS)
def test_every_text_comes_back_from_its_tokens(world: World, tokenizer: PreTrainedTokenizerFast, form: str) -> None:
    for fact in world.facts():
        text = texts.FORMS[form](fact).whole
        assert tokenizer.decode(ids(tokenizer, text)) == text


@pytest.mark.parametrize("form", FORMS)
def test_prompt_and_answer_have_the_same_tokens_apart_as_together(
    world: World, tokenizer: PreTrainedTokenizerFast, form: str
) -> None:
    for fact in world.facts():
        text = texts.FORMS[form](fact)
        apart = ids(tokenizer, text.prompt) + ids(tokenizer, f" {text.response}")
        assert apart == ids(tokenizer, f"{text.prompt} {text.response}")


def test_no_known_text_holds_an_unknown_token(world: World, tokenizer: PreTrainedTokenizerFast) -> None:
    for fact in world.facts():
        assert not set(ids(tokenizer, texts.reading(fact).whole)) & set(tokenizer.all_special_ids)


def test_offsets_are_the_characters_of_a_token_without_the_space_before_it(
    world: World, tokenizer: PreTrainedTokenizerFast
) -> None:
    text = texts.question(world.facts()[0]).whole
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    assert "".join(text[start:end] for start, end in offsets) == text.replace(" ", "")


def test_end_padding_and_unknown_are_three_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    special = {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    assert len(special) == 3
    assert max(special) < len(tokenizer)


def test_a_tokenizer_that_does_not_exist_is_refused_with_the_nearest(world: World) -> None:
    with pytest.raises(RefusedError, match=r"'words'.*Did you mean 'word'"):
        vocabulary.build("words", world)


@pytest.mark.parametrize("form", ["question", "reading", "request"])
def test_span_maps_every_piece_of_a_name_to_the_whole_name(world: World, tokenizers: Tokenizers, form: str) -> None:
    aligner = TokenAligner(tokenizers["split"], tokenizers["word"], "span")
    for fact in world.facts():
        prompt = texts.FORMS[form](fact).prompt
        (name,) = ids(tokenizers["word"], fact.entity)
        aligned = aligner.align(prompt)
        parts = pieces(tokenizers["split"], prompt, fact.entity)
        assert len(parts) >= 2
        assert {aligned.sharer_ids[aligned.token_map[part]] for part in parts} == {name}


def test_span_maps_a_whole_name_to_its_last_piece(world: World, tokenizers: Tokenizers) -> None:
    aligner = TokenAligner(tokenizers["word"], tokenizers["split"], "span")
    for fact in world.facts():
        prompt = texts.question(fact).prompt
        (place,) = pieces(tokenizers["word"], prompt, fact.entity)
        assert aligner.align(prompt).token_map[place] == pieces(tokenizers["split"], prompt, fact.entity)[-1]


def test_span_maps_each_word_that_neither_splits_to_itself(world: World, tokenizers: Tokenizers) -> None:
    split, word = tokenizers["split"], tokenizers["word"]
    for fact in world.facts():
        aligned = TokenAligner(split, word, "span").align(texts.question(fact).prompt)
        named = pieces(split, texts.question(fact).prompt, fact.entity)
        for place, target in enumerate(aligned.token_map):
            ours = split.decode(aligned.receiver_ids[place]).strip()
            if ours and place not in named:
                assert ours == word.decode(aligned.sharer_ids[target])


def test_span_fuses_nothing_where_the_split_tokenizer_reads_a_space_alone(world: World, tokenizers: Tokenizers) -> None:
    aligner = TokenAligner(tokenizers["split"], tokenizers["word"], "span")
    aligned = [aligner.align(texts.question(fact).prompt) for fact in world.facts()]
    targets = {
        target
        for each in aligned
        for token, target in zip(each.receiver_ids, each.token_map, strict=False)
        if not tokenizers["split"].decode(token).strip()
    }
    assert targets == {UNMATCHED}
