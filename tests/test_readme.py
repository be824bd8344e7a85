"""What the README prints runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import torch

README = Path(__file__).parent.parent / "README.md"


def library_program() -> str:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    (program,) = (block for block in blocks if "generate_kv_cache_index(10, 1)" in block)
    return program


def test_the_library_program_is_the_one_that_users_of_the_prototype_know() -> None:
    code = [line.split("#")[0].rstrip() for line in library_program().splitlines()]
    assert code == [
        "from c2c import RosettaModel, create_c2c_projector, generate_kv_cache_index",
        "projectors = [create_c2c_projector(source.config, base.config) for _ in range(base.config.num_hidden_layers)]",
        "rosetta = RosettaModel([base, source], projector_list=projectors)",
        "for i in range(base.config.num_hidden_layers):",
        "    rosetta.set_projector_config(1, i, 0, i, i)",
        "output = rosetta.generate(generate_kv_cache_index(10, 1), input_ids, max_new_tokens=50)",
    ]


def test_the_library_program_runs_as_printed(tiny_model) -> None:
    names = {
        "base": tiny_model("qwen3"),
        "source": tiny_model("llama", layers=4, seed=1),
        "input_ids": torch.arange(2, 13)[None],
    }
    exec(library_program(), names)
    alone = names["base"].generate(
        names["input_ids"], attention_mask=torch.ones(1, 11, dtype=torch.long), max_new_tokens=50, do_sample=False
    )
    assert torch.equal(names["output"], alone)
    # A fresh Fuser is closed, so that no fusion at all would pass the line above.
    torch.manual_seed(0)
    for projector in names["projectors"]:
        for half in ("key", "value"):
            projector.gate_logit(half).data.fill_(1.0)
            projector.get_submodule(f"{half}_proj_out").weight.data.mul_(8)
    opened = names["rosetta"].generate(names["generate_kv_cache_index"](10, 1), names["input_ids"], max_new_tokens=50)
    assert not torch.equal(opened, alone)
