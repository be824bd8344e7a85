"""What the README prints runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import torch

README = Path(__file__).parent.parent / "README.md"


def test_the_library_program_runs_as_printed(tiny_model) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    (program,) = (block for block in blocks if "generate_kv_cache_index(10, 1)" in block)
    names = {
        "base": tiny_model("qwen3"),
        "source": tiny_model("llama", seed=1),
        "input_ids": torch.arange(2, 13)[None],
    }
    exec(program, names)
    alone = names["base"].generate(
        names["input_ids"], attention_mask=torch.ones(1, 11, dtype=torch.long), max_new_tokens=50, do_sample=False
    )
    assert torch.equal(names["output"], alone)
