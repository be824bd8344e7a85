"""Which revision a run asks for, what it says at its start, and when it does not start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from c2c.errors import RefusedError
from c2c.models import hub
from paper.reading.commits import COMMIT, TABLES
from workflow.data import load_benchmarks
from workflow.holders import read_holders
from workflow.hub_inputs import check_mirrored, check_start, hub_inputs, warning
from workflow.load import load_settings
from workflow.revisions import asked_revision
from workflow.validation import read_table

ROOT = Path(__file__).resolve().parents[2]
ConfigOf = Callable[[str], dict[str, Any]]
BOOK = {"hub_id": "allenai/openbookqa", "revision": "a" * 40}


def folder_of(mirror: Path, hub_id: str, commit: str = "") -> None:
    """A mirrored folder that says of which commit it is, or says nothing."""
    notes = mirror / hub_id / hub.DOWNLOADS
    notes.mkdir(parents=True)
    if commit:
        (notes / "x.metadata").write_text(f"{commit}\netag\n1.0\n")


def test_rows_of_one_repository_are_pinned_alike_and_what_is_public_knowledge_is_pinned() -> None:
    tables = [read_table(ROOT / "config" / f"{table}.tsv") for table in TABLES if table != "benchmarks"]
    rows = [row for table in [*tables, load_benchmarks(ROOT)] for row in table.values() if row["hub_id"]]
    revisions: dict[str, set[str]] = {}
    for row in rows:
        revisions.setdefault(row["hub_id"], set()).add(row["revision"])
    assert not {hub_id: found for hub_id, found in revisions.items() if len(found) > 1}
    pinned = {row["hub_id"] for row in rows if COMMIT.fullmatch(row["revision"])}
    assert {"nics-efc/C2C_Fuser", "Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B", "allenai/openbookqa", "allenai/ai2_arc"} <= pinned


def test_what_a_scale_takes_from_the_hub_is_told_once_with_what_is_not_pinned(config_of: ConfigOf) -> None:
    settings = load_settings(config_of("trial"), ROOT)
    assert [(each.table, each.name) for each in hub_inputs(settings)] == [
        ("models", "smollm2_135m"),
        ("models", "qwen25_coder_05b"),
        ("benchmarks", "openbookqa"),
        *(("training_sets", f"{name}_train") for name in ("arc_easy", "arc_challenge", "openbookqa")),
    ]
    said = warning(settings)
    assert said.startswith("2 of 6 inputs are not pinned to a commit: models smollm2_135m (main), models qwen25_coder")
    assert said.endswith("python -m workflow.pin")
    assert warning(load_settings(config_of("smoke"), ROOT)) == ""


def test_a_mirrored_folder_without_history_is_taken_and_told_where_the_config_allows_it(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path, "allenai/openbookqa")
    monkeypatch.setenv(hub.MIRRORS, str(tmp_path))
    assert asked_revision(BOOK, {"unpinned": True}) == "main"
    assert asked_revision(BOOK, {}) == asked_revision({**BOOK, "hub_id": "a/b"}, {"unpinned": True}) == "a" * 40
    config = config_of("trial")
    settings = load_settings(config, ROOT)
    assert settings.data.preparation("openbookqa")["revision"] == "main"
    assert warning(settings).startswith("4 of 6 inputs")
    with pytest.raises(RefusedError, match=r"must say that it is of the commit.*a folder without a commit.*unpinned"):
        load_settings({**config, "unpinned": False}, ROOT)


def test_a_mirrored_folder_of_the_commit_is_taken_and_of_another_refused(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings({**config_of("trial"), "unpinned": False}, ROOT)
    monkeypatch.setenv(hub.MIRRORS, f"{tmp_path / 'right'}:{tmp_path / 'wrong'}")
    folder_of(tmp_path / "right", "allenai/openbookqa", settings.benchmarks["openbookqa"]["revision"])
    check_mirrored(settings)
    folder_of(tmp_path / "wrong", "allenai/ai2_arc", "b" * 40)
    with pytest.raises(RefusedError, match=rf"config/training_sets\.tsv names; received '.*ai2_arc: {'b' * 40}"):
        check_mirrored(settings)


def test_a_run_of_the_papers_scale_starts_from_commits_or_says_that_nobody_will_cite_it(config_of: ConfigOf) -> None:
    config = config_of("paper")
    with pytest.raises(RefusedError, match=r"must start from commits.*models llama32_1b \(main\).*unpinned: true"):
        check_start(load_settings(config, ROOT))
    artefacts = {**config["artefacts"], "paper": False}
    check_start(load_settings({**config, "unpinned": True, "artefacts": artefacts}, ROOT))
    check_start(load_settings({**config_of("trial"), "unpinned": False}, ROOT))


def test_a_real_run_of_the_papers_scale_is_refused_before_its_first_job_and_leaves_no_lock(
    run_snakemake: Callable[..., Any],
) -> None:
    target = "results/paper/models/qwen3_14b.json"
    done = run_snakemake("--cores", "1", target, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode != 0 and "must start from commits" in done.stdout, done.stdout
    assert "Traceback" not in done.stdout and not (ROOT / "results/paper/logs/fetch_model").exists()
    assert done.stdout.count("inputs are not pinned") == 1
    # Other tests may plan in this folder at the same time.
    assert not list((ROOT / ".snakemake/locks").glob("*"))
    assert all(holder.running for holder in read_holders(ROOT).values())
    assert run_snakemake("--cores", "1", target, "--dry-run").returncode == 0
