"""What verdicts rest on: the trainings and benchmarks that ``claims.yaml`` lists for a scale, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from c2c.errors import RefusedError
from c2c.evaluation.protocol import RELEASED_TASK
from c2c.storage.formats import read_yaml
from c2c.storage.manifests import check_keys
from paper.reading import names
from paper.reading.alignments import DECIDING, main_alignment

KEY = "rests_on"
ENTRY = {"pairs": list, "benchmarks": list, "timed": str, "trainings": list}
TRAINING = {"recipes": list, "alignment": str, "seeds": list}
BASELINES = ("receiver", "sharer", "t2t", "routing", "routing_trained", "t2t_agents")
"""Arms of a pair that no training made."""
AGENTS = ("t2t_agents", "t_c2c", "t_c2c_deranged")
"""Arms of two agents, which only some pairs of a scale are asked for. The Fusers are those of `c2c`."""
REMEDY = "Write it as the comment above rests_on in paper/claims.yaml says"


class Training(NamedTuple):
    """A fuser of a pair, over all of its seeds."""

    pair: str
    recipe: str
    alignment: str


@dataclass(frozen=True)
class Basis:
    """What the verdicts of one scale rest on.

    Attributes:
        benchmarks: Those of each pair.
        seeds: Those of each training.
        timed: The benchmark on which a pair is timed, of pairs that are.
    """

    benchmarks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seeds: Mapping[Training, Sequence[int]] = field(default_factory=dict)
    timed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, scale: str) -> Basis:
        """The basis of a scale; an empty one for a scale that the file does not list.

        Raises:
            RefusedError: The file cannot be read; a key is missing, unknown or of another kind; something is listed
                twice, so that it would count twice.
        """
        content = read_yaml(path, REMEDY)
        scales = content.get(KEY) if isinstance(content, dict) else None
        if not isinstance(scales, dict):
            raise RefusedError(f"{path.name} must list under {KEY} what verdicts rest on, by scale", scales, REMEDY)
        bases = {str(name): _read_basis(f"{KEY} of {name}", entries) for name, entries in scales.items()}
        return bases.get(scale, cls())

    def of_tasks(self, tasks: Collection[str]) -> Basis:
        """The same, where a listed task that is among `tasks` with the released prompts alone is the one with them."""

        def task_of(name: str) -> str:
            released_task = f"{name}{RELEASED_TASK}"
            return released_task if name not in tasks and released_task in tasks else name

        benchmarks = {pair: list(map(task_of, tasks_of_pair)) for pair, tasks_of_pair in self.benchmarks.items()}
        timed = {pair: name and task_of(name) for pair, name in self.timed.items()}
        return replace(self, benchmarks=benchmarks, timed=timed)

    def seeds_of(self, pair: str, arm: str) -> Sequence[int] | None:
        """Seeds of an arm's training: none of a baseline, None where the training is not listed."""
        name, _, detail = arm.partition("@")
        if name in BASELINES:
            return () if pair in self.benchmarks else None
        recipe = name.removesuffix("_deranged").removesuffix("_same_answer").removesuffix("_zeroed")
        recipe = "c2c" if name in AGENTS else recipe
        alignment = self.main_alignment(pair) if not detail or detail.isdigit() else detail
        return self.seeds.get(Training(pair, recipe, alignment))

    def main_alignment(self, pair: str) -> str:
        """The token alignment of a pair's listed trainings that an arm without one has."""
        trainings = [training for training in self.seeds if training.pair == pair]
        c2c_trainings = [training for training in trainings if training.recipe == DECIDING]
        return main_alignment(pair, [training.alignment for training in c2c_trainings or trainings])

    def alignments_of(self, pair: str, arms: Iterable[str]) -> list[str]:
        """The token alignments that arms of a pair have, none of them twice; empty where nothing was trained."""
        alignments = []
        for arm in arms:
            name, _, detail = arm.partition("@")
            if name.partition("/")[0] not in BASELINES:
                alignments.append(detail if detail and not detail.isdigit() else self.main_alignment(pair))
        return list(dict.fromkeys(alignments))

    def pairs_with(self, of: str, against: str) -> list[str]:
        """Pairs of which both arms are listed, with a seed in common or one of them without any."""
        seed_pairs = {pair: (self.seeds_of(pair, of), self.seeds_of(pair, against)) for pair in self.benchmarks}
        return [
            pair
            for pair, (first, second) in seed_pairs.items()
            if first is not None and second is not None and (not first or not second or set(first) & set(second))
        ]

    def is_timed(self, pair: str, recipe: str, alignment: str, seed: int | None, benchmark: str) -> bool:
        """Whether a verdict on times rests on measurements of this fuser (or, without a recipe, baseline)."""
        seeds = self.seeds.get(Training(pair, recipe, alignment), ())
        is_listed = not recipe or (alignment == self.main_alignment(pair) and seed in seeds)
        return is_listed and self.timed.get(pair) == benchmark


def _read_basis(where: str, entries: Any) -> Basis:
    basis = Basis({}, {}, {})
    for entry in _list(where, entries):
        check_keys(where, entry, ENTRY, optional=["timed"], remedy=REMEDY)
        benchmarks = _list(f"benchmarks in {where}", entry["benchmarks"], str)
        if len({names.benchmark_of(task) for task in benchmarks}) < len(benchmarks):
            rule = f"The benchmarks in {where} must be listed in one scoring each, or questions would count twice"
            raise RefusedError(rule, benchmarks, REMEDY)
        timed = entry.get("timed")
        if timed is not None and timed not in benchmarks:
            raise RefusedError(f"timed in {where} must be one of its benchmarks", timed, REMEDY)
        for pair in _list(f"pairs in {where}", entry["pairs"], str):
            _put(basis.benchmarks, pair, benchmarks, where)
            _put(basis.timed, pair, timed, where)
            for training, seeds in _trainings(where, pair, entry["trainings"]):
                _put(basis.seeds, training, seeds, where)
    return basis


def _trainings(where: str, pair: str, trainings: Any) -> Iterator[tuple[Training, list[int]]]:
    for training in _list(f"trainings in {where}", trainings):
        check_keys(f"A training in {where}", training, TRAINING, remedy=REMEDY)
        seeds = _list(f"seeds in {where}", training["seeds"], int)
        for recipe in _list(f"recipes in {where}", training["recipes"], str):
            yield Training(pair, recipe, training["alignment"]), seeds


def _list(title: str, values: Any, kind: type = dict) -> list[Any]:
    """`values`, if they are a list of `kind` that names nothing twice."""
    is_full_list = isinstance(values, list) and bool(values)
    if not is_full_list or any(not isinstance(value, kind) or isinstance(value, bool) for value in values):
        raise RefusedError(f"The {title} must be a list of {kind.__name__}, with one at least", values, REMEDY)
    if any(value in values[:place] for place, value in enumerate(values)):
        raise RefusedError(f"The {title} must name nothing twice, or it would count twice", values, REMEDY)
    return values


def _put(table: Any, key: Any, value: Any, where: str) -> None:
    if key in table:
        raise RefusedError(f"A pair and a training must stand once in {where}, or they would count twice", key, REMEDY)
    table[key] = value
