"""A refusal says what must hold, what came, and what to do; and it is the only way in which the core says no."""

from __future__ import annotations

import pytest

from c2c.errors import RefusedError, check_choice


def test_a_refusal_says_rule_value_and_remedy_in_this_order() -> None:
    error = RefusedError("Lengths must be positive", -3, "Pass a length")
    assert str(error) == "Lengths must be positive; received -3. Pass a length."
    assert (error.rule, error.received, error.remedy) == ("Lengths must be positive", -3, "Pass a length")


def test_a_refusal_can_be_caught_as_a_value_error() -> None:
    with pytest.raises(ValueError, match="Pass a length"):
        raise RefusedError("Lengths must be positive", -3, "Pass a length")


def test_a_known_name_is_returned() -> None:
    assert check_choice("A method", "c2c", ("c2c", "t2t")) == "c2c"


def test_an_unknown_name_is_refused_with_the_nearest_and_all_known_ones() -> None:
    with pytest.raises(
        RefusedError,
        match=r"^A method must be a known name; received 'c3c'\. Did you mean 'c2c'\? Choose one of: c2c, t2t\.$",
    ):
        check_choice("A method", "c3c", (name for name in ("c2c", "t2t")))


def test_a_name_that_is_like_none_gets_no_guess() -> None:
    with pytest.raises(RefusedError) as refused:
        check_choice("A method", "gradient", ["c2c", "t2t"])
    assert "Did you mean" not in str(refused.value)
