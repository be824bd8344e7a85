"""What a wheel must do in an environment of its own: the README's program, the doctor, a check, and a refusal.

``make wheel`` runs this in an empty folder with the Python of that environment: ``python tests/installed.py``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

README = Path(__file__).resolve().parents[1] / "README.md"
SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "head_dim": 8}


def tiny_pair() -> tuple[PreTrainedModel, PreTrainedModel]:
    """A Receiver of three layers and a Sharer of four, with random weights."""
    receiver = Qwen3ForCausalLM(Qwen3Config(**SIZES, num_hidden_layers=3, num_key_value_heads=2))
    sharer = LlamaForCausalLM(LlamaConfig(**SIZES, num_hidden_layers=4, num_key_value_heads=4))
    return receiver.eval(), sharer.eval()


def run_program(receiver: PreTrainedModel, sharer: PreTrainedModel) -> None:
    """The README's program writes what the Receiver alone would write."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    (program,) = (block for block in blocks if "generate_kv_cache_index(10, 1)" in block)
    names = {"base": receiver, "source": sharer, "input_ids": torch.arange(2, 13)[None]}
    exec(program, names)
    mask = torch.ones_like(names["input_ids"])
    options = {"attention_mask": mask, "max_new_tokens": 50, "do_sample": False}
    assert torch.equal(names["output"], receiver.generate(names["input_ids"], **options))


def save(model: PreTrainedModel, folder: Path) -> str:
    """A folder with the model and a tokenizer of letters."""
    letters = {letter: number for number, letter in enumerate("?abcdefghijklmnopqrstuvwxyz")}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?", pad_token="?").save_pretrained(folder)
    return str(folder)


def c2c(*words: str) -> subprocess.CompletedProcess[str]:
    """The command of this environment."""
    return subprocess.run([Path(sys.executable).with_name("c2c"), *words], capture_output=True, text=True, check=False)


def main() -> None:
    """Run everything, or end with the assertion that fails."""
    import c2c as package

    assert not Path(package.__file__).is_relative_to(README.parent / "c2c"), "the checkout is used, not the wheel"
    pair = tiny_pair()
    run_program(*pair)
    # The commands
    doctor = c2c("doctor", "--offline", "--json")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    absent = [finding["name"] for finding in json.loads(doctor.stdout)["findings"] if finding["state"] == "absent"]
    with tempfile.TemporaryDirectory() as folder:
        places = [save(model, Path(folder, name)) for model, name in zip(pair, ("receiver", "sharer"), strict=True)]
        flags = ["--receiver", places[0], "--sharer", places[1]]
        check = c2c("check", *flags, "--device", "cpu")
        assert check.returncode == 0 and "can be connected" in check.stdout, check.stdout + check.stderr
        # Without the extra a training is refused by the extra's name
        if "extra evaluation" in absent:
            sets = ["--data", "a.jsonl", "--validation", "b.jsonl", "--checkpoints", "states", "--output", "fusers"]
            train = c2c("train", *flags, *sets)
            assert train.returncode == 2 and "cache-to-cache[evaluation]" in train.stderr, train.stderr
    print("The installed package runs the README's program, c2c doctor and c2c check.")


if __name__ == "__main__":
    main()
