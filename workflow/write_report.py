"""Snakemake's report of all results, with its provenance; takes the config files of the run, in order."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from c2c.errors import exit_code
from c2c.provenance import stamp
from c2c.storage.files import replace, unfinished_path


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
