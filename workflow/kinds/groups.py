"""Groups: several Sharers of one Receiver at once, whose Fusers were trained alone (Table 13). Imports no torch."""

from __future__ import annotations

from c2c.errors import RefusedError
from c2c.evaluation.methods.declarations import MOST_SHARERS
from workflow.kinds.jobs import AnswerJob, answer_job, checkpoint_files
from workflow.settings import FuserTraining, Settings
from workflow.validation import check_row

GROUPS = "groups"


def members(settings: Settings, group: str) -> list[str]:
    """The pairs of a group, in the order in which their Sharers are fused."""
    return str(settings.groups[group]["pairs"]).split()


def fusions(settings: Settings, group: str) -> list[str]:
    """How the Sharers of a group are fused: ``sequential``, ``parallel``, or each in turn."""
    return str(settings.groups[group]["fusions"]).split()


def group_methods(settings: Settings, group: str) -> list[str]:
    """All Sharers together with the controls, and each Sharer in turn with a cache of zeros."""
    zeroed = [f"c2c_zeroed_{number}" for number in range(1, len(members(settings, group)) + 1)]
    return ["c2c", "c2c_deranged", "c2c_zeroed", *zeroed]


def member_runs(settings: Settings, group: str, alignment: str, seed: int) -> list[FuserTraining]:
    """The trainings of recipe c2c whose Fusers a group uses, one for each pair."""
    return [FuserTraining(pair, "c2c", alignment, seed) for pair in members(settings, group)]


def group_answers(settings: Settings) -> list[AnswerJob]:
    """One job for each group, fusion and seed, in the config's order."""
    jobs = []
    for entry in settings.config.get("groups", []):
        group, alignment = entry["group"], entry["alignment"]
        for fusion in fusions(settings, group):
            for seed in settings.seeds(entry):
                folders = [f"fusers/{run.path}" for run in member_runs(settings, group, alignment, seed)]
                jobs.append(
                    answer_job(
                        settings,
                        GROUPS,
                        f"records/groups/{group}/{fusion}/{alignment}/seed{seed}",
                        members(settings, group),
                        group_methods(settings, group),
                        name=group,
                        fusers=tuple(folders),
                        fuser_files=checkpoint_files(folders),
                        options={"fusion": fusion, "recipe": "c2c", "alignment": alignment, "seed": seed},
                        subject=f"all Sharers of {group}, {fusion}, alignment {alignment}, seed {seed}",
                    )
                )
    return jobs


def check_groups(settings: Settings) -> None:
    """Check that each group of the config has one Receiver, and Sharers with Fusers that this scale trains.

    Raises:
        RefusedError: A group or pair is unknown, its pairs do not fit together, or a Fuser is not trained.
    """
    entries = settings.config.get("groups", [])
    for entry in entries:
        check_group(settings, entry["group"])
    for entry in entries:
        for seed in settings.seeds(entry):
            for run in member_runs(settings, entry["group"], entry["alignment"], seed):
                if run not in settings.runs:
                    condition = f"a c2c run of alignment {run.alignment}, seed {run.seed}"
                    rule = f"Each pair of group {entry['group']!r} must have {condition}"
                    raise RefusedError(rule, run.pair, "Add it to runs, or drop the seed from groups")


def check_group(settings: Settings, group: str) -> None:
    """Check that a group has one Receiver, and pairs that answer the same tasks in the same kind of prompts.

    Raises:
        RefusedError: Otherwise.
    """
    check_row("A group", group, settings.groups, "groups")
    pairs = members(settings, group)
    for pair in pairs:
        check_row(f"A pair of group {group!r}", pair, settings.pairs, "pairs")
    if not 2 <= len(pairs) <= MOST_SHARERS:
        rule = f"Group {group!r} must have 2 to {MOST_SHARERS} pairs"
        raise RefusedError(rule, " ".join(pairs), "Correct config/groups.tsv")
    for column in ("receiver", "prompts", "benchmarks"):
        if len({settings.pairs[pair][column] for pair in pairs}) > 1:
            rule = f"The pairs of group {group!r} must have the same {column}"
            raise RefusedError(rule, " ".join(pairs), "Name pairs of one Receiver with the same tasks and prompts")
