"""``python -m workflow.place_fuser``: give a fuser that was trained with others the place of one trained alone.

Files are linked, so that they take no more room, and get a new time, by which Snakemake sees that they are complete.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from c2c.errors import RefusedError, exit_code

SUFFIXES = ("", ".steps", ".provenance.json")
"""Of what a training writes: the fusers, those of earlier steps, and the provenance."""


def place(source: Path, output: Path) -> None:
    """Link all that a training has written at `source` to `output`, in place of what is there.

    Raises:
        RefusedError: If the training has not written it.
    """
    for suffix in SUFFIXES:
        origin, target = (path.with_name(path.name + suffix) for path in (source, output))
        if not origin.exists():
            raise RefusedError("A fuser must be trained before it is placed", str(origin), "Run train_together again")
        target.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(origin, target, copy_function=_link)
        else:
            target.unlink(missing_ok=True)
            _link(origin, target)


def _link(origin: str | Path, target: str | Path) -> None:
    try:
        os.link(origin, target)
    except OSError:
        # Another file system, or one without links
        shutil.copyfile(origin, target)
    os.utime(target)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; a refusal ends with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="where the training wrote the fuser")
    parser.add_argument("--output", type=Path, required=True, help="folder of the fuser")
    options = parser.parse_args(arguments)
    return exit_code("place_fuser", lambda: place(options.source, options.output))


if __name__ == "__main__":
    sys.exit(main())
