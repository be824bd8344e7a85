"""One call from messages to text."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, TextIteratorStreamer

import c2c
from c2c import FuserStack, RefusedError
from c2c.agents.chat_pipeline import ChatPipeline, converse
from c2c.agents.writing import all_end_tokens
from c2c.checkpoints.checkpoint import save_stack
from c2c.cli.main import main
from c2c.fusion.batch import collate_chats
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair

CASE = Path(__file__).parent / "golden" / "qwen3_from_qwen2"
TURNS = [
    {"role": "system", "content": "be red"},
    {"role": "user", "content": "what is the color of home?"},
    {"role": "assistant", "content": "blue"},
    {"role": "user", "content": "and oslo 😀?"},
]


@pytest.fixture(scope="module")
def pair(tiny_model, chat_receiver, chat_sharer) -> Pair:
    receiver = tiny_model("qwen3", vocab=len(chat_receiver))
    sharer = tiny_model("llama", layers=4, kv_heads=1, head_dim=12, vocab=len(chat_sharer), seed=1)
    return Pair(LoadedModel("receiver", receiver, chat_receiver), LoadedModel("sharer", sharer, chat_sharer))


@pytest.fixture
def stack(pair, open_gates) -> FuserStack:
    """Fusers with open gates."""
    torch.manual_seed(3)
    shapes = (pair.sharer.model.config, pair.receiver.model.config)
    made = FuserStack.between(*shapes, hidden_dim=16, intermediate_dim=16)
    open_gates(c2c.RosettaModel.of_stacks(pair.receiver.model, [pair.sharer.model], [made]))
    return made


@pytest.fixture
def pipe(pair, stack) -> ChatPipeline:
    return c2c.pipeline(pair.receiver, pair.sharer, stack)


def test_a_text_is_one_users_message_and_the_answer_is_what_generate_writes(pipe, pair) -> None:
    answer = pipe("what is home?", max_new_tokens=6)
    messages = [{"role": "user", "content": "what is home?"}]
    assert answer == pipe(messages, max_new_tokens=6)
    batch = collate_chats([pipe.aligner.align(messages)], 0, 0)
    ids = pipe.model.generate(
        batch.kv_cache_index, batch.input_ids, max_new_tokens=6, sharer_inputs=[batch.sharer_input]
    )
    assert answer == pair.receiver.tokenizer.decode(ids[0, batch.input_ids.shape[1] :], skip_special_tokens=True)
    assert answer


def test_a_batch_of_conversations_is_answered_as_each_is_alone(pipe) -> None:
    conversations = ["what is home?", TURNS, TURNS[1:], TURNS[:2]]
    answers = pipe(conversations, max_new_tokens=8)
    assert answers == [pipe(each, max_new_tokens=8) for each in conversations]
    assert len(set(answers)) > 1
    assert pipe([TURNS], max_new_tokens=8) == [answers[1]]


def test_the_answer_depends_on_what_the_sharer_read_and_on_the_alignment(pair, stack) -> None:
    pipes = [c2c.pipeline(pair.receiver, pair.sharer, stack, alignment=each) for each in ("span", "longest")]
    zeroed = ChatPipeline(pair, pipes[0].model, zeroed=True)
    assert len({pipe(TURNS, max_new_tokens=8) for pipe in (*pipes, zeroed)}) == 3


def test_an_answer_ends_before_the_first_stop_string_and_holds_no_special_token(pipe) -> None:
    whole = pipe("what is home?", max_new_tokens=24)
    first, second = whole[4:6], whole[9:11]
    cut = pipe("what is home?", max_new_tokens=24, stop=(second, first))
    assert cut == whole[: min(whole.index(first), whole.index(second))]
    assert pipe("what is home?", max_new_tokens=24, stop=first) == whole.split(first)[0]
    assert all(special not in whole for special in pipe.pair.receiver.tokenizer.all_special_tokens)


def test_a_turn_ends_with_the_tokenizers_end_token_although_the_model_does_not_name_it(pipe, pair, stack) -> None:
    batch = collate_chats([pipe.aligner.align(TURNS[1:2])], 0, 0)
    written = pipe.model.generate(
        batch.kv_cache_index, batch.input_ids, max_new_tokens=16, sharer_inputs=[batch.sharer_input]
    )[0, batch.input_ids.shape[1] :].tolist()  # fmt: skip
    end = next(place for place in range(3, 16) if written.index(written[place]) == place)
    tokenizer = copy.deepcopy(pair.receiver.tokenizer)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(written[end])
    assert tokenizer.eos_token_id != pair.receiver.model.config.eos_token_id
    changed = c2c.pipeline(dataclasses.replace(pair.receiver, tokenizer=tokenizer), pair.sharer, stack)
    expected = tokenizer.decode(written[:end], skip_special_tokens=True)
    assert changed(TURNS[1:2], max_new_tokens=16) == expected != pipe(TURNS[1:2], max_new_tokens=16)


def test_options_reach_generation(pipe, monkeypatch) -> None:
    seen = {}

    def generate(kv_cache_index, input_ids, attention_mask, **options):
        seen.update(options)
        return torch.cat([input_ids, input_ids[:, :2]], dim=1)

    monkeypatch.setattr(pipe.model, "generate", generate)
    streamer = object()
    pipe("red", max_new_tokens=3, do_sample=True, temperature=0.5, stop="x", streamer=streamer)
    assert (seen["max_new_tokens"], seen["do_sample"], seen["temperature"]) == (3, True, 0.5)
    assert seen["stop_strings"] == ["x"]
    assert seen["streamer"] is streamer
    assert seen["eos_token_id"] == all_end_tokens(pipe.pair.receiver)


def test_a_stream_of_several_conversations_is_refused(pipe) -> None:
    with pytest.raises(RefusedError, match="A batch with a streamer must have one row"):
        pipe(["red", "blue"], max_new_tokens=2, streamer=TextIteratorStreamer(pipe.pair.receiver.tokenizer))


def test_a_final_message_is_continued(pipe) -> None:
    messages = [TURNS[1], {"role": "assistant", "content": "the color"}]
    assert pipe(messages, continue_final_message=True, max_new_tokens=8) != pipe(messages, max_new_tokens=8)


def test_a_base_model_completes_plain_text_and_is_refused_a_conversation(
    pair, stack, word_tokenizer, tiny_model
) -> None:
    base = LoadedModel("base", pair.receiver.model, word_tokenizer)
    pipe = c2c.pipeline(base, pair.sharer, stack)
    texts = ["what is the color", "the home is red"]
    completed = pipe.complete(texts, max_new_tokens=5)
    assert completed == [pipe.complete(each, max_new_tokens=5) for each in texts]
    with pytest.raises(RefusedError, match="complete"):
        pipe("what is home?")


@pytest.mark.parametrize("messages", [[], [[]], ["red", []]])
def test_no_messages_are_refused(pipe, messages) -> None:
    with pytest.raises(RefusedError, match="at least one message"):
        pipe(messages)


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        ({"role": "user", "content": "red"}, "must be a text or a list of messages"),
        (None, "must be a text or a list of messages"),
        ([["red", "blue"]], "each of them a text or a list of messages"),
    ],
)
def test_what_is_no_conversation_is_refused_and_nothing_of_it_left_out(pipe, messages, rule) -> None:
    with pytest.raises(RefusedError, match=rule):
        pipe(messages)


@pytest.mark.parametrize("option", [{"eos_token_id": 5}, {"stop_strings": ["red"]}, {"sharer_inputs": []}])
def test_options_that_the_pipeline_sets_itself_are_refused(pipe, option) -> None:
    with pytest.raises(RefusedError, match="must not be one that the pipeline sets from its models"):
        pipe("red", **option)


def test_several_sharers_are_refused_by_the_pipeline_with_what_takes_them(pair, stack) -> None:
    receiver, sharer = pair.receiver, pair.sharer
    with pytest.raises(RefusedError, match=r"one Sharer; received 'a list of 2'.*collate_chats"):
        c2c.pipeline(receiver, [sharer, sharer], stack)
    with pytest.raises(RefusedError, match=r"one folder of Fusers; received 'a list of 2'.*collate_chats"):
        c2c.pipeline(receiver, sharer, [stack, stack])
    model = c2c.RosettaModel.of_stacks(receiver.model, [sharer.model] * 2, [stack, stack])
    with pytest.raises(RefusedError, match=r"one Sharer; received '2 Sharers'.*collate_chats"):
        ChatPipeline(pair, model)


def test_fusers_of_other_models_are_refused(pair, tiny_model) -> None:
    other = FuserStack.between(tiny_model("qwen2", layers=2).config, pair.receiver.model.config, hidden_dim=8)
    with pytest.raises(RefusedError, match="must fit the sharer"):
        c2c.pipeline(pair.receiver, pair.sharer, other)


def test_saved_fusers_are_refused_for_other_models_unless_the_line_is_named(folders, pair, tiny_model) -> None:
    other = tiny_model("llama", layers=4, kv_heads=1, head_dim=12, vocab=len(pair.sharer.tokenizer), seed=9)
    sharer = LoadedModel("sharer", other, pair.sharer.tokenizer)
    with pytest.raises(RefusedError, match=r"sharer\.weights_sha256"):
        c2c.pipeline(pair.receiver, sharer, folders["fuser"])
    pipe = c2c.pipeline(pair.receiver, sharer, folders["fuser"], override=["sharer.weights_sha256"])
    assert pipe.model.contract_check.accepted


@pytest.mark.parametrize(
    ("recipe", "alignment"),
    [
        ({}, "unaligned"),
        ({"is_do_alignment": False, "alignment_strategy": "longest"}, "unaligned"),
        ({"is_do_alignment": True, "alignment_strategy": "longest"}, "longest"),
    ],
)
def test_published_fusers_are_used_as_their_recipe_says(recipe, alignment, chat_receiver, tmp_path) -> None:
    shutil.copytree(CASE / "released_1", tmp_path / "released")
    (tmp_path / "released" / "config.json").write_text(json.dumps({"model": recipe}))
    models = [AutoModelForCausalLM.from_pretrained(CASE / name).eval() for name in ("receiver", "sharer_1")]
    models[1].config.vocab_size = len(chat_receiver)  # nothing is read here, so that the golden models' few rows serve
    loaded = [LoadedModel(name, model, chat_receiver) for name, model in zip("ab", models, strict=True)]
    pipe = c2c.pipeline(*loaded, tmp_path / "released")
    assert pipe.aligner.tokens.alignment == alignment


def test_unaligned_the_sharer_reads_all_tokens_of_the_receivers_rendering_but_the_last(pair, stack) -> None:
    aligned = c2c.ChatAligner(pair.receiver.tokenizer, pair.sharer.tokenizer, "unaligned").align(TURNS)
    rendered = pair.receiver.tokenizer.apply_chat_template(TURNS, add_generation_prompt=True, tokenize=False)
    assert aligned.receiver_ids == pair.receiver.tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert aligned.sharer_ids == aligned.receiver_ids[:-1]
    assert aligned.token_map == list(range(len(aligned.sharer_ids)))


def test_unaligned_a_sharer_that_lacks_tokens_of_the_receiver_is_refused_before_any_prompt(pair, tiny_model) -> None:
    tokens = len(pair.receiver.tokenizer)
    for vocabulary in (tokens - 1, tokens + 3):
        small = LoadedModel("small", tiny_model("qwen2", layers=4, vocab=vocabulary, seed=5), pair.sharer.tokenizer)
        stack = c2c.FuserStack.between(small.model.config, pair.receiver.model.config, hidden_dim=8)
        if vocabulary > tokens:
            c2c.pipeline(pair.receiver, small, stack, alignment="unaligned")
        else:
            with pytest.raises(
                RefusedError, match=rf"must have embeddings of all {tokens} tokens.*{vocabulary} embeddings.*span"
            ):
                c2c.pipeline(pair.receiver, small, stack, alignment="unaligned")


def test_an_answer_streams_as_it_is_written(pipe, pair) -> None:
    streamer = TextIteratorStreamer(pair.receiver.tokenizer, skip_prompt=True, skip_special_tokens=True)
    answer = pipe("what is home?", max_new_tokens=6, streamer=streamer)
    assert "".join(streamer) == answer


def test_models_in_memory_are_given_with_their_tokenizers(pair, stack, pipe) -> None:
    given = [(loaded.model, loaded.tokenizer) for loaded in (pair.receiver, pair.sharer)]
    assert c2c.pipeline(*given, stack)(TURNS, max_new_tokens=6) == pipe(TURNS, max_new_tokens=6)
    twice = c2c.pipeline(given[0], given[0], c2c.FuserStack.between(*[pair.receiver.model.config] * 2, hidden_dim=8))
    assert twice.pair.receiver is twice.pair.sharer


@pytest.mark.parametrize("place", ["receiver", "sharer"])
@pytest.mark.parametrize(
    "made",
    [
        lambda loaded: loaded.model,
        lambda loaded: (loaded.tokenizer, loaded.model),
        lambda loaded: (loaded.model,),
        lambda loaded: None,
        lambda loaded: (),
    ],
    ids=["bare", "swapped", "one", "none", "empty"],
)
def test_a_model_without_its_tokenizer_is_refused(place, made, pair, stack) -> None:
    given = {"receiver": pair.receiver, "sharer": pair.sharer}
    with pytest.raises(RefusedError, match=rf"The {place} must be .* Pass LoadedModel\(name, model, tokenizer\)"):
        c2c.pipeline(**{**given, place: made(given[place])}, fuser=stack)


def test_fusers_of_another_kind_are_refused(pair, stack) -> None:
    for fuser in (None, stack.fuser_of(0)):
        with pytest.raises(RefusedError, match=rf"fuser must be .*{type(fuser).__name__}.*FuserStack.between"):
            c2c.pipeline(pair.receiver, pair.sharer, fuser)


@pytest.mark.parametrize("wrong", [5, None, ["red", 5], b"red"])
def test_what_is_no_text_is_refused_as_a_stop_string_and_as_a_prompt(wrong, pipe) -> None:
    with pytest.raises(RefusedError, match="stop must be a text or a list of texts"):
        pipe("what is home?", stop=wrong)
    with pytest.raises(RefusedError, match="A text to continue must be a text or a list of texts"):
        pipe.complete(wrong)


def test_an_unknown_precision_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(RefusedError, match="Did you mean 'float32'"):
        c2c.pipeline("nobody/nothing", "nobody/nothing", "nowhere", dtype="float23")


@pytest.fixture
def folders(pair, stack, tmp_path) -> dict[str, str]:
    """Both models and their Fusers as folders."""
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(tmp_path / loaded.name)
        loaded.tokenizer.save_pretrained(tmp_path / loaded.name)
    lines = {"receiver": pair.receiver.description, "sharer": pair.sharer.description}
    save_stack(stack, tmp_path / "fuser", **lines, about={"alignment": "longest", "sharer_cache": "own"})
    save_stack(stack, tmp_path / "adapter", **lines, about={"alignment": "span", "sharer_cache": "zeroed"})
    return {name: str(tmp_path / name) for name in ("receiver", "sharer", "fuser", "adapter")}


def test_folders_are_loaded_and_the_checkpoint_says_how_its_fusers_are_used(folders, pair, stack) -> None:
    pipe = c2c.pipeline(folders["receiver"], folders["sharer"], folders["fuser"])
    assert (pipe.aligner.tokens.alignment, pipe.zeroed) == ("longest", False)
    assert pipe(TURNS, max_new_tokens=8) == c2c.pipeline(
        pair.receiver, pair.sharer, stack, alignment="longest"
    )(TURNS, max_new_tokens=8)  # fmt: skip
    other = c2c.pipeline(pair.receiver, pair.sharer, folders["fuser"], alignment="span", device="cpu")
    assert other.aligner.tokens.alignment == "span"
    assert c2c.pipeline(pair.receiver, pair.sharer, folders["adapter"]).zeroed


def test_one_model_in_both_roles_is_loaded_once(folders, pair, tmp_path) -> None:
    config = pair.receiver.model.config
    own = {"receiver": pair.receiver.description, "sharer": pair.receiver.description}
    save_stack(FuserStack.between(config, config, hidden_dim=8), tmp_path / "identical", **own)
    pipe = c2c.pipeline(folders["receiver"], folders["receiver"], tmp_path / "identical")
    assert pipe.pair.receiver is pipe.pair.sharer
    assert pipe.aligner.identical


def test_lines_are_answered_in_one_conversation(pipe) -> None:
    messages = converse(pipe, ["what is home?\n", "\n", "and oslo?\n"], max_new_tokens=4)
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2
    assert messages[1]["content"] == pipe("what is home?", max_new_tokens=4)
    assert messages[3]["content"] == pipe(messages[:3], max_new_tokens=4)


def test_the_command_answers_one_message_and_refuses_in_one_line(folders, pipe, capsys) -> None:
    models = ["--receiver", folders["receiver"], "--sharer", folders["sharer"]]
    asked = ["--message", "what is home?", "--max-new-tokens", "6", "--alignment", "span"]
    assert main(["chat", *models, "--fuser", folders["fuser"], *asked]) == 0
    assert capsys.readouterr().out == pipe("what is home?", max_new_tokens=6) + "\n"
    assert main(["chat", *models, "--fuser", folders["receiver"], *asked]) == 2
    assert "c2c chat: A fuser folder must hold" in capsys.readouterr().err


def test_the_command_reads_lines_and_streams_the_answers(folders, capsys, monkeypatch) -> None:
    shown = []

    def answer(self, messages, *, streamer, **options):
        shown.append([message["content"] for message in messages])
        streamer.put(torch.tensor([[5]]))
        for token in self.pair.receiver.tokenizer("red home", add_special_tokens=False)["input_ids"]:
            streamer.put(torch.tensor([token]))
        streamer.end()
        return "red home"

    monkeypatch.setattr(ChatPipeline, "__call__", answer)
    monkeypatch.setattr("sys.stdin", io.StringIO("what?\nwhere?\n"))
    models = ["--receiver", folders["receiver"], "--sharer", folders["sharer"], "--fuser", folders["fuser"]]
    assert main(["chat", *models]) == 0
    assert shown == [["what?"], ["what?", "red home", "where?"]]
    assert capsys.readouterr().out == "red home\n" * 2
