"""Imports run downward only: each module stands on a floor and imports from floors below it or from its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FLOORS = {
    "c2c.errors": 0,
    "c2c.types": 0,
    "c2c.files": 0,
    "c2c.formats": 0,
    "c2c.locks": 0,
    "c2c.folders": 0,
    "c2c.provenance": 0,
    "c2c.file_hashes": 0,
    "c2c.manifests": 0,
    "c2c.download": 0,
    "c2c.markup": 0,
    "c2c.stats": 0,
    "c2c.hub": 1,
    "c2c.kv_cache": 1,
    "c2c.cache_shape": 1,
    "c2c.computation": 1,
    "c2c.sections": 1,
    "c2c.penalties": 0,
    "c2c.windows": 0,
    "c2c.rope": 0,
    "c2c.decoding": 1,
    "c2c.alignment": 2,
    "c2c.fuser": 2,
    "c2c.contract": 3,
    "c2c.controls": 3,
    "c2c.whole_model": 1,
    "c2c.loading": 3,
    "c2c.released_recipe": 3,
    "c2c.reading_checks": 3,
    "c2c.fusion": 3,
    "c2c.prefill": 3,
    "c2c.response": 3,
    "c2c.rosetta": 3,
    "c2c.checkpoint": 4,
    "c2c.checkpoint_folder": 4,
    "c2c.sharer_cache": 4,
    "c2c.released": 4,
    "c2c.released_weights": 4,
    "c2c.published": 4,
    "c2c.pair": 4,
    "c2c.card": 4,
    "c2c.publish": 4,
    "c2c.chat": 5,
    "c2c.training": 5,
    "c2c.analysis": 6,
    "c2c.evaluation": 6,
    "c2c.training.run": 7,  # a whole training as one call, with the analysis of its gates
    "c2c.analysis.commands": 8,  # a part of the command line
    "c2c.cli": 8,
    "c2c.cli_flags": 8,
    "c2c.cli_methods": 8,
}

FACTORIES = {("c2c.rosetta", each) for each in ("c2c.checkpoint", "c2c.released", "c2c.publish")}
"""Loading and saving are called on the class that users know, and are imported when they are called."""

TORCH_FREE = ["c2c", "c2c.stats", "c2c.provenance", "c2c.errors", "c2c.evaluation.schema", "c2c.evaluation.scoring"]

WITHOUT_TORCH = """
import importlib, sys
MISSING = "torch transformers lm_eval datasets seaborn matplotlib typst jinja2 jsonschema".split()
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in MISSING:
            raise ModuleNotFoundError(f"{name} is not installed")
sys.meta_path.insert(0, Absent())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
"""Imports the modules that it is given as they would be imported in the small environment of `make verify`."""


def modules(package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> Iterator[str]:
    """What a module imports of this project when it runs, at its top or inside functions; not for annotations alone."""
    tree = ast.parse(path.read_text())
    for_annotations = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_annotations:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(name: str) -> tuple[str, int] | None:
    """The entry of FLOORS that a module or a name in it belongs to: the longest that fits."""
    fitting = [entry for entry in FLOORS if name == entry or name.startswith(f"{entry}.")]
    return (entry := max(fitting, key=len), FLOORS[entry]) if fitting else None


CORE = [(name, path) for name, path in modules("c2c") if name != "c2c"]


@pytest.mark.parametrize(("name", "path"), CORE, ids=[name for name, _ in CORE])
def test_a_module_imports_from_floors_below_it_or_from_its_own(name: str, path: Path) -> None:
    home = floor(name)
    assert home is not None, f"{name} stands on no floor: add it to FLOORS and to CONTRIBUTING.md"
    for imported in imports(path):
        target = floor(imported)
        if target is not None and (home[0], target[0]) not in FACTORIES:
            assert target[1] <= home[1], f"{name} (floor {home[1]}) imports {imported} (floor {target[1]})"


def test_no_two_floors_import_each_other() -> None:
    pairs = {
        (home[0], target[0])
        for name, path in CORE
        for imported in imports(path)
        if (home := floor(name)) and (target := floor(imported)) and home[0] != target[0]
    } - FACTORIES
    within_loading = {("c2c.checkpoint", "c2c.released"), ("c2c.released", "c2c.checkpoint")}
    assert {(a, b) for a, b in pairs if (b, a) in pairs} <= within_loading


@pytest.mark.parametrize("name", ["workflow", "benchmarks", "paper"])
def test_the_library_knows_nothing_of_what_uses_it(name: str) -> None:
    users = [module for module, path in modules("c2c") for each in imports(path) if each.split(".")[0] == name]
    assert users == []


def test_only_the_adapter_touches_the_cache_classes_of_transformers() -> None:
    classes = {"DynamicCache", "StaticCache", "DynamicLayer", "HybridCache"}
    users = {
        name
        for name, path in modules("c2c")
        for imported in imports(path)
        if imported.startswith("transformers") and imported.rsplit(".", 1)[-1] in classes
    }
    assert users <= {"c2c.kv_cache"}


def test_verification_needs_no_torch() -> None:
    paper = [name for name, path in modules("paper") if path.name != "__init__.py"]
    drawing = ("paper.figures", "paper.build")  # need seaborn and typst, which verification does not have either
    wanted = [*TORCH_FREE, *(name for name in paper if not name.startswith(drawing))]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *wanted], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_paper_imports_no_torch_anywhere() -> None:
    users = [name for name, path in modules("paper") if "torch" in {each.split(".")[0] for each in imports(path)}]
    assert users == []
