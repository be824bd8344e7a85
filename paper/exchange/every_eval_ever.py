"""Evaluations as *Every Eval Ever* files (schema 0.3.0, arXiv 2606.14516): a JSON an arm, and its samples a line each.

The layout is that of its datastore, ``data/<collection>/<owner>/<model>/<uuid>.json`` with ``<uuid>_samples.jsonl``.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from c2c.stats import CONFIDENCE, Estimate
from c2c.storage.files import write_atomically
from paper.exchange.evaluations import OWNER, Evaluation, Sample, interval_method
from paper.exchange.origin import Origin

SCHEMA_VERSION = "0.3.0"
DESCRIPTIONS = {
    "accuracy": "Share of questions that were answered correctly",
    "score": "Mean credit of an answer, from 0 to 1",
}


def write_every_eval_ever(evaluations: Iterable[Evaluation], output: Path, origin: Origin) -> list[Path]:
    """Write all evaluations below ``<output>/data`` and return the JSON files.

    A benchmark is a result of the arm's file: over all training seeds and, where there are several, for each of them.
    The samples refer to the result of their seed.
    """

    def arm_of(evaluation: Evaluation) -> tuple[str, ...]:
        return (evaluation.pair, evaluation.arm, evaluation.alignment, evaluation.details.get("prompts", ""))

    paths = []
    for _, group in groupby(sorted(evaluations, key=arm_of), arm_of):
        paths.append(_write_arm(list(group), output, origin))
    return paths


def _write_arm(evaluations: Sequence[Evaluation], output: Path, origin: Origin) -> Path:
    """Write the file of one arm and its samples."""
    first = evaluations[0]
    # A Receiver alone answers for several pairs: the pair keeps these apart.
    collection = f"{OWNER}_{first.scale}_{first.pair}"
    evaluation_id = f"{collection}/{first.model}/{origin.timestamp}"
    # A name of version 4 that depends on the content alone, so that a second export writes the same files.
    content_name = " ".join((evaluation_id, first.arm, first.details.get("prompts", "")))
    name = uuid.UUID(bytes=hashlib.sha256(content_name.encode()).digest()[:16], version=4)
    folder = output / "data" / collection / first.model
    samples = folder / f"{name}_samples.jsonl"
    lines = [
        json.dumps(_instance(evaluation, sample, evaluation_id), ensure_ascii=False, allow_nan=False)
        for evaluation in evaluations
        for sample in evaluation.samples
    ]
    text = "".join(f"{line}\n" for line in lines)
    content = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation_id,
        "retrieved_timestamp": origin.timestamp,
        "source_metadata": {
            "source_name": f"{OWNER}, scale {first.scale}",
            "source_type": "evaluation_run",
            "source_organization_name": origin.organisation,
            "evaluator_relationship": "third_party",
            "additional_details": origin.details,
        },
        "eval_library": {"name": OWNER, "version": origin.version, "additional_details": origin.packages},
        "model_info": _model_info(first),
        "evaluation_results": [result for evaluation in evaluations for result in _results(evaluation)],
        "detailed_evaluation_results": {
            "format": "jsonl",
            "file_path": samples.relative_to(output).as_posix(),
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(text.encode()).hexdigest(),
            "total_rows": len(lines),
        },
    }
    write_atomically(samples, text)
    path = folder / f"{name}.json"
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def _model_info(evaluation: Evaluation) -> dict[str, Any]:
    """What answered: one model, or a Receiver with what it gets from others."""
    models = {"receiver": evaluation.receiver, "sharer": evaluation.sharer}
    revisions = {f"revision of {model}": revision for model, revision in evaluation.revisions.items()}
    return {
        "name": evaluation.model.partition("/")[2],
        "id": evaluation.model,
        "developer": evaluation.model.partition("/")[0],
        "inference_engine": {"name": "transformers"},
        "additional_details": {
            "deployment_type": "self_deployed",
            "model_availability": "open_weights" if evaluation.revisions else "unknown",
            "pair": evaluation.pair,
            "arm": evaluation.arm,
            **models,
            **({"alignment": evaluation.alignment} if evaluation.alignment else {}),
            **{name: evaluation.details[name] for name in ("recipe", "method") if name in evaluation.details},
            **revisions,
        },
    }


def _results(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The result over all seeds and, of several seeds, that of each."""
    results = [_result(evaluation, evaluation.benchmark, evaluation.estimate, evaluation.standard_error)]
    for seed, estimate in evaluation.by_seed.items() if len(evaluation.by_seed) > 1 else ():
        error = (estimate.value * (1 - estimate.value) / estimate.n) ** 0.5
        results.append(_result(evaluation, _result_name(evaluation, seed), estimate, error))
    return results


def _result_name(evaluation: Evaluation, seed: int | None) -> str:
    """Id of the result to which a sample of this seed belongs."""
    return evaluation.benchmark if len(evaluation.by_seed) < 2 else f"{evaluation.benchmark}/seed{seed}"


def _result(evaluation: Evaluation, name: str, estimate: Estimate, error: float) -> dict[str, Any]:
    source = {"dataset_name": evaluation.benchmark, "source_type": "other"}
    if evaluation.dataset:
        details = {name: text for name, text in evaluation.dataset.items() if name != "hub_id"}
        source |= {"source_type": "hf_dataset", "hf_repo": evaluation.dataset["hub_id"], "additional_details": details}
    trainings = f"{estimate.seeds} training seeds" if estimate.seeds > 1 else "this training"
    uncertainty: dict[str, Any] = {"standard_error": {"value": error, "method": "analytic"}, "num_samples": estimate.n}
    if estimate.low == estimate.low:
        method = interval_method(estimate)
        bounds = {"lower": estimate.low, "upper": estimate.high, "confidence_level": CONFIDENCE, "method": method}
        uncertainty["confidence_interval"] = bounds
    greedy = {"temperature": 0.0, **({"max_tokens": evaluation.max_tokens} if evaluation.max_tokens else {})}
    return {
        "evaluation_result_id": name,
        "evaluation_name": name,
        "source_data": source,
        "metric_config": {
            "evaluation_description": f"{DESCRIPTIONS[evaluation.metric]}; for {trainings}",
            "metric_id": evaluation.metric,
            "metric_name": evaluation.metric.capitalize(),
            "metric_kind": evaluation.metric,
            "metric_unit": "proportion",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": 1.0,
        },
        "score_details": {
            "score": estimate.value,
            "details": {"questions": str(estimate.n), "seeds": str(estimate.seeds)},
            "uncertainty": uncertainty,
        },
        "generation_config": {"generation_args": greedy, "additional_details": evaluation.details},
    }


def _instance(evaluation: Evaluation, sample: Sample, evaluation_id: str) -> dict[str, Any]:
    """One line of the samples."""
    details = {name: value if isinstance(value, str) else json.dumps(value) for name, value in sample.details.items()}
    if sample.seed is not None:
        details["seed"] = str(sample.seed)
    asked = "\n\n".join(message["content"] for message in sample.messages)
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation_id,
        "model_id": evaluation.model,
        "evaluation_name": _result_name(evaluation, sample.seed),
        "evaluation_result_id": _result_name(evaluation, sample.seed),
        "sample_id": sample.id,
        "sample_hash": hashlib.sha256(f"{asked}{sample.reference}".encode()).hexdigest(),
        "interaction_type": "single_turn",
        "input": {"raw": asked, "reference": [sample.reference]},
        "output": {"raw": [sample.output]},
        "answer_attribution": [
            {
                "turn_idx": 0,
                "source": "output.raw",
                "extracted_value": sample.answer,
                "extraction_method": evaluation.details.get("scoring", "exact"),
                "is_terminal": True,
            }
        ],
        "evaluation": {"score": sample.score, "is_correct": sample.score == 1.0},
        "token_usage": sample.usage,
        "metadata": details,
    }
    if sample.choices:
        content["input"]["choices"] = list(sample.choices)
    if sample.seconds == sample.seconds:
        content["performance"] = {"latency_ms": 1000 * sample.seconds}
    if sample.error:
        content["error"] = sample.error
    return content
