"""Records of the test bed: a row an item, channel and message. Imports no torch."""

from __future__ import annotations

COLUMNS = {
    "scale": "str",
    "pair": "str",
    "task": "str",
    "seed": "int64",
    "channel": "str",
    "message": "str",
    "id": "str",
    "subset": "str",
    "gold": "int64",
    "option_logps": "list",
    "prediction": "int64",
    "correct": "bool",
    "answer_logp": "float64",
    "text": "str",
    "exact": "bool",
    "donor": "str",
    "donor_named": "bool",
    "bytes": "int64",
    "send_ms": "float64",
    "receive_ms": "float64",
    "parameters": "int64",
    "training_seconds": "float64",
    "training_items": "int64",
    "training_steps": "int64",
}
"""Columns and their types.

gold: number of the right option, -1 if an item has none. option_logps: of each option, in nats, summed over its
tokens. prediction: number of the likeliest option, -1 without options. answer_logp: of the right answer's tokens, in
nats. text: generated greedily, as many tokens as the right answer has; empty for an item whose options are compared by
character. exact: whether it is the right answer. donor: id of the item whose message was received, empty for the
item's own. donor_named: whether option or text is that item's value. bytes: of the message. send_ms, receive_ms: mean
over the items of the channel, in milliseconds; the Receiver's reading of the prompt is in neither. parameters,
training_seconds, training_items, training_steps: of the channel's training.
"""
CURVE_COLUMNS = ("scale", "pair", "task", "seed", "channel", "training", "message", "step", "loss", "accuracy", "exact")
"""Of the curves of trainings: what was trained (``c2c`` or ``adapter`` messages), and what was received."""
MESSAGES = ("matched", "deranged", "random", "zeroed", "self", "keys", "values", "adapter")
"""What the Receiver can get; ``adapter`` is a zeroed message of a channel that was trained on zeroed messages."""
BOUNDS = ("receiver", "full", "own_states")
"""Channels of every run that need no message between two models."""
