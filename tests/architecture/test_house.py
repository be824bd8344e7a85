from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
from pathlib import Path

import pytest

import c2c

ROOT = Path(__file__).resolve().parents[2]


def tracked(*patterns: str) -> list[Path]:
    """Files under version control, or all files where there is no repository (an unpacked archive)."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--", *patterns]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return [path for pattern in patterns for path in ROOT.rglob(pattern.removeprefix("*"))]
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


PYTHON = tracked("*.py")


# Written in two parts, so that this file does not find itself.
FORBIDDEN = {
    "absolute path": re.compile(r"(?<![\w.$}/])/(?:" + "work|tmp|home|root|mnt|Users" + r")/\w"),
    "package registry": re.compile(
        "|".join(["pypi" + r"\.org", "python" + r"hosted\.org", "npm" + r"js\.", "pytorch" + r"\.org/whl"])
    ),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_tracked_files_name_nothing_of_one_machine(what: str) -> None:
    texts = [path for path in tracked("*") if path.suffix not in {".png", ".pdf", ".parquet", ".pt", ".safetensors"}]
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in texts
        if (match := FORBIDDEN[what].search(path.read_text(encoding="utf-8", errors="ignore")))
    ]
    assert not found


@pytest.mark.parametrize("name", [name for name in c2c.__all__ if name != "__version__"])
def test_each_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    assert inspect.getdoc(getattr(c2c, name))


def test_the_three_names_that_users_of_the_prototype_know_are_exported() -> None:
    assert {"RosettaModel", "create_c2c_projector", "generate_kv_cache_index"} <= set(c2c.__all__)


def test_an_unknown_name_of_the_library_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="RosettaModel"):
        c2c.Rosetta  # noqa: B018


@pytest.mark.parametrize("path", [path for path in PYTHON if path.is_relative_to(ROOT / "c2c")], ids=lambda p: p.name)
def test_public_functions_are_documented_and_typed(path: Path) -> None:
    missing = [
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        if not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert not missing


def test_every_package_of_the_library_can_be_imported() -> None:
    for path in (ROOT / "c2c").rglob("__init__.py"):
        importlib.import_module(".".join(path.parent.relative_to(ROOT).parts))


def test_a_class_name_is_one_class() -> None:
    homes: dict[str, list[str]] = {}
    for path in PYTHON:
        module = path.relative_to(ROOT)
        if module.parts[0] in ("c2c", "workflow", "paper", "benchmarks"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    homes.setdefault(node.name, []).append(str(module))
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}
