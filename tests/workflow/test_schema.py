"""What is generated from the settings' dataclasses: the schema of the config, and the tables of keys in its README."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from c2c.errors import RefusedError
from c2c.settings import as_json, rule_of
from c2c.training.config import TrainingConfig
from workflow import schema
from workflow.config import training_defaults
from workflow.load import load_settings

Merged = Callable[[str], dict[str, Any]]
ROOT = Path(__file__).resolve().parents[2]
SET_BY_RECIPE_RUN_OR_SCALE = ["variant", "sharer_cache", "response", "dtype", "alignment", "prompts", "seed"]


@pytest.mark.parametrize("name", [schema.SCHEMA, schema.README, schema.REPLICATION])
def test_a_generated_file_is_in_step_with_the_dataclasses(name: str) -> None:
    assert (ROOT / name).read_text() == schema.texts(ROOT)[name], f"Run {schema.COMMAND}"


def test_each_key_of_the_config_is_a_row_of_one_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", schema.key_tables({}), re.MULTILINE)
    assert {"scale", "micro_batch_size", "keep_steps", "token_budget", "embedding_rate", "private_line"} <= set(rows)


def test_no_cell_of_the_tables_is_longer_than_200_characters() -> None:
    text = (ROOT / schema.README).read_text()
    assert [cell for line in text.splitlines() for cell in line.split(" | ") if len(cell) > 200] == []


def test_every_setting_of_a_training_stands_in_the_config_or_follows_from_something_else() -> None:
    settings = {item.name: rule_of(item).block for item in fields(TrainingConfig)}
    assert [name for name, block in settings.items() if block is None] == SET_BY_RECIPE_RUN_OR_SCALE
    assert set(training_defaults()) == {name for name, block in settings.items() if block in ("fuser", "training")}


def test_a_setting_that_a_config_leaves_out_has_the_default_of_its_dataclass(config_of: Merged) -> None:
    config = config_of("smoke")
    del config["training"]["warmup_ratio"], config["fuser"]["num_layers"]
    training = load_settings(config, ROOT).training
    assert (training["warmup_ratio"], training["num_layers"], training["keep"]) == (0.1, 3, "last")


def test_the_papers_scale_has_the_papers_settings(config_of: Merged) -> None:
    training = load_settings(config_of("paper"), ROOT).training
    paper = asdict(TrainingConfig())
    differ = {name for name, value in paper.items() if training.get(name, value) != as_json(value)}
    assert differ == {"dtype", "micro_batch_size", "checkpoint_every"}


def test_a_readme_without_a_place_for_the_tables_is_refused() -> None:
    with pytest.raises(RefusedError, match="must have one place for its tables"):
        schema.between("# Config\n", schema.BEGIN, schema.END, "")


def test_the_schema_is_one_that_editors_can_read() -> None:
    text = yaml.safe_load((ROOT / schema.SCHEMA).read_text())
    assert text["properties"]["training"]["properties"]["steps"] == {
        "description": "optimiser steps",
        "type": "integer",
        "minimum": 1,
        "maximum": 10**8,
        "default": 1929,
    }
