"""Verdicts on the claims of ``claims.yaml``: claims.json for those on answers, claims_time.json for those on times."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import norm

from c2c.errors import RefusedError, check_choice
from c2c.evaluation.protocol import CORRECTED, PROTOCOLS
from c2c.evaluation.schema import LATENCY_SCHEMA, read_records
from c2c.stats import POWER, Estimate
from c2c.storage.files import write_atomically
from c2c.storage.formats import read_yaml
from paper.command import command
from paper.reading.answers import Answers
from paper.reading.basis import Basis
from paper.reading.evidence import Evidence, contradiction, numbers, paired, time_ratio
from paper.reading.reference import PATH as REFERENCE
from paper.reading.reference import Reference
from paper.verdicts import INCONSISTENT, SEED_SD, compare_size, decide
from paper.writing.output import stamped

PATH = Path(__file__).with_name("claims.yaml")
EVIDENCE_KINDS = ("paired_difference", "time_ratio", "none")
ABOVE = {"points": 0.0, "ratio": 1.0}
WRITTEN = "Write it as the comment at the head of paper/claims.yaml says"
KEYS = {"id", "sentence", "where", "unit", "paper", "replication", "evidence", "above", "check"}


def read_claims(path: Path = PATH) -> list[dict[str, Any]]:
    """The claims of a file.

    Raises:
        RefusedError: A claim has an unknown key, unit or kind of evidence, nothing that decides it, or another's id.
    """
    claims: list[dict[str, Any]] = _claims_of(path)
    for claim in claims:
        for key in claim:
            check_choice(f"A key of claim {claim.get('id')}", key, sorted(KEYS))
        check_choice(f"The unit of claim {claim['id']}", claim["unit"], ABOVE)
        if not {"evidence", "check"} & set(claim):
            raise RefusedError(
                "A claim must have evidence or a check", claim["id"], "Write evidence: {kind: none, reason: ...}"
            )
        check_choice(
            f"The evidence of claim {claim['id']}", claim.get("evidence", {}).get("kind", "none"), EVIDENCE_KINDS
        )
    if len({claim["id"] for claim in claims}) != len(claims):
        raise RefusedError("Ids of claims must be unique", [claim["id"] for claim in claims], "Rename one")
    return claims


def _claims_of(path: Path) -> list[dict[str, Any]]:
    content = read_yaml(path, WRITTEN)
    listed = content.get("claims") if isinstance(content, dict) else None
    needed = {"id", "sentence", "where", "unit"}
    if not isinstance(listed, list) or not all(isinstance(claim, dict) and needed <= set(claim) for claim in listed):
        raise RefusedError(f"{path.name} must list claims, each with id, sentence, where and unit", listed, WRITTEN)
    return list(listed)


def is_timed(claim: Mapping[str, Any]) -> bool:
    """Whether the verdict depends on measured times."""
    return bool(claim.get("evidence", {}).get("kind") == "time_ratio")


def judge(
    claim: Mapping[str, Any], answers: Answers, latency: pd.DataFrame, reference: Reference, basis: Basis
) -> dict[str, Any]:
    """One entry of claims.json; records that are not of the `basis` change nothing in it."""
    evidence = _gather(claim, answers, latency, basis)
    above = float(claim.get("above", ABOVE[claim["unit"]]))
    verdict = decide(evidence.overall, above)
    cells, alignments = _with_alignments(claim.get("evidence", {}), evidence, basis)
    described: dict[str, Any] = {**claim.get("evidence", {}), "above": above, "cells": cells}
    if "check" in claim:
        described = contradiction(reference, claim["check"])
        verdict = verdict if described["agrees"] else INCONSISTENT
    printed = reference.evaluate(claim["paper"]) if "paper" in claim else None
    return {
        "id": claim["id"],
        "scale": answers.scale,
        "sentence": claim["sentence"].format(paper=printed),
        "verdict": verdict,
        "where": claim["where"],
        "unit": claim["unit"],
        "paper_value": None if printed is None else round(printed, 4),
        "size": compare_size(evidence.overall, printed, SEED_SD if claim["unit"] == "points" else 0.0),
        **numbers(evidence.overall),
        "seeds": evidence.overall.seeds if evidence.overall else None,
        "alignment": ", ".join(alignments),
        "detectable": _detectable(evidence.overall),
        "cells": _count_cells(evidence, above),
        "reason": "" if verdict == INCONSISTENT else evidence.reason,
        "replication": _replication(claim, reference),
        "evidence": described,
    }


def write(
    claims: Path, answers: Answers, latency: pd.DataFrame, reference: Reference, outputs: tuple[Path, Path]
) -> None:
    """Write claims.json and claims_time.json, in this order in `outputs`."""
    basis = Basis.load(claims, answers.scale).of_tasks(answers.benchmarks)
    judged = [(is_timed(claim), judge(claim, answers, latency, reference, basis)) for claim in read_claims(claims)]
    for timed, output in enumerate(outputs):
        entries = [entry for of_time, entry in judged if of_time == bool(timed)]
        write_atomically(output, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", type=Path, default=PATH, help="the YAML file of claims")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="the CSV of the paper's values")
    parser.add_argument("--records", type=Path, nargs="+", required=True, help="parquet files of answer records")
    parser.add_argument("--latency-records", type=Path, nargs="*", default=[], help="parquet files of latency records")
    parser.add_argument("--protocol", choices=PROTOCOLS, default=CORRECTED, help="by which answers are marked")
    parser.add_argument("--output", type=Path, required=True, help="claims.json")
    parser.add_argument("--output-time", type=Path, required=True, help="claims_time.json")
    arguments = parser.parse_args()
    outputs = (arguments.output, arguments.output_time)
    inputs = [arguments.claims, arguments.reference, *arguments.records, *arguments.latency_records]
    with stamped(outputs, inputs):
        times = arguments.latency_records
        latency = read_records(times, LATENCY_SCHEMA) if times else LATENCY_SCHEMA.empty_table().to_pandas()
        write(
            arguments.claims,
            Answers.load(arguments.records, arguments.protocol),
            latency,
            Reference(arguments.reference),
            outputs,
        )


def _gather(claim: Mapping[str, Any], answers: Answers, latency: pd.DataFrame, basis: Basis) -> Evidence:
    evidence = claim.get("evidence", {"kind": "none", "reason": "only the paper's own numbers are compared"})
    if evidence["kind"] == "none":
        return Evidence(reason=evidence["reason"])
    if evidence["kind"] == "time_ratio":
        return time_ratio(latency, basis, evidence["of"], evidence["against"], answers.scale)
    return paired(answers, basis, evidence["of"], evidence["against"], claim["where"])


def _with_alignments(
    kind: Mapping[str, Any], evidence: Evidence, basis: Basis
) -> tuple[list[dict[str, Any]], list[str]]:
    """The cells, each with the token alignments of its arms, and all alignments that the claim rests on."""
    of, against = kind.get("of", ""), kind.get("against", ())
    arms = [of, *([against] if isinstance(against, str) else against)] if of else []
    cells = [
        {**cell, "alignment": ", ".join(basis.alignments_of(cell["pair"], arms))}
        if cell.get("pair") in basis.benchmarks
        else cell
        for cell in evidence.cells
    ]
    pairs = [cell["pair"] for cell in cells if "alignment" in cell] or (basis.timed if evidence.cells else [])
    return cells, list(dict.fromkeys(name for pair in pairs for name in basis.alignments_of(pair, arms)))


def _count_cells(evidence: Evidence, above: float) -> dict[str, int]:
    """How many cells are above, below and not decided by their own intervals, and how many listed cells are missing."""
    bounds = [(cell["low"], cell["high"]) for cell in evidence.cells]
    counts = {"above": sum(low > above for low, _ in bounds), "below": sum(high < above for _, high in bounds)}
    return counts | {"undecided": len(bounds) - sum(counts.values()), "missing": evidence.missing}


def _detectable(estimate: Estimate | None) -> float | None:
    """The smallest true difference from the bound that this interval would leave out in four of five runs."""
    if estimate is None or estimate.spread is None:
        return None
    return round(estimate.spread.half_width() + estimate.spread.error * float(norm.ppf(POWER)), 4)


def _replication(claim: Mapping[str, Any], reference: Reference) -> dict[str, Any] | None:
    replication = claim.get("replication")
    return replication and {"value": round(reference.evaluate(replication["value"]), 4), "note": replication["note"]}


if __name__ == "__main__":
    sys.exit(main())
