"""The timings are taken of what training and answering run."""

from __future__ import annotations

from benchmarks.speed.__main__ import measure


def test_every_part_is_timed_on_a_small_batch() -> None:
    times = measure(batch_size=4, repeats=1)
    assert set(times) == {
        "train_step_ms", "collate_ms", "sharer_prefill_ms", "fused_forward_ms", "decode_8_tokens_ms"
    }  # fmt: skip
    assert all(time > 0 for time in times.values())
