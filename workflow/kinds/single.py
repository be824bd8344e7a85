"""Receivers that are themselves fine-tuned on the training set of a pair (Table 6). Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from c2c.errors import RefusedError
from workflow.kinds.jobs import AnswerJob, answer_job
from workflow.settings import FuserTraining, Settings
from workflow.validation import check_row

SINGLE = "single"


@dataclass(frozen=True)
class SingleTraining:
    """A Receiver to fine-tune: its path below ``single/`` and, with ``.parquet``, below ``records/single/``."""

    pair: str
    alignment: str
    seed: int

    @property
    def path(self) -> str:
        """``<pair>/<alignment>/seed<seed>``."""
        return f"{self.pair}/{self.alignment}/seed{self.seed}"


def single_trainings(settings: Settings) -> list[SingleTraining]:
    """The Receivers that are fine-tuned at this scale, in the config's order."""
    return [
        SingleTraining(entry["pair"], entry["alignment"], seed)
        for entry in settings.config.get("single", [])
        for seed in settings.seeds(entry)
    ]


def single_answers(settings: Settings) -> list[AnswerJob]:
    """One job for each fine-tuned Receiver, which answers alone."""
    return [
        answer_job(
            settings,
            SINGLE,
            f"records/single/{run.path}",
            [run.pair],
            ["receiver"],
            receiver=f"single/{run.path}.json",
            options={"recipe": "single", "seed": run.seed},
            subject=f"the fine-tuned Receiver of {run.pair}, seed {run.seed}",
        )
        for run in single_trainings(settings)
    ]


def check_single(settings: Settings) -> None:
    """Check that each fine-tuned Receiver has a c2c run: it is compared with that, and learns from its tokenised set.

    Raises:
        RefusedError: There is no such C2C.
    """
    for run in single_trainings(settings):
        check_row("The pair of a fine-tuned Receiver", run.pair, settings.pairs, "pairs")
        if FuserTraining(run.pair, "c2c", run.alignment, run.seed) not in settings.runs:
            rule = "A fine-tuned Receiver must have a c2c run of the same pair, alignment and seed to be compared with"
            raise RefusedError(rule, run.path, "Add it to runs, or drop the seed from single")
