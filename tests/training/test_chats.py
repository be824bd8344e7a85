"""Training on conversations: the response as the template ends it, sections of any number, honest batches."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from c2c.alignment.template import ChatTemplate
from c2c.errors import RefusedError
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from c2c.training.batches import collate
from c2c.training.config import TrainingConfig
from c2c.training.examples import Example, Examples, read_lines
from c2c.training.fusers import FuserLearner
from c2c.training.gates import gate_table
from c2c.types import HALVES, IGNORED


def chat(number: int, *contents: str) -> dict:
    roles = ["user", "assistant"] * len(contents)
    turns = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    return {"id": str(number), "messages": turns}


ROWS = [
    chat(0, "what is home?", "red 😀"),
    chat(1, "the color of home", "blue", "and zorvex?", " athens"),
    chat(2, "is", "red", "is the", "blue", "你好 what is the color?", "oslo"),
    {"id": "3", "prompt": "what is the color", "response": "red"},
]


def tokenise(rows, pair, alignment, max_length=128) -> list[Example]:
    """Conversations as chats, and what is plain as plain text, so that batches mix the two."""
    tokenizers = (pair.receiver.tokenizer, pair.sharer.tokenizer)
    kinds = {kind: Examples(*tokenizers, alignment, kind, max_length) for kind in ("plain", "chat")}
    return [kinds["chat" if "messages" in row else "plain"].example(row) for row in rows]


@pytest.fixture(scope="module")
def pair(tiny_model, chat_receiver, chat_sharer) -> Pair:
    receiver = tiny_model("qwen3", vocab=len(chat_receiver))
    sharer = tiny_model("llama", layers=4, kv_heads=1, head_dim=12, vocab=len(chat_sharer), seed=1)
    sharer.config.max_position_embeddings = 256  # its tokens are shorter than the Receiver's
    return Pair(LoadedModel("receiver", receiver, chat_receiver), LoadedModel("sharer", sharer, chat_sharer))


@pytest.fixture
def trainer(pair, tmp_path) -> FuserLearner:
    config = TrainingConfig(steps=3, batch_size=4, hidden_dim=8, intermediate_dim=8, evaluate_every=3)
    examples = tokenise(ROWS, pair, "span", 128)
    built = FuserLearner(pair, config, examples, examples[:2], tmp_path)
    built.model.eval()
    for fuser in built.model.stacks[0].fusers:
        for half in HALVES:
            fuser.gate_logit(half).data.fill_(1.0)
            torch.nn.init.normal_(fuser.get_submodule(f"{half}_proj_out").weight, std=0.5)
    return built


@pytest.mark.parametrize("alignment", ["span", "longest"])
def test_prompt_and_response_are_the_templates_conversation_up_to_its_end_of_turn(pair, alignment) -> None:
    tokenizer = pair.receiver.tokenizer
    for row, example in zip(ROWS[:3], tokenise(ROWS[:3], pair, alignment, 128), strict=True):
        whole = tokenizer.apply_chat_template(row["messages"], tokenize=False).removesuffix("\n")
        assert tokenizer.decode(example.prompt.receiver_ids + example.response_ids) == whole
        assert tokenizer.decode(example.response_ids) == row["messages"][-1]["content"] + "<|close|>"


def test_a_turn_that_the_template_does_not_end_ends_with_the_end_token(chat_receiver) -> None:
    tokenizer = copy.deepcopy(chat_receiver)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if not loop.last %}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}\nassistant: {% endif %}"
    )
    assert ChatTemplate(tokenizer).response(ROWS[0]["messages"]) == "red 😀<eos>"
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant: ", "model: ")
    with pytest.raises(RefusedError, match="must begin with the conversation"):
        ChatTemplate(tokenizer).response(ROWS[0]["messages"])


def test_rows_with_other_sections_keep_their_tokens_and_supervise_exactly_their_responses(pair) -> None:
    examples = tokenise(ROWS, pair, "span", 128)
    batch = collate(examples, pair)
    assert sum(index.shape[1] for index in batch.kv_cache_index) == batch.input_ids.shape[1]
    assert int(batch.kv_cache_index[-1][0, 0, 0]) == -1
    boundary = {int((row != IGNORED).nonzero()[0]) for row in batch.labels}
    assert len(boundary) == 1
    for row, example in enumerate(examples):
        assert batch.labels[row][batch.labels[row] != IGNORED].tolist() == example.response_ids
        kept = batch.input_ids[row][batch.attention_mask[row] == 1].tolist()
        assert kept == example.prompt.receiver_ids + example.response_ids


def test_the_loss_of_a_padded_batch_is_the_token_weighted_mean_of_its_rows(trainer) -> None:
    singles = [trainer.collate([example]) for example in trainer.training]
    assert len({len(single.kv_cache_index) for single in singles}) > 1
    mean = sum(trainer._loss(s).item() * s.supervised for s in singles) / sum(s.supervised for s in singles)
    assert trainer._loss(trainer.collate(trainer.training)).item() == pytest.approx(mean, rel=1e-5)


def test_fusers_learn_from_conversations(trainer) -> None:
    before = {name: tensor.clone() for name, tensor in trainer.stack.state_dict().items()}
    _, history = trainer.run()
    assert history["loss"].notna().all()
    assert (history["gradient_norm"] > 0).all()
    assert any(not torch.equal(before[name], tensor) for name, tensor in trainer.stack.state_dict().items())


def test_the_gates_table_counts_the_fused_tokens_of_all_sections(trainer) -> None:
    tables = [gate_table(trainer.model, [trainer.collate([each])]) for each in trainer.training]
    counts = [sum(place >= 0 for place in each.prompt.token_map) for each in trainer.training]
    together = gate_table(trainer.model, [trainer.collate(trainer.training)])
    assert min(counts) > 0
    for row in range(len(together)):
        mean = sum(t["weight_mean"][row] * n for t, n in zip(tables, counts, strict=True)) / sum(counts)
        assert together["weight_mean"][row] == pytest.approx(mean, rel=1e-5)


def test_the_weights_of_a_later_section_are_those_after_the_earlier_ones_were_fused(trainer) -> None:
    batch = trainer.collate(trainer.training[2:3])
    opened = gate_table(trainer.model, [batch])["weight_mean"]
    for fuser in trainer.model.stacks[0].fusers:
        for half in HALVES:
            fuser.gate_logit(half).data.fill_(-1.0)
    closed = gate_table(trainer.model, [batch])["weight_mean"]
    assert closed[0] == pytest.approx(opened[0])
    assert abs(closed.iloc[-1] - opened.iloc[-1]) > 1e-4


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ({"id": "1"}, "id and messages"),
        ({"messages": []}, "id and messages"),
        ({"id": "1", "messages": []}, "must end with an assistant's turn"),
        ({"id": "1", "messages": ROWS[1]["messages"][:3]}, "must end with an assistant's turn"),
        ({"id": "1", "messages": ROWS[1]["messages"][1:2]}, "must end with an assistant's turn"),
    ],
)
def test_a_line_without_a_conversation_to_learn_from_is_refused(tmp_path, line, rule) -> None:
    (tmp_path / "set.jsonl").write_text(json.dumps(line))
    with pytest.raises(RefusedError, match=rule):
        read_lines(tmp_path / "set.jsonl")


def test_lines_of_both_kinds_are_read(tmp_path) -> None:
    (tmp_path / "set.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    assert read_lines(tmp_path / "set.jsonl") == ROWS
