"""Released Fusers: fetched from the hub instead of trained; they answer with their controls. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from c2c.errors import RefusedError
from paper import artefacts
from workflow.kinds.jobs import AnswerJob, answer_job
from workflow.revisions import asked_revision
from workflow.settings import Settings
from workflow.validation import check_row

RELEASED = "released"

METHODS = ("c2c", "c2c_deranged", "c2c_zeroed")


def released_answers(settings: Settings) -> list[AnswerJob]:
    """One job for each folder of released Fusers."""
    return [
        answer_job(
            settings,
            RELEASED,
            f"records/released/{name}",
            [settings.released[name]["pair"]],
            METHODS,
            fusers=(f"released/{name}.json",),
            fuser_files=(f"released/{name}.json",),
            options={"recipe": "released"},
            subject=f"the released Fusers {name}",
        )
        for name in settings.config.get("released", [])
    ]


def released_source(settings: Settings, name: str) -> Mapping[str, str]:
    """The place of released Fusers on the hub, as flags of ``c2c fetch-fuser``."""
    row = settings.released[name]
    return {"fuser": row["hub_id"], "subfolder": row["subfolder"], "revision": asked_revision(row, settings.config)}


def check_released(settings: Settings) -> None:
    """Check that released Fusers and their pairs exist, and that the table of released Fusers has rows.

    Raises:
        RefusedError: Otherwise.
    """
    names = settings.config.get("released", [])
    for table in artefacts.of_kind("table").values():
        reads_released = artefacts.RELEASED in table.reads.values()
        if not names and reads_released and table.name in settings.config["artefacts"]["tables"]:
            rule = f"The table {table.name} of artefacts must have released Fusers"
            raise RefusedError(rule, "released: []", "Drop it from artefacts, or name Fusers of config/released.tsv")
    for name in names:
        check_row("Released Fusers", name, settings.released, "released")
        pair = settings.released[name]["pair"]
        check_row(f"The pair of released Fusers {name!r}", pair, settings.pairs, "pairs")
