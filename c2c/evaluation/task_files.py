"""Task files of lm-eval: where they are, and what they say with what they include. Imports neither lm-eval nor pandas.

A folder of tasks holds ``<benchmark>/<task>.yaml``. A task file takes shared wordings by lm-eval's ``include``; a key
of its own replaces an included one. Under ``metadata`` the single keys do, so that the wording of text to text can
stand in a file of its own; lm-eval, which does not read them, replaces that key as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from c2c.errors import RefusedError, check_choice

SCORINGS = ("exact", "likelihood", "letter", "logits", "text", "math", "longbench")
NEEDED = ("scoring", "t2t_question", "t2t_prompt")
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
    first, *others = [path for path in files if path.stem == task]
    if others:
        raise RefusedError("A task has one file", [str(path) for path in (first, *others)], "Rename one of them")
    return first


def included(path: Path) -> Iterator[Path]:
    """A task file and all that it includes, each once, itself first.

    Raises:
        RefusedError: An included file is missing.
    """
    seen, waiting = set(), [path]
    while waiting:
        current = waiting.pop(0)
        if current in seen:
            continue
        seen.add(current)
        yield current
        waiting += [_beside(current, name) for name in _includes(_read(current))]


def task_files(tasks: Path, names: Iterable[str]) -> list[Path]:
    """The files of tasks and all that they include, each once.

    Raises:
        RefusedError: A task has no file.
    """
    return list(dict.fromkeys(path for name in names for path in included(task_path(tasks, name))))


def resolve(path: Path) -> dict[str, Any]:
    """What a task file says, with what it includes, as lm-eval merges it (but for ``metadata``; see the module).

    Raises:
        RefusedError: A file is missing, or includes itself.
    """
    return _resolve(path, ())


def read_task_file(tasks: Path, task: str) -> dict[str, Any]:
    """The resolved YAML of one task.

    Raises:
        RefusedError: If there is none, or its metadata lacks the scoring or the T2T prompts.
    """
    path = task_path(tasks, task)
    config = resolve(path)
    metadata = config.get("metadata") or {}
    if missing := [key for key in NEEDED if not metadata.get(key)]:
        raise RefusedError(f"{path.name} must have the metadata {', '.join(NEEDED)}", f"missing {missing}", "Add them")
    check_choice(f"metadata.scoring of {path.name}", metadata["scoring"], SCORINGS)
    return config


def _resolve(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path in above:
        raise RefusedError("A task file does not include itself", str(path), "Break the circle of includes")
    own = _read(path)
    names = _includes(own)
    own.pop("include", None)
    merged: dict[str, Any] = {}
    for part in [*(_resolve(_beside(path, name), (*above, path)) for name in names), own]:
        metadata = {**(merged.get("metadata") or {}), **(part.get("metadata") or {})}
        merged = {**merged, **part, **({"metadata": metadata} if metadata else {})}
    return merged


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RefusedError("A task file and what it includes are files", str(path), "Write it, or correct the name")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise RefusedError("A task file names keys", str(path), "Fill it as lm-eval's task guide says")
    return content


def _includes(config: dict[str, Any]) -> list[str]:
    given = config.get("include") or []
    return [given] if isinstance(given, str) else list(given)


def _beside(path: Path, name: str) -> Path:
    """An included file, by a path without dots, so that all who include it name it alike."""
    folder = path.parent
    while name.startswith("../") and folder.name not in ("", ".."):
        folder, name = folder.parent, name.removeprefix("../")
    return folder / name
