"""Free memory of the device that models run on, and the memory that a piece of work takes.

`MemoryMeter` measures a CUDA device by PyTorch's allocator, and a CPU under Linux by what the kernel counts for this
process. `most_rows` finds with it how large a batch may be.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import torch

from c2c.errors import RefusedError

MEMORY_SHARE = 0.85
"""Share of the free memory that a batch may take; the rest is for fragments of the allocator and for other programs."""

PROCESS, MACHINE, GROUPS = Path("/proc/self"), Path("/proc/meminfo"), Path("/sys/fs/cgroup")
"""Where the kernel counts: this process, the whole machine, and the control groups that limit jobs."""


class MemoryMeter:
    """Measures memory in bytes, on the device where models run.

    Args:
        device: A CUDA device, or the CPU.

    Raises:
        RefusedError: If the memory of such a device cannot be measured here.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type != "cuda" and not (device.type == "cpu" and (PROCESS / "status").exists()):
            rule = "Memory must be that of a CUDA device, or of a CPU under Linux, to be measured"
            raise RefusedError(rule, str(device), "Set a number of tokens instead of auto")
        self.device = device

    def free(self) -> int:
        """Bytes that this process can still allocate, its share if several processes train on this machine's CPU."""
        if self.device.type == "cuda":
            # What the allocator has reserved and does not use is free for this process alone.
            cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            return torch.cuda.mem_get_info(self.device)[0] + cached
        free = min([_kilobytes(MACHINE, "MemAvailable"), *_group_limits()])
        return free // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def peak_of(self, work: Callable[[], object]) -> int | None:
        """The most bytes that `work` holds at a time, beyond those held before it; None where memory runs out."""
        before = self._start()
        try:
            work()
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        return max(self._peak() - before, 0)

    def _start(self) -> int:
        """Begin a new peak; returns the bytes that are held."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            # Blocks of other sizes that the allocator holds without use
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            return torch.cuda.memory_allocated(self.device)
        # What was freed goes back to the system, or the next work would take it without a trace; glibc alone has this.
        with suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        # 5 sets the peak of the process to what it holds. Where it cannot be set, an earlier peak is an upper bound.
        with suppress(OSError):
            (PROCESS / "clear_refs").write_text("5")
        return _kilobytes(PROCESS / "status", "VmRSS")

    def _peak(self) -> int:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return torch.cuda.max_memory_allocated(self.device)
        return _kilobytes(PROCESS / "status", "VmHWM")


def most_rows(peak_of: Callable[[int], int | None], allowance: float, most: int) -> int:
    """The most rows that a batch may have, from runs with 1, 2, 4 and more rows.

    A peak is the greatest of several sums that each grow linearly with the rows (of the forward pass, of the backward
    pass, of single layers), so the line between two measured peaks lies above those between them; a line through them
    lies below those beyond, and only says how far the next run may go.

    Args:
        peak_of: Runs a number of rows; gives the bytes that they take, or None if memory runs out.
        allowance: Bytes that they may take.
        most: Rows that are needed at most, at least 1.

    Returns:
        From 0, if not even one row fits, to `most`.
    """
    fit, lower, rows = 0, 0, 1
    while True:
        peak = peak_of(rows)
        if peak is None:
            return fit
        if peak > allowance:
            return fit + (int((rows - fit) * (allowance - lower) / (peak - lower)) if fit else 0)
        growth = (peak - lower) / (rows - fit)
        room = most if growth <= 0 else int((allowance - peak) / growth)
        fit, lower = rows, peak
        if rows == most or room < 1:
            return rows
        rows = min(2 * rows, rows + room, most)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had no memory left; torch has no class of its own for the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _kilobytes(path: Path, name: str) -> int:
    """A value that a file of the kernel states in kB, in bytes."""
    match = re.search(rf"^{name}:\s+(\d+) kB", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert match, f"{path} has no {name}"
    return 1024 * int(match[1])


def _group_limits() -> Iterator[int]:
    """Bytes that each limit of the control groups of this process still allows (cgroup v2)."""
    match = re.search(r"^0::/(.*)$", (PROCESS / "cgroup").read_text(encoding="utf-8"), re.MULTILINE)
    folder = GROUPS / match[1] if match else GROUPS
    for group in (folder, *folder.parents):
        try:
            limit, current, details = ((group / f"memory.{name}").read_text() for name in ("max", "current", "stat"))
        except OSError:
            continue
        # Files that were read and are not in use make room when it is needed.
        cached = re.search(r"^inactive_file (\d+)", details, re.MULTILINE)
        if limit.strip() != "max":
            yield max(int(limit) - int(current) + (int(cached[1]) if cached else 0), 0)
