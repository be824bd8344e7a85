"""Verdicts on the claims of ``claims.yaml``: claims.json for those on answers, claims_time.json for those on times."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
from scipy.stats import norm

from c2c.errors import RefusedError, check_choice
from c2c.evaluation.protocol import CORRECTED, PROTOCOLS
from c2c.evaluation.schema import LATENCY_SCHEMA, read_records
from c2c.stats import POWER, Estimate
from c2c.storage.files import write_atomically
from c2c.storage.formats import read_yaml
from c2c.testbed.card.numbers import MINUS
from c2c.types import TOKEN_ALIGNMENTS
from paper.artefacts import claim_files
from paper.command import command
from paper.reading.answers import Answers
from paper.reading.basis import Basis
from paper.reading.evidence import (
    OF_PLACE,
    SLOPE,
    Evidence,
    Scope,
    contradiction,
    count,
    from_table,
    numbers,
    paired,
    time_ratio,
)
from paper.reading.files import read_table
from paper.reading.names import read_names
from paper.reading.reference import PATH as REFERENCE
from paper.reading.reference import Reference
from paper.verdicts import INCONSISTENT, NOT_JUDGED, ONE_SEED, SEED_SD, compare_size, decide, decide_every
from paper.writing.output import stamped

PATH = Path(__file__).with_name("claims.yaml")
SCOPE = {"pairs", "without", "benchmarks"}
EVIDENCE_KEYS: dict[str, tuple[set[str], set[str]]] = {
    "paired_difference": ({"of", "against"}, SCOPE | {"rule", "by_subset"}),
    "time_ratio": ({"of", "against"}, SCOPE),
    "table": ({"file", "where", "value"}, SCOPE | {"rule"}),
    "count": ({"file", "where", "value"}, SCOPE | {"above", "below", "over", "by", "among"}),
    "none": ({"reason"}, set()),
}
"""Keys of each kind of evidence: those it must have, and those it may have."""
MEAN, EVERY = "mean", "every"
RULES = (MEAN, EVERY, SLOPE)
ABOVE = {"points": 0.0, "ratio": 1.0, "percent": 50.0, "count": 0.0}
"""Units, and the bound of a claim that states none."""
PAPER, PROJECT = "paper", "project"
"""Whose a claim is: the paper's, where it has a place in it, or this project's."""
WRITTEN = "Write it as the comment at the head of paper/claims.yaml says"
FIELD = re.compile(r"\{(paper|bound):([^}]*)\}")
"""A number in a sentence: which one, and how it is written."""
KEYS = {
    *("id", "sentence", "where", "unit", "paper", "earlier", "replication", "evidence", "above", "below", "check"),
    "not_at",
}


def read_claims(path: Path = PATH) -> list[dict[str, Any]]:
    """The claims of a file.

    Raises:
        RefusedError: A claim has an unknown key, unit, kind of evidence, pair, benchmark or arm, nothing that decides
            it, or another's id.
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
        if "evidence" in claim:
            _check_evidence(claim["id"], claim["evidence"])
    if len({claim["id"] for claim in claims}) != len(claims):
        raise RefusedError("Ids of claims must be unique", [claim["id"] for claim in claims], "Rename one")
    return claims


def _check_evidence(claim: str, evidence: Mapping[str, Any]) -> None:
    check_choice(f"The evidence of claim {claim}", evidence.get("kind"), EVIDENCE_KEYS)
    required_keys, optional_keys = EVIDENCE_KEYS[evidence["kind"]]
    for key in set(evidence) - {"kind"}:
        check_choice(f"A key of the evidence of claim {claim}", key, sorted(required_keys | optional_keys))
    if gaps := sorted(required_keys - set(evidence)):
        raise RefusedError(f"The evidence of claim {claim} must have its keys", gaps, WRITTEN)
    check_choice(f"The rule of claim {claim}", evidence.get("rule", MEAN), RULES)
    # Names that nothing has would make the claim silently not run.
    if isinstance(evidence.get("pairs"), str):
        check_choice(f"The pairs of claim {claim}", evidence["pairs"], [OF_PLACE])
    titles = read_names()
    pairs = evidence.get("pairs", ())
    for pair in [*(() if isinstance(pairs, str) else pairs), *evidence.get("without", ())]:
        check_choice(f"A pair of claim {claim}", pair, titles["pairs"])
    for benchmark in evidence.get("benchmarks", ()):
        check_choice(f"A benchmark of claim {claim}", benchmark, titles["benchmarks"])
    against = evidence.get("against", ())
    for arm in [*filter(None, [evidence.get("of")]), *([against] if isinstance(against, str) else against)]:
        name, _, detail = arm.partition("@")
        check_choice(f"An arm of claim {claim}", name.partition("/")[0], titles["arms"])
        if detail and not detail.isdigit():
            check_choice(f"The alignment of {arm} in claim {claim}", detail, TOKEN_ALIGNMENTS)


def _claims_of(path: Path) -> list[dict[str, Any]]:
    content = read_yaml(path, WRITTEN)
    entries = content.get("claims") if isinstance(content, dict) else None
    keys = {"id", "sentence", "where", "unit"}
    if not isinstance(entries, list) or not all(isinstance(claim, dict) and keys <= set(claim) for claim in entries):
        raise RefusedError(f"{path.name} must list claims, each with id, sentence, where and unit", entries, WRITTEN)
    return list(entries)


def is_timed(claim: Mapping[str, Any]) -> bool:
    """Whether the verdict depends on measured times."""
    return bool(claim.get("evidence", {}).get("kind") == "time_ratio")


def judge(
    claim: Mapping[str, Any],
    answers: Answers,
    latency: pd.DataFrame,
    reference: Reference,
    basis: Basis,
    tables: Mapping[str, pd.DataFrame] = MappingProxyType({}),
) -> dict[str, Any]:
    """One entry of claims.json; records and rows that are not of the `basis` change nothing in it.

    Args:
        claim: As `read_claims` gives it.
        answers: Of one scale.
        latency: Latency records.
        reference: The paper's values.
        basis: What verdicts rest on.
        tables: Our tables by their file in the results folder.
    """
    evidence = _gather(claim, answers, latency, basis, tables, reference)
    is_below = "below" in claim
    bound = reference.evaluate(claim["below"] if is_below else claim.get("above", ABOVE[claim["unit"]]))
    rule = claim.get("evidence", {}).get("rule", MEAN)
    if rule == EVERY:
        verdict = decide_every(evidence.estimates, evidence.missing_count, bound, is_below)
    else:
        verdict = decide(evidence.overall, bound, is_below)
    cells, alignments = _with_alignments(claim.get("evidence", {}), evidence, basis)
    bound_key = "below" if is_below else "above"
    facts: dict[str, Any] = {**claim.get("evidence", {}), bound_key: round(bound, 4), "cells": cells}
    # A count's evidence may have a bound of its own, of each row.
    if claim.get("evidence", {}).get("kind") == "count":
        facts = {**claim["evidence"], "share": bound_key, "bound": round(bound, 4), "cells": []}
    if "check" in claim:
        facts = contradiction(reference, claim["check"])
        verdict = verdict if facts["agrees"] else INCONSISTENT
    paper_value = reference.evaluate(claim["paper"]) if "paper" in claim else None
    return {
        "id": claim["id"],
        "of": PAPER if claim["where"] else PROJECT,
        "scale": answers.scale,
        "sentence": _sentence(claim, paper_value, _stated_bound(claim, reference)),
        "verdict": verdict,
        "where": claim["where"],
        "unit": claim["unit"],
        "paper_value": None if paper_value is None else round(paper_value, 4),
        "size": _size(claim, evidence, paper_value),
        **numbers(evidence.overall),
        "seeds": evidence.overall.seeds if evidence.overall else None,
        "seeds_note": _seeds_note(evidence),
        "alignment": ", ".join(alignments),
        "detectable": _detectable(evidence.overall),
        "cells": _count_cells(evidence, bound),
        "reason": "" if verdict == INCONSISTENT else evidence.reason,
        "earlier": _beside(claim, "earlier", reference, evidence),
        "replication": _beside(claim, "replication", reference),
        "evidence": facts,
    }


def write(
    claims: Path,
    answers: Answers,
    latency: pd.DataFrame,
    reference: Reference,
    outputs: tuple[Path, Path],
    tables: Mapping[str, pd.DataFrame] = MappingProxyType({}),
    scale: str = "",
) -> None:
    """Write claims.json and claims_time.json, in this order in `outputs`.

    The verdicts rest on what ``rests_on`` lists for `scale`; where it is empty, for the scale of the answers.
    """
    basis = Basis.load(claims, scale or answers.scale).of_tasks(answers.benchmarks)
    entries_by_kind = [
        (is_timed(claim), judge(claim, answers, latency, reference, basis, tables)) for claim in read_claims(claims)
    ]
    for number, output in enumerate(outputs):
        entries = [entry for of_time, entry in entries_by_kind if of_time == bool(number)]
        write_atomically(output, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")


def read_tables(files: Iterable[Path]) -> dict[str, pd.DataFrame]:
    """The tables that claims read, among `files`, by their file in the results folder."""
    return {
        name: read_table(path, empty_is_missing=True)
        for path in files
        for name in claim_files()
        if path.as_posix().endswith(f"/{name}")
    }


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", type=Path, default=PATH, help="the YAML file of claims")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="the CSV of the paper's values")
    parser.add_argument("--records", type=Path, nargs="+", required=True, help="parquet files of answer records")
    parser.add_argument("--latency-records", type=Path, nargs="*", default=[], help="parquet files of latency records")
    parser.add_argument("--tables", type=Path, nargs="*", default=[], help="our tables that claims read, as .csv")
    parser.add_argument("--protocol", choices=PROTOCOLS, default=CORRECTED, help="by which answers are marked")
    parser.add_argument(
        "--basis",
        default="",
        help="the scale under rests_on on whose list the verdicts rest (default: the records' own)",
    )
    parser.add_argument("--output", type=Path, required=True, help="claims.json")
    parser.add_argument("--output-time", type=Path, required=True, help="claims_time.json")
    arguments = parser.parse_args()
    outputs = (arguments.output, arguments.output_time)
    inputs = [arguments.claims, arguments.reference, *arguments.records, *arguments.latency_records, *arguments.tables]
    with stamped(outputs, inputs):
        times = arguments.latency_records
        latency = read_records(times, LATENCY_SCHEMA) if times else LATENCY_SCHEMA.empty_table().to_pandas()
        write(
            arguments.claims,
            Answers.load(arguments.records, arguments.protocol),
            latency,
            Reference(arguments.reference),
            outputs,
            read_tables(arguments.tables),
            arguments.basis,
        )


def _gather(
    claim: Mapping[str, Any],
    answers: Answers,
    latency: pd.DataFrame,
    basis: Basis,
    tables: Mapping[str, pd.DataFrame],
    reference: Reference,
) -> Evidence:
    evidence = claim.get("evidence", {"kind": "none", "reason": "only the paper's own numbers are compared"})
    scope, kind = Scope.of_claim(claim), evidence["kind"]
    if answers.scale in claim.get("not_at", {}):
        return Evidence(reason=claim["not_at"][answers.scale])
    if kind == "none":
        return Evidence(reason=evidence["reason"])
    if kind == "time_ratio":
        return time_ratio(latency, basis, evidence["of"], evidence["against"], scope, answers.scale)
    if kind == "table":
        return from_table(tables, basis, evidence, scope)
    if kind == "count":
        return count(tables, basis, evidence, scope, reference)
    by_subset, rule = evidence.get("by_subset", False), evidence.get("rule", MEAN)
    return paired(answers, basis, evidence["of"], evidence["against"], scope, by_subset, rule)


def _sentence(claim: Mapping[str, Any], paper: float | None, bound: float | None) -> str:
    """The claim's sentence with its numbers, which have a true minus sign (a name such as Qwen2.5-0.5B a hyphen)."""
    values = {"paper": paper, "bound": bound}
    return FIELD.sub(lambda field: format(values[field[1]], field[2]).replace("-", MINUS), claim["sentence"])


def _size(claim: Mapping[str, Any], evidence: Evidence, paper_value: float | None) -> str:
    """Whether the printed value agrees in size with ours; empty unless every pair is the paper's at this place.

    A row of a table holds no standard deviation of its seeds, so that with several its size is not judged
    in points; a share is compared with its interval as it is.
    """
    scope = Scope.of_claim(claim)
    if not evidence.pairs or not all(map(scope.is_at_place, evidence.pairs)):
        return ""
    is_table = claim["evidence"]["kind"] == "table"
    is_percent = claim["unit"] == "percent"
    if is_table and not is_percent and evidence.overall and evidence.overall.seeds > 1 and paper_value is not None:
        return NOT_JUDGED
    # SEED_SD is of accuracies: nothing is known of the trainings' spread of another quantity.
    if (
        is_percent
        and paper_value is not None
        and evidence.overall
        and evidence.is_trained
        and evidence.overall.seeds == 1
    ):
        return ONE_SEED
    has_seed_term = evidence.is_trained and claim["unit"] not in ("ratio", "percent")
    return compare_size(evidence.overall, paper_value, SEED_SD if has_seed_term else 0.0)


def _seeds_note(evidence: Evidence) -> str:
    """What a reader must know of the seeds where cells have different numbers of them; else empty."""
    seeds = sorted({cell["seeds"] for cell in evidence.cells if "seeds" in cell})
    if evidence.overall is None or len(seeds) < 2:
        return ""
    pairs = ", ".join(dict.fromkeys(cell["pair"] for cell in evidence.cells if cell.get("seeds") == 1))
    note = f"{seeds[0]}–{seeds[-1]} seeds"
    if not pairs:
        return note
    return f"{note}; the interval leaves out how trainings of {pairs} vary, of which there is one"


def _stated_bound(claim: Mapping[str, Any], reference: Reference) -> float | None:
    """The number with which a count compares each row; of another claim that of its rule, where it states one."""
    evidence = claim.get("evidence", {})
    bound = next((side[key] for side in (evidence, claim) for key in ("above", "below") if key in side), None)
    return None if bound is None else reference.evaluate(bound)


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


def _count_cells(evidence: Evidence, bound: float) -> dict[str, int]:
    """How many cells are above, below and not decided by their own intervals, and how many listed cells are missing."""
    bounds = [(cell["low"], cell["high"]) for cell in evidence.cells]
    counts = {"above": sum(low > bound for low, _ in bounds), "below": sum(high < bound for _, high in bounds)}
    return counts | {"undecided": len(bounds) - sum(counts.values()), "missing": evidence.missing_count}


def _detectable(estimate: Estimate | None) -> float | None:
    """The smallest true difference from the bound that this interval would leave out in four of five runs."""
    if estimate is None or estimate.spread is None:
        return None
    return round(estimate.spread.half_width() + estimate.spread.error * float(norm.ppf(POWER)), 4)


def _beside(
    claim: Mapping[str, Any], key: str, reference: Reference, evidence: Evidence | None = None
) -> dict[str, Any] | None:
    """A value of somebody else, or of an earlier version of the paper, with a note; and its size, with `evidence`."""
    entry = claim.get(key)
    if entry is None:
        return None
    value = reference.evaluate(entry["value"])
    size = {} if evidence is None else {"size": _size(claim, evidence, value)}
    unit = entry.get("unit", claim["unit"])
    return {"value": round(value, 4), "unit": unit, "note": entry["note"], **size}


if __name__ == "__main__":
    sys.exit(main())
