"""The command ``c2c experiment``: one pair measured with all controls, and a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from c2c.cli.flags import DtypeFlags, OptionalPath, OptionalText, Texts, one_of
from c2c.errors import RefusedError

SIZE_NAMES = ("tiny", "small", "full")


@dataclass(frozen=True, kw_only=True)
class ExperimentCommand(DtypeFlags):
    """Does a message from the Sharer reach the Receiver? One pair, all controls, one report.

    First the pair is checked and the cost estimated. Then channels are measured on generated tasks, of which some need
    a message and one needs none, and on your own questions. The folder gets report.html, the records and tables. The
    same command resumes where it was interrupted.
    """

    receiver: OptionalText = None
    """Receiver: folder, model manifest or hub id"""
    sharer: OptionalText = None
    """Sharer: folder, model manifest or hub id"""
    example: bool = False
    """instead of the two: tiny models that are trained on the spot in half a minute, without a download"""
    data: OptionalPath = None
    """your questions (JSON lines: question, answer; optionally options, and text that the Sharer alone reads)"""
    method: Annotated[Texts, arg(metavar="CHANNEL [CHANNEL ...]")] = ("ridge",)
    """channels that are measured: ridge (closed form), c2c or c2c_on_ridge (trained), … see docs/testbed.md"""
    size: Annotated[str, one_of(SIZE_NAMES)] = ""
    """how much is measured (default: small, and tiny with --example)"""
    seed: int = 0
    """of items and trainings"""
    settings: Annotated[str, arg(metavar="JSON")] = "{}"
    """settings of channels, such as {"c2c": {"steps": 50}}"""
    margin: float = 2.8
    """margin of equivalence in points"""
    output: Path
    """folder of the report, records and items"""

    def run(self) -> None:
        """Measure, write the folder, and print the verdict."""
        # 1. Flags that contradict each other are refused before anything is imported
        from c2c.cli.testbed import channel_settings

        settings = channel_settings(self.settings)
        models = (self.receiver, self.sharer)
        if any(models) if self.example else not all(models):
            rule = "There must be both models, or --example"
            raise RefusedError(rule, {"receiver": self.receiver, "sharer": self.sharer}, "Name both, or neither")
        # 2. The experiment
        from c2c.testbed.experiment.example import example_pair, models_of
        from c2c.testbed.experiment.run import REPORT, run_experiment
        from c2c.testbed.experiment.settings import Experiment

        size = self.size or ("tiny" if self.example else "small")
        folder = self.output / "models"
        receiver, sharer = models_of(folder) if self.example else (str(self.receiver), str(self.sharer))
        experiment = Experiment(
            receiver=receiver,
            sharer=sharer,
            output=self.output,
            data=self.data,
            methods=self.method,
            size=size,
            seed=self.seed,
            settings=settings,
            margin=self.margin,
            dtype=self.dtype,
            is_example=self.example,
        )
        if self.example:
            example_pair(folder)
        summary = run_experiment(experiment)
        # 3. What was found
        for warning in summary["warnings"]:
            print(f"Warning: {warning}")
        for task in summary["tasks"]:
            for about in task["methods"]:
                print(f"{task['title']}: {about['verdict']}")
        print(f"Report: {self.output / REPORT}")
