"""A Sharer's cache as a file: another process writes it, and the Receiver answers as if the Sharer were here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from c2c import FuserStack, RefusedError, RosettaModel, SharerCache, SharerInput, generate_kv_cache_index
from c2c.checkpoints.sharer_cache import MANIFEST, STATES
from c2c.provenance import file_hash
from tests.conftest import build_model

ROOT = Path(__file__).parent.parent
TOTAL = 11
WRITER = """
import sys
import torch
from transformers import AutoModelForCausalLM
from c2c import SharerCache, SharerInput
sharer = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
ids = torch.tensor(eval(sys.argv[2]))
SharerCache.of_model(sharer, SharerInput.of_receiver(ids, torch.ones_like(ids))).save(sys.argv[3])
"""


@pytest.fixture
def given(prompt_ids) -> SharerInput:
    prefix = prompt_ids[:, :-1]
    return SharerInput.of_receiver(prefix, torch.ones_like(prefix))


@pytest.fixture
def saved(open_model, given, tmp_path) -> Path:
    SharerCache.of_model(open_model.sharers[0], given).save(tmp_path / "cache")
    return tmp_path / "cache"


def without_sharer(model: RosettaModel) -> RosettaModel:
    stacks = [model.stack(0)]
    return RosettaModel.of_stacks(model.receiver, [model.sharers[0].config], stacks)


def test_a_receiver_alone_in_its_process_answers_with_what_another_process_wrote(
    open_model, prompt_ids, tmp_path
) -> None:
    open_model.sharers[0].save_pretrained(tmp_path / "sharer")
    arguments = [str(tmp_path / "sharer"), str(prompt_ids[:, :-1].tolist()), str(tmp_path / "cache")]
    subprocess.run([sys.executable, "-c", WRITER, *arguments], check=True, cwd=ROOT)
    index = generate_kv_cache_index(TOTAL - 1, 1)
    here = open_model.generate(index, prompt_ids, max_new_tokens=5)
    loaded = SharerCache.load(tmp_path / "cache").as_input()
    there = without_sharer(open_model).generate(index, prompt_ids, max_new_tokens=5, sharer_inputs=[loaded])
    assert torch.equal(there, here)


def test_a_cache_from_before_the_computation_was_a_line_is_fused_and_one_that_computes_otherwise_is_not(
    open_model, saved, tmp_path
) -> None:
    open_model.save_pretrained(tmp_path / "fuser")
    manifest = json.loads((saved / MANIFEST).read_text())
    computation = manifest["sharer"].pop("computation")
    (saved / MANIFEST).write_text(json.dumps(manifest))
    SharerCache.load(saved).check_fusers(tmp_path / "fuser")
    manifest["sharer"]["computation"] = {**computation, "hidden_act": "relu"}
    (saved / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(RefusedError, match=r"sharer\.computation: expected .'hidden_act': 'silu'"):
        SharerCache.load(saved).check_fusers(tmp_path / "fuser")


def test_a_cache_survives_the_file_bit_for_bit(open_model, given, saved) -> None:
    before, after = SharerCache.of_model(open_model.sharers[0], given), SharerCache.load(saved)
    for old, new in zip(before.layers, after.layers, strict=True):
        assert torch.equal(old[0], new[0])
        assert torch.equal(old[1], new[1])
    assert torch.equal(after.token_map, given.token_map)
    assert after.sharer == before.sharer


def test_a_sharer_that_is_not_here_needs_its_cache(open_model, prompt_ids) -> None:
    with pytest.raises(RefusedError, match="Sharer 1 runs elsewhere, so its cache must be given"):
        without_sharer(open_model).generate(generate_kv_cache_index(TOTAL - 1, 1), prompt_ids, max_new_tokens=1)


def test_a_cache_of_another_model_is_refused_line_by_line(open_model, given, tmp_path) -> None:
    open_model.save_pretrained(tmp_path / "fusers")
    assert not SharerCache.of_model(open_model.sharers[0], given).check_fusers(tmp_path / "fusers").accepted
    other = build_model("llama", layers=4, kv_heads=1, head_dim=12, seed=7)
    cache = SharerCache.of_model(other, given)
    with pytest.raises(RefusedError, match=r"sharer\.weights_sha256"):
        cache.check_fusers(tmp_path / "fusers")
    assert cache.check_fusers(tmp_path / "fusers", override=["sharer.weights_sha256"]).accepted


def test_a_cache_of_another_model_is_refused_by_loaded_fusers_before_the_receiver_runs(
    open_model, given, prompt_ids, tmp_path, monkeypatch
) -> None:
    open_model.save_pretrained(tmp_path / "fusers")
    models = {"receiver": open_model.receiver, "sharers": open_model.sharers}
    index = generate_kv_cache_index(TOTAL - 1, 1)
    other = build_model("llama", layers=4, kv_heads=1, head_dim=12, seed=7)
    for model, name in ((open_model.sharers[0], "right"), (other, "wrong")):
        SharerCache.of_model(model, given).save(tmp_path / name)
    right, wrong = ([SharerCache.load(tmp_path / name).as_input()] for name in ("right", "wrong"))
    strict = RosettaModel.from_pretrained(tmp_path / "fusers", **models)
    lenient = RosettaModel.from_pretrained(tmp_path / "fusers", **models, override=["sharer.weights_sha256"])
    assert torch.equal(strict(index, prompt_ids, sharer_inputs=right).logits, open_model(index, prompt_ids).logits)
    assert strict.contract_check.accepted == ()
    assert not torch.equal(lenient(index, prompt_ids, sharer_inputs=wrong).logits, open_model(index, prompt_ids).logits)
    (accepted,) = lenient.contract_check.accepted
    assert accepted.startswith("sharer.weights_sha256: expected")
    monkeypatch.setattr(open_model.receiver.base_model, "forward", lambda **_: pytest.fail("the Receiver ran"))
    for run in (strict, lambda *a, **k: strict.generate(*a, **k, max_new_tokens=1)):
        with pytest.raises(RefusedError, match=r"sharer\.weights_sha256: expected .*override="):
            run(index, prompt_ids, sharer_inputs=wrong)


def test_a_cache_that_does_not_say_of_which_model_it_is_is_refused_by_loaded_fusers(
    open_model, given, prompt_ids, tmp_path
) -> None:
    open_model.save_pretrained(tmp_path / "fusers")
    model = RosettaModel.from_pretrained(
        tmp_path / "fusers", receiver=open_model.receiver, sharers=open_model.sharers[0]
    )
    SharerCache.of_model(open_model.sharers[0], given).save(tmp_path / "cache")
    rewrite(tmp_path / "cache", sharer={})
    with pytest.raises(RefusedError, match=r"sharer\.architecture: expected 'llama', found None"):
        model(generate_kv_cache_index(TOTAL - 1, 1), prompt_ids,
              sharer_inputs=[SharerCache.load(tmp_path / "cache").as_input()])  # fmt: skip


def test_with_several_sharers_each_cache_is_compared_with_its_own(two_sharers, given, prompt_ids, tmp_path) -> None:
    two_sharers.save_pretrained(tmp_path / "fusers")
    model = RosettaModel.from_pretrained(
        tmp_path / "fusers", receiver=two_sharers.receiver, sharers=two_sharers.sharers
    )
    other = build_model("llama", layers=4, seed=7)
    index = generate_kv_cache_index(TOTAL - 1, 1)
    index[0][..., 0] = 3
    read = [SharerCache.of_model(each, given).as_input() for each in (*two_sharers.sharers, other)]
    assert torch.equal(model(index, prompt_ids, sharer_inputs=read[:2]).logits, model(index, prompt_ids).logits)
    with pytest.raises(RefusedError, match=r"received \[.sharer_2\.weights_sha256: expected"):
        model(index, prompt_ids, sharer_inputs=[read[0], read[2]])


def rewrite(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}))


def drop(folder: Path, key: str) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest[key]
    (folder / MANIFEST).write_text(json.dumps(manifest))


def drop_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / STATES)
    del tensors["key.1"]
    save_file(tensors, folder / STATES)
    rewrite(folder, sha256={STATES: file_hash(folder / STATES)})


def truncate(folder: Path) -> None:
    (folder / STATES).write_bytes((folder / STATES).read_bytes()[:-9])


def not_safetensors(folder: Path) -> None:
    (folder / STATES).write_bytes(b"nothing of the kind")
    rewrite(folder, sha256={STATES: file_hash(folder / STATES)})


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), "no manifest.json in cache/"),
        (lambda folder: (folder / STATES).unlink(), "no cache.safetensors in cache/"),
        (truncate, "cache.safetensors must be a safetensors file"),
        (not_safetensors, "must be a safetensors file"),
        (drop_a_tensor, "must hold what the manifest says.*key.1"),
        (lambda folder: rewrite(folder, version=2), "version 1; received .*2"),
        (lambda folder: rewrite(folder, format="other"), "must be c2c-sharer-cache"),
        (lambda folder: rewrite(folder, rows=3), r"expected \(3, 1, 10, 12\)"),
        (lambda folder: rewrite(folder, dtype="bfloat16"), r"key.0 is float32, expected bfloat16"),
        (
            lambda folder: rewrite(folder, shape={"layers": 4, "heads": 1}),
            "shape in manifest.json must hold.*no head_dim",
        ),
        (lambda folder: rewrite(folder, shape=[4, 1, 12]), "shape is .*not an object"),
        (lambda folder: rewrite(folder, tokens="ten"), "tokens is 'ten', not a whole number"),
        (lambda folder: rewrite(folder, rows=-1), r"must be at least 1; received .*rows is -1"),
        (lambda folder: rewrite(folder, sha256={}), "sha256 in manifest.json must hold cache.safetensors"),
        (lambda folder: rewrite(folder, written_by="me"), "unknown written_by"),
        (lambda folder: rewrite(folder, sharer=None), "sharer is None, not an object"),
        (lambda folder: drop(folder, "dtype"), "manifest.json must hold.*no dtype"),
        (lambda folder: drop(folder, "rows"), "no rows"),
        (lambda folder: (folder / MANIFEST).write_text('{"format": "c2c-sha'), "manifest.json must be JSON"),
        (lambda folder: (folder / MANIFEST).write_text("[1, 2]"), "hold an object; received 'list'"),
        (lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe{}"), "manifest.json must be UTF-8 text"),
    ],
)
def test_a_spoilt_cache_is_refused(saved, spoil, rule) -> None:
    spoil(saved)
    with pytest.raises(RefusedError, match=rule):
        SharerCache.load(saved)


def test_a_save_that_fails_leaves_the_cache_that_was_there(open_model, given, saved, monkeypatch) -> None:
    monkeypatch.setattr(
        "c2c.checkpoints.sharer_cache.save_file", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        SharerCache.of_model(open_model.sharers[0], given).save(saved)
    assert sorted(path.name for path in saved.iterdir()) == [STATES, MANIFEST]
    assert torch.equal(SharerCache.load(saved).input_ids, given.input_ids)


def test_a_cache_of_other_sizes_or_with_nan_is_refused_before_the_receiver_runs(
    open_model, given, prompt_ids, monkeypatch
) -> None:
    cache = SharerCache.of_model(open_model.sharers[0], given)
    monkeypatch.setattr(open_model.receiver.base_model, "forward", lambda **_: pytest.fail("the Receiver ran"))
    index = generate_kv_cache_index(TOTAL - 1, 1)

    def answer(layers) -> None:
        changed = SharerInput(given.input_ids, given.attention_mask, given.token_map, layers=layers)
        open_model.generate(index, prompt_ids, max_new_tokens=1, sharer_inputs=[changed])

    with pytest.raises(RefusedError, match=r"must have 4 layers of keys and values.*3 layers"):
        answer(cache.layers[:3])
    with pytest.raises(RefusedError, match=r"received \(2, 1, 9, 12\)"):
        answer([(keys[:, :, 1:], values[:, :, 1:]) for keys, values in cache.layers])
    with pytest.raises(RefusedError, match="must be finite"):
        answer([(keys * float("nan"), values) for keys, values in cache.layers])


def test_fusers_and_the_cache_may_differ_in_precision(open_model, given, prompt_ids) -> None:
    cache = SharerCache.of_model(open_model.sharers[0], given)
    half = [(keys.bfloat16(), values.bfloat16()) for keys, values in cache.layers]
    index = generate_kv_cache_index(TOTAL - 1, 1)
    changed = SharerInput(given.input_ids, given.attention_mask, given.token_map, layers=half)
    exact, rounded = (
        open_model(index, prompt_ids, sharer_inputs=[each]).logits for each in (cache.as_input(), changed)
    )
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, atol=0.5, rtol=0.1)


def test_a_stack_has_the_sizes_of_a_sharer_that_is_not_here(open_model) -> None:
    model = without_sharer(open_model)
    assert isinstance(model.stack(0), FuserStack)
    assert model.stack(0).sharer == open_model.stack(0).sharer
