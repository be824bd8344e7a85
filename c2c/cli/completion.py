"""The command ``c2c completion``: what a shell reads to complete commands and flags."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import OmitSubcommandPrefixes, Positional, subcommand

from c2c.cli.commands import Group, Table


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Print the completion of commands and flags for a shell, to be put where the shell looks for it."""

    shell: Positional[Literal["bash", "zsh", "tcsh", "fish"]]
    """the shell that reads it"""

    def run(self) -> None:
        """Print the script."""
        from c2c.cli.main import COMMANDS

        try:
            tyro.cli(
                command_type(COMMANDS),
                prog="c2c",
                args=["--tyro-print-completion", self.shell],
                config=(OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff),
            )
        except SystemExit as end:
            if end.code:
                raise


def command_type(table: Table) -> Any:
    """The union of all commands of a table, a type for each; a group is a dataclass that holds such a union."""
    kinds = []
    for name, entry in table.items():
        if isinstance(entry, Group):
            kind: Any = make_dataclass(f"{name.title()}Group", [("kind", command_type(entry.commands))])
        else:
            kind = entry.load()
        kinds.append(Annotated[kind, subcommand(name, description=entry.help)])
    return reduce(or_, kinds)
