"""Write the results site: static pages that open from the file system, without a server and without a network.

    python -m paper.site --scales smoke laptop --output results/site

A scale is a name (``results/<scale>`` where it was run here, else ``paper/records/<scale>``) or a folder of either
kind.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from c2c.errors import RefusedError
from paper.command import command
from paper.site.pages import site_data
from paper.site.sources import scale_files
from paper.writing.output import stamped

ASSETS = Path(__file__).with_name("assets")
PAGE = "index.html"
DATA = "data"
MARK = f"{DATA}/index.js"
"""A file of every site: a folder that has it may be replaced."""
OUTPUT = Path("results/site")
PROVIDE = "c2cProvide"
"""The function of the page to which a file of data hands its content."""


def write_site(names: Sequence[str], output: Path, root: Path = Path()) -> Path:
    """Write the site of some scales and return its first page; an earlier site in `output` is replaced at the end.

    Args:
        names: Scales by name or folder; all that have verdicts where there are none.
        output: Folder of the site.
        root: Of the repository.

    Raises:
        RefusedError: A scale is unknown, or `output` holds other files.
    """
    if output.exists() and not (output / MARK).is_file() and (not output.is_dir() or any(output.iterdir())):
        rule = "The output must be a new or empty folder, or an earlier site"
        raise RefusedError(rule, str(output), "Name another folder with --output")
    scales = scale_files(names, root)
    inputs = [path for files in scales for path in files.inputs]
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".site-") as temporary:
        folder = Path(temporary) / output.name
        folder.mkdir()
        with stamped([folder / PAGE], inputs, {"scales": [files.scale for files in scales]}):
            for path in sorted(ASSETS.iterdir()):
                shutil.copyfile(path, folder / path.name)
            for name, content in site_data(scales):
                write_data(folder / DATA / f"{name}.js", name, content)
        shutil.rmtree(output, ignore_errors=True)
        folder.rename(output)
    return output / PAGE


def write_data(path: Path, name: str, content: Any) -> None:
    """Write a file of data as a script: browsers load no JSON from the file system, but they load scripts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_finite(content), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    path.write_text(f"{PROVIDE}({json.dumps(name)},{text});\n", encoding="utf-8")


def _finite(content: Any) -> Any:
    """The same content with null for every number that JSON does not have."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--scales", nargs="*", default=[], help="names or folders of scales (default: all that have verdicts)"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"folder of the site (default: {OUTPUT})")
    arguments = parser.parse_args()
    page = write_site(arguments.scales, arguments.output)
    size = sum(path.stat().st_size for path in page.parent.rglob("*") if path.is_file())
    print(f"{page}: {size / 2**20:.0f} MiB; open it in a browser")


if __name__ == "__main__":
    sys.exit(main())
