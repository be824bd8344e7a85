"""Modules of tables and figures: whether each can be run, found out before anything runs, and their `write`."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from c2c.errors import RefusedError
from paper.artefacts import Artefact

PACKAGES = ("paper", "c2c", "benchmarks")
"""Packages of the repository, whose modules are read and not imported to see what they define."""
COPY = "A small one to copy is paper/tables/sources.py"


def check_module(artefact: Artefact) -> None:
    """Whether the module of a table or figure can be run; its code is read, not run.

    Raises:
        RefusedError: There is no such module, it is no Python, it imports what the repository does not have, or, of a
            table, it has no function `write`.
    """
    title = f"The module of the {artefact.kind} {artefact.name} in artefacts.yaml"
    path = _file(artefact.module)
    if path is None:
        remedy = f"Write {artefact.module.replace('.', '/')}.py, or correct `module`. {COPY}"
        raise RefusedError(f"{title} must exist", artefact.module, remedy)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise RefusedError(
            f"{title} must be Python", f"{path}, line {error.lineno}: {error.msg}", "Correct it"
        ) from error
    for line, name in _wrong_imports(tree):
        rule = f"{title} must import names that exist"
        raise RefusedError(rule, f"{path}, line {line}: {name}", "Correct the import")
    if artefact.kind == "table" and "write" not in _names_of(tree):
        raise RefusedError(f"{title} must have a function `write`", str(path), f"Add it. {COPY}")


def writer(artefact: Artefact) -> Callable[..., Any]:
    """The function that writes a table's files.

    Raises:
        RefusedError: As `check_module`, or the module cannot be imported for another reason.
    """
    check_module(artefact)
    try:
        module: ModuleType = import_module(artefact.module)
    except ImportError as error:
        rule = f"The module of the {artefact.kind} {artefact.name} in artefacts.yaml must import names that exist"
        raise RefusedError(rule, f"{artefact.module}: {error}", "Correct the import") from error
    function: Callable[..., Any] = module.write
    return function


def _file(module: str) -> Path | None:
    """The file of a module, or None where there is none; only the packages above it are imported."""
    try:
        definition = find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(definition.origin) if definition and definition.origin else None


def _wrong_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Imports from the repository that name nothing: the line, and the module with the name."""
    for node in tree.body:
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            if module.split(".")[0] not in PACKAGES:
                continue
            names = _defined_in(module)
            if names is None:
                yield node.lineno, module
            elif isinstance(node, ast.ImportFrom):
                absent = [alias.name for alias in node.names if alias.name not in {*names, "*"}]
                yield from (
                    (node.lineno, f"{name} of {module}") for name in absent if _file(f"{module}.{name}") is None
                )


@cache
def _defined_in(module: str) -> frozenset[str] | None:
    """Names at the top of a module, or None where there is no such module."""
    path = _file(module)
    if path is None:
        return None
    return frozenset(_names_of(ast.parse(path.read_text(encoding="utf-8"))))


def _names_of(tree: ast.Module) -> set[str]:
    """Names that a module defines or imports outside its functions and classes."""
    names: set[str] = set()
    nodes: list[ast.AST] = list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        else:
            nodes += ast.iter_child_nodes(node)
    return names
