"""A set that is tokenised once holds the same examples, says for what it was made, and serves no other pair."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from c2c.cli.main import main
from c2c.errors import RefusedError
from c2c.training import tokenised_set
from c2c.training.examples import TOO_LONG, Example, Examples
from c2c.training.tokenised_set import TokenisedSet, identity, write_tokenised

PLAIN = [
    {"id": "a", "prompt": "what is the color of home Answer:", "response": "red", "opening": "Answer:"},
    {"id": "b", "prompt": "what is home?", "response": "athens 😀", "private": "zorvex says blue"},
    {"id": "c", "prompt": "is the usual color blue? " * 8, "response": "oslo"},
]
CHATS = [
    {"id": "d", "messages": [{"role": "user", "content": "is home red?"}, {"role": "assistant", "content": "blue"}]},
    {
        "id": "e",
        "messages": [
            {"role": "user", "content": "what is home?"},
            {"role": "assistant", "content": "oslo"},
            {"role": "user", "content": "and the color"},
            {"role": "assistant", "content": "red"},
        ],
        "private": "mubilo",
    },
]

Make = Callable[..., Examples]


@pytest.fixture
def make(chat_receiver, chat_sharer) -> Make:
    def build(prompts: str = "chat", alignment: str = "span", max_length: int = 128) -> Examples:
        return Examples(chat_receiver, chat_sharer, alignment, prompts, max_length)

    return build


def made_for(examples: Examples) -> dict:
    return identity(examples.receiver, examples.sharer, examples.alignment, examples.prompts, examples.max_length)


@pytest.mark.parametrize("alignment", ["span", "longest", "unaligned"])
@pytest.mark.parametrize(("prompts", "rows"), [("plain", PLAIN), ("chat", [*PLAIN, *CHATS])])
def test_what_is_read_back_is_what_was_written(make: Make, tmp_path: Path, alignment, prompts, rows) -> None:
    examples = make(prompts, alignment, 512)
    kept = list(examples.of(rows))
    write_tokenised(tmp_path / "set.parquet", kept, made_for(examples), {})
    stored = TokenisedSet(tmp_path / "set.parquet")
    assert list(stored) == stored[:] == kept
    assert [type(each.prompt) for each in stored] == [type(each.prompt) for each in kept]
    assert stored.lengths == [(len(each.prompt.receiver_ids), len(each.response_ids)) for each in kept]
    assert stored[-1] == kept[-1]


def test_groups_of_rows_are_read_back_in_their_order(make: Make, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tokenised_set, "ROW_GROUP", 2)
    examples = make()
    one = examples.example(CHATS[0])
    kept = [one._replace(id=str(number)) for number in range(5)]
    write_tokenised(tmp_path / "set.parquet", iter(kept), made_for(examples), {})
    assert pq.ParquetFile(tmp_path / "set.parquet").num_row_groups == 3
    assert [each.id for each in TokenisedSet(tmp_path / "set.parquet")] == list("01234")
    with pytest.raises(IndexError):
        TokenisedSet(tmp_path / "set.parquet")[5]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"alignment": "longest"}, "alignment longest; received 'span"),
        ({"prompts": "plain"}, "prompts plain; received 'chat"),
        ({"max_length": 64}, "max_length 64; received '128"),
    ],
)
def test_a_set_that_was_made_otherwise_is_refused(make: Make, tmp_path: Path, changes, rule) -> None:
    write_tokenised(tmp_path / "set.parquet", make().of(CHATS), made_for(make()), {})
    stored = TokenisedSet(tmp_path / "set.parquet")
    stored.check(made_for(make()))
    with pytest.raises(RefusedError, match=rule):
        stored.check(made_for(make(**changes)))


def test_the_set_of_another_pair_is_refused(make: Make, tmp_path: Path, chat_receiver, word_tokenizer) -> None:
    write_tokenised(tmp_path / "set.parquet", make("plain").of(PLAIN[:2]), made_for(make("plain")), {})
    stored = TokenisedSet(tmp_path / "set.parquet")
    with pytest.raises(RefusedError, match="sharer_tokenizer"):
        stored.check(identity(chat_receiver, word_tokenizer, "span", "plain", 128))
    with pytest.raises(RefusedError, match="receiver_tokenizer"):
        stored.check(identity(word_tokenizer, chat_receiver, "span", "plain", 128))


def test_a_file_that_is_no_tokenised_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="must be a parquet file"):
        TokenisedSet(tmp_path / "none.parquet")
    (tmp_path / "lines.parquet").write_text("{}")
    with pytest.raises(RefusedError, match="parquet file of c2c tokenise"):
        TokenisedSet(tmp_path / "lines.parquet")


def test_a_chat_asks_with_the_prompt_and_opens_the_answer_without_fusing_or_learning_the_opening(make: Make) -> None:
    examples = make()
    example = examples.example(PLAIN[0])
    decode = examples.receiver.decode
    before = "<|open|>user\nwhat is the color of home <|close|>\n<|open|>assistant\nAnswer:"
    assert decode(example.prompt.receiver_ids) == before
    assert decode(example.response_ids) == " red<|close|>"
    fused = [
        token for token, place in zip(example.prompt.receiver_ids, example.prompt.token_map, strict=False) if place >= 0
    ]
    assert decode(fused) == "what is the color of home"  # the Sharer's template trims the blank
    assert len(example.prompt.token_map) == len(example.prompt.receiver_ids) - 1
    assert example.prompt.sections[-1].end == len(example.prompt.receiver_ids)


def test_a_plain_prompt_keeps_its_opening_and_the_response_follows_after_a_blank(make: Make) -> None:
    example = make("plain").example(PLAIN[0])
    assert make().receiver.decode(example.prompt.receiver_ids) == PLAIN[0]["prompt"]
    assert make().receiver.decode(example.response_ids) == " red<eos>"


@pytest.mark.parametrize("prompts", ["plain", "chat"])
def test_the_sharer_alone_reads_private_text_and_none_of_it_is_fused(make: Make, prompts: str) -> None:
    with_it, without = (make(prompts).example(row) for row in (PLAIN[1], {**PLAIN[1], "private": ""}))
    read = make().sharer.decode(with_it.prompt.sharer_ids)
    assert "zorvex says blue\nwhat is home" in read
    assert "zorvex" not in make().receiver.decode(with_it.prompt.receiver_ids)
    assert with_it.prompt.receiver_ids == without.prompt.receiver_ids
    fused = [with_it.prompt.sharer_ids[place] for place in with_it.prompt.token_map if place >= 0]
    assert fused == [without.prompt.sharer_ids[place] for place in without.prompt.token_map if place >= 0]


def test_lines_that_are_too_long_or_refused_are_left_out_and_counted_by_reason(make: Make) -> None:
    examples = make(max_length=100)
    odd = {"id": "x", "messages": [{"role": "tool", "content": "home"}, {"role": "assistant", "content": "red"}]}
    assert [each.id for each in examples.of([PLAIN[2], CHATS[0], odd])] == ["d"]
    assert examples.left_out[TOO_LONG] == 1
    refused = [reason for reason in examples.left_out if "must accept the conversation" in reason]
    assert len(refused) == 1 and examples.left_out[refused[0]] == 1


def test_a_set_of_which_nothing_is_left_is_refused(make: Make) -> None:
    with pytest.raises(RefusedError, match="must fit into max_length"):
        list(make(max_length=3).of(PLAIN))
    with pytest.raises(RefusedError, match="must accept the conversation"):
        list(
            make().of([{"id": "x", "messages": [{"role": "t", "content": "a"}, {"role": "assistant", "content": "b"}]}])
        )


def test_a_conversation_in_plain_prompts_and_a_model_without_template_in_chats_are_refused(
    make: Make, word_tokenizer
) -> None:
    with pytest.raises(RefusedError, match="Pass --prompts chat"):
        list(make("plain").of(CHATS))
    with pytest.raises(RefusedError, match="--prompts plain"):
        Examples(make().receiver, word_tokenizer, "span", "chat", 64)


def test_the_command_writes_the_set_with_its_counts_and_provenance(
    chat_receiver, chat_sharer, tmp_path: Path, make: Make, capsys
) -> None:
    for name, tokenizer in (("receiver", chat_receiver), ("sharer", chat_sharer)):
        tokenizer.save_pretrained(tmp_path / name)
    lines = [*PLAIN, *CHATS]
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps(row) for row in lines))
    output = tmp_path / "out" / "train.parquet"
    flags = {"receiver": "receiver", "sharer": "sharer", "data": "train.jsonl", "output": "out/train.parquet"}
    command = [part for name, file in flags.items() for part in (f"--{name}", str(tmp_path / file))]
    assert main(["tokenise", *command, "--prompts", "chat", "--max-length", "100"]) == 0
    assert f"c2c tokenise: 1 of 5 lines are left out: {TOO_LONG}\n" in capsys.readouterr().err
    kept: list[Example] = list(make(max_length=100).of(lines))
    stored = TokenisedSet(output)
    assert list(stored) == kept and len(kept) == 4
    stored.check(made_for(make(max_length=100)))
    assert stored.about["left_out"] == {TOO_LONG: 1} and stored.about["lines"] == 5
    notes = json.loads(Path(f"{output}.provenance.json").read_text())
    assert notes["tokenised"]["kept"] == 4 and notes["tokenised"]["left_out"] == {TOO_LONG: 1}
