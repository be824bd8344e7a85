"""Memory of a job: what is counted, against real modules, the reference's sizes, hand-made sums and measured jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from c2c.fuser.config import FuserConfig
from c2c.fuser.variants import create_fuser
from c2c.training import memory
from c2c.training.memory import Sizes
from c2c.types import CacheShape
from paper.reading.reference import Reference
from workflow.load import load_settings
from workflow.plan.stages import STAGES, read_timings
from workflow.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"hidden_dim": 12, "intermediate_dim": 10, "num_layers": 4}
SHARER, RECEIVER = Sizes(2e6, 2, 24, 2, 5), Sizes(1e6, 3, 16, 3, 4)

ConfigOf = Callable[[str], dict[str, Any]]


@pytest.fixture
def settings(config_of: ConfigOf) -> Settings:
    return load_settings(config_of("paper"), ROOT)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("variant", ["full", "projected"])
def test_parameters_of_the_fusers_are_those_of_the_modules(variant: str) -> None:
    fuser = create_fuser(FuserConfig.between(CacheShape(2, 2, 5), CacheShape(3, 3, 4), variant=variant, **SMALL))
    counted = memory.fuser_parameters(SHARER, RECEIVER, SMALL, projected=variant == "projected")
    assert counted == 3 * parameters(fuser)


@pytest.mark.parametrize(
    ("sharer", "printed"),
    [("qwen25_05b", "qwen2.5"), ("qwen3_4b", "qwen3-any"), ("llama32_1b", "llama3.2"), ("gemma3_1b", "gemma3")],
)
def test_at_the_papers_sizes_they_are_the_published_ones(settings: Settings, sharer: str, printed: str) -> None:
    counted = memory.fuser_parameters(settings.sizes(sharer), settings.sizes("qwen3_06b"), settings.training)
    (known,) = (
        value
        for name, value in Reference().numbers.items()
        if str(name).startswith(f"fuser-size/28-receiver-layers/qwen3-0.6b/{printed}")
    )
    assert counted == round(1e6 * known)


def test_a_training_holds_frozen_weights_in_their_precision_learned_ones_in_fp32_and_activations() -> None:
    about = {**SMALL, "dtype": "bfloat16", "micro_batch_size": 2, "batch_size": 8, "max_length": 50}
    fusers, kept = memory.fuser_parameters(SHARER, RECEIVER, SMALL), memory.fuser_activations(SHARER, RECEIVER, SMALL)
    caches = 2 * (2 * 2 * 10 + 2 * 3 * 12)
    held = 2 * 3e6 + 16 * fusers + 100 * (34 * 3 * 16 + caches + 4 * kept)
    assert memory.training_mb(SHARER, RECEIVER, about) == memory.ROOM_MB + int(held / 1e6)


def test_each_setting_that_saves_memory_saves_its_part() -> None:
    large = (Sizes(4e9, 36, 2560, 8, 128), Sizes(6e8, 28, 1024, 8, 128))
    about = {"hidden_dim": 1024, "intermediate_dim": 1024, "num_layers": 3, "dtype": "float32"}
    about |= {"micro_batch_size": 4, "batch_size": 256, "max_length": 2048}
    whole = memory.training_mb(*large, about)
    assert whole - memory.training_mb(*large, {**about, "dtype": "bfloat16"}) > 2 * 4600
    activations = 4 * 4 * 2048 * memory.fuser_activations(*large, about) / 1e6
    halved = whole - memory.training_mb(*large, {**about, "autocast": "bfloat16"})
    recomputed = whole - memory.training_mb(*large, {**about, "recompute": "fusers"})
    assert halved == pytest.approx(activations / 2, abs=1)
    assert recomputed == pytest.approx(activations * 27 / 28, abs=1)
    assert memory.training_mb(*large, {**about, "micro_batch_size": 0}) > 20 * whole
    # Of a budget of tokens
    for tokens, examples in ((0, 4), (10**6, 4), (6144, 3), (100, 1), ("auto", 1)):
        limited = memory.training_mb(*large, {**about, "micro_batch_tokens": tokens})
        assert limited == memory.training_mb(*large, {**about, "micro_batch_size": examples})


def test_what_answers_holds_weights_fusers_and_a_full_batch_of_caches() -> None:
    about = {**SMALL, "dtype": "float32"}
    fusers = memory.fuser_parameters(SHARER, RECEIVER, SMALL, projected=True)
    held = 4 * (3e6 + fusers + 1000 * (40 + 72))
    assert memory.answering_mb(SHARER, RECEIVER, about, 1000) == memory.ROOM_MB + int(held / 1e6)
    assert memory.answering_mb(SHARER, RECEIVER, about, 1000, gpus=0) == memory.ROOM_MB + int((held + 12e6) / 1e6)


def test_the_largest_pair_no_longer_asks_for_several_machines(settings: Settings) -> None:
    weights = 2 * (14768 + 14770)
    asked = settings.answering_mb("qwen3_14b_from_qwen25_14b_mmlu")
    assert weights < asked < 1.3 * weights
    assert STAGES["answer_single"].largest_mb(settings) < asked == STAGES["answer_fused"].largest_mb(settings)


@pytest.mark.parametrize("rule", ["train_fuser", "answer_baselines", "answer_fused"])
def test_measured_jobs_held_no_more_than_is_asked_for_and_not_much_less(config_of: ConfigOf, rule: str) -> None:
    laptop = load_settings(config_of("laptop"), ROOT)
    (measured,) = (
        each.memory_mb
        for each in read_timings(ROOT / "config/timings.csv")
        if (each.scale, each.stage) == ("laptop", rule)
    )
    assert measured < STAGES[rule].largest_mb(laptop) < 2 * measured


def test_every_training_and_answering_of_the_papers_scale_fits_a_gpu_of_80_gib(settings: Settings) -> None:
    needed = {run: settings.training_mb(run.pair, run.recipe, run.alignment) for run in settings.runs}
    needed |= {pair: settings.answering_mb(pair) for pair in settings.used_pairs}
    assert {each: mb for each, mb in needed.items() if mb * 1e6 > 80 * 2**30} == {}
