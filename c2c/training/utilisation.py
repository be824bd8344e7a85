"""How much of a device's peak a training uses: operations that were counted, over those that it could have done."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

PEAKS = Path(__file__).with_name("peaks.csv")
"""TFLOP/s of devices by a part of their name and by precision, with the sources; the first that fits counts."""


def peak_flops(device: torch.device, precision: str) -> float | None:
    """The most floating-point operations a second that a device does in a precision; None if it is not listed."""
    name = device_name(device)
    with PEAKS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["device"] in name and row["precision"] == precision:
                return float(row["tflops"]) * 1e12
    return None


def device_name(device: torch.device) -> str:
    """The name that the maker gives a GPU; empty for any other device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""
