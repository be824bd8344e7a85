"""Jinja templates of task files: rendered in a sandbox, so that a wording is no program."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from c2c.errors import RefusedError

TEMPLATES = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
MISFIT = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
OPTIONAL = ("defined", "undefined", "default", "d")
"""Tests and filters of jinja that a variable passes without being there."""
# Templates are few and questions many.
_compiled = functools.lru_cache(1024)(TEMPLATES.from_string)


def render(where: str, source: str, values: Mapping[str, Any], remedy: str = "") -> str:
    """The text of a template.

    Args:
        where: What the message calls it, as in ``metadata.t2t_question of arc_easy_letter``.
        source: The template.
        values: What it may name.
        remedy: Of the refusal.

    Raises:
        RefusedError: It is no template, names what there is not, fails, or asks for what the sandbox forbids.
    """
    try:
        return _compiled(source).render(values)
    except (TemplateError, *MISFIT) as error:
        rule = f"{where} must be a template over the columns of a question, without Python's own attributes"
        remedy = remedy or f"Correct it; a question has {', '.join(map(str, values))}"
        raise RefusedError(rule, f"{type(error).__name__}: {error}", remedy) from error


def variables(where: str, source: str) -> set[str]:
    """The variables that a template needs: those that it names without a test that they are defined, or a default.

    Args:
        where: What the message calls it.
        source: The template.

    Raises:
        RefusedError: It is no template.
    """
    try:
        tree = TEMPLATES.parse(source)
    except TemplateError as error:
        rule = f"{where} must be a jinja template"
        raise RefusedError(rule, f"{type(error).__name__}: {error}", "Correct the template") from error
    guards = [guard for guard in tree.find_all((nodes.Test, nodes.Filter)) if guard.name in OPTIONAL]
    optional = {guard.node.name for guard in guards if isinstance(guard.node, nodes.Name)}
    return meta.find_undeclared_variables(tree) - optional - set(TEMPLATES.globals)
