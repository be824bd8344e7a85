"""Tries of a training: each is a config of its own, and their table holds what the trainings wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from paper.tries import SETTINGS, main

TRIES = sorted(Path("config/tries").glob("*.yaml"))


def train(folder: Path, losses: list[float | None], **settings: str) -> Path:
    """What a training leaves: a history with a validation loss at some steps, and its provenance."""
    folder.mkdir(parents=True)
    steps = pd.DataFrame({"step": range(1, len(losses) + 1), "loss": 1.0, "validation_loss": losses})
    steps["validation_deranged_loss"] = steps["validation_loss"] + 0.5
    steps.to_csv(folder / "history.csv", index=False)
    given = dict.fromkeys(SETTINGS, "1") | settings
    flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    stamped = folder.with_name(f"{folder.name}.provenance.json")
    stamped.write_text(json.dumps({"command": ["c2c", "train", *flags]}))
    return folder


def is_planned(run: dict[str, Any], planned: list[dict[str, Any]]) -> bool:
    """Whether the laptop scale has the run, as it is, among its own."""
    return any(run.items() <= {**each, "seeds": run["seeds"]}.items() for each in planned)


def test_a_try_is_a_scale_of_its_own_that_changes_something() -> None:
    told = [yaml.safe_load(path.read_text()) for path in TRIES]
    assert [each["scale"] for each in told] == [f"try_{path.stem}" for path in TRIES]
    assert len(TRIES) >= 4
    planned = yaml.safe_load((TRIES[0].parents[1] / "laptop.yaml").read_text())["runs"]
    assert all(each.get("training") or each.get("fuser") or not is_planned(each["runs"][0], planned) for each in told)


def test_tries_are_ordered_by_their_best_validation_loss_and_keep_their_last(tmp_path: Path) -> None:
    plain = train(tmp_path / "laptop/fusers/p/c2c/span/seed0", [None, 2.0, None, 1.5], steps="4")
    other = train(tmp_path / "try_longer/fusers/p/c2c/span/seed0", [1.0, None, 3.0], steps="3", learning_rate="0.1")
    main(["--fusers", str(plain), str(other), "--output", str(tmp_path / "tries.csv")])
    frame = pd.read_csv(tmp_path / "tries.csv")
    assert list(frame["scale"]) == ["try_longer", "laptop"]
    assert list(frame["best_validation_loss"]) == [1.0, 1.5] and list(frame["best_step"]) == [1, 4]
    assert list(frame["validation_loss"]) == [3.0, 1.5]
    assert list(frame["validation_deranged_loss"]) == [3.5, 2.0]
    assert list(frame["learning_rate"]) == [0.1, 1.0]
    assert (tmp_path / "tries.csv.provenance.json").is_file()


@pytest.mark.parametrize("lost", ["history.csv", "provenance", "validation", "swapped"])
def test_a_folder_that_is_no_validated_training_is_refused(
    tmp_path: Path, lost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train(tmp_path / "try_x/fusers/p/c2c/span/seed0", [None if lost == "validation" else 1.0])
    if lost == "history.csv":
        (folder / "history.csv").unlink()
    elif lost == "provenance":
        folder.with_name("seed0.provenance.json").unlink()
    elif lost == "swapped":
        history = pd.read_csv(folder / "history.csv").drop(columns="validation_deranged_loss")
        history.to_csv(folder / "history.csv", index=False)
    assert main(["--fusers", str(folder), "--output", str(tmp_path / "tries.csv")]) == 2
    assert "A try must be" in capsys.readouterr().err
