"""Commands that run a program of the replication's repository, which the library does not import."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from c2c.errors import RefusedError


@dataclass(frozen=True, kw_only=True)
class Claims:
    """The paper's claims and tables: its values, ours, verdicts, commands. Runs in the replication's repository."""

    action: Positional[Literal["list", "show"]]
    """all claims, or one claim or table"""
    item: Positional[str] = ""
    """id of a claim, or a table or figure: table4"""
    values: bool = False
    """of a table or figure: list the paper's values, too"""

    def run(self) -> None:
        """Print the claims."""
        values = ["--values"] if self.values else []
        run_module("c2c claims", "paper.show", self.action, *filter(None, [self.item]), *values)


def run_module(command: str, module: str, *arguments: str) -> None:
    """Run a program of the repository in this process, as `python -m module` would.

    Raises:
        RefusedError: If the current folder is not the root of that repository.
        SystemExit: With the program's exit code, unless it succeeded.
    """
    if not Path(*module.split(".")).with_suffix(".py").is_file():
        remedy = "Clone the repository, and run this in its root"
        raise RefusedError(f"{command} must run in the repository of the replication", str(Path.cwd()), remedy)
    # The current folder comes first, and the program reads its own arguments.
    with program_arguments(module, *arguments), current_folder_first():
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise


@contextmanager
def program_arguments(*arguments: str) -> Iterator[None]:
    """Inside, `sys.argv` is `arguments`."""
    argv, sys.argv = sys.argv, list(arguments)
    try:
        yield
    finally:
        sys.argv = argv


@contextmanager
def current_folder_first() -> Iterator[None]:
    """Inside, modules are looked for in the current folder first."""
    path = list(sys.path)
    sys.path[:] = [str(Path.cwd()), *path]
    try:
        yield
    finally:
        sys.path[:] = path
