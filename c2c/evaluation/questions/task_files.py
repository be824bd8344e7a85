"""Task files of lm-eval: where they are, and their keys with those of the files that they include.

Imports neither lm-eval nor pandas.

A folder of tasks holds ``<benchmark>/<task>.yaml``. A task file takes shared wordings by lm-eval's ``include``; a key
of its own replaces an included one. Under ``metadata`` the single keys do, so that the wording of text to text can
stand in a file of its own; lm-eval, which does not read them, replaces that key as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError, check_choice
from c2c.evaluation.questions.generation_settings import check_greedy
from c2c.storage.formats import read_yaml

SCORINGS = ("exact", "likelihood", "letter", "logits", "text", "math", "longbench")
TASK_KEYS = (
    *("task", "task_alias", "tag", "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs"),
    *("training_split", "validation_split", "test_split", "fewshot_split", "process_docs", "doc_to_text"),
    *("doc_to_target", "doc_to_image", "doc_to_audio", "unsafe_code", "doc_to_choice", "process_results", "use_prompt"),
    *("description", "target_delimiter", "fewshot_delimiter", "fewshot_config", "num_fewshot", "metric_list"),
    *("output_type", "generation_kwargs", "repeats", "filter_list", "should_decontaminate"),
    *("doc_to_decontamination_query", "gen_prefix", "metadata"),
)
"""Keys of a task file besides ``include``: the fields of lm-eval's ``TaskConfig``, which a test compares."""
TEMPLATE_KEYS = (
    *("doc_to_text", "doc_to_target", "doc_to_choice", "gen_prefix"),
    *("metadata.t2t_question", "metadata.t2t_prompt", "metadata.agents_question", "metadata.agents_prompt"),
)
"""Keys of a task file whose values are jinja templates over the columns of a question."""
NEEDED = ("scoring", "t2t_question", "t2t_prompt")
TEXTS = ("scoring", "t2t_question", "t2t_prompt", "agents_question", "agents_prompt")
"""Metadata that are texts."""
MOST_TOKENS = 1_000_000
GUIDE = "Write it as lm-eval's task guide says"
TRUSTED = "Write plain values: a task file runs no code here, so !function and other tags have no use"
SHARED = "shared"
"""The folder of included files; what is in it is no task."""


def task_path(tasks: Path, task: str) -> Path:
    """The file ``<tasks>/<any>/<task>.yaml``, or ``<tasks>/<task>.yaml``.

    Raises:
        RefusedError: There is none, or several.
    """
    files = [path for pattern in ("*.yaml", "*/*.yaml") for path in sorted(tasks.glob(pattern))]
    files = [path for path in files if path.parent.name != SHARED]
    check_choice("A benchmark", task, sorted(path.stem for path in files))
    places = [path for path in files if path.stem == task]
    if len(places) > 1:
        raise RefusedError("A task must have one file", list(map(str, places)), "Rename one of them")
    return places[0]


def included_files(path: Path, tasks: Path) -> Iterator[Path]:
    """A task file and all that it includes, each once, itself first.

    Args:
        path: The task file.
        tasks: The folder of tasks, outside of which nothing is included.

    Raises:
        RefusedError: An included file is missing or outside.
    """
    visited, queue = set(), [path]
    while queue:
        current = queue.pop(0)
        if current in visited:
            continue
        visited.add(current)
        yield current
        queue += [_included_path(current, name, tasks) for name in _includes(current, _read_task_yaml(current))]


def folder_of_task(tasks: Path, task: str, questions: Path) -> Path:
    """The folder with the file of a task: that of its prepared questions if ``<task>.yaml`` is there, else `tasks`."""
    return questions.parent if (questions.parent / f"{task}.yaml").is_file() else tasks


def task_files(tasks: Path, questions: Mapping[str, Path]) -> list[Path]:
    """The files of tasks, of which the prepared questions are given, and all that they include, each once.

    Raises:
        RefusedError: A task has no file.
    """
    folders = {task: folder_of_task(tasks, task, path) for task, path in questions.items()}
    paths = (path for task, folder in folders.items() for path in included_files(task_path(folder, task), folder))
    return list(dict.fromkeys(paths))


def resolve(path: Path, tasks: Path) -> dict[str, Any]:
    """What a task file says, with what it includes, as lm-eval merges it (but for ``metadata``; see the module).

    Args:
        path: The task file.
        tasks: The folder of tasks, outside of which nothing is included.

    Raises:
        RefusedError: A file is missing, outside, no YAML of plain values, or includes itself.
    """
    return _resolve(path, tasks, ())


def read_task_file(tasks: Path, task: str) -> dict[str, Any]:
    """The resolved YAML of one task.

    Raises:
        RefusedError: If there is none, it names another task, its metadata lacks the scoring or the T2T prompts, or a
            key that is used here is of another kind or cannot be honoured.
    """
    path = task_path(tasks, task)
    config = resolve(path, tasks)
    if (name := _read_task_yaml(path).get("task", task)) != task:
        raise RefusedError(f"task of {path.name} must be the file's name, {task}", name, "Rename one of the two")
    check_task_keys(path.name, config)
    metadata = config.get("metadata") or {}
    if missing := [key for key in NEEDED if not metadata.get(key)]:
        raise RefusedError(f"{path.name} must have the metadata {', '.join(NEEDED)}", f"missing {missing}", "Add them")
    if wrong := {key: metadata[key] for key in TEXTS if not isinstance(metadata.get(key, ""), str)}:
        raise RefusedError(f"The metadata {', '.join(wrong)} of {path.name} must be text", wrong, GUIDE)
    check_choice(f"metadata.scoring of {path.name}", metadata["scoring"], SCORINGS)
    check_answers(path.name, config)
    return config


def check_task_keys(name: str, config: Mapping[str, Any]) -> None:
    """Refuse a key that lm-eval does not know, with the nearest that it knows.

    Raises:
        RefusedError: If `config`, the content of the file `name`, has one.
    """
    for key in config:
        check_choice(f"A key of the lm-eval task {name}", str(key), TASK_KEYS)


def check_answers(name: str, config: Mapping[str, Any]) -> None:
    """Refuse stop strings, lengths and other settings of answers that would not be followed.

    Raises:
        RefusedError: If `config`, the content of the file `name`, has one.
    """
    settings = config.get("generation_kwargs") or {}
    if not isinstance(settings, dict):
        raise RefusedError(f"generation_kwargs of {name} must name settings", settings, GUIDE)
    check_greedy(name, settings)
    until = settings.get("until") or []
    stops = [until] if isinstance(until, str) else until
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise RefusedError(f"until of {name} must be a text or a list of texts, none of them empty", until, GUIDE)
    numbers = [settings.get("max_gen_toks", 1)]
    for key in ("answer_tokens", "message_tokens"):
        lengths = (config.get("metadata") or {}).get(key) or {}
        if not isinstance(lengths, dict):
            raise RefusedError(f"metadata.{key} of {name} must name a number for each set or pair", lengths, GUIDE)
        numbers += lengths.values()
    for length in numbers:
        if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= MOST_TOKENS:
            raise RefusedError(f"Lengths of answers in {name} must be from 1 to {MOST_TOKENS} tokens", length, GUIDE)


def _resolve(path: Path, tasks: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path in above:
        raise RefusedError("A task file must not include itself", str(path), "Break the circle of includes")
    content = _read_task_yaml(path)
    names = _includes(path, content)
    content.pop("include", None)
    merged: dict[str, Any] = {}
    # Later files and the file itself take precedence; metadata is merged key by key.
    for part in [*(_resolve(_included_path(path, name, tasks), tasks, (*above, path)) for name in names), content]:
        metadata = {**(merged.get("metadata") or {}), **(part.get("metadata") or {})}
        merged = {**merged, **part, **({"metadata": metadata} if metadata else {})}
    return merged


def _read_task_yaml(path: Path) -> dict[str, Any]:
    content = read_yaml(path, TRUSTED)
    if not isinstance(content, dict):
        raise RefusedError(f"The task file {path.name} must name keys", content, GUIDE)
    if not isinstance(content.get("metadata") or {}, dict):
        raise RefusedError(f"metadata of {path.name} must name keys", content["metadata"], GUIDE)
    return content


def _includes(path: Path, config: dict[str, Any]) -> list[str]:
    names = config.get("include") or []
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise RefusedError(f"include of {path.name} must be a file or a list of files", names, GUIDE)
    return names


def _included_path(path: Path, name: str, tasks: Path) -> Path:
    """An included file, by a path without dots, so that all who include it name it alike."""
    folder, place = path.parent, name
    while place.startswith("../") and folder.name not in ("", ".."):
        folder, place = folder.parent, place.removeprefix("../")
    target = folder / place
    # Links count by where they lead.
    if Path(name).is_absolute() or not target.resolve().is_relative_to(tasks.resolve()):
        rule = f"include of {path.name} must be a relative path to a file in the folder of tasks"
        raise RefusedError(rule, name, f"Copy it into {tasks}")
    return target
