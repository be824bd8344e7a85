"""A training set whose answers a model wrote: the questions of another one, answered by the teacher in its own chats.

    python -m benchmarks.teacher --model results/paper/models/qwen3_4b.json --lines gsm8k_train/train.jsonl \
        --max-new-tokens 1024 --temperature 0.7 --top-p 0.8 --top-k 20 --seed 42 --output gsm8k_teacher/train.jsonl

Answers are sampled, each row by a generator of its own, so that neither the other rows of a batch nor an interruption
change what is drawn. An answer that does not end within its tokens is left out and counted. What was answered before
an interruption is not asked again.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from c2c.errors import RefusedError, exit_code
from c2c.evaluation.answers.answer import Answer
from c2c.evaluation.answers.batches import batches_of, check_budget
from c2c.evaluation.answers.likelihood import check_finite
from c2c.evaluation.answers.store import AnswerStore, open_store
from c2c.evaluation.answers.writing import ConfidenceMeter
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.reader import SingleReader
from c2c.generation.decoding import continue_text, end_tokens
from c2c.models.hub import about
from c2c.models.loading import Dtype, LoadedModel, load_model
from c2c.provenance import settings_hash, stamp
from c2c.storage.formats import write_json_lines
from c2c.training.examples import read_lines
from c2c.types import DTYPES

METHOD = "teacher"
MOST = 10**6
UNFINISHED, EMPTY = "the answer did not end within its tokens", "the answer is empty"


@dataclass(frozen=True)
class Sampling:
    """How the teacher samples its answers.

    The defaults are those of the paper's GSM8K data (issues 13 and 15 of the paper's repository).

    Args:
        max_new_tokens: Upper bound of an answer.
        temperature: Divides the logits.
        top_p: Only the likeliest tokens whose probabilities sum to this are drawn.
        top_k: Only so many likeliest tokens are drawn.
        seed: Fixes all draws.

    Raises:
        RefusedError: A number is out of range.
    """

    max_new_tokens: int = 1024
    temperature: float = 0.7
    top_p: float = 0.8
    top_k: int = 20
    seed: int = 42

    def __post_init__(self) -> None:
        counts = 1 <= self.max_new_tokens <= MOST and 1 <= self.top_k <= MOST
        if not (counts and 0 < self.temperature < math.inf and 0 < self.top_p <= 1):
            rule = (
                f"A teacher must sample with max_new_tokens and top_k of 1 to {MOST}, a finite temperature above 0 and "
            )
            rule += "top_p in (0, 1]"
            raise RefusedError(rule, asdict(self), "Correct the key teacher of the config")

    def processors(self, questions: Sequence[Question], device: torch.device) -> list[LogitsProcessor]:
        """Logits processors that turn greedy decoding of a batch into sampling, in their order."""
        seeds = [
            int(hashlib.sha256(f"{self.seed}/{item.doc['id']}".encode()).hexdigest()[:15], 16) for item in questions
        ]
        warpers = [TemperatureLogitsWarper(self.temperature), TopKLogitsWarper(self.top_k)]
        return [*warpers, TopPLogitsWarper(self.top_p), RowDraws(seeds, device)]


class RowDraws(LogitsProcessor):
    """Adds Gumbel noise, of which the greatest sum is a draw from the softmax; each row has a generator of its own."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores` ``(B, V)``; minus infinity stays what it is."""
        draws = [torch.rand(scores.shape[1], generator=item, device=scores.device) for item in self.generators]
        return scores.float() - torch.log(-torch.log(torch.stack(draws)))


def question_of(row: dict[str, Any], number: int, sampling: Sampling) -> Question:
    """A line of a training set as a question in a chat, whose answer continues the line's opening."""
    opening = row.get("opening") or ""
    messages: list[dict[str, str]] = [{"role": "user", "content": row["prompt"].removesuffix(opening)}]
    messages += [{"role": "assistant", "content": opening}] if opening else []
    conversation = prompting.messages_as_json(messages)
    question = Question(METHOD, number, {"id": row["id"]}, "", row["response"], max_new_tokens=sampling.max_new_tokens)
    return prompting.chat_question(question, conversation)


def answer_batch(teacher: SingleReader, questions: Sequence[Question], sampling: Sampling) -> list[Answer]:
    """Sampled answers of one batch; ``error`` says why one is of no use."""
    reading = teacher.read_questions(questions)
    width, ends, meter = reading.input_ids.shape[1], set(end_tokens(reading.model)), ConfidenceMeter()
    written = continue_text(
        reading.model,
        reading.input_ids,
        reading.attention_mask,
        max_new_tokens=sampling.max_new_tokens,
        processors=[meter, *sampling.processors(questions, reading.input_ids.device)],
    )
    check_finite(meter.log_probabilities[0].tolist(), reading.model)
    for answer, ids in zip(reading.answers, written[:, width:].tolist(), strict=True):
        end = next((place for place, token in enumerate(ids) if token in ends), None)
        answer.output_text = str(reading.tokenizer.decode(ids[:end], skip_special_tokens=True)).strip()
        answer.error = UNFINISHED if end is None else "" if answer.output_text else EMPTY
    return reading.answers


def answer_all(
    loaded: LoadedModel, rows: Sequence[dict[str, Any]], sampling: Sampling, token_budget: int, store: AnswerStore
) -> list[Answer]:
    """The teacher's answer to each line, in the order of the lines.

    Raises:
        RefusedError: The teacher has no chat template.
    """
    prompting.check_prompts("chat", [loaded])
    check_budget(token_budget)
    teacher = SingleReader(loaded)
    questions = [question_of(row, number, sampling) for number, row in enumerate(rows)]
    lengths = [teacher.length(question) + sampling.max_new_tokens for question in questions]
    with tqdm(total=len(questions), desc=loaded.name, unit="answer", mininterval=1.0) as bar:
        for batch in batches_of(questions, lengths, token_budget):
            if any(store.get(METHOD, question) is None for question in batch):
                store.put(METHOD, batch, answer_batch(teacher, batch, sampling))
            bar.update(len(batch))
    answers_or_none = [store.get(METHOD, question) for question in questions]
    return [answer for answer in answers_or_none if answer is not None]


def write_answers(
    model: str, lines: Path, output: Path, sampling: Sampling, token_budget: int, dtype: Dtype = "float32"
) -> dict[str, Any]:
    """Write the lines with the teacher's answers for their responses; returns what provenance should know.

    Raises:
        RefusedError: There are no lines, conversations instead of questions, no answer that can be used, or the same
            file is being written.
    """
    rows = read_lines(lines)
    if chats := sum("prompt" not in row for row in rows):
        raise RefusedError(
            "A teacher must be asked questions", f"{chats} conversations in {lines}", "Name a set of questions"
        )
    request = {"model": about(model), "dtype": dtype, "sampling": asdict(sampling), "lines": rows}
    # Answers are stored as they are written: after an interruption only the others are asked.
    with open_store(output, settings_hash(request)) as store:
        answers = answer_all(load_model(model, dtype=dtype), rows, sampling, token_budget, store)
        exclusions = Counter(answer.error for answer in answers if answer.error)
        rows_with_answers = [
            {**row, "response": answer.output_text}
            for row, answer in zip(rows, answers, strict=True)
            if not answer.error
        ]
        if not rows_with_answers:
            raise RefusedError("A teacher must end at least one answer", dict(exclusions), "Raise max_new_tokens")
        write_json_lines(output, rows_with_answers)
    return {
        "questions": len(rows),
        "kept": len(rows_with_answers),
        "left_out": dict(exclusions),
        "model": request["model"],
    }


def main() -> int:
    """Command line; a refusal is printed as one line and ends with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the teacher: folder, model manifest or hub id")
    parser.add_argument("--lines", type=Path, required=True, help="training set of questions (JSON lines)")
    parser.add_argument("--output", type=Path, required=True, help="the same lines with the teacher's answers")
    parser.add_argument("--token-budget", type=int, default=4096, help="tokens of a batch (default: %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="precision of the model")
    for setting in fields(Sampling):
        flag, kind = "--" + setting.name.replace("_", "-"), type(setting.default)
        parser.add_argument(flag, type=kind, default=setting.default, help="default: %(default)s")
    options = parser.parse_args()
    return exit_code("benchmarks.teacher", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    sampling = Sampling(**{setting.name: getattr(options, setting.name) for setting in fields(Sampling)})
    inputs = [options.lines, *([Path(options.model)] if Path(options.model).exists() else [])]
    settings = {"model": options.model, "dtype": options.dtype, **asdict(sampling)}
    with stamp(options.output, inputs=inputs, settings=settings) as notes:
        notes_of_answers = write_answers(
            options.model, options.lines, options.output, sampling, options.token_budget, options.dtype
        )
        notes.update(notes_of_answers)
        print(f"{notes['kept']} of {notes['questions']} answers are kept; left out: {notes['left_out'] or 'none'}")


if __name__ == "__main__":
    sys.exit(main())
