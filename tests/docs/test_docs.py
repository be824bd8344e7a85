"""The documentation: its programs run as printed, and it has a page for each public name."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import c2c
from c2c.cli import main

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
SHOWN = re.compile(r"# → (.*)$", flags=re.MULTILINE)


def run_blocks(page: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run a page's programs and commands in order and in one namespace; gives each block and the namespace after it."""
    names: dict[str, Any] = {"__name__": "page"}
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(block, str(page.relative_to(ROOT)), "exec"), names)
        else:
            run_commands(block)
        yield block, names


def run_commands(block: str) -> None:
    for command in filter(None, map(str.strip, block.replace("\\\n", " ").split("\n"))):
        program, *arguments = shlex.split(command)
        assert program == "c2c", f"a page runs commands of c2c alone, not {program}"
        assert main(arguments) == 0, command


@pytest.fixture(autouse=True)
def one_thread_in_an_empty_folder(tmp_path, monkeypatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name != "guides"], ids=lambda page: str(page.relative_to(DOCS))
)
def test_what_a_page_runs_prints_what_the_page_says(page, capsys) -> None:
    for block, _ in run_blocks(page):
        printed, promised = capsys.readouterr().out.splitlines(), SHOWN.findall(block)
        assert printed == promised, block


@pytest.mark.slow
def test_the_pair_of_the_guide_communicates_and_its_controls_do_not() -> None:
    for _, names in run_blocks(DOCS / "guides" / "your-own-pair.md"):
        right = names.get("right")
    assert right["c2c"] > 0.8
    assert max(share for method, share in right.items() if method != "c2c") < 0.35
    assert set(right) == {"receiver", "c2c", "c2c_deranged", "c2c_zeroed", "adapter"}


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "hooks"))
    monkeypatch.delitem(sys.modules, "pages", raising=False)
    return __import__("pages")
