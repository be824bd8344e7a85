from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from c2c.errors import RefusedError
from workflow.checks import check_mirrors
from workflow.settings import Run, flags, load_settings
from workflow.validation import read_table

ROOT = Path(__file__).resolve().parents[2]
SCALES = ("paper", "smoke", "laptop", "trial")
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
    "no steps": (put("training.steps", 0), r"config\.training\.steps is at least 1; received 0"),
    "negative rate": (put("training.learning_rate", -1e-4), r"learning_rate is greater than 0; received -0\.0001"),
    "rate as text": (put("training.learning_rate", "1e-4"), r"learning_rate is of type number; received '1e-4'"),
    "dropout of one": (put("fuser.dropout", 1.0), r"fuser\.dropout is less than 1"),
    "shallow fuser": (put("fuser.num_layers", 2), r"num_layers is at least 3"),
    "rising temperature": (put("fuser.final_temperature", 2.0), r"final_temperature is at most .*received 2\.0"),
    "unknown alignment": (put("runs.0.alignment", "spam"), r"alignment is a known name; .*Did you mean 'span'\?"),
    "unknown pair": (
        put("runs.0.pair", "gap_aa"),
        r"pair of a run is known; received 'gap_aa'\. Did you mean 'gap_a'\?",
    ),
    "unknown recipe": (put("runs.0.recipe", "adaptor"), r"Did you mean 'adapter'\?.*recipes\.tsv"),
    "seed twice": (put("runs.0.seeds", [0, 0]), r"seeds lists nothing twice; received \[0, 0\]"),
    "negative seed": (put("runs.0.seeds", [-1]), r"seeds\.0 is at least 0"),
    "no seed": (put("runs.0.seeds", []), r"seeds lists at least 1"),
    "no run": (put("runs", []), r"config\.runs lists at least 1"),
    "run twice": (lambda c: c["runs"].append(c["runs"][0]), r"listed once in runs; received 'gap_a/c2c/span/seed0'"),
    "control without its c2c": (put("runs.1.seeds", [7]), r"adapter control .*gap_a/adapter/span/seed7.*same seeds"),
    "unknown benchmark": (put("benchmarks", ["knowledge_gap_fre"]), r"Did you mean 'knowledge_gap_free'\?"),
    "unknown baseline": (put("baselines", ["router"]), r"baselines\.0 is a known name"),
    "latency elsewhere": (put("latency.benchmark", "openbookqa"), r"latency\.benchmark is known"),
    "late checkpoint": (put("training.checkpoint_every", 251), r"checkpoint_every is at most training\.steps \(250\)"),
    "wide micro batch": (put("training.micro_batch_size", 65), r"at most training\.batch_size \(64\)"),
    "no world": (drop("world"), r"needs the config key 'world'; received 'gap_receiver_a'"),
    "model not made": (lambda c: c["world"]["models"].pop("gap_sharer"), r"'gap_sharer'.*Add it to world\.models"),
    "unknown architecture": (put("world.models.gap_sharer.architecture", "qwen"), r"Did you mean 'qwen3'\?"),
    "scale with a slash": (put("scale", "../x"), r"config\.scale has the form"),
    "entities that do not split": (
        put("world.entities", 500),
        r"config\.world: .*sixteenths; received 500\..*multiple of 16",
    ),
    "too many attributes": (put("world.attributes", 99), r"config\.world: Attributes .*received 99\. Take 1 to 6"),
    "too many values": (put("world.values", 99), r"config\.world: Values .*received 99\. Take 4 to 16"),
    "odd width": (put("world.pretraining.hidden", 90), r"config\.world\.pretraining: hidden .*multiple of 8"),
    "odd width of one model": (put("world.models.gap_sharer.hidden", 90), r"models\.gap_sharer: hidden .*received 90"),
    "warm-up without end": (put("world.pretraining.warmup_ratio", 1.0), r"warmup_ratio is less than 1"),
    "a paper without its figures": (
        put("artefacts.figures", ["gates"]),
        r"A paper has the figures .*without accuracy, accuracy_latency, training.*artefacts\.paper to false",
    ),
    "a paper without its tables": (put("artefacts.tables", ["main"]), r"artefacts\.tables without gains, latency"),
    "too many GPUs": (put("gpus_per_job", 9), r"gpus_per_job is at most 8"),
}


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
    assert load_settings(config, ROOT).config["artefacts"]["figures"] == ["gates"]


def test_a_mirror_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    check_mirrors({})
    check_mirrors({"C2C_HUB_MIRROR": f"{tmp_path}:"})
    with pytest.raises(RefusedError, match=r"Each folder of C2C_HUB_MIRROR exists; received .*nowhere.*unset"):
        check_mirrors({"C2C_HUB_MIRROR": f"{tmp_path}:{tmp_path / 'nowhere'}"})


def test_checking_a_config_imports_neither_torch_nor_pandas() -> None:
    program = "import sys, workflow.settings; print(sorted({'torch', 'transformers', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of what the checks read, to be broken."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    for folder in ("tasks", "training"):
        shutil.copytree(ROOT / "benchmarks" / folder, tmp_path / "benchmarks" / folder)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


TABLES_REFUSED = {
    "unknown column": ("pairs", "receiver\t", "base\t", r"The columns of pairs\.tsv"),
    "unknown Receiver": ("pairs", "gap_receiver_a", "gap_reciever_a", r"Did you mean 'gap_receiver_a'\?"),
    "unknown training set": ("pairs", "\tknowledge_gap\t", "\tknowledge_gab\t", r"Did you mean 'knowledge_gap'\?"),
    "unknown variant": ("recipes", "\tfull\t", "\tfully\t", r"recipes\.tsv, line 2\.variant .*Did you mean 'full'\?"),
    "unknown method": ("recipes", "c2c_zeroed", "c2c_zero", r"recipes\.tsv, line 2\.methods has the form"),
    "size that is no number": ("models", "\t0.5\t", "\thalf\t", r"parameters_m is of type number; received 'half'"),
    "id twice": ("models", "gap_receiver_b\t", "gap_receiver_a\t", r"An id stands once in models\.tsv"),
    "missing cell": ("benchmarks", "\thub\t", "\t", r"benchmarks\.tsv, line 4 has 7 cells; received 6"),
}


@pytest.mark.parametrize("case", TABLES_REFUSED)
def test_an_impossible_table_is_refused(case: str, root: Path, config_of: Merged) -> None:
    table, old, new, message = TABLES_REFUSED[case]
    edit(root / "config" / f"{table}.tsv", old, new)
    with pytest.raises(RefusedError, match=message):
        load_settings(config_of("smoke"), root)


def test_a_missing_table_is_refused(root: Path, config_of: Merged) -> None:
    (root / "config" / "pairs.tsv").unlink()
    with pytest.raises(RefusedError, match=r"Each table of the config exists; received .*pairs\.tsv"):
        load_settings(config_of("smoke"), root)


def test_a_benchmark_without_prompts_is_refused(root: Path, config_of: Merged) -> None:
    (root / "benchmarks" / "tasks" / "openbookqa.yaml").unlink()
    with pytest.raises(RefusedError, match=r"'openbookqa' has its prompts in a file; received .*openbookqa\.yaml"):
        load_settings(config_of("trial"), root)


def test_a_hub_row_without_revision_is_refused(root: Path, config_of: Merged) -> None:
    edit(root / "config" / "models.tsv", "Qwen/Qwen2.5-Coder-0.5B-Instruct\tmain", "Qwen/Qwen2.5-Coder-0.5B-Instruct\t")
    with pytest.raises(RefusedError, match=r"with source hub fills 'revision'; received 'qwen25_coder_05b: empty'"):
        load_settings(config_of("trial"), root)


def test_a_training_set_must_be_larger_than_its_validation_part(root: Path, config_of: Merged) -> None:
    edit(root / "config" / "training_sets.tsv", "\t\t64\t", "\t64\t64\t")
    with pytest.raises(RefusedError, match=r"keeps examples beside its 64 for validation; received 64"):
        load_settings(config_of("trial"), root)


def test_empty_cells_are_none_and_numbers_are_numbers() -> None:
    table = read_table(ROOT / "config" / "training_sets.tsv")
    assert table["openhermes"]["limit"] == 500000
    assert table["openbookqa_train"]["limit"] is None


def test_runs_expand_to_one_fuser_a_seed(config_of: Merged) -> None:
    settings = load_settings(config_of("smoke"), ROOT)
    assert Run("gap_a", "adapter", "span", 2) in settings.runs
    assert [run.path for run in settings.runs][:2] == ["gap_a/c2c/span/seed0", "gap_a/c2c/span/seed1"]


def test_flags_are_what_the_command_line_takes() -> None:
    assert flags({"learning_rate": 0.002, "steps": 4}) == "--learning-rate 0.002 --steps 4"
