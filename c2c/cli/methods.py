"""Sub-commands of `c2c` beyond one trained pair: released Fusers, a latent space, a fine-tuned Receiver."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from c2c.cli.commands import Command
from c2c.cli.flags import add_pair, add_training, train_in_processes, training_from_flags
from c2c.provenance import stamp
from c2c.storage.files import write_atomically
from c2c.storage.manifests import check_manifest_place


def _add_fetch_fuser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fuser", required=True, help="hub id, owner/name")
    parser.add_argument("--subfolder", default="", help="folder of one pair inside it")
    parser.add_argument("--revision", default=None, help="commit, tag or branch")
    parser.add_argument("--output", type=Path, required=True, help="manifest of the fusers (.json)")


def _fetch_fuser(options: argparse.Namespace) -> None:
    from c2c.checkpoints.released_folder import describe_released

    settings = {name: getattr(options, name) for name in ("fuser", "subfolder", "revision")}
    check_manifest_place(options.output)
    with stamp(options.output, settings=settings) as notes:
        manifest = describe_released(options.fuser, options.subfolder, options.revision)
        write_atomically(options.output, json.dumps(manifest, indent=1) + "\n")
        notes["fuser"] = manifest


def _add_train_single(parser: argparse.ArgumentParser) -> None:
    add_pair(parser)
    text = "training and validation set as c2c tokenise wrote them (.parquet)"
    parser.add_argument("--tokenised", type=Path, nargs=2, required=True, metavar=("TRAIN", "VALIDATION"), help=text)
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder for resumable states")
    parser.add_argument("--output", type=Path, required=True, help="manifest of the trained model (.json)")
    add_training(parser, dtype="what the Receiver computes in: float32, bfloat16")


def _train_single(options: argparse.Namespace) -> None:
    from c2c.models.hub import about
    from c2c.training.run import train
    from c2c.training.single import SingleRun

    run = training_from_flags(SingleRun, options)
    with stamp(run.output, inputs=run.files(), settings=run.config.to_dict()) as notes:
        notes["training"] = train(run)
        notes["models"] = {"receiver": about(run.receiver), "sharer": about(run.sharer)}


def _add_train_latent(parser: argparse.ArgumentParser) -> None:
    order = "of each pair, in the same order"
    parser.add_argument("--pairs", nargs="+", required=True, help="ids of the ordered pairs")
    parser.add_argument("--receivers", nargs="+", required=True, help=f"Receiver {order}: folder, manifest or hub id")
    parser.add_argument("--sharers", nargs="+", required=True, help=f"Sharer {order}")
    for part in ("train", "validation"):
        parser.add_argument(f"--{part}", nargs="+", type=Path, required=True, help=f"{part} set {order} (.parquet)")
    for size, word in (("layers", "layers"), ("heads", "heads"), ("head-dim", "numbers of a head")):
        parser.add_argument(f"--latent-{size}", type=int, required=True, help=f"{word} of the latent cache")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder for resumable states")
    parser.add_argument("--output", type=Path, required=True, help="folder of the trained pairs")
    parser.add_argument("--processes", type=int, default=1, help="processes that train together, a GPU each")
    add_training(parser)


def _train_latent(options: argparse.Namespace) -> None:
    from c2c.models.hub import about
    from c2c.training.latent import LatentRun

    run = training_from_flags(LatentRun, options)
    models = dict.fromkeys([*run.receivers, *run.sharers])
    train_in_processes(run, options, lambda: [about(model) for model in models])


COMMANDS = {
    "fetch-fuser": Command("fetch released fusers and write their manifest", _add_fetch_fuser, _fetch_fuser),
    "train-single": Command(
        "fine-tune the Receiver itself on a Fuser's training set", _add_train_single, _train_single
    ),
    "train-latent": Command(
        "train encoders and decoders of a latent space that several models share (Table 14)",
        _add_train_latent,
        _train_latent,
    ),
}
"""Sub-commands beyond one trained pair."""
