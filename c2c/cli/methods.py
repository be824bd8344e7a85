"""Sub-commands of `c2c` beyond one trained pair: released Fusers, a latent space, a fine-tuned Receiver."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from c2c.cli.flags import add_pair, add_training, trained
from c2c.provenance import stamp
from c2c.storage.files import write_atomically
from c2c.storage.manifests import check_manifest_place


def _add_fetch_fuser(commands: Any) -> None:
    parser = commands.add_parser("fetch-fuser", help="fetch published fusers and write their manifest")
    parser.add_argument("--fuser", required=True, help="hub id, owner/name")
    parser.add_argument("--subfolder", default="", help="folder of one pair inside it")
    parser.add_argument("--revision", default=None, help="commit, tag or branch")
    parser.add_argument("--output", type=Path, required=True, help="manifest of the fusers (.json)")
    parser.set_defaults(command=_fetch_fuser)


def _fetch_fuser(options: argparse.Namespace) -> None:
    from c2c.checkpoints.released_manifest import describe

    settings = {name: getattr(options, name) for name in ("fuser", "subfolder", "revision")}
    check_manifest_place(options.output)
    with stamp(options.output, settings=settings) as notes:
        manifest = describe(options.fuser, options.subfolder, options.revision)
        write_atomically(options.output, json.dumps(manifest, indent=1) + "\n")
        notes["fuser"] = manifest


def _add_train_single(commands: Any) -> None:
    parser = commands.add_parser("train-single", help="fine-tune the Receiver itself on a Fuser's training set")
    add_pair(parser)
    told = "training and validation set as c2c tokenise wrote them (.parquet)"
    parser.add_argument("--tokenised", type=Path, nargs=2, required=True, metavar=("TRAIN", "VALIDATION"), help=told)
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder for resumable states")
    parser.add_argument("--output", type=Path, required=True, help="manifest of the trained model (.json)")
    add_training(parser, dtype="what the Receiver computes in: float32, bfloat16")
    parser.set_defaults(command=_train_single)


def _train_single(options: argparse.Namespace) -> None:
    from c2c.models.hub import about
    from c2c.training.run import train
    from c2c.training.single import SingleRun

    run = trained(SingleRun, options)
    with stamp(run.output, inputs=run.files(), settings=run.config.to_dict()) as notes:
        notes["training"] = train(run)
        notes["models"] = {"receiver": about(run.receiver), "sharer": about(run.sharer)}


def _add_train_latent(commands: Any) -> None:
    told = "train encoders and decoders of a latent space that several models share (Table 14)"
    parser = commands.add_parser("train-latent", help=told)
    each = "of each pair, in the same order"
    parser.add_argument("--pairs", nargs="+", required=True, help="ids of the ordered pairs")
    parser.add_argument("--receivers", nargs="+", required=True, help=f"Receiver {each}: folder, manifest or hub id")
    parser.add_argument("--sharers", nargs="+", required=True, help=f"Sharer {each}")
    for part in ("train", "validation"):
        parser.add_argument(f"--{part}", nargs="+", type=Path, required=True, help=f"{part} set {each} (.parquet)")
    for size, word in (("layers", "layers"), ("heads", "heads"), ("head-dim", "numbers of a head")):
        parser.add_argument(f"--latent-{size}", type=int, required=True, help=f"{word} of the latent cache")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder for resumable states")
    parser.add_argument("--output", type=Path, required=True, help="folder of the trained pairs")
    parser.add_argument("--processes", type=int, default=1, help="processes that train together, a GPU each")
    add_training(parser)
    parser.set_defaults(command=_train_latent)


def _train_latent(options: argparse.Namespace) -> None:
    from c2c.models.hub import about
    from c2c.training import launch
    from c2c.training.latent import LatentRun
    from c2c.training.run import train

    run = trained(LatentRun, options)
    if not launch.launch_or_join(options.processes, run.config, options.given):
        return
    if not launch.is_first():
        train(run)
        return
    with stamp(run.output, inputs=run.files(), settings=run.settings()) as notes:
        notes["training"] = train(run)
        notes["models"] = [about(each) for each in dict.fromkeys([*run.receivers, *run.sharers])]


BUILDERS = (_add_fetch_fuser, _add_train_single, _add_train_latent)
