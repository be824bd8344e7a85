"""Channels by name: those of this package, and those that other packages register as entry points."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

from c2c.errors import RefusedError
from c2c.provenance import file_hash
from c2c.testbed.channel import Channel
from c2c.testbed.channels import activation, compressed, concept, copied, fused, layerwise, ridge, text
from c2c.testbed.models import Models

ENTRY_POINTS = "c2c.channels"
Factory = Callable[[Models], Channel]

CHANNELS: dict[str, Factory] = {
    "identity": copied.IdentityChannel,
    "random_states": copied.RandomStatesChannel,
    "text": text.WrittenText,
    "text_cut": text.CutText,
    "ridge": ridge.Ridge,
    "ridge_int8": compressed.Int8Ridge,
    "ridge_int4": compressed.Int4Ridge,
    "subset": compressed.Subset,
    "low_rank": compressed.LowRank,
    "c2c": fused.FromRandomWeights,
    "c2c_on_ridge": fused.OnRidge,
    "latent": fused.Latent,
    "activation": activation.Activation,
    "activation_places": activation.ActivationsAtPlaces,
    "concept": concept.Concept,
    "layerwise": layerwise.Layerwise,
}
"""Functions that build the channels of this package."""


def registered_channels() -> dict[str, Factory]:
    """Functions that build the channels of this package and of every installed package, by name.

    Raises:
        RefusedError: If two packages register one name.
    """
    factories = dict(CHANNELS)
    for point in entry_points(group=ENTRY_POINTS):
        if point.name in factories:
            raise RefusedError(
                f"A channel in the entry points {ENTRY_POINTS} must have a name of its own",
                point.name,
                f"Rename the one of {point.value}",
            )
        factories[point.name] = point.load()
    return factories


def source_hash(channel: str) -> str:
    """Hash of the file in which another package's channel is written; empty for the channels of this package."""
    if channel not in (factories := registered_channels()) or channel in CHANNELS:
        return ""
    file = inspect.getsourcefile(factories[channel])
    return file_hash(Path(file)) if file else ""
