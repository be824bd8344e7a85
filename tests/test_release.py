"""What a release consists of: continuous integration, containers, citation and deposit fit the repository as it is."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
COMMIT = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def jobs(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return dict(content["jobs"])


def targets() -> set[str]:
    """Targets of the Makefile."""
    names = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return set(names)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_step_of_a_workflow_is_an_action_or_calls_make_targets_that_exist(path: Path) -> None:
    for name, job in jobs(path).items():
        assert job["timeout-minutes"] and job["runs-on"], name
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            if "run" in step:
                program, *words = re.sub(r"\$\{\{.*?\}\}", "", step["run"]).split()
                assert program == "make", step
                assert {word for word in words if "=" not in word} <= targets(), step


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_commit_with_its_tag_and_always_the_same(path: Path) -> None:
    lines = re.findall(r"uses: (.+)", path.read_text(encoding="utf-8"))
    assert lines and all(COMMIT.fullmatch(line) for line in lines), lines
    pins = {line.split("@")[0]: line for line in lines}
    assert set(pins.values()) == set(lines)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_the_repository(path: Path) -> None:
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}


def test_tests_smoke_and_wheel_run_on_linux_and_macos_and_the_other_parts_on_linux() -> None:
    checks = jobs(ROOT / ".github/workflows/checks.yml")
    commands = {step["run"] for job in checks.values() for step in job["steps"] if "run" in step}
    assert {
        "make lint",
        "make docs",
        "make test",
        "make smoke",
        "make crate crate-check",
        "make browser-test",
    } <= commands
    for name in ("test", "smoke", "wheel"):
        assert checks[name]["strategy"]["matrix"]["system"] == ["ubuntu-latest", "macos-latest"]
    assert "snakemake --profile smoke" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_wheels_are_tried_with_python_versions_that_the_project_supports() -> None:
    supported = SpecifierSet(PROJECT["requires-python"])
    versions = jobs(ROOT / ".github/workflows/checks.yml")["wheel"]["strategy"]["matrix"]["python"]
    assert versions and all(supported.contains(f"{version}.4") for version in versions)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_a_name_a_description_and_questions_with_labels(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        assert set(form) <= {"blank_issues_enabled", "contact_links"}
        return
    assert form["name"] and form["description"] and form["body"]
    ids = [entry["id"] for entry in form["body"] if entry["type"] != "markdown"]
    assert len(ids) == len(set(ids)) and all(entry["attributes"]["label"] for entry in form["body"])


def copied(recipe: str) -> list[str]:
    """Paths of the repository that a container recipe copies."""
    text = (ROOT / recipe).read_text(encoding="utf-8")
    if recipe == "Dockerfile":
        return [word for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for word in line.split()]
    section = text.split("%files\n")[1].split("\n\n")[0]
    return [line.split()[0] for line in section.splitlines()]


def test_both_container_recipes_copy_the_same_files_which_exist_and_install_the_lock() -> None:
    docker, apptainer = copied("Dockerfile"), copied("container.def")
    assert set(docker) == set(apptainer) and len(docker) > 10
    assert [path for path in docker if not (ROOT / path).exists()] == []
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"config", "workflow"}
    assert packages <= set(docker)
    profiles = {path.name for path in (ROOT / "workflow/profiles").iterdir()}
    for recipe in ("Dockerfile", "container.def"):
        text = (ROOT / recipe).read_text(encoding="utf-8")
        assert "pip install" in text and "-r requirements.lock" in text
        assert set(re.findall(r"for profile in ([\w ]+);", text)[0].split()) == profiles
        assert re.search(r"[Ff][Rr][Oo][Mm]:? python:3\.11-slim-bookworm", text)


def test_the_citation_file_has_the_fields_of_cff_1_2_and_of_an_available_artefact() -> None:
    needed = {"cff-version", "message", "title", "authors", "version", "license", "type"}
    assert needed | {"url", "repository-code", "date-released"} <= set(CITATION)
    assert (CITATION["cff-version"], CITATION["type"]) == ("1.2.0", "software")
    assert all("name" in author or {"given-names", "family-names"} <= set(author) for author in CITATION["authors"])
    assert date.fromisoformat(CITATION["date-released"])
    assert all(CITATION[name].startswith("https://") for name in ("url", "repository-code"))
    assert (CITATION["version"], CITATION["license"]) == (PROJECT["version"], PROJECT["license"])


def test_the_deposit_agrees_with_the_citation_file() -> None:
    deposit = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    names = [
        author.get("name") or f"{author['family-names']}, {author['given-names']}" for author in CITATION["authors"]
    ]
    assert [creator["name"] for creator in deposit["creators"]] == names
    assert (deposit["title"], deposit["license"]) == (CITATION["title"], CITATION["license"])
    assert (deposit["upload_type"], deposit["access_right"]) == ("software", "open")
    paper = CITATION["references"][0]["identifiers"][0]["value"]
    assert [entry["identifier"] for entry in deposit["related_identifiers"]] == [paper]
    assert "version" not in deposit, "Zenodo takes it from the tag"


def test_the_address_of_the_repository_stands_in_the_citation_file_alone() -> None:
    address = CITATION["repository-code"]
    files = [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), ROOT / ".zenodo.json", *(ROOT / "docs").rglob("*.md")]
    assert [path.name for path in files if address in path.read_text(encoding="utf-8")] == []
