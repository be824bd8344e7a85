"""Print how tables, figures or the paper are cited: a BibTeX entry that names data and version.

python -m paper.citing results/smoke/tables/main.csv results/smoke/figures/gains.pdf      prints their entries
python -m paper.citing results/smoke                                                      those of all artefacts
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from c2c.errors import RefusedError
from paper.command import command
from paper.reading.commits import check_pinned
from paper.writing.citation import KIND_OF_FOLDER, Citation, cite_file


def artefacts(folder: Path) -> list[Citation]:
    """Citations of all tables, figures and the paper of one scale's results, each once."""
    files = [
        path for name in KIND_OF_FOLDER for path in sorted((folder / name).glob("*")) if path.suffix in (".csv", ".pdf")
    ]
    return [entry for path in files if (entry := cite_file(path))]


@command
def main() -> None:
    """Command line; a refusal is printed as one line and ends with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", help="files of tables or figures, or the results of a scale")
    arguments = parser.parse_args()
    _print(arguments.paths)


def _print(paths: Iterable[Path]) -> None:
    for path in paths:
        folder = path.resolve()
        citations = artefacts(folder) if folder.is_dir() else [entry for entry in [cite_file(folder)] if entry]
        if not citations or not folder.exists():
            remedy = "Name a file in tables or figures of a scale's results, or the folder of a scale"
            raise RefusedError("What is cited must be a table, a figure or the paper of a scale", str(path), remedy)
        check_pinned(folder if folder.is_dir() else folder.parent.parent)
        print("\n\n".join(entry.bibtex() for entry in citations))


if __name__ == "__main__":
    sys.exit(main())
