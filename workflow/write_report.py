"""Snakemake's report of all results, with its provenance; takes the config files of the run, in order."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from c2c.errors import exit_code
from c2c.provenance import stamp
from c2c.storage.files import replace, unfinished_path
from paper.reading import names
from paper.reading.alignments import MAIN_ALIGNMENT
from workflow.settings import Settings

TRAININGS = "trainings_in_words"
"""The key of the config under which ``workflow/report/workflow.rst`` finds `trainings_in_words`."""


def trainings_in_words(settings: Settings) -> list[str]:
    """What a scale trains, a line each, for the report's first page: a pair with its recipes, then all else."""
    config = settings.config

    def describe(entry: Mapping[str, object], title: str) -> str:
        seeds = settings.seeds(entry)
        alignment = "" if entry["alignment"] == MAIN_ALIGNMENT else f", alignment {entry['alignment']}"
        return f"{title}{alignment}, {len(seeds)} seed{'' if len(seeds) == 1 else 's'}"

    recipes: dict[str, list[str]] = {}
    for entry in config["runs"]:
        recipes.setdefault(entry["pair"], []).append(describe(entry, names.title("arms", entry["recipe"])))
    lines = [f"{names.title('pairs', pair)}: {'; '.join(titles)}" for pair, titles in recipes.items()]
    for entry in config["single"]:
        lines.append(f"{names.title('pairs', entry['pair'])}: {describe(entry, names.title('arms', 'single'))}")
    for entry in config["latent"]:
        groups = " and of ".join(names.title("pairs", group) for group in entry["groups"])
        lines.append(describe(entry, f"A latent space of {groups}"))
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Command line; the exit code is that of snakemake."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, nargs="*", default=[], help="config files of the run, in order")
    parser.add_argument("--inputs", type=Path, nargs="*", default=[], help="what the report is made of")
    parser.add_argument("--output", type=Path, required=True, help="the report (.html)")
    options = parser.parse_args(arguments)
    ends: list[int] = []
    refused = exit_code("workflow.write_report", lambda: ends.append(_write(options)))
    return refused or ends[0]


def _write(options: argparse.Namespace) -> int:
    # Snakemake tells the form of a report by its suffix, which the name of an unfinished file has not.
    folder = unfinished_path(options.output)
    report = folder / options.output.name
    command = [sys.executable, "-m", "snakemake", "results", "--cores", "1", "--nolock"]
    command += ["--configfile", *map(str, options.configfile)] if options.configfile else []
    command += ["--report", str(report)]
    try:
        with stamp(options.output, inputs=[*options.configfile, *options.inputs]):
            folder.mkdir()
            subprocess.run(command, check=True)
            replace(report, options.output)
    except subprocess.CalledProcessError as failure:
        return failure.returncode
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
