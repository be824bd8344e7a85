"""Checks of the sizes of a world and of its models. Imports no torch, since the workflow runs them at its start."""

from __future__ import annotations

from benchmarks.world import texts
from c2c.errors import RefusedError

MOST_ENTITIES = 2**18
"""Most entities of a world; drawing further names that differ would take long."""
HEADS = 4
"""Default number of attention heads, and of heads of the KV-cache, of a world's model."""


def check_world(entities: int, attributes: int, values: int) -> None:
    """Check that the entities fall into sixteenths, and that the bank of words has enough attributes and values.

    Raises:
        RefusedError: Otherwise.
    """
    if not 16 <= entities <= MOST_ENTITIES or entities % 16:
        raise RefusedError(
            "The entities must fall into sixteenths", entities, f"Take a positive multiple of 16 up to {MOST_ENTITIES}"
        )
    if not 1 <= attributes <= len(texts.BANK):
        raise RefusedError("Attributes must come from the bank of words", attributes, f"Take 1 to {len(texts.BANK)}")
    most = min(len(possible.split()) for possible in texts.BANK.values())
    if not 4 <= values <= most:
        raise RefusedError(
            "Values must come from the bank, and a question has four options", values, f"Take 4 to {most}"
        )


def check_heads(hidden: int, heads: int = HEADS, key_value_heads: int = HEADS) -> None:
    """Check that the hidden width falls into heads of even width, and the heads into groups.

    Raises:
        RefusedError: Otherwise.
    """
    if min(hidden, heads, key_value_heads) < 1:
        sizes = {"hidden": hidden, "heads": heads, "key_value_heads": key_value_heads}
        raise RefusedError("hidden, heads and key_value_heads must be positive", sizes, "Raise the one below 1")
    if hidden % (2 * heads):
        raise RefusedError(f"hidden must be a multiple of {2 * heads} with {heads} heads", hidden, "Change hidden")
    if heads % key_value_heads:
        raise RefusedError(f"key_value_heads must divide the {heads} heads", key_value_heads, "Change key_value_heads")
