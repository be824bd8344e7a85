"""What a person sees while a fuser is trained: loss, gates, speed, time left, and a line for each validation."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm


class ProgressBar:
    """A bar of optimiser steps; nothing that it shows is kept, so that histories do not depend on the machine.

    Args:
        steps: Of the whole run.
        done: Of them, before this start.
    """

    def __init__(self, steps: int, done: int) -> None:
        self._bar = tqdm(total=steps, initial=done, desc="train fuser", unit="step", mininterval=1.0)
        self._tokens, self._started = 0, time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.close()

    def advance(self, row: dict[str, Any], tokens: int) -> None:
        """Show one step more: its row of the history, and how many tokens the Receiver read in it."""
        self._tokens += tokens
        speed = self._tokens / max(time.perf_counter() - self._started, 1e-9)
        gates = "" if row["temperature"] is None else f", temperature {row['temperature']:.3f}"
        shown = f"loss {row['loss']:.3f}, {speed:.0f} tokens/s, gates open {row['open_gates']:.0%}{gates}"
        self._bar.set_postfix_str(shown, refresh=False)
        self._bar.update()

    def validated(self, row: dict[str, Any]) -> None:
        """A line of its own for a validation."""
        deranged = row.get("validation_deranged_loss")
        swapped = "" if deranged is None else f" ({deranged:.4f} where the Sharer reads another prompt)"
        self._bar.write(
            f"step {row['step']}: validation loss {row['validation_loss']:.4f}{swapped}, "
            f"training loss {row['loss']:.4f}, "
            f"gates open {row['open_gates']:.0%}",
            file=self._bar.fp,
        )
