"""Latent spaces that several models share (Table 14): one training of all their encoders and decoders, then answers of
every pair, and of every Receiver with all of its Sharers. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from c2c.errors import RefusedError
from c2c.training import memory
from workflow.config import check_training
from workflow.kinds.groups import check_group, fusions, members
from workflow.kinds.jobs import AnswerJob, answer_job
from workflow.settings import Settings
from workflow.validation import check_known

LATENT, LATENT_GROUPS = "latent", "latent_groups"

METHODS = ("c2c", "c2c_deranged")


@dataclass(frozen=True)
class LatentSpaceTraining:
    """One training of a latent space: its path below ``latent/``."""

    latent: str
    alignment: str
    seed: int

    @property
    def path(self) -> str:
        """``<latent>/<alignment>/seed<seed>``."""
        return f"{self.latent}/{self.alignment}/seed{self.seed}"


def latent_names(settings: Settings) -> list[str]:
    """The latent spaces of this scale, in the config's order."""
    return [entry["latent"] for entry in settings.config.get("latent", [])]


def latent_trainings(settings: Settings) -> list[LatentSpaceTraining]:
    """The trainings of the latent spaces, in the config's order."""
    return [
        LatentSpaceTraining(entry["latent"], entry["alignment"], seed)
        for entry in settings.config.get("latent", [])
        for seed in settings.seeds(entry)
    ]


def latent_groups(settings: Settings, latent: str) -> list[str]:
    """The groups of a latent space, one for each Receiver."""
    groups: list[str] = _entry(settings, latent)["groups"]
    return groups


def latent_pairs(settings: Settings, latent: str) -> list[str]:
    """The ordered pairs of a latent space."""
    return [pair for group in latent_groups(settings, latent) for pair in members(settings, group)]


def latent_answers(settings: Settings) -> list[AnswerJob]:
    """For each training one job for each pair, then one for each group, with the first fusion of its row."""
    jobs = []
    for run in latent_trainings(settings):
        folder, place = f"latent/{run.path}/pairs", f"{run.alignment}/seed{run.seed}"
        options = {"recipe": "latent", "alignment": run.alignment, "seed": run.seed}
        # Every Sharer alone ...
        for pair in latent_pairs(settings, run.latent):
            jobs.append(
                answer_job(
                    settings,
                    LATENT,
                    f"records/latent/{run.latent}/pairs/{pair}/{place}",
                    [pair],
                    METHODS,
                    fusers=(f"{folder}/{pair}",),
                    fuser_files=(folder,),
                    options=options,
                    subject=f"{pair} through the latent space {run.latent}, alignment {run.alignment}, seed {run.seed}",
                )
            )
        # ... and all Sharers of a Receiver together.
        for group in latent_groups(settings, run.latent):
            fusion = fusions(settings, group)[0]
            jobs.append(
                answer_job(
                    settings,
                    LATENT_GROUPS,
                    f"records/latent/{run.latent}/groups/{group}/{fusion}/{place}",
                    members(settings, group),
                    METHODS,
                    name=group,
                    fusers=tuple(f"{folder}/{pair}" for pair in members(settings, group)),
                    fuser_files=(folder,),
                    options={"fusion": fusion, **options},
                    subject=f"all Sharers of {group} through the latent space {run.latent}, {fusion}, seed {run.seed}",
                )
            )
    return jobs


def latent_training(settings: Settings, latent: str) -> Mapping[str, Any]:
    """Sizes of the latent cache and settings of its training; those of its entry replace the scale's."""
    entry = _entry(settings, latent)
    sizes = {f"latent_{name}": entry[name] for name in ("layers", "heads", "head_dim")}
    training = {**settings.training, **entry.get("training", {})}
    return {**{name: value for name, value in training.items() if name != "keep_steps"}, **sizes}


def latent_tokenised(settings: Settings, latent: str) -> list[str]:
    """The folder of each pair's tokens, below ``data/tokenised``."""
    entry, length = _entry(settings, latent), latent_training(settings, latent)["max_length"]
    return [f"{pair}/{entry['alignment']}/{length}" for pair in latent_pairs(settings, latent)]


def latent_sizes(settings: Settings, latent: str) -> memory.Sizes:
    """Sizes of the latent cache."""
    entry = _entry(settings, latent)
    return memory.Sizes(0, entry["layers"], entry["heads"] * entry["head_dim"], entry["heads"], entry["head_dim"])


def latent_parameters(settings: Settings, latent: str, pair: str) -> int:
    """Parameters of the encoder and the decoder of a pair."""
    row, cache, about = settings.pairs[pair], latent_sizes(settings, latent), latent_training(settings, latent)
    encoder = memory.encoder_parameters(settings.sizes(row["sharer"]), cache, about["hidden_dim"])
    return encoder + memory.fuser_parameters(cache, settings.sizes(row["receiver"]), about)


def latent_memory_mb(settings: Settings, latent: str) -> int:
    """Memory that its training asks for, in MB."""
    rows = [settings.pairs[pair] for pair in latent_pairs(settings, latent)]
    sharers, receivers = ({row[role]: settings.sizes(row[role]) for row in rows} for role in ("sharer", "receiver"))
    return memory.latent_mb(sharers, receivers, latent_sizes(settings, latent), latent_training(settings, latent))


def check_latent(settings: Settings) -> None:
    """Check that each latent space consists of groups whose models answer at this scale.

    Raises:
        RefusedError: An id is unknown or stands twice, models or training sets of a pair are not used at this scale,
            no pair with its own runs has the Receiver's answers alone, or the training is impossible.
    """
    names = latent_names(settings)
    if twice := [name for name in names if names.count(name) > 1]:
        raise RefusedError("A latent space must stand once in latent", twice[0], "Rename one, or join their groups")
    for name in names:
        for group in latent_groups(settings, name):
            check_group(settings, group)
        pairs = latent_pairs(settings, name)
        if twice := [pair for pair in pairs if pairs.count(pair) > 1]:
            raise RefusedError(f"A pair must stand once in latent space {name!r}", twice[0], "Drop one of its groups")
        if len({settings.pairs[pair]["prompts"] for pair in pairs}) > 1:
            rule = f"All pairs of latent space {name!r} must be asked in the same kind of prompts"
            raise RefusedError(rule, " ".join(pairs), "Name groups that are asked alike")
        for pair in pairs:
            _check_pair(settings, pair)
        _check_training(settings, name)


def _check_pair(settings: Settings, pair: str) -> None:
    row = settings.pairs[pair]
    for role in ("receiver", "sharer"):
        remedy = "Add a pair with it to runs, so that it is made and asked alone"
        what = f"The {role} of {pair!r} in a latent space"
        check_known(what, row[role], settings.used_models, "a model of a pair in runs", remedy)
    sets, what = settings.used_training_sets, f"The training set of {pair!r} in a latent space"
    remedy = "Add a pair with it to runs, so that it is prepared"
    check_known(what, row["training_set"], sets, "that of a pair in runs", remedy)
    tasks, columns = set(settings.tasks(pair)), ("receiver", "prompts")
    if not any(
        all(settings.pairs[name][column] == row[column] for column in columns) and tasks <= set(settings.tasks(name))
        for name in settings.used_pairs
    ):
        rule = f"What {pair!r} is asked in a latent space, its Receiver must answer alone in a pair of runs"
        raise RefusedError(rule, row["receiver"], "Add such a pair to runs")


def _check_training(settings: Settings, latent: str) -> None:
    training = latent_training(settings, latent)
    check_training(f"The training of latent space {latent!r}", training, settings.processes.get("processes", 1))
    if training["batch_size"] % len(pairs := latent_pairs(settings, latent)):
        rule = f"batch_size of latent space {latent!r} must have as many examples of each of its {len(pairs)} pairs"
        raise RefusedError(rule, training["batch_size"], f"Choose a multiple of {len(pairs)}")


def _entry(settings: Settings, latent: str) -> Mapping[str, Any]:
    entry: Mapping[str, Any] = next(entry for entry in settings.config["latent"] if entry["latent"] == latent)
    return entry
