"""Every refusal states its rule as a sentence with "must", wherever in the packages the sentence is written."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("c2c", "benchmarks", "workflow", "paper")
REFUSALS = {"RefusedError", "NoRoomError", "ModelFaultError", "WrongModelError"}
RULE = "rule"
"""The variable, parameter or field that holds a rule where it is not written in the call itself."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef


def trees() -> dict[str, ast.Module]:
    """Each module of the packages by its path below the root."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def rules_without_must(tree: ast.Module) -> list[int]:
    """Lines of the rules in a module that do not say what must hold."""
    return sorted({rule.lineno for rule in rules(tree) if not says_must(rule)})


def says_must(rule: ast.expr) -> bool:
    """Whether an expression holds the word, in each of its branches, or is a rule that was written elsewhere."""
    match rule:
        case ast.Constant(value=str(text)):
            return re.search(r"\bmust\b", text) is not None
        case ast.JoinedStr(values=parts):
            return any(map(says_must, parts))
        case ast.FormattedValue(value=value):
            # A refusal that is passed on, such as f"{place}: {refusal.rule}".
            return isinstance(value, ast.Attribute) and value.attr == RULE
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return says_must(left) or says_must(right)
        case ast.IfExp(body=body, orelse=orelse):
            return says_must(body) and says_must(orelse)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name == RULE
        case ast.Starred():
            # All three parts of a refusal that another process made.
            return True
    return False


def rules(tree: ast.Module) -> Iterator[ast.expr]:
    """Expressions that are the rule of a refusal."""
    makers = {name: at for node in ast.walk(tree) if (found := maker(node)) for name, at in [found]}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in REFUSALS or name in makers:
                at = makers.get(name, 0)
                yield from node.args[at : at + 1]
                yield from (keyword.value for keyword in node.keywords if keyword.arg == RULE)
    for function in ast.walk(tree):
        if isinstance(function, Definition) and refuses_by_variable(function):
            for node in ast.walk(function):
                match node:
                    case ast.Assign(targets=[ast.Name(id="rule")], value=value):
                        yield value
                    case ast.AnnAssign(target=ast.Name(id="rule"), value=ast.expr() as value):
                        yield value


def maker(node: ast.AST) -> tuple[str, int] | None:
    """Name of a function or class whose argument `rule` becomes that of a refusal, and the argument's place."""
    if isinstance(node, Definition) and refuses_by_variable(node):
        names = [argument.arg for argument in node.args.args]
        return (node.name, names.index(RULE)) if RULE in names else None
    if isinstance(node, ast.ClassDef):
        fields = [each.target.id for each in node.body if isinstance(each, ast.AnnAssign) and is_name(each.target)]
        return (node.name, fields.index(RULE)) if {RULE, "remedy"} <= set(fields) else None
    return None


def is_name(node: ast.expr) -> bool:
    """Whether an expression is a plain name."""
    return isinstance(node, ast.Name)


def refuses_by_variable(function: Definition) -> bool:
    """Whether a function passes its variable or parameter `rule` to a refusal; a workflow has rules of another kind."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and node.args]
    return any(
        getattr(call.func, "id", None) in REFUSALS and getattr(call.args[0], "id", None) == RULE for call in calls
    )


def test_every_rule_says_what_must_hold() -> None:
    missing = [f"{name}:{line}" for name, tree in trees().items() for line in rules_without_must(tree)]
    assert not missing


def test_every_class_of_refusals_is_looked_at() -> None:
    bases = {
        node.name: {getattr(base, "id", getattr(base, "attr", "")) for base in node.bases}
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    known = {"RefusedError"}
    while derived := {name for name, its in bases.items() if its & known} - known:
        known |= derived
    assert known == REFUSALS


def test_rules_are_found_in_most_modules() -> None:
    counts = [len(list(rules(tree))) for tree in trees().values()]
    assert sum(counts) > 500 and sum(map(bool, counts)) > 100


SPOILT = {
    "a text": 'raise RefusedError("The Receiver has layers", 5, "Name one")',
    "a word that only begins so": 'raise RefusedError("A list without mustard", 5, "Name one")',
    "a text with a value": 'raise RefusedError(f"The Receiver has {must} layers", 5, "Name one")',
    "a keyword": 'raise RefusedError(rule="The Receiver has layers", received=5, remedy="Name one")',
    "a subclass": 'raise errors.NoRoomError("A text fits the model", 5, "Shorten it")',
    "one of two branches": 'raise RefusedError("A must" if a else "B has", 5, "Name one")',
    "a variable": 'def f():\n    rule = "The Receiver has layers"\n    raise RefusedError(rule, 5, "Name one")',
    "one of two variables": "def f():\n    rule = 'A must'\n    if b:\n        rule = 'B has'\n"
    "    raise RefusedError(rule, 5, 'Name one')",
    "a typed variable": 'def f():\n    rule: str = "B has"\n    raise RefusedError(rule, 5, "Name one")',
    "a variable of another name": 'raise RefusedError(sentence, 5, "Name one")',
    "a parameter": "def refused(a, rule):\n    return RefusedError(rule, a, 'Name one')\n\nraise refused(5, 'B has')",
    "a parameter by its name": "def refused(rule, a):\n    return RefusedError(rule, a, 'Name one')\n\n"
    "raise refused(a=5, rule='B has')",
    "a field": "class Reason(NamedTuple):\n    rule: str\n    remedy: str\n\nreason = Reason('B has', 'Name one')",
}


@pytest.mark.parametrize("code", SPOILT.values(), ids=list(SPOILT))
def test_a_rule_without_the_word_is_found(code: str) -> None:
    assert len(rules_without_must(ast.parse(code))) == 1


SOUND = {
    "a text": 'raise RefusedError("A link must name a layer", 5, "Name one")',
    "a text with a value": 'raise RefusedError(f"{name} must be one of the {n} layers", 5, "Name one")',
    "texts that are added": 'raise RefusedError("A folder must vouch for it; it is " + (a if b else c), 5, "Name one")',
    "a rule that is passed on": 'raise RefusedError(f"{place}: {refusal.rule}", refusal.received, refusal.remedy)',
    "a rule of the workflow": 'rule = "train_fuser"\nplan(rule)',
}


@pytest.mark.parametrize("code", SOUND.values(), ids=list(SOUND))
def test_a_rule_with_the_word_is_left_alone(code: str) -> None:
    assert not rules_without_must(ast.parse(code))
