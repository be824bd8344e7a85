"""The command ``c2c testbed``: one pair, task and seed of the test bed through all channels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from c2c.cli import flags
from c2c.cli.flags import DtypeFlags, PairFlags, Texts, one_of
from c2c.errors import RefusedError
from c2c.provenance import stamp
from c2c.storage.formats import parse_json
from c2c.testbed.records import MESSAGES


@dataclass(frozen=True, kw_only=True)
class TestBed(PairFlags, DtypeFlags):
    """Send messages through channels, with all controls."""

    scale: str
    """scale of the replication"""
    pair: str
    """id of the pair"""
    seed: int
    """of trainings and controls"""
    items: Path
    """folder of train, validation and test.jsonl"""
    channels: Annotated[Texts, arg(metavar="NAME [NAME ...]")]
    """registered channels"""
    messages: Annotated[Texts, one_of(MESSAGES)] = tuple(MESSAGES)
    """controls"""
    settings: Annotated[str, arg(metavar="JSON")] = "{}"
    """settings of channels, such as {"c2c": {"steps": 50}}"""
    test_items: int = 0
    """items that are asked, the first ones; 0: all"""
    output: Path
    """records (.parquet)"""

    def run(self) -> None:
        """Write records, curves and provenance."""
        from c2c.models.hub import about
        from c2c.testbed.run import ChannelRun, run_test_bed

        run = flags.run_from_flags(ChannelRun, self, settings=channel_settings(self.settings))
        models = {"receiver": Path(run.receiver), "sharer": Path(run.sharer)}
        files = [*(path for path in models.values() if path.exists()), run.items]
        values = {name: value for name, value in vars(run).items() if name not in ("output", "items")}
        with stamp(run.output, inputs=files, settings=json.loads(json.dumps(values, default=str))) as notes:
            notes["test_bed"] = run_test_bed(run)
            notes["models"] = {role: about(str(place)) for role, place in models.items()}


def channel_settings(text: str) -> dict[str, dict[str, Any]]:
    """Settings of channels in the JSON text of ``--settings``.

    Raises:
        RefusedError: If it is no JSON object of objects.
    """
    settings = parse_json(text, "--settings", "Write a JSON object")
    if not isinstance(settings, dict) or not all(isinstance(value, dict) for value in settings.values()):
        raise RefusedError("--settings must be settings by channel", text, 'Write {"c2c": {"steps": 50}}')
    return settings
