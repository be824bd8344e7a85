"""Properties of the table of training curves that is committed with the records of a scale."""

import pandas as pd
import pytest

from c2c.errors import RefusedError
from paper.reading.curves import check_curves, curves_of, last_and_best, read_curves
from paper.reading.fusers import FuserRun
from tests.paper.builder import Run, write_fuser

RUN = ["pair", "recipe", "alignment", "seed"]


def history(losses, validation):
    steps = range(1, len(losses) + 1)
    frame = pd.DataFrame({"step": steps, "loss": losses, "validation_loss": validation})
    return frame.assign(validation_deranged_loss=None, open_gates=1.0)


@pytest.fixture
def curves(tmp_path):
    folder = write_fuser(Run("gap_a", "c2c", "span", 0), tmp_path)
    history([4.0, 2.0, 3.0, 1.0, 7.0], [None, 2.0, None, 2.5, None]).to_csv(folder / "history.csv", index=False)
    return curves_of([folder])


def test_a_row_is_an_evaluation_or_the_last_step_with_the_mean_loss_since_the_row_before(curves):
    assert curves["step"].tolist() == [2, 4, 5] and curves["loss"].tolist() == [3.0, 2.0, 7.0]


def test_the_best_step_is_the_one_with_the_lowest_validation_loss(curves):
    (row,) = last_and_best(curves).itertuples()
    assert (row.last_step, row.last, row.best_step, row.best) == (4, 2.5, 2, 2.0)


def test_a_curve_without_answers_and_answers_without_a_curve_are_refused(curves):
    answered = curves[RUN].drop_duplicates()
    check_curves(curves, answered)
    with pytest.raises(RefusedError, match="that answered"):
        check_curves(curves, answered.assign(seed=7).iloc[:0])
    with pytest.raises(RefusedError, match="must have its curve"):
        check_curves(curves, pd.concat([answered, answered.assign(seed=7)]))


def test_a_step_that_is_there_twice_is_refused(curves, tmp_path):
    pd.concat([curves, curves]).to_csv(tmp_path / "curves.csv", index=False)
    with pytest.raises(RefusedError, match="once"):
        read_curves(tmp_path / "curves.csv")


def test_curves_of_no_fuser_are_an_empty_table():
    assert curves_of([]).empty and set(FuserRun._fields) <= set(curves_of([]).columns)
