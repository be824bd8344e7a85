"""Synthetic record frames: the runs of the smoke scale in small, with answers that are right at a given rate."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from c2c.evaluation.schema import LATENCY_SCHEMA, PHASES, RECORD_SCHEMA, conform, to_table

VALUES = {"color": ["amber", "black", "green", "white"], "home": ["athens", "cairo", "lima", "rome"]}
MODELS = {"gap_a": ("gap_receiver_a", "gap_sharer"), "gap_b": ("gap_receiver_b", "gap_sharer")}
SCORING = {"knowledge_gap_free": "exact", "knowledge_gap_choice": "likelihood", "openbookqa": "letter"}
"""By benchmark; another task id ends in its scoring."""
BASELINES = ("receiver", "sharer", "t2t", "routing")
FUSED = ("c2c", "c2c_deranged", "c2c_zeroed")
RATES = {
    "receiver": 0.25, "sharer": 1.0, "t2t": 0.97, "routing": 0.6, "c2c": 0.95, "c2c_deranged": 0.2, "c2c_zeroed": 0.22,
    "adapter": 0.28, "project": 0.8, "fuse": 0.9, "longest": 0.5,
    "identical": 0.26,
}  # fmt: skip
SECONDS = {"receiver": 0.010, "sharer": 0.012, "t2t": 0.060, "c2c": 0.020}


@dataclass(frozen=True)
class Run:
    """One file of records: a pair's baselines (no recipe) or one fuser of it."""

    pair: str
    recipe: str = ""
    alignment: str = ""
    seed: int | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        return {"": BASELINES, "adapter": ("c2c",)}.get(self.recipe.partition("@")[0], FUSED)

    @property
    def path(self) -> str:
        return (
            f"{self.pair}/{self.recipe}/{self.alignment}/seed{self.seed}" if self.recipe else f"{self.pair}/baselines"
        )


SMOKE = (
    Run("gap_a"),
    *(Run("gap_a", recipe, "span", seed) for recipe, seed in product(("c2c", "adapter"), (0, 1, 2))),
    Run("gap_a", "project", "span", 0),
    Run("gap_a", "fuse", "span", 0),
    Run("gap_b"),
    Run("gap_b", "c2c", "span", 0),
    Run("gap_b", "c2c", "longest", 0),
    Run("gap_b", "adapter", "span", 0),
)


@dataclass(frozen=True)
class Bench:
    """Which questions are asked, and how often each method is right."""

    benchmarks: Sequence[str] = ("knowledge_gap_free", "knowledge_gap_choice")
    questions: int = 40
    rates: Mapping[str, float] = field(default_factory=lambda: RATES)


def make_records(runs: Iterable[Run] = SMOKE, bench: Bench | None = None) -> pd.DataFrame:
    """Records of all runs, with the schema's types."""
    bench = bench or Bench()
    rows = [
        _record(run, method, benchmark, number, bench)
        for run in runs
        for method, benchmark, number in product(run.methods, bench.benchmarks, range(bench.questions))
    ]
    return conform(pd.DataFrame(rows, columns=RECORD_SCHEMA.names), RECORD_SCHEMA)


def make_latency(runs: Iterable[Run] = SMOKE, questions: int = 8, repeats: int = 2) -> pd.DataFrame:
    """Latency records of the methods that are timed, for the baselines and the span-aligned seed 0 of recipe c2c."""
    timed = [
        run for run in runs if run.recipe in ("", "c2c") and run.alignment in ("", "span") and run.seed in (None, 0)
    ]
    rows = [
        _times(run, method, number, repeat)
        for run in timed
        for method, number, repeat in product(run.methods, range(questions), range(repeats))
        if method in SECONDS
    ]
    return conform(pd.DataFrame(rows, columns=LATENCY_SCHEMA.names), LATENCY_SCHEMA)


def write(frame: pd.DataFrame, path: Path, schema: object = RECORD_SCHEMA) -> Path:
    """Write a frame as parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(to_table(frame, schema), path)
    return path


def _chance(*parts: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32("/".join(map(str, parts)).encode()))


def _record(run: Run, method: str, benchmark: str, number: int, bench: Bench) -> dict[str, object]:
    subset = list(VALUES)[number % 2]
    options = VALUES[subset]
    gold = number // 2 % 4
    recipe = run.recipe.partition("@")[0]
    rate = bench.rates["longest" if run.alignment == "longest" else method if recipe in ("", "c2c") else recipe]
    rng = _chance(run.path, method, benchmark, number)
    chosen = gold if rng.random() < rate else (gold + 1) % 4
    scoring = SCORING.get(benchmark) or benchmark.rpartition("_")[2]
    kind = "likelihood" if scoring in ("text", "logits") else scoring
    answer = {
        "exact": {"gold": options[gold], "output_text": f" {options[chosen]} ."},
        "letter": {"gold": "ABCD"[gold], "output_text": f"The answer is {'ABCD'[chosen]}.", "choices": options},
        "likelihood": {
            "gold": options[gold],
            "choices": options,
            "choice_scores": [-1.0 if index == chosen else -3.0 for index in range(4)],
            "choice_tokens": [1, 1, 1, 1],
        },
    }[kind]
    return {
        **_run(run, method),
        "benchmark": benchmark,
        "subset": subset,
        "scoring": scoring,
        "question_id": f"q{number:03d}",
        "question_hash": f"hash{number}",
        "prompt_hash": f"prompt{number}",
        "tokens_in": 9,
        "tokens_out": 2,
        "sharer_tokens_in": 9,
        "sharer_tokens_out": 0,
        "time_s": float(rng.random()),
        **answer,
    }


def _times(run: Run, method: str, number: int, repeat: int) -> dict[str, object]:
    total = SECONDS[method] * _chance(run.path, method, number, repeat).uniform(0.8, 1.2)
    used = [phase for phase in PHASES[:-1] if not (method == "receiver" and phase.startswith("sharer"))]
    tokens = {f"{who}_tokens_{way}": 5 for who, way in product(("sharer", "receiver"), ("in", "out"))}
    return {
        **_run(run, method),
        "benchmark": "knowledge_gap_free",
        "question_id": f"q{number:03d}",
        "repeat": repeat,
        **{f"{phase}_s": total / len(used) if phase in used else 0.0 for phase in PHASES[:-1]},
        "total_s": total,
        **tokens,
    }


def _run(run: Run, method: str) -> dict[str, object]:
    receiver, sharer = MODELS[run.pair]
    return {
        "scale": "smoke", "pair": run.pair, "receiver": receiver, "sharer": sharer, "recipe": run.recipe,
        "alignment": run.alignment, "method": method, "seed": run.seed,
    }  # fmt: skip


def make_gates(run: Run, layers: int = 3) -> pd.DataFrame:
    """A fuser's gates.csv; recipes without weights and gates have empty columns."""
    rng = _chance(run.path, "gates")
    rows = []
    for layer, half in product(range(layers), ("key", "value")):
        mean, logit = rng.uniform(0.2, 0.9), rng.normal(1.0, 1.5)
        low = mean * (1.05 if layer else 0.6)  # a skewed weight can have its mean outside its quantiles
        numbers = [logit, int(logit > 0), mean, low, min(1.0, mean * 1.3)]
        rows.append([layer, half, *(numbers if run.recipe in ("c2c", "adapter") else [None, 1, None, None, None])])
    return pd.DataFrame(
        rows, columns=["layer", "half", "gate_logit", "open", "weight_mean", "weight_low", "weight_high"]
    )


def make_history(run: Run, steps: int = 400) -> pd.DataFrame:
    """A fuser's history.csv, with a loss that falls to a floor."""
    rng = _chance(run.path, "history")
    step = np.arange(1, steps + 1)
    floor = 2.6 if run.recipe == "adapter" else 0.9 if run.alignment == "longest" else 0.02
    loss = floor + 2.8 * np.exp(-step / 60)
    return pd.DataFrame(
        {
            "step": step,
            "loss": loss * rng.uniform(0.85, 1.15, steps),
            "learning_rate": 2e-3 * (1 - step / steps),
            "temperature": 0.001 ** (step / steps),
            "gradient_norm": rng.uniform(0.1, 1.0, steps),
            "validation_loss": np.where(step % 50 == 0, loss * 1.05, np.nan),
            "validation_deranged_loss": np.where((step % 50 == 0) & (run.recipe != "adapter"), loss * 1.5, np.nan),
            "open_gates": 1.0,
        }
    )


TRAINING = {
    **{"steps": 40, "batch_size": 8, "max_length": 256, "hidden_dim": 16},
    **{"learning_rate": 1e-3, "weight_decay": 0.01, "warmup_ratio": 0.1, "layer_alignment": "terminal", "keep": "last"},
}
"""What the text of the paper says of a training."""


def write_fuser(run: Run, folder: Path) -> Path:
    """Write both tables of a fuser below `folder` and return the fuser's folder."""
    fuser = folder / run.path
    fuser.mkdir(parents=True, exist_ok=True)
    make_gates(run).to_csv(fuser / "gates.csv", index=False)
    make_history(run).to_csv(fuser / "history.csv", index=False)
    receiver, sharer = MODELS[run.pair]
    about = {"about": {"receiver": receiver, "sharer": sharer, "training": TRAINING}}
    (fuser / "config.json").write_text(json.dumps(about), encoding="utf-8")
    return fuser


def write_stamp(
    run: Run, folder: Path, seconds: Mapping[str, float], gpus: int = 0, shared: Mapping[str, object] | None = None
) -> Path:
    """The provenance file beside a fuser's folder, as far as it says what the training cost."""
    stamp = folder / f"{run.path}.provenance.json"
    stamp.parent.mkdir(parents=True, exist_ok=True)
    cost = {"processes": max(gpus, 1), "gpus": gpus, "seconds": dict(seconds)}
    cost |= {"shared": dict(shared)} if shared else {}
    stamp.write_text(json.dumps({"training": {"cost": cost}}), encoding="utf-8")
    return stamp
