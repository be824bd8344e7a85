"""Commands that train: sets, stored states, Fusers, latent spaces, the Receiver itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from c2c.cli import flags
from c2c.cli.flags import OptionalPath, PairFlags, Paths, Prompts, SetFlags, Texts, TrainingFlags, one_of
from c2c.errors import RefusedError
from c2c.provenance import check_output, stamp
from c2c.training.config import SHARER_CACHES, STATES_LIMIT_GB, STATES_TOKEN_BUDGET, TrainingConfig
from c2c.types import DTYPES, LAYER_ALIGNMENTS, TOKEN_ALIGNMENTS

if TYPE_CHECKING:
    from c2c.training.fusers import TrainingRun
    from c2c.training.run import LearningRun

Alignment = Annotated[str, one_of(TOKEN_ALIGNMENTS)]


@dataclass(frozen=True, kw_only=True)
class Tokenise(PairFlags):
    """Align and tokenise a training set once for a pair, for all of its recipes and seeds."""

    data: Path
    """training set (JSON lines: id, prompt and response, or messages; optionally private and opening)"""
    output: Path
    """tokenised set (.parquet)"""
    alignment: Alignment = "span"
    """token alignment"""
    prompts: Prompts = "plain"
    """plain text, or each model's own template"""
    max_length: int = 2048
    """longest example in Receiver tokens"""

    def run(self) -> None:
        """Write the set with its provenance."""
        from c2c.training.tokenise import TokeniseRun, tokenise_file

        run = flags.run_from_flags(TokeniseRun, self)
        models = [path for path in map(Path, (run.receiver, run.sharer)) if path.exists()]
        with stamp(run.output, inputs=[*models, run.data], settings=run.settings()) as notes:
            notes["tokenised"] = counts = tokenise_file(run)
            notes["models"] = revisions(run)
        for reason, number in counts["left_out"].items():
            print(f"c2c tokenise: {number} of {counts['lines']} lines are left out: {reason}", file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class StoreStates(PairFlags):
    """Run the frozen models once over training sets, for all trainings of the pair."""

    output: Path
    """folder of the states"""
    dtype: Annotated[str, one_of(DTYPES)] = "float32"
    """precision of models and states"""
    sharer_cache: Annotated[str, one_of(SHARER_CACHES)] = "own"
    """zeroed: the Receiver's states alone are stored"""
    layer_alignment: Annotated[str, one_of(LAYER_ALIGNMENTS)] = "terminal"
    """which Sharer layers are stored"""
    alignment: Alignment = "span"
    """token alignment"""
    prompts: Prompts = "plain"
    """plain text, or each model's own template"""
    max_length: int = 2048
    """longest example in Receiver tokens"""
    data: Paths = ()
    """sets as JSON lines, training and validation"""
    tokenised: Paths = ()
    """sets as c2c tokenise wrote them"""
    token_budget: int = STATES_TOKEN_BUDGET
    """tokens of a batch, pads included"""
    limit_gb: float = STATES_LIMIT_GB
    """most GB (10^9 bytes) on the disk"""

    def run(self) -> None:
        """Write the states with their provenance."""
        from c2c.training.store_states import StoreStatesRun, store_states

        run = flags.run_from_flags(StoreStatesRun, self)
        models = [path for path in map(Path, (run.receiver, run.sharer)) if path.exists()]
        with stamp(run.output, inputs=[*models, *run.sets()], settings=run.settings()) as notes:
            notes["states"] = store_states(run)
            notes["models"] = revisions(run)


@dataclass(frozen=True, kw_only=True)
class FuserTrainingFlags(PairFlags, SetFlags):
    """What one training of Fusers and several at once share."""

    checkpoints: Path
    """folder for resumable states"""
    processes: int = 1
    """processes that train together, a GPU each"""
    settings: TrainingFlags


@dataclass(frozen=True, kw_only=True)
class Train(FuserTrainingFlags):
    """Train the Fusers of one pair. A training that is killed resumes when the command is repeated."""

    output: Path
    """folder of the trained Fusers"""
    recipe: str = "c2c"
    """name of the recipe, noted in the checkpoint"""
    states: OptionalPath = None
    """folder of c2c store-states of both sets"""
    kept: OptionalPath = None
    """folder of the Fusers of the steps that are kept; OUTPUT.steps if none is named"""

    def run(self) -> None:
        """Write the Fusers with their provenance."""
        from c2c.training.fusers import TrainingRun

        run = checked(flags.run_from_flags(TrainingRun, self, config=flags.training_config(self.settings)))
        train_in_processes(run, self.processes, lambda: revisions(run))


@dataclass(frozen=True, kw_only=True)
class TrainTogether(FuserTrainingFlags):
    """Train several Fusers of one pair in one job, on the same batches."""

    runs: Annotated[Texts, arg(metavar="JSON [JSON ...]")]
    """a run each: {"recipe": "c2c", "output": "folder", "seed": 0}, with kept and other settings of its own"""

    def run(self) -> None:
        """Write the Fusers of all runs, each with its provenance."""
        from c2c.training import launch
        from c2c.training.together import check_runs, train_together

        runs = self.training_runs()
        check_runs(runs)
        if not launch.launch_or_join(self.processes, runs[0].config, command_line()):
            return
        if not launch.is_first():
            train_together(runs)
            return
        with ExitStack() as stamps:
            notes = [
                stamps.enter_context(stamp(run.output, inputs=run.files(), settings=run.settings())) for run in runs
            ]
            for note, training in zip(notes, train_together(runs), strict=True):
                note["training"] = training
                note["models"] = revisions(runs[0])

    def training_runs(self) -> list[TrainingRun]:
        """The runs: each has the values of its JSON object in place of those of the flags.

        Raises:
            RefusedError: If an object is no JSON, lacks its output, or has a key that is no setting.
        """
        from c2c.storage.formats import parse_json
        from c2c.training.fusers import TrainingRun

        remedy, runs = 'Pass objects such as {"recipe": "c2c", "output": "fusers", "seed": 0}', []
        for text in self.runs:
            values = parse_json(text, "--runs", remedy)
            if not _is_run(values):
                rule = "A run must have recipe and output, and beside kept no keys but settings of a training"
                raise RefusedError(rule, text, remedy)
            places = {name: Path(values[name]) if values.get(name) else None for name in ("output", "kept")}
            own = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
            config = flags.training_config(self.settings, **own)
            run = flags.run_from_flags(TrainingRun, self, recipe=values["recipe"], config=config, **places)
            runs.append(checked(run))
        return runs


@dataclass(frozen=True, kw_only=True)
class TrainSingle(PairFlags):
    """Fine-tune the Receiver itself on a Fuser's training set: the control without a Sharer."""

    tokenised: tuple[Path, Path]
    """training and validation set as c2c tokenise wrote them (.parquet)"""
    checkpoints: Path
    """folder for resumable states"""
    output: Path
    """manifest of the trained model (.json)"""
    settings: TrainingFlags

    def run(self) -> None:
        """Write the model with its provenance."""
        from c2c.training.run import train
        from c2c.training.single import SingleRun

        run = checked(flags.run_from_flags(SingleRun, self, config=flags.training_config(self.settings)))
        with stamp(run.output, inputs=run.files(), settings=run.config.to_dict()) as notes:
            notes["training"] = train(run)
            notes["models"] = revisions(run)


@dataclass(frozen=True, kw_only=True)
class TrainLatent:
    """Train encoders and decoders of a latent space that several models share (Table 14)."""

    pairs: Texts
    """ids of the ordered pairs"""
    receivers: Texts
    """Receiver of each pair, in the same order: folder, manifest or hub id"""
    sharers: Texts
    """Sharer of each pair, in the same order"""
    train: Paths
    """training set of each pair, in the same order (.parquet)"""
    validation: Paths
    """validation set of each pair, in the same order (.parquet)"""
    latent_layers: int
    """layers of the latent cache"""
    latent_heads: int
    """heads of the latent cache"""
    latent_head_dim: int
    """numbers of a head of the latent cache"""
    checkpoints: Path
    """folder for resumable states"""
    output: Path
    """folder of the trained pairs"""
    processes: int = 1
    """processes that train together, a GPU each"""
    settings: TrainingFlags

    def run(self) -> None:
        """Write encoders and decoders with their provenance."""
        from c2c.models.hub import about
        from c2c.training.latent import LatentRun

        run = checked(flags.run_from_flags(LatentRun, self, config=flags.training_config(self.settings)))
        models = dict.fromkeys([*run.receivers, *run.sharers])
        train_in_processes(run, self.processes, lambda: [about(model) for model in models])


def checked(run: Any) -> Any:
    """The run, once its places cannot destroy each other: resumable states and results are removed and replaced."""
    check_output(run.checkpoints, [*run.files(), run.output])
    return run


def train_in_processes(run: LearningRun[Any], processes: int, models: Callable[[], Any]) -> None:
    """Train in so many processes; the first one writes the provenance of the output.

    Args:
        run: What is trained.
        processes: How many.
        models: Gives what the provenance states about the models.
    """
    from c2c.training import launch
    from c2c.training.run import train

    if not launch.launch_or_join(processes, run.config, command_line()):
        return
    if not launch.is_first():
        train(run)
        return
    with stamp(run.output, inputs=run.files(), settings=run.settings()) as notes:
        notes["training"] = train(run)
        notes["models"] = models()


def revisions(run: Any) -> dict[str, Any]:
    """Id, revision and hash of the models of a run, as provenance states them."""
    from c2c.models.hub import about

    return {role: about(getattr(run, role)) for role in ("receiver", "sharer")}


def command_line() -> Sequence[str]:
    """The arguments of this process, by which others are started to train along."""
    return sys.argv[1:]


def _is_run(values: Any) -> bool:
    names = {*TrainingConfig.__dataclass_fields__, "recipe", "output", "kept"}
    return isinstance(values, Mapping) and {"recipe", "output"} <= values.keys() <= names
