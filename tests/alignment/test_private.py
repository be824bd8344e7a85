"""What the Sharer alone reads: it stands before the prompt, and no Receiver token is fused with any of it."""

from __future__ import annotations

import copy
import random

import pytest
from tokenizers import processors

from c2c.alignment.chat import AlignedChat, ChatAligner
from c2c.alignment.tokens import UNMATCHED, AlignedPrompt, TokenAligner
from c2c.errors import RefusedError

ALIGNMENTS = ("span", "first", "longest")
PRIVATE = "the usual color of mubilo says zorvex."
PROMPT = "what is the color of mubilo? answer:"
PIECES = ["home", " zorvex", "\n", "\n\n", ".", " ", "你好", "😀", "é", "the color?", "user", " usual", ":"]


def with_start(tokenizer, closing: str = ""):
    """A copy that puts a token of its own before every text, and after it where one is named."""
    made = copy.deepcopy(tokenizer)
    made.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<s> $A {closing}".strip(), special_tokens=[("<s>", made.bos_token_id), ("</s>", made.eos_token_id)]
    )
    return made


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("identical", [False, True])
def test_the_receiver_reads_the_prompt_alone_and_the_sharer_the_private_line_before_its_prefix(
    chat_receiver, chat_sharer, alignment, identical
) -> None:
    sharer = chat_receiver if identical else chat_sharer
    aligner = TokenAligner(chat_receiver, sharer, alignment)
    alone, aligned = aligner.align(PROMPT), aligner.align(PROMPT, PRIVATE)
    assert aligned.receiver_ids == alone.receiver_ids
    prefix = chat_receiver.decode(alone.receiver_ids[:-1])
    read = sharer.decode(aligned.sharer_ids)
    if identical or alignment == "span":
        assert read.startswith(f"{PRIVATE}\n") and f"{PRIVATE}\n{prefix}".startswith(read)
        assert read.endswith(prefix) or alignment == "span"
    else:
        opening = sharer(f"{PRIVATE}\n")["input_ids"]
        assert aligned.sharer_ids == opening + alone.sharer_ids


@pytest.mark.parametrize("identical", [False, True])
def test_span_tokens_point_behind_the_private_line_at_the_prompts_own_characters(
    chat_receiver, chat_sharer, identical
) -> None:
    sharer = chat_receiver if identical else chat_sharer
    draw = random.Random(3)
    mapped = 0
    for _ in range(200):
        private = "".join(draw.choices(PIECES, k=draw.randint(1, 6)))
        prompt = "".join(draw.choices(PIECES, k=draw.randint(2, 8))) + " home?"
        aligned = TokenAligner(chat_receiver, sharer).align(prompt, private)
        ours = chat_receiver(prompt, return_offsets_mapping=True)["offset_mapping"]
        theirs = sharer(f"{private}\n{prompt}", return_offsets_mapping=True)["offset_mapping"]
        for (_, end), place in zip(ours, aligned.token_map, strict=False):
            if place == UNMATCHED:
                continue
            first, stop = theirs[place]
            assert len(private) <= first <= len(private) + end
            assert stop > len(private) + 1
            mapped += first <= len(private) + end < stop
    assert mapped > 500


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_no_private_text_is_what_it_was_without_the_argument(chat_receiver, chat_sharer, alignment) -> None:
    aligner = ChatAligner(chat_receiver, chat_sharer, alignment)
    messages = [{"role": "user", "content": PROMPT}]
    assert aligner.align_text(PROMPT, "") == aligner.align_text(PROMPT)
    assert aligner.align(messages, private="") == aligner.align(messages)


def test_a_token_over_the_border_of_private_text_and_prompt_is_fused_with_nothing(chat_receiver) -> None:
    sharer = copy.deepcopy(chat_receiver)
    sharer.add_tokens([".\n\n"])
    aligned = TokenAligner(chat_receiver, sharer).align("\nhome is red", "blue.")
    assert sharer.convert_tokens_to_ids(".\n\n") in aligned.sharer_ids
    assert aligned.token_map[0] == UNMATCHED
    assert aligned.token_map[1] > aligned.sharer_ids.index(sharer.convert_tokens_to_ids(".\n\n"))
    chat = ChatAligner(chat_receiver, sharer).align([{"role": "user", "content": "\nhome is red"}], private="blue.")
    border = chat.sharer_ids.index(sharer.convert_tokens_to_ids(".\n\n"))
    assert min(place for place in chat.token_map if place >= 0) > border


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("identical", [False, True])
def test_the_token_that_opens_a_text_opens_the_sharers_once_and_what_closes_it_is_left_out(
    chat_receiver, chat_sharer, alignment, identical
) -> None:
    ours = with_start(chat_receiver)
    theirs = ours if identical else with_start(chat_sharer, closing="</s>")
    aligned = TokenAligner(ours, theirs, alignment).align(PROMPT, PRIVATE)
    assert aligned.receiver_ids == ours(PROMPT)["input_ids"]
    assert aligned.sharer_ids[0] == theirs.bos_token_id
    assert aligned.sharer_ids.count(theirs.bos_token_id) == 1
    assert aligned.sharer_ids.count(theirs.eos_token_id) == 0
    private = len(theirs(f"{PRIVATE}\n")["input_ids"]) - 1
    assert aligned.token_map[0] == 0
    assert min(aligned.token_map[1:]) >= private - (alignment == "span" and not identical)


def rendered(tokenizer, private: str, *contents: str) -> str:
    """The Sharer's conversation with the private line before the last user's content."""
    messages = conversation(*contents)
    last = max(number for number, each in enumerate(messages) if each["role"] == "user")
    messages[last]["content"] = f"{private}\n{messages[last]['content']}"
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def conversation(*contents: str) -> list[dict[str, str]]:
    """User and assistant in turn."""
    return [
        {"role": role, "content": content}
        for role, content in zip(("user", "assistant") * len(contents), contents, strict=False)
    ]


@pytest.mark.parametrize("contents", [(PROMPT,), ("home?", "red", PROMPT), (f" {PROMPT} ",), (PROMPT, "so")])
@pytest.mark.parametrize("identical", [False, True])
def test_in_a_chat_the_sharer_reads_its_template_with_the_private_line_before_the_last_users_content(
    chat_receiver, chat_sharer, contents, identical
) -> None:
    sharer = chat_receiver if identical else chat_sharer
    aligner = ChatAligner(chat_receiver, sharer)
    messages = conversation(*contents)
    alone, chat = aligner.align(messages), aligner.align(messages, private=PRIVATE)
    text = rendered(sharer, PRIVATE, *contents)
    assert isinstance(chat, AlignedChat)
    assert (chat.receiver_ids, chat.sections) == (alone.receiver_ids, alone.sections)
    assert chat.sharer_ids == sharer(text, add_special_tokens=False)["input_ids"]
    private = range(text.index(PRIVATE), text.index(PRIVATE) + len(PRIVATE))
    offsets = sharer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    ours = aligner.receiver.render(messages).text
    for (start, end), place in zip(
        chat_receiver(ours, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"],
        chat.token_map,
        strict=False,
    ):
        if place == UNMATCHED:
            continue
        assert not set(range(*offsets[place])) & set(private)
        assert ours[start:end].strip() == "" or ours[end - 1] in text[slice(*offsets[place])]
    assert sum(place >= 0 for place in chat.token_map) >= sum(place >= 0 for place in alone.token_map)


@pytest.mark.parametrize("alignment", ["first", "longest"])
def test_in_a_chat_re_encoded_tokens_follow_the_sharers_own_tokens_of_the_private_line(
    chat_receiver, chat_sharer, alignment
) -> None:
    aligner = ChatAligner(chat_receiver, chat_sharer, alignment)
    messages = conversation("home?", "red", PROMPT)
    alone, chat = aligner.align(messages), aligner.align(messages, private=PRIVATE)
    private = chat_sharer(f"{PRIVATE}\n", add_special_tokens=False)["input_ids"]
    message = [section for section in alone.sections if section.kind == "message"][-1]
    place = alone.token_map[message.start]
    assert chat.receiver_ids == alone.receiver_ids
    assert chat.sharer_ids == alone.sharer_ids[:place] + private + alone.sharer_ids[place:]
    assert chat.token_map == [each + (len(private) if each >= place else 0) for each in alone.token_map]


def test_without_alignment_the_sharer_reads_the_receivers_tokens_with_the_private_line_between_them(
    chat_receiver, chat_sharer
) -> None:
    aligner = ChatAligner(chat_receiver, chat_sharer, "unaligned")
    for alone, given in (
        (aligner.align(conversation(PROMPT)), aligner.align(conversation(PROMPT), private=PRIVATE)),
        (aligner.align_text(PROMPT), aligner.align_text(PROMPT, PRIVATE)),
    ):
        assert isinstance(given, AlignedPrompt)
        assert given.receiver_ids == alone.receiver_ids
        assert [given.sharer_ids[place] for place in given.token_map] == alone.sharer_ids
        unread = [each for place, each in enumerate(given.sharer_ids) if place not in given.token_map]
        assert chat_receiver.decode(unread) == f"{PRIVATE}\n"
    read = chat_receiver.decode(aligner.align(conversation(PROMPT), private=PRIVATE).sharer_ids)
    assert rendered(chat_receiver, PRIVATE, PROMPT).startswith(read)


def test_a_continued_message_shows_the_sharer_no_more_than_the_prefix_behind_the_private_line(
    chat_receiver, chat_sharer
) -> None:
    messages = conversation("what is home?")
    chat = ChatAligner(chat_receiver, chat_sharer).align(messages, private=PRIVATE, continue_final_message=True)
    read = chat_sharer.decode(chat.sharer_ids)
    assert PRIVATE in read
    assert not read.endswith("?")
    assert max(chat.token_map) < len(chat.sharer_ids)


@pytest.mark.parametrize("messages", [[{"role": "system", "content": "be red"}], conversation("home", "red", " ")])
def test_a_private_text_without_a_users_content_behind_it_is_refused(chat_receiver, chat_sharer, messages) -> None:
    for aligner in (ChatAligner(chat_receiver, chat_sharer), ChatAligner(chat_receiver, chat_sharer, "unaligned")):
        with pytest.raises(RefusedError, match="before the last content of a user"):
            aligner.align(messages, private=PRIVATE)
