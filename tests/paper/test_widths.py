"""No interval of a subject claims certainty, and an arm less itself is exactly zero."""

import pandas as pd
import pytest

from c2c.stats import NO_SEED
from paper.reading.answers import difference

COMMITTED = [f"paper/records/{scale}/tables/subjects.csv" for scale in ("smoke", "laptop")]


@pytest.mark.parametrize("path", COMMITTED)
@pytest.mark.parametrize("prefix", ["", "gain_"])
def test_no_committed_interval_of_a_subject_has_a_width_of_zero(path, prefix):
    rows = pd.read_csv(path).dropna(subset=[f"{prefix}value", f"{prefix}low"])
    assert len(rows) and (rows[f"{prefix}low"] < rows[f"{prefix}high"]).all()


def test_answers_that_agree_differ_by_zero_with_a_width_but_an_arm_from_itself_by_exactly_zero():
    frame = pd.DataFrame({NO_SEED: [1, 1, 0, 0, 1, 0, 1]})
    twin = difference(frame, frame.copy())
    assert twin.value == 0 and twin.low < 0 < twin.high
    same = difference(frame, frame)
    assert (same.value, same.low, same.high) == (0, 0, 0)
