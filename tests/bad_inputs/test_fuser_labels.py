"""Labels of a fuser, which records carry, that are not those that its folder names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from c2c.analysis.run import AnalysisRun
from c2c.cli.main import main
from c2c.evaluation.generate import GenerationRun
from c2c.evaluation.latency import LatencyRun
from c2c.evaluation.run import EvaluationRun
from tests.bad_inputs.refusals import refused

ABOUT = {"recipe": "c2c", "alignment": "span", "seed": 0}
LABELS: dict[str, Any] = dict(ABOUT)
REMEDY = "Pass --recipe c2c --alignment span --seed 0"
WRONG = {
    "a recipe with a typo": ({"recipe": "c2x"}, "recipe 'c2x', not 'c2c'"),
    "another recipe": ({"recipe": "adapter"}, "recipe 'adapter', not 'c2c'"),
    "a step of Fusers that were trained to the end": ({"recipe": "c2c@50"}, "recipe 'c2c@50', not 'c2c'"),
    "another alignment": ({"alignment": "longest"}, "alignment 'longest', not 'span'"),
    "another seed": ({"seed": 1}, "seed 1, not 0"),
}
MISSING = {
    "no recipe": ({"recipe": ""}, "recipe '', not 'c2c'"),
    "no alignment": ({"alignment": ""}, "alignment '', not 'span'"),
    "no seed": ({"seed": None}, "seed None, not 0"),
}


def fuser(folder: Path, about: Any, name: str = "fuser") -> str:
    """A folder of which only what it says about itself is read."""
    (folder / name).mkdir()
    (folder / name / "config.json").write_text(json.dumps({"about": about}))
    return str(folder / name)


@pytest.fixture
def asked(tmp_path) -> dict[str, Any]:
    return {"scale": "s", "pair": "p", "receiver": "nowhere", "tasks": tmp_path, "output": tmp_path / "records.parquet"}


def build_run(kind: type[EvaluationRun], asked: dict[str, Any], folder: str, labels: dict[str, Any]) -> EvaluationRun:
    own = {"methods": ("c2c",)} if kind is not AnalysisRun else {}
    benchmarks = {"choice": Path("nowhere.jsonl")}
    return kind(**asked, **own, sharers=["nowhere"], benchmarks=benchmarks, fusers=[folder], **labels)


@pytest.mark.parametrize("kind", [GenerationRun, LatencyRun, AnalysisRun])
@pytest.mark.parametrize(("labels", "words"), [*WRONG.values(), *MISSING.values()], ids=[*WRONG, *MISSING])
def test_labels_that_are_not_those_of_the_folder_are_refused_before_a_model_is_loaded(
    asked, tmp_path, kind, labels, words
) -> None:
    folder = fuser(tmp_path, ABOUT)
    build_run(kind, asked, folder, LABELS)
    with refused(words, REMEDY):
        build_run(kind, asked, folder, LABELS | labels)


@pytest.mark.parametrize(
    ("about", "labels"),
    [
        ({}, {"recipe": "anything", "seed": 7}),
        ({"alignment": "span"}, LABELS | {"seed": 7}),
        ({"recipe": None, "seed": None}, LABELS),
        ({**ABOUT, "step": 50}, LABELS | {"recipe": "c2c@50"}),
        ({**ABOUT, "recipe": "latent"}, LABELS | {"recipe": "latent"}),
    ],
    ids=["an old folder", "one that names no seed", "one that names nothing", "kept Fusers", "latent Fusers"],
)
def test_labels_that_the_folder_names_or_does_not_name_are_taken(asked, tmp_path, about, labels) -> None:
    build_run(GenerationRun, asked, fuser(tmp_path, about), labels)


@pytest.mark.parametrize("recipe", ["c2c", "c2c@25", "adapter@50"])
def test_kept_fusers_are_named_with_their_step(asked, tmp_path, recipe) -> None:
    folder = fuser(tmp_path, {**ABOUT, "step": 50})
    with refused(f"recipe '{recipe}', not 'c2c@50'", "--recipe c2c@50"):
        build_run(GenerationRun, asked, folder, LABELS | {"recipe": recipe})


def test_a_run_without_a_fused_method_needs_no_label_of_the_fuser(asked, tmp_path) -> None:
    folder = fuser(tmp_path, ABOUT)
    labels = {"recipe": "single", "seed": 3}
    GenerationRun(**asked | {"methods": ("receiver",)}, sharers=["nowhere"], benchmarks={}, fusers=[folder], **labels)


def test_published_fusers_go_with_any_label(asked, tmp_path) -> None:
    folder = fuser(tmp_path, ABOUT)
    (Path(folder) / "projector_config.json").write_text("{}")
    build_run(GenerationRun, asked, folder, {"recipe": "released"})


@pytest.fixture
def group(asked) -> Callable[..., GenerationRun]:
    def build(fusers: list[str], **labels: Any) -> GenerationRun:
        models = {"sharers": ["a", "b"], "fusers": fusers, "methods": ("c2c",), "benchmarks": {}}
        return GenerationRun(**asked, **models, **LABELS | labels)

    return build


def test_labels_of_a_group_are_held_against_the_fusers_of_each_sharer(group, tmp_path) -> None:
    first, second = fuser(tmp_path, ABOUT), fuser(tmp_path, {**ABOUT, "seed": 1}, "second")
    group([first, first])
    for fusers in ([first, second], [second, first]):
        with refused("seed 0, not 1", "--seed 1"):
            group(fusers)
    for labels, words in (({"recipe": "latent"}, "recipe 'latent', not 'c2c'"), ({"alignment": "first"}, "'first'")):
        with refused(words, REMEDY):
            group([first, first], **labels)
    latent = fuser(tmp_path, {**ABOUT, "recipe": "latent"}, "latent")
    group([latent, latent], recipe="latent")
    with refused("recipe 'c2c', not 'latent'", "--recipe latent"):
        group([latent, latent])


def test_the_command_refuses_in_one_line_and_writes_nothing(tmp_path, capsys) -> None:
    folder, output = fuser(tmp_path, ABOUT), tmp_path / "out" / "records.parquet"
    questions = tmp_path / "free.jsonl"
    questions.touch()
    command = f"generate --scale s --pair p --receiver a --sharer b --methods c2c --tasks {tmp_path} --benchmarks"
    command += f" free={questions} --fuser {folder} --recipe c2c --alignment spam --seed 0 --output {output}"
    assert main(command.split()) == 2
    assert REMEDY in capsys.readouterr().err
    assert not output.exists()
