"""`c2c doctor`: each problem has its remedy, and what is optional is no problem."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import c2c
from c2c.cli import machine
from c2c.cli.main import main
from c2c.errors import EXTRAS, FAILED, REFUSED, RefusedError, exit_code, missing_package

ROOT = Path(__file__).resolve().parents[2]


def findings(capsys, *flags: str) -> dict[str, dict[str, str]]:
    """What the doctor finds, by name."""
    try:
        code = main(["doctor", "--json", *flags])
    except SystemExit as end:
        code = end.code
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is (code == 0)
    return {finding["name"]: finding for finding in report["findings"]}


def test_a_machine_without_problems_ends_with_0(capsys, monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("C2C_HUB_MIRROR", raising=False)
    report = findings(capsys, "--offline")
    assert {"c2c", "python", "torch", "device cpu", "threads", "memory", "disk", "hub"} <= report.keys()
    assert all(finding["state"] != "problem" for finding in report.values())


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [("OMP_NUM_THREADS", "100000", "threads"), ("C2C_HUB_MIRROR", "/no/such/folder", "hub")],
)
def test_each_problem_has_a_remedy_and_exit_code_1(variable, value, name, capsys, monkeypatch) -> None:
    monkeypatch.setenv(variable, value)
    finding = findings(capsys, "--offline")[name]
    assert finding["state"] == "problem" and variable in finding["remedy"]


def test_a_hub_that_does_not_answer_is_a_problem_that_can_be_done_without(capsys, monkeypatch) -> None:
    def fail() -> None:
        raise OSError("no route")

    monkeypatch.delenv("C2C_HUB_MIRROR", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(machine, "reach_hub", fail)
    assert "HF_HUB_OFFLINE" in findings(capsys)["hub"]["remedy"]


def test_the_text_names_each_problem_and_counts_them(capsys, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    with pytest.raises(SystemExit) as end:
        main(["doctor", "--offline"])
    text = capsys.readouterr().out
    assert end.value.code == FAILED and "!!  threads" in text and "-> export OMP_NUM_THREADS" in text


def test_an_extra_that_is_absent_is_no_problem_and_says_how_to_install_it(capsys, monkeypatch) -> None:
    monkeypatch.setattr(machine, "EXTRAS", {"demo": ("no_such_package",)})
    finding = findings(capsys, "--offline")["extra demo"]
    assert finding["state"] == "absent" and "cache-to-cache[demo]" in finding["remedy"]


def test_a_package_of_an_extra_that_is_missing_is_refused_with_the_extra(capsys) -> None:
    def act() -> None:
        raise ModuleNotFoundError("No module named 'pandas'", name="pandas.core")

    assert exit_code("c2c train", act) == REFUSED
    text = capsys.readouterr().err
    assert "pandas must be installed" in text and "cache-to-cache[evaluation]" in text


def test_another_missing_module_is_no_refusal() -> None:
    assert missing_package(ModuleNotFoundError("no", name="c2c.no_such_module")) is None


def test_the_public_names_import_nothing_that_an_extra_brings() -> None:
    show = "print(*(name for name in sys.modules if name.startswith('c2c.')))"
    program = f"import c2c, sys; [getattr(c2c, name) for name in c2c.__all__]; {show}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    brought = {module for modules in EXTRAS.values() for module in modules}
    for name in done.stdout.split():
        path = ROOT.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        top = ast.parse(path.read_text(encoding="utf-8")).body
        lines = [alias.name for node in top if isinstance(node, ast.Import) for alias in node.names]
        lines += [node.module or "" for node in top if isinstance(node, ast.ImportFrom)]
        assert not brought & {line.partition(".")[0] for line in lines}, name


def test_a_name_of_the_library_is_refused_with_the_extra_that_it_needs(monkeypatch) -> None:
    monkeypatch.setitem(c2c._HOMES, "Agent", "c2c.no_such_home")

    def fail(name: str):
        raise ModuleNotFoundError("No module named 'pandas'", name="pandas")

    monkeypatch.setattr(c2c.importlib, "import_module", fail)
    with pytest.raises(RefusedError, match="cache-to-cache"):
        c2c.__getattr__("Agent")


def test_the_extras_that_refusals_name_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {"lm_eval": "lm-eval", "sklearn": "scikit-learn", "math_verify": "math-verify"}
    for extra, modules in EXTRAS.items():
        packages = " ".join(project["optional-dependencies"][extra])
        assert all(names.get(module, module) in packages for module in modules), extra
        core = " ".join(project["dependencies"])
        assert not any(names.get(module, module) in core.split() for module in modules)
