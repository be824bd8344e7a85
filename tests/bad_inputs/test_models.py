"""Model folders that are spoilt, ask for the impossible, or would run code: all are refused."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from c2c.errors import RefusedError
from c2c.models.loading import load_causal_model, load_model, load_tokenizer
from c2c.storage.formats import write_json
from tests.bad_inputs.model_folders import BINARY, CONFIG, WEIGHTS, change_weights, cut, edit
from tests.bad_inputs.refusals import refused
from tests.conftest import FAMILIES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(model_folder, tmp_path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def without_layer(state: dict[str, torch.Tensor]) -> None:
    for name in [name for name in state if ".layers.2." in name]:
        del state[name]


class Marked:
    """What a pickle with code in it holds."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def pickled(folder: Path, content: Any = None) -> None:
    (folder / WEIGHTS).unlink()
    content = {"lm_head.weight": Marked(folder.parent / "ran")} if content is None else content
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content) + bytes(200_000))


SPOILT: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "E2 code of its own for a type that nobody knows": (
        lambda at: edit(at / CONFIG, model_type="evil", auto_map={"AutoModelForCausalLM": "evil.Evil"}),
        ("model_type", "never run", "'evil'"),
    ),
    "a type that nobody knows": (lambda at: edit(at / CONFIG, model_type="llama99"), ("model_type", "'llama99'")),
    "a type that is a number": (lambda at: edit(at / CONFIG, model_type=7), ("model_type", "7")),
    "a type that is a list": (lambda at: edit(at / CONFIG, model_type=["qwen3"]), ("model_type",)),
    "a type without a causal model": (lambda at: edit(at / CONFIG, model_type="vit"), ("causal model",)),
    "E4 pickled weights with code": (pickled, ("tensors alone", "never run", "safetensors")),
    "pickled weights that are a list": (lambda at: pickled(at, [1, 2]), ("weights",)),
    "pickled weights cut off": (lambda at: (pickled(at), cut(at / "pytorch_model.bin")), ("weights",)),
    "E5 weights cut off": (lambda at: cut(at / WEIGHTS), ("weights", "SafetensorError")),
    "weights empty": (lambda at: (at / WEIGHTS).write_bytes(b""), ("weights",)),
    "weights binary": (lambda at: (at / WEIGHTS).write_bytes(BINARY), ("weights",)),
    "weights are text": (lambda at: (at / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\n"),
                         ("config.json", "bytes")),
    "weights are a folder": (lambda at: ((at / WEIGHTS).unlink(), (at / WEIGHTS).mkdir()), ()),
    "no weights": (lambda at: (at / WEIGHTS).unlink(), ("weights",)),
    "a shard that an index names is missing": (
        lambda at: ((at / WEIGHTS).unlink(), write_json(at / f"{WEIGHTS}.index.json", {"metadata": {}, "weight_map":
                    {"lm_head.weight": "model-1-of-2.safetensors"}})),
        ("weights",),
    ),
    "E6 a layer's weights are missing": (lambda at: change_weights(at, without_layer), ("layers.2", "is missing")),
    "a weight of another shape": (
        lambda at: change_weights(at, lambda state: state.update({"lm_head.weight": torch.zeros(98, 32)})),
        ("lm_head.weight has another shape",),
    ),
    "E7 weights NaN": (
        lambda at: change_weights(at, lambda state: state["model.layers.1.mlp.up_proj.weight"].fill_(float("nan"))),
        ("finite", "model.layers.1.mlp.up_proj.weight"),
    ),
    "one weight infinite": (
        lambda at: change_weights(at, lambda state: state["model.norm.weight"][3:4].fill_(float("-inf"))),
        ("finite", "model.norm.weight"),
    ),
    "E8 no config.json": (lambda at: (at / CONFIG).unlink(), ("config.json must be a file",)),
    "E9 layers without end": (lambda at: edit(at / CONFIG, num_hidden_layers=10**7), ("config.json", "10000000")),
    "layers without end and without a list of kinds": (
        lambda at: edit(at / CONFIG, model_type="llama", num_hidden_layers=10**7, layer_types=None),
        ("num_hidden_layers", "10000000"),
    ),
    "layers are a text": (lambda at: edit(at / CONFIG, num_hidden_layers="3"), ("config.json",)),
    "layers below zero": (lambda at: edit(at / CONFIG, num_hidden_layers=-1), ("config.json",)),
    "a vocabulary that fits into no memory": (lambda at: edit(at / CONFIG, vocab_size=10**12), ("bytes", "numbers")),
    "a vocabulary beyond 64 bits": (lambda at: edit(at / CONFIG, vocab_size=10**30), ("config.json",)),
    "a hidden size that fits into no memory": (
        lambda at: edit(at / CONFIG, hidden_size=10**7, intermediate_size=10**7), ("bytes", "numbers")),
    "hidden size null heads": (lambda at: edit(at / CONFIG, num_attention_heads=0), ("config.json",)),
    "a rope of a kind that nobody knows": (
        lambda at: edit(at / CONFIG, rope_parameters={"rope_type": "spiral"}), ("config.json",)),
    "an activation that nobody knows": (lambda at: edit(at / CONFIG, hidden_act="shout"), ("config.json",)),
    "config empty": (lambda at: (at / CONFIG).write_bytes(b""), ("config.json must be JSON",)),
    "config cut off": (lambda at: cut(at / CONFIG), ("config.json must be JSON",)),
    "config binary": (lambda at: (at / CONFIG).write_bytes(BINARY), ("config.json must be UTF-8",)),
    "config a list": (lambda at: (at / CONFIG).write_text("[]"), ("config.json", "object")),
    "config nested without end": (lambda at: (at / CONFIG).write_text("[" * 100_000), ("config.json must be JSON",)),
    "config an object without keys": (lambda at: (at / CONFIG).write_text("{}"), ("model_type", "None")),
    "generation config cut off": (lambda at: cut(at / "generation_config.json"), ("generation_config.json",)),
    "generation config a list": (lambda at: (at / "generation_config.json").write_text("[]"), ("object",)),
    "generation config binary": (lambda at: (at / "generation_config.json").write_bytes(BINARY), ("UTF-8",)),
    "tokenizer cut off": (lambda at: cut(at / "tokenizer.json"), ("tokenizer",)),
    "tokenizer empty": (lambda at: (at / "tokenizer.json").write_bytes(b""), ("tokenizer",)),
    "tokenizer binary": (lambda at: (at / "tokenizer.json").write_bytes(BINARY), ("tokenizer",)),
    "tokenizer of a later version": (lambda at: edit(at / "tokenizer.json", model={"type": "Quantum"}), ("tokenizer",)),
    "tokenizer's config cut off": (lambda at: cut(at / "tokenizer_config.json"), ("tokenizer_config.json",)),
    "tokenizer's config a list": (
        lambda at: (at / "tokenizer_config.json").write_text("[1]"), ("tokenizer_config.json",)),
    "tokenizer with code of its own": (
        lambda at: ([path.unlink() for path in at.glob("tokenizer*.json")], write_json(at / "tokenizer_config.json",
                    {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}})),
        ("tokenizer",),
    ),
    "no tokenizer": (lambda at: [path.unlink() for path in at.glob("tokenizer*.json")], ("tokenizer",)),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_a_model_folder_that_is_spoilt_is_refused(case, folder) -> None:
    spoil, words = SPOILT[case]
    (folder / "evil.py").write_text(f"open({str(folder.parent / 'ran')!r}, 'w').close()\nclass Evil: pass\n")
    spoil(folder)
    with refused(*words):
        try:
            load_model(str(folder))
        except RefusedError as refusal:
            assert "trust_remote_code" not in str(refusal)
            raise
    assert not (folder.parent / "ran").exists()


def test_the_folder_that_is_spoilt_was_good(folder) -> None:
    assert load_model(str(folder)).model.config.num_hidden_layers == 3


CONFIRMED = """
import sys
from c2c.errors import RefusedError
from c2c.models.loading import load_model, load_tokenizer
from pathlib import Path
for load in (load_model, lambda at: load_tokenizer(Path(at))):
    try:
        load(sys.argv[1])
    except RefusedError as refusal:
        assert "trust_remote_code" not in str(refusal), refusal
        print("refused")
print(sys.stdin.read())
"""


@pytest.mark.slow
def test_E3_code_of_a_folder_is_not_run_when_the_standard_input_says_yes(folder) -> None:
    ran = folder.parent / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Evil: pass\n")
    code = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    edit(folder / CONFIG, model_type="evil", auto_map=code)
    for path in folder.glob("tokenizer*.json"):
        path.unlink()
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "Evil", "auto_map": code})
    command = [sys.executable, "-c", CONFIRMED, str(folder)]
    done = subprocess.run(command, input="y\nyes\n", capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["refused", "refused", "y", "yes"], "nothing else reads the standard input"
    assert not ran.exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_each_family_that_was_saved_is_whole(family, tiny_model, tmp_path) -> None:
    model = tiny_model(family)
    model.save_pretrained(tmp_path)
    loaded = load_causal_model(tmp_path).state_dict()
    assert all(torch.equal(weight, loaded[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("family", ["qwen3", "gemma3", "gpt_neox"])
def test_a_head_that_is_tied_to_the_embeddings_is_not_missing(family, tiny_model, tmp_path) -> None:
    config = tiny_model(family).config
    config.tie_word_embeddings = True
    type(tiny_model(family))(config).save_pretrained(tmp_path)
    assert not any("lm_head" in name or "embed_out" in name for name in load_file(tmp_path / WEIGHTS))
    load_causal_model(tmp_path)
    if family != "gemma3":  # whose head is tied whatever the config says
        edit(tmp_path / CONFIG, tie_word_embeddings=False)
        with refused("is missing"):
            load_causal_model(tmp_path)


def test_numbers_too_large_for_float16_are_refused_in_float16_alone(folder) -> None:
    change_weights(folder, lambda state: state["model.norm.weight"].fill_(1e6))
    load_causal_model(folder, "bfloat16")
    with refused("finite", "float16", "bfloat16"):
        load_causal_model(folder, "float16")


def test_an_error_of_the_machine_is_no_fault_of_the_folder(folder, monkeypatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises(torch.OutOfMemoryError):
        load_causal_model(folder)


def test_a_tokenizer_of_a_folder_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(RefusedError, match="must"):
        load_tokenizer(tmp_path / "none")
