"""The command ``c2c testbed``: one pair, task and seed of the test bed through all channels."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from c2c.cli.flags import add_dtype, add_models
from c2c.errors import RefusedError
from c2c.provenance import stamp


def add_testbed(parser: argparse.ArgumentParser) -> None:
    """Flags of `c2c.testbed.run.ChannelRun`."""
    from c2c.testbed.records import MESSAGES

    parser.add_argument("--scale", required=True, help="scale of the replication")
    parser.add_argument("--pair", required=True, help="id of the pair")
    parser.add_argument("--seed", type=int, required=True, help="of trainings and controls")
    add_models(parser)
    parser.add_argument("--items", type=Path, required=True, help="folder of train, validation and test.jsonl")
    parser.add_argument("--channels", nargs="+", required=True, metavar="NAME", help="registered channels")
    parser.add_argument(
        "--messages", nargs="+", default=list(MESSAGES), choices=MESSAGES, help="controls: " + ", ".join(MESSAGES)
    )
    parser.add_argument(
        "--settings", default="{}", metavar="JSON", help='settings of channels, such as {"c2c": {"steps": 50}}'
    )
    parser.add_argument("--test-items", type=int, default=0, help="items that are asked, the first ones; 0: all")
    add_dtype(parser)
    parser.add_argument("--output", type=Path, required=True, help="records (.parquet)")


def run_testbed(options: argparse.Namespace) -> None:
    """Run what the flags say, and write records, curves and provenance."""
    from c2c.models.hub import about
    from c2c.storage.formats import parse_json
    from c2c.testbed.run import ChannelRun, run_test_bed

    values: dict[str, Any] = vars(options) | {
        "settings": parse_json(options.settings, "--settings", "Write a JSON object")
    }
    if not isinstance(values["settings"], dict) or not all(isinstance(v, dict) for v in values["settings"].values()):
        raise RefusedError("--settings must be settings by channel", options.settings, 'Write {"c2c": {"steps": 50}}')
    (values["sharer"],) = options.sharers
    names = [name for name in ChannelRun.__dataclass_fields__ if name in values]
    run = ChannelRun(**{name: values[name] for name in names})
    models = {"receiver": Path(run.receiver), "sharer": Path(run.sharer)}
    files = [*(path for path in models.values() if path.exists()), run.items]
    settings = {name: getattr(run, name) for name in names if name not in ("output", "items")}
    with stamp(run.output, inputs=files, settings=json.loads(json.dumps(settings, default=str))) as notes:
        notes["test_bed"] = run_test_bed(run)
        notes["models"] = {role: about(str(place)) for role, place in models.items()}
