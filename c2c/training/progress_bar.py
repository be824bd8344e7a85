"""Progress of a training on stderr: loss, gates, speed, memory, time left, and a line for each validation."""

from __future__ import annotations

import math
import resource
import sys
import time
from types import TracebackType
from typing import Any, Self

import torch
from tqdm import tqdm

LINES = 100
"""Lines about the steps of a run, where there is no terminal."""


class ProgressBar:
    """A bar of optimiser steps, or lines where there is no terminal, as in the log of a job.

    Nothing that it shows is kept, so that histories do not depend on the machine.

    Args:
        steps: Of the whole run.
        done: Of them, before this start.
        show: Whether anything is said; of several processes one says it.
        device: Where the module learns, whose memory is shown.
        label: Begins each line; names the run where several train in one process.
    """

    def __init__(
        self, steps: int, done: int, show: bool = True, device: torch.device | None = None, label: str = ""
    ) -> None:
        self._label = label
        self._steps, self._done, self._begun_at = steps, done, done
        self._device = device or torch.device("cpu")
        self._lines = show and not sys.stderr.isatty()
        is_hidden = not show or self._lines
        self._bar = tqdm(
            total=steps, initial=done, desc=f"{label}train", unit="step", mininterval=1.0, disable=is_hidden
        )
        self._show = show
        self._tokens, self._started = 0, time.perf_counter()
        self._clock = self._started
        self.token_share: float | None = None
        """Share of a second of the device's peak that the operations for one token take; None if it is not known."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.close()

    def advance(self, row: dict[str, Any], tokens: int, clock: float) -> None:
        """Show one step more.

        Args:
            row: Of the history.
            tokens: How many the Receivers read in it.
            clock: When it ended, by ``time.perf_counter``; several steps may be shown together, later.
        """
        self._clock = clock
        self._done += 1
        self._tokens += tokens
        # Some hundred lines a run, with the first step, which shows that it works, and the last.
        due = self._done % math.ceil(self._steps / LINES) == 0 or self._done in (self._begun_at + 1, self._steps)
        if self._lines and due:
            time_left = tqdm.format_interval(
                self._seconds() / (self._done - self._begun_at) * (self._steps - self._done)
            )
            print(
                f"{self._label}step {self._done} of {self._steps}: {self._status(row)}, {time_left} left",
                file=sys.stderr,
                flush=True,
            )
        elif not self._bar.disable:
            self._bar.set_postfix_str(self._status(row), refresh=False)
            self._bar.update()

    def validated(self, row: dict[str, Any]) -> None:
        """A line of its own for a validation."""
        if not self._show:
            return
        deranged = row.get("validation_deranged_loss")
        control = "" if deranged is None else f" ({deranged:.4f} where the Sharer reads another prompt)"
        tqdm.write(
            f"{self._label}step {row['step']}: validation loss {row['validation_loss']:.4f}{control}, "
            f"training loss {row['loss']:.4f}{_gates(row)}",
            file=sys.stderr,
        )

    def _status(self, row: dict[str, Any]) -> str:
        temperature = "" if row.get("temperature") is None else f", temperature {row['temperature']:.3f}"
        speed = self._tokens / self._seconds()
        # Model FLOPs utilisation
        utilisation = "" if self.token_share is None else f", MFU {speed * self.token_share:.0%}"
        return (
            f"loss {row['loss']:.3f}, {speed:.0f} tokens/s{utilisation}{_gates(row)}{temperature}, "
            f"memory {_memory(self._device):.1f} GB"
        )

    def _seconds(self) -> float:
        return max(self._clock - self._started, 1e-9)


def _gates(row: dict[str, Any]) -> str:
    """The share of open gates, where something with gates learns."""
    return f", gates open {row['open_gates']:.0%}" if "open_gates" in row else ""


def _memory(device: torch.device) -> float:
    """Most memory that this process has held, in GB: on its GPU if it has one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
