"""How much faster batches are than one question at a time, on a real pair, with the same answers.

    python -m benchmarks.speed.batches --receiver MODEL --sharer MODEL --tasks benchmarks/tasks --benchmarks ID=FILE

The Fusers are untrained with open gates: the time does not depend on what they have learned.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from c2c.alignment.chat import ChatAligner
from c2c.errors import exit_code
from c2c.evaluation.answers.answer import Answer
from c2c.evaluation.methods.method import Method
from c2c.evaluation.methods.text_to_text import TextToText
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.tasks import load_tasks, questions_of
from c2c.evaluation.readers.fused import FusedReader, SharerPrompts
from c2c.evaluation.readers.reader import SingleReader
from c2c.fuser.stack import FuserStack
from c2c.models.pair import Pair, load_pair
from c2c.provenance import stamp
from c2c.rosetta import RosettaModel
from c2c.storage.files import write_atomically
from c2c.types import PROMPTS

METHODS = ("receiver", "sharer", "t2t", "c2c")
WARM_UP = 2


def method_of(name: str, pair: Pair, hidden_dim: int, token_budget: int) -> Method:
    """A method as it stands before its first question; the Fusers are untrained, with open gates."""
    if name == "t2t":
        return TextToText(pair, token_budget)
    if name != "c2c":
        return Method(name, SingleReader(getattr(pair, name), private=name == "sharer"), token_budget)
    torch.manual_seed(0)
    sizes = {"hidden_dim": hidden_dim, "intermediate_dim": hidden_dim}
    stack = FuserStack.between(pair.sharer.model.config, pair.receiver.model.config, **sizes)
    stack.force_gates(True)
    model = RosettaModel.of_stacks(pair.receiver.model, [pair.sharer.model], [stack])
    aligner = ChatAligner(pair.receiver.tokenizer, pair.sharer.tokenizer)
    return Method(name, FusedReader([SharerPrompts(pair, model.eval(), aligner)]), token_budget)


def measure(build: Callable[[int], Method], questions: Sequence[Question], token_budget: int) -> dict[str, Any]:
    """Seconds of all questions in batches and one by one, and whether the answers are the same.

    Args:
        build: A new method with a token budget.
        questions: What is asked.
        token_budget: Of the batches.
    """
    seconds, answers = {}, {}
    for how, budget in (("batched", token_budget), ("single", 1)):
        build(budget).answer(questions[:WARM_UP])
        method, started = build(budget), time.perf_counter()
        answers[how] = method.answer(questions)
        seconds[how] = time.perf_counter() - started
    matches = sum(
        are_equal(batched, single) for batched, single in zip(answers["batched"], answers["single"], strict=True)
    )
    return {
        "questions": len(questions),
        "same_answers": matches,
        "tokens_out": sum(answer.tokens_out for answer in answers["single"]),
        "batched_s": round(seconds["batched"], 2),
        "single_s": round(seconds["single"], 2),
        "ratio": round(seconds["single"] / seconds["batched"], 2),
    }


def are_equal(batched: Answer, single: Answer, tolerance: float = 1e-3) -> bool:
    """The same tokens and message, or the same likelihoods within a tolerance in nats."""
    if batched.error or single.error:
        return False
    if batched.choice_scores is None or single.choice_scores is None:
        return (batched.output_ids, batched.message) == (single.output_ids, single.message)
    return all(abs(a - b) <= tolerance for a, b in zip(batched.choice_scores, single.choice_scores, strict=True))


def first_questions(task: Any, prompts: str, limit: int) -> list[Question]:
    """The first questions of a task, with their options where it gives some."""
    questions = questions_of(task, prompts, limit or None)
    if task.OUTPUT_TYPE == "multiple_choice":
        for question in questions:
            delimiter = task.config.target_delimiter
            question.options = tuple(f"{delimiter}{option}" for option in task.doc_to_choice(question.doc))
    return questions


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write a JSON file if asked to; a refusal is one line and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--receiver", required=True)
    parser.add_argument("--sharer", required=True)
    parser.add_argument("--tasks", type=Path, required=True, help="folder of task files")
    parser.add_argument("--benchmarks", nargs="+", required=True, metavar="ID=FILE", help="prepared questions")
    parser.add_argument("--methods", nargs="+", default=["receiver", "c2c"], choices=METHODS)
    parser.add_argument("--prompts", choices=PROMPTS, default="plain")
    parser.add_argument("--limit", type=int, default=32, help="first questions of each benchmark")
    parser.add_argument("--max-new-tokens", type=int, default=0, help="of a free answer; 0 leaves it to the task")
    parser.add_argument("--token-budget", type=int, default=4096)
    parser.add_argument("--hidden-dim", type=int, default=256, help="of the Fusers")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves it to torch")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args(arguments)
    return exit_code("benchmarks.speed.batches", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if options.threads:
        torch.set_num_threads(options.threads)
    files = {name: Path(path) for name, _, path in (item.partition("=") for item in options.benchmarks)}
    tasks: Mapping[str, Any] = load_tasks(options.tasks, files)["tasks"]
    pair = load_pair(options.receiver, options.sharer)
    results: dict[str, dict[str, Any]] = {}
    for name in options.methods:
        build = partial(method_of, name, pair, options.hidden_dim)
        for benchmark, task in tasks.items():
            questions = first_questions(task, options.prompts, options.limit)
            for question in questions:
                question.max_new_tokens = options.max_new_tokens or question.max_new_tokens
            results.setdefault(benchmark, {})[name] = measure(build, questions, options.token_budget)
            print(benchmark, name, json.dumps(results[benchmark][name]), flush=True)
    if options.output:
        settings = {name: value for name, value in vars(options).items() if name not in ("tasks", "output")}
        with stamp(options.output, inputs=list(files.values()), settings=settings):
            write_atomically(options.output, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
