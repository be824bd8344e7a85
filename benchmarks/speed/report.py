"""What a measurement says: table, exponents of growth, plots, and the ratios that have to hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

BOUNDS = Path(__file__).with_name("bounds.yaml")


def exponents(rows: pd.DataFrame, clock: str) -> pd.DataFrame:
    """The power with which the time of the part ``growth`` rises with each axis: the slope of log time by log size.

    Returns:
        One row an axis: ``axis``, ``exponent`` and its ``standard_error``; 1 is linear.
    """
    fits = []
    for axis, of_axis in rows[rows["part"] == "growth"].groupby("axis", sort=False):
        medians = of_axis.groupby("way")[clock].median()
        sizes, seconds = np.log(medians.index.to_numpy(dtype=float)), np.log(medians.to_numpy())
        # Ordinary least squares on logarithms; with two sizes the line has no residuals.
        (slope, intercept), residual = np.polyfit(sizes, seconds, 1), float("nan")
        if len(sizes) > 2:
            errors = seconds - (slope * sizes + intercept)
            residual = float(np.sqrt((errors**2).sum() / (len(sizes) - 2) / ((sizes - sizes.mean()) ** 2).sum()))
        fits.append({"axis": axis, "exponent": float(slope), "standard_error": residual})
    return pd.DataFrame(fits, columns=["axis", "exponent", "standard_error"])


def rule_seconds(results: Path) -> pd.DataFrame:
    """Jobs, wall and CPU seconds of each rule of a finished run, from Snakemake's benchmark files.

    Args:
        results: The run's folder, such as ``results/smoke``.

    Returns:
        One row a rule, the dearest first: ``rule``, ``jobs``, ``wall_s``, ``cpu_s``; none where nothing has run.
    """
    rows = []
    for path in sorted((results / "benchmarks").rglob("*.tsv")):
        table = pd.read_csv(path, sep="\t")
        # A folder a rule, or one file where a rule has one job
        rule = Path(path.relative_to(results / "benchmarks").parts[0]).stem
        cpu = pd.to_numeric(table.get("cpu_time"), errors="coerce").sum()
        rows.append({"rule": rule, "jobs": len(table), "wall_s": float(table["s"].sum()), "cpu_s": float(cpu)})
    if not rows:
        return pd.DataFrame(columns=["rule", "jobs", "wall_s", "cpu_s"])
    return pd.DataFrame(rows).groupby("rule").sum().sort_values("cpu_s", ascending=False).reset_index()


def operation_rates(rows: pd.DataFrame, clock: str, peak_tflops: float | None) -> pd.DataFrame:
    """How many operations a second each way of a part does whose operations are counted (`c2c.training.operations`).

    Args:
        rows: As `benchmarks.speed.clock.run` returns them; ``operations`` are those of a call.
        clock: ``wall_s`` or ``cpu_s``.
        peak_tflops: What the device does at most; None where that is unknown.

    Returns:
        One row a part, setting and way: ``tflops``, the median over rounds, and ``share_of_peak``.
    """
    keys = ["part", "setting", "way"]
    if "operations" not in rows:
        return pd.DataFrame(columns=[*keys, "tflops", "share_of_peak"])
    counted = rows.dropna(subset=["operations"])
    rates = counted.assign(tflops=counted["operations"] / counted[clock] / 1e12)
    table = rates.groupby(keys, sort=False)["tflops"].median().reset_index()
    return table.assign(share_of_peak=table["tflops"] / (peak_tflops or float("nan")))


def markdown(
    settings: dict[str, Any], table: pd.DataFrame, powers: pd.DataFrame, rates: pd.DataFrame, rules: pd.DataFrame
) -> str:
    """The measurement as a page."""
    parts = [
        "# Speed\n",
        "Ratios are times of one run, interleaved; `ratio` is a way's time by the baseline's (ratio 1), the median "
        "over rounds with the least and the greatest.\n",
        "| setting | value |\n| --- | --- |\n" + "".join(f"| {key} | {value} |\n" for key, value in settings.items()),
        table.round(4).to_markdown(index=False) + "\n",
    ]
    sections = {
        "Operations a second": rates,
        "Growth: time is proportional to size to this power": powers,
        "Seconds by rule": rules,
    }
    for title, frame in sections.items():
        if len(frame):
            parts.append(f"## {title}\n\n" + frame.round(3).to_markdown(index=False) + "\n")
    return "\n".join(parts)


def check(table: pd.DataFrame, size: str, parts: Sequence[str]) -> list[str]:
    """Ratios of `bounds.yaml` for this size that do not hold, one sentence each.

    Args:
        table: As `benchmarks.speed.clock.ratios` returns it.
        size: The block of `settings.yaml` that was measured; each bound names the sizes that it holds for.
        parts: Parts that were measured; bounds of others are left out.
    """
    failures = []
    for bound in yaml.safe_load(BOUNDS.read_text())["bounds"]:
        if size not in bound["sizes"] or bound["part"] not in parts:
            continue
        rows = table[(table["part"] == bound["part"]) & (table["way"] == bound["way"])]
        rows = rows[rows["setting"].str.contains(bound.get("setting", ""), regex=False)]
        what = f"{bound['way']} ({bound['part']} {bound.get('setting', '')})".replace(" )", ")")
        if rows.empty:
            failures.append(f"{what} was not measured")
        for _, row in rows.iterrows():
            # The tolerance is a share of the bound: noise of the machine, not of the code.
            least = bound.get("least", 0) * (1 - bound["tolerance"])
            most = bound.get("most", float("inf")) * (1 + bound["tolerance"])
            if not least <= row["ratio"] <= most:
                limits = f"at least {bound['least']}" if "least" in bound else f"at most {bound['most']}"
                failures.append(f"{what} must take {limits} times the baseline's time; it took {row['ratio']:.2f}")
    return failures


def plot(rows: pd.DataFrame, table: pd.DataFrame, powers: pd.DataFrame, folder: Path) -> Sequence[Path]:
    """Pictures of the ratios and of growth, as PNG files in `folder`; returns their paths."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    paths = []
    # 1. Ratios: a panel a part, a bar a way and setting
    comparisons = table[~table["part"].isin(["growth"])]
    parts = list(dict.fromkeys(comparisons["part"]))
    if parts:
        counts = [int((comparisons["part"] == part).sum()) for part in parts]
        figure, panels = plt.subplots(
            len(parts), 1, figsize=(8, sum(counts) * 0.28 + len(parts) * 0.9), height_ratios=counts, squeeze=False
        )
        for panel, part in zip(panels[:, 0], parts, strict=True):
            of_part = comparisons[comparisons["part"] == part].iloc[::-1]
            labels = [f"{row.way}, {row.setting}" if row.setting else row.way for row in of_part.itertuples()]
            # The least that a command takes is no baseline worth a ratio: its seconds are shown.
            seconds = part == "start-up"
            lengths = of_part["seconds"] if seconds else of_part["ratio"]
            spread = [of_part["ratio"] - of_part["ratio_low"], of_part["ratio_high"] - of_part["ratio"]]
            panel.barh(labels, lengths, xerr=None if seconds else np.array(spread), color="#4c72b0", height=0.7)
            if not seconds:
                panel.axvline(1, color="black", linewidth=0.8)
            unit = "CPU seconds" if seconds else f"time by that of {of_part.loc[of_part['ratio'] == 1, 'way'].iloc[0]}"
            panel.set_title(f"{part}: {unit}", loc="left", fontsize=10)
            panel.tick_params(labelsize=8)
            panel.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        paths.append(folder / "ratios.png")
        figure.savefig(paths[-1], dpi=120)
        plt.close(figure)
    # 2. Growth: time by size on logarithmic axes, a panel an axis
    growth = rows[rows["part"] == "growth"]
    if len(growth):
        axes = list(dict.fromkeys(growth["axis"]))
        figure, panels = plt.subplots(1, len(axes), figsize=(2.8 * len(axes), 2.8), squeeze=False)
        for panel, axis in zip(panels[0], axes, strict=True):
            medians = growth[growth["axis"] == axis].groupby("way")["cpu_s"].median()
            medians.index = medians.index.astype(int)
            medians = medians.sort_index()
            panel.loglog(medians.index, medians, marker="o", color="#4c72b0")
            panel.set_xticks(list(medians.index), [str(size) for size in medians.index])
            panel.minorticks_off()
            power = powers.loc[powers["axis"] == axis, "exponent"].iloc[0]
            panel.set_title(f"{axis}: power {power:.2f}", fontsize=10)
            panel.spines[["top", "right"]].set_visible(False)
        panels[0, 0].set_ylabel("CPU seconds")
        figure.tight_layout()
        paths.append(folder / "growth.png")
        figure.savefig(paths[-1], dpi=120)
        plt.close(figure)
    return paths
