"""Nothing runs the code that comes with a model or a data set, and nothing asks whether it may."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("c2c", "benchmarks", "workflow", "paper")
LOADERS = ("from_pretrained", "from_config", "load_dataset", "load_dataset_builder")
OWN = ("RosettaModel", "cls")
"""Classes of this package, whose `from_pretrained` reads checkpoints of Fusers."""


def calls(source: str) -> Iterator[tuple[int, ast.Call]]:
    """Calls that could run foreign code, with their lines."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = getattr(function.value, "id", "") if isinstance(function, ast.Attribute) else ""
        if name in LOADERS and owner not in OWN:
            yield node.lineno, node


def trusting(source: str) -> list[int]:
    """Lines of the calls that do not say ``trust_remote_code=False``."""
    refused = {"trust_remote_code": False}
    said = {
        line: {each.arg: each.value.value for each in call.keywords if isinstance(each.value, ast.Constant)}
        for line, call in calls(source)
    }
    return [line for line, keywords in said.items() if not keywords.items() >= refused.items()]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_loader_is_told_not_to_run_code(package) -> None:
    wrong = {
        str(path.relative_to(ROOT)): lines
        for path in sorted((ROOT / package).rglob("*.py"))
        if (lines := trusting(path.read_text(encoding="utf-8")))
    }
    assert wrong == {}


def test_there_are_such_calls() -> None:
    found = [call for path in (ROOT / "c2c").rglob("*.py") for call in calls(path.read_text(encoding="utf-8"))]
    assert len(found) >= 3


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("AutoModel.from_pretrained(x)", [1]),
        ("AutoModel.from_pretrained(x, trust_remote_code=True)", [1]),
        ("AutoModel.from_pretrained(x, trust_remote_code=flag)", [1]),
        ("\nload_dataset(x)", [2]),
        ("datasets.load_dataset(x, trust_remote_code=False)", []),
        ("RosettaModel.from_pretrained(x)", []),
    ],
)
def test_the_test_itself_tells_them_apart(code, lines) -> None:
    assert trusting(code) == lines
