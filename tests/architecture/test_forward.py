"""A fused forward runs through few files, so that a reader can follow it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from c2c import FuserStack, RosettaModel, generate_kv_cache_index
from tests.conftest import SMALL, build_model

ROOT = Path(__file__).resolve().parents[2]
MOST_FILES = 7


def test_a_fused_forward_runs_through_few_files() -> None:
    receiver, sharer = build_model("llama"), build_model("qwen3")
    stack = FuserStack.between(sharer.config, receiver.config, **SMALL)
    rosetta = RosettaModel.of_stacks(receiver, [sharer], [stack])
    sections, input_ids = generate_kv_cache_index(5, 2), torch.arange(1, 8)[None]
    files: set[Path] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT / "c2c"):
            files.add(path.relative_to(ROOT))

    sys.setprofile(note)
    try:
        rosetta(sections, input_ids)
    finally:
        sys.setprofile(None)
    # The public class and the Fuser are among them
    assert {Path("c2c/rosetta.py"), Path("c2c/fuser/layer.py")} <= files
    assert len(files) <= MOST_FILES, sorted(files)
