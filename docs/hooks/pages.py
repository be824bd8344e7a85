"""Pages that are made when the site is built: one for each public name of `c2c`, and the command line's help."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
from typing import Any
from unittest import mock

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import c2c
from c2c.cli.commands import Group
from c2c.cli.main import COMMANDS, main

BESIDE = {
    "ChatAligner": ["c2c.alignment.chat.AlignedChat", "c2c.alignment.chat.ChatSection"],
    "FuserConfig": ["c2c.fuser.config.VARIANTS"],
    "FuserStack": ["c2c.fuser.stack.Link", "c2c.alignment.layers.terminal", "c2c.alignment.layers.nearest"],
    "HandOver": [
        "c2c.agents.hand_over.AgentAnswer",
        "c2c.agents.hand_over.TextPrompts",
        "c2c.agents.writing.write",
        "c2c.agents.langgraph.build_graph",
        "c2c.agents.langgraph.sender_node",
        "c2c.agents.langgraph.receiver_node",
        "c2c.training.group.train_group",
    ],
    "LoadedModel": ["c2c.models.loading.load_model"],
    "RosettaModel": [
        "c2c.checkpoints.checkpoint.load_pretrained",
        "c2c.checkpoints.checkpoint.save_pretrained",
        "c2c.checkpoints.released.load_released",
        "c2c.checkpoints.push.push_to_hub",
        "c2c.generation.decoding.continue_text",
        "c2c.cache.kv_cache.convert_cache",
    ],
    "SharerCache": [
        "c2c.checkpoints.signing.Envelope",
        "c2c.checkpoints.signing.SigningKey",
        "c2c.models.contract.check_contract",
        "c2c.models.contract.describe_model",
    ],
    "SharerInput": ["c2c.alignment.tokens.batch_readings", "c2c.alignment.tokens.match_length"],
    "TokenAligner": ["c2c.alignment.tokens.AlignedPrompt"],
    "create_c2c_projector": ["c2c.fuser.variants.create_fuser"],
}
"""What the docstrings of a public name refer to for their arguments; it is shown on the same page."""


VERSION = "The version of the installed package."


def page_of(name: str) -> str:
    """Where the page of a public name is, from the root of the documentation."""
    return f"api/{name}.md"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the pages of the public names in the navigation."""
    for entry in config.nav or []:
        if "API" in entry:
            entry["API"].extend({name: page_of(name)} for name in c2c.__all__)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not written by hand."""
    pages = {page_of(name): api_page(name) for name in c2c.__all__}
    pages |= {"api/index.md": api_index(), "cli.md": cli_page()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def api_page(name: str) -> str:
    """The page of one public name, as mkdocstrings reads it."""
    lines = [f"::: c2c.{name}", "    options:", "      heading_level: 1"]
    if not is_described(name):
        lines += ["      show_if_no_docstring: true", "", VERSION]
    for path in BESIDE.get(name, []):
        lines += ["", f"::: {path}"]
    return "\n".join(lines) + "\n"


def is_described(name: str) -> bool:
    """Whether a public name is a class or function, and so has a docstring of its own."""
    return inspect.isclass(getattr(c2c, name)) or inspect.isfunction(getattr(c2c, name))


def api_index() -> str:
    """The list of all public names with the first sentence of each."""
    rows = [f"| [`{name}`]({name}.md) | {first_sentence(name)} |" for name in c2c.__all__]
    head = ["# Public names", "", "All can be imported from `c2c`, and are loaded when they are first used.", ""]
    return "\n".join([*head, "| name | what it is |", "| --- | --- |", *rows]) + "\n"


def first_sentence(name: str) -> str:
    """Of the docstring, on one line and without the markup that Markdown does not know."""
    text: Any = inspect.getdoc(getattr(c2c, name)) if is_described(name) else VERSION
    paragraph = " ".join((text or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", paragraph)[0].replace("``", "`").replace("|", "\\|")


def cli_page() -> str:
    """What ``c2c --help`` and the help of each command print."""
    parts = ["# Help of every command", "", "[The command line](command-line.md) says what the commands are for.", ""]
    parts += ["```text", help_of().strip(), "```"]
    for name, entry in COMMANDS.items():
        parts += ["", f"## c2c {name}", "", "```text", help_of(name).strip(), "```"]
        for kind in entry.commands if isinstance(entry, Group) else ():
            parts += ["", f"### c2c {name} {kind}", "", "```text", help_of(name, kind).strip(), "```"]
    return "\n".join(parts) + "\n"


def help_of(*command: str) -> str:
    """The help that one command prints, at the same width on every machine."""
    printed = io.StringIO()
    plain = {"COLUMNS": "100", "NO_COLOR": "1"}
    with mock.patch.dict(os.environ, plain), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return printed.getvalue()
