"""The prompts of the released code: their words, their lengths, and a tiny pair that answers and learns in them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks.prompts import PromptFormat
from benchmarks.teacher import Sampling, question_of
from c2c.analysis.enriched import Enrichment
from c2c.analysis.enrichment import EnrichmentRun, enrich, read_shots
from c2c.errors import RefusedError
from c2c.evaluation.generate import GenerationRun, generate
from c2c.evaluation.protocol import ORACLE_TASK, RELEASED, RELEASED_TASK
from c2c.evaluation.questions.prompting import prompt_ids, prompt_text, question_with_message
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.tasks import load_tasks, questions_of
from c2c.evaluation.scoring import mark
from c2c.evaluation.scoring.letters import extract_as_published
from paper.reading.answers import Answers
from paper.tables import main as main_table
from paper.tables import published
from workflow.data import Data

TASKS = Path(__file__).resolve().parents[2] / "benchmarks" / "tasks"
TASK = f"mmlu_redux_letter{RELEASED_TASK}"
WORDS = ["sea", "sun", "ice", "oak"]
ROWS = [
    {"id": f"q{n}", "subset": "s", "question": f"What is {WORDS[n]}?", "options": WORDS, "answer": "ABCD"[n]}
    for n in range(4)
]
PROMPT = """Accurately answer the following question:

What is sea?

Choices:
A. sea
B. sun
C. ice
D. oak


Instructions:
- Carefully read the question and all options.
- Select the single most correct answer.
- Respond ONLY in the following format: "The correct answer is A/B/C/D".
- Do not include any explanations, additional text, or punctuation besides the answer.

The correct answer is"""


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    path = tmp_path / "mmlu_redux.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def ask(prepared: Path, task: str = TASK, prompts: str = "chat", pair: str = "") -> list[Question]:
    return questions_of(load_tasks(TASKS, {task: prepared})["tasks"][task], prompts, pair=pair)


def test_a_choice_is_asked_in_the_released_words_and_nothing_opens_the_answer(prepared: Path) -> None:
    first = ask(prepared)[0]
    assert first.messages == ({"role": "user", "content": PROMPT},)
    assert ask(prepared, prompts="plain")[0].prompt == PROMPT
    assert (first.max_new_tokens, first.stops, first.options) == (64, (), ())


def test_where_logits_are_compared_the_released_opening_of_a_reply_comes_first(prepared: Path) -> None:
    first = ask(prepared, f"mmlu_redux_logits{RELEASED_TASK}")[0]
    assert [message["content"] for message in first.messages] == [PROMPT, "The correct answer is"]


@pytest.mark.parametrize(
    ("pair", "answer", "message"),
    [
        ("qwen3_from_qwen25", 64, None),
        ("qwen3_from_qwen3_4b", 8, None),
        ("qwen3_from_qwen25_math_mmlu", 1024, 1024),
    ],
)
def test_answers_and_messages_are_as_long_as_the_paper_has_them_for_a_pair(
    prepared: Path, pair: str, answer: int, message: int | None
) -> None:
    first = ask(prepared, pair=pair)[0]
    assert (first.max_new_tokens, first.message_tokens) == (answer, message)


def test_a_text_of_longbench_is_asked_in_its_own_words_and_answered_in_2048_tokens(tmp_path: Path) -> None:
    path, task = tmp_path / "longbench.jsonl", f"longbench{RELEASED_TASK}"
    row = {"id": "a", "subset": "s", "dataset": "hotpotqa", "context": "TEXT {input}", "question": "Who?"}
    path.write_text(json.dumps(row | {"answers": ["Ann"], "metric": "qa_f1", "classes": None, "first_line": False}))
    (first,) = ask(path, task)
    assert first.max_new_tokens == 2048 and len(first.messages) == 1
    assert first.messages == ({"role": "user", "content": first.prompt},)
    assert "The following are given passages.\nTEXT {input}\n\nAnswer the question" in first.prompt
    assert first.prompt.endswith("Question: Who?\nAnswer:")


@pytest.mark.parametrize("dataset", ["trec", "triviaqa", "samsum", "lcc", "repobench-p", "qasper"])
def test_a_text_of_longbench_is_one_message_to_which_the_chat_template_is_applied_once(
    tmp_path: Path, chat_pair, dataset: str
) -> None:
    path, task = tmp_path / "longbench.jsonl", f"longbench{RELEASED_TASK}"
    row = {"id": "a", "subset": "s", "dataset": dataset, "context": "TEXT", "question": "Who?", "answers": ["Ann"]}
    path.write_text(json.dumps(row | {"metric": "qa_f1", "classes": None, "first_line": False}))
    (first,) = ask(path, task)
    text = prompt_text(chat_pair.sharer, first)
    assert text.count("TEXT") == text.count("[user]") == 1


def test_the_receiver_of_t2t_reads_the_released_request_the_message_and_the_question(prepared: Path) -> None:
    turns = question_with_message(ask(prepared)[0], "MESSAGE").messages
    request = "In one clear sentence, describe the most essential background knowledge needed to answer the question: "
    assert [turn["content"] for turn in turns] == [f"{request}What is sea?", "MESSAGE", PROMPT]


def test_the_enrichment_oracle_follows_the_released_script(
    pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = f"mmlu_redux_logits{ORACLE_TASK}"
    asked, examples = tmp_path / "asked.jsonl", tmp_path / "examples.jsonl"
    rows = [row | {"subset": "high_school_physics"} for row in ROWS]
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples.write_text("".join(json.dumps(row | {"id": f"shot {row['id']}"}) + "\n" for row in rows))
    monkeypatch.setattr(pair.receiver.model.config, "max_position_embeddings", 1024)
    pair.receiver.model.save_pretrained(tmp_path / "model")
    pair.receiver.tokenizer.save_pretrained(tmp_path / "model")
    run = EnrichmentRun(
        scale="tiny", pair="tiny", receiver=str(tmp_path / "model"), sharers=[str(tmp_path / "model")], tasks=TASKS,
        benchmarks={task: asked}, examples=examples, shots=2, most=1, output=tmp_path / "records.parquet",
        orders=tmp_path / "orders.csv",
    )  # fmt: skip
    words = "Question: What is {}?\nOptions:\nA. sea\nB. sun\nC. ice\nD. oak\nAnswer: "
    shots = "".join(f"{words.format(word)}Answer: {letter}\n\n" for word, letter in (("sea", "A"), ("sun", "B")))
    lead = "The following are single choice questions (with answers) about high school physics.\n\n"
    released = read_shots(run)
    assert (released.sink_tokens, released.in_order) == (15, True)
    question = ask(asked, task, prompts="plain")[0]
    prompt = Enrichment(pair.receiver, released).prompt(question)
    assert question.prompt == words.format("sea")
    assert prompt.text == f"{lead}{shots}{question.prompt}" and prompt.alone[:15] == prompt.whole[:15]
    # The letters are compared; the oracle alone reads the reply.
    records = enrich(run)
    assert not records["error"].fillna("").any() and set(records["scoring"]) == {"logits"}
    tokens = records[records["question_id"] == "q0"].drop_duplicates("method").set_index("method")["tokens_in"]
    assert tokens["oracle"] == tokens["oracle_layers"] == tokens["few_shot"] + len(prompt.reply) > tokens["few_shot"]
    assert tokens["receiver"] == prompt.enriched


def test_a_field_of_the_oracle_that_there_is_not_is_refused(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "tasks" / "wrong.yaml"
    path.parent.mkdir()
    path.write_text(
        "task: wrong\ndataset_path: json\ntest_split: test\noutput_type: multiple_choice\ndoc_to_text: question\n"
        "doc_to_choice: options\ndoc_to_target: 0\nmetric_list: [{metric: acc}]\n"
        "metadata: {scoring: logits, t2t_question: a, t2t_prompt: b, enrichment: {sinks: 15}}\n"
    )
    run = EnrichmentRun(
        scale="tiny", pair="tiny", receiver="model", sharers=["model"], tasks=path.parent,
        benchmarks={"wrong": prepared}, examples=prepared, shots=2, most=1, output=tmp_path / "records.parquet",
        orders=tmp_path / "orders.csv",
    )  # fmt: skip
    with pytest.raises(RefusedError, match=r"metadata.enrichment of wrong must hold only .*sink_tokens.*'sinks'"):
        read_shots(run)


@pytest.mark.parametrize("path", sorted(TASKS.rglob("*released*.yaml")), ids=lambda path: path.stem)
def test_each_file_with_released_words_names_their_source_commit_and_licence(path: Path) -> None:
    text = path.read_text()
    if "doc_to_text" in text or "t2t_question" in text or 'gen_prefix: "' in text:
        for words in (
            "https://github.com/thu-nics/C2C",
            "69eb70584b5cf32835ca326ba47f0f96d9805375",
            "Apache License 2.0",
        ):
            assert words in text


def test_the_released_training_target_is_a_sentence_that_is_supervised_as_a_whole() -> None:
    example = PromptFormat.load(TASKS, "letter", RELEASED).example(ROWS[1])
    assert example["prompt"] == "Question: What is sun?\n\nChoices:\nA. sea\nB. sun\nC. ice\nD. oak"
    assert (example["response"], example["opening"]) == ("The correct answer is B.", "")
    ours = PromptFormat.load(TASKS, "letter").example(ROWS[1])
    assert (ours["response"], ours["opening"]) == ("B", "Answer:")


def test_a_teacher_is_asked_the_question_alone_in_the_released_words_as_its_answers_are_learned() -> None:
    row = {"id": "a", "question": "How many?", "solution": "2 + 2 = 4", "answer": "4"}
    example = PromptFormat.load(TASKS, "math", RELEASED).example(row)
    assert (example["prompt"], example["opening"]) == ("How many?", "")
    assert question_of(example, 0, Sampling()).messages == ({"role": "user", "content": "How many?"},)


def test_a_way_to_ask_that_the_released_code_lacks_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"A way to ask with the prompts of protocol released must be .*'text'"):
        PromptFormat.load(TASKS, "text", RELEASED)


def test_a_training_set_whose_way_to_ask_the_released_code_lacks_is_refused_with_its_table_and_a_remedy() -> None:
    rows = {"arc_text": {"asked_as": "text", "parts": None}}
    data = Data({"protocol": RELEASED}, {}, rows)
    with pytest.raises(
        RefusedError, match=r"asked_as of a training set must be letter.*'text of arc_text in config.*runs"
    ):
        data.prompt_files("arc_text")


@pytest.fixture
def records(chat_pair, chat_fuser, prepared: Path, tmp_path: Path, monkeypatch) -> pd.DataFrame:
    """Records of a tiny pair in the released prompts, under the ids of one of Table 4; its Receiver learned them."""
    receiver, questions = chat_pair.receiver, ask(prepared)
    monkeypatch.setattr("c2c.evaluation.methods.text_to_text.MESSAGE_TOKENS", 16)
    # The Receiver learns the answers to the four questions.
    optimizer = torch.optim.AdamW(receiver.model.parameters(), lr=3e-3)
    examples = []
    for question in questions:
        prompt = prompt_ids(receiver, prompt_text(receiver, question), chat=True)
        answer = receiver.tokenizer(f"The correct answer is {question.gold}.")["input_ids"]
        ids = torch.tensor([prompt + answer])
        examples.append((ids, torch.tensor([[-100] * len(prompt) + answer])))
    receiver.model.requires_grad_(True).train()
    for _ in range(60):
        for ids, labels in examples:
            receiver.model(ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    # Both models answer, with every method of Table 4.
    places = {}
    for name, loaded in (("receiver", receiver), ("sharer", chat_pair.sharer)):
        loaded.model.config.max_position_embeddings = 1024
        loaded.model.eval().save_pretrained(tmp_path / name)
        loaded.tokenizer.save_pretrained(tmp_path / name)
        places[name] = str(tmp_path / name)
    run = GenerationRun(
        scale="tiny", pair="qwen3_from_qwen25", receiver=places["receiver"], sharers=[places["sharer"]],
        methods=("receiver", "sharer", "routing", "t2t", "c2c"), tasks=TASKS, benchmarks={TASK: prepared},
        output=tmp_path / "records.parquet", fusers=[chat_fuser], recipe="c2c", alignment="span", seed=0,
        prompts="chat", accept_difference=("receiver.weights_sha256",),
    )  # fmt: skip
    return generate(run).assign(receiver="Qwen/Qwen3-0.6B", sharer="Qwen/Qwen2.5-0.5B-Instruct")


def test_a_tiny_pair_answers_in_the_released_prompts_and_fills_the_columns_of_table_4(records: pd.DataFrame) -> None:
    # Letters come from free text of at most 64 tokens.
    assert not records["error"].fillna("").any() and set(records["benchmark"]) == {TASK}
    assert records["tokens_out"].max() == 64
    of_receiver = records[records["method"] == "receiver"]
    assert of_receiver["output_text"].str.startswith("The correct answer is").all()
    assert [extract_as_published(text, 4) for text in of_receiver["output_text"]] == list("ABCD")
    assert mark(of_receiver, RELEASED).mean() == 1
    # Every method of Table 4 has a number beside the paper's, and says which prompts it has.
    answers = Answers(records, RELEASED)
    table = published.build(answers, None).set_index("arm")
    for arm in published.ARMS:
        row = table[table["benchmark"] == TASK].loc[arm]
        assert pd.notna(row["value"]) and pd.notna(row["paper"])
    assert main_table.text_table(main_table.build(answers, None))["Benchmark"].unique() == [
        "MMLU-Redux (letter), released prompts"
    ]
