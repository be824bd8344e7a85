"""The test bed of a scale: its jobs, its checks, and its tables among those of the scale."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.world.items import WORLD_WORD
from c2c.errors import RefusedError
from c2c.testbed.tasks.tasks import TASKS
from workflow.kinds.testbed import (
    REDACTED,
    WORLD_TASK,
    bed_jobs,
    is_benchmark,
    item_settings,
    with_bed_artefacts,
)
from workflow.load import load_settings

ROOT = Path(__file__).resolve().parents[2]
Config = Callable[[str], dict[str, Any]]


def test_tasks_of_the_workflow_are_tasks_that_can_be_made(config_of: Config) -> None:
    assert WORLD_WORD.name == WORLD_TASK
    assert set(REDACTED) <= {*TASKS, WORLD_TASK}
    for scale in ("smoke", "laptop"):
        settings = load_settings(config_of(scale), ROOT)
        tasks = settings.config["testbed"]["tasks"]
        assert {task for task in tasks if not is_benchmark(settings, task)} <= {*TASKS, WORLD_TASK}


def test_each_pair_task_and_seed_is_one_job(config_of: Config) -> None:
    settings = load_settings(config_of("laptop"), ROOT)
    entries = settings.config["testbed"]["entries"]
    jobs = bed_jobs(settings)
    assert len(jobs) == sum(len(entry["tasks"]) * len(entry["seeds"]) for entry in entries)
    assert len({job.path for job in jobs}) == len(jobs)


def test_a_job_gets_the_settings_of_its_own_channels_alone(config_of: Config) -> None:
    settings = load_settings(config_of("smoke"), ROOT)
    (job, *_) = bed_jobs(settings)
    assert json.loads(job.settings) == {
        name: settings.config["testbed"]["settings"][name] for name in ("c2c", "c2c_on_ridge", "latent", "concept")
    }


def test_tables_of_a_test_bed_join_those_of_its_scale_once(config_of: Config) -> None:
    config = config_of("laptop")
    tables = with_bed_artefacts(config)["artefacts"]["tables"]
    assert tables == [*config["artefacts"]["tables"], *config["testbed"]["tables"]]
    assert with_bed_artefacts(with_bed_artefacts(config)) == with_bed_artefacts(config)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"entries": [{"pair": "nobody", "tasks": ["redacted_word"], "channels": ["c2c"], "seeds": [0]}]}, "The pair"),
        ({"entries": [{"pair": "words", "tasks": ["redacted"], "channels": ["c2c"], "seeds": [0]}]}, "A task"),
        ({"settings": {"c2": {"steps": 1}}}, "A channel in testbed.settings"),
        (
            {
                "entries": [
                    {
                        "pair": "words",
                        "tasks": ["redacted_word"],
                        "channels": ["c2c"],
                        "seeds": [0],
                        "settings": {"ridge": {}},
                    }
                ]
            },
            "A channel in settings of an entry",
        ),
        (
            {
                "tasks": {"arc_easy_text": {"test": 4, "train": 4, "validation": 4}},
                "entries": [{"pair": "words", "tasks": ["arc_easy_text"], "channels": ["c2c"], "seeds": [0]}],
            },
            "plain prompts and a training set of questions",
        ),
        (
            {
                "tasks": {"arc_easy_text": {"test": 4, "train": 4, "validation": 4, "texts_of_a_head": 2}},
                "entries": [
                    {"pair": "smollm2_from_coder", "tasks": ["arc_easy_text"], "channels": ["c2c"], "seeds": [0]}
                ],
            },
            "must be left out of a benchmark",
        ),
        (
            {"entries": 2 * [{"pair": "words", "tasks": ["redacted_word"], "channels": ["c2c"], "seeds": [0]}]},
            "named once",
        ),
    ],
)
def test_a_test_bed_that_cannot_run_is_refused_before_any_job(config_of: Config, change: Any, rule: str) -> None:
    config = config_of("laptop")
    config["testbed"] |= {"settings": {}} | change
    with pytest.raises(RefusedError, match=rule):
        load_settings(config, ROOT)


def test_settings_of_an_entry_come_before_those_of_the_block(config_of: Config) -> None:
    config = config_of("laptop")
    entry = {"pair": "smollm2_from_coder", "tasks": ["arc_easy_text"], "channels": ["ridge", "c2c"], "seeds": [0]}
    config["testbed"] |= {
        "tasks": {"arc_easy_text": {"test": 100, "train": 300, "validation": 60}},
        "entries": [entry | {"settings": {"c2c": {"steps": 7}}}],
        "settings": {"c2c": {"steps": 200, "width": 64}},
    }
    settings = load_settings(config, ROOT)
    (job,) = bed_jobs(settings)
    assert json.loads(job.settings) == {"c2c": {"steps": 7, "width": 64}}
    assert is_benchmark(settings, job.task)
    assert item_settings(settings, job.task) == {"test": 100, "train": 300, "validation": 60}


@pytest.mark.slow
def test_the_redacted_target_plans_the_two_redacted_tasks_alone(
    run_snakemake: Callable[..., Any], config_of: Config
) -> None:
    planned = run_snakemake("--profile", "laptop", "--dry-run", "--nolock", "--forceall", "redacted")
    assert planned.returncode == 0, planned.stdout
    assert "redacted_code" in planned.stdout
    counts = planned.stdout.split("Job stats:")[1]
    jobs = [job for job in bed_jobs(load_settings(config_of("laptop"), ROOT)) if job.task in REDACTED]
    assert re.search(rf"^measure_channels +{len(jobs)}$", counts, re.MULTILINE)
    assert "train_fuser" not in counts
