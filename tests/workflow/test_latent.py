"""Latent spaces in the config: what is trained and asked of them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from c2c.errors import RefusedError
from c2c.fuser.latent import LatentSpace
from c2c.training.memory import fuser_parameters
from c2c.types import CacheShape
from tests.workflow.test_validation import Merged, edit, put
from workflow.kinds.latent import (
    latent_answers,
    latent_memory_mb,
    latent_pairs,
    latent_parameters,
    latent_sizes,
    latent_tokenised,
    latent_training,
)
from workflow.load import load_settings

ROOT = Path(__file__).resolve().parents[2]


def test_a_space_trains_the_pairs_of_its_groups_and_asks_each_and_each_group(config_of: Merged) -> None:
    config = config_of("smoke")
    config["latent"][0]["seeds"] = [0, 1]
    settings = load_settings(config, ROOT)
    pairs = ["gap_first", "gap_second", "gap_b_first", "gap_b_second"]
    assert latent_pairs(settings, "gap_latent") == pairs
    expected = {f"gap_latent/pairs/{pair}/span/seed{seed}" for pair in pairs for seed in (0, 1)}
    groups = ("gap_halves/sequential", "gap_halves_b/sequential")
    expected |= {f"gap_latent/groups/{group}/span/seed{seed}" for group in groups for seed in (0, 1)}
    found = [job.path.removeprefix("records/latent/") for job in latent_answers(settings)]
    assert set(found) == expected and len(found) == len(expected)


def test_a_space_has_the_scales_training_but_for_what_is_its_own(config_of: Merged) -> None:
    config = config_of("smoke")
    config["training"]["keep_steps"] = [10]
    config["latent"][0]["training"] = {"steps": 777, "evaluate_every": 7, "max_length": 99}
    settings = load_settings(config, ROOT)
    training = latent_training(settings, "gap_latent")
    assert (training["steps"], training["learning_rate"]) == (777, config["training"]["learning_rate"])
    assert (training["latent_layers"], training["latent_heads"], training["latent_head_dim"]) == (3, 4, 24)
    assert "keep_steps" not in training and "retries" not in training
    assert latent_tokenised(settings, "gap_latent")[2] == "gap_b_first/span/99"


def test_a_model_in_several_pairs_counts_once_in_the_memory(config_of: Merged) -> None:
    settings = load_settings(config_of("config"), ROOT)
    before = latent_memory_mb(settings, "qwen_latent")
    # Its four pairs are of two Receivers and two Sharers, each of which is in two of them.
    settings.config["latent"][0]["groups"] = settings.config["latent"][0]["groups"][:1]
    receiver = settings.sizes("qwen25_05b")
    decoder = fuser_parameters(latent_sizes(settings, "qwen_latent"), receiver, settings.training)
    fewer = before - latent_memory_mb(settings, "qwen_latent")
    assert fewer == pytest.approx((2 * receiver.parameters + 16 * decoder) / 1e6, abs=2)


def test_parts_have_as_many_parameters_as_their_modules(config_of: Merged) -> None:
    settings = load_settings(config_of("smoke"), ROOT)
    training = latent_training(settings, "gap_latent")
    shapes = [CacheShape(each.layers, each.kv_heads, each.head_dim) for each in map(settings.sizes, MODELS)]
    space = LatentSpace(
        {"sharer": shapes[0]},
        {"receiver": shapes[1]},
        CacheShape(3, 4, 24),
        **{name: training[name] for name in ("hidden_dim", "intermediate_dim", "num_layers")},
    )
    counted = latent_parameters(settings, "gap_latent", "gap_first")
    assert counted == sum(parameter.numel() for parameter in space.parameters())


MODELS = ("gap_sharer_first", "gap_receiver_a")


REFUSED = {
    "unknown group": (
        put("latent.0.groups", ["gap_halfs"]),
        r"A group must be a row of config/groups\.tsv; .*Did you mean 'gap_halves'\?",
    ),
    "no size": (put("latent.0.heads", 0), r"latent\.0\.heads must be at least 1"),
    "unknown key": (put("latent.0.slots", 3), r"latent\.0 must have only known keys"),
    "uneven batches": (put("latent.0.training", {"batch_size": 50}), r"examples of each of its 4 pairs; received 50"),
    "evaluated never": (
        put("latent.0.training", {"evaluate_every": 999}),
        r"latent space 'gap_latent': evaluate_every must be at most",
    ),
    "a model that nobody asks": (
        put("latent.0.groups", ["qwen3_coder_and_base"]),
        r"must be a model of a pair in runs; received 'qwen3_06b'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_an_impossible_space_is_refused(case: str, config_of: Merged) -> None:
    change, message = REFUSED[case]
    config = config_of("smoke")
    change(config)
    with pytest.raises(RefusedError, match=message):
        load_settings(config, ROOT)


def test_a_space_that_stands_twice_or_has_a_pair_twice_is_refused(config_of: Merged, root: Path) -> None:
    config = config_of("smoke")
    config["latent"].append(dict(config["latent"][0]))
    with pytest.raises(RefusedError, match="must stand once in latent; received 'gap_latent'"):
        load_settings(config, ROOT)
    edit(root / "config" / "groups.tsv", "gap_b_first gap_b_second", "gap_first gap_second")
    with pytest.raises(RefusedError, match="A pair must stand once in latent space 'gap_latent'; received 'gap_first'"):
        load_settings(config_of("smoke"), root)


def test_a_receiver_that_is_asked_nothing_alone_is_refused(config_of: Merged) -> None:
    config = config_of("smoke")
    config["runs"] = [entry for entry in config["runs"] if entry["pair"] != "gap_b"]
    config["analysis"]["partial"] = None
    config["artefacts"]["tables"] = [name for name in config["artefacts"]["tables"] if name != "partial"]
    config["artefacts"]["figures"] = [name for name in config["artefacts"]["figures"] if name != "partial"]
    with pytest.raises(RefusedError, match="must be a model of a pair in runs; received 'gap_receiver_b'"):
        load_settings(config, ROOT)
