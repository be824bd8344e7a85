"""The command ``c2c demo``: the live page of a pair, or its answers as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from c2c.cli.flags import add_accepted, add_dtype
from c2c.demo.request import CONTROLS
from c2c.errors import RefusedError

DEFAULT_RESULTS = Path("results/smoke")


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--receiver", default=None, help="Receiver: folder, model manifest or hub id")
    parser.add_argument("--sharer", default=None, help="Sharer: folder, model manifest or hub id")
    parser.add_argument("--fuser", default=None, help="Fusers of the pair: folder or hub id")
    parser.add_argument("--results", type=Path, help=f"finished run with a pair (without a pair: {DEFAULT_RESULTS})")
    parser.add_argument("--pair", default=None, help="pair of --results; its first one by default")
    parser.add_argument("--questions", type=Path, help="example questions (JSON lines: id, question; answer, private)")
    parser.add_argument("--tasks", type=Path, help="folder of task files; that of --questions is <its name>.yaml")
    parser.add_argument("--prompts", choices=["plain", "chat"], help="chat where both models have chat templates")
    parser.add_argument("--alignment", default=None, help="token alignment; that of the Fusers' training by default")
    # What is asked first
    parser.add_argument("--question", default=None, help="ask this at once")
    parser.add_argument("--private", default="", help="what the Sharer alone reads")
    parser.add_argument("--donor", default="", help="question that the wrong message is about; an example by default")
    parser.add_argument("--donor-private", default="", help="what the Sharer reads before --donor")
    parser.add_argument("--max-new-tokens", type=int, help="longest answer, in tokens")
    parser.add_argument("--closed-layers", type=int, nargs="+", default=[], help="Receiver layers that are not fused")
    parser.add_argument("--controls", nargs="+", choices=CONTROLS, default=[], help="more messages")
    parser.add_argument("--json", action="store_true", help="print the answers to --question, and serve no page")
    # Where
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; the page has no log-in")
    parser.add_argument("--port", type=int, help="the first free one from 7860 on by default")
    parser.add_argument("--device", default=None, help="where the models run, such as cuda")
    add_dtype(parser)
    add_accepted(parser)


def run_demo(options: argparse.Namespace) -> None:
    """Load the pair and serve the page until Ctrl-C, or print the answers."""
    from c2c.demo.start import DemoRun, start

    if options.json and not options.question:
        raise RefusedError("--json must have a question", "none", "Pass --question")
    if options.results is None and options.receiver is None and DEFAULT_RESULTS.is_dir():
        options.results = DEFAULT_RESULTS
    run = DemoRun(**{name: getattr(options, name) for name in DemoRun.__dataclass_fields__})
    if options.json:
        session = run.page_session
        request = run.request(session.questions.max_new_tokens)
        assert request is not None
        for answer in session.answers(request):
            print(json.dumps(answer.as_dict(), ensure_ascii=False), flush=True)
        return
    start(run, options.host, options.port)
