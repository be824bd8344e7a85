"""Compare a model's answers here with those of lm-eval's own ``hf`` model on the same task files, question by question.

python -m benchmarks.agreement --receiver MODEL --tasks benchmarks/tasks --benchmarks ID=FILE --output agreement.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from c2c.errors import RefusedError, exit_code
from c2c.evaluation.methods.single import SingleModel
from c2c.evaluation.questions.tasks import load_tasks, question_of_request
from c2c.models.loading import LoadedModel, load_model
from c2c.provenance import stamp
from c2c.storage.files import write_atomically
from c2c.types import PROMPTS

COLUMNS = ["benchmark", "question_id", "ours", "theirs", "same", "largest_difference"]


def compare(
    loaded: LoadedModel, tasks: Mapping[str, Any], *, prompts: str = "plain", limit: int = 0, token_budget: int = 4096
) -> pd.DataFrame:
    """Ask one model the same questions here and through lm-eval's `HFLM`.

    Args:
        loaded: The model.
        tasks: As `c2c.evaluation.questions.tasks.load_tasks` gives them.
        prompts: ``plain`` or ``chat``.
        limit: First questions of each task; 0 for all.
        token_budget: Tokens of our batches; lm-eval asks one by one.

    Returns:
        One row a question: our answer and theirs (the chosen option, or the text that was written), whether they are
        the same, and the largest difference of an option's log-likelihood in nats (0 for a text).
    """
    method = SingleModel(loaded, "receiver", token_budget=token_budget)
    method.question_of = lambda request: question_of_request(tasks["tasks"][request.task_name], request, prompts)
    # The same tasks through this project and through lm-eval, one request at a time there.
    reference = HFLM(
        pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=1, backend="causal", enable_thinking=False
    )
    options: dict[str, Any] = {"limit": limit or None, "bootstrap_iters": 0, "apply_chat_template": prompts == "chat"}
    evaluate(method, dict(tasks), **options)
    logged = evaluate(reference, dict(tasks), log_samples=True, **options)["samples"]
    # One row a question: options are compared by their best one, free answers by their text.
    rows = []
    for benchmark, task in tasks["tasks"].items():
        for sample in sorted(logged[benchmark], key=lambda item: int(item["doc_id"])):
            answer = method.answers[benchmark, int(sample["doc_id"])]
            if answer.error:
                raise RefusedError("Both models must answer every question", answer.error, "Leave the question out")
            if answer.choice_scores is None:
                pair, difference = (answer.output_text, sample["resps"][0][0]), 0.0
            else:
                scores = [item[0][0] for item in sample["resps"]]
                sizes = _sizes(task, sample["doc"])
                pair = _best(answer.choice_scores, sizes), _best(scores, sizes)
                difference = max(abs(a - b) for a, b in zip(answer.choice_scores, scores, strict=True))
            row = (benchmark, str(sample["doc"]["id"]), *pair, pair[0] == pair[1], difference)
            rows.append(dict(zip(COLUMNS, row, strict=True)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _sizes(task: Any, doc: dict[str, Any]) -> list[int]:
    """What each option's score is divided by: characters where the task's scoring is ``text``."""
    options = task.doc_to_choice(doc)
    return [len(option) if task.config.metadata["scoring"] == "text" else 1 for option in options]


def _best(scores: Sequence[float], sizes: Sequence[int]) -> int:
    return max(range(len(scores)), key=lambda place: scores[place] / sizes[place])


def summary(frame: pd.DataFrame) -> str:
    """One line a benchmark: how many answers are the same, and how far apart the likelihoods are."""
    lines = [
        f"{benchmark}: {int(part['same'].sum())} of {len(part)} answers the same,"
        f" log-likelihoods at most {part['largest_difference'].max():.1e} apart"
        for benchmark, part in frame.groupby("benchmark", sort=False)
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print a line a benchmark, write a row a question; exit code 1 if an answer differs, 2 if refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--receiver", required=True, help="the model: folder, model manifest or hub id")
    parser.add_argument("--tasks", type=Path, required=True, help="folder of task files")
    parser.add_argument("--benchmarks", nargs="+", required=True, metavar="ID=FILE", help="prepared questions")
    parser.add_argument("--prompts", choices=PROMPTS, default="plain")
    parser.add_argument("--limit", type=int, default=0, help="first questions of each benchmark; 0 for all")
    parser.add_argument("--token-budget", type=int, default=4096, help="tokens of our batches")
    parser.add_argument("--output", type=Path, help="CSV with a row a question")
    options = parser.parse_args(arguments)
    alike: list[bool] = []
    code = exit_code("benchmarks.agreement", lambda: alike.append(_run(options)))
    return code or int(not all(alike))


def _run(options: argparse.Namespace) -> bool:
    """Whether all answers are the same."""
    files = {name: Path(path) for name, _, path in (item.partition("=") for item in options.benchmarks)}
    tasks, loaded = load_tasks(options.tasks, files), load_model(options.receiver)
    frame = compare(loaded, tasks, prompts=options.prompts, limit=options.limit, token_budget=options.token_budget)
    print(summary(frame))
    if options.output:
        with stamp(
            options.output, inputs=list(files.values()), settings={"receiver": loaded.name, **_settings(options)}
        ):
            write_atomically(options.output, frame.to_csv(index=False, float_format="%.3g", lineterminator="\n"))
    return bool(frame["same"].all())


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("prompts", "limit", "token_budget")}


if __name__ == "__main__":
    raise SystemExit(main())
