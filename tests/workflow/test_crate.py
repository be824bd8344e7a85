"""The crate of a run: the rules of RO-Crate 1.1 and its profiles for runs, and all that the run made, as it was."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from c2c.errors import RefusedError
from c2c.provenance import SUFFIX
from paper.figures import gains, style
from paper.recompute import recompute
from paper.writing import citation
from paper.writing.output import path_with, stamped
from tests.paper.builder import SMOKE, make_latency, make_records, write, write_fuser
from workflow import check_crate
from workflow.crate import BIOSCHEMAS, EXTRA_TERMS, RUN_CRATES, pack

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [ROOT / "config/config.yaml", ROOT / "config/smoke.yaml"]
METADATA = "ro-crate-metadata.json"
Entities = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves, from synthetic records, with one figure and its provenance."""
    folder = tmp_path_factory.mktemp("run") / "results" / "smoke"
    recompute(make_records(), make_latency(), folder)
    for run in SMOKE:
        write(make_records([run]), folder / "records" / f"{run.path}.parquet")
        if run.recipe:
            (write_fuser(run, folder / "fusers") / "model.safetensors").write_bytes(b"weights")
    table, stem = folder / "tables/gains.csv", folder / "figures/gains"
    with stamped(
        [path_with(table.with_suffix(""), suffix) for suffix in (".csv", ".md")],
        [folder / "records/gap_a/baselines.parquet"],
    ):
        pass
    # The files of one table are of one command; here all would be of the command of the tests.
    for path in (table, table.with_suffix(".md")):
        stamp = path.with_name(path.name + SUFFIX)
        record = json.loads(stamp.read_text()) | {"command": ["paper/tables/gains.py", "--records", "a b.parquet"]}
        stamp.write_text(json.dumps(record))
    with stamped(style.outputs(stem), [table]):
        style.save(gains.draw(table), stem)
    (folder / "report.html").write_text("<html></html>")
    return folder


@pytest.fixture(scope="module")
def crate(finished: Path) -> Path:
    pack(finished, CONFIGS, finished.parent / "crate.zip")
    folder = finished.parent / "unpacked"
    zipfile.ZipFile(finished.parent / "crate.zip").extractall(folder)
    return folder


@pytest.fixture(scope="module")
def entities(crate: Path) -> Entities:
    graph = json.loads((crate / METADATA).read_text())["@graph"]
    assert len({each["@id"] for each in graph}) == len(graph)
    return {each["@id"]: each for each in graph}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_the_metadata_is_that_of_ro_crate_1_1(crate: Path, entities: Entities) -> None:
    assert json.loads((crate / METADATA).read_text())["@context"] == [check_crate.CONTEXT, EXTRA_TERMS]
    descriptor, root = entities[METADATA], entities["./"]
    assert (descriptor["@type"], descriptor["about"]) == ("CreativeWork", {"@id": "./"})
    assert {"@id": "https://w3id.org/ro/crate/1.1"} in listed(descriptor["conformsTo"])
    assert root["@type"] == "Dataset" and all(root[key] for key in ("name", "description", "license"))
    assert pd.Timestamp(root["datePublished"]).tzinfo is not None


def test_every_reference_is_described_and_every_file_is_there_with_its_size_and_hash(
    crate: Path, entities: Entities
) -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [value["@id"]] if set(value) == {"@id"} else [x for each in value.values() for x in references(each)]
        return [x for each in value for x in references(each)] if isinstance(value, list) else []

    outside = {"https://w3id.org/ro/crate/1.1", "https://w3id.org/workflowhub/workflow-ro-crate/1.0", BIOSCHEMAS}
    for entity in entities.values():
        for name in references({key: value for key, value in entity.items() if key not in ("identifier", "url")}):
            assert name in entities or name in outside, f"{entity['@id']} refers to {name}"
    files = {name for name, entity in entities.items() if "File" in listed(entity["@type"])}
    assert {each["@id"] for each in entities["./"]["hasPart"]} == files
    assert files == {str(path.relative_to(crate)) for path in crate.rglob("*") if path.is_file()} - {METADATA}
    assert all(entities[name]["encodingFormat"] for name in files)
    for name in files - {"Snakefile"}:
        content = (crate / name).read_bytes()
        assert entities[name]["sha256"] == hashlib.sha256(content).hexdigest()
        assert int(entities[name]["contentSize"]) == len(content)


def test_the_workflow_is_the_main_entity_in_its_language(entities: Entities) -> None:
    workflow = entities[entities["./"]["mainEntity"]["@id"]]
    assert {"File", "SoftwareSourceCode", "ComputationalWorkflow"} <= set(workflow["@type"])
    language = entities[workflow["programmingLanguage"]["@id"]]
    assert (language["@type"], language["name"]) == ("ComputerLanguage", "Snakemake")
    assert "https://w3id.org/workflowhub/workflow-ro-crate/1.0" in str(entities[METADATA]["conformsTo"])


def test_authors_and_licence_are_those_of_the_citation_file(entities: Entities) -> None:
    about, root = citation.software(), entities["./"]
    assert [entities[each["@id"]]["name"] for each in listed(root["author"])] == [
        each["name"] for each in about["authors"]
    ]
    assert entities[root["license"]["@id"]]["name"] == about["license"] == "Apache-2.0"
    assert entities[root["citation"]["@id"]]["name"] == about["references"][0]["title"]


def test_everything_that_the_run_made_is_in_it_but_its_weights(finished: Path, crate: Path) -> None:
    made = {path.relative_to(finished) for path in finished.rglob("*") if path.is_file()}
    packed = {
        path.relative_to(crate / "results/smoke") for path in (crate / "results/smoke").rglob("*") if path.is_file()
    }
    left_out = made - packed
    assert {path.name for path in left_out} == {"model.safetensors"} and packed < made
    assert (crate / "results/smoke/tables/gains.csv").read_bytes() == (finished / "tables/gains.csv").read_bytes()


def test_the_action_says_what_was_run_and_what_came_of_it(entities: Entities) -> None:
    action = entities["#run"]
    assert (action["@type"], action["instrument"]) == ("CreateAction", {"@id": "Snakefile"})
    assert {each["@id"] for each in action["object"]} == {"config/config.yaml", "config/smoke.yaml"}
    results = {each["@id"] for each in action["result"]}
    assert {"results/smoke/scores.csv", "results/smoke/figures/gains.pdf", "results/smoke/claims.json"} <= results


def test_an_artefact_has_its_caption_how_it_is_cited_and_what_it_is_based_on(entities: Entities) -> None:
    figure, cited = entities["results/smoke/figures/gains.png"], citation.cite("figure", "gains", "smoke")
    assert cited is not None and (figure["name"], figure["identifier"]) == (cited.title, cited.id)
    assert cited.title in figure["creditText"]
    assert {"@id": "results/smoke/tables/gains.csv"} in listed(figure["isBasedOn"])
    stamped_by = entities["results/smoke/figures/gains.png.provenance.json"]
    assert stamped_by["about"] == {"@id": "results/smoke/figures/gains.png"}


def test_a_command_is_an_action_with_its_program_as_tool_its_inputs_and_its_results(entities: Entities) -> None:
    names = {name for name in entities if name.startswith("#made-results/smoke/tables/gains.")}
    assert len(names) == 1
    action = entities[names.pop()]
    assert action["description"] == "paper/tables/gains.py --records 'a b.parquet'"
    assert {entity["@id"] for entity in action["result"]} == {f"results/smoke/tables/gains.{s}" for s in ("csv", "md")}
    assert {"@id": "results/smoke/records/gap_a/baselines.parquet"} in listed(action["object"])
    assert action["instrument"] in listed(entities["Snakefile"]["hasPart"])
    assert entities[action["instrument"]["@id"]]["@type"] == "SoftwareApplication"
    assert {"@id": action["@id"]} in entities["./"]["mentions"]


def test_the_root_conforms_to_the_profiles_of_workflow_runs(entities: Entities) -> None:
    assert {entity["@id"] for entity in entities["./"]["conformsTo"]} == set(RUN_CRATES)


def test_the_crate_keeps_the_required_rules_of_ro_crate_and_provenance_run_crate_without_a_network(
    crate: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_network(*_arguments: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    result = check_crate.check(crate)
    assert check_crate.problems(result) == []
    profiles = {executed.requirement.profile.identifier for executed in result.executed_checks}
    assert {"ro-crate-1.1", "workflow-ro-crate-1.0", "workflow-run-crate-0.5", "provenance-run-crate-0.5"} <= profiles
    assert check_crate.main([str(crate.parent / "crate.zip")]) == 0
    assert "keeps all REQUIRED rules" in capsys.readouterr().out


def test_a_crate_that_names_no_profile_or_uses_a_term_outside_its_context_fails_with_the_rule(
    crate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(crate, tmp_path / "crate"))
    metadata = json.loads((folder / METADATA).read_text())
    metadata["@context"] = check_crate.CONTEXT
    for entity in metadata["@graph"]:
        if entity["@id"] == "./":
            del entity["conformsTo"]
    (folder / METADATA).write_text(json.dumps(metadata))
    assert check_crate.main([str(folder)]) == 1
    output = capsys.readouterr().out
    assert "sha256" in output and "MUST reference a CreativeWork entity" in output


def test_what_is_no_crate_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_crate.main([str(tmp_path / "none.zip")]) == 2
    assert "A crate must be an archive" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["report.html", "claims.json"])
def test_a_run_that_is_not_finished_is_refused(finished: Path, tmp_path: Path, missing: str) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "smoke"))
    (folder / missing).unlink()
    with pytest.raises(RefusedError, match=rf"A crate must be made of a finished run; .* without {missing}"):
        pack(folder, CONFIGS, tmp_path / "crate.zip")
    command = [sys.executable, "-m", "workflow.crate", "--results", str(folder), "--output", str(tmp_path / "c.zip")]
    done = subprocess.run(
        [*command, "--configfile", str(CONFIGS[0])], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "finished run" in done.stderr and not (tmp_path / "c.zip").exists()


def test_the_crate_is_planned_when_it_is_asked_for_and_else_not(run_snakemake: Callable[..., Any]) -> None:
    plan = ["--profile", "smoke", "--dry-run", "--nolock", "--forceall", "--printshellcmds"]
    asked = run_snakemake(*plan, "crate").stdout
    assert "python -m workflow.crate --results results/smoke --configfile config/config.yaml config/smoke.yaml" in asked
    assert "workflow.crate" not in run_snakemake(*plan).stdout
