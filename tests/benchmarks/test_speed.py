"""The timings are taken of what training and answering run."""

from __future__ import annotations

from benchmarks.speed.__main__ import measure, pads


def test_every_part_is_timed_on_a_small_batch() -> None:
    times = measure(batch_size=4, repeats=1)
    training = {"train_step_ms", "loss_whole_ms", "loss_response_ms", "collate_ms"}
    assert set(times) == training | {"sharer_prefill_ms", "fused_forward_ms", "decode_8_tokens_ms"}
    assert all(time > 0 for time in times.values())


def test_batches_of_similar_length_have_few_pads() -> None:
    shares = pads(batch_size=8)
    assert shares["pads_similar_length"] < shares["pads_shuffled"] / 3
