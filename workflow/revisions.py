"""Which revision of a model or data set the workflow asks for. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from c2c.models import hub
from workflow.validation import Row


def asked_revision(row: Row, config: Mapping[str, Any]) -> Any:
    """The revision that is requested for a row.

    Where the config allows inputs that are not pinned, it is whatever a mirrored folder without history holds.
    """
    if config.get("unpinned") and has_no_history(row["hub_id"]):
        return hub.NEWEST
    return row["revision"]


def has_no_history(hub_id: str) -> bool:
    """Whether a mirror has the id, in a folder that does not record its commit."""
    folder = hub.mirror_folder(hub_id)
    return folder is not None and hub.revision_of(folder) is None
