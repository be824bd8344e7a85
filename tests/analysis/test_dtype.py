"""The precision of a run is that of each analysis: its flag is taken, noted, and seen in what comes out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from c2c.cli.main import main
from c2c.evaluation.schema import read_records

FUSED = ["effective-rank", "tsne", "partial"]
OUTPUTS = {
    "effective-rank": "ranks.csv",
    "tsne": "points.csv",
    "partial": "records.parquet",
    "enrichment": "records.parquet",
}


def more(kind: str, folder: Path, examples: Path) -> list[str]:
    """The flags that only one kind has."""
    tsne = ["--training-questions", "3", "--perplexity", "4", "--iterations", "250", "--hidden", "8", "--steps", "5"]
    return {
        "effective-rank": [],
        "tsne": [*tsne, "--clouds", str(folder / "clouds.csv")],
        "partial": ["--shares", "0", "1"],
        "enrichment": ["--examples", str(examples), "--shots", "1", "--most", "1", "--orders", str(folder / "o.csv")],
    }[kind]


@pytest.fixture
def outcome(fused_settings, examples, tmp_path):
    """Runs one kind of analysis in one precision, and gives what it wrote and what its provenance says."""

    def run(kind: str, dtype: str) -> tuple[str, str]:
        folder, given = tmp_path / f"{kind}-{dtype}", fused_settings
        folder.mkdir()
        output, count = folder / OUTPUTS[kind], "5" if kind == "tsne" else "8"
        command = ["analyse", kind, "--scale", "smoke", "--pair", "tiny", "--questions", count]
        command += ["--benchmark", f"choice={given['benchmarks']['choice']}", "--tasks", str(given["tasks"])]
        command += ["--receiver", given["receiver"], "--sharer", *given["sharers"], "--output", str(output)]
        if kind in FUSED:
            fuser = {"fuser": given["fusers"][0], "recipe": "c2c", "alignment": "span", "seed": 0}
            command += [part for name, value in fuser.items() for part in (f"--{name}", str(value))]
        command += [*more(kind, folder, examples), "--token-budget", "300", "--dtype", dtype]
        assert main(command) == 0
        told = json.loads(output.with_name(f"{output.name}.provenance.json").read_text())["settings"]["dtype"]
        if output.suffix == ".csv":
            return output.read_text(), told
        return str([list(scores) for scores in read_records([output])["choice_scores"]]), told

    return run


@pytest.mark.parametrize("kind", list(OUTPUTS))
def test_an_analysis_runs_the_models_in_the_precision_that_it_is_given(outcome, kind) -> None:
    (exact, named), (reduced, other) = outcome(kind, "float32"), outcome(kind, "bfloat16")
    assert (named, other) == ("float32", "bfloat16")
    assert exact != reduced
