"""Published fusers in a workflow: fetched with a manifest, found again by it, and asked as they were published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from c2c import RefusedError, RosettaModel, generate_kv_cache_index
from c2c.checkpoints import released_folder
from c2c.cli.main import main
from c2c.evaluation.generate import GenerationRun, generate
from c2c.models.loading import LoadedModel, load_causal_model
from c2c.models.pair import Pair
from c2c.storage.formats import write_json
from c2c.storage.manifests import describe_source
from tests.evaluation.conftest import ask, fused_method

CASE = Path(__file__).parents[1] / "golden" / "qwen3_from_qwen2"
PUBLISHED = "qwen3_from_qwen2_Fuser"


@pytest.fixture
def mirror(tmp_path, monkeypatch) -> Path:
    """A mirror with the golden fusers as a hub repository with one subfolder."""
    root = tmp_path / "mirror"
    shutil.copytree(CASE / "released_1", root / "owner" / "fusers" / PUBLISHED)
    monkeypatch.setenv("C2C_HUB_MIRROR", str(root))
    return root / "owner" / "fusers" / PUBLISHED


@pytest.fixture
def manifest(mirror, tmp_path) -> Path:
    path = tmp_path / "released.json"
    given = ["--fuser", "owner/fusers", "--subfolder", PUBLISHED, "--revision", "main", "--output", str(path)]
    assert main(["fetch-fuser", *given]) == 0
    return path


@pytest.fixture
def pair(word_tokenizer) -> Pair:
    loaded = [load_causal_model(CASE / name) for name in ("receiver", "sharer_1")]
    return Pair(LoadedModel("receiver", loaded[0], word_tokenizer), LoadedModel("sharer_1", loaded[1], word_tokenizer))


def test_the_manifest_names_source_models_alignment_and_every_file(manifest, mirror) -> None:
    said = json.loads(manifest.read_text())
    assert (said["id"], said["subfolder"], said["source"]) == ("owner/fusers", PUBLISHED, "mirror")
    assert said["models"] == {"receiver": "receiver", "sharer": "sharer_1"}
    assert said["alignment"] == "unaligned"
    assert len(said["sha256"]) == 1 + 3 * 2 + 1 and "final/projector_2.pt" in said["sha256"]
    assert str(mirror) not in manifest.read_text()
    assert released_folder.resolve_released(manifest) == mirror
    assert released_folder.is_released(manifest) and released_folder.is_released(mirror)


def test_a_file_that_changed_since_it_was_fetched_is_refused_by_name(manifest, mirror) -> None:
    (mirror / "final" / "projector_1.json").write_text("{}")
    with pytest.raises(RefusedError, match=r"\['final/projector_1.json has changed'\]"):
        released_folder.resolve_released(manifest)


def test_a_manifest_of_a_model_and_a_folder_of_own_fusers_are_not_taken_for_published_ones(mirror, tmp_path) -> None:
    write_json(tmp_path / "model.json", describe_source(mirror, id="x/y", revision=None, path=None, source="mirror"))
    assert not released_folder.is_released(tmp_path / "model.json")
    assert not released_folder.is_released(tmp_path)


@pytest.mark.parametrize(
    ("said", "alignment"),
    [
        ({}, "unaligned"),
        ({"is_do_alignment": True}, "first"),
        ({"is_do_alignment": True, "alignment_strategy": "longest"}, "longest"),
        ({"is_do_alignment": False, "alignment_strategy": "longest"}, "unaligned"),
    ],
)
def test_the_alignment_is_the_published_one(mirror, said, alignment) -> None:
    recipe = json.loads((mirror / "config.json").read_text())
    recipe["model"] |= said
    recipe["model"]["is_do_alignment"] = said.get("is_do_alignment", False)
    (mirror / "config.json").write_text(json.dumps(recipe))
    assert released_folder.released_alignment(mirror) == alignment


def test_an_unknown_alignment_is_refused(mirror) -> None:
    recipe = json.loads((mirror / "config.json").read_text())
    recipe["model"] |= {"is_do_alignment": True, "alignment_strategy": "shortest"}
    (mirror / "config.json").write_text(json.dumps(recipe))
    with pytest.raises(RefusedError, match="alignment_strategy"):
        released_folder.released_alignment(mirror)


@torch.no_grad()
def test_published_fusers_answer_as_the_model_that_they_make(pair, manifest, questions) -> None:
    asked = questions["choice"]
    answers = ask(fused_method("c2c", pair, str(manifest)), asked, 10_000)
    model = RosettaModel.from_released(CASE / "released_1", receiver=CASE / "receiver", sharers=CASE / "sharer_1")
    for question, answer in zip(asked, answers, strict=True):
        ids = torch.tensor([pair.receiver.tokenizer(question.prompt)["input_ids"]])
        logits = model(generate_kv_cache_index(ids.shape[1] - 1, 1), ids).logits[0, -1].log_softmax(-1)
        options = [pair.receiver.tokenizer(each)["input_ids"][0] for each in question.options]
        assert answer.choice_scores == pytest.approx([float(logits[option]) for option in options], abs=1e-4)


def test_the_controls_of_published_fusers_are_other_answers(pair, manifest, questions) -> None:
    def scores(name: str) -> torch.Tensor:
        answers = ask(fused_method(name, pair, str(manifest)), questions["choice"], 10_000)
        return torch.tensor([answer.choice_scores for answer in answers])

    matched, deranged, zeroed = (scores(name) for name in ("c2c", "c2c_deranged", "c2c_zeroed"))
    assert not torch.allclose(matched, deranged, atol=1e-5)
    assert not torch.allclose(matched, zeroed, atol=1e-5)


def test_records_of_published_fusers_carry_their_alignment_and_no_seed(
    pair, manifest, benchmark_files, tmp_path
) -> None:
    for name in ("receiver", "sharer_1"):
        folder = shutil.copytree(CASE / name, tmp_path / name)
        pair.receiver.tokenizer.save_pretrained(folder)
    tasks, files = benchmark_files
    run = GenerationRun(
        scale="smoke", pair="golden", receiver=str(tmp_path / "receiver"), sharers=[str(tmp_path / "sharer_1")],
        methods=["c2c", "c2c_deranged", "c2c_zeroed", "receiver"], tasks=tasks, benchmarks=files,
        output=tmp_path / "records.parquet", fusers=[str(manifest)], recipe="released",
    )  # fmt: skip
    records = generate(run)
    fused = records[records.method != "receiver"]
    assert set(fused.recipe) == {"released"} and set(fused.alignment) == {"unaligned"} and fused.seed.isna().all()
    assert set(records[records.method == "receiver"].alignment) == {""}
    assert records.error.isna().all()


def test_fusers_published_for_other_models_are_refused(pair, manifest) -> None:
    other = Pair(LoadedModel("another", pair.receiver.model, pair.receiver.tokenizer), pair.sharer)
    with pytest.raises(RefusedError, match=r"receiver\.id"):
        fused_method("c2c", other, str(manifest))


def test_without_alignment_a_sharer_that_lacks_tokens_is_refused(pair, manifest, split_tokenizer) -> None:
    other = Pair(LoadedModel("receiver", pair.receiver.model, split_tokenizer), pair.sharer)
    with pytest.raises(RefusedError, match="must have embeddings of all"):
        fused_method("c2c", other, str(manifest))
