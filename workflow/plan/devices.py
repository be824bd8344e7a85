"""Speed of a training step on a GPU: measured, or as the paper's hours imply. Imports no torch.

``config/devices.csv`` lists device classes; ``c2c/training/peaks.csv`` has the peak of each for dense products, with
its source. A share of the peak that was measured on one device is taken for every other.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from c2c.errors import RefusedError, check_choice
from c2c.storage.formats import read_json
from workflow.paths import ROOT
from workflow.validation import Table, read_table

DEVICES, PEAKS = Path("config/devices.csv"), Path("c2c/training/peaks.csv")
PRECISION = "bfloat16"
"""Whose peak counts."""
PAPER_DEVICE = "a800"
"""What the paper trained on (https://github.com/thu-nics/C2C/issues/3)."""
STEP = {"part": "training", "way": "live"}
"""Rows of a measurement that are steps of our training."""
REMEDY = "Write one with python -m benchmarks.speed --parts training --output FOLDER on a GPU"


@dataclass(frozen=True)
class Speed:
    """Operations that a GPU does in a second of training.

    Args:
        device: Its row in ``config/devices.csv``.
        tflops: Operations a second, in units of 10^12.
        peak: The greatest possible, in the same unit.
        basis: Where the number comes from, as a phrase.
        measured: Whether a training step was timed, on this device or another.
    """

    device: str
    tflops: float
    peak: float
    basis: str
    measured: bool

    @property
    def share(self) -> float:
        """Share of the peak."""
        return self.tflops / self.peak


@dataclass(frozen=True)
class Measurement:
    """A training step that ``python -m benchmarks.speed`` timed: the device's name and TFLOP/s."""

    name: str
    tflops: float


def read_devices(root: Path = ROOT) -> Table:
    """Device classes by id, each with its ``peak_tflops``.

    Raises:
        RefusedError: A device has no peak.
    """
    with (root / PEAKS).open(encoding="utf-8", newline="") as file:
        peaks = {row["device"]: float(row["tflops"]) for row in csv.DictReader(file) if row["precision"] == PRECISION}
    devices = read_table(root / DEVICES)
    for row in devices.values():
        if row["name"] not in peaks:
            rule = f"A device of {DEVICES} must have a peak for {PRECISION} in {PEAKS}"
            raise RefusedError(rule, row["name"], f"Add it to {PEAKS}")
    return {device: {**row, "peak_tflops": peaks[row["name"]]} for device, row in devices.items()}


def device_of(name: str, devices: Table) -> str | None:
    """The first device class whose name is a part of the GPU's, as torch names it; None for another one."""
    return next((device for device, row in devices.items() if row["name"] in name), None)


def read_measurement(path: Path) -> Measurement:
    """The training step of a ``speed.json``: the median over its rounds.

    Raises:
        RefusedError: The file is no measurement, or its training was not timed.
    """
    record: Any = read_json(path, REMEDY)
    try:
        steps = [row for row in record["rows"] if all(row[key] == value for key, value in STEP.items())]
        rates = [row["operations"] / row["wall_s"] for row in steps]
        return Measurement(str(record["settings"]["device"]), median(rates) / 1e12)
    except (KeyError, TypeError, ZeroDivisionError, ValueError) as error:
        rule = "A measured speed must hold device, operations and seconds of training steps"
        raise RefusedError(rule, str(path), REMEDY) from error


def speed_of(device: str, devices: Table, paper_tflops: float, measurement: Measurement | None = None) -> Speed:
    """Speed of a device class: by a measurement, else by that in ``config/devices.csv``, else by the paper's hours.

    Args:
        device: Its id; empty for that of the measurement, or the paper's.
        devices: Rows of ``config/devices.csv``.
        paper_tflops: Speed that the paper's hours of training imply.
        measurement: A timed training step; its share of the peak holds on other devices too.

    Raises:
        RefusedError: The device is unknown, or that of the measurement is.
    """
    # 1. The device that the number is of, and the number
    source, tflops, basis = PAPER_DEVICE, paper_tflops, "as the paper's hours of training imply (Table 12)"
    if measurement:
        if not (name := device_of(measurement.name, devices)):
            rule = f"The device of a measured speed must be a row of {DEVICES}"
            raise RefusedError(rule, measurement.name, f"Add it to {DEVICES}, and its peak to {PEAKS}")
        source, tflops, basis = name, measurement.tflops, f"as a training step took on {measurement.name}"
    device = check_choice("A device of the plan", device or source, devices)
    from_table = devices[device]["measured_tflops"]
    if from_table and not measurement:
        source, tflops, basis = device, from_table, f"as a training step took ({DEVICES})"
    # 2. Its share of the peak holds on another device
    peak = devices[device]["peak_tflops"]
    if device != source:
        tflops *= peak / devices[source]["peak_tflops"]
        basis = f"by the share of the peak of an {source.upper()}, {basis}"
    return Speed(device, tflops, peak, basis, bool(measurement or from_table))
