"""Sub-commands as rows of a table: a command's module is imported, and its flags are made, when it is chosen.

The flags of a command are the fields of a dataclass, from which `tyro` makes the parser and the help. Whoever asks for
``c2c --help`` or another command does not pay for its imports.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, NamedTuple, Protocol

from c2c.errors import RefusedError, check_choice


class Runnable(Protocol):
    """A command with its flags."""

    def run(self) -> None:
        """Do what the command is for; refusals are `RefusedError`."""


class Command(NamedTuple):
    """A command.

    Args:
        help: One line for the list of commands.
        home: ``module:Class`` of the dataclass whose fields are the flags.
        example: A command line that works, shown below the description.
    """

    help: str
    home: str
    example: str

    def load(self) -> type[Runnable]:
        """The dataclass; its module is imported."""
        module, _, name = self.home.partition(":")
        kind: type[Runnable] = getattr(importlib.import_module(module), name)
        return kind


class Group(NamedTuple):
    """Commands under one name, such as ``c2c analyse``."""

    help: str
    commands: Mapping[str, Command]


Table = Mapping[str, Command | Group]


def parse(table: Table, arguments: Sequence[str], program: str, version: str = "") -> tuple[str, Runnable]:
    """Find the command that the arguments name, and read its flags.

    Args:
        table: Commands and groups of commands by name.
        arguments: What comes after the program's name.
        program: The words before, such as ``c2c``.
        version: What ``--version`` prints, where there is one.

    Returns:
        The command's name with the program's, and the command with its flags.

    Raises:
        RefusedError: If no command has that name, or a flag that must have values has none.
        SystemExit: After help, or with code 2 for flags that cannot be read.
    """
    # The list of commands is argparse's, which shows help and version.
    if not arguments or arguments[0].startswith("-"):
        _listing(table, program, version).parse_args(arguments)
        raise RefusedError(f"{program} must be followed by a command", "none", f"See {program} --help")
    name = check_choice(f"A command of {program}", arguments[0], table)
    entry = table[name]
    if isinstance(entry, Group):
        return parse(entry.commands, arguments[1:], f"{program} {name}")
    return f"{program} {name}", parse_flags(entry, arguments[1:], f"{program} {name}")


def parse_flags(command: Command, arguments: Sequence[str], program: str) -> Runnable:
    """A command with its flags from arguments; raises as `parse`."""
    import tyro

    kind = command.load()
    flags: Runnable = tyro.cli(
        kind,
        prog=program,
        description=_description(command, kind),
        args=list(arguments),
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    for field in fields(kind):  # type: ignore[arg-type]
        if field.default is MISSING and getattr(flags, field.name) == ():
            flag = "--" + flag_of(field)
            raise RefusedError(f"{flag} must be followed by at least one value", "none", f"Write {flag} VALUE")
    return flags


def flag_of(field: Any) -> str:
    """The flag of a field, without its hyphens in front."""
    return str(field.metadata.get("flag", field.name)).replace("_", "-")


def _description(command: Command, kind: type[Runnable]) -> str:
    """The docstring without what is for readers of the code, and the example."""
    text = "\n".join(line.strip() for line in (kind.__doc__ or command.help).strip().splitlines())
    return f"{text}\n\nExample:\n    {command.example}"


def _listing(table: Table, program: str, version: str) -> argparse.ArgumentParser:
    """A parser that knows the commands' names and one line about each."""
    about = "Cache-to-Cache: one language model reads another's KV-cache."
    first, entry = next(iter(table.items()))
    example = f"Example: {entry.example}" if isinstance(entry, Command) else f"Example: {program} {first} --help"
    parser = argparse.ArgumentParser(prog=program, description=about, epilog=example)
    if version:
        parser.add_argument("--version", action="version", version=version)
    choices = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, row in table.items():
        choices.add_parser(name, help=row.help)
    return parser
