"""lm-eval's own command line with this project's methods among its models.

    python -m c2c.evaluation.lm_eval --model c2c --model_args receiver=…,sharer=…,fuser=… --tasks … --include_path …

takes what ``lm_eval`` takes. That command itself cannot know `c2c`: lm-eval lists its models in its own package and has
no entry point by which another package adds to them. Importing this module makes the methods known to
``lm_eval.simple_evaluate``, too.
"""

from __future__ import annotations

import functools
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import lm_eval.evaluator
import lm_eval.models  # lm-eval's own, which it lists only where no model is known yet
import torch
from lm_eval._cli import HarnessCLI
from lm_eval.utils import setup_logging

from c2c.errors import exit_code
from c2c.evaluation import door


def main() -> int:
    """Run lm-eval's command line; returns its exit code (`c2c.errors.exit_code`)."""
    return exit_code("c2c.evaluation.lm_eval", _evaluate)


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


def _told(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    """lm-eval's `evaluate`, which first tells a door what all tasks will ask, so that it refuses before it answers."""

    @functools.wraps(evaluate)
    def telling(lm: Any, task_dict: Any, *arguments: Any, **options: Any) -> Any:
        door.expect(lm, (task_dict.get("tasks") or {}).values())
        return evaluate(lm, task_dict, *arguments, **options)

    return telling


lm_eval.evaluator.evaluate = _told(lm_eval.evaluator.evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
