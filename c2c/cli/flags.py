"""Flags that several sub-commands of `c2c` share, and the runs that are built from them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from c2c.errors import RefusedError
from c2c.provenance import check_output, stamp
from c2c.settings import rule_of

if TYPE_CHECKING:
    from c2c.training.fusers import TrainingRun
    from c2c.training.latent import LatentRun
    from c2c.training.single import SingleRun

Run = TypeVar("Run", "TrainingRun", "SingleRun", "LatentRun")


def add_pair(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the two models."""
    parser.add_argument("--receiver", required=True, help="Receiver: folder, model manifest or hub id")
    parser.add_argument("--sharer", required=True, help="Sharer: folder, model manifest or hub id")


LINES = "training set (JSON lines: id, prompt and response, or messages; optionally private and opening)"


def add_sets(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the training and the validation set."""
    parser.add_argument("--data", type=Path, help=LINES)
    parser.add_argument("--validation", type=Path, help="validation set, same format")
    parser.add_argument(
        "--tokenised",
        type=Path,
        nargs=2,
        default=(),
        metavar=("TRAIN", "VALIDATION"),
        help="instead of the two: both sets as c2c tokenise wrote them (.parquet)",
    )


def add_models(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add the flags of a Receiver and its Sharers, as `c2c.evaluation.run.EvaluationRun` has them.

    Args:
        parser: Gets the flags.
        several: Whether there may be more than one Sharer.
    """
    parser.add_argument("--receiver", required=True, help="Receiver: folder, model manifest or hub id")
    text = "Sharer: folder, model manifest or hub id" + ("; several answer together" if several else "")
    parser.add_argument(
        "--sharer", nargs="+" if several else 1, required=True, dest="sharers", metavar="SHARER", help=text
    )


def add_fusers(parser: argparse.ArgumentParser, *, several: bool = False, required: bool = False) -> None:
    """Add the flags of the Fusers of each Sharer, and of how they were trained.

    Args:
        parser: Gets the flags.
        several: Whether there may be more than one Sharer.
        required: Whether Fusers must be named.
    """
    # Folders: one of each Sharer.
    text = "folder of the Fusers of each Sharer, in the same order" if several else "folder of trained Fusers"
    parser.add_argument(
        "--fuser",
        nargs="+" if several else 1,
        required=required,
        default=[],
        dest="fusers",
        metavar="FUSER",
        help=text + ("" if required else ", for the methods that need them"),
    )
    # How they were trained, as records note it.
    for flag, text in (("recipe", "recipe of the Fusers"), ("alignment", "token alignment of the Fusers")):
        parser.add_argument(f"--{flag}", required=required, default="", help=text)
    parser.add_argument("--seed", type=int, required=required, default=None, help="training seed of the Fusers")
    # How several Sharers are used together.
    if several:
        from c2c.types import FUSIONS

        text = "how the Fusers of several Sharers are used: one after the other, or added up (default: %(default)s)"
        parser.add_argument("--fusion", choices=FUSIONS, default="sequential", help=text)


def add_prompts(parser: argparse.ArgumentParser) -> None:
    """Add the flag of the form of prompts."""
    from c2c.types import PROMPTS

    text = "plain text, or chat: messages in each model's own chat template (default: %(default)s)"
    parser.add_argument("--prompts", choices=PROMPTS, default="plain", help=text)


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Add the flag of the models' precision."""
    from c2c.types import DTYPES

    text = "precision of the models; float16 only with Fusers that were trained in it (default: %(default)s)"
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help=text)


def add_failed_share(parser: argparse.ArgumentParser) -> None:
    """Add ``--failed-share`` of what makes accuracies of answers."""
    from c2c.evaluation.scoring import FAILED_SHARE

    text = "largest share of a method's questions of a benchmark that may have failed (default: %(default)s)"
    parser.add_argument("--failed-share", type=float, default=FAILED_SHARE, help=text)


def add_budget(parser: argparse.ArgumentParser, *, measured: bool = False) -> None:
    """Add the flag of the size of a batch; `measured` is whether it may be ``auto``."""
    auto = "; auto: as many as fit into memory" if measured else ""
    text = f"tokens of a batch, pads and answers included{auto} (default: %(default)s)"
    parser.add_argument("--token-budget", type=str if measured else int, default=4096, help=text)


def add_compile(parser: argparse.ArgumentParser) -> None:
    """Add the flag of what is compiled while answers are written."""
    from c2c.types import COMPILED_STAGES

    text = "decoding: the steps after a prompt, on a GPU as CUDA graphs (default: %(default)s)"
    parser.add_argument("--compile", choices=COMPILED_STAGES, default="none", help=text)


def add_evaluation(parser: argparse.ArgumentParser, methods: Sequence[str]) -> None:
    """Add the flags of the benchmarks, of the methods that answer them, and of the records."""
    parser.add_argument("--scale", required=True, help="scale of the replication, noted in each record")
    parser.add_argument("--pair", required=True, help="id of the pair, noted in each record")
    parser.add_argument("--tasks", type=Path, required=True, help="folder of task files, one a benchmark")
    parser.add_argument(
        "--benchmarks", nargs="+", required=True, metavar="ID=FILE", help="prepared questions of each benchmark"
    )
    parser.add_argument("--methods", nargs="+", required=True, metavar="METHOD", help=", ".join(methods))
    parser.add_argument("--output", type=Path, required=True, help="records (.parquet)")
    add_prompts(parser)
    add_dtype(parser)
    add_accepted(parser)


def add_accepted(parser: argparse.ArgumentParser) -> None:
    """Add the flag of differences from the Fusers' contract that are accepted."""
    parser.add_argument(
        "--accept-difference",
        nargs="+",
        default=[],
        metavar="LINE",
        help="lines of the fuser's contract in which these models may differ from those it was trained for",
    )


def benchmark_files(arguments: Sequence[str], flag: str = "--benchmarks") -> dict[str, Path]:
    """Read ``ID=FILE`` arguments of a flag as files of prepared questions by benchmark."""
    files = {}
    for argument in arguments:
        name, separator, path = argument.partition("=")
        if not separator:
            raise RefusedError(
                f"{flag} must have the form ID=FILE",
                argument,
                "Write the benchmark's id, =, and its prepared file",
            )
        files[name] = Path(path)
    return files


def evaluation_from_flags(kind: Any, options: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """A run from flags that have the names of its fields, and the settings for its provenance."""
    values = {field.name: getattr(options, field.name) for field in fields(kind) if hasattr(options, field.name)}
    settings = {name: value for name, value in values.items() if name not in ("tasks", "output")}
    return kind(**values | {"benchmarks": benchmark_files(options.benchmarks)}), settings


def add_training(parser: argparse.ArgumentParser, **help_texts: str) -> None:
    """Add one flag for each setting of a training.

    Args:
        parser: Gets the flags.
        **help_texts: Help of settings that mean something else in this training, by their names.
    """
    from c2c.training.config import TrainingConfig

    for setting in fields(TrainingConfig):
        flag, rule = "--" + setting.name.replace("_", "-"), rule_of(setting)
        # A parser of ours runs after argparse, which would replace the text of its refusal.
        kind = str if rule.parse else type(setting.default)
        text = help_texts.get(setting.name, rule.flag_help()) + " (default: %(default)s)"
        parser.add_argument(flag, type=kind, default=setting.default, help=text)


def training_from_flags(kind: type[Run], options: argparse.Namespace) -> Run:
    """A training run, with its config, from the flags of `add_training` and the fields of `kind`."""
    from c2c.training.config import TrainingConfig

    settings = {setting.name: getattr(options, setting.name) for setting in fields(TrainingConfig)}
    for setting in fields(TrainingConfig):
        parse = rule_of(setting).parse
        if parse and isinstance(settings[setting.name], str):
            settings[setting.name] = parse(settings[setting.name])
    config = TrainingConfig(**settings)
    names = [field.name for field in fields(kind) if field.name != "config"]
    run: Run = kind(**{name: getattr(options, name) for name in names}, config=config)
    # Resumable states and results are removed and replaced, so neither may be an input or contain the other.
    check_output(run.checkpoints, [*run.files(), run.output])
    return run


def train_in_processes(run: TrainingRun | LatentRun, options: argparse.Namespace, models: Callable[[], Any]) -> None:
    """Train in the processes that `options` ask for; the first one writes the provenance of the output.

    Args:
        run: What is trained.
        options: With `processes`, and with `arguments`, by which the other processes are started.
        models: Gives what the provenance states about the models.
    """
    from c2c.training import launch
    from c2c.training.run import train

    if not launch.launch_or_join(options.processes, run.config, options.arguments):
        return
    if not launch.is_first():
        train(run)
        return
    with stamp(run.output, inputs=run.files(), settings=run.settings()) as notes:
        notes["training"] = train(run)
        notes["models"] = models()


def runs_from_flags(options: argparse.Namespace) -> list[TrainingRun]:
    """The runs of ``c2c train-together``: each has the values of its JSON object in place of those of the flags.

    Raises:
        RefusedError: If an object is no JSON, lacks its output, or has a key that is no setting.
    """
    from c2c.storage.formats import parse_json
    from c2c.training.config import TrainingConfig
    from c2c.training.fusers import TrainingRun

    names = {setting.name for setting in fields(TrainingConfig)}
    remedy = 'Pass objects such as {"recipe": "c2c", "output": "fusers", "seed": 0}'
    runs = []
    for text in options.runs:
        values = parse_json(text, "--runs", remedy)
        if not isinstance(values, dict) or not {"recipe", "output"} <= values.keys() <= {
            *names, "recipe", "output", "kept",
        }:  # fmt: skip
            rule = "A run must have recipe and output, and beside kept no keys but settings of a training"
            raise RefusedError(rule, text, remedy)
        places = {name: Path(values[name]) if values.get(name) else None for name in ("output", "kept")}
        own = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        runs.append(
            training_from_flags(TrainingRun, argparse.Namespace(**{**vars(options), "states": None, **own, **places}))
        )
    return runs


def train_runs_in_processes(
    runs: Sequence[TrainingRun], options: argparse.Namespace, models: Callable[[], Any]
) -> None:
    """Train runs together; as `train_in_processes`, with the provenance of each output."""
    from c2c.training import launch
    from c2c.training.together import check_runs, train_together

    check_runs(runs)
    if not launch.launch_or_join(options.processes, runs[0].config, options.arguments):
        return
    if not launch.is_first():
        train_together(runs)
        return
    with ExitStack() as stamps:
        notes = [stamps.enter_context(stamp(run.output, inputs=run.files(), settings=run.settings())) for run in runs]
        for note, training in zip(notes, train_together(runs), strict=True):
            note["training"] = training
            note["models"] = models()
