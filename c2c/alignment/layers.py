"""Layer alignment: which Sharer layer each Receiver layer is fused with.

See ``docs/reference-behaviour.md``, "Layer alignment".
"""

from __future__ import annotations

from c2c.errors import check_choice
from c2c.types import LAYER_ALIGNMENTS


def terminal(receiver_layers: int, sharer_layers: int) -> list[int]:
    """Align the last layers and count backwards: ``m(t) = clamp(S - T + t, 0, S - 1)``.

    A shallower Sharer's first layer is read by all Receiver layers that have no counterpart.
    """
    offset = sharer_layers - receiver_layers
    # m(t) for t = 0 ... T - 1; the clamp above S - 1 never acts, and is kept as the formula has it.
    return [min(max(offset + layer, 0), sharer_layers - 1) for layer in range(receiver_layers)]


def nearest(receiver_layers: int, sharer_layers: int) -> list[int]:
    """Align by relative depth ``i / (T - 1)``; of two equally near Sharer layers the lower one."""

    def depth(layer: int, layers: int) -> float:
        return layer / (layers - 1) if layers > 1 else 0.0

    return [
        min(range(sharer_layers), key=lambda s: abs(depth(s, sharer_layers) - depth(t, receiver_layers)))
        for t in range(receiver_layers)
    ]


def align_layers(alignment: str, receiver_layers: int, sharer_layers: int) -> list[int]:
    """Sharer layer for each Receiver layer, by the name of the alignment.

    Raises:
        RefusedError: If the name is unknown.
    """
    check_choice("A layer alignment", alignment, LAYER_ALIGNMENTS)
    return {"terminal": terminal, "nearest": nearest}[alignment](receiver_layers, sharer_layers)
