"""`protocol: released`: the tasks, the training sets and the plan of a config with the prompts of the released code."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from c2c.errors import RefusedError
from workflow.kinds.registry import answer_jobs
from workflow.kinds.released_prompts import released_prompts_answers
from workflow.kinds.testbed import with_bed_artefacts
from workflow.load import load_settings

ROOT = Path(__file__).resolve().parents[2]
Merged = Callable[[str], dict[str, Any]]
Runner = Callable[..., "subprocess.CompletedProcess[str]"]


def test_with_the_released_protocol_each_task_of_the_config_is_the_one_with_the_released_prompts(
    config_of: Merged,
) -> None:
    settings = load_settings({**config_of("paper"), "protocol": "released"}, ROOT)
    assert all(task.endswith("_released") for task in settings.config["benchmarks"])
    assert all(task.endswith("_released") for task in settings.config["latency"]["benchmarks"])
    asked = {kind: block["benchmark"] for kind, block in settings.config["analysis"].items()}
    assert asked.pop("enrichment") == "mmlu_redux_logits_oracle_released"
    assert set(asked.values()) == {"mmlu_redux_letter_released"}
    assert {task for job in answer_jobs(settings) for task in job.tasks} == set(settings.config["benchmarks"])
    assert settings.data.scoring_of("mmlu_redux_letter_released") == "letter"
    assert settings.data.scoring_of("mmlu_redux_logits_oracle_released") == "logits"
    # A config that names the released tasks already is not changed, as a job that reads it again needs.
    assert load_settings(settings.config, ROOT).config == settings.config


def test_with_the_released_protocol_questions_are_learned_in_the_released_words(config_of: Merged) -> None:
    ours = load_settings(config_of("paper"), ROOT).data
    data = load_settings({**config_of("paper"), "protocol": "released"}, ROOT).data
    assert data.asking("mmlu_aux")["protocol"] == "released" and "protocol" not in ours.asking("mmlu_aux")
    assert "protocol" not in data.asking("openhermes")
    assert [Path(path).name for path in data.prompt_files("mmlu_aux")] == ["released_training.yaml"]
    assert "released" not in " ".join(ours.prompt_files("mmlu_aux"))


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_other_protocols_leave_every_task_of_a_config_as_it_is(config_of: Merged, scale: str) -> None:
    for protocol in ("corrected", "paper"):
        config = {**config_of(scale), "protocol": protocol}
        assert load_settings(config, ROOT).config == with_bed_artefacts(config)


def test_a_run_can_answer_with_the_released_prompts_too_and_its_models_do_so_alone(config_of: Merged) -> None:
    settings = load_settings(config_of("paper"), ROOT)
    jobs = released_prompts_answers(settings)
    alone, *fused = jobs
    assert (alone.path, alone.methods) == (
        "records/qwen3_from_qwen25/baselines.released_prompts",
        ("receiver", "sharer"),
    )
    answered = {(job.options["recipe"], job.options["alignment"]) for job in fused}
    assert answered == {(recipe, alignment) for recipe in ("c2c", "adapter") for alignment in ("span", "unaligned")}
    for job in fused:
        assert job.methods == ("c2c",) and job.fusers == (job.path.replace("records", "fusers").partition(".")[0],)
    for job in jobs:
        assert (
            all(task.endswith("_letter_released") for task in job.tasks) and len(job.tasks) == len(job.questions) == 4
        )
    # No other job, and so no other record, has a task with the released prompts.
    others = [job for job in answer_jobs(settings) if job not in jobs]
    assert not any(task.endswith("_released") for job in others for task in job.tasks)


def test_a_scale_of_figure_7_with_the_released_protocol_compares_logits_in_the_released_prompts(
    config_of: Merged,
) -> None:
    runs = [
        {key: value for key, value in run.items() if key != "same_answer"} for run in config_of("paper")["runs"]
        if run["pair"] in ("qwen3_from_qwen25_math_mmlu", "qwen3_from_qwen3_4b_mmlu")
        and run["recipe"] in ("c2c", "projected")
    ]  # fmt: skip
    changes = {key: [] for key in ("single", "agents", "groups", "latent", "released")}
    changes |= {"latency": None, "analysis": None, "protocol": "released", "runs": runs}
    changes |= {"artefacts": {"tables": ["venn"], "figures": ["venn"], "paper": False}}
    settings = load_settings({**config_of("paper"), **changes, "benchmarks": ["mmlu_redux_logits"]}, ROOT)
    jobs = answer_jobs(settings)
    assert {task for job in jobs for task in job.tasks} == {"mmlu_redux_logits_released"}
    assert {job.options["recipe"] for job in jobs if job.fusers} == {"c2c", "projected"}


def test_with_the_released_protocol_no_run_is_asked_with_its_prompts_twice(config_of: Merged) -> None:
    assert not released_prompts_answers(load_settings({**config_of("paper"), "protocol": "released"}, ROOT))


def test_a_run_with_released_prompts_that_none_of_its_tasks_has_is_refused(config_of: Merged) -> None:
    config = config_of("smoke")
    config["runs"][0]["released_prompts"] = True
    with pytest.raises(RefusedError, match="must have a task with the released prompts; received 'knowledge_gap_free"):
        load_settings(config, ROOT)


def test_a_reduced_run_with_the_released_protocol_plans_table_4(tmp_path: Path, run_snakemake: Runner) -> None:
    config = tmp_path / "released.yaml"
    pair = {"pair": "qwen3_from_qwen25", "alignment": "span", "seeds": [0]}
    content = {
        "scale": "released_reduced",
        "protocol": "released",
        "sample": 8,
        "benchmarks": ["mmlu_redux_letter", "openbookqa_letter", "arc_challenge_letter", "ceval_letter"],
        "runs": [{**pair, "recipe": recipe} for recipe in ("c2c", "adapter")],
        **{key: [] for key in ("single", "agents", "groups", "latent", "released")},
        **{"latency": None, "analysis": None, "gpus_per_job": 0},
        "artefacts": {"tables": ["main", "published"], "figures": [], "paper": False},
    }
    config.write_text(yaml.safe_dump(content))
    planned = ["--cores", "1", "--configfile", "config/config.yaml", str(config), "--dry-run", "--nolock", "--forceall"]
    done = run_snakemake(*planned, "--printshellcmds", "table4")
    assert done.returncode == 0, done.stdout
    answers = [line for line in done.stdout.splitlines() if "c2c generate" in line]
    assert len(answers) == 3 and all("ceval_letter_released=" in line for line in answers)
    assert re.search(r"paper\.tables\.published .*--protocol released", done.stdout), done.stdout[-3000:]


def test_the_paper_scale_with_the_released_protocol_plans_every_cell_of_table_4_with_released_prompts(
    run_snakemake: Runner,
) -> None:
    config = ["--configfile", "config/config.yaml", "--config", "protocol=released", "scale=paper_released"]
    done = run_snakemake("--cores", "1", *config, "--dry-run", "--nolock", "--forceall", "--printshellcmds", "table4")
    assert done.returncode == 0, done.stdout[-3000:]
    answers = [line for line in done.stdout.splitlines() if "c2c generate" in line]
    # Methods by the file that they are written to, and the tasks of each command
    pairs = ("qwen3_from_qwen25", "qwen3_from_llama32", "qwen3_from_qwen3_4b_base")
    methods_of = {f"{pair}/baselines": ("receiver", "sharer", "routing", "t2t") for pair in pairs}
    methods_of |= {f"{pair}/c2c/span/seed{seed}": ("c2c",) for pair in pairs for seed in (42, 43, 44)}
    benchmarks = ("mmlu_redux", "openbookqa", "arc_challenge", "ceval")
    for path, methods in methods_of.items():
        (command,) = (line for line in answers if f"--output results/paper_released/records/{path}.parquet" in line)
        words = command.partition("--methods ")[2].partition(" --")[0].split()
        assert set(methods) <= set(words), path
        for benchmark in benchmarks:
            assert f" {benchmark}_letter_released=results/paper_released/data/benchmarks/{benchmark}.jsonl" in command
    # Nothing is asked with our own prompts, and questions are learned and prepared as the released code does it.
    tasks = [task for line in answers for task in re.findall(r" (\w+)=results/", line)]
    assert tasks and all(task.endswith("_released") for task in tasks)
    sets = [line for line in done.stdout.splitlines() if "prepare training-set" in line and "--asked-as" in line]
    assert sets and all("--protocol released" in line for line in sets)
    # Flags of the released recipe for OpenHermes
    (train,) = re.findall(r"c2c train .*--output \S+/qwen3_from_qwen25/c2c/unaligned/seed42 .*", done.stdout)
    for flag in (
        *("steps 1929", "batch-size 256", "learning-rate 0.0001", "weight-decay 0.01", "warmup-ratio 0.1"),
        *("max-gradient-norm 1.0", "max-length 2048", "hidden-dim 1024", "num-layers 3", "dropout 0.1"),
        *("initial-temperature 1.0", "final-temperature 0.001", "layer-alignment terminal", "seed 42"),
    ):
        assert f" --{flag} " in train


def test_with_the_released_protocol_the_enrichment_oracle_is_planned_as_in_the_released_script(
    run_snakemake: Runner,
) -> None:
    config = ["--configfile", "config/config.yaml", "--config", "protocol=released", "scale=paper_released"]
    done = run_snakemake("--cores", "1", *config, "--dry-run", "--nolock", "--forceall", "--printshellcmds", "table1")
    (command,) = (line for line in done.stdout.splitlines() if "c2c analyse enrichment" in line)
    for flag in ("benchmark mmlu_redux_logits_oracle_released=", "prompts plain", "shots 5"):
        assert f" --{flag}" in command
