"""The lm-eval task of a user's benchmark: the prompts of the protocol or the user's, checked against the lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from benchmarks.readers.base import Row
from benchmarks.user_files import GUIDE, QUESTION_FILE, REMEDY, SCORINGS_OF_FORM, UserFile, form_of
from c2c.errors import RefusedError
from c2c.evaluation.questions.task_files import SHARED, TEMPLATE_KEYS, check_answers, check_task_keys, resolve
from c2c.evaluation.questions.templates import variables

PROMPTS = {
    "letter": "choice_letter",
    "logits": "choice_logits",
    "text": "choice_text",
    "exact": "short_answer",
    "math": "math",
}
"""File below ``benchmarks/tasks/shared`` with the prompt of a scoring, where the benchmark's YAML file has none."""
MESSAGE_VARIABLES = {
    "metadata.t2t_prompt": {"message", "prompt"},
    "metadata.agents_prompt": {"message", "prompt"},
}
"""Variables of a prompt that are no keys of a question."""


def task_config(folder: Path, scoring: str, task: str, tasks: Path) -> dict[str, Any]:
    """lm-eval's task of a benchmark under one scoring, without its data.

    Args:
        folder: Of the benchmark.
        scoring: One of its scorings.
        task: Its id.
        tasks: ``benchmarks/tasks``, where the prompts of the protocol are.

    Raises:
        RefusedError: If the YAML file is missing, has a key that lm-eval does not know, a scoring that does not fit the
            form of the lines, or a prompt that names a key which a line does not have.
    """
    path, questions = folder / f"{folder.name}.yaml", UserFile(folder / QUESTION_FILE)
    written = resolve(path, folder)
    check_task_keys(str(path), written)
    written_metadata = written.get("metadata") or {}
    # Lines and scoring
    rows = questions.numbered_questions(folder.name)
    first = rows[0][1]
    _check_scorings(path, [scoring, *(written_metadata.get("scorings") or ())], form_of(first))
    # The prompt of the protocol; a prompt in the YAML file is the whole prompt.
    default = resolve(tasks / SHARED / f"{PROMPTS[scoring]}.yaml", tasks)
    if "prompt" in first:
        default = {**default, "doc_to_text": "{{question}}", "gen_prefix": None}
    if "doc_to_text" in written:
        default = {key: value for key, value in default.items() if key != "gen_prefix"}
    metadata = {**default["metadata"], **written_metadata, "scoring": scoring}
    config = {**default, **written, "task": task, "metadata": metadata}
    check_answers(str(path), config)
    _check_templates(path, written, rows, questions.path)
    return config


def _check_scorings(path: Path, scorings: Iterable[str], form: str) -> None:
    """Refuse scorings that the form of a benchmark's lines does not have."""
    for scoring in scorings:
        allowed = SCORINGS_OF_FORM[form]
        if scoring not in allowed:
            near = get_close_matches(str(scoring), allowed, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            rule = f"metadata.scorings of {path} must name only {', '.join(allowed)}, since its lines have {form}"
            raise RefusedError(rule, scoring, f"{hint}Correct it; {GUIDE} lists the scorings of each form")


def _check_templates(path: Path, written: Mapping[str, Any], rows: list[tuple[int, Row]], questions: Path) -> None:
    """Refuse a template of the YAML file that names what is a key of no line, or not of every line."""
    named: dict[str, str] = {}
    for key in TEMPLATE_KEYS:
        section, _, name = key.rpartition(".")
        value = ((written.get(section) or {}) if section else written).get(name)
        for template in value if isinstance(value, list) else [value] if isinstance(value, str) else []:
            # lm-eval takes a word alone for the name of a column.
            bare = key in ("doc_to_text", "doc_to_target", "doc_to_choice") and template.isidentifier()
            names = {template} if bare and not isinstance(value, list) else variables(f"{key} of {path}", template)
            named |= dict.fromkeys(names - MESSAGE_VARIABLES.get(key, set()), key)
    columns = dict.fromkeys(column for _, row in rows for column in row)
    for variable, key in named.items():
        if variable not in columns:
            near = get_close_matches(variable, columns, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            rule = f"{key} of {path} must name only keys of the lines of {questions}: {', '.join(columns)}"
            raise RefusedError(rule, variable, f"{hint}Correct the template, or add the key to each line")
        if number := next((number for number, row in rows if row.get(variable) is None), 0):
            rule = f"Line {number} of {questions} must have the key {variable!r}, which {key} of {path} names"
            raise RefusedError(rule, f"no {variable!r}", REMEDY)


def task_text(config: Mapping[str, Any], questions: Path) -> str:
    """A task as a YAML file that lm-eval can run as it is."""
    content = {**config, "dataset_kwargs": {"data_files": {"test": str(questions)}}}
    return str(yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=120))
