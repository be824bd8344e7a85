from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from snakemake.utils import update_config

from c2c.errors import RefusedError
from paper.artefacts import Artefact
from paper.reading import names
from workflow import checks, data, hub_inputs
from workflow.checks import check_mirrors
from workflow.hub_inputs import Input
from workflow.load import load_settings
from workflow.scales import basis_of, check_scale, read_config, read_config_file
from workflow.settings import FuserTraining, flags
from workflow.validation import read_table

ROOT = Path(__file__).resolve().parents[2]
SCALES = ("paper", "smoke", "laptop", "trial")
OPENHERMES = [{"pair": "qwen3_from_qwen25", "recipe": "c2c", "alignment": "span", "seeds": [42]}]
LATENT = {
    "latent": "gap_latent",
    "groups": ["gap_halves", "gap_halves_b"],
    "alignment": "span",
    "seeds": [0],
    "layers": 3,
    "heads": 4,
    "head_dim": 24,
}
"""The latent space of the smoke scale, but for its training."""
Config = dict[str, Any]
Merged = Callable[[str], Config]


def put(path: str, value: Any) -> Callable[[Config], None]:
    """A change of one value; numbers in the path are places in a list."""

    def change(config: Config) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        place: Any = config
        for part in parents:
            place = place[part]
        place[last] = value

    return change


def drop(key: str) -> Callable[[Config], None]:
    return lambda config: config.pop(key)


REFUSED = {
    "unknown key": (put("trainning", {}), r"known keys; received 'trainning'\. Did you mean 'training'\?"),
    "unknown key below": (put("training.learning_rat", 1), r"config\.training .*Did you mean 'learning_rate'\?"),
    "missing key": (drop("latency"), r"without latency.*Add 'latency'"),
    "no steps": (put("training.steps", 0), r"config\.training\.steps must be at least 1; received 0"),
    "negative rate": (put("training.learning_rate", -1e-4), r"learning_rate must be greater than 0; received -0\.0001"),
    "rate as text": (put("training.learning_rate", "1e-4"), r"learning_rate must be of type number; received '1e-4'"),
    "dropout of one": (put("fuser.dropout", 1.0), r"fuser\.dropout must be less than 1"),
    "shallow fuser": (put("fuser.num_layers", 2), r"num_layers must be at least 3"),
    "rising temperature": (put("fuser.final_temperature", 2.0), r"final_temperature must be at most .*received 2\.0"),
    "unknown alignment": (put("runs.0.alignment", "spam"), r"alignment must be a known name; .*Did you mean 'span'\?"),
    "unknown pair": (
        put("runs.0.pair", "gap_aa"),
        r"pair of a run must be a row of config/pairs\.tsv; received 'gap_aa'\. Did you mean 'gap_a'\?",
    ),
    "unknown recipe": (put("runs.0.recipe", "adaptor"), r"Did you mean 'adapter'\?.*recipes\.tsv"),
    "seed twice": (put("runs.0.seeds", [0, 0]), r"seeds must list nothing twice; received \[0, 0\]"),
    "negative seed": (put("runs.0.seeds", [-1]), r"seeds\.0 must be at least 0"),
    "no seed": (put("runs.0.seeds", []), r"seeds must list at least 1"),
    "no run": (put("runs", []), r"config\.runs must list at least 1"),
    "run twice": (lambda c: c["runs"].append(c["runs"][0]), r"be listed once in runs; received 'gap_a/c2c/span/seed0'"),
    "control without its c2c": (put("runs.1.seeds", [7]), r"adapter control .*gap_a/adapter/span/seed7.*same seeds"),
    "unknown benchmark": (put("benchmarks", ["knowledge_gap_fre"]), r"Did you mean 'knowledge_gap_free'\?"),
    "benchmark without its scoring": (put("benchmarks", ["openbookqa"]), r"Did you mean 'openbookqa_\w+'\?"),
    "unknown protocol": (put("protocol", "papers"), r"config\.protocol must be a known name; .*Did you mean 'paper'\?"),
    "sample of one": (put("sample", 1), r"config\.sample must be at least 2; received 1"),
    "hardly any context": (put("context_limit", 10), r"config\.context_limit must be at least 100"),
    "more failed questions than asked": (put("failed_share", 2), r"config\.failed_share must be at most 1"),
    "unknown baseline": (put("baselines", ["router"]), r"baselines\.0 must be a known name"),
    "weights kept by two rules": (
        lambda config: config["runs"][0].setdefault("training", {}).update(keep="best"),
        r"runs.*keep",
    ),
    "c2c timed twice": (
        put("latency.recipes", ["c2c"]),
        r"latency\.recipes must name other recipes than c2c",
    ),
    "latency elsewhere": (
        put("latency.benchmarks", ["openbookqa_text"]),
        r"latency\.benchmarks must be a task of the config's benchmarks",
    ),
    "late checkpoint": (put("training.checkpoint_every", 251), r"every must be at most steps, 250"),
    "late kept step": (
        put("training.keep_steps", [50, 250]),
        r"between 1 and 249, before the last.*received 250",
    ),
    "kept step before the first": (put("training.keep_steps", [0]), r"keep_steps\.0 must be at least 1"),
    "unknown precision": (put("training.autocast", "bf16"), r"autocast must be a known name"),
    "wide micro batch": (put("training.micro_batch_size", 65), r"at most batch_size, 64"),
    "no world": (drop("world"), r"must have the config key 'world'; received 'gap_receiver_a'"),
    "model not made": (lambda c: c["world"]["models"].pop("gap_sharer"), r"'gap_sharer'.*Add it to world\.models"),
    "unknown architecture": (put("world.models.gap_sharer.architecture", "qwen"), r"Did you mean 'qwen3'\?"),
    "scale with a slash": (
        put("scale", "../x"),
        r"config\.scale must consist of lower-case letters, digits and underscores, such as qwen3_06b; received",
    ),
    "entities that do not split": (
        put("world.entities", 500),
        r"config\.world: .*sixteenths; received 500\..*multiple of 16",
    ),
    "too many attributes": (put("world.attributes", 99), r"config\.world: Attributes .*received 99\. Take 1 to 6"),
    "too many values": (put("world.values", 99), r"config\.world: Values .*received 99\. Take 4 to 16"),
    "odd width": (put("world.pretraining.hidden", 90), r"config\.world\.pretraining: hidden .*multiple of 8"),
    "odd width of one model": (put("world.models.gap_sharer.hidden", 90), r"models\.gap_sharer: hidden .*received 90"),
    "warm-up without end": (put("world.pretraining.warmup_ratio", 1.0), r"warmup_ratio must be less than 1"),
    "a paper without its figures": (
        put("artefacts.figures", ["gates"]),
        r"A paper must have the figures .*without gains, accuracy.*artefacts\.paper to false",
    ),
    "a paper without its tables": (put("artefacts.tables", ["main"]), r"artefacts\.tables without gains"),
    "analysis of a pair that is not run": (
        put("analysis.tsne.pair", "gap_c"),
        r"analysis\.tsne\.pair must be a pair of the config's runs; received 'gap_c'\. Did you mean 'gap_\w'\? "
        r"Names: gap_a, gap_b, gap_first, gap_second\. Correct it, or set analysis\.tsne to null",
    ),
    "analysis of a fuser that is not trained": (
        put("analysis.partial.seed", 7),
        r"of analysis\.partial must be one of runs; received 'gap_b/c2c/span/seed7'.*analysis\.partial to null",
    ),
    "analysis of a benchmark that is not asked": (
        put("analysis.effective_rank.benchmark", "openbookqa_text"),
        r"analysis\.effective_rank\.benchmark must be a task of the config's benchmarks that gap_a answers",
    ),
    "examples that are asked themselves": (
        put("analysis.enrichment.examples", "gap_words"),
        r"Examples .*must come from a split without questions of the evaluation; received 'gap_words'",
    ),
    "a share above one": (put("analysis.partial.shares", [0, 1.5]), r"shares\.1 must be at most 1"),
    "too many GPUs": (put("gpus_per_job", 9), r"gpus_per_job must be at most 8"),
}


def test_the_receiver_is_the_sharer_of_identical_and_its_tokens_are_its_own(config_of: Merged) -> None:
    settings = load_settings(config_of("smoke"), ROOT)
    assert (settings.sharer_role("identical"), settings.sharer_role("c2c")) == ("receiver", "sharer")
    folders = {recipe: settings.tokenised("gap_a", recipe, "span") for recipe in ("c2c", "adapter", "identical")}
    assert folders == {"c2c": "gap_a/span/256", "adapter": "gap_a/span/256", "identical": "gap_a.receiver/span/256"}


def test_every_c2c_of_the_papers_scale_has_a_control_with_the_same_training_and_seeds(config_of: Merged) -> None:
    settings = load_settings(config_of("paper"), ROOT)
    controls = {run for run in settings.runs if run.recipe.startswith("adapter")}
    for run in settings.runs:
        if run.recipe.startswith("c2c") and run.alignment == "span":
            assert replace(run, recipe=run.recipe.replace("c2c", "adapter")) in controls


def test_runs_have_the_papers_steps_batches_and_lengths(config_of: Merged) -> None:
    settings = load_settings(config_of("paper"), ROOT)
    found = {}
    for run in settings.runs:
        training = settings.training_of(run.pair, run.recipe, run.alignment)
        key = settings.pairs[run.pair]["training_set"]
        found.setdefault(key, set()).add(tuple(training[name] for name in ("steps", "batch_size", "max_length")))
    assert found == {
        "openhermes": {(1929, 256, 2048)},
        "mmlu_aux": {(116, 128, 1024)},
        "longbench_train": {(118, 16, 12000)},
        "gsm8k_teacher": {(116, 64, 2048)},
    }


def test_pairs_of_the_same_models_are_timed_once(config_of: Merged) -> None:
    settings = load_settings(config_of("paper"), ROOT)
    models = [(settings.pairs[pair]["receiver"], settings.pairs[pair]["sharer"]) for pair in settings.timed_pairs]
    assert len(models) == len(set(models)) and "qwen3_from_qwen25" in settings.timed_pairs
    assert "qwen3_from_qwen25_mmlu" not in settings.timed_pairs


def test_the_papers_scale_times_every_cell_of_table_4_and_the_arms_of_tables_7_and_9(config_of: Merged) -> None:
    settings = load_settings(config_of("paper"), ROOT)
    timed = {
        (settings.pairs[run.pair]["receiver"], settings.pairs[run.pair]["sharer"], task, run.recipe, method)
        for run in settings.timed_fusers.values()
        for task in settings.timed_tasks(run.pair)
        for method in settings.timed_methods(run)
    }
    four = ("mmlu_redux_letter", "openbookqa_letter", "arc_challenge_letter", "ceval_letter")
    arms = [("c2c", method) for method in ("receiver", "sharer", "routing", "t2t", "c2c")]
    table_4 = [("qwen3_06b", sharer) for sharer in ("qwen25_05b", "llama32_1b", "qwen3_4b_base")]
    assert {(*models, task, *arm) for models in table_4 for task in four for arm in arms} <= timed
    # Table 9 has C2C-C as well, Table 7 a benchmark.
    strong = ("qwen3_06b", "qwen3_4b")
    assert {(*strong, task, *arm) for task in four for arm in [*arms, ("projected", "c2c")]} <= timed
    table_7 = [pair for pair in settings.used_pairs if "Table 7" in names.places(pair)]
    models = [(settings.pairs[pair]["receiver"], settings.pairs[pair]["sharer"]) for pair in table_7]
    assert models and {(*both, four[0], *arm) for both in models for arm in arms} <= timed


def test_runs_of_another_length_have_tokens_of_their_own(config_of: Merged) -> None:
    config = config_of("smoke")
    config["runs"][2]["training"] = {"max_length": 128}
    settings = load_settings(config, ROOT)
    folders = [settings.tokenised("gap_a", recipe, "span") for recipe in ("c2c", "project", "fuse")]
    assert folders == ["gap_a/span/256", "gap_a/span/128", "gap_a/span/256"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "gsm8k_train\tqwen3_4b",
            "gsm8k_train\tqwen3_5b",
            r"teacher of 'gsm8k_teacher' must be a row of config/models\.tsv; received 'qwen3_5b'. Did you mean",
        ),
        (
            "gsm8k_train\tqwen3_4b",
            "gsm8k_train\t",
            r"The teacher of 'gsm8k_teacher' must be a row of .*; received None",
        ),
        (
            "\t\tletter\t15000",
            "\tqwen3_4b\tletter\t15000",
            r"Only a training set with source teacher must name a model.*mmlu_aux",
        ),
        ("gsm8k_train\tqwen3_4b", "openhermes\tqwen3_4b", r"must answer one training set of questions.*'openhermes'"),
        ("gsm8k_train\tqwen3_4b", "\tqwen3_4b", r"mix or teacher, and no other, must name its parts"),
    ],
)
def test_an_impossible_teacher_is_refused(root: Path, config_of: Merged, old: str, new: str, message: str) -> None:
    edit(root / "config" / "training_sets.tsv", old, new)
    with pytest.raises(RefusedError, match=message):
        load_settings(config_of("paper"), root)


def test_a_receiver_is_its_own_sharer_in_one_pair_alone(config_of: Merged, root: Path) -> None:
    config = config_of("trial")
    again = "smollm2_again\tsmollm2_135m\tqwen3_06b\tchoice_mix\tplain\t\tthe same Receiver\n"
    edit(root / "config" / "pairs.tsv", "smollm2_from_coder", again + "smollm2_from_coder")
    config["latency"]["methods"] = ["receiver"]
    for pair in ("smollm2_from_coder", "smollm2_again"):
        config["runs"].append({"pair": pair, "recipe": "identical", "alignment": "span", "seeds": [0]})
    with pytest.raises(RefusedError, match=r"in one of its pairs; received 'smollm2_again/identical/span/seed0'"):
        load_settings(config, root)


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_that_is_committed_is_accepted(scale: str, config_of: Merged) -> None:
    settings = load_settings(config_of(scale), ROOT)
    assert settings.runs
    assert set(settings.used_models) <= set(settings.models)


@pytest.mark.parametrize("case", REFUSED)
def test_an_impossible_config_is_refused_with_rule_value_and_remedy(case: str, config_of: Merged) -> None:
    change, message = REFUSED[case]
    config = config_of("smoke")
    change(config)
    with pytest.raises(RefusedError, match=message) as refusal:
        load_settings(config, ROOT)
    assert refusal.value.rule and refusal.value.remedy


def test_without_a_paper_any_figure_may_be_left_out(config_of: Merged) -> None:
    config = config_of("smoke")
    config["artefacts"] |= {"figures": ["gates"], "tables": [], "paper": False}
    config["testbed"] = None
    assert load_settings(config, ROOT).config["artefacts"]["figures"] == ["gates"]


def test_an_artefact_without_a_module_is_refused_before_anything_runs(
    config_of: Merged, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Artefact("table", "lost", "A", "B", {"records": "records"}, module="paper.tables.lost")
    monkeypatch.setattr(checks, "read_artefacts", lambda: [lost])
    with pytest.raises(RefusedError, match=r"table lost in artefacts.yaml must exist; received 'paper.tables.lost'"):
        load_settings(config_of("smoke"), ROOT)


def test_the_files_of_a_task_are_read_once_for_all_jobs(
    monkeypatch: pytest.MonkeyPatch, config_of: Callable[[str], dict[str, Any]]
) -> None:
    reads: list[Path] = []
    files = data.included_files
    monkeypatch.setattr(data, "included_files", lambda path, tasks: reads.append(path) or files(path, tasks))
    benchmarks = load_settings(config_of("smoke"), ROOT).data
    reads.clear()
    assert benchmarks.task_files("knowledge_gap_free") == benchmarks.task_files("knowledge_gap_free")
    assert len(reads) <= 1


def test_a_mirror_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    check_mirrors({})
    check_mirrors({"C2C_HUB_MIRROR": f"{tmp_path}:"})
    with pytest.raises(RefusedError, match=r"Each folder of C2C_HUB_MIRROR must exist; received .*nowhere.*unset"):
        check_mirrors({"C2C_HUB_MIRROR": f"{tmp_path}:{tmp_path / 'nowhere'}"})


def test_checking_a_config_imports_neither_torch_nor_pandas_nor_scipy() -> None:
    heavy = "{'torch', 'transformers', 'pandas', 'scipy'}"
    program = f"import sys, workflow.load, workflow.plan.report; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("scale", "name", "change", "message"),
    [
        (
            "paper",
            "smoke",
            {},
            r"scale: paper must have in runs only names that config/config\.yaml .*'gap_a, gap_b.*my_paper",
        ),
        ("laptop", "smoke", {}, r"in runs only names that config/laptop\.yaml has there"),
        (
            "smoke",
            "smoke",
            {"benchmarks": ["knowledge_gap_free", "fruit"]},
            r"in benchmarks only names .*received 'fruit'",
        ),
        (
            "paper",
            "paper",
            {"protocol": "released"},
            r"protocol: released must have a scale of its own.*received 'scale: paper'.*scale: paper_released",
        ),
        (
            "laptop",
            "laptop",
            {"protocol": "paper"},
            r"protocol: paper must have a scale of its own.*scale: laptop_paper",
        ),
        ("paper", "paper", {"sample": 10}, r"must ask and train as config/config.yaml does; received 'sample: 10'"),
        (
            "laptop",
            "laptop",
            {"sample": None},
            r"must ask and train as config/laptop.yaml does; received 'sample: None'",
        ),
        (
            "paper",
            "paper",
            {"training": {"steps": 10}},
            r"must ask and train .*received 'steps: 10 in the training of qwen3_from_qwen25/c2c/span'.*scale: my_paper",
        ),
        ("paper", "paper", {"dtype": "float32"}, r"must ask and train .*received 'dtype: float32'.*scale: my_paper"),
        (
            "smoke",
            "smoke",
            {"runs": [{"pair": "gap_a", "recipe": "c2c", "alignment": "span", "seeds": [0, 7]}]},
            r"received 'seeds: \[7\] in the training of gap_a/c2c/span'",
        ),
        ("paper", "paper", {"router": {"questions": 10}}, r"must ask and train .*received .router: .*10"),
        ("paper", "paper", {"teacher": {"temperature": 0.1}}, r"must ask and train .*received .teacher: .*0\.1"),
        (
            "smoke",
            "smoke",
            {"latent": [{**LATENT, "heads": 2}]},
            r"received 'heads: 2.* in the training of gap_latent/latent/span'",
        ),
    ],
)
def test_the_name_of_a_scale_is_refused_for_another_config(
    scale: str, name: str, change: Config, message: str, config_of: Merged
) -> None:
    config = config_of(name)
    update_config(config, change)
    with pytest.raises(RefusedError, match=message):
        check_scale({**config, "scale": scale})


@pytest.mark.parametrize("scale", ["paper", "laptop", "smoke", "trial"])
def test_a_scale_may_lack_runs_and_have_other_settings_and_another_name_may_have_anything(
    scale: str, config_of: Merged
) -> None:
    config = config_of(scale)
    training = {**config["training"], "micro_batch_size": 1, "recompute": "fusers", "retries": 5}
    fewer = {**config["runs"][0], "seeds": config["runs"][0]["seeds"][:1]}
    check_scale({**config, "runs": [fewer], "gpus_per_job": 4, "lean": True, "training": training})
    check_scale({**config_of("smoke"), "scale": f"my_{scale}"})


@pytest.mark.parametrize(
    ("name", "change", "basis"),
    [
        ("paper", {"scale": "paper_released", "protocol": "released"}, "paper"),
        ("paper", {"scale": "big_batch", "training": {"micro_batch_size": 1}, "sample": None}, "paper"),
        ("laptop", {"scale": "laptop_released", "protocol": "released"}, "laptop"),
        ("paper", {"scale": "ten_questions", "sample": 10}, "ten_questions"),
        ("paper", {"scale": "ten_steps", "training": {"steps": 10}, "runs": OPENHERMES}, "ten_steps"),
        ("smoke_reduced", {}, "smoke_reduced"),
    ],
)
def test_another_name_keeps_the_basis_of_the_scale_whose_questions_and_trainings_it_has(
    name: str, change: Config, basis: str, config_of: Merged
) -> None:
    config = config_of(name)
    update_config(config, change)
    assert basis_of(config) == basis


def test_a_scale_that_is_laid_over_another_is_itself_when_its_files_are_merged() -> None:
    names = ("config", "smoke", "smoke_reduced")
    merged: Config = {}
    for name in names:
        update_config(merged, read_config_file(ROOT / f"config/{name}.yaml"))
    assert merged == read_config("smoke_reduced", folder=ROOT / "config")
    check_scale(merged)


def test_a_scale_with_the_papers_trainings_under_another_name_does_not_start_unpinned(
    config_of: Merged, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings({**config_of("paper"), "protocol": "released", "scale": "paper_released"}, ROOT)
    branch = Input("models", "qwen3_06b", "Qwen/Qwen3-0.6B", "main")
    monkeypatch.setattr(hub_inputs, "hub_inputs", lambda _: [branch])
    with pytest.raises(RefusedError, match="scale paper_released, which is cited, must start from commits"):
        hub_inputs.check_start(settings)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


TABLES_REFUSED = {
    "unknown column": ("pairs", "receiver\t", "base\t", r"The columns of pairs\.tsv must be"),
    "unknown Receiver": ("pairs", "gap_receiver_a", "gap_reciever_a", r"Did you mean 'gap_receiver_a'\?"),
    "unknown training set": ("pairs", "\tknowledge_gap\t", "\tknowledge_gab\t", r"Did you mean 'knowledge_gap'\?"),
    "unknown variant": ("recipes", "\tfull\t", "\tfully\t", r"recipes\.tsv, line 2\.variant .*Did you mean 'full'\?"),
    "unknown method": (
        "recipes",
        "c2c_zeroed",
        "c2c_zero",
        r"recipe 'c2c' must be a method that uses a pair's Fusers.*Did you mean 'c2c_zeroed'\?",
    ),
    "method twice": ("recipes", "c2c c2c_deranged c2c_zeroed", "c2c c2c", r"must name its methods, each once"),
    "recipe with a method's id": ("recipes", "low_rank\tlow_rank", "t2t\tlow_rank", r"must not be that of a method"),
    "size that is no number": ("models", "\t0.337\t", "\thalf\t", r"_m must be of type number; received 'half'"),
    "id twice": ("models", "gap_receiver_b\t", "gap_receiver_a\t", r"An id must stand once in models\.tsv"),
    "missing cell": ("training_sets", "\thub\t", "\t", r"training_sets\.tsv, line 3 must have 14 cells; received 13"),
    "unknown way to ask": (
        "training_sets",
        "\tletter\t",
        "\tleter\t",
        r"line 4\.asked_as must be a known name; received 'leter'\. Did you mean 'letter'\?",
    ),
}


@pytest.mark.parametrize("case", TABLES_REFUSED)
def test_an_impossible_table_is_refused(case: str, root: Path, config_of: Merged) -> None:
    table, old, new, message = TABLES_REFUSED[case]
    edit(root / "config" / f"{table}.tsv", old, new)
    with pytest.raises(RefusedError, match=message):
        load_settings(config_of("smoke"), root)


def test_a_missing_table_is_refused(root: Path, config_of: Merged) -> None:
    (root / "config" / "pairs.tsv").unlink()
    with pytest.raises(RefusedError, match=r"Each table of the config must exist; received .*pairs\.tsv"):
        load_settings(config_of("smoke"), root)


def test_a_benchmark_without_prompts_is_refused(root: Path, config_of: Merged) -> None:
    (root / "benchmarks" / "tasks" / "openbookqa" / "openbookqa_text.yaml").unlink()
    with pytest.raises(RefusedError, match=r"_text' must have its prompts in a file; received .*_text\.yaml"):
        load_settings(config_of("trial"), root)


def test_a_hub_row_without_revision_is_refused(root: Path, config_of: Merged) -> None:
    edit(root / "config" / "models.tsv", "Qwen/Qwen2.5-Coder-0.5B-Instruct\tmain", "Qwen/Qwen2.5-Coder-0.5B-Instruct\t")
    with pytest.raises(RefusedError, match=r"with source hub must fill 'revision'; received 'qwen25_coder_05b: empty'"):
        load_settings(config_of("trial"), root)


def test_a_training_set_must_be_larger_than_its_validation_part(root: Path, config_of: Merged) -> None:
    edit(root / "config" / "training_sets.tsv", "\t\t256\t", "\t256\t256\t")
    with pytest.raises(RefusedError, match=r"must have more examples than its 256 for validation; received 256"):
        load_settings(config_of("trial"), root)


def test_a_task_file_of_another_scoring_is_refused(root: Path, config_of: Merged) -> None:
    edit(root / "benchmarks" / "tasks" / "openbookqa" / "openbookqa_text.yaml", "choice_text", "choice_letter")
    with pytest.raises(RefusedError, match=r"metadata\.scoring of .* must be that of the task; received 'letter'"):
        load_settings(config_of("trial"), root)


def test_a_hub_row_without_reader_is_refused(root: Path, config_of: Merged) -> None:
    edit(root / "benchmarks" / "tasks" / "openbookqa" / "openbookqa.yaml", "  reader: openbookqa\n", "")
    with pytest.raises(RefusedError, match=r"with source hub must fill 'reader'; received 'openbookqa: empty'"):
        load_settings(config_of("trial"), root)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "arc_easy_train arc_challenge_train",
            "arc_easy_trian arc_challenge_train",
            r"Did you mean 'arc_easy_train'\?",
        ),
        ("arc_easy_train arc_challenge_train", "choice_mix_letter", r"A part of 'choice_mix' must come from the hub"),
        ("choice_mix\tmix", "choice_mix\thub", r"with source mix or teacher, and no other, must name its parts"),
        ("text\t\t256", "text\t\t", r"source mix must fill 'validation'; received 'choice_mix: empty'"),
    ],
)
def test_an_impossible_mix_of_training_sets_is_refused(
    root: Path, config_of: Merged, old: str, new: str, message: str
) -> None:
    edit(root / "config" / "training_sets.tsv", old, new)
    with pytest.raises(RefusedError, match=message):
        load_settings(config_of("trial"), root)


def test_a_benchmark_of_several_scorings_is_one_task_each(config_of: Merged) -> None:
    data = load_settings(config_of("trial"), ROOT).data
    assert data.tasks_of("arc_easy")[:3] == ["arc_easy_letter", "arc_easy_logits", "arc_easy_text"]
    assert data.tasks_of("gsm8k") == ["gsm8k", "gsm8k_released"]
    assert data.benchmark_of["arc_easy_text"] == "arc_easy"


def test_a_task_brings_the_files_that_it_includes(config_of: Merged) -> None:
    files = load_settings(config_of("trial"), ROOT).data.task_files("arc_easy_letter")
    assert files[0] == "benchmarks/tasks/arc_easy/arc_easy_letter.yaml"
    assert {f"benchmarks/tasks/shared/{name}.yaml" for name in ("choice_letter", "t2t", "questions")} <= set(files)


def test_sample_and_protocol_reach_the_preparation(config_of: Merged) -> None:
    data = load_settings({**config_of("trial"), "protocol": "paper"}, ROOT).data
    assert data.preparation("ceval") == {
        "reader": "ceval",
        "dataset": "ceval/ceval-exam",
        "subset": "*",
        "split": "val",
        "revision": "main",
        "protocol": "paper",
        "sample": 50,
        "context_limit": 120000,
    }
    assert "sample" not in load_settings(config_of("paper"), ROOT).data.preparation("ceval")


def test_the_questions_of_a_training_split_are_as_many_as_a_router_learns_from(config_of: Merged) -> None:
    data = load_settings(config_of("trial"), ROOT).data
    assert data.training_questions("arc_easy")["split"] == "train"
    assert data.training_questions("mmlu")["split"] == "auxiliary_train"
    assert data.training_questions("arc_easy")["sample"] == data.config["router"]["questions"]
    assert "ceval" not in data.with_training_questions


def test_a_mix_names_the_source_of_each_part(config_of: Merged) -> None:
    data = load_settings(config_of("trial"), ROOT).data
    easy, challenge, book = data.sources("choice_mix")
    commit = data.training_sets["arc_easy_train"]["revision"]
    assert easy == f"reader=arc,dataset=allenai/ai2_arc,subset=ARC-Easy,split=train,revision={commit}"
    assert "ARC-Challenge" in challenge and "allenai/openbookqa" in book
    assert data.asking("choice_mix") == {"asked_as": "text", "validation": 256}
    assert data.sources("openhermes")[0].endswith(",limit=500000")
    assert data.asking("openhermes") == {"validation": 5000}


def test_empty_cells_are_none_and_numbers_are_numbers() -> None:
    table = read_table(ROOT / "config" / "training_sets.tsv")
    assert table["openhermes"]["limit"] == 500000
    assert table["openbookqa_train"]["limit"] is None


def test_runs_expand_to_one_fuser_a_seed(config_of: Merged) -> None:
    settings = load_settings(config_of("smoke"), ROOT)
    assert FuserTraining("gap_a", "adapter", "span", 2) in settings.runs
    assert [run.path for run in settings.runs][:2] == ["gap_a/c2c/span/seed0", "gap_a/c2c/span/seed1"]


def test_flags_are_what_the_command_line_takes() -> None:
    assert flags({"learning_rate": 0.002, "steps": 4}) == ["--learning-rate", "0.002", "--steps", "4"]
    assert flags({"subset": "*_e"}) == ["--subset", "*_e"]
    assert flags({"keep_steps": [50, 100], "steps": 4}) == ["--keep-steps", "50,100", "--steps", "4"]


def test_a_training_has_a_process_for_each_gpu_and_an_example_for_each_process(config_of: Merged) -> None:
    config = config_of("smoke")
    for gpus, flag in ((0, {}), (1, {}), (8, {"processes": 8})):
        assert load_settings({**config, "gpus_per_job": gpus}, ROOT).processes == flag
    few = {**config, "gpus_per_job": 8, "training": {**config["training"], "batch_size": 4}}
    with pytest.raises(RefusedError, match="must have an example for each of the 8 processes"):
        load_settings(few, ROOT)
