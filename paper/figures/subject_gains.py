"""Gain over the Receiver by subject, of C2C and T2T, one panel a pair and benchmark (the paper's Figures 9 and 10)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from paper.figures import style
from paper.figures.subjects import MARKERS, draw_panels

ARMS = ("t2t", "c2c", "projected")


def draw(frame: pd.DataFrame, stem: Path) -> None:
    """Draw the paired gains of subjects.csv."""
    marks = {arm: MARKERS[arm] for arm in ARMS}
    columns = ("gain_value", "gain_low", "gain_high", "paper_gain")
    draw_panels(frame, stem, columns, marks, "Gain over the Receiver, points")


if __name__ == "__main__":
    style.run_figure(__doc__, table=draw)
