"""Every input that the commands of `c2c` read, in the smallest form, and the commands that read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml
from transformers import PreTrainedTokenizerFast

from c2c.cli.main import main
from tests.bad_inputs.spoiling import WAYS, sparse
from tests.conftest import build_model

WORDING = {"version": 1, "t2t_question": "{{question}}", "t2t_prompt": "{{message}} {{prompt}}"}
TASK = {
    "dataset_path": "json",
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "output_type": "generate_until",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 2},
    "metadata": {**WORDING, "scoring": "exact"},
}
TRAINING = (
    "--steps 2 --batch-size 2 --hidden-dim 8 --intermediate-dim 8 --evaluate-every 1 --checkpoint-every 1 "
    "--max-length 64"
)
FUSER = "--recipe c2c --alignment span --seed 42"


@dataclass(frozen=True)
class Command:
    """A command and what it reads.

    Args:
        arguments: With ``{folder}`` for the workshop.
        inputs: Files of the workshop that it reads.
    """

    arguments: str
    inputs: tuple[str, ...]

    def run(self, folder: Path) -> int:
        """Run it in this process; returns its exit code."""
        return main([argument.replace("{folder}", str(folder)) for argument in self.arguments.split()])


def model(name: str) -> tuple[str, ...]:
    """The files of a model folder that decide what it answers."""
    return tuple(f"{name}/{file}" for file in ("config.json", "model.safetensors", "tokenizer.json"))


MODELS = (*model("receiver"), *model("sharer"))
FUSER_FILES = ("fuser/config.json", "fuser/model.safetensors", "fuser/manifest.json")
QUESTIONS = ("tasks/free.yaml", "free.jsonl")
PAIR = "--receiver {folder}/receiver --sharer {folder}/sharer"
ASKED = f"{PAIR} --scale smoke --pair tiny --tasks {{folder}}/tasks"
FUSED = f"--fuser {{folder}}/fuser {FUSER}"
BENCHMARK = "--benchmarks free={folder}/free.jsonl"
ANALYSIS = f"{ASKED} --benchmark free={{folder}}/free.jsonl --questions 4"
LEARNED = "--train {folder}/train.parquet --validation {folder}/train.parquet"

COMMANDS = {
    "tokenise": Command(
        f"tokenise {PAIR} --max-length 64 --data {{folder}}/train.jsonl --output {{folder}}/out/train.parquet",
        ("receiver/tokenizer.json", "sharer/tokenizer.json", "train.jsonl"),
    ),
    "train": Command(
        f"train {PAIR} --data {{folder}}/train.jsonl --validation {{folder}}/train.jsonl "
        f"--checkpoints {{folder}}/out/states --output {{folder}}/out/fuser {TRAINING}",
        (*MODELS, "train.jsonl"),
    ),
    "train tokenised": Command(
        f"train {PAIR} --tokenised {{folder}}/train.parquet {{folder}}/train.parquet "
        f"--checkpoints {{folder}}/out/states --output {{folder}}/out/fuser {TRAINING}",
        ("train.parquet",),
    ),
    "train-single": Command(
        f"train-single {PAIR} --tokenised {{folder}}/train.parquet {{folder}}/train.parquet "
        f"--checkpoints {{folder}}/out/states --output {{folder}}/out/model.json {TRAINING}",
        (*model("receiver"), "train.parquet"),
    ),
    "train-latent": Command(
        f"train-latent --pairs tiny --receivers {{folder}}/receiver --sharers {{folder}}/sharer {LEARNED} "
        "--latent-layers 2 --latent-heads 1 --latent-head-dim 8 "
        f"--checkpoints {{folder}}/out/states --output {{folder}}/out/latent {TRAINING}",
        (*MODELS, "train.parquet"),
    ),
    "train-router": Command(
        "train-router --receiver {folder}/receiver --records {folder}/records.parquet --tasks {folder}/tasks "
        f"{BENCHMARK} --output {{folder}}/out/router",
        (*model("receiver"), "records.parquet", *QUESTIONS),
    ),
    "generate": Command(
        f"generate {ASKED} {BENCHMARK} --methods receiver sharer c2c routing_trained {FUSED} "
        "--router {folder}/router --output {folder}/out/records.parquet",
        (*MODELS, *FUSER_FILES, *QUESTIONS, "router/router.json", "router/router.safetensors"),
    ),
    "generate, two Sharers": Command(
        "generate --receiver {folder}/receiver --sharer {folder}/sharer {folder}/sharer "
        "--fuser {folder}/fuser {folder}/fuser --scale smoke --pair tiny --tasks {folder}/tasks --recipe c2c "
        f"--alignment span --seed 42 {BENCHMARK} --methods c2c --output {{folder}}/out/records.parquet",
        (*MODELS, *FUSER_FILES, *QUESTIONS),
    ),
    "latency": Command(
        f"latency {ASKED} {BENCHMARK} --methods receiver c2c {FUSED} --questions 1 --repeats 1 "
        "--output {folder}/out/latency.parquet",
        (*MODELS, *FUSER_FILES, *QUESTIONS),
    ),
    "chat": Command(
        f"chat {PAIR} --fuser {{folder}}/fuser --message red --max-new-tokens 1",
        (*MODELS, *FUSER_FILES),
    ),
    "score": Command("score --records {folder}/records.parquet --output {folder}/out/scores.csv", ("records.parquet",)),
    "accuracy": Command(
        "analyse accuracy --records {folder}/records.parquet --against receiver --output {folder}/out/accuracy.csv",
        ("records.parquet",),
    ),
    "effective-rank": Command(
        f"analyse effective-rank {ANALYSIS} {FUSED} --output {{folder}}/out/ranks.csv",
        (*MODELS, *FUSER_FILES, *QUESTIONS),
    ),
    "enrichment": Command(
        f"analyse enrichment {ANALYSIS} --examples {{folder}}/free.jsonl --shots 1 --most 1 "
        "--orders {folder}/out/orders.csv --output {folder}/out/records.parquet",
        (*model("receiver"), *QUESTIONS),
    ),
    "tsne": Command(
        f"analyse tsne {ANALYSIS} {FUSED} --training-questions 3 --perplexity 2 --iterations 250 --hidden 4 --steps 2 "
        "--clouds {folder}/out/clouds.csv --output {folder}/out/points.csv",
        (*MODELS, *FUSER_FILES, *QUESTIONS),
    ),
    "partial": Command(
        f"analyse partial {ANALYSIS} {FUSED} --shares 0.5 1 --output {{folder}}/out/records.parquet",
        (*MODELS, *FUSER_FILES, *QUESTIONS),
    ),
}


def build(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Fill the workshop; what is trained or answered is made by the commands themselves."""
    words = sorted(word for word in tokenizer.get_vocab() if word.isalpha())
    tokenizer = type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    tokenizer.chat_template = "{% for turn in messages %}{{ turn.content }} {% endfor %}"
    for name, family in (("receiver", "qwen3"), ("sharer", "llama")):
        built = build_model(family, vocab=len(tokenizer), layers=3)
        built.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    (folder / "tasks").mkdir()
    (folder / "tasks" / "free.yaml").write_text(yaml.safe_dump({"task": "free", **TASK}))
    questions = [
        {"id": f"q{n}", "question": " ".join(words[n % 5 :] + words[: n % 3]), "answer": words[n % 4]}
        for n in range(24)
    ]
    lines = [{"id": row["id"], "prompt": row["question"], "response": row["answer"]} for row in questions]
    for path, rows in (("free.jsonl", questions), ("train.jsonl", lines)):
        (folder / path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, target in (("tokenise", "train.parquet"), ("train", "fuser")):
        assert COMMANDS[name].run(folder) == 0
        (folder / "out" / target).rename(folder / target)
    answer = f"generate {ASKED} {BENCHMARK} --methods receiver sharer --output {{folder}}/records.parquet"
    assert Command(answer, ()).run(folder) == 0
    # A router learns from questions that one of the two models alone answers rightly.
    records = pd.read_parquet(folder / "records.parquet").pivot(
        index="question_id", columns="method", values="output_text"
    )
    for number, row in enumerate(questions):
        row["answer"] = records.loc[row["id"], ("receiver", "sharer")[number % 2]] or row["answer"]
    (folder / "free.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    assert Command(answer, ()).run(folder) == 0
    assert COMMANDS["train-router"].run(folder) == 0
    (folder / "out" / "router").rename(folder / "router")


SPOILS: dict[str, Callable[[Path], object]] = {
    **{way: spoil for way, spoil in WAYS.items() if spoil is not sparse},  # 64 GB of a model are to be read
    "a newer version": lambda path: path.write_text(json.dumps({"version": 10**9, "format": 10**9})),
}
"""Ways in which a file is not what it was: its end is lost, it is something else, it is of a newer version."""
