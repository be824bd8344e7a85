"""lm-eval's own command line with this project's methods among its models.

    python -m c2c.evaluation.harness --model c2c --model_args receiver=…,sharer=…,fuser=… --tasks … --include_path …

takes what ``lm_eval`` takes. That command itself cannot know `c2c`: lm-eval lists its models in its own package and has
no entry point by which another package adds to them. Importing this module makes the methods known to
``lm_eval.simple_evaluate``, too.
"""

from __future__ import annotations

import difflib
import functools
import math
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval.evaluator
import lm_eval.models  # lm-eval's own, which it lists only where no model is known yet
import torch
from lm_eval._cli import HarnessCLI
from lm_eval.api.registry import model_registry
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.tasks import TaskManager
from lm_eval.utils import setup_logging

from c2c.errors import RefusedError, check_choice, exit_code
from c2c.evaluation.harness import door

MISSING = "Tasks not found: "
"""Begins what lm-eval says of names that are no tasks, with commas between."""


def main() -> int:
    """Run lm-eval's command line; returns its exit code (`c2c.errors.exit_code`)."""
    return exit_code("c2c.evaluation.harness", _evaluate)


def _evaluate() -> None:
    setup_logging()
    command = HarnessCLI()
    arguments = command.parse_args()
    _place(arguments)
    command.execute(arguments)


def _place(arguments: Namespace) -> None:
    """Where no device is named, a method of this project runs on the GPU if there is one; lm-eval names one anyway."""
    named = getattr(arguments, "device", None) or getattr(arguments, "config", None)
    if getattr(arguments, "model", None) in door.names() and not named:
        arguments.device = "cuda:0" if torch.cuda.is_available() else "cpu"


def _checked(read: Callable[[Namespace], EvaluatorConfig]) -> Callable[[Namespace], EvaluatorConfig]:
    """lm-eval's reader of a command's arguments and its config file, which refuses what would fail after it."""

    @functools.wraps(read)
    def checking(arguments: Namespace) -> EvaluatorConfig:
        try:
            config = read(arguments)
            in_file = EvaluatorConfig.load_yaml_config(arguments.config) if arguments.config else {}
        except (ValueError, TypeError, OSError) as error:
            raise RefusedError(
                "lm-eval's arguments must fit together", str(error), "Correct them; see --help"
            ) from error
        if not (arguments.model or in_file.get("model")):
            remedy = f"Add --model: {', '.join(door.names())}, or one of lm-eval's own"
            raise RefusedError("lm-eval must be told a model", arguments.model, remedy)
        check_choice("--model", config.model, sorted(model_registry))
        _check_limit(config.limit)
        paths = config.include_path if isinstance(config.include_path, list) else [config.include_path]
        for path in paths:
            if path is not None and not Path(path).is_dir():
                raise RefusedError("--include_path must be a folder of task files", str(path), "Correct the path")
        return config

    return checking


def _check_limit(limit: Any) -> None:
    if limit is None:
        return
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 <= limit < math.inf:
        remedy = "Write how many questions of each task are asked, or their share, below 1"
        raise RefusedError("--limit must be a number, not below 0", limit, remedy)


def _found(find: Callable[..., TaskManager]) -> Callable[..., TaskManager]:
    """lm-eval's search for the tasks that a command names, which refuses a name of none."""

    @functools.wraps(find)
    def finding(config: EvaluatorConfig, *arguments: Any, **options: Any) -> TaskManager:
        names = config.tasks
        try:
            manager = find(config, *arguments, **options)
        except ValueError as error:
            if not str(error).startswith(MISSING):
                raise
            known = TaskManager(include_path=config.include_path).all_tasks
            # Thousands are known: those alone that come near.
            unknown = str(error).removeprefix(MISSING).split(", ")
            near = [each for name in unknown for each in difflib.get_close_matches(name, known, n=3)]
            hint = f"Did you mean {', '.join(map(repr, near))}? " if near else ""
            remedy = f"{hint}List them by: python -m c2c.evaluation.harness ls tasks"
            raise RefusedError("--tasks must name known tasks", unknown, remedy) from error
        if not config.tasks:
            raise RefusedError("--tasks must name a task", names, "Name a task, or a folder with task files")
        return manager

    return finding


def _told(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    """lm-eval's `evaluate`, which first tells a door what all tasks will ask, so that it refuses before it answers."""

    @functools.wraps(evaluate)
    def telling(lm: Any, task_dict: Any, *arguments: Any, **options: Any) -> Any:
        door.expect(lm, (task_dict.get("tasks") or {}).values())
        return evaluate(lm, task_dict, *arguments, **options)

    return telling


lm_eval.evaluator.evaluate = _told(lm_eval.evaluator.evaluate)
EvaluatorConfig.from_cli = staticmethod(_checked(EvaluatorConfig.from_cli))
EvaluatorConfig.process_tasks = _found(EvaluatorConfig.process_tasks)
