"""Sub-commands as rows of a table; the flags of one are added when it is chosen."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


class Command(NamedTuple):
    """A sub-command.

    Args:
        help: One line for the list of sub-commands.
        add_flags: Adds the flags to the sub-command's parser; it may import what gives their choices.
        run: Gets the parsed flags; None if `add_flags` adds sub-commands of its own.
    """

    help: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None] | None = None


class CommandParser(argparse.ArgumentParser):
    """Parser of one sub-command, without flags until it parses its first arguments.

    Flags name choices and defaults that are constants of the library, some of which cost the import of pandas. Whoever
    asks for ``c2c --help`` or another sub-command does not pay for them.
    """

    def __init__(self, *arguments: Any, command: Command | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._command = command

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse as `argparse.ArgumentParser` does, after the flags are added."""
        if self._command is not None:
            command, self._command = self._command, None
            command.add_flags(self)
            if command.run is not None:
                self.set_defaults(command=command.run)
        return super().parse_known_args(args, namespace)


def add_commands(parser: argparse.ArgumentParser, dest: str, commands: Mapping[str, Command]) -> None:
    """Add sub-commands to a parser, which stores the name of the chosen one as `dest`."""
    choices = parser.add_subparsers(dest=dest, required=True, parser_class=CommandParser)
    for name, command in commands.items():
        choices.add_parser(name, help=command.help, command=command)
