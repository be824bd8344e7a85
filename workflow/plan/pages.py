"""What the paper's scale costs, as text of the documentation, from the plan. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from textwrap import fill

from paper.reading.reference import Reference
from workflow.config import FROZEN
from workflow.load import load_settings
from workflow.paths import ROOT
from workflow.plan.choices import ENOUGH_STEPS, ChoiceCost, choice_costs
from workflow.plan.costs import EXA
from workflow.plan.stages import Estimator, read_timings
from workflow.scales import PAPER_SCALE, read_config

DEVICE, GPUS = "h100", 8
"""What the costs in the documentation are for."""
GPUS_IN_WORDS = f"{GPUS} × {DEVICE.upper()}"
WIDTH = 140
"""Of the lines of the documentation."""


@cache
def paper_plan() -> tuple[Estimator, list[ChoiceCost]]:
    """The estimator of the paper's scale on `DEVICE`, and its choices on `GPUS` GPUs, the whole first."""
    settings = load_settings(read_config(PAPER_SCALE, folder=ROOT / "config"), ROOT)
    estimator = Estimator.of(settings, device=DEVICE)
    return estimator, choice_costs(settings, read_timings(), estimator, GPUS)


def cost_table() -> str:
    """What the paper's scale and leaner runs of it cost, in Markdown, and what that rests on."""
    estimator, choices = paper_plan()
    head = ["choice", "trainings", "EFLOP, live", *FROZEN]
    rows = [
        [
            choice.name,
            str(choice.trainings),
            f"{choice.operations['live'] / EXA:.1f}",
            *(f"{choice.gpu_hours[way]:,.0f} ({choice.wall_hours[way]:,.0f})" for way in FROZEN),
        ]
        for choice in choices
    ]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])
    speed, (whole, lean, *_) = estimator.speed, choices
    states_tb = (whole.disk_gb["stored"] - whole.disk_gb["live"]) / 1000
    before = [
        f"GPU hours on {DEVICE.upper()}, in brackets wall hours on {GPUS_IN_WORDS}, by how trainings of a pair read",
        "its frozen models: each for itself (`live`), once into files (`stored`), or several in one job (`together`).",
    ]
    after = [
        "" if speed.measured else "**No GPU has measured these hours.**",
        f"They assume {speed.tflops:.1f} TFLOP/s, {100 * speed.share:.1f} % of the GPU's peak, {speed.basis}.",
        "Wall hours assume jobs that wait for no others and are not divided, the longest first.",
        f"Stored states of all training sets take {states_tb:,.0f} TB: they suit sets of few and short prompts.",
        f"The largest job of trainings together needs {whole.memory_gb['together']:,.0f} GB of memory, of one seed",
        f"{lean.memory_gb['together']:,.0f} GB, at micro-batches for which trainings alone need",
        f"{whole.memory_gb['live']:,.0f} GB; on a smaller GPU take a smaller `micro_batch_size`.",
        steps_sentence(estimator.reference),
    ]
    return f"{_paragraph(before)}\n\n{table}\n\n{_paragraph(after)}\n"


def steps_sentence(reference: Reference) -> str:
    """What the paper's Fusers answer after `ENOUGH_STEPS` and after all steps (Table 12)."""
    frame = reference.frame
    rows = frame[(frame["artefact"] == "Table 12") & (frame["metric"] == "accuracy")]
    parts = []
    for sharer, of_sharer in rows.groupby("sharer", sort=False):
        accuracy = {int(row.panel.removeprefix("step ")): row.value for row in of_sharer.itertuples()}
        parts.append(f"{accuracy[ENOUGH_STEPS]} % and {accuracy[max(accuracy)]} % with {sharer}")
    return f"After {ENOUGH_STEPS} and after all steps the paper's C2C has on MMLU-Redux: {'; '.join(parts)} (Table 12)."


def cost_sentence() -> str:
    """What the whole paper and leaner runs cost, for the README."""
    estimator, (whole, *lean, released) = paper_plan()
    short, speed = lean[-1], estimator.speed
    remark = "" if speed.measured else ", which no GPU has measured"
    sentences = [
        f"By the plan the whole paper takes {whole.gpu_hours['live']:,.0f} {DEVICE.upper()} hours, "
        f"{_days(whole, 'live')} on {GPUS_IN_WORDS}, or {whole.gpu_hours['together']:,.0f} hours if the trainings of a "
        f"pair share passes of its frozen models; one seed a training and at most {ENOUGH_STEPS} steps take "
        f"{short.gpu_hours['together']:,.0f} hours, {_days(short, 'together')}; the released fusers alone "
        f"{released.gpu_hours['live']:,.0f} hours.",
        f"These are estimates at {100 * speed.share:.1f} % of the GPU's peak{remark}",
        "([all choices](docs/replication.md#the-papers-scale)).",
    ]
    return _paragraph(sentences) + "\n"


def _days(choice: ChoiceCost, way: str) -> str:
    return f"{choice.wall_hours[way] / 24:.1f} days"


def _paragraph(sentences: Sequence[str]) -> str:
    return fill(" ".join(filter(None, sentences)), WIDTH, break_long_words=False, break_on_hyphens=False)
