"""The cache enrichment oracle: does a question's cache answer better if it was made behind examples?

Paper Table 1 (direct, few-shot, oracle), Table 10 (one layer enriched) and Figure 4 (the K best and worst layers).

Which layers are best is found from the single-layer accuracies, and that choice is noisy: judged on the questions it
was made on, the best layers look too good and the worst too bad. So the questions are split into halves by a hash,
and each half is judged with the order that the other half gave; the paper's way, one order from all questions and
judged on all of them, is reported beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from c2c.analysis.enriched import Enrichment, FewShot, Oracle, Shot, Shots
from c2c.analysis.run import AnalysisRun, batches, digest, sample_questions
from c2c.errors import RefusedError, check_choice
from c2c.evaluation import schema
from c2c.evaluation.answers.store import AnswerStore, check_free
from c2c.evaluation.generate import record, write_answers
from c2c.evaluation.methods.method import Method
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.tasks import gold_of, load_tasks, questions_of
from c2c.evaluation.readers.reader import SingleReader
from c2c.evaluation.scoring import mark
from c2c.models.loading import LoadedModel, load_model
from c2c.storage.files import write_atomically

ROLES = ("receiver", "sharer")
ENDS = ("best", "worst")
SAME = "same questions"
"""Ends a setting whose layers were chosen on the questions that judge it, as in the paper."""
ORDER_COLUMNS = ("chosen_on", "rank", "layer", "accuracy", "n")
Orders = Mapping[str, Sequence[int]]
"""Layers, the best first, by what they were chosen on: a half or ``all``."""
QUESTION_HALVES, ALL = ("half 0", "half 1"), "all"


@dataclass(frozen=True, kw_only=True)
class EnrichmentRun(AnalysisRun):
    """One call of ``c2c analyse enrichment``.

    Args:
        role: Which model of the pair answers: its ``receiver`` or its ``sharer``.
        examples: Prepared questions of the same benchmark, other than those asked, that serve as examples.
        shots: How many of them stand before a question.
        most: The largest K of the best and worst K layers; at most the model's layers.
        orders: CSV of the layers in order, by what they were chosen on.

    Raises:
        RefusedError: If the role is unknown or a number is below 1.
    """

    role: str = "receiver"
    examples: Path
    shots: int = 5
    most: int = 10
    orders: Path

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("The model that answers", self.role, ROLES)
        if self.most < 1:
            raise RefusedError("The largest K of the best layers must be at least 1", self.most, "Raise --most")

    def dependencies(self) -> list[Path]:
        """The Fusers, if any, and the examples."""
        return [*super().dependencies(), self.examples]


def half_of(question: Question) -> str:
    """Which half a question belongs to, by the SHA-256 of its benchmark and id."""
    return QUESTION_HALVES[int(digest(f"half/{question.benchmark}/{question.doc['id']}"), 16) % 2]


def read_shots(run: EnrichmentRun) -> Shots:
    """The examples of a run, in the words of its task.

    ``metadata.enrichment`` of the task file, if it is there, holds fields of `Shots`: with the released prompts
    those of the released script, such as the tokens of the examples that stay in the cache.

    Raises:
        RefusedError: If there are too few, or the task names a field that there is not.
    """
    (benchmark,) = run.benchmarks
    task = load_tasks(run.tasks, {benchmark: run.examples})["tasks"][benchmark]
    examples = [Shot(question, gold_of(task, question.doc)) for question in questions_of(task, run.prompts)]
    delimiters = {"delimiter": task.config.target_delimiter, "between": task.config.fewshot_delimiter}
    words = task.config.metadata.get("enrichment") or {}
    names = {field.name for field in fields(Shots)} - {"examples", "count"}
    if unknown := sorted(set(words) - names):
        rule = f"metadata.enrichment of {benchmark} must hold only {', '.join(sorted(names))}"
        raise RefusedError(rule, ", ".join(unknown), "Correct the task file")
    return Shots(examples, run.shots, **{**delimiters, **words})


def layer_order(correct: pd.DataFrame) -> list[int]:
    """Layers, the best first, of answers to the same questions with one layer enriched.

    Args:
        correct: Credits from 0 to 1, questions as rows, layers as columns; of equal layers the lower one is first.
    """
    # Sorted by mean; the layer breaks ties.
    means = {int(str(layer)): float(credits.mean()) for layer, credits in correct.items()}
    return sorted(means, key=lambda layer: (-means[layer], layer))


def chosen_layers(orders: Orders, end: str, count: int, same: bool, question: Question) -> list[int]:
    """The `count` best or worst layers for a question: by the order of the other half, or (`same`) by that of all."""
    # A half is judged by the other half's order, so that no question chooses the layers that it judges.
    other = ALL if same else QUESTION_HALVES[1 - QUESTION_HALVES.index(half_of(question))]
    order = list(orders[other])
    return order[:count] if end == "best" else order[::-1][:count]


def setting_of(end: str, count: int, same: bool) -> str:
    """The setting of a record: ``best 3``, or ``best 3, same questions``."""
    return f"{end} {count}" + (f", {SAME}" if same else "")


class _Answering:
    """Lets methods answer batch by batch, so that a batch is read once for all of them."""

    def __init__(self, run: EnrichmentRun, loaded: LoadedModel, tasks: dict[str, Any], store: AnswerStore) -> None:
        self.run, self.tasks, self.store = run, tasks, store
        self.enrichment = Enrichment(loaded, read_shots(run))
        self.questions = sample_questions(run, tasks, [loaded])
        self.rows: list[dict[str, Any]] = []

    def oracle(self, layers_of: Any = None) -> Oracle:
        return Oracle(self.enrichment, layers_of)

    def answer(self, readers: Mapping[tuple[str, str], Any]) -> pd.DataFrame:
        """Records of the questions by method and setting, kept in `rows` too."""
        # 1. A method for each reader, with the model that all of them load
        budget = self.run.token_budget
        methods = {
            key: Method(" ".join(key), reader, budget, self.store, progress=False) for key, reader in readers.items()
        }
        for method in methods.values():
            method.panel = (self.enrichment.loaded,)
        # 2. All methods answer a batch before the next, so that its caches are made once
        for batch in tqdm(batches(FewShot(self.enrichment), self.questions, budget), unit="batch"):
            for method in methods.values():
                method.answer(batch)
            self.enrichment.forget()
        # 3. Their records
        new = [
            record(
                self.run.columns(name),
                name,
                question,
                method.answers[question.benchmark, question.number],
                self.tasks,
                setting,
            )
            for (name, setting), method in methods.items()
            for question in self.questions
        ]
        self.rows += new
        return schema.frame_of(new, schema.RECORD_SCHEMA)


def enrich(run: EnrichmentRun, notes: dict[str, Any] | None = None) -> pd.DataFrame:
    """Answer directly, behind examples, and from enriched caches.

    Args:
        run: What is asked.
        notes: As in `c2c.evaluation.generate.write_answers`.

    Returns:
        The records, also written to ``run.output``: methods `receiver` (or `sharer`), `few_shot`, `oracle`, and
        `oracle_layers` with a setting (``layer 3``, or as `setting_of` names it). ``run.orders`` gets the orders.

    Raises:
        RefusedError: If an input is missing or does not fit, or a half has no question.
    """
    check_free(run.output)
    loaded = load_model(run.receiver if run.role == "receiver" else run.sharer, run.dtype)
    with run.store() as store:
        answering = _Answering(run, loaded, load_tasks(run.tasks, run.benchmarks), store)
        check_halves(answering.questions)
        _answer_all(run, answering)
        return write_answers(answering.rows, run.output, notes)


def _answer_all(run: EnrichmentRun, answering: _Answering) -> None:
    """Answer by all methods; single layers come before the best and worst K, which their accuracies decide."""
    loaded = answering.enrichment.loaded
    layers = range(answering.enrichment.layers)
    # 1. The baselines, and all layers enriched
    answering.answer(
        {
            (run.role, ""): SingleReader(loaded, private=run.role == "sharer"),
            ("few_shot", ""): FewShot(answering.enrichment),
            ("oracle", ""): answering.oracle(),
        }
    )
    # 2. Single layers, whose accuracies order the layers
    singles = answering.answer(
        {("oracle_layers", f"layer {layer}"): answering.oracle(partial(_same_layers, [layer])) for layer in layers}
    )
    table = order_table(singles, answering.questions)
    write_atomically(run.orders, table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
    # 3. The K best and the K worst layers, by the order of the other half and by that of all questions
    orders = {str(name): group["layer"].tolist() for name, group in table.groupby("chosen_on")}
    answering.answer(
        {
            ("oracle_layers", setting_of(end, count, same)): answering.oracle(
                partial(chosen_layers, orders, end, count, same)
            )
            for end in ENDS
            for same in (False, True)
            for count in range(1, min(run.most, len(layers)) + 1)
        }
    )


def check_halves(questions: Sequence[Question]) -> None:
    """Refuse questions that all fall into one half.

    Raises:
        RefusedError: With their number.
    """
    if {half_of(question) for question in questions} != set(QUESTION_HALVES):
        rule = "Both halves of the questions must hold some, so that one can judge what the other chose"
        raise RefusedError(rule, f"{len(questions)} question(s), all in one half", "Ask more questions")


def order_table(singles: pd.DataFrame, questions: Sequence[Question]) -> pd.DataFrame:
    """Layers in order by what they were chosen on, with columns ORDER_COLUMNS; accuracies in percent.

    Args:
        singles: Records of `oracle_layers` with settings ``layer <number>``.
        questions: What was asked.
    """
    layers = singles["setting"].str.removeprefix("layer ").astype(int)
    marked = singles.assign(layer=layers, correct=mark(singles))
    correct = marked.pivot(index="question_id", columns="layer", values="correct")
    members = {
        half: [str(question.doc["id"]) for question in questions if half_of(question) == half]
        for half in QUESTION_HALVES
    }
    members[ALL] = list(correct.index)
    rows = []
    for chosen_on, ids in members.items():
        means = 100 * correct.loc[ids].mean()
        for rank, layer in enumerate(layer_order(correct.loc[ids]), start=1):
            rows.append((chosen_on, rank, layer, float(means[layer]), len(ids)))
    return pd.DataFrame(rows, columns=list(ORDER_COLUMNS))


def _same_layers(layers: Sequence[int], question: Question) -> Sequence[int]:
    return layers
