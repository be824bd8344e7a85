"""The command `c2c`: thin sub-commands that parse, call the library and write files with their provenance."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from c2c.cli.analyses import add_analyse
from c2c.cli.flags import (
    add_accepted,
    add_asked,
    add_budget,
    add_dtype,
    add_failed_share,
    add_fusers,
    add_models,
    add_pair,
    add_prompts,
    add_training,
    asked,
    trained,
)
from c2c.cli.methods import BUILDERS
from c2c.errors import RefusedError, exit_code
from c2c.provenance import stamp
from c2c.storage.files import write_atomically
from c2c.storage.manifests import check_manifest_place


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command; returns its exit code (`c2c.errors.exit_code`)."""
    options = _parser().parse_args(arguments)
    options.given = list(sys.argv[1:] if arguments is None else arguments)
    return exit_code(f"c2c {options.name}", lambda: options.command(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="c2c", description="Cache-to-Cache: one model reads another's KV-cache.")
    commands = parser.add_subparsers(dest="name", required=True)
    builders = (
        _add_fetch,
        _add_tokenise,
        _add_train,
        _add_chat,
        _add_generate,
        _add_train_router,
        _add_score,
        _add_latency,
        add_analyse,
        _add_claims,
        _add_plan,
        *BUILDERS,
    )
    for build in builders:
        build(commands)
    return parser


def _add_fetch(commands: Any) -> None:
    parser = commands.add_parser("fetch", help="fetch a model from a mirror or the hub and write its manifest")
    parser.add_argument("--model", required=True, help="hub id, owner/name")
    parser.add_argument("--revision", default=None, help="commit, tag or branch")
    parser.add_argument("--output", type=Path, required=True, help="model manifest (.json)")
    parser.set_defaults(command=_fetch)


def _fetch(options: argparse.Namespace) -> None:
    from c2c.models import hub

    check_manifest_place(options.output)
    with stamp(options.output, settings={"model": options.model, "revision": options.revision}) as notes:
        manifest = hub.describe(options.model, options.revision)
        write_atomically(options.output, json.dumps(manifest, indent=1) + "\n")
        notes["model"] = manifest


LINES = "training set (JSON lines: id, prompt and response, or messages; optionally private and opening)"


def _add_tokenise(commands: Any) -> None:
    from c2c.types import PROMPTS, TOKEN_ALIGNMENTS

    parser = commands.add_parser("tokenise", help="align and tokenise a training set once for a pair")
    add_pair(parser)
    parser.add_argument("--alignment", default="span", help="token alignment: " + ", ".join(TOKEN_ALIGNMENTS))
    parser.add_argument("--prompts", choices=PROMPTS, default="plain", help="plain text, or each model's own template")
    parser.add_argument("--max-length", type=int, default=2048, help="longest example in Receiver tokens")
    parser.add_argument("--data", type=Path, required=True, help=LINES)
    parser.add_argument("--output", type=Path, required=True, help="tokenised set (.parquet)")
    parser.set_defaults(command=_tokenise)


def _tokenise(options: argparse.Namespace) -> None:
    from c2c.training.tokenise import TokeniseRun, tokenise_file

    run = TokeniseRun(**{field.name: getattr(options, field.name) for field in fields(TokeniseRun)})
    models = [path for path in map(Path, (run.receiver, run.sharer)) if path.exists()]
    with stamp(run.output, inputs=[*models, run.data], settings=run.settings()) as notes:
        notes["tokenised"] = done = tokenise_file(run)
        notes["models"] = _revisions(run)
    for reason, number in done["left_out"].items():
        print(f"c2c tokenise: {number} of {done['lines']} lines are left out: {reason}", file=sys.stderr)


def _add_train(commands: Any) -> None:
    parser = commands.add_parser("train", help="train the Fusers of one pair")
    add_pair(parser)
    parser.add_argument("--recipe", default="c2c", help="name of the recipe, noted in the checkpoint")
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
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder for resumable states")
    parser.add_argument("--output", type=Path, required=True, help="folder of the trained Fusers")
    parser.add_argument("--kept", type=Path, help="folder of the Fusers of --keep-steps (default: OUTPUT.steps)")
    parser.add_argument("--processes", type=int, default=1, help="processes that train together, a GPU each")
    add_training(parser)
    parser.set_defaults(command=_train)


def _train(options: argparse.Namespace) -> None:
    from c2c.training import launch
    from c2c.training.fusers import TrainingRun
    from c2c.training.run import train

    run = trained(TrainingRun, options)
    if not launch.launch_or_join(options.processes, run.config, options.given):
        return
    if not launch.is_first():
        train(run)
        return
    with stamp(run.output, inputs=run.files(), settings=run.settings()) as notes:
        notes["training"] = train(run)
        notes["models"] = _revisions(run)


def _revisions(run: Any) -> dict[str, Any]:
    """Id, revision and hash of the models of a run, as provenance states them."""
    from c2c.models.hub import about

    return {role: about(getattr(run, role)) for role in ("receiver", "sharer")}


def _add_chat(commands: Any) -> None:
    parser = commands.add_parser("chat", help="talk with a Receiver that reads along with a Sharer")
    add_pair(parser)
    parser.add_argument("--fuser", required=True, help="Fusers of the pair: folder or hub id")
    parser.add_argument("--message", default=None, help="answer this alone; else each line of the standard input")
    parser.add_argument("--alignment", default=None, help="token alignment; that of the Fusers' training by default")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="longest answer, in tokens")
    add_dtype(parser)
    parser.add_argument("--device", default=None, help="where the models run, such as cuda")
    add_accepted(parser)
    parser.set_defaults(command=_chat)


def _chat(options: argparse.Namespace) -> None:
    from transformers import TextStreamer

    from c2c.chat_pipeline import converse, lines_of, pipeline

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
    shown = {"max_new_tokens": options.max_new_tokens, "streamer": streamer}
    # A person at a terminal sees when a line is waited for; a program's output stays as it is.
    prompt = "> " if sys.stdin.isatty() else ""
    lines = lines_of(sys.stdin, ready=lambda: print(prompt, end="", file=sys.stderr, flush=True))
    converse(pipe, lines, say=lambda text: print(f"c2c chat: {text}", file=sys.stderr), **shown)


def _add_generate(commands: Any) -> None:
    from c2c.evaluation.methods.declarations import METHODS

    parser = commands.add_parser("generate", help="answer benchmarks by methods, one record a question and method")
    add_models(parser, several=True)
    add_asked(parser, METHODS)
    add_fusers(parser, several=True)
    add_budget(parser)
    parser.add_argument("--router", default="", help="folder of a trained router, for routing_trained")
    parser.add_argument("--limit", type=int, default=0, help="only the first questions of each benchmark; 0 for all")
    parser.set_defaults(command=_generate)


def _generate(options: argparse.Namespace) -> None:
    from c2c.evaluation.generate import GenerationRun, generate

    _evaluate(GenerationRun, generate, options)


def _evaluate(kind: Any, answer: Callable[[Any, dict[str, Any]], Any], options: argparse.Namespace) -> None:
    """Build an `c2c.evaluation.run.EvaluationRun` from flags, and write its records with their provenance."""
    from c2c.models.hub import about

    run, settings = asked(kind, options)
    with stamp(run.output, inputs=run.files(), settings=settings, sources=[run.tasks]) as notes:
        answer(run, notes)
        notes["models"] = {role: about(place) for role, place in run.models.items()}


def _add_train_router(commands: Any) -> None:
    parser = commands.add_parser("train-router", help="train the router of routing_trained from answered questions")
    parser.add_argument("--receiver", required=True, help="Receiver: folder, model manifest or hub id")
    parser.add_argument("--records", type=Path, required=True, help="answers of receiver and sharer (.parquet)")
    parser.add_argument("--tasks", type=Path, required=True, help="folder of task files")
    parser.add_argument("--benchmarks", nargs="+", required=True, metavar="ID=FILE", help="the questions answered")
    parser.add_argument("--output", type=Path, required=True, help="folder of the router")
    parser.add_argument("--seed", type=int, default=0, help="of the router's training")
    add_prompts(parser)
    add_dtype(parser)
    add_budget(parser)
    parser.set_defaults(command=_train_router)


def _train_router(options: argparse.Namespace) -> None:
    from c2c.evaluation.methods.routing import RouterTrainingRun, train_router
    from c2c.models.hub import about

    run, settings = asked(RouterTrainingRun, options)
    inputs = [run.records, *run.benchmarks.values(), *([Path(run.receiver)] if Path(run.receiver).exists() else [])]
    with stamp(run.output, inputs=inputs, settings=settings, sources=[run.tasks]) as notes:
        notes["router"] = train_router(run)
        notes["models"] = {"receiver": about(run.receiver)}


def _add_score(commands: Any) -> None:
    from c2c.evaluation.protocol import CORRECTED, PROTOCOLS

    parser = commands.add_parser("score", help="score records")
    parser.add_argument("--records", type=Path, nargs="+", required=True, help="records (.parquet)")
    parser.add_argument("--output", type=Path, required=True, help="scores (.csv)")
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default=CORRECTED, help="paper: with the quirks of the reference evaluation"
    )
    add_failed_share(parser)
    parser.set_defaults(command=_score)


def _score(options: argparse.Namespace) -> None:
    from c2c.evaluation.scoring import score_files

    score_files(options.records, options.output, options.protocol, options.failed_share)


def _add_latency(commands: Any) -> None:
    from c2c.evaluation.methods.declarations import TIMED_METHODS

    parser = commands.add_parser("latency", help="time methods one question at a time, split into phases")
    add_models(parser)
    add_asked(parser, TIMED_METHODS)
    add_fusers(parser)
    parser.add_argument("--questions", type=int, default=32, help="first questions of each benchmark")
    parser.add_argument("--repeats", type=int, default=3, help="times that each question is asked")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0 leaves it to torch")
    parser.set_defaults(command=_latency)


def _latency(options: argparse.Namespace) -> None:
    from c2c.evaluation.latency import LatencyRun, measure_pair

    _evaluate(LatencyRun, measure_pair, options)


def _add_claims(commands: Any) -> None:
    parser = commands.add_parser("claims", help="the paper's claims and tables: its values, ours, verdicts, commands")
    parser.add_argument("action", choices=["list", "show"], help="all claims, or one claim or table")
    parser.add_argument("item", nargs="?", default="", help="id of a claim, or a table or figure: table4")
    parser.set_defaults(command=_claims)


def _claims(options: argparse.Namespace) -> None:
    _of_the_repository("c2c claims", "paper.show", options.action, *filter(None, [options.item]))


def _add_plan(commands: Any) -> None:
    parser = commands.add_parser("plan", help="what a run of the replication would do and cost")
    parser.add_argument("--scale", default="paper", help="paper, laptop, smoke, … (default: %(default)s)")
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], help="config files instead of a scale")
    parser.set_defaults(command=_plan)


def _plan(options: argparse.Namespace) -> None:
    files = ["--configfile", *map(str, options.configfile)] if options.configfile else []
    _of_the_repository("c2c plan", "workflow.plan.report", "--scale", options.scale, *files)


def _of_the_repository(what: str, module: str, *arguments: str) -> None:
    """Run a program of the replication's repository, which the library knows nothing of."""
    if not Path(*module.split(".")).with_suffix(".py").is_file():
        remedy = "Clone the repository, and run this in its root"
        raise RefusedError(f"{what} must run in the repository of the replication", str(Path.cwd()), remedy)
    if code := subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode:
        sys.exit(code)
