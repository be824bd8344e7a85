"""What is asked beyond one trained pair: groups of Sharers whose Fusers were trained alone. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from c2c.errors import RefusedError
from c2c.evaluation.questions.task_files import read_task_file
from paper.artefacts import RELEASED, of_kind
from workflow.data import TASKS
from workflow.revisions import asked_revision
from workflow.settings import Run, Settings
from workflow.validation import check_known

MOST_SHARERS = 4
"""Most Sharers of a group, as `c2c.evaluation.schema` has it."""


@dataclass(frozen=True)
class GroupRun:
    """One group, asked with one fusion: its path, with ``.parquet``, below ``records/groups/``."""

    group: str
    fusion: str
    alignment: str
    seed: int

    @property
    def path(self) -> str:
        """``<group>/<fusion>/<alignment>/seed<seed>``."""
        return f"{self.group}/{self.fusion}/{self.alignment}/seed{self.seed}"


@dataclass(frozen=True)
class SingleRun:
    """A Receiver that is itself fine-tuned: its path below ``single/`` and, with ``.parquet``, ``records/single/``."""

    pair: str
    alignment: str
    seed: int

    @property
    def path(self) -> str:
        """``<pair>/<alignment>/seed<seed>``."""
        return f"{self.pair}/{self.alignment}/seed{self.seed}"


def single_runs(settings: Settings) -> list[SingleRun]:
    """The Receivers that are fine-tuned at this scale, in the config's order."""
    return [
        SingleRun(entry["pair"], entry["alignment"], seed)
        for entry in settings.config.get("single", [])
        for seed in entry["seeds"]
    ]


def check_single(settings: Settings) -> None:
    """A Receiver is fine-tuned beside a C2C that it is compared with, so its pair is asked and its sets are tokenised.

    Raises:
        RefusedError: There is no such C2C.
    """
    for run in single_runs(settings):
        check_known("The pair of a fine-tuned Receiver", run.pair, settings.pairs, "Add it to config/pairs.tsv")
        if Run(run.pair, "c2c", run.alignment, run.seed) not in settings.runs:
            rule = "A fine-tuned Receiver must have a c2c run of the same pair, alignment and seed to be compared with"
            raise RefusedError(rule, run.path, "Add it to runs, or drop the seed from single")


def agent_run(settings: Settings, pair: str) -> Run:
    """The Fuser that the agents of a pair are asked with."""
    entry = next(each for each in settings.config["agents"] if each["pair"] == pair)
    return Run(pair, "c2c", entry["alignment"], entry["seed"])


def agent_pairs(settings: Settings) -> list[str]:
    """Pairs that are asked as two agents, in the config's order."""
    return [entry["pair"] for entry in settings.config.get("agents", [])]


def agent_tasks(settings: Settings, pair: str, tasks: Path = TASKS) -> list[str]:
    """The tasks of a pair that say what interpreter and solver read."""
    return [task for task in settings.tasks(pair) if "agents_prompt" in read_task_file(tasks, task)["metadata"]]


def check_agents(settings: Settings, root: Path) -> None:
    """Two agents are asked with a C2C of their pair, something that says what they read.

    Raises:
        RefusedError: Otherwise, or if a pair stands twice.
    """
    pairs = agent_pairs(settings)
    for pair in pairs:
        check_known("The pair of two agents", pair, settings.pairs, "Add it to config/pairs.tsv")
        run = agent_run(settings, pair)
        if run not in settings.runs or pairs.count(pair) > 1:
            rule = "Two agents must be asked once a pair, with a c2c run of their alignment and seed"
            raise RefusedError(rule, run.path, "Add it to runs, or correct the entry of agents")
        if not agent_tasks(settings, pair, root / TASKS):
            rule = f"Pair {pair!r} must be asked a task with agents_question and agents_prompt"
            raise RefusedError(rule, " ".join(settings.tasks(pair)), "Add such a task, as gsm8k, or drop the entry")


def group_runs(settings: Settings) -> list[GroupRun]:
    """What is asked of groups at this scale, in the config's order."""
    return [
        GroupRun(entry["group"], fusion, entry["alignment"], seed)
        for entry in settings.config.get("groups", [])
        for fusion in settings.groups[entry["group"]]["fusions"].split()
        for seed in entry["seeds"]
    ]


def members(settings: Settings, group: str) -> list[str]:
    """The pairs of a group, in the order in which their Sharers are fused."""
    return str(settings.groups[group]["pairs"]).split()


def member_runs(settings: Settings, run: GroupRun) -> list[Run]:
    """The Fusers of recipe c2c that a group is asked with, one a pair."""
    return [Run(pair, "c2c", run.alignment, run.seed) for pair in members(settings, run.group)]


def group_methods(settings: Settings, group: str) -> list[str]:
    """All Sharers together with the controls, and each Sharer with a cache of zeros in turn."""
    alone = [f"c2c_zeroed_{number}" for number in range(1, len(members(settings, group)) + 1)]
    return ["c2c", "c2c_deranged", "c2c_zeroed", *alone]


def fetched_fuser(settings: Settings, name: str) -> Mapping[str, str]:
    """Where published fusers are, as the command line takes it."""
    row = settings.released[name]
    return {"fuser": row["hub_id"], "subfolder": row["subfolder"], "revision": asked_revision(row, settings.config)}


def check_released(settings: Settings) -> None:
    """Published fusers are known, and so are their pairs; their table needs some.

    Raises:
        RefusedError: Otherwise.
    """
    wanted = settings.config.get("released", [])
    for each in of_kind("table").values():
        if not wanted and RELEASED in each.reads.values() and each.name in settings.config["artefacts"]["tables"]:
            rule = f"The table {each.name} of artefacts must have published fusers"
            raise RefusedError(rule, "released: []", "Drop it from artefacts, or name fusers of config/released.tsv")
    for name in wanted:
        check_known("Published fusers", name, settings.released, "Add them to config/released.tsv")
        pair = settings.released[name]["pair"]
        check_known(f"The pair of published fusers {name!r}", pair, settings.pairs, "Add it to config/pairs.tsv")


def check_groups(settings: Settings) -> None:
    """Each group of the config is one Receiver with Sharers that have their own Fusers at this scale.

    Raises:
        RefusedError: A group or pair is unknown, its pairs do not fit together, or a Fuser is not trained.
    """
    for entry in settings.config.get("groups", []):
        check_group(settings, entry["group"])
    for run in group_runs(settings):
        for needed in member_runs(settings, run):
            if needed not in settings.runs:
                wanted = f"a c2c run of alignment {run.alignment}, seed {run.seed}"
                rule = f"Each pair of group {run.group!r} must have {wanted}"
                raise RefusedError(rule, needed.pair, "Add it to runs, or drop the seed from groups")


def check_group(settings: Settings, group: str) -> None:
    """A group is known, and one Receiver with Sharers that are asked alike.

    Raises:
        RefusedError: Otherwise.
    """
    check_known("A group", group, settings.groups, "Add it to config/groups.tsv")
    pairs = members(settings, group)
    for pair in pairs:
        check_known(f"A pair of group {group!r}", pair, settings.pairs, "Add it to config/pairs.tsv")
    if not 2 <= len(pairs) <= MOST_SHARERS:
        rule = f"Group {group!r} must have 2 to {MOST_SHARERS} pairs"
        raise RefusedError(rule, " ".join(pairs), "Correct config/groups.tsv")
    for column in ("receiver", "prompts", "benchmarks"):
        if len({settings.pairs[pair][column] for pair in pairs}) > 1:
            rule = f"The pairs of group {group!r} must have the same {column}"
            raise RefusedError(rule, " ".join(pairs), "Name pairs of one Receiver that are asked alike")
