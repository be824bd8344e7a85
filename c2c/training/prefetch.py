"""Batches that are collated in a thread while the device computes the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from c2c.training.batches import Batch


class Prefetch(Iterator[list[int]]):
    """The examples of each step; those of the next are collated while the present ones are learned from.

    Args:
        batches: The numbers of the examples of each step.
        collate: Makes their micro-batches; it is called in another thread and must draw no random numbers.
    """

    def __init__(self, batches: Iterator[list[int]], collate: Callable[[list[int]], list[Batch]]) -> None:
        self._batches, self._collate = batches, collate
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="collate")
        self._present: Future[list[Batch]] | None = None
        self._next_indices = next(batches)
        self._next: Future[list[Batch]] | None = self._thread.submit(collate, self._next_indices)

    def __next__(self) -> list[int]:
        indices, self._present = self._next_indices, self._next
        self._next_indices = next(self._batches)
        self._next = self._thread.submit(self._collate, self._next_indices)
        return indices

    def take(self) -> list[Batch] | None:
        """The micro-batches of the present step, once; None if they must be made anew."""
        future, self._present = self._present, None
        return None if future is None else future.result()

    def forget(self) -> None:
        """Drop what was collated ahead, since it would be cut otherwise now."""
        self._present = self._next = None

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
