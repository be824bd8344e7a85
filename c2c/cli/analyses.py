"""The command ``c2c analyse``: one sub-command for each kind of analysis."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c2c.cli.commands import Command, add_commands
from c2c.cli.flags import add_budget, add_dtype, add_failed_share, add_fusers, add_models, add_prompts
from c2c.errors import RefusedError
from c2c.provenance import stamp
from c2c.storage.files import write_atomically

if TYPE_CHECKING:
    from c2c.analysis.run import AnalysisRun

NOT_SETTINGS = ("tasks", "output", "benchmarks", "orders", "clouds")


def _add_questions(parser: argparse.ArgumentParser, output: str) -> None:
    """Flags of `c2c.analysis.run.AnalysisRun`."""
    parser.add_argument("--scale", required=True, help="scale of the replication")
    parser.add_argument("--pair", required=True, help="id of the pair")
    add_models(parser)
    parser.add_argument("--tasks", type=Path, required=True, help="folder of task files, one a benchmark")
    parser.add_argument(
        "--benchmark", required=True, metavar="ID=FILE", help="the benchmark and its prepared questions"
    )
    parser.add_argument("--questions", type=int, required=True, help="how many, by the hash of their id; 0: all")
    add_prompts(parser)
    add_dtype(parser)
    add_budget(parser)
    parser.add_argument("--output", type=Path, required=True, help=output)


def _add_fuser(parser: argparse.ArgumentParser) -> None:
    add_fusers(parser, required=True)
    parser.add_argument(
        "--accept-difference",
        nargs="+",
        default=[],
        metavar="LINE",
        help="lines of the fuser's contract that may differ",
    )


def _run_of(kind: type[AnalysisRun], options: argparse.Namespace, **more: Any) -> Any:
    """A run of `kind` from the flags that are its fields; any other field keeps its default."""
    name, separator, path = options.benchmark.partition("=")
    if not separator:
        raise RefusedError(
            "--benchmark must have the form ID=FILE", options.benchmark, "Write the id, =, and its prepared file"
        )
    names = {field.name for field in fields(kind)}
    settings = {flag: value for flag, value in vars(options).items() if flag in names}
    return kind(**settings, benchmarks={name: Path(path)}, **more)


def _settings(run: AnalysisRun) -> dict[str, Any]:
    return {name: value for name, value in vars(run).items() if name not in NOT_SETTINGS}


def _stamped(run: AnalysisRun, outputs: Sequence[Path], make: Callable[[dict[str, Any]], Any]) -> None:
    """Make the outputs, each with the provenance of the run; `make` gets the notes of the first output's."""
    from contextlib import ExitStack

    from c2c.models.hub import about

    inputs: dict[str, Any] = {"inputs": run.files(), "settings": _settings(run), "sources": [run.tasks]}
    with ExitStack() as stack:
        notes = [stack.enter_context(stamp(path, **inputs)) for path in outputs]
        make(notes[0])
        for note in notes:
            note["models"] = {role: about(place) for role, place in run.models.items()}


def _add_effective_rank(parser: argparse.ArgumentParser) -> None:
    _add_questions(parser, "ranks (.csv)")
    _add_fuser(parser)


def _effective_rank(options: argparse.Namespace) -> None:
    from c2c.analysis.effective_rank import measure_ranks
    from c2c.analysis.run import AnalysisRun

    run = _run_of(AnalysisRun, options)
    _stamped(run, [run.output], lambda notes: write_atomically(run.output, _csv(measure_ranks(run))))


def _add_enrichment(parser: argparse.ArgumentParser) -> None:
    _add_questions(parser, "records (.parquet)")
    parser.add_argument("--role", choices=["receiver", "sharer"], default="receiver", help="the model that answers")
    parser.add_argument("--examples", type=Path, required=True, help="prepared questions that serve as examples")
    parser.add_argument("--shots", type=int, required=True, help="examples in front of a question")
    parser.add_argument("--most", type=int, default=10, help="largest K of the best and worst K layers")
    parser.add_argument("--orders", type=Path, required=True, help="layers in order, by what chose them (.csv)")


def _enrichment(options: argparse.Namespace) -> None:
    from c2c.analysis.enrichment import EnrichmentRun, enrich

    run = _run_of(EnrichmentRun, options)
    _stamped(run, [run.output, run.orders], lambda notes: enrich(run, notes))


def _add_tsne(parser: argparse.ArgumentParser) -> None:
    _add_questions(parser, "points (.csv)")
    _add_fuser(parser)
    parser.add_argument(
        "--training-questions", type=int, required=True, help="other questions that the MLP learns from"
    )
    parser.add_argument("--perplexity", type=float, default=50, help="of t-SNE")
    parser.add_argument("--iterations", type=int, default=1000, help="of t-SNE")
    parser.add_argument("--hidden", type=int, default=1024, help="width of the MLP")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of the MLP")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="of the MLP")
    parser.add_argument("--clouds", type=Path, required=True, help="numbers of each cloud (.csv)")


def _tsne(options: argparse.Namespace) -> None:
    from c2c.analysis.transformation import TransformationTraining
    from c2c.analysis.tsne import TsneRun, place_caches

    training = TransformationTraining(hidden=options.hidden, steps=options.steps, learning_rate=options.learning_rate)
    run = _run_of(TsneRun, options, training=training)
    _stamped(run, [run.output, run.clouds], lambda notes: place_caches(run))


def _add_partial(parser: argparse.ArgumentParser) -> None:
    _add_questions(parser, "records (.parquet)")
    _add_fuser(parser)
    parser.add_argument("--shares", type=float, nargs="+", required=True, help="shares, each from 0 to 1")


def _partial(options: argparse.Namespace) -> None:
    from c2c.analysis.partial import PartialRun, answer_partially_fused

    run = _run_of(PartialRun, options)
    _stamped(run, [run.output], lambda notes: answer_partially_fused(run, notes))


def _add_accuracy(parser: argparse.ArgumentParser) -> None:
    from c2c.evaluation.protocol import CORRECTED, PROTOCOLS

    parser.add_argument("--records", type=Path, nargs="+", required=True, help="records (.parquet)")
    parser.add_argument("--against", required=True, metavar="METHOD", help="the method that all are compared with")
    parser.add_argument("--protocol", choices=PROTOCOLS, default=CORRECTED, help="by which answers are marked")
    add_failed_share(parser)
    parser.add_argument("--output", type=Path, required=True, help="accuracies (.csv)")


def _accuracy(options: argparse.Namespace) -> None:
    from c2c.analysis.accuracy import write_accuracy

    settings = {"against": options.against, "protocol": options.protocol, "failed_share": options.failed_share}
    with stamp(options.output, inputs=options.records, settings=settings):
        write_accuracy(options.records, options.against, options.output, options.protocol, options.failed_share)


def _add_carrier(parser: argparse.ArgumentParser) -> None:
    add_models(parser)
    parser.add_argument("--items", type=Path, required=True, help="items of the test bed (.jsonl), such as train.jsonl")
    parser.add_argument("--questions", type=int, default=100, help="how many, the first ones; 0: all (default: 100)")
    add_dtype(parser)
    parser.add_argument("--output", type=Path, help="the table (.csv)")


def _carrier(options: argparse.Namespace) -> None:
    from c2c.evaluation.schema import check_limit
    from c2c.models.hub import about
    from c2c.models.pair import load_models
    from c2c.testbed.carrier import examine_carriers, recommendation, table_text
    from c2c.testbed.items import read_items
    from c2c.testbed.models import Models

    check_limit(options.questions)
    items = read_items(options.items)[: options.questions or None]
    (sharer,) = options.sharers

    def examine() -> Any:
        frame = examine_carriers(Models.load(*load_models([options.receiver, sharer], options.dtype)), items)
        print(table_text(frame), recommendation(frame, items), sep="\n\n")
        return frame

    if options.output is None:
        examine()
        return
    settings = {"questions": options.questions, "dtype": options.dtype}
    with stamp(options.output, inputs=[options.items], settings=settings) as notes:
        write_atomically(options.output, _csv(examine()))
        notes["models"] = {"receiver": about(options.receiver), "sharer": about(sharer)}


def _csv(frame: Any) -> str:
    return str(frame.to_csv(index=False, float_format="%.4f", lineterminator="\n"))


KINDS = {
    "effective-rank": Command(
        "effective rank of keys and values by layer and cache", _add_effective_rank, _effective_rank
    ),
    "enrichment": Command("answers from a cache that was made behind examples", _add_enrichment, _enrichment),
    "tsne": Command("where the caches of questions lie, and what a trained MLP makes of them", _add_tsne, _tsne),
    "partial": Command("answers with a share of each prompt's tokens fused", _add_partial, _partial),
    "carrier": Command("which tokens can carry a value, before any training", _add_carrier, _carrier),
    "accuracy": Command("accuracies by method and setting, from records of an analysis", _add_accuracy, _accuracy),
}


def add_analyse(parser: argparse.ArgumentParser) -> None:
    """Add the kinds of analyses to the parser of ``c2c analyse``."""
    add_commands(parser, "kind", KINDS)
