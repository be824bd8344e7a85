"""Sub-commands of `c2c` for what the paper does beyond one trained pair: several Sharers at once, and the like."""

from __future__ import annotations

import argparse
from typing import Any

from c2c.cli import add_asked, add_budget, asked
from c2c.provenance import stamp


def _add_generate_group(commands: Any) -> None:
    from c2c.evaluation.schema import GROUP_METHODS
    from c2c.types import FUSIONS

    told = "answer benchmarks with several Sharers at once, whose Fusers were trained alone"
    parser = commands.add_parser("generate-group", help=told)
    parser.add_argument("--receiver", required=True, help="Receiver: folder, model manifest or hub id")
    parser.add_argument("--sharers", nargs="+", required=True, help="each Sharer: folder, model manifest or hub id")
    parser.add_argument("--fusers", nargs="+", required=True, help="folder of each Sharer's Fusers, in the same order")
    parser.add_argument("--fusion", choices=FUSIONS, default="sequential", help="one after the other, or added up")
    parser.add_argument("--alignment", required=True, help="token alignment of the Fusers")
    parser.add_argument("--seed", type=int, required=True, help="training seed of the Fusers")
    add_asked(parser, GROUP_METHODS)
    add_budget(parser)
    parser.add_argument("--limit", type=int, default=0, help="only the first questions of each benchmark; 0 for all")
    parser.set_defaults(command=_generate_group)


def _generate_group(options: argparse.Namespace) -> None:
    from c2c.evaluation.group_run import GroupRun, generate_group
    from c2c.hub import identify

    run, settings = asked(GroupRun, options)
    with stamp(run.output, inputs=run.files(), settings=settings) as notes:
        records = generate_group(run, notes)
        notes["models"] = [identify(each)._asdict() for each in (run.receiver, *run.sharers)]
        notes["records"] = {"rows": len(records), "failed": int(records["error"].fillna("").ne("").sum())}


BUILDERS = (_add_generate_group,)
