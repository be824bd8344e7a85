"""Conversations: which tokens are the messages', and which Sharer token each of them takes."""

from __future__ import annotations

import copy
import random

import pytest

from c2c.alignment.chat import AlignedChat, ChatAligner
from c2c.alignment.content import encode_rendering
from c2c.alignment.template import ChatTemplate
from c2c.alignment.tokens import UNMATCHED
from c2c.errors import RefusedError

CONTENTS = [
    "user", "assistant", "system", "\n", " user\n", "what is home?", "  the color 😀 ", "你好😁!", "é", "<|close|>\n",
    "<|open|>user\nhome", "[user] red [/user]", "[/user]", "the user is home", "👩‍👩‍👧", "a" * 40, " ", "",
]  # fmt: skip


def turns(*contents: str, first: str = "user") -> list[dict[str, str]]:
    """A conversation of user and assistant in turn, or one that a system prompt opens."""
    roles = [*(["system"] if first == "system" else []), *["user", "assistant"] * len(contents)]
    return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]


@pytest.fixture(scope="module")
def aligner(chat_receiver, chat_sharer) -> ChatAligner:
    return ChatAligner(chat_receiver, chat_sharer)


def fused_texts(tokenizer, chat: AlignedChat) -> list[str]:
    """What the message sections hold."""
    return [tokenizer.decode(chat.receiver_ids[s.start : s.end]) for s in chat.sections if s.kind == "message"]


def places(aligner: ChatAligner, messages, **options):
    """The characters of each token of both renderings, and the renderings, by their tokenizers."""
    found = []
    for template in (aligner.receiver, aligner.sharer):
        rendering = template.render(messages, **options)
        encoding = encode_rendering(template.tokenizer, rendering.text, rendering.contents)
        found.append((rendering, encoding.ids, encoding.offsets))
    return found


@pytest.mark.parametrize("content", ["user", "assistant", "open", "n", "s"])
def test_a_content_that_is_a_word_of_the_template_is_not_mistaken_for_it(aligner, content) -> None:
    messages = turns(content, content, content)
    rendering = aligner.receiver.render(messages)
    assert rendering.text.count(content) > len(messages)
    for span, role in zip(rendering.spans, ("user", "assistant", "user"), strict=True):
        assert rendering.text[: span.start].endswith(f"<|open|>{role}\n")
        assert rendering.text[span.start :].startswith(f"{content}<|close|>\n")
    assert fused_texts(aligner.receiver.tokenizer, aligner.align(messages)) == [content] * 3


@pytest.mark.parametrize("alignment", ["span", "first", "longest"])
def test_the_receiver_reads_its_own_rendering_and_only_messages_are_fused(
    chat_receiver, chat_sharer, alignment
) -> None:
    messages = turns("be red", "what is home?", "oslo", "zorvex 你好", first="system")
    chat = ChatAligner(chat_receiver, chat_sharer, alignment).align(messages)
    text = chat_receiver.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert chat.receiver_ids == chat_receiver(text, add_special_tokens=False)["input_ids"]
    assert fused_texts(chat_receiver, chat) == [message["content"] for message in messages]
    assert [section.kind for section in chat.sections] == ["template", "message"] * 4 + ["template"]
    assert [section.start for section in chat.sections[1:]] == [section.end for section in chat.sections[:-1]]
    assert chat.sections[-1].end == len(chat.receiver_ids) == len(chat.token_map) + 1
    for section in chat.sections:
        matched = [place >= 0 for place in chat.token_map[section.start : section.end]]
        assert all(matched) if section.kind == "message" else not any(matched)


def test_the_sharer_reads_its_own_rendering_with_a_system_prompt_that_the_receiver_lacks(aligner) -> None:
    messages = turns("what is home?")
    chat = aligner.align(messages)
    text = aligner.sharer.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert "the user is home" in text
    assert chat.sharer_ids == aligner.sharer.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert min(place for place in chat.token_map if place >= 0) > 10


def test_every_fused_token_takes_a_sharer_token_of_its_message_over_its_last_character(aligner) -> None:
    draw = random.Random(7)
    for _ in range(150):
        contents = ["".join(draw.choices(CONTENTS, k=draw.randint(0, 3))) for _ in range(draw.randint(1, 4))]
        messages = turns(*contents, first=draw.choice(["user", "system"]))
        chat = aligner.align(messages)
        (ours, _, offsets), (theirs, _, their_offsets) = places(aligner, messages)
        spans = {span.message: span for span in theirs.spans}
        fused = 0
        for span in ours.spans:
            for token, (_, end) in enumerate(offsets):
                if not span.start < end <= span.end:
                    continue
                contents_at = end - 1 - span.start + span.trimmed
                if span.message not in spans:
                    assert chat.token_map[token] == UNMATCHED
                    continue
                other = spans[span.message]
                where = contents_at - other.trimmed + other.start
                if not other.start <= where < other.end:
                    assert chat.token_map[token] == UNMATCHED
                    continue
                start, stop = their_offsets[chat.token_map[token]]
                assert chat.token_map[token] != UNMATCHED
                assert start <= where < stop
                assert ours.text[end - 1] == theirs.text[where]
                fused += 1
        assert fused == sum(place >= 0 for place in chat.token_map)


@pytest.mark.parametrize("alignment", ["span", "longest"])
def test_thinking_is_off_in_the_templates_of_both_models(chat_receiver, chat_sharer, alignment) -> None:
    """A template of this kind thinks unless it is told not to, as Qwen3's does."""
    receiver, sharer = copy.deepcopy(chat_receiver), copy.deepcopy(chat_sharer)
    for tokenizer, opening in ((receiver, "<|open|>assistant\n"), (sharer, "[assistant] ")):
        asked = f"{{% if add_generation_prompt %}}{opening}"
        assert asked in tokenizer.chat_template
        choice = "{% if enable_thinking is defined and not enable_thinking %}no plan{% else %}plan{% endif %}"
        tokenizer.chat_template = tokenizer.chat_template.replace(asked, asked + choice)
    chat = ChatAligner(receiver, sharer, alignment).align(turns("what is home?"))
    assert receiver.decode(chat.receiver_ids).endswith("<|open|>assistant\nno plan")
    assert sharer.decode(chat.sharer_ids).endswith("[assistant] no plan")
    unaligned = ChatAligner(receiver, receiver, "unaligned").align(turns("what is home?"))
    assert receiver.decode(unaligned.receiver_ids).endswith("<|open|>assistant\nno plan")


@pytest.mark.parametrize("alignment", ["span", "first", "longest"])
@pytest.mark.parametrize("final", [False, True])
def test_one_tokenizer_on_both_sides_gives_the_identity_and_the_fast_path_the_slow_ones_result(
    chat_receiver, alignment, final
) -> None:
    messages = turns("the color 😀 你好", "user", " oslo ")
    fast = ChatAligner(chat_receiver, copy.deepcopy(chat_receiver), alignment)
    slow = ChatAligner(chat_receiver, copy.deepcopy(chat_receiver), alignment)
    slow.sharer.tokenizer.chat_template += "{# the same text #}"
    assert fast.identical and not slow.identical
    chat = fast.align(messages, continue_final_message=final)
    assert chat == slow.align(messages, continue_final_message=final)
    assert all(place in (token, UNMATCHED) for token, place in enumerate(chat.token_map))
    assert chat.sharer_ids == chat.receiver_ids[: -1 if final else None]


@pytest.mark.parametrize(
    ("content", "ours", "theirs", "expected"),
    [("😀", 4, 1, [0, 0, 0, 0]), ("㘀", 3, 2, [0, 1, 1]), ("👩", 4, 3, [0, 1, 2, 2]), ("你", 3, 1, [0, 0, 0])],
)
def test_the_bytes_of_one_character_are_matched_in_order(
    aligner, chat_receiver, chat_sharer, content, ours, theirs, expected
) -> None:
    pieces = [len(t(content, add_special_tokens=False)["input_ids"]) for t in (chat_receiver, chat_sharer)]
    assert pieces == [ours, theirs]
    messages = turns(f"a{content}")
    chat = aligner.align(messages)
    (_, (rendering, _, offsets)) = places(aligner, messages)
    first = next(token for token, (_, end) in enumerate(offsets) if end == rendering.spans[0].end)
    (matched,) = [chat.token_map[s.start + 1 : s.end] for s in chat.sections if s.kind == "message"]
    assert [place - first for place in matched] == expected


def test_a_whole_character_takes_the_sharers_last_byte_of_it(chat_receiver, chat_sharer) -> None:
    chat = ChatAligner(chat_sharer, chat_receiver).align(turns("😀"))
    (place,) = [place for place in chat.token_map if place >= 0]
    assert chat.sharer_ids[place] == chat_receiver("😀", add_special_tokens=False)["input_ids"][-1]


def test_first_and_longest_hand_the_sharer_its_own_template_around_the_receivers_tokens(
    chat_receiver, chat_sharer
) -> None:
    messages = turns("what is home? 你", "zorvex color")
    for alignment in ("first", "longest"):
        aligner = ChatAligner(chat_receiver, chat_sharer, alignment)
        chat = aligner.align(messages)
        fused = [token for token, place in enumerate(chat.token_map) if place >= 0]
        reencoded = [aligner.tokens.reencode_token(chat.receiver_ids[token]) for token in fused]
        assert [chat.sharer_ids[chat.token_map[token]] for token in fused] == reencoded
        (_, (theirs, ids, offsets)) = places(aligner, messages)
        inside = [any(span.start < end <= span.end for span in theirs.spans) for _, end in offsets]
        left = [token for place, token in enumerate(chat.sharer_ids) if place not in set(chat.token_map)]
        assert left == [token for token, within in zip(ids, inside, strict=True) if not within]


def test_what_only_one_template_trims_is_not_fused(aligner) -> None:
    chat = aligner.align(turns("\n\n red \n"))
    (section,) = [section for section in chat.sections if section.kind == "message"]
    texts = [aligner.receiver.tokenizer.decode([token]) for token in chat.receiver_ids]
    for token in range(section.start, section.end):
        assert (chat.token_map[token] == UNMATCHED) == (not texts[token].strip())
    assert any(place >= 0 for place in chat.token_map)


def test_an_empty_content_leaves_no_section_and_its_neighbours_are_one(aligner) -> None:
    chat = aligner.align(turns("", "what is home?", first="system"))
    assert [section.kind for section in chat.sections] == ["template", "message", "template"]
    nothing = aligner.align(turns(""))
    assert [section.kind for section in nothing.sections] == ["template"]
    assert set(nothing.token_map) == {UNMATCHED}


def test_a_message_is_continued_from_its_last_token_and_the_sharer_sees_no_more_than_the_prefix(aligner) -> None:
    messages = turns("what is home?", "the color zorvex")
    chat = aligner.align(messages, continue_final_message=True)
    assert aligner.receiver.tokenizer.decode(chat.receiver_ids).endswith("assistant\nthe color zorvex")
    assert chat.sections[-1].end - chat.sections[-1].start == 1
    assert chat.sections[-2].kind == "message"
    seen = aligner.receiver.tokenizer.decode(chat.receiver_ids[chat.sections[-2].start : -1])
    read = aligner.sharer.tokenizer.decode(chat.sharer_ids).rsplit("[assistant] ", 1)[1]
    assert seen != "the color zorvex" and seen.startswith(read)
    assert all(0 <= place < len(chat.sharer_ids) for place in chat.token_map[chat.sections[-2].start :])
    with pytest.raises(RefusedError, match="must have a content"):
        aligner.align(turns("what", ""), continue_final_message=True)


def with_template(tokenizer, template: str | None):
    made = copy.deepcopy(tokenizer)
    made.chat_template = template
    return made


def test_a_template_whose_words_depend_on_a_content_is_searched_between_its_own_words(chat_receiver) -> None:
    template = "{% for m in messages %}<{{ m.content | length }} user>{{ m.content }}</user>{% endfor %}user:"
    chat = ChatTemplate(with_template(chat_receiver, template)).render(turns("user", "7 user", "home"))
    assert [chat.text[span.start : span.end] for span in chat.spans] == ["user", "7 user", "home"]
    assert all(chat.text[: span.start].endswith(" user>") for span in chat.spans)


def test_a_content_that_the_template_itself_says_before_is_found_at_its_own_place(chat_receiver) -> None:
    example = "<|open|>user\nred<|close|>\n" * 3
    chat = ChatTemplate(with_template(chat_receiver, example + chat_receiver.chat_template)).render(turns("red"))
    assert chat.spans[0].start == len(example) + len("<|open|>user\n")


def test_of_a_content_that_a_template_repeats_the_first_place_is_its_section(chat_receiver, chat_sharer) -> None:
    twice = with_template(chat_receiver, "{% for m in messages %}({{ m.content }}) again: {{ m.content }}.{% endfor %}")
    chat = ChatAligner(twice, chat_sharer).align(turns("red", "oslo"))
    assert fused_texts(twice, chat) == ["red", "oslo"]
    assert twice.decode(chat.receiver_ids) == "(red) again: red.(oslo) again: oslo."


def test_messages_that_a_template_moves_are_matched_all_the_same(chat_receiver, chat_sharer) -> None:
    backwards = with_template(chat_sharer, "{% for m in messages | reverse %}({{ m.content }}){% endfor %}")
    chat = ChatAligner(chat_receiver, backwards).align(turns("red", "oslo"))
    first, second = (chat.token_map[s.start : s.end] for s in chat.sections if s.kind == "message")
    assert min(first) > max(second) >= 0


def test_a_content_that_a_template_changes_is_refused(chat_receiver, chat_sharer) -> None:
    for template in (
        "{% for m in messages %}({{ m.content | upper }}){% endfor %}",
        "{% for m in messages %}{% if loop.last %}({{ m.content }}){% endif %}{% endfor %}",
    ):
        with pytest.raises(RefusedError, match="must show each content"):
            ChatAligner(chat_receiver, with_template(chat_sharer, template)).align(turns("red", "oslo"))


def test_a_tokenizer_without_a_chat_template_is_refused_with_what_to_do(chat_receiver, word_tokenizer) -> None:
    with pytest.raises(RefusedError, match=r"tokenizer\.chat_template"):
        ChatAligner(chat_receiver, word_tokenizer).align(turns("red"))


def test_a_templates_own_refusal_is_passed_on(aligner) -> None:
    with pytest.raises(RefusedError, match="no such role: owl"):
        aligner.align([{"role": "owl", "content": "red"}])


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        ([], "at least one message"),
        ([{"role": "user"}], "role and a content"),
        (["red"], "role and a content"),
        ([{"role": "user", "content": [{"type": "text", "text": "red"}]}], "role and a content"),
    ],
)
def test_what_is_no_conversation_is_refused(aligner, messages, rule) -> None:
    with pytest.raises(RefusedError, match=rule):
        aligner.align(messages)


def test_an_unknown_alignment_is_refused(chat_receiver) -> None:
    with pytest.raises(RefusedError, match="Did you mean 'span'"):
        ChatAligner(chat_receiver, chat_receiver, "spam")
