"""The guide to a benchmark of one's own: its files are all that is written, and bad ones are refused before any job."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from c2c.errors import RefusedError
from paper.reading import names
from workflow.load import load_settings

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guides" / "your-own-benchmark.md"


def block(language: str, number: int = 0) -> str:
    """A block of the guide."""
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), flags=re.MULTILINE | re.DOTALL)[number]


@pytest.fixture
def config(root: Path, config_of: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The smoke scale with the guide's config over it, and the guide's files below the root."""
    folder = root / "mine" / "fruit"
    folder.mkdir(parents=True)
    (folder / "questions.jsonl").write_text(block("json"))
    (folder / "fruit.yaml").write_text(block("yaml"))
    config = config_of("smoke")
    update_config(config, yaml.safe_load((ROOT / "config" / "smoke_reduced.yaml").read_text()))
    update_config(config, yaml.safe_load(block("yaml", 1)))
    return config


def test_the_files_of_the_guide_are_a_benchmark_that_each_pair_is_asked(root: Path, config: dict[str, Any]) -> None:
    settings = load_settings(config, root)
    assert settings.tasks("gap_a") == ["knowledge_gap_free", "fruit"]
    assert settings.data.task_files("fruit") == ["<results>/data/benchmarks/fruit.yaml"]
    assert settings.data.scoring_of("fruit") == "text"


def test_a_title_is_what_tables_and_figures_print(
    root: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "mine" / "fruit" / "fruit.yaml"
    files = load_settings(config, root).data.titled_files
    assert files == [str(path)]
    # The workflow names the files to its jobs in this variable.
    monkeypatch.setenv(names.BENCHMARK_FILES, os.pathsep.join(files))
    names.read_names.cache_clear()
    try:
        assert names.title("benchmarks", "fruit") == "Fruit"
        assert names.title("benchmarks", "fruit_letter").startswith("Fruit (")
        assert names.in_order("benchmarks", ["fruit", "arc_easy"]) == ["arc_easy", "fruit"]
        assert names.files() == [names.PATH, path]
    finally:
        monkeypatch.undo()
        names.read_names.cache_clear()
    path.write_text(path.read_text().replace("  title: Fruit\n", ""))
    assert load_settings(config, root).data.titled_files == []
    assert names.title("benchmarks", "fruit") == "fruit"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('doc_to_txt: "{{question}}"', r"A key of .*fruit\.yaml must be a known name.*Did you mean 'doc_to_text'"),
        ('doc_to_text: "{{qestion}}"', r"received 'qestion'\. Did you mean 'question'"),
        ("metadata: {source: file, scorings: [math]}", "must name only letter, logits, text, exact, .*received 'math'"),
        (
            "metadata: {source: file, scorings: [txt]}",
            r"/fruit/fruit\.yaml: metadata\.scorings\.0 must be a known name; received 'txt'\. Did you mean 'text'",
        ),
    ],
)
def test_a_mistake_in_the_yaml_file_is_refused_before_any_job(
    root: Path, config: dict[str, Any], content: str, message: str
) -> None:
    path = root / "mine" / "fruit" / "fruit.yaml"
    path.write_text(content + "\n" + ("" if "metadata" in content else path.read_text()))
    with pytest.raises(RefusedError, match=message):
        load_settings(config, root)


def test_several_scorings_are_a_task_each(root: Path, config: dict[str, Any]) -> None:
    path = root / "mine" / "fruit" / "fruit.yaml"
    path.write_text(path.read_text().replace("[text]", "[letter, text]"))
    config["benchmarks"] = ["fruit_letter", "fruit_text"]
    assert load_settings(config, root).data.own_tasks == ["fruit_letter", "fruit_text"]


def test_a_prompt_of_ones_own_is_taken_as_the_guide_has_it(root: Path, config: dict[str, Any]) -> None:
    (root / "mine" / "fruit" / "fruit.yaml").write_text(block("yaml", 2))
    task = load_settings(config, root).data.task_config("fruit", root / "benchmarks" / "tasks")
    assert task["doc_to_text"] == "{{question}} The answer is" and "gen_prefix" not in task
    assert task["generation_kwargs"]["max_gen_toks"] == 32


def test_a_bad_line_is_refused_before_any_job_as_the_guide_says(root: Path, config: dict[str, Any]) -> None:
    path = root / "mine" / "fruit" / "questions.jsonl"
    path.write_text(path.read_text().replace('"answer": "coconut"', '"answer": "E"'))
    with pytest.raises(RefusedError, match=r"Line 2 of .*questions\.jsonl must have in 'answer' a letter from A to D"):
        load_settings(config, root)
    (line,) = re.findall(r"^Line 2 of mine.*?received 'E'\.", block("text", 1), flags=re.MULTILINE)
    assert "must have in 'answer' a letter from A to D or the text of an option" in line


def test_a_folder_of_benchmarks_that_is_not_there_is_refused(root: Path, config: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match=r"A folder of benchmarks must exist; received .*yours"):
        load_settings({**config, "benchmark_folders": ["yours"]}, root)


def add_training_set(root: Path, path: str, source: str = "file") -> None:
    """A row of a training set in the table, which the pair of the guide learns from."""
    table = root / "config" / "training_sets.tsv"
    columns = table.read_text().split("\n")[0].split("\t")
    cells = {"training_set": "own", "source": source, "path": path, "asked_as": "text", "validation": "1"}
    row = "\t".join({**cells, "description": "own"}.get(column, "") for column in columns)
    table.write_text(f"{table.read_text()}{row}\n")
    pairs = root / "config" / "pairs.tsv"
    pairs.write_text(
        pairs.read_text().replace("gap_receiver_a\tgap_sharer\tknowledge_gap", "gap_receiver_a\tgap_sharer\town")
    )


def test_a_training_set_is_a_row_with_the_path_of_a_file(root: Path, config: dict[str, Any]) -> None:
    add_training_set(root, "mine/fruit/questions.jsonl")
    data = load_settings(config, root).data
    assert data.sources("own") == ["file=mine/fruit/questions.jsonl"]
    assert data.files("own") == ["mine/fruit/questions.jsonl"]


@pytest.mark.parametrize(
    ("path", "source", "message"),
    [
        ("mine/none.jsonl", "file", "The path of training set 'own' must be a file"),
        ("", "file", "with source file, and no other, must name a path"),
        ("mine/fruit/questions.jsonl", "hub", "with source file, and no other, must name a path"),
    ],
)
def test_a_training_set_without_its_file_is_refused(
    root: Path, config: dict[str, Any], path: str, source: str, message: str
) -> None:
    add_training_set(root, path, source)
    with pytest.raises(RefusedError, match=message):
        load_settings(config, root)
