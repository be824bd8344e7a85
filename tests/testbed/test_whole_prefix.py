"""Items without places: the Sharer reads the Receiver's own prompt, and all of it but the last token is fused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from c2c.errors import RefusedError
from c2c.models.loading import LoadedModel
from c2c.testbed.channels.ridge import RidgeMap, fit_examples
from c2c.testbed.channels.states import flatten_tokens
from c2c.testbed.channels.text import BACKGROUND, CutText, WrittenText, wordings
from c2c.testbed.items import Item, read_items, write_items
from c2c.testbed.layout import ItemLayout, lay_out, token_spans
from c2c.testbed.models import StateReader
from c2c.testbed.run import ChannelRun, run_test_bed

CHANNELS = [
    *("identity", "random_states", "text", "ridge", "ridge_int8", "ridge_int4", "subset", "low_rank"),
    *("c2c", "c2c_on_ridge", "latent", "activation_places", "concept"),
]
"""All channels that items without places can have, between two models."""
QUICK = {"steps": 3, "batch_size": 8, "width": 8, "curve_items": 4}
SETTINGS = {name: QUICK for name in ("c2c", "c2c_on_ridge", "concept")} | {
    "latent": QUICK | {"latent_layers": 2, "latent_width": 4},
    "text": {"message_tokens": 6},
    "low_rank": {"rank": 4},
}


def question_of(item: Item) -> Item:
    """An item as a benchmark's question: both models read the same, and nothing is redacted."""
    text = item.full_prompt
    texts = {"sharer_texts": (text,), "prompt": text, "full_prompt": text, "target_prompt": text}
    return replace(item, task="arc_easy_text", places=(), facts={}, by_character=True, **texts)


@pytest.fixture(scope="session")
def questions(items) -> dict[str, list[Item]]:
    return {split: [question_of(item) for item in its_items[:24]] for split, its_items in items.items()}


@pytest.fixture
def layouts(pair, questions) -> dict[str, list[ItemLayout]]:
    return {split: [lay_out(item, pair.receiver) for item in its_items] for split, its_items in questions.items()}


@pytest.fixture
def run(folders, questions, tmp_path) -> ChannelRun:
    for split, its_items in questions.items():
        write_items(tmp_path / "questions" / f"{split}.jsonl", its_items)
    return ChannelRun(
        scale="test",
        pair="tiny",
        seed=0,
        **folders,
        items=tmp_path / "questions",
        channels=CHANNELS,
        settings=SETTINGS,
        output=tmp_path / "records.parquet",
    )


def records(run: ChannelRun) -> pd.DataFrame:
    run_test_bed(run)
    return pd.read_parquet(run.output)


def of_channels(run: ChannelRun, *channels: str) -> ChannelRun:
    settings = {name: values for name, values in run.settings.items() if name in channels}
    return replace(run, channels=channels, settings=settings)


def test_items_keep_how_their_options_are_compared(questions, tmp_path: Path) -> None:
    write_items(tmp_path / "test.jsonl", questions["test"])
    assert read_items(tmp_path / "test.jsonl") == questions["test"]


def test_all_channels_answer_questions_with_all_their_messages_but_self(run, questions) -> None:
    frame = records(run)
    messages = frame.groupby("channel")["message"].unique().map(set)
    codes = {"matched", "deranged", "zeroed", "random", "adapter"}
    states = codes | {"keys", "values"}
    for channel in ("ridge", "ridge_int8", "ridge_int4", "subset", "c2c", "c2c_on_ridge", "latent"):
        assert messages[channel] == states
    for channel in ("low_rank", "activation_places", "concept"):
        assert messages[channel] == codes
    assert messages["identity"] == messages["random_states"] == states - {"adapter"}
    assert messages["text"] == {"matched", "deranged", "zeroed"}
    counts = frame[frame["message"].isin(["matched", "none"])].groupby("channel").size()
    assert set(counts) == {len(questions["test"])}
    assert not frame["exact"].any() and set(frame["text"]) == {""}


def test_the_unredacted_text_and_own_states_are_the_receiver_itself(run) -> None:
    frame = records(of_channels(run, "identity")).set_index(["channel", "message", "id"])
    receiver = frame.loc["receiver", "none"]
    assert frame.loc["full", "none"]["answer_logp"].tolist() == receiver["answer_logp"].tolist()
    for channel in ("own_states", "identity"):
        assert frame.loc[channel, "matched"]["answer_logp"].tolist() == pytest.approx(
            receiver["answer_logp"].tolist(), abs=1e-5
        )


@pytest.mark.parametrize("channel", ["activation", "text_cut"])
def test_a_channel_that_needs_places_is_refused_before_any_model_is_loaded(run, channel, monkeypatch) -> None:
    monkeypatch.setattr("c2c.testbed.run.load_models", lambda *_: pytest.fail("loaded"))
    with pytest.raises(RefusedError, match=f"The items of {channel} must have places"):
        run_test_bed(of_channels(run, channel))


def test_another_text_of_the_sharer_is_refused(pair, questions) -> None:
    with pytest.raises(RefusedError, match="must read the Receiver's prompt"):
        lay_out(replace(questions["test"][0], sharer_texts=("another",)), pair.receiver)


def test_the_whole_prompt_but_its_last_token_is_fused(layouts) -> None:
    for layout in layouts["test"]:
        assert layout.prompt.places == tuple(range(len(layout.prompt.tokens) - 1))
        assert layout.context == layout.redacted == layout.own == layout.target
        assert layout.context.tokens == len(layout.prompt.places) and layout.context.is_whole


def test_the_closed_form_has_a_row_for_each_token_of_the_prefix(pair, layouts) -> None:
    examples = [layout.example for layout in layouts["train"]]
    fit, predictions = fit_examples(pair, examples)
    inputs = flatten_tokens(pair.sharer.states([example.context for example in examples]))
    outputs = flatten_tokens(pair.receiver.states([example.target for example in examples]))
    assert len(inputs) == sum(len(example.prompt.places) for example in examples)
    other = RidgeMap.fit(inputs, outputs)
    assert torch.equal(fit.held_out, other.held_out)
    assert torch.allclose(flatten_tokens(predictions), other.held_out, atol=1e-5)


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, after a token that begins every text: characters outside ASCII have several tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({token: number for number, token in enumerate(["<s>", *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<s>", bos_token="<s>", eos_token="<s>")


def test_tokens_that_share_a_character_are_fused_once(tiny_model, tokenizer, byte_tokenizer, questions) -> None:
    receiver = StateReader(LoadedModel("receiver", tiny_model("qwen3", vocab=len(byte_tokenizer)), byte_tokenizer))
    sharer = StateReader(LoadedModel("sharer", tiny_model("llama", vocab=len(tokenizer)), tokenizer))
    text = "é is what?\nAnswer:"
    item = replace(questions["test"][0], sharer_texts=(text,), prompt=text, full_prompt=text, target_prompt=text)
    assert token_spans(receiver, text)[0] == (0, 1)
    layout = lay_out(item, receiver)
    assert layout.prompt.places == tuple(range(len(layout.prompt.tokens) - 1))
    (states,) = sharer.states([layout.context])
    assert states.shape[3] == len(layout.prompt.places)


def test_options_of_a_question_are_compared_by_the_character(layouts) -> None:
    prompt = replace(layouts["test"][0].prompt, options=("no", "a long one"))
    assert prompt.choose((-2.0, -5.0)) == 1
    assert replace(prompt, by_character=False).choose((-2.0, -5.0)) == 0
    assert replace(prompt, options=()).choose(()) == -1


def test_the_sharer_is_asked_for_background_where_both_models_read_the_same(pair, layouts) -> None:
    channel, context = WrittenText(pair), layouts["test"][0].context
    request = channel.question(context.texts[0], 6, context.is_whole).prompt
    assert request == wordings()[BACKGROUND]["t2t_question"].replace("{{prompt}}", context.texts[0])
    assert channel.question(context.texts[0], 6).prompt != request
    assert CutText.needs_places and not getattr(WrittenText, "needs_places", False)
