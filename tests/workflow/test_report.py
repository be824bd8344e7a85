"""Properties of the report's first page."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import jinja2
import pytest

from workflow.load import load_settings
from workflow.paths import ROOT
from workflow.scales import read_config
from workflow.settings import Settings
from workflow.write_report import TRAININGS, trainings_in_words


@pytest.fixture
def settings() -> Settings:
    return load_settings(read_config("smoke"))


def test_trainings_are_named_by_titles_and_seeds_are_counted(settings: Settings) -> None:
    lines = trainings_in_words(settings)
    assert lines[0].startswith("Pair A: C2C, 3 seeds; Adapter, 3 seeds; Project, 1 seed;")
    assert "Pair B: C2C, 1 seed; C2C, alignment longest, 1 seed; Adapter, 1 seed" in lines
    assert not any("_" in line for line in lines)


def test_a_lean_run_says_one_seed_of_each_training(settings: Settings) -> None:
    lean = dataclasses.replace(settings, config={**settings.config, "lean": True})
    assert "seeds" not in " ".join(trainings_in_words(lean))


def test_the_first_page_prints_every_training(settings: Settings) -> None:
    text = (ROOT / "workflow/report/workflow.rst").read_text(encoding="utf-8")
    lines = trainings_in_words(settings)
    config = {**settings.config, TRAININGS: lines}
    page = jinja2.Template(text, undefined=jinja2.StrictUndefined).render(snakemake=SimpleNamespace(config=config))
    assert all(f"* {line}\n" in page for line in lines)
    assert "gap_a" not in page and "recipe c2c" not in page
