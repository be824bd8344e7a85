"""Commands that fetch models and released fusers from a mirror or the hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from c2c.cli.flags import OptionalText
from c2c.provenance import stamp
from c2c.storage.files import write_atomically
from c2c.storage.manifests import check_manifest_place


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Fetch a model from a mirror or the hub and write its manifest, which other commands take as its place."""

    model: str
    """hub id, owner/name"""
    output: Path
    """model manifest (.json)"""
    revision: OptionalText = None
    """commit, tag or branch"""

    def run(self) -> None:
        """Write the manifest."""
        from c2c.models import hub

        check_manifest_place(self.output)
        with stamp(self.output, settings={"model": self.model, "revision": self.revision}) as notes:
            manifest = hub.describe(self.model, self.revision)
            write_atomically(self.output, json.dumps(manifest, indent=1) + "\n")
            notes["model"] = manifest


@dataclass(frozen=True, kw_only=True)
class FetchFuser:
    """Fetch released fusers and write their manifest."""

    fuser: str
    """hub id, owner/name"""
    output: Path
    """manifest of the fusers (.json)"""
    subfolder: str = ""
    """folder of one pair inside it"""
    revision: OptionalText = None
    """commit, tag or branch"""

    def run(self) -> None:
        """Write the manifest."""
        from c2c.checkpoints.released_folder import describe_released

        check_manifest_place(self.output)
        settings = {"fuser": self.fuser, "subfolder": self.subfolder, "revision": self.revision}
        with stamp(self.output, settings=settings) as notes:
            manifest = describe_released(self.fuser, self.subfolder, self.revision)
            write_atomically(self.output, json.dumps(manifest, indent=1) + "\n")
            notes["fuser"] = manifest
