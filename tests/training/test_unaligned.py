"""The alignment `unaligned`: trained, written, loaded again and asked; what the Sharer reads; what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from c2c import RefusedError
from c2c.checkpoints.checkpoint import save_stack
from c2c.checkpoints.pair_fusers import load_pair_fusers
from c2c.evaluation.questions.question import Question
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from c2c.training.config import TrainingConfig
from c2c.training.examples import Examples
from c2c.training.fusers import FuserLearner
from c2c.training.run import fuser_labels
from c2c.training.tokenise import TokeniseRun, tokenise_file
from tests.evaluation.conftest import ask, fused_method

CONTENTS = ["what is home?", "the color of home", "is zorvex the color?", "the color", "home is", "what of oslo"]
ANSWERS = ["red", "blue", "athens", "oslo", "home", "color"]
ROWS = [
    {"id": str(number), "prompt": f"{content} Answer:", "response": answer, "opening": "Answer:"}
    for number, (content, answer) in enumerate(zip(CONTENTS, ANSWERS, strict=True))
]


@pytest.fixture
def pair(tiny_model, chat_receiver, chat_sharer) -> Pair:
    """Two tokenizers and two templates; the Sharer has an embedding for each of the Receiver's tokens."""
    receiver = tiny_model("qwen3", vocab=len(chat_receiver))
    sharer = tiny_model("llama", layers=4, kv_heads=1, head_dim=12, vocab=len(chat_receiver), seed=1)
    return Pair(LoadedModel("receiver", receiver, chat_receiver), LoadedModel("sharer", sharer, chat_sharer))


def examples_of(pair: Pair, alignment: str = "unaligned", prompts: str = "chat") -> Examples:
    return Examples(pair.receiver.tokenizer, pair.sharer.tokenizer, alignment, prompts, 128)


@pytest.fixture
def learner(pair, tmp_path) -> FuserLearner:
    config = TrainingConfig(
        alignment="unaligned", prompts="chat", steps=40, batch_size=6, hidden_dim=32, intermediate_dim=32,
        evaluate_every=20, learning_rate=1e-2, dropout=0.0,
    )  # fmt: skip
    examples = list(examples_of(pair).of(ROWS))
    return FuserLearner(pair, config, examples, examples, tmp_path / "checkpoints")


def question(number: int) -> Question:
    messages = [{"role": "user", "content": f"{CONTENTS[number]} "}, {"role": "assistant", "content": "Answer:"}]
    options = tuple(f" {answer}" for answer in ANSWERS)
    return Question(
        "colours", number, {"id": str(number)}, CONTENTS[number], ANSWERS[number], options, messages=messages
    )


@pytest.mark.parametrize("prompts", ["plain", "chat"])
def test_the_sharer_reads_the_receivers_prompt_opening_included_and_all_but_the_last_token_is_fused(
    pair, prompts
) -> None:
    prompt = examples_of(pair, prompts=prompts).example(ROWS[0]).prompt
    text = pair.receiver.tokenizer.decode(prompt.receiver_ids)
    assert text.endswith("Answer:") and text.count("what is home?") == 1
    assert prompt.sharer_ids == prompt.receiver_ids[:-1]
    assert prompt.token_map == list(range(len(prompt.sharer_ids)))


def test_a_sharer_without_a_chat_template_learns_from_chats_since_it_reads_the_receivers(pair, word_tokenizer) -> None:
    base = Examples(pair.receiver.tokenizer, word_tokenizer, "unaligned", "chat", 128).example(ROWS[0])
    assert base == examples_of(pair).example(ROWS[0])
    with pytest.raises(RefusedError, match="must have a chat template"):
        Examples(pair.receiver.tokenizer, word_tokenizer, "span", "chat", 128)


def test_fusers_of_an_unaligned_pair_learn_and_answer_in_a_batch_as_one_by_one_after_loading(learner, tmp_path) -> None:
    # 1. The loss falls
    stack, history = learner.run()
    losses = history["validation_loss"].dropna()
    assert losses.iloc[-1] < 0.7 * losses.iloc[0]
    # 2. The checkpoint names the alignment and holds the same fusers
    pair, folder = learner.pair, tmp_path / "fuser"
    lines = {"receiver": pair.receiver.description, "sharer": pair.sharer.description}
    save_stack(stack, folder, **lines, about=fuser_labels(learner, pair, "c2c"))
    fusers = load_pair_fusers(pair, folder)
    assert fusers.alignment == "unaligned"
    loaded = fusers.components.stacks[0].state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in stack.state_dict().items())
    # 3. Prompts of different lengths, in one batch and one by one
    method = fused_method("c2c", pair, str(folder))
    questions = [question(number) for number in range(len(ROWS))]
    together, alone = (ask(method, questions, budget) for budget in (10_000, 1))
    assert len({answer.tokens_in for answer in together}) > 1
    for one, other in zip(together, alone, strict=True):
        assert one.choice_scores == pytest.approx(other.choice_scores, abs=1e-4)
    # 4. The prompt that is asked is the one that was learned, and the answer is what was learned
    (example,) = examples_of(pair).of(ROWS[:1])
    assert together[0].tokens_in == len(example.prompt.receiver_ids)
    chosen = [ANSWERS[int(torch.tensor(answer.choice_scores).argmax())] for answer in together]
    assert chosen == ANSWERS


def test_a_sharer_with_fewer_embeddings_than_the_receiver_has_tokens_is_refused_before_tokens_are_read(
    tiny_model, chat_receiver, chat_sharer, tmp_path: Path
) -> None:
    tokens = len(chat_receiver)
    for name, tokenizer, rows in (("receiver", chat_receiver, tokens), ("sharer", chat_sharer, tokens - 1)):
        tiny_model("qwen3", vocab=rows).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    (tmp_path / "set.jsonl").write_text('{"id": "1", "prompt": "home is", "response": "red"}\n')
    places = {role: str(tmp_path / role) for role in ("receiver", "sharer")}
    files = {"data": tmp_path / "set.jsonl", "output": tmp_path / "set.parquet"}
    refusal = rf"must have embeddings of all {tokens} tokens.*'{tokens - 1} embeddings'.*span, first or longest"
    with pytest.raises(RefusedError, match=refusal):
        tokenise_file(TokeniseRun(**places, **files, alignment="unaligned"))
    assert tokenise_file(TokeniseRun(**places, **files, alignment="longest"))["kept"] == 1
