"""The command `c2c`: thin sub-commands that parse, call the library and write files with their provenance."""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from c2c import __version__
from c2c.cli import messages, methods
from c2c.cli.analyses import add_analyse
from c2c.cli.commands import Command, add_commands
from c2c.cli.demo import add_demo, run_demo
from c2c.cli.flags import (
    LINES,
    add_accepted,
    add_budget,
    add_compile,
    add_dtype,
    add_evaluation,
    add_failed_share,
    add_fusers,
    add_models,
    add_pair,
    add_prompts,
    add_sets,
    add_training,
    evaluation_from_flags,
    runs_from_flags,
    train_in_processes,
    train_runs_in_processes,
    training_from_flags,
)
from c2c.cli.testbed import add_testbed, run_testbed
from c2c.errors import RefusedError, exit_code
from c2c.provenance import stamp
from c2c.storage.files import write_atomically
from c2c.storage.manifests import check_manifest_place


def _add_fetch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="hub id, owner/name")
    parser.add_argument("--revision", default=None, help="commit, tag or branch")
    parser.add_argument("--output", type=Path, required=True, help="model manifest (.json)")


def _fetch(options: argparse.Namespace) -> None:
    from c2c.models import hub

    check_manifest_place(options.output)
    with stamp(options.output, settings={"model": options.model, "revision": options.revision}) as notes:
        manifest = hub.describe(options.model, options.revision)
        write_atomically(options.output, json.dumps(manifest, indent=1) + "\n")
        notes["model"] = manifest


def _add_tokenise(parser: argparse.ArgumentParser) -> None:
    from c2c.types import PROMPTS, TOKEN_ALIGNMENTS

    add_pair(parser)
    parser.add_argument("--alignment", default="span", help="token alignment: " + ", ".join(TOKEN_ALIGNMENTS))
    parser.add_argument("--prompts", choices=PROMPTS, default="plain", help="plain text, or each model's own template")
    parser.add_argument("--max-length", type=int, default=2048, help="longest example in Receiver tokens")
    parser.add_argument("--data", type=Path, required=True, help=LINES)
    parser.add_argument("--output", type=Path, required=True, help="tokenised set (.parquet)")


def _tokenise(options: argparse.Namespace) -> None:
    from c2c.training.tokenise import TokeniseRun, tokenise_file

    run = TokeniseRun(**{field.name: getattr(options, field.name) for field in fields(TokeniseRun)})
    models = [path for path in map(Path, (run.receiver, run.sharer)) if path.exists()]
    with stamp(run.output, inputs=[*models, run.data], settings=run.settings()) as notes:
        notes["tokenised"] = done = tokenise_file(run)
        notes["models"] = _revisions(run)
    for reason, number in done["left_out"].items():
        print(f"c2c tokenise: {number} of {done['lines']} lines are left out: {reason}", file=sys.stderr)


def _add_store_states(parser: argparse.ArgumentParser) -> None:
    from c2c.training.config import SHARER_CACHES, STATES_LIMIT_GB, STATES_TOKEN_BUDGET
    from c2c.types import LAYER_ALIGNMENTS, PROMPTS, TOKEN_ALIGNMENTS

    add_pair(parser)
    add_dtype(parser)
    parser.add_argument(
        "--sharer-cache", choices=SHARER_CACHES, default="own", help="zeroed: only the Receiver's states are stored"
    )
    parser.add_argument(
        "--layer-alignment", choices=LAYER_ALIGNMENTS, default="terminal", help="which Sharer layers are stored"
    )
    parser.add_argument("--alignment", default="span", help="token alignment: " + ", ".join(TOKEN_ALIGNMENTS))
    parser.add_argument("--prompts", choices=PROMPTS, default="plain", help="plain text, or each model's own template")
    parser.add_argument("--max-length", type=int, default=2048, help="longest example in Receiver tokens")
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="sets as JSON lines, training and validation")
    parser.add_argument("--tokenised", type=Path, nargs="+", default=[], help="sets as c2c tokenise wrote them")
    parser.add_argument(
        "--token-budget", type=int, default=STATES_TOKEN_BUDGET, help="tokens of a batch, pads included"
    )
    parser.add_argument("--limit-gb", type=float, default=STATES_LIMIT_GB, help="most GB (10^9 bytes) on the disk")
    parser.add_argument("--output", type=Path, required=True, help="folder of the states")


def _store_states(options: argparse.Namespace) -> None:
    from c2c.training.store_states import StoreStatesRun, store_states

    run = StoreStatesRun(**{field.name: getattr(options, field.name) for field in fields(StoreStatesRun)})
    models = [path for path in map(Path, (run.receiver, run.sharer)) if path.exists()]
    with stamp(run.output, inputs=[*models, *run.sets()], settings=run.settings()) as notes:
        notes["states"] = store_states(run)
        notes["models"] = _revisions(run)


def _add_train(parser: argparse.ArgumentParser) -> None:
    add_pair(parser)
    parser.add_argument("--recipe", default="c2c", help="name of the recipe, noted in the checkpoint")
    add_sets(parser)
    parser.add_argument("--states", type=Path, help="folder of c2c store-states of both sets")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder for resumable states")
    parser.add_argument("--output", type=Path, required=True, help="folder of the trained Fusers")
    parser.add_argument("--kept", type=Path, help="folder of the Fusers of --keep-steps (default: OUTPUT.steps)")
    parser.add_argument("--processes", type=int, default=1, help="processes that train together, a GPU each")
    add_training(parser)


def _train(options: argparse.Namespace) -> None:
    from c2c.training.fusers import TrainingRun

    run = training_from_flags(TrainingRun, options)
    train_in_processes(run, options, lambda: _revisions(run))


def _add_train_together(parser: argparse.ArgumentParser) -> None:
    add_pair(parser)
    add_sets(parser)
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder for resumable states")
    parser.add_argument("--processes", type=int, default=1, help="processes that train together, a GPU each")
    text = 'a run each: {"recipe": "c2c", "output": "folder", "seed": 0}, with kept and other settings of its own'
    parser.add_argument("--runs", nargs="+", required=True, metavar="JSON", help=text)
    add_training(parser)


def _train_together(options: argparse.Namespace) -> None:
    runs = runs_from_flags(options)
    train_runs_in_processes(runs, options, lambda: _revisions(runs[0]))


def _revisions(run: Any) -> dict[str, Any]:
    """Id, revision and hash of the models of a run, as provenance states them."""
    from c2c.models.hub import about

    return {role: about(getattr(run, role)) for role in ("receiver", "sharer")}


def _add_chat(parser: argparse.ArgumentParser) -> None:
    add_pair(parser)
    parser.add_argument("--fuser", required=True, help="Fusers of the pair: folder or hub id")
    parser.add_argument("--message", default=None, help="answer this alone; else each line of the standard input")
    parser.add_argument("--alignment", default=None, help="token alignment; that of the Fusers' training by default")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="longest answer, in tokens")
    add_dtype(parser)
    parser.add_argument("--device", default=None, help="where the models run, such as cuda")
    add_accepted(parser)


def _chat(options: argparse.Namespace) -> None:
    from transformers import TextStreamer

    from c2c.agents.chat_pipeline import converse, lines_of, pipeline

    if options.message is None and sys.stdin is None:
        raise RefusedError(
            "The standard input must be open", "a closed one", "Pass --message, or redirect a file to it"
        )
    pipe = pipeline(
        options.receiver,
        options.sharer,
        options.fuser,
        alignment=options.alignment,
        dtype=options.dtype,
        device=options.device,
        override=options.accept_difference,
    )
    if options.message is not None:
        print(pipe(options.message, max_new_tokens=options.max_new_tokens), flush=True)
        return
    streamer = TextStreamer(pipe.pair.receiver.tokenizer, skip_prompt=True, skip_special_tokens=True)
    generation = {"max_new_tokens": options.max_new_tokens, "streamer": streamer}
    # A person at a terminal sees when a line is waited for; a program's output stays as it is.
    prompt = "> " if sys.stdin.isatty() else ""
    lines = lines_of(sys.stdin, ready=lambda: print(prompt, end="", file=sys.stderr, flush=True))
    converse(pipe, lines, say=lambda text: print(f"c2c chat: {text}", file=sys.stderr), **generation)


def _add_generate(parser: argparse.ArgumentParser) -> None:
    from c2c.evaluation.methods.declarations import METHODS

    add_models(parser, several=True)
    add_evaluation(parser, METHODS)
    add_fusers(parser, several=True)
    add_budget(parser, measured=True)
    add_compile(parser)
    parser.add_argument("--router", default="", help="folder of a trained router, for routing_trained")
    parser.add_argument("--limit", type=int, default=0, help="only the first questions of each benchmark; 0 for all")


def _generate(options: argparse.Namespace) -> None:
    from c2c.evaluation.run import GenerationRun
    from c2c.settings import AUTO, whole_number_or

    def answer(run: GenerationRun, notes: dict[str, Any]) -> None:
        # lm-eval and datasets are imported for a run that was not refused.
        from c2c.evaluation.generate import generate

        generate(run, notes)

    options.token_budget = whole_number_or(AUTO, str(options.token_budget), "--token-budget")
    _evaluate(GenerationRun, answer, options)


def _evaluate(kind: Any, answer: Callable[[Any, dict[str, Any]], Any], options: argparse.Namespace) -> None:
    """Build an `c2c.evaluation.run.EvaluationRun` from flags, and write its records with their provenance."""
    from c2c.models.hub import about

    run, settings = evaluation_from_flags(kind, options)
    with stamp(run.output, inputs=run.files(), settings=settings, sources=[run.tasks]) as notes:
        answer(run, notes)
        notes["models"] = {role: about(place) for role, place in run.models.items()}


def _add_train_router(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--receiver", required=True, help="Receiver: folder, model manifest or hub id")
    parser.add_argument("--records", type=Path, required=True, help="answers of receiver and sharer (.parquet)")
    parser.add_argument("--tasks", type=Path, required=True, help="folder of task files")
    parser.add_argument("--benchmarks", nargs="+", required=True, metavar="ID=FILE", help="the questions answered")
    parser.add_argument("--output", type=Path, required=True, help="folder of the router")
    parser.add_argument("--seed", type=int, default=0, help="of the router's training")
    add_prompts(parser)
    add_dtype(parser)
    add_budget(parser)


def _train_router(options: argparse.Namespace) -> None:
    from c2c.evaluation.methods.routing import RouterTrainingRun, train_router
    from c2c.models.hub import about

    run, settings = evaluation_from_flags(RouterTrainingRun, options)
    inputs = [run.records, *run.benchmarks.values(), *([Path(run.receiver)] if Path(run.receiver).exists() else [])]
    with stamp(run.output, inputs=inputs, settings=settings, sources=[run.tasks]) as notes:
        notes["router"] = train_router(run)
        notes["models"] = {"receiver": about(run.receiver)}


def _add_score(parser: argparse.ArgumentParser) -> None:
    from c2c.evaluation.protocol import CORRECTED, PROTOCOLS

    parser.add_argument("--records", type=Path, nargs="+", required=True, help="records (.parquet)")
    parser.add_argument("--output", type=Path, required=True, help="scores (.csv)")
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default=CORRECTED, help="paper: with the quirks of the reference evaluation"
    )
    add_failed_share(parser)


def _score(options: argparse.Namespace) -> None:
    from c2c.evaluation.scoring import score_files

    score_files(options.records, options.output, options.protocol, options.failed_share)


def _add_latency(parser: argparse.ArgumentParser) -> None:
    from c2c.evaluation.methods.declarations import TIMED_METHODS

    add_models(parser)
    add_evaluation(parser, TIMED_METHODS)
    add_fusers(parser)
    parser.add_argument("--questions", type=int, default=32, help="first questions of each benchmark")
    parser.add_argument("--repeats", type=int, default=3, help="times that each question is asked")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0 leaves it to torch")


def _latency(options: argparse.Namespace) -> None:
    from c2c.evaluation.latency import LatencyRun, measure_pair

    _evaluate(LatencyRun, measure_pair, options)


def _add_claims(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["list", "show"], help="all claims, or one claim or table")
    parser.add_argument("item", nargs="?", default="", help="id of a claim, or a table or figure: table4")
    parser.add_argument("--values", action="store_true", help="of a table or figure: list the paper's values, too")


def _claims(options: argparse.Namespace) -> None:
    values = ["--values"] if options.values else []
    _run_module("c2c claims", "paper.show", options.action, *filter(None, [options.item]), *values)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", default="paper", help="paper, laptop, smoke, … (default: %(default)s)")
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], help="config files instead of a scale")
    parser.add_argument("--device", default="", help="plan for a device of config/devices.csv (default: the paper's)")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that jobs share, for wall hours")
    parser.add_argument("--speed", type=Path, metavar="FILE", help="speed.json of python -m benchmarks.speed on a GPU")


def _plan(options: argparse.Namespace) -> None:
    files = ["--configfile", *map(str, options.configfile)] if options.configfile else []
    speed = ["--speed", str(options.speed)] if options.speed else []
    numbers = ["--device", options.device, "--gpus", str(options.gpus)]
    _run_module("c2c plan", "workflow.plan.report", "--scale", options.scale, *files, *numbers, *speed)


def _run_module(command: str, module: str, *arguments: str) -> None:
    """Run a program of the replication's repository, which the library does not import, in this process.

    Raises:
        RefusedError: If the current folder is not the root of that repository.
        SystemExit: With the program's exit code, unless it succeeded.
    """
    if not Path(*module.split(".")).with_suffix(".py").is_file():
        remedy = "Clone the repository, and run this in its root"
        raise RefusedError(f"{command} must run in the repository of the replication", str(Path.cwd()), remedy)
    # As `python -m module` would: the current folder comes first, and the program reads its own arguments.
    with _program_arguments(module, *arguments):
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise


@contextmanager
def _program_arguments(*arguments: str) -> Iterator[None]:
    """Inside, `sys.argv` is `arguments`, and modules are looked for in the current folder first."""
    argv, path = sys.argv, list(sys.path)
    sys.argv, sys.path[:] = list(arguments), [str(Path.cwd()), *path]
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path


COMMANDS = {
    "fetch": Command("fetch a model from a mirror or the hub and write its manifest", _add_fetch, _fetch),
    "tokenise": Command("align and tokenise a training set once for a pair", _add_tokenise, _tokenise),
    "store-states": Command("run the frozen models once over training sets", _add_store_states, _store_states),
    "train": Command("train the Fusers of one pair", _add_train, _train),
    "train-together": Command(
        "train several Fusers of one pair in one job, on the same batches", _add_train_together, _train_together
    ),
    "chat": Command("talk with a Receiver that reads along with a Sharer", _add_chat, _chat),
    "demo": Command("open a page on which a pair answers with and without messages", add_demo, run_demo),
    "generate": Command("answer benchmarks by methods, one record a question and method", _add_generate, _generate),
    "train-router": Command(
        "train the router of routing_trained from answered questions", _add_train_router, _train_router
    ),
    "score": Command("score records", _add_score, _score),
    "latency": Command("time methods one question at a time, split into phases", _add_latency, _latency),
    "analyse": Command(
        "what caches hold, and what they are worth: one analysis a kind",
        add_analyse,
    ),
    "testbed": Command("send messages through channels, with all controls", add_testbed, run_testbed),
    "claims": Command("the paper's claims and tables: its values, ours, verdicts, commands", _add_claims, _claims),
    "plan": Command("what a run of the replication would do and cost", _add_plan, _plan),
    **messages.COMMANDS,
    **methods.COMMANDS,
}
"""Each sub-command: its help, its flags, and what it runs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command; returns its exit code (`c2c.errors.exit_code`)."""
    options = build_parser().parse_args(arguments)
    options.arguments = list(sys.argv[1:] if arguments is None else arguments)
    return exit_code(f"c2c {options.name}", lambda: options.command(options))


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; importing what a sub-command needs is left until it is chosen."""
    parser = argparse.ArgumentParser(prog="c2c", description="Cache-to-Cache: one model reads another's KV-cache.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    add_commands(parser, "name", COMMANDS)
    return parser
