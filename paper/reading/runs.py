"""What was trained and with which settings, what it cost, and on what machines: from a results folder, or the config.

A folder of committed records has no Fusers. What its scale's config sets is then read
in their place, and the text says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from c2c.provenance import SUFFIX
from c2c.storage.formats import read_yaml
from c2c.storage.manifests import read_object
from paper.command import REMEDY
from paper.reading import names
from paper.reading.committed import COST
from paper.reading.files import read_csv
from paper.reading.fusers import FuserRun

CONFIG = Path(__file__).parents[2] / "config"
MAIN_CONFIG = "config.yaml"
PAIRS, MODELS = "pairs.tsv", "models.tsv"
SETTINGS = (
    "steps",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "warmup_ratio",
    "max_length",
    "hidden_dim",
    "layer_alignment",
    "keep",
)
"""Of a training; those in which trainings of one scale may differ, and those that the text states once."""
KEEP = "last"
"""Which weights of a training are used, where the config does not say: those after its last step."""
BUSY = 0.1
"""Times are marked where other processes took more than this share of the machine's CPU time meanwhile."""


def trainings(results: Path, scale: str) -> tuple[list[dict[str, Any]], bool]:
    """One row a pair, recipe and alignment with its seeds and `SETTINGS`, and whether the config was read for them.

    Args:
        results: Folder of one scale's results.
        scale: Its name; the config of that name is read where the folder holds no Fuser.
    """
    paths = sorted(results.glob("fusers/*/*/*/*/config.json"))
    runs = [
        (FuserRun.of(path.parent), read_object(path, REMEDY)["about"]["training"]) for path in paths
    ] or _configured_runs(CONFIG / f"{scale}.yaml")
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for run, training in sorted(runs, key=lambda entry: entry[0]):
        settings = {name: training.get(name) for name in SETTINGS}
        key = (run.pair, run.recipe, run.alignment, *map(str, settings.values()))
        about = {"pair": run.pair, "recipe": run.recipe, "alignment": run.alignment}
        rows.setdefault(key, {**about, **settings, "seeds": []})["seeds"].append(run.seed)
    order = names.in_order("arms", {row["recipe"] for row in rows.values()})
    entries = sorted(
        rows.values(), key=lambda row: (row["pair"], order.index(row["recipe"]), row["alignment"] != "span")
    )
    return entries, not paths


def training_sets(pairs: Iterable[str]) -> dict[str, list[str]]:
    """The pairs by the training set of their Fusers, of `config/pairs.tsv`; a pair that it lacks is left out."""
    frame = _table(PAIRS, "pair")["training_set"]
    sets: dict[str, list[str]] = {}
    for pair in pairs:
        if frame.get(pair):
            sets.setdefault(frame[pair], []).append(pair)
    return sets


def pair_models(pair: str) -> tuple[str, str]:
    """Ids of a pair's Receiver and Sharer as answer records have them: of the hub, or their names in `config/`.

    A pair that `config/pairs.tsv` lacks has models of its own name.
    """
    pairs = _table(PAIRS, "pair")
    if pair not in pairs.index:
        return f"{pair}.receiver", f"{pair}.sharer"
    hub_ids, models = _table(MODELS, "model")["hub_id"], pairs.loc[pair]
    receiver, sharer = (str(hub_ids.get(models[role]) or models[role]) for role in ("receiver", "sharer"))
    return receiver, sharer


def _table(name: str, key: str) -> pd.DataFrame:
    return pd.read_csv(CONFIG / name, sep="\t", dtype=str, keep_default_na=False).set_index(key)


def _configured_runs(path: Path) -> list[tuple[FuserRun, dict[str, Any]]]:
    """What a scale's config lists under `runs`, each with the settings that apply to it; nothing without a config."""
    if not path.is_file():
        return []
    main_config, scale_config = (read_yaml(file, f"Restore {file}") for file in (CONFIG / MAIN_CONFIG, path))
    common = {"keep": KEEP}
    for config in (main_config, scale_config):
        common |= {**config.get("fuser", {}), **config.get("training", {})}
    return [
        (FuserRun(run["pair"], run["recipe"], run["alignment"], seed), {**common, **run.get("training", {})})
        for run in scale_config.get("runs", main_config["runs"])
        for seed in run["seeds"]
    ]


def shared_settings(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `trainings` that have the same settings as one row: those settings, and which trainings have them."""
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        settings = {name: row[name] for name in SETTINGS}
        group = groups.setdefault(tuple(map(str, settings.values())), {**settings, "runs": []})
        group["runs"].append({name: row[name] for name in ("pair", "recipe", "alignment", "seeds")})
    return list(groups.values())


def cost(results: Path) -> dict[str, Any]:
    """Hours of training and answering, and the machines: from provenance files and the cost of training.

    Hours of trainings are their own and their shares of passes that several use; hours are 0 where nothing
    tells them; `machines` are distinct descriptions, those of most files first.
    """
    stamps = [
        read_object(path, REMEDY)
        for folder in ("fusers", "single", "latent", "records", "latency")
        for path in sorted(results.glob(f"{folder}/**/*{SUFFIX}"))
    ]
    machines = pd.Series([_machine(stamp["hardware"]) for stamp in stamps if stamp.get("hardware")], dtype=object)
    price = read_csv(results / COST) if (results / COST).is_file() else None
    last_rows = None if price is None else price[price["last"].astype(str) == "True"]
    # Files that were collected from others have no settings of their own, and took no time to answer.
    answers = [read_object(path, REMEDY) for path in sorted(results.glob(f"records/**/*{SUFFIX}"))]
    answers = [stamp for stamp in answers if stamp.get("settings")]
    return {
        "machines": list(machines.value_counts(sort=True).index),
        "trainings": 0 if last_rows is None else len(last_rows),
        "training-hours": 0.0 if last_rows is None else float(last_rows[["hours", "shared_hours"]].sum().sum()),
        "gpu-hours": 0.0 if last_rows is None else float(last_rows["gpu_hours"].sum()),
        "answer-hours": sum(float(stamp.get("wall_time_s", 0)) for stamp in answers) / 3600,
    }


def _machine(hardware: dict[str, Any]) -> str:
    gpus = pd.Series(hardware.get("gpus", []), dtype=object).value_counts()
    parts = [f"{hardware['cpus']} cores of {hardware['cpu']}", f"{hardware['memory_gb']:g} GB of memory"]
    return ", ".join([*parts, *(f"{count} × {gpu}" for gpu, count in gpus.items())])


def loads(results: Path) -> dict[str, Any]:
    """What else the machine did when times were measured.

    Returns:
        `other`, the largest share of CPU time in percent that other processes took during a measurement, and `busy`,
        whether times are marked for it: both None where a provenance file of times does not record it. `average` is
        then the highest load average before a measurement, with its `cores`, where those are recorded: older files
        hold this alone. It counts the run's own jobs too, so that nothing follows from it about other processes.
    """
    stamps = [read_object(path, REMEDY) for path in sorted(results.glob(f"latency/**/*{SUFFIX}"))]
    shares = [float(stamp["other_load"]) for stamp in stamps if stamp.get("other_load") is not None]
    if stamps and len(shares) == len(stamps):
        return {"other": 100 * max(shares), "busy": max(shares) > BUSY, "average": None, "cores": None}
    averages = [(float(stamp["load"]), int(stamp["hardware"]["cpus"])) for stamp in stamps if "load" in stamp]
    average, cores = max(averages, default=(None, None), key=lambda entry: entry[0] / entry[1])
    return {"other": None, "busy": None, "average": average, "cores": cores}
