"""A finished run as an RO-Crate: one archive with tables, figures, records, verdicts, config and workflow, described.

    python -m workflow.crate --results results/smoke --configfile config/config.yaml config/smoke.yaml \
        --output results/smoke/crate.zip

Files lie in it as in the repository. The workflow is the main entity; an action lists its inputs and
results; each artefact has its caption, its citation, and its inputs, as its provenance file records them, and each
command that made artefacts is an action of its own, with the program as its tool. Weights and prepared data are left
out: the workflow makes them again, and their hashes are in the provenance files. The crate conforms to the Provenance
Run Crate 0.5 (https://w3id.org/ro/wfrun/provenance), which `workflow.check_crate` holds it to.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import shlex
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

from c2c.errors import RefusedError, exit_code
from c2c.provenance import SUFFIX, file_hash, stamp
from c2c.storage.files import written_whole
from c2c.storage.formats import read_yaml
from c2c.storage.manifests import read_object
from paper.reading.commits import check_pinned
from paper.writing import citation

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = "Snakefile"
RESULTS = (
    *("scores.csv", "latency.csv", "claims.json", "claims_time.json", "report.html", "paper/paper.pdf"),
    *("tables/*", "figures/*", "records/**/*.parquet", "latency/*.parquet", "world/world.json"),
    *("fusers/**/*.csv", "fusers/**/*.json", "fusers/**/*.parquet"),
)
"""What of a results folder is packed, where it is there."""
NEEDED = ("scores.csv", "claims.json", "claims_time.json", "report.html")
"""What a run has when it is finished."""
SOURCES = (
    *(
        "LICENSE",
        "CITATION.cff",
        "README.md",
        "environment.yml",
        "requirements.lock",
        "config/*.tsv",
        "config/README.md",
    ),
    *(
        "workflow/Snakefile",
        "workflow/rules/*.smk",
        "workflow/schemas/*.yaml",
        "workflow/report/*.rst",
        "paper/claims.yaml",
    ),
    *("paper/reference_values.csv", "paper/deviations.md", "benchmarks/tasks/**/*.yaml"),
)
"""Files of the repository that are packed with the workflow and the config of the run."""
FORMATS = {
    **{".csv": "text/csv", ".tsv": "text/tab-separated-values", ".json": "application/json", ".md": "text/markdown"},
    **{".tex": "application/x-tex", ".pdf": "application/pdf", ".png": "image/png", ".html": "text/html"},
    **{".parquet": "application/vnd.apache.parquet", ".yaml": "application/yaml", ".yml": "application/yaml"},
    **{".cff": "application/yaml", ".rst": "text/x-rst"},
}
PLAIN = "text/plain"
BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
LICENCES = "https://spdx.org/licenses/{}"
SPEC = "1.1"
EXTRA_TERMS = {name: f"http://schema.org/{name}" for name in ("creditText", "sha256")}
"""Properties that the context of RO-Crate 1.1 lacks; that of 1.2 has them with these addresses."""
RUN_CRATES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/provenance/0.5": ("Provenance Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
"""Profiles to which the root conforms: address, name and version."""
COMPLETED = "http://schema.org/CompletedActionStatus"


def check_finished(results: Path) -> None:
    """Refuse the results of a run that lacks its last files.

    Raises:
        RefusedError: With what is missing.
    """
    if missing := [name for name in NEEDED if not (results / name).is_file()]:
        remedy = "Run the workflow to its end first"
        raise RefusedError("A crate must be made of a finished run", f"{results} without {', '.join(missing)}", remedy)


class RunCrate:
    """The crate of one scale's results, while it is filled.

    Args:
        results: Folder of one scale's results; its name is that of the scale.
        configs: Config files of the run, in order.

    Raises:
        RefusedError: The run is not finished, must not be cited (`check_pinned`), or a config is none.
    """

    def __init__(self, results: Path, configs: Sequence[Path]) -> None:
        check_finished(results)
        check_pinned(results)
        for path in configs:
            read_yaml(path, "Name the config files of the run")
        self.results, self.configs = results.resolve(), [path.resolve() for path in configs]
        self.crate = ROCrate(version=SPEC)
        self.crate.metadata.extra_terms.update(EXTRA_TERMS)
        self.entities: dict[str, Entity] = {}

    def fill(self) -> ROCrate:
        """Add everything."""
        self._describe()
        workflow = self._add_workflow()
        self._add_sources()
        entities = [self._add(path, self.place(path)) for path in self._results()]
        self._relate()
        run = self.crate.add_action(
            workflow,
            identifier="#run",
            object=[self.entities[place] for place in self._configs()],
            result=entities,
            properties={
                "name": f"Run of the {self.results.name} scale",
                "description": f"The workflow, from models and data to the paper, at the {self.results.name} scale",
                "actionStatus": COMPLETED,
                "endTime": self.finished().isoformat(),
            },
        )
        tools, actions = self._add_commands()
        workflow["hasPart"], self.crate.root_dataset["mentions"] = tools, [run, *actions]
        return self.crate

    def place(self, path: Path) -> str:
        """Where a file of the results lies in the crate: as in the repository."""
        return f"results/{self.results.name}/{path.relative_to(self.results)}"

    def finished(self) -> datetime:
        """When the run ended: the time of its verdicts."""
        return datetime.fromtimestamp(int((self.results / NEEDED[1]).stat().st_mtime), UTC)

    def _describe(self) -> None:
        about = citation.software()
        cited = citation.cite("paper", "paper", self.results.name)
        root = self.crate.root_dataset
        root["name"] = f"{about['title']}: run of the {self.results.name} scale"
        root["description"] = (
            f"Records, tables, figures, verdicts and paper of the {self.results.name} scale of a replication of "
            f"arXiv:{citation.arxiv_number()}, with the workflow and the config that made them."
        )
        root["datePublished"] = self.finished().isoformat()
        root["version"] = str(about["version"])
        root["conformsTo"] = [
            self._context(address, "CreativeWork", name=name, version=version)
            for address, (name, version) in RUN_CRATES.items()
        ]
        root["keywords"] = ", ".join(about["keywords"])
        root["license"] = self._context(
            LICENCES.format(about["license"]), "CreativeWork", name=about["license"], identifier=about["license"]
        )
        authors = [self._author(number, author) for number, author in enumerate(about["authors"])]
        root["author"] = root["publisher"] = _single(authors)
        root["citation"] = self._replicated(about["references"][0])
        if cited:
            root["creditText"] = cited.sentence

    def _author(self, number: int, author: dict[str, str]) -> Entity:
        identifier = author.get("orcid") or author.get("website") or f"#author-{number + 1}"
        if "name" in author:
            return self._context(identifier, "Organization", name=author["name"])
        name = f"{author['given-names']} {author['family-names']}"
        return self._context(identifier, "Person", name=name, familyName=author["family-names"])

    def _replicated(self, paper: dict[str, Any]) -> Entity:
        address = f"https://arxiv.org/abs/{citation.arxiv_number()}"
        names = ", ".join(f"{author['given-names']} {author['family-names']}" for author in paper["authors"])
        return self._context(
            address, "ScholarlyArticle", name=paper["title"], creditText=names, datePublished=str(paper["year"])
        )

    def _context(self, address: str, kind: str, /, **properties: Any) -> Entity:
        entity: Entity = self.crate.add(ContextEntity(self.crate, address, {"@type": kind, **properties}))
        return entity

    def _add_workflow(self) -> Entity:
        version = importlib.metadata.version("snakemake")
        workflow: Entity = self.crate.add_workflow(
            ROOT / WORKFLOW, WORKFLOW, main=True, lang="snakemake", lang_version=version, record_size=True
        )
        workflow["name"] = "From models and data to the paper"
        workflow["encodingFormat"], workflow["conformsTo"] = PLAIN, {"@id": BIOSCHEMAS}
        workflow["license"] = self.crate.root_dataset["license"]
        workflow["softwareRequirements"] = {"@id": "requirements.lock"}
        workflow["version"] = self.crate.root_dataset["version"]
        return workflow

    def _add_sources(self) -> None:
        files = {str(path.relative_to(ROOT)): path for pattern in SOURCES for path in ROOT.glob(pattern)}
        for place, path in sorted((files | self._configs()).items()):
            self._add(path, place)
        self.entities["README.md"]["about"] = self.crate.root_dataset

    def _configs(self) -> dict[str, Path]:
        """Config files of the run by their place in the crate; one from outside the repository is put into config/."""
        inside = {path: path.is_relative_to(ROOT) for path in self.configs}
        return {str(path.relative_to(ROOT)) if inside[path] else f"config/{path.name}": path for path in self.configs}

    def _results(self) -> list[Path]:
        files = {path for pattern in RESULTS for path in self.results.glob(pattern) if path.is_file()}
        stamps = {path.with_name(path.name + SUFFIX) for path in files}
        stamps |= set(self.results.glob(f"fusers/**/*{SUFFIX}"))
        return sorted(path for path in files | stamps if path.is_file() and not path.name.startswith("."))

    def _add(self, path: Path, place: str) -> Entity:
        kind = FORMATS.get(path.suffix, PLAIN)
        properties = {"name": place, "sha256": file_hash(path), "encodingFormat": kind}
        entity: Entity = self.crate.add_file(path, place, properties=properties, record_size=True)
        self.entities[place] = entity
        return entity

    def _relate(self) -> None:
        """Describe each artefact by its caption, its citation and its inputs, from its provenance file."""
        for place, entity in self.entities.items():
            if place.endswith(SUFFIX) and (artefact := self.entities.get(place.removesuffix(SUFFIX))):
                entity["about"] = artefact
                record = read_object(self._file(place), "Make the artefact again")
                if inputs := [self.entities[name] for name in self._inputs(record)]:
                    artefact["isBasedOn"] = _single(inputs)
                if cited := record.get("citation") or self._cited(place.removesuffix(SUFFIX)):
                    artefact["name"], artefact["identifier"] = cited["title"], cited["id"]
                    artefact["creditText"], artefact["description"] = cited["cite"], cited["bibtex"]

    def _add_commands(self) -> tuple[list[Entity], list[Entity]]:
        """An action for each command of the provenance files, and a tool for each program. One command may have several
        results, such as a table as CSV and as Markdown.
        """
        records = {
            place.removesuffix(SUFFIX): read_object(self._file(place), "Make the artefact again")
            for place in sorted(self.entities)
            if place.endswith(SUFFIX) and place.removesuffix(SUFFIX) in self.entities
        }
        places: dict[tuple[str, ...], list[str]] = {}
        for place, record in records.items():
            places.setdefault(tuple(record["command"]), []).append(place)
        tools: dict[str, Entity] = {}
        actions = []
        for command, results in places.items():
            # `c2c` is several tools in one program.
            name = " ".join(command[:2]) if command[0] == "c2c" else command[0]
            version = self.crate.root_dataset["version"]
            tool = tools.setdefault(
                name,
                self._context(f"#tool-{name.replace(' ', '-')}", "SoftwareApplication", name=name, version=version),
            )
            ends = max(self._file(place + SUFFIX).stat().st_mtime for place in results)
            inputs = {place for result in results for place in self._inputs(records[result])}
            action = self.crate.add_action(
                tool,
                identifier=f"#made-{results[0]}",
                object=_single([self.entities[place] for place in sorted(inputs)]),
                result=_single([self.entities[place] for place in results]),
                properties={
                    "name": f"{name}: {results[0]}",
                    "description": shlex.join(command),
                    "actionStatus": COMPLETED,
                    "endTime": datetime.fromtimestamp(int(ends), UTC).isoformat(),
                },
            )
            actions.append(action)
        return list(tools.values()), actions

    def _cited(self, place: str) -> dict[str, str] | None:
        reference = citation.cite_file(self._file(place))
        return reference and reference.described()

    def _file(self, place: str) -> Path:
        return self.results / place.removeprefix(f"results/{self.results.name}/")

    def _inputs(self, record: dict[str, Any]) -> Iterator[str]:
        """Inputs that are in the crate; the record names them from the repository's root, or where they lie."""
        for name in record["inputs"]:
            path = Path(name)
            inside = path.is_absolute() and path.is_relative_to(self.results)
            place = self.place(path) if inside else name
            if place in self.entities:
                yield place


def _single(values: list[Entity]) -> Entity | list[Entity]:
    """A list of one is written as its only value, as the specification recommends."""
    return values[0] if len(values) == 1 else values


def pack(results: Path, configs: Sequence[Path], output: Path) -> None:
    """Write the crate of a finished run as an archive.

    Args:
        results: Folder of one scale's results.
        configs: Config files of the run, in order.
        output: The archive (.zip); it is there when it is complete.

    Raises:
        RefusedError: The run is not finished, or the output is no .zip.
    """
    if output.suffix != ".zip":
        raise RefusedError("A crate must be written as an archive", str(output), "Name a file that ends in .zip")
    crate = RunCrate(results, configs).fill()
    with written_whole(output) as unfinished:
        crate.write_zip(unfinished)


def main() -> int:
    """Command line; a refusal is printed as one line and ends with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="folder of one scale's results")
    parser.add_argument("--configfile", type=Path, nargs="+", required=True, help="config files of the run, in order")
    parser.add_argument("--output", type=Path, required=True, help="the archive (.zip)")
    return exit_code("workflow.crate", lambda: _pack(parser.parse_args()))


def _pack(options: argparse.Namespace) -> None:
    check_finished(options.results)
    with stamp(options.output, inputs=[*options.configfile, options.results / NEEDED[-1]]):
        pack(options.results, options.configfile, options.output)


if __name__ == "__main__":
    sys.exit(main())
