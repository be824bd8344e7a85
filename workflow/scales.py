"""The scales of this repository: their configs, and what another config has in common with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snakemake.utils import update_config

from c2c.errors import RefusedError
from c2c.storage.formats import read_json, read_yaml
from workflow.paths import ROOT

BASE = "config.yaml"
"""The config of the paper's scale, below ``config/``; all others override it."""
PAPER_SCALE = "paper"
LAID_OVER = {"smoke_reduced": "smoke"}
"""Scales whose file is laid over that of another scale, which is not the paper's."""
DATA_KEYS = ("sample", "context_limit", "world", "gap")
"""Keys of a config that decide which questions are asked."""
LEARNING_KEYS = ("dtype", "router", "teacher")
"""Keys of a config that decide the precision of models, what a router learns, and how training answers are written."""
MACHINE_KEYS = {
    *("micro_batch_size", "micro_batch_tokens", "recompute"),
    *("checkpoint_every", "evaluate_every", "validation_limit", "retries"),
}
"""Settings of a training that fit it to a machine, or watch it, and leave what is learned as it is."""
KEPT_STEPS = "keep_steps"
"""Setting of a training that only adds fusers."""


def scale_ids(folder: Path = Path("config")) -> list[str]:
    """The scales that have a config file in a folder."""
    configs = [read_config_file(path) for path in sorted(folder.glob("*.yaml"))]
    return [str(config["scale"]) for config in configs if "scale" in config]


def read_config(scale: str, files: Sequence[Path] = (), folder: Path = Path("config")) -> dict[str, Any]:
    """The config of a scale, or of config files over the paper's, merged as Snakemake merges them.

    Raises:
        RefusedError: There is no such scale.
    """
    scales = [LAID_OVER[scale], scale] if scale in LAID_OVER else [scale]
    paths = [folder / BASE, *(files or [folder / f"{name}.yaml" for name in scales])]
    config: dict[str, Any] = {}
    for path in paths:
        # A scale without a file is the paper's, or none; a file that is named must be there.
        if path.is_file() or files:
            update_config(config, read_config_file(path))
    if not files and config.get("scale") != scale and (folder / BASE).is_file():
        remedy = f"Choose one of {', '.join(scale_ids(folder))}, or pass --configfile"
        raise RefusedError("A scale must have a file in config/", scale, remedy)
    return config


def read_config_file(path: Path) -> dict[str, Any]:
    """The keys of a config file. Snakemake, which reads the same files, keeps the last of two equal keys.

    Raises:
        RefusedError: The file is no YAML (or JSON, by its suffix), no mapping, or has a key twice.
    """
    remedy = "Correct the file; config/README.md explains its keys"
    content = (read_json if path.suffix == ".json" else read_yaml)(path, remedy)
    if not isinstance(content, dict):
        raise RefusedError(f"{path.name} must hold keys with values", content, remedy)
    return content


def check_scale(config: Mapping[str, Any], folder: Path = ROOT / "config") -> None:
    """Check that a config with the name of a scale of this repository gives numbers of that scale.

    Its pairs and benchmarks must be among those of the scale; protocol, questions, precision and the settings of each
    training must be the same; seeds may be fewer. The name decides the folder of the results, and by it go the scale
    column of records, the timings of the plan, the claims that are decided (``rests_on`` in ``paper/claims.yaml``),
    whether inputs must be commits.

    Raises:
        RefusedError: Something differs, so that results of different things would get one name.
    """
    scale = str(config["scale"])
    if not _is_shipped(scale, folder):
        return
    shipped = read_config(scale, folder=folder)
    file = BASE if scale == PAPER_SCALE else f"{scale}.yaml"
    # Prompts, and how answers are marked.
    if (protocol := config.get("protocol")) != shipped["protocol"]:
        rule = f"A config with protocol: {protocol} must have a scale of its own; another protocol gives other numbers"
        raise RefusedError(rule, f"scale: {scale}", f"Choose another name, such as scale: {scale}_{protocol}")
    # Pairs and benchmarks.
    own_name = f"Give the config a scale of its own, such as scale: my_{scale}"
    for key in ("runs", "benchmarks"):
        names, shipped_names = (
            [entry["pair"] if key == "runs" else entry for entry in content[key]] for content in (config, shipped)
        )
        if foreign := [name for name in names if name not in shipped_names]:
            rule = f"A config with scale: {scale} must have in {key} only names that config/{file} has there"
            raise RefusedError(rule, ", ".join(dict.fromkeys(foreign)), f"{own_name}, or drop these names")
    # Questions and trainings.
    rule = f"A config with scale: {scale} must ask and train as config/{file} does"
    for key in (*DATA_KEYS, *LEARNING_KEYS):
        if config.get(key) != shipped.get(key):
            raise RefusedError(rule, f"{key}: {config.get(key)}", own_name)
    trainings, shipped_trainings = (_trainings(content) | _other_trainings(content) for content in (config, shipped))
    for run in (run for run in trainings if run in shipped_trainings):
        if differing := [key for key, value in trainings[run].items() if shipped_trainings[run].get(key) != value]:
            values = ", ".join(f"{key}: {trainings[run][key]}" for key in differing)
            raise RefusedError(rule, f"{values} in the training of {'/'.join(run)}", own_name)
    # Fewer seeds are fewer results of the scale; others are none of it.
    seeds, shipped_seeds = map(_seeds, (config, shipped))
    for run, numbers in seeds.items():
        if foreign := sorted(numbers - shipped_seeds.get(run, numbers)):
            raise RefusedError(rule, f"seeds: {foreign} in the training of {'/'.join(run)}", own_name)


def basis_of(config: Mapping[str, Any], folder: Path = ROOT / "config") -> str:
    """The scale on whose list (``rests_on`` in ``paper/claims.yaml``) the verdicts of a config rest.

    It is the scale itself where that is one of this repository. Any other config has the basis of the scale of this
    repository with which it shares the questions and a training, under any protocol: what is made from the paper's
    config under another name is of the paper's size, and what holds for citing the paper's scale holds for it.

    Returns:
        The name of a scale; the config's own where it shares nothing.
    """
    scale = str(config["scale"])
    if _is_shipped(scale, folder):
        return scale
    trainings = _trainings(config)
    for name in scale_ids(folder):
        shipped = read_config(name, folder=folder)
        shipped_trainings = _trainings(shipped)
        same_questions = all(config.get(key) == shipped.get(key) for key in DATA_KEYS)
        if same_questions and any(shipped_trainings.get(run) == settings for run, settings in trainings.items()):
            return name
    return scale


def _is_shipped(scale: str, folder: Path) -> bool:
    return (folder / (BASE if scale == PAPER_SCALE else f"{scale}.yaml")).is_file()


def _trainings(config: Mapping[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The settings that decide what is learned by the fusers of each run, by pair, recipe and alignment."""
    return {(run["pair"], run["recipe"], run["alignment"]): _settings(config, run) for run in config["runs"]}


def _other_trainings(config: Mapping[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The same of Receivers that are trained as a whole, and of latent spaces with their groups and shape."""
    trainings = {
        (entry["pair"], "single", entry["alignment"]): _settings(config, entry) for entry in config.get("single") or ()
    }
    for entry in config.get("latent") or ():
        space = {key: value for key, value in entry.items() if key not in ("latent", "alignment", "seeds", "training")}
        trainings[entry["latent"], "latent", entry["alignment"]] = space | _settings(config, entry)
    return trainings


def _seeds(config: Mapping[str, Any]) -> dict[tuple[str, str, str], set[int]]:
    """The seeds of each training, by the names that `_trainings` and `_other_trainings` have."""
    entries = [((run["pair"], run["recipe"]), run) for run in config["runs"]]
    entries += [((run["pair"], "single"), run) for run in config.get("single") or ()]
    entries += [((run["latent"], "latent"), run) for run in config.get("latent") or ()]
    return {(*name, run["alignment"]): set(run["seeds"]) for name, run in entries}


def _settings(config: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    settings = {**config["fuser"], **config["training"], **(entry.get("training") or {})}
    return {key: value for key, value in settings.items() if key not in {*MACHINE_KEYS, KEPT_STEPS}}
