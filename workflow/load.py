"""Reads the config's tables and the benchmarks, and checks config and tables before any job starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snakemake.utils import update_config

from c2c.errors import RefusedError
from c2c.evaluation.protocol import RELEASED
from c2c.storage.formats import read_json, read_yaml
from workflow.checks import check_artefacts, check_settings, check_world
from workflow.data import load_benchmarks, with_protocol
from workflow.hub_inputs import check_mirrored, check_unpinned
from workflow.paths import ROOT, own_or_shipped
from workflow.settings import Settings
from workflow.validation import check_config, read_table

BASE = "config.yaml"
"""The config of the paper's scale, below ``config/``; all others override it."""
PAPER_SCALE = "paper"
TABLES = ("models", "pairs", "recipes", "training_sets", "groups", "released")
"""The tables below ``config/`` that a run reads, as the fields of `Settings` are called."""


def scale_ids(folder: Path = Path("config")) -> list[str]:
    """The scales that have a config file in a folder."""
    configs = [read_config_file(path) for path in sorted(folder.glob("*.yaml"))]
    return [str(config["scale"]) for config in configs if "scale" in config]


def read_config(scale: str, files: Sequence[Path] = (), folder: Path = Path("config")) -> dict[str, Any]:
    """The config of a scale, or of config files over the paper's, merged as Snakemake merges them.

    Raises:
        RefusedError: There is no such scale.
    """
    paths = [folder / BASE, *files] if files else [folder / BASE, folder / f"{scale}.yaml"]
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
    """A config with the name of a scale of this repository has its pairs, benchmarks and prompts, and no others.

    The name decides the folder of the results, and by it go the scale column of records, the timings of the plan, the
    claims that are decided (``rests_on`` in ``paper/claims.yaml``), and whether inputs must be commits.

    Raises:
        RefusedError: It has others, so that results of different things would get one name.
    """
    scale = str(config["scale"])
    file = BASE if scale == PAPER_SCALE else f"{scale}.yaml"
    if not (folder / file).is_file():
        return
    shipped = read_config(scale, folder=folder)
    if config.get("protocol") == RELEASED != shipped["protocol"]:
        rule = f"A config with protocol: {RELEASED} must have a scale of its own; other prompts give other answers"
        remedy = f"Choose another name, such as scale: {scale}_{RELEASED}"
        raise RefusedError(rule, f"scale: {scale}", remedy)
    for key in ("runs", "benchmarks"):
        names, shipped_names = (
            [entry["pair"] if key == "runs" else entry for entry in content[key]] for content in (config, shipped)
        )
        if foreign := [name for name in names if name not in shipped_names]:
            rule = f"A config with scale: {scale} must have in {key} only names that config/{file} has there"
            remedy = f"Give the config a scale of its own, such as scale: my_{scale}, or drop these names"
            raise RefusedError(rule, ", ".join(dict.fromkeys(foreign)), remedy)


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run; outside of the repository, with the paper's for all keys that it does not have."""
    if Path.cwd() == ROOT:
        return dict(config)
    defaults: dict[str, Any] = read_yaml(ROOT / f"config/{BASE}", "Restore the file")
    update_config(defaults, config)
    return defaults


def load_settings(config: Mapping[str, Any], root: Path | None = None) -> Settings:
    """Read the tables below `root`, or each from the working directory or else the repository, and check everything.

    Config and tables are checked first alone, then against each other.

    Raises:
        RefusedError: At the first rule that does not hold.
    """
    check_config(config)
    check_world(config)
    check_artefacts(config)
    check_unpinned(config)
    files = {name: f"config/{name}.tsv" for name in TABLES}
    tables = {name: read_table(root / file if root else own_or_shipped(file)) for name, file in files.items()}
    folders = [(root or Path()) / folder for folder in config.get("benchmark_folders", [])]
    benchmarks = load_benchmarks(root or ROOT, folders)
    settings = Settings(with_protocol(config, benchmarks), benchmarks=benchmarks, **tables)
    check_settings(settings, root or ROOT)
    check_mirrored(settings)
    return settings
