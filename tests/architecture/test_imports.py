"""Imports run downward only, and never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = ("c2c", "benchmarks", "paper", "workflow")

ROOMS = (
    ("errors", "types", "settings", "stats", "provenance", "storage"),
    ("cache",),
    ("alignment",),
    ("fuser",),
    ("models",),
    ("generation",),
    ("fusion",),
    ("checkpoints",),
    ("rosetta",),
    ("agents", "training", "evaluation"),
    ("analysis", "testbed"),
    ("demo",),
    ("cli",),
)
"""Modules and folders of ``c2c`` from the ground up. A room imports from its own floor and from those below it."""

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


def modules(root: Path, package: str) -> Iterator[tuple[str, Path]]:
    """Names and files of the modules of a package."""
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> Iterator[str]:
    """What a module names in its imports: at its top, inside functions, and for annotations alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_graph(root: Path, packages: Iterable[str]) -> dict[str, set[str]]:
    """The modules of some packages and, for each, the modules of them that it imports.

    A package is its ``__init__.py``: `from package import name` is an import of it where `name` is no module of it.
    """
    files = dict(chain.from_iterable(modules(root, package) for package in packages))
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        targets = [(target, target.rpartition(".")[0]) for target in imports(path)]
        homes = (next((home for home in pair if home in files), name) for pair in targets)
        graph[name] = {*homes} - {name}
    return graph


def circle(graph: Mapping[str, set[str]]) -> tuple[str, ...]:
    """Modules that import each other in a circle, the first of them twice; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return tuple(error.args[1])
    return ()


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(import_graph(ROOT, PACKAGES)) == ()


@pytest.mark.parametrize(
    "line",
    [
        "from {package}.first import name",
        "def function():\n    import {package}.first",
        "if TYPE_CHECKING:\n    from {package} import first",
    ],
)
@pytest.mark.parametrize("package", PACKAGES)
def test_a_circle_is_seen_wherever_its_imports_stand(package: str, line: str, tmp_path: Path) -> None:
    folder = tmp_path / package
    folder.mkdir()
    (folder / "first.py").write_text(f"from {package}.second import name\n")
    (folder / "second.py").write_text("name = 1\n")
    assert circle(import_graph(tmp_path, [package])) == ()
    (folder / "second.py").write_text(line.format(package=package) + "\n")
    assert set(circle(import_graph(tmp_path, [package]))) == {f"{package}.first", f"{package}.second"}


def floor(name: str) -> int | None:
    """On which floor of ROOMS a module of ``c2c`` stands."""
    package, _, rest = name.partition(".")
    room = rest.partition(".")[0]
    return next((i for i, rooms in enumerate(ROOMS) if room in rooms), None) if package == "c2c" else None


CORE = [(name, path) for name, path in modules(ROOT, "c2c") if name != "c2c"]


@pytest.mark.parametrize(("name", "path"), CORE, ids=[name for name, _ in CORE])
def test_a_module_imports_from_its_own_floor_or_from_floors_below_it(name: str, path: Path) -> None:
    home = floor(name)
    assert home is not None, f"{name} stands on no floor: add its room to ROOMS and to CONTRIBUTING.md"
    above = [target for target in imports(path) if (floor(target) or 0) > home]
    assert above == []


def test_the_top_of_the_library_is_short() -> None:
    assert len({name.split(".")[1] for name, _ in CORE}) < 22, "with __init__.py: 22 entries"


@pytest.mark.parametrize("name", ["workflow", "benchmarks", "paper"])
def test_the_library_knows_nothing_of_what_uses_it(name: str) -> None:
    users = [module for module, path in modules(ROOT, "c2c") for each in imports(path) if each.split(".")[0] == name]
    assert users == []


def test_only_the_adapter_touches_the_cache_classes_of_transformers() -> None:
    classes = {"DynamicCache", "StaticCache", "DynamicLayer", "HybridCache"}
    users = {
        name
        for name, path in modules(ROOT, "c2c")
        for imported in imports(path)
        if imported.startswith("transformers") and imported.rsplit(".", 1)[-1] in classes
    }
    assert users <= {"c2c.cache.kv_cache"}


def test_verification_needs_no_torch() -> None:
    paper = [name for name, path in modules(ROOT, "paper") if path.name != "__init__.py"]
    drawing = ("paper.figures", "paper.build")  # need seaborn and typst, which verification does not have either
    wanted = [*TORCH_FREE, *(name for name in paper if not name.startswith(drawing))]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *wanted], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_paper_imports_no_torch_anywhere() -> None:
    users = [name for name, path in modules(ROOT, "paper") if "torch" in {each.split(".")[0] for each in imports(path)}]
    assert users == []
