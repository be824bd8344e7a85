"""What tables of answers say, in sentences; each function takes the rows of one tidy file and returns its findings."""

from __future__ import annotations

import pandas as pd

from c2c.testbed.card.numbers import decimal
from c2c.types import FUSIONS
from paper.findings.wording import (
    CELL,
    arm,
    cell_title,
    counted,
    first_cell,
    of_arm,
    percents,
    points,
    rows_with,
    series,
    tally,
)
from paper.reading import names

LEVEL = 0.05
"""The level of tests that sentences speak of."""


def sources(frame: pd.DataFrame) -> list[str]:
    """Who gains how much over the Receiver, of `tables/sources.csv`."""
    rows = rows_with(frame, "gain_value")
    if rows.empty:
        return []
    first = first_cell(rows)
    gains = [f"{arm(row['arm'])} {points(row, 'gain_')}" for _, row in first.iterrows()]
    sentences = [f"On {cell_title(first.iloc[0])}, the gain over the Receiver is: {series(gains)}."]
    counts = [f"the gain of {arm(name)} is {tally(group, 'gain_')}" for name, group in rows.groupby("arm", sort=False)]
    return [*sentences, f"By 95 % intervals, {series(counts)}."]


def margins(frame: pd.DataFrame) -> list[str]:
    """On how many cells the right message moves the gold option's likelihood, of `tables/margins.csv`."""
    if frame.empty:
        return []
    sentences = []
    for gain, rows in frame.groupby("gain", sort=False):
        title = names.title("gains", str(gain)).lower()
        sentence = f"{'The' if sentences else 'In nats the'} {title} gain is {tally(rows, '')}"
        above = rows[rows["low"] > 0]
        significant_rows = above[above["p_holm"] < LEVEL]
        # The sentence names cells only where the adjustment leaves some of them out.
        if len(significant_rows) and len(significant_rows) == len(above):
            sentence += "; adjusted for the number of cells (Holm) it stays above zero there"
        elif len(significant_rows):
            cells = series([cell_title(row) for _, row in significant_rows.iterrows()])
            sentence += f"; adjusted for the number of cells (Holm) it is above zero on {cells}"
        sentences.append(sentence + ".")
    return sentences


def seeds(frame: pd.DataFrame) -> list[str]:
    """Where trainings lie furthest apart, of `tables/seeds.csv`."""
    cells = frame.drop_duplicates([*CELL, "arm", "alignment"])
    several = rows_with(cells, "sd")
    if several.empty:
        return ["At this scale each Fuser was trained once, so that nothing is known of the spread."]
    sentences = []
    for name in ("c2c", "adapter"):
        of_arms = several[several["arm"] == name].sort_values("sd", kind="stable")
        if len(of_arms):
            row = of_arms.iloc[-1]
            sentences.append(
                f"{arm(name)} has its largest standard deviation, {decimal(row['sd'], 1)} points over "
                f"{int(row['seeds'])} seeds, on {cell_title(row)}."
            )
    return [*sentences, f"Of {len(cells)} trained cells, {len(cells) - len(several)} have one seed and no spread."]


def prompts(frame: pd.DataFrame) -> list[str]:
    """What the released prompts change, of `tables/prompts.csv`."""
    rows = rows_with(frame, "difference_value")
    if rows.empty:
        return ["No pair of this scale answers with both sets of prompts, so that nothing follows about them."]
    first = first_cell(rows)
    differences = [
        f"{arm(row['arm'])} {percents(row, 'own_')} with ours, {percents(row, 'released_')} with the released ones"
        for _, row in first.iterrows()
    ]
    counts = [f"of {arm(name)} {tally(group, 'difference_')}" for name, group in rows.groupby("arm", sort=False)]
    return [
        f"On {cell_title(first.iloc[0])}, the accuracies by prompts are: {'; '.join(differences)}.",
        f"The difference that the released prompts make is, {series(counts)}.",
    ]


def published(frame: pd.DataFrame) -> list[str]:
    """How many cells agree with the paper's, of `tables/published.csv`."""
    rows = rows_with(frame, "paper")
    common_cells = rows.dropna(subset=["value"])
    if common_cells.empty:
        return []
    counts = [f"{count} {verdict}" for verdict, count in common_cells["verdict"].value_counts().sort_index().items()]
    return [
        f"Of {len(common_cells)} cells that both have, {series(counts)}; {len(rows) - len(common_cells)} were not run."
    ]


def released(frame: pd.DataFrame) -> list[str]:
    """System and pairing gain of published Fusers, of `tables/released.csv`."""
    rows = frame[frame["arm"] == "released"].dropna(subset=["system_value"])
    if rows.empty:
        return []
    row = rows.iloc[0]
    sentences = [
        f"On {cell_title(row)}, a published Fuser has a system gain of {points(row, 'system_')} and a pairing gain of "
        f"{points(row, 'pairing_')}."
    ]
    return [*sentences, f"The system gain is {tally(rows, 'system_')}; the pairing gain is {tally(rows, 'pairing_')}."]


def combinations(frame: pd.DataFrame) -> list[str]:
    """C2C compared with text, pair by pair, of `tables/combinations.csv`."""
    rows = rows_with(frame, "gain_value", arm="c2c")
    if rows.empty:
        return []
    sentences = [
        f"{names.title('pairs', row['pair'])} {points(row, 'gain_')}"
        for _, row in rows.groupby("pair").head(1).iterrows()
    ]
    return [
        f"C2C less T2T, each pair on its first benchmark: {series(sentences)}.",
        f"The difference is {tally(rows, 'gain_')}.",
    ]


def scaling(frame: pd.DataFrame) -> list[str]:
    """What a larger Sharer changes, of `tables/scaling.csv`."""
    rows = rows_with(frame)
    sizes = rows.groupby("receiver", sort=False)["sharer_m"].nunique()
    if rows.empty or sizes.max() < 2:
        return ["Each Receiver has Sharers of one size at this scale, so that nothing follows about growth."]
    sentences = []
    for receiver in sizes[sizes > 1].index:
        of_receiver = rows[(rows["receiver"] == receiver) & rows["arm"].isin(["c2c", "t2t", "sharer"])]
        # Means are compared over the benchmarks that Sharers of every size were evaluated on
        counts = of_receiver.groupby("benchmark", sort=False)["sharer_m"].nunique()
        common = counts.index[counts == sizes[receiver]]
        of_receiver = of_receiver[of_receiver["benchmark"].isin(common)]
        means = of_receiver.groupby(["arm", "sharer_m"])["value"].mean()
        changes = [
            f"{arm(name)} {decimal(part.iloc[0], 1)} to {decimal(part.iloc[-1], 1)} %"
            for name, part in means.groupby(level="arm")
            if len(part) > 1
        ]
        if changes:
            sentences.append(
                f"From the smallest to the largest Sharer of {names.title('models', receiver)}, mean of "
                f"{len(common)} common {'benchmark' if len(common) == 1 else 'benchmarks'}: {series(changes)}."
            )
    return sentences


def strong_to_weak(frame: pd.DataFrame) -> list[str]:
    """The share of the gap that reaches the Receiver, of `tables/strong_to_weak.csv`."""
    rows = rows_with(frame, "pgr_value")
    if rows.empty:
        return ["On no pair and benchmark is the Sharer ahead by more than chance, so that there is no gap to recover."]
    first = first_cell(rows)
    shares = [f"{arm(row['arm'])} {percents(row, 'pgr_')}" for _, row in first.iterrows()]
    cells = len(frame.drop_duplicates(CELL))
    return [
        f"On {cell_title(first.iloc[0])}, the recovered share of the gap is: {series(shares)}.",
        f"The interval of the gap excludes zero on {len(rows.drop_duplicates(CELL))} of {cells} pairs and benchmarks.",
    ]


def several_sharers(frame: pd.DataFrame) -> list[str]:
    """What both Sharers give beyond the better one, of `tables/several_sharers.csv`."""
    rows = rows_with(frame)
    if rows.empty:
        return []
    first = first_cell(rows)
    single = series(
        [f"{arm(row['arm'])} {percents(row)}" for _, row in first[first["arm"].str.match(r"c2c_\d")].iterrows()]
    )
    sentences = [f"On {cell_title(first.iloc[0])}: {single}."]
    for fusion in FUSIONS:
        row, deranged = of_arm(first, fusion), of_arm(first, f"{fusion}_deranged")
        if row is None:
            continue
        control = "" if deranged is None else f", and {percents(deranged)} where both read another question"
        sentences.append(f"{arm(fusion)}: {percents(row)}, {points(row)} beyond the better single one{control}.")
    fusion_rows = rows_with(frame[frame["arm"].isin(FUSIONS)], "difference_value")
    return [*sentences, f"The difference to the better single one is {tally(fusion_rows, 'difference_', 'cells')}."]


def latent(frame: pd.DataFrame) -> list[str]:
    """What passes through a latent cache, of `tables/latent.csv`."""
    pairing_rows = rows_with(frame, "pairing_value")
    if pairing_rows.empty:
        return []
    receiver, benchmark = pairing_rows.iloc[0][["receiver", "benchmark"]]
    receiver_rows = rows_with(frame, receiver=receiver, benchmark=benchmark, arm="receiver")
    heard = rows_with(pairing_rows, receiver=receiver, benchmark=benchmark)
    accuracies = [f"{names.title('pairs', row['pair'])} {percents(row)}" for _, row in heard.iterrows()]
    before = f", where the Receiver alone answers {percents(receiver_rows.iloc[0])}" if len(receiver_rows) else ""
    sentences = [f"On {names.title('benchmarks', benchmark)}, through one latent cache: {series(accuracies)}{before}."]
    sentences.append(f"The pairing gain is {tally(pairing_rows, 'pairing_', 'cells')}.")
    if len(own_rows := rows_with(frame, "own_value")):
        sentences.append(
            f"The difference to Fusers that were trained for one pair alone is {tally(own_rows, 'own_', 'cells')}."
        )
    return sentences


def agents(frame: pd.DataFrame) -> list[str]:
    """What the cache adds to the text, of `tables/agents.csv`."""
    rows = rows_with(frame)
    both = rows_with(rows, arm="t_c2c")
    if both.empty:
        return []
    first = first_cell(rows)
    controls = {
        "t2t_agents": "the same text without its cache",
        "t_c2c_deranged": "the same text with a deranged cache",
    }
    beyond = [(of_arm(first, name), words) for name, words in controls.items()]
    comparisons = series([f"{points(row)} compared with {words}" for row, words in beyond if row is not None])
    sentences = [f"On {cell_title(both.iloc[0])}, T-C2C answers {percents(both.iloc[0])} correctly: {comparisons}."]
    alone = of_arm(first, "t2t_agents")
    if alone is not None and alone["difference_high"] < 0:
        sentences.append("Text and cache together are worse than the text alone, where the paper finds them better.")
    return sentences


def length(frame: pd.DataFrame) -> list[str]:
    """The shortest and the longest prompts, of `tables/length.csv`."""
    rows = rows_with(frame, arm="c2c")
    parts = rows[rows["bucket"] != "all"]
    if parts.empty:
        return ["All prompts of this scale are about equally long."]
    ends = parts.groupby(CELL, sort=False)
    short, long = ends.nth(0), ends.nth(-1)
    apart = (short["low"].to_numpy() > long["high"].to_numpy()) | (short["high"].to_numpy() < long["low"].to_numpy())
    shortest, longest = short.iloc[0], long.iloc[0]
    return [
        f"On {cell_title(shortest)}, C2C answers {percents(shortest)} of the shortest prompts ({shortest['bucket']}) "
        f"correctly and {percents(longest)} of the longest ({longest['bucket']}).",
        f"The two intervals do not overlap on {int(apart.sum())} of {len(short)} pairs and benchmarks "
        "with several lengths.",
    ]


def subjects(frame: pd.DataFrame) -> list[str]:
    """Where C2C gains most and least, of `tables/subjects.csv`."""
    rows = rows_with(frame, "gain_value", arm="c2c")
    if rows.empty:
        return []
    first = first_cell(rows).sort_values("gain_value", kind="stable")
    least, most = first.iloc[0], first.iloc[-1]
    return [
        f"On {cell_title(least)}, the gain is largest in {most['subject']} ({points(most, 'gain_')}) and smallest in "
        f"{least['subject']} ({points(least, 'gain_')}).",
        f"Over the pairs and benchmarks whose questions have subjects the gain is {tally(rows, 'gain_', 'subjects')}, "
        "without adjustment for their number.",
    ]


def venn(frame: pd.DataFrame) -> list[str]:
    """What becomes of questions that one of the two models alone answers, of `tables/venn.csv`."""
    rows = rows_with(frame, "questions", arm="c2c")
    if rows.empty:
        return []
    first = first_cell(rows)
    counts = first.set_index("region")["questions"]
    parts = []
    for model, words in (
        ("sharer", "the Sharer, but not the Receiver,"),
        ("receiver", "the Receiver, but not the Sharer,"),
    ):
        part, total = counts[f"fused&{model}"], counts[f"fused&{model}"] + counts[model]
        if total > 0:
            parts.append(
                f"of {counted(total)} questions that {words} answers correctly, "
                f"C2C answers {decimal(100 * part / total, 1)} %"
            )
    alone = f"it answers {counted(counts['fused'])} that neither of the two does"
    return [f"On {cell_title(first.iloc[0])}: {'; '.join([*parts, alone])} (means over training seeds)."]
