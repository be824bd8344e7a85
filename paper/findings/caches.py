"""What tables about trainings, Fusers and caches say, in sentences; as `paper.findings.answers`."""

from __future__ import annotations

import pandas as pd

from c2c.testbed.card.numbers import decimal
from paper.findings.wording import arm, cell_title, first_cell, percents, points, rows_with, series, tally
from paper.reading import names
from paper.reading.alignments import of_main_alignment
from paper.reading.reference import Reference
from paper.tables.enrichment import DIRECT_THERE, LAYER_0
from paper.writing.columns import HALF_TITLES

DERANGED_LOSS = "validation_deranged_loss"


def training(frame: pd.DataFrame) -> list[str]:
    """The last validation losses of the first pair, of all ``history.csv``."""
    losses = rows_with(of_main_alignment(frame), "validation_loss")
    losses = losses[losses["recipe"].isin(["c2c", "adapter"])]
    if losses.empty:
        return []
    pair = losses["pair"].iloc[0]
    last = losses[losses["pair"] == pair].groupby(["recipe", "seed"]).tail(1)
    means = last.groupby("recipe")[["validation_loss", DERANGED_LOSS]].mean()
    parts = []
    for recipe, row in means.sort_index(ascending=False).iterrows():
        control = (
            ""
            if pd.isna(row[DERANGED_LOSS])
            else f", and {decimal(row[DERANGED_LOSS], 2)} where the Sharer reads another prompt"
        )
        parts.append(f"{arm(str(recipe))} {decimal(row['validation_loss'], 2)} nats{control}")
    title = names.title("pairs", str(pair))
    return [f"Validation loss at the last step, {title}, mean over seeds: {'; '.join(reversed(parts))}."]


def accuracy_by_steps(frame: pd.DataFrame) -> list[str]:
    """Accuracy at the first and the last kept step, of ``tables/accuracy_by_steps.csv``."""
    rows = rows_with(frame[frame["step"] > 0])
    steps = rows.groupby(["pair", "benchmark"])["step"].transform("nunique")
    rows = rows[steps > 1]
    if rows.empty:
        return []
    first = first_cell(rows)
    start, end = int(first["step"].min()), int(first["step"].max())
    parts = []
    for name in ("c2c", "c2c_deranged", "adapter"):
        at = first[first["arm"] == name].set_index("step")
        if {start, end} <= set(at.index):
            parts.append(f"{arm(name)} {percents(at.loc[start])} after {start} and {percents(at.loc[end])} after {end}")
    return [f"Accuracy by step, {cell_title(first.iloc[0])}: {'; '.join(parts)}."] if parts else []


def gates(frame: pd.DataFrame) -> list[str]:
    """How many gates are open, and the mean weights, of ``tables/gates.csv``; and the paper's shares."""
    mean_rows = frame[frame["layer"] == "all"]
    if mean_rows.empty:
        return []
    sentences = []
    for recipe in ("c2c", "adapter"):
        of_recipe = mean_rows[mean_rows["recipe"] == recipe]
        if of_recipe.empty:
            continue
        parts = []
        for half, title in HALF_TITLES.items():
            rows = of_recipe[of_recipe["half"] == half]
            weight = (rows["weight_mean"] * rows["gates"]).sum() / rows["gates"].sum()
            parts.append(
                f"{int(rows['open'].sum())} of {int(rows['gates'].sum())} gates of {title} are open, with a mean "
                f"weight of {decimal(weight, 2)}"
            )
        sentences.append(f"Over all pairs and seeds of {arm(recipe)}, {series(parts)}.")
    paper_values = [
        f"{decimal(entry['value'], 2)} {entry['unit']} {entry['label']}" for entry in Reference().values()["gates"]
    ]
    return [*sentences, f"The paper states: {'; '.join(paper_values)}."]


def partial(frame: pd.DataFrame) -> list[str]:
    """Accuracy with a part of the prompt fused, of ``tables/partial.csv``."""
    if frame.empty:
        return []
    between = frame[(frame["share"] > 0) & (frame["share"] < 100)]
    whole = frame[frame["share"] == 100].iloc[0]
    sentences = [f"On {cell_title(whole)}, the whole prompt fused gives {percents(whole)}."]
    sides = {"front": "at the front", "back": "at the back"}
    for side, words in sides.items():
        rows = between[between["side"] == side]
        if len(rows):
            accuracies = [f"{percents(row)} with {decimal(row['share'], 0)} %" for _, row in rows.iterrows()]
            sentences.append(f"Of the tokens {words} alone: {series(accuracies)}.")
    return [
        *sentences,
        f"With a part of the prompt fused, the difference between the right message and another question's is "
        f"{tally(between, 'difference_', 'shares')}.",
    ]


def enrichment(frame: pd.DataFrame) -> list[str]:
    """The oracle, direct and few-shot answers, of ``tables/enrichment.csv``."""
    rows = rows_with(frame)
    by_kind = {kind: part.iloc[0] for kind, part in rows.groupby("kind")}
    if not {"receiver", "few_shot", "oracle"} <= set(by_kind):
        return []
    direct, shots, oracle = (by_kind[kind] for kind in ("receiver", "few_shot", "oracle"))
    sentences = [
        f"{names.title('models', str(direct['receiver']))} answers {percents(direct)} directly, {percents(shots)} "
        f"after the examples and {percents(oracle)} from the enriched cache, which is {points(oracle)} compared with "
        "the direct answer."
    ]
    layer, direct_there = (Reference().evaluate(name) for name in (LAYER_0, DIRECT_THERE))
    sentences.append(
        f"The paper prints {decimal(layer, 2)} % with layer 0 alone enriched and {decimal(direct_there, 2)} % direct, "
        "although what layer 0 holds of a question does not depend on what stood before it, so that both should be "
        "equal."
    )
    best = rows[rows["kind"] == "best"].pivot_table(index="number", columns="chosen_on", values="value")
    if {"same", "other half"} <= set(best.columns):
        bias = (best["same"] - best["other half"]).mean()
        sentences.append(
            f"Choosing the best layers on the questions they are judged on adds {decimal(bias, 1)} points on "
            "average over K."
        )
    return sentences


def effective_rank(frame: pd.DataFrame) -> list[str]:
    """What fusion adds to the rank, and what another question's cache adds, of ``tables/effective_rank.csv``."""
    sentences = []
    for half, title in HALF_TITLES.items():
        rows = frame[frame["half"] == half].set_index("cache")
        cache = next(
            (name for name in rows.index if name not in ("sharer", "receiver") and "deranged" not in name), None
        )
        control_cache = next((name for name in rows.index if "deranged" in name), None)
        if "receiver" not in rows.index or cache is None:
            continue
        control = (
            ""
            if control_cache is None
            else f"; another question's cache adds {_rank(rows.loc[control_cache, 'above_receiver'])}"
        )
        if control_cache is not None and rows.loc[control_cache, "above_receiver"] >= rows.loc[cache, "above_receiver"]:
            control += ", so that the rise is no sign of a message"
        sentences.append(
            f"Fusion changes the effective rank of {title} from {_rank(rows.loc['receiver', 'value'])} to "
            f"{_rank(rows.loc[cache, 'value'])}, which is {_rank(rows.loc[cache, 'above_receiver'])} more{control}."
        )
    return sentences


def tsne(frame: pd.DataFrame) -> list[str]:
    """How far the clouds lie from the Receiver's, of ``analysis/tsne/clouds.csv``."""
    rows = frame.set_index("cache")
    titles = {
        "sharer": "the Sharer's",
        "transformed": "the Sharer's transformed by the MLP",
        "fused": "the fused cache",
    }
    distances = [
        f"{title} {decimal(rows.loc[name, 'distance'], 1)}" for name, title in titles.items() if name in rows.index
    ]
    if not distances:
        return []
    sentences = [f"Distance from the Receiver's cloud, in units of the Receiver's own: {series(distances)}."]
    if {"sharer", "fused"} <= set(rows.index) and rows.loc["fused", "distance"] > rows.loc["sharer", "distance"]:
        sentences.append(
            "The fused cache lies farther from the Receiver's than even the Sharer's: fusion does not move the "
            "Sharer's content into the Receiver's own space."
        )
    return sentences


def _rank(value: float) -> str:
    return decimal(value, 1)
