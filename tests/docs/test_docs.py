"""The documentation: its programs run as printed, and it has a page for each public name."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import c2c
from c2c.cli.commands import Group
from c2c.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GUIDE, AGENTS = DOCS / "guides" / "your-own-pair.md", DOCS / "guides" / "agents.md"
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
        if not block.startswith("c2c "):  # what a command answers is tested below
            assert printed == promised, block


def test_the_command_that_the_page_on_chats_shows_answers_as_its_pipeline_does(capsys) -> None:
    blocks = []
    for block, names in run_blocks(DOCS / "chats.md"):
        blocks.append((block, capsys.readouterr().out, names))
    said = [printed for block, printed, _ in blocks if block.startswith("c2c chat")]
    assert said == [blocks[-1][2]["said"] + "\n"]


def test_each_option_of_generation_that_is_refused_on_purpose_is_named_with_what_to_do_instead() -> None:
    page = (DOCS / "generation.md").read_text(encoding="utf-8")
    for name in ("return_dict_in_generate", "output_scores", "max_length", "past_key_values", "num_beams"):
        assert re.search(rf"^\|.*`{name}`.*\|.+\|$", page, flags=re.MULTILINE), name


@pytest.mark.slow
def test_the_pair_of_the_guide_communicates_and_its_controls_do_not() -> None:
    for _, names in run_blocks(GUIDE):
        right = names.get("right")
    (shown,) = re.findall(r"```json\n(.*)\n```", GUIDE.read_text(encoding="utf-8"))
    assert Path("train.jsonl").read_text().splitlines()[0] == shown
    assert right["c2c"] > 0.8
    assert max(share for method, share in right.items() if method != "c2c") < 0.35
    assert set(right) == {"receiver", "c2c", "c2c_deranged", "c2c_zeroed", "adapter"}


@pytest.mark.slow
def test_the_agents_of_the_guide_combine_facts_that_each_of_them_holds_alone() -> None:
    for _, page in run_blocks(AGENTS):
        names = page
    shares = names["shares"]
    assert shares["both agents"] > 0.8
    assert max(shares["alice alone"], shares["bob alone"]) < 0.5
    assert shares["deranged"] < 0.1
    assert names["by_text"].kinds == {"alice": "text", "bob": "text"}
    assert "sharer.weights_sha256" in names["by_text"].reasons["alice"]
    assert names["by_text"].text == "blue star"
    # What passed through files and through both graphs is answered too; a graph's state refers to files.
    assert [names["received"].text, names["state"]["answer"]] == ["green ring", "white cone"]
    assert names["own_state"]["answer"] == "black disk"
    assert Path(names["state"]["messages"]["alice"]["place"], "cache.safetensors").is_file()


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "hooks"))
    monkeypatch.delitem(sys.modules, "pages", raising=False)
    return __import__("pages")


def test_each_public_name_has_a_page_and_each_page_a_public_name(pages) -> None:
    made = {pages.page_of(name): name for name in c2c.__all__}
    assert len(made) == len(c2c.__all__)
    assert all(f"::: c2c.{name}\n" in pages.api_page(name) for name in c2c.__all__)
    assert not [page for page in PAGES if page.is_relative_to(DOCS / "api")], "these pages are made, not written"
    assert set(pages.BESIDE) <= set(c2c.__all__)
    assert all(f"[`{name}`]({name}.md)" in pages.api_index() for name in c2c.__all__)


def test_each_public_name_says_in_one_sentence_what_it_is(pages) -> None:
    assert not [name for name in c2c.__all__ if not pages.first_sentence(name).endswith(".")]


def test_the_page_of_the_command_line_shows_each_command_with_its_help(pages, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    page = pages.cli_page()
    for command in ("fetch", "train", "generate", "score", "latency"):
        assert f"## c2c {command}\n" in page
    assert "--sharer-cache {own,zeroed}" in page
    kinds = ("effective-rank", "enrichment", "tsne", "partial", "carrier", "accuracy")
    for kind in kinds:
        assert f"### c2c analyse {kind}\n" in page
    assert "--perplexity FLOAT" in page
    groups = [entry.commands for entry in COMMANDS.values() if isinstance(entry, Group)]
    assert len(re.findall("^### ", page, flags=re.MULTILINE)) == sum(map(len, groups))


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all((site / "api" / f"{name}.html").is_file() for name in c2c.__all__)
    assert not (site / "hooks").exists()
    returned = re.sub(r"<[^>]+>|\s+", " ", (site / "api" / "RosettaModel.html").read_text(encoding="utf-8"))
    assert re.search(r"Tensor\s+–\s+\(B, N \+ new\)\s+int64: the prompt", returned), "a colon in Returns is prose"
    fetched = re.compile(r"<(?:script|link|img)[^>]*(?:src|href)=\"?(?:https?:)?//", flags=re.IGNORECASE)
    found = [page.name for page in site.rglob("*.html") if fetched.search(page.read_text(encoding="utf-8"))]
    assert not found
