"""Questions about entities that the Receivers know: examples for the enrichment oracle.

python -m benchmarks.world.shots --world results/smoke/world/world.json --benchmark knowledge_gap_free
--output results/smoke/data/shots/knowledge_gap_free.jsonl
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.world import questions
from benchmarks.world.world import World
from c2c.errors import exit_code
from c2c.provenance import stamp
from c2c.storage.formats import write_json_lines

SPLIT = "known"
"""The split of the world whose facts every model has been pretrained on."""


def main(arguments: list[str] | None = None) -> int:
    """The command; a refusal is printed as one line and ends with exit code 2."""
    parser = argparse.ArgumentParser(description="Questions of a world about entities that the Receivers know.")
    parser.add_argument("--world", type=Path, required=True, help="the world (.json)")
    parser.add_argument("--benchmark", choices=sorted(questions.FORMS), required=True, help="in whose form they ask")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines")
    options = parser.parse_args(arguments)
    return exit_code("benchmarks.world.shots", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    with stamp(options.output, inputs=[options.world], settings={"benchmark": options.benchmark, "split": SPLIT}):
        write_json_lines(options.output, questions.FORMS[options.benchmark](World.load(options.world), SPLIT))


if __name__ == "__main__":
    sys.exit(main())
