"""Token alignment: what the Sharer reads, and where each Receiver token finds its match."""

from __future__ import annotations

import copy

import pytest
import torch
from tokenizers import processors

from c2c.alignment.tokens import AlignedPrompt, TokenAligner, batch_readings, left_pad, match_length
from c2c.errors import RefusedError

TEXT = "the color zorvex is red"


def test_identical_tokenizers_give_the_identity_whatever_the_alignment(word_tokenizer) -> None:
    for alignment in ("span", "first", "longest"):
        aligned = TokenAligner(word_tokenizer, word_tokenizer, alignment).align(TEXT)
        assert aligned.sharer_ids == aligned.receiver_ids[:-1]
        assert aligned.token_map == list(range(len(aligned.receiver_ids) - 1))


@pytest.mark.parametrize("alignment", ["span", "first", "longest"])
def test_an_equal_tokenizer_is_found_to_be_the_same_and_the_sharers_is_never_called(
    split_tokenizer, monkeypatch, alignment
) -> None:
    copied = copy.deepcopy(split_tokenizer)
    aligner = TokenAligner(split_tokenizer, copied, alignment)

    def called(*args, **options):
        raise AssertionError("the Sharer's tokenizer was called")

    for name in ("__call__", "encode", "decode", "_encode_plus", "_decode", "get_vocab", "convert_ids_to_tokens"):
        own = getattr(type(copied), name)
        monkeypatch.setattr(
            type(copied), name, lambda self, *a, own=own, **k: called() if self is copied else own(self, *a, **k)
        )
    with pytest.raises(AssertionError, match="was called"):
        copied(TEXT)
    aligned = aligner.align(TEXT)
    ids = split_tokenizer(TEXT)["input_ids"]
    assert aligned == AlignedPrompt(ids, ids[:-1], list(range(len(ids) - 1)))
    assert aligner.reencode(torch.tensor([ids])).tolist() == [ids]


def test_span_maps_every_piece_of_a_split_name_to_the_sharers_whole_name(word_tokenizer, split_tokenizer) -> None:
    aligned = TokenAligner(split_tokenizer, word_tokenizer, "span").align(TEXT)
    whole = word_tokenizer(TEXT)["input_ids"]
    assert aligned.sharer_ids == whole[:-1]
    first = TEXT.index("zorvex")
    spans = split_tokenizer(TEXT, return_offsets_mapping=True)["offset_mapping"]
    name = [place for place, (_, end) in enumerate(spans) if first < end <= first + len("zorvex")]
    assert len(name) >= 2
    assert {aligned.token_map[place] for place in name} == {2}
    assert sorted(set(aligned.token_map)) == [0, 1, 2, 3]


def test_span_gives_each_token_the_sharer_token_of_its_last_character(word_tokenizer, split_tokenizer) -> None:
    aligned = TokenAligner(word_tokenizer, split_tokenizer, "span").align(TEXT)
    offsets = split_tokenizer(TEXT, return_offsets_mapping=True)["offset_mapping"]
    for (_, end), place in zip(
        word_tokenizer(TEXT, return_offsets_mapping=True)["offset_mapping"], aligned.token_map, strict=False
    ):
        start, stop = offsets[place]
        assert start <= end - 1 < stop


def test_a_sharer_token_that_reaches_past_the_prefix_is_not_used_but_the_one_before_it(
    word_tokenizer, split_tokenizer
) -> None:
    text = "the home zorvex"
    aligned = TokenAligner(split_tokenizer, word_tokenizer, "span").align(text)
    assert len(split_tokenizer(text)["input_ids"]) > 4
    assert aligned.sharer_ids == word_tokenizer("the home")["input_ids"]
    assert set(aligned.token_map[-2:]) == {1}


@pytest.mark.parametrize("text", ["the color 😀", "the color 😀 is 😀"])
def test_of_a_character_whose_bytes_the_last_token_ends_the_sharer_reads_no_more_than_the_prefix_holds(
    chat_receiver, chat_sharer, text
) -> None:
    assert len(chat_receiver("😀")["input_ids"]) > 1
    aligned = TokenAligner(chat_receiver, chat_sharer).align(text)
    assert chat_receiver.decode(aligned.receiver_ids[:-1]).endswith("\ufffd")
    assert chat_sharer.decode(aligned.sharer_ids) == text[:-1]
    pieces = len(chat_receiver("😀")["input_ids"]) - 1
    assert set(aligned.token_map[-pieces:]) == {len(aligned.sharer_ids) - 1}
    back = TokenAligner(chat_sharer, chat_receiver).align(text)
    assert len(chat_sharer(" 😀", add_special_tokens=False)["input_ids"]) < pieces + 1
    assert chat_receiver.decode(back.sharer_ids) == chat_sharer.decode(back.receiver_ids[:-1])


def test_fragments_of_a_character_inside_the_prefix_take_the_sharers_token_of_the_character(
    chat_receiver, chat_sharer
) -> None:
    text = "😀 is the color"
    aligned = TokenAligner(chat_receiver, chat_sharer).align(text)
    pieces = chat_receiver("😀")["input_ids"]
    (whole,) = chat_sharer("😀")["input_ids"]
    assert len(pieces) > 1
    assert aligned.receiver_ids[: len(pieces)] == pieces
    assert [aligned.sharer_ids[place] for place in aligned.token_map[: len(pieces)]] == [whole] * len(pieces)
    back = TokenAligner(chat_sharer, chat_receiver).align(text)
    assert back.sharer_ids[: len(pieces)] == pieces
    assert back.token_map[0] == len(pieces) - 1


def with_start_token(tokenizer, name: str):
    """A copy that opens every text with a token of its own, which covers no character."""
    made = copy.deepcopy(tokenizer)
    made.add_special_tokens({"bos_token": name})
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{name} $A", special_tokens=[(name, made.bos_token_id)]
    )
    return made


def test_tokens_without_characters_are_mapped_by_their_role_or_not_at_all(word_tokenizer, split_tokenizer) -> None:
    ours, theirs = with_start_token(split_tokenizer, "<s>"), with_start_token(word_tokenizer, "<start>")
    aligned = TokenAligner(ours, theirs, "span").align("the home")
    assert aligned.receiver_ids[0] == ours.bos_token_id
    assert aligned.sharer_ids[0] == theirs.bos_token_id
    assert aligned.token_map[0] == 0
    assert TokenAligner(ours, word_tokenizer, "span").align("the home is").token_map[0] == -1


def test_a_start_token_of_the_sharer_alone_shifts_the_map(word_tokenizer, split_tokenizer) -> None:
    theirs = with_start_token(word_tokenizer, "<start>")
    plain = TokenAligner(split_tokenizer, word_tokenizer, "span").align(TEXT)
    shifted = TokenAligner(split_tokenizer, theirs, "span").align(TEXT)
    assert shifted.token_map == [place + 1 for place in plain.token_map]


def test_a_prefix_that_ends_before_the_sharers_first_token_does_is_refused(word_tokenizer, split_tokenizer) -> None:
    with pytest.raises(RefusedError, match="must have a Sharer token that ends within it"):
        TokenAligner(split_tokenizer, word_tokenizer, "span").align("zorvex")


def test_longest_and_first_hand_the_sharer_the_receivers_tokens_one_by_one(word_tokenizer, split_tokenizer) -> None:
    ids = word_tokenizer(TEXT)["input_ids"][:-1]
    pieces = [split_tokenizer.encode(word_tokenizer.decode([token]), add_special_tokens=False) for token in ids]
    first = TokenAligner(word_tokenizer, split_tokenizer, "first").align(TEXT)
    longest = TokenAligner(word_tokenizer, split_tokenizer, "longest").align(TEXT)
    assert first.sharer_ids == [each[0] for each in pieces]
    assert longest.sharer_ids == [max(each, key=lambda t: len(split_tokenizer.decode([t]))) for each in pieces]
    assert first.sharer_ids != longest.sharer_ids
    assert first.token_map == longest.token_map == list(range(len(ids)))


def test_the_pieces_of_a_name_are_unknown_words_to_a_sharer_that_gets_them_one_by_one(
    word_tokenizer, split_tokenizer
) -> None:
    aligned = TokenAligner(split_tokenizer, word_tokenizer, "longest").align("the zorvex is")
    assert word_tokenizer.convert_tokens_to_ids("zorvex") not in aligned.sharer_ids
    assert word_tokenizer.unk_token_id in aligned.sharer_ids


def test_special_tokens_are_mapped_by_their_role(word_tokenizer, split_tokenizer) -> None:
    aligner = TokenAligner(word_tokenizer, split_tokenizer, "longest")
    assert aligner.reencode_token(word_tokenizer.eos_token_id) == split_tokenizer.eos_token_id
    assert aligner.reencode_token(word_tokenizer.pad_token_id) == split_tokenizer.pad_token_id
    same = copy.deepcopy(word_tokenizer)
    same.pad_token = same.eos_token
    assert (
        TokenAligner(same, split_tokenizer, "first").reencode_token(same.eos_token_id) == split_tokenizer.eos_token_id
    )
    assert aligner.reencode_token(word_tokenizer.unk_token_id) == split_tokenizer.unk_token_id


def test_a_prompt_without_a_prefix_is_refused(word_tokenizer, split_tokenizer) -> None:
    for sharer in (word_tokenizer, split_tokenizer):
        with pytest.raises(RefusedError, match="at least two tokens"):
            TokenAligner(word_tokenizer, sharer).align("red")


def test_an_unknown_alignment_is_refused(word_tokenizer) -> None:
    with pytest.raises(RefusedError, match="Did you mean 'longest'"):
        TokenAligner(word_tokenizer, word_tokenizer, "longes")


def test_a_longer_reading_is_cut_at_the_left_and_a_shorter_one_repeated_there() -> None:
    assert match_length([0, 1, 2, 3], 2) == [2, 3]
    assert match_length([5, 6, 7], 5) == [6, 7, 5, 6, 7]
    assert match_length([5, 6, 7], 3) == [5, 6, 7]
    with pytest.raises(RefusedError, match="at least one token"):
        match_length([], 3)


def test_left_padding_keeps_the_last_tokens_in_one_column() -> None:
    ids, mask = left_pad([[4], [5, 6, 7]], pad=0)
    assert ids.tolist() == [[0, 0, 4], [5, 6, 7]]
    assert mask.tolist() == [[0, 0, 1], [1, 1, 1]]


def test_a_batch_of_readings_counts_in_padded_columns() -> None:
    short = AlignedPrompt([1, 2, 3], [8], [0, -1])
    long = AlignedPrompt([1, 2, 3, 4], [8, 9, 7], [0, 1, 2])
    batch = batch_readings([short, long], pad=0)
    assert batch.input_ids.tolist() == [[0, 0, 8], [8, 9, 7]]
    assert batch.token_map.tolist() == [[-1, 2, -1], [0, 1, 2]]
    assert torch.equal(batch.attention_mask, (batch.input_ids > 0).long())
