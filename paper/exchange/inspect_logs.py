"""Evaluations as logs of Inspect (inspect_ai, log version 2): a JSON an arm and benchmark, for ``inspect view``.

An epoch of a log is a training seed: the same questions, answered through fusers of another training.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from c2c.storage.files import write_atomically
from paper.exchange.evaluations import OWNER, Evaluation, Sample, interval_method
from paper.exchange.origin import Origin

LOG_VERSION = 2


def write_inspect_logs(evaluations: Iterable[Evaluation], output: Path, origin: Origin) -> list[Path]:
    """Write a log for each evaluation and return the files.

    Inspect takes a JSON file for a log by its name, ``<time>_<what>_<id>.json``, with no further underscore.
    """
    paths = []
    for evaluation in evaluations:
        log = inspect_log(evaluation, origin)
        parts = (evaluation.pair, evaluation.benchmark, evaluation.arm, evaluation.alignment)
        what = re.sub(r"[^\w.+@]|_", "-", "-".join(filter(None, parts)))
        path = output / f"{origin.time.replace(':', '-')}_{what}_{log['eval']['task_id']}.json"
        write_atomically(path, json.dumps(log, ensure_ascii=False, allow_nan=False) + "\n")
        paths.append(path)
    return paths


def inspect_log(evaluation: Evaluation, origin: Origin) -> dict[str, Any]:
    """The log of one arm's answers to one benchmark, as `inspect_ai.log.EvalLog` reads it."""
    seeds = sorted(evaluation.by_seed) or [None]
    epochs = {seed: number for number, seed in enumerate(seeds, 1)}
    samples = [_sample(evaluation, sample, epochs[sample.seed]) for sample in evaluation.samples]
    ids = list(dict.fromkeys(sample["id"] for sample in samples))
    config: dict[str, Any] = {"temperature": 0.0}
    if evaluation.max_tokens:
        config["max_tokens"] = evaluation.max_tokens
    # Ids as Inspect makes them, from what the log is of.
    name = " ".join((evaluation.scale, evaluation.pair, evaluation.arm, evaluation.alignment, evaluation.benchmark))
    key = hashlib.sha256(name.encode()).hexdigest()[:22]
    spec: dict[str, Any] = {
        "eval_id": key,
        "run_id": hashlib.sha256(f"{evaluation.scale} {origin.timestamp}".encode()).hexdigest()[:22],
        "created": origin.time,
        "task": evaluation.benchmark,
        "task_id": key,
        "task_args": {"pair": evaluation.pair, "arm": evaluation.arm, **evaluation.details},
        "dataset": {
            "name": evaluation.benchmark,
            "location": evaluation.dataset.get("hub_id"),
            "samples": len(ids),
            "sample_ids": ids,
            "shuffled": False,
        },
        "model": evaluation.model,
        "model_generate_config": config,
        "model_args": {f"revision of {model}": revision for model, revision in evaluation.revisions.items()},
        "model_roles": {
            "receiver": {"model": evaluation.receiver, "config": {}, "args": {}},
            "sharer": {"model": evaluation.sharer, "config": {}, "args": {}},
        },
        "config": {"epochs": len(epochs), "epochs_reducer": ["mean"]},
        "packages": {OWNER: origin.version, **origin.packages},
        "metadata": {
            "scale": evaluation.scale,
            "alignment": evaluation.alignment,
            "seeds": [seed for seed in seeds if seed is not None],
            "organisation": origin.organisation,
            **({"dataset_revision": evaluation.dataset["revision"]} if "revision" in evaluation.dataset else {}),
            **origin.details,
        },
        "tags": [evaluation.scale, evaluation.pair, evaluation.arm],
    }
    if origin.commit:
        spec["revision"] = {"type": "git", "origin": OWNER, "commit": origin.commit, "dirty": origin.is_dirty}
    return {
        "version": LOG_VERSION,
        "status": "success",
        "eval": spec,
        "plan": {"name": "plan", "steps": [{"solver": evaluation.arm, "params": {}}], "config": config},
        "results": {
            "total_samples": len(samples),
            "completed_samples": sum(not sample.error for sample in evaluation.samples),
            "scores": [_scores(evaluation)],
        },
        "stats": {"started_at": origin.time, "completed_at": origin.time, "model_usage": {}},
        "samples": samples,
    }


def _scores(evaluation: Evaluation) -> dict[str, Any]:
    """The metrics over all questions and seeds, and those of each seed."""
    estimate, scorer = evaluation.estimate, evaluation.details.get("scoring", "exact")
    values = {evaluation.metric: estimate.value, "stderr": evaluation.standard_error}
    # Bounds that are not numbers are left out: JSON has none.
    bounds = {"ci_low": estimate.low, "ci_high": estimate.high}
    values |= {name: value for name, value in bounds.items() if value == value}
    values |= {f"{evaluation.metric}_seed{seed}": one.value for seed, one in evaluation.by_seed.items()}
    return {
        "name": scorer,
        "scorer": scorer,
        "reducer": "mean",
        "scored_samples": estimate.n,
        "unscored_samples": 0,
        "params": {},
        "metrics": {name: {"name": name, "value": value, "params": {}} for name, value in values.items()},
        "metadata": {"interval": interval_method(estimate), "confidence_level": 0.95},
    }


def _sample(evaluation: Evaluation, sample: Sample, epoch: int) -> dict[str, Any]:
    """One answered question."""
    answer = {"role": "assistant", "content": sample.output, "source": "generate", "model": evaluation.model}
    score = {"value": sample.score, "answer": sample.answer}
    content: dict[str, Any] = {
        "id": sample.id,
        "epoch": epoch,
        "input": sample.messages if sample.details.get("prompts") == "chat" else sample.prompt,
        "choices": list(sample.choices) or None,
        "target": sample.reference,
        "messages": [*({**message, "source": "input"} for message in sample.messages), answer],
        "output": {
            "model": evaluation.model,
            "choices": [{"message": answer, "stop_reason": "stop"}],
            "completion": sample.output,
            "usage": sample.usage,
        },
        "scores": {evaluation.details.get("scoring", "exact"): score},
        "metadata": {**sample.details, **({} if sample.seed is None else {"seed": sample.seed})},
        "model_usage": {evaluation.model: sample.usage} if sample.usage else {},
    }
    if sample.seconds == sample.seconds:
        content |= {"total_time": sample.seconds, "working_time": sample.seconds}
    if sample.error:
        content["error"] = {"message": sample.error, "traceback": "", "traceback_ansi": ""}
    return content
