"""How commands of this folder end: with what they return, or in one line where an input is not what they read."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec

from c2c.errors import RefusedError, exit_code

Arguments = ParamSpec("Arguments")
REMEDY = "Make the inputs again with the workflow, or name others"
MISFIT = (LookupError, AttributeError, TypeError, ValueError, ArithmeticError, AssertionError)
"""What pandas, pyarrow and this code raise over a file that is whole and holds something else."""


@contextmanager
def reading(program: str) -> Iterator[None]:
    """Refuse what fails inside over the content of an input; each reader names its file before that where it can."""
    try:
        yield
    except RefusedError:
        raise
    except (IsADirectoryError, NotADirectoryError) as error:
        raise RefusedError(f"An input of {program} must be a file", str(error.filename), REMEDY) from error
    except MISFIT as error:
        rule = f"What {program} reads must be files as the workflow writes them, with their columns and values"
        raise RefusedError(rule, f"{type(error).__name__}: {error}", REMEDY) from error


def command(main: Callable[Arguments, int | None], name: str = "") -> Callable[Arguments, int]:
    """Decorate a `main`, so that it returns an exit code and prints a refusal in one line.

    Args:
        main: The command line.
        name: What a refusal calls the command, where a person calls it otherwise than `program` tells.
    """

    @functools.wraps(main)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
        codes: list[int] = []

        def act() -> None:
            with reading(name or program()):
                codes.append(main(*args, **kwargs) or 0)

        return exit_code(name or program(), act) or codes[0]

    return run


def program() -> str:
    """The command as a person called it: ``paper.claims``."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else Path(sys.argv[0]).stem
