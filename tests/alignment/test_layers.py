"""Layer alignment as the reference does it (docs/reference-behaviour.md, "Layer alignment")."""

from __future__ import annotations

import pytest

from c2c.alignment.layers import align_layers, nearest, terminal
from c2c.errors import RefusedError


def test_terminal_counts_backwards_and_clamps_a_shallower_sharer_to_its_first_layer() -> None:
    assert terminal(28, 24) == [0] * 5 + list(range(1, 24))
    assert terminal(28, 16) == [0] * 13 + list(range(1, 16))


def test_terminal_leaves_out_the_lowest_layers_of_a_deeper_sharer() -> None:
    assert terminal(28, 36) == list(range(8, 36))
    assert terminal(3, 3) == [0, 1, 2]


def test_nearest_takes_relative_depth_and_of_two_equally_near_layers_the_lower() -> None:
    assert nearest(3, 5) == [0, 2, 4]
    assert nearest(3, 2) == [0, 0, 1]
    assert nearest(1, 4) == [0]
    assert nearest(4, 1) == [0, 0, 0, 0]


def test_an_unknown_alignment_is_refused() -> None:
    with pytest.raises(RefusedError, match="Did you mean 'terminal'"):
        align_layers("terminl", 3, 3)
