"""lm-eval's own command line with this project's methods among its models.

    python -m c2c.evaluation.harness --model c2c --model_args receiver=…,sharer=…,fuser=… --tasks … --include_path …

takes the arguments of ``lm_eval``. That command itself has these models from the version on that reads the entry points
``lm_eval.models`` (lm-eval 0.4.13 does not); what this command adds is below.

Three functions of lm-eval are wrapped when this module is imported, so that what would fail after the models have been
loaded is refused before: its evaluation, its reading of the arguments, and its search for tasks.
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
import lm_eval.models  # lm-eval's own models, which it registers only where none is registered yet
import torch
from lm_eval._cli import HarnessCLI
from lm_eval.api.registry import model_registry
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.tasks import TaskManager
from lm_eval.utils import setup_logging

from c2c.errors import RefusedError, check_choice, exit_code
from c2c.evaluation.harness.model import MODELS, announce_tasks

TASKS_NOT_FOUND = "Tasks not found: "
"""How lm-eval's error about unknown tasks begins; their names follow, separated by commas."""


def main() -> int:
    """Run lm-eval's command line; returns its exit code (`c2c.errors.exit_code`)."""
    return exit_code("c2c.evaluation.harness", _run_command)


def _run_command() -> None:
    setup_logging()
    command = HarnessCLI()
    arguments = command.parse_args()
    # Without --device a method of this project runs on the GPU if there is one; lm-eval would always name one.
    has_device = getattr(arguments, "device", None) or getattr(arguments, "config", None)
    if getattr(arguments, "model", None) in MODELS and not has_device:
        arguments.device = "cuda:0" if torch.cuda.is_available() else "cpu"
    command.execute(arguments)


def checks_arguments(from_cli: Callable[[Namespace], EvaluatorConfig]) -> Callable[[Namespace], EvaluatorConfig]:
    """Wrap lm-eval's reading of a command's arguments and config file: values that would fail later are refused."""

    @functools.wraps(from_cli)
    def checked_from_cli(arguments: Namespace) -> EvaluatorConfig:
        try:
            config = from_cli(arguments)
            file_config = EvaluatorConfig.load_yaml_config(arguments.config) if arguments.config else {}
        except (ValueError, TypeError, OSError) as error:
            raise RefusedError(
                "lm-eval's arguments must fit together", str(error), "Correct them; see --help"
            ) from error
        # lm-eval falls back to its model hf, which no one who starts this command means.
        if not (arguments.model or file_config.get("model")):
            remedy = f"Add --model: {', '.join(MODELS)}, or one of lm-eval's own"
            raise RefusedError("lm-eval must be given a model", arguments.model, remedy)
        check_choice("--model", config.model, sorted(model_registry))
        _check_limit(config.limit)
        paths = config.include_path if isinstance(config.include_path, list) else [config.include_path]
        for path in paths:
            if path is not None and not Path(path).is_dir():
                raise RefusedError("--include_path must be a folder of task files", str(path), "Correct the path")
        return config

    return checked_from_cli


def _check_limit(limit: Any) -> None:
    if limit is None:
        return
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 <= limit < math.inf:
        remedy = "Write how many questions of each task are asked, or their share, below 1"
        raise RefusedError("--limit must be a number, not below 0", limit, remedy)


def checks_task_names(process_tasks: Callable[..., TaskManager]) -> Callable[..., TaskManager]:
    """Wrap lm-eval's search for the tasks that a command names: unknown names are refused with similar known ones."""

    @functools.wraps(process_tasks)
    def checked_process_tasks(config: EvaluatorConfig, *arguments: Any, **options: Any) -> TaskManager:
        names = config.tasks
        try:
            manager = process_tasks(config, *arguments, **options)
        except ValueError as error:
            if not str(error).startswith(TASKS_NOT_FOUND):
                raise
            # There are thousands of tasks: name only those that are similar.
            all_tasks = TaskManager(include_path=config.include_path).all_tasks
            unknown = str(error).removeprefix(TASKS_NOT_FOUND).split(", ")
            similar = [task for name in unknown for task in difflib.get_close_matches(name, all_tasks, n=3)]
            hint = f"Did you mean {', '.join(map(repr, similar))}? " if similar else ""
            remedy = f"{hint}List them by: python -m c2c.evaluation.harness ls tasks"
            raise RefusedError("--tasks must name known tasks", unknown, remedy) from error
        if not config.tasks:
            raise RefusedError("--tasks must name a task", names, "Name a task, or a folder with task files")
        return manager

    return checked_process_tasks


def announces_tasks(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap lm-eval's `evaluate`: one of our models gets the tasks first, to refuse requests before it answers any."""

    @functools.wraps(evaluate)
    def announcing_evaluate(lm: Any, task_dict: Any, *arguments: Any, **options: Any) -> Any:
        announce_tasks(lm, (task_dict.get("tasks") or {}).values())
        return evaluate(lm, task_dict, *arguments, **options)

    return announcing_evaluate


lm_eval.evaluator.evaluate = announces_tasks(lm_eval.evaluator.evaluate)
EvaluatorConfig.from_cli = staticmethod(checks_arguments(EvaluatorConfig.from_cli))
EvaluatorConfig.process_tasks = checks_task_names(EvaluatorConfig.process_tasks)
