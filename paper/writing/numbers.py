"""Numbers as text, as `c2c.testbed.card.numbers` writes them."""

from c2c.testbed.card.numbers import (
    DECIMALS,
    MINUS,
    NOT_RUN,
    NOTHING,
    count,
    decimal,
    is_missing,
    p_value,
    show,
    show_bounds,
    show_difference,
)

__all__ = [
    "DECIMALS",
    "MINUS",
    "NOTHING",
    "NOT_RUN",
    "count",
    "decimal",
    "is_missing",
    "p_value",
    "show",
    "show_bounds",
    "show_difference",
]
