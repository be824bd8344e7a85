"""Commands about fusers: which are released, what a folder holds, another layout, and the hub."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from c2c.cli.flags import ContractFlags, OptionalText
from c2c.errors import RefusedError


@dataclass(frozen=True, kw_only=True)
class Fusers:
    """The fusers that the paper's authors released: models, revision, what they need, how to load them."""

    json: bool = False
    """print JSON"""

    def run(self) -> None:
        """Print a row for each."""
        from c2c.checkpoints import released_folder

        with Path(released_folder.__file__).with_name("released_fusers.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if self.json:
            print(json.dumps(rows, indent=1))
            return
        for row in rows:
            print(f"{row['receiver']} from {row['sharer']}: {row['description']}")
            print(f"    {row['hub_id']}, {row['subfolder']}, revision {row['revision'][:10]}")
            print(f"    answers in bfloat16 with about {row['memory_gb']} GB")
        print(
            "\nFetch one: c2c fetch-fuser --fuser HUB_ID --subfolder SUBFOLDER --revision REVISION --output fusers.json"
        )
        print("Talk with it: c2c chat --receiver RECEIVER --sharer SHARER --fuser fusers.json")


@dataclass(frozen=True, kw_only=True)
class FuserInspect:
    """What a folder of fusers is: layout, models, shapes, layers, gates, contract, and how they were trained."""

    fuser: Positional[str]
    """folder, manifest or hub id"""
    json: bool = False
    """print JSON"""

    def run(self) -> None:
        """Print the description."""
        from c2c.checkpoints.inspection import inspect_fusers

        about = inspect_fusers(self.fuser)
        print(json.dumps(about, indent=1) if self.json else "\n".join(as_lines(about)))


def as_lines(about: dict[str, Any], indent: str = "") -> Iterator[str]:
    """A description as lines of text; a list of equal entries is one line."""
    for name, value in about.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{name}"
            yield from as_lines(value, indent + "    ")
        elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            yield f"{indent}{name}"
            for text, number in Counter(map(json.dumps, value)).items():
                yield f"{indent}    {number} × {text}"
        else:
            yield f"{indent}{name:20} {value}"


@dataclass(frozen=True, kw_only=True)
class FuserConvert(ContractFlags):
    """Convert fusers from the released layout to a checkpoint of this package, or the other way round.

    A checkpoint holds the contract of both models, so these must be named: --receiver and --sharer.
    """

    fuser: Positional[str]
    """folder, manifest or hub id of the fusers"""
    output: Positional[Path]
    """folder of the converted fusers"""
    to: Literal["checkpoint", "released"] = "checkpoint"
    """layout of the output"""
    receiver: OptionalText = None
    """Receiver, for a checkpoint: folder, model manifest or hub id"""
    sharer: OptionalText = None
    """Sharer, for a checkpoint: folder, model manifest or hub id"""

    def run(self) -> None:
        """Write the other layout."""
        from c2c.checkpoints.released_folder import is_released
        from c2c.models import hub

        released = is_released(self.fuser) or is_released(hub.resolve(self.fuser))
        if released == (self.to == "released"):
            other = "checkpoint" if released else "released"
            raise RefusedError("--to must name another layout than that of the fusers", self.to, f"Pass --to {other}")
        if not released:
            from c2c.checkpoints.released_writing import write_released

            write_released(self.fuser, self.output)
            return
        if self.receiver is None or self.sharer is None:
            rule = "A checkpoint must have the contract of both models"
            raise RefusedError(rule, "no --receiver or no --sharer", "Name the models that the fusers were trained for")
        from c2c.checkpoints.checkpoint import save_pretrained
        from c2c.checkpoints.pair_fusers import load_pair_fusers
        from c2c.models.pair import load_pair

        pair = load_pair(self.receiver, self.sharer)
        fusers = load_pair_fusers(pair, self.fuser, self.accept_difference)
        tokenizers = [pair.receiver.tokenizer, pair.sharer.tokenizer]
        about = {"recipe": "released", "alignment": fusers.alignment}
        save_pretrained(fusers.components, self.output, tokenizers=tokenizers, about=about)


@dataclass(frozen=True, kw_only=True)
class FuserPush:
    """Publish a checkpoint on the hub, with a model card that says what it is and how to load it."""

    folder: Positional[Path]
    """folder of c2c train"""
    repository: Annotated[str, arg(name="to", metavar="OWNER/NAME")]
    """repository on the hub; made if it does not exist"""
    private: bool = False
    """make the repository private, where it is made"""
    revision: OptionalText = None
    """branch, made if it does not exist; the main one by default"""
    license: str = "apache-2.0"
    """of the fusers, as the hub names it"""
    card: bool = False
    """print the card, and push nothing"""

    def run(self) -> None:
        """Push, and print the address."""
        import tempfile

        from c2c.checkpoints.push import CARD, push_folder, stage

        if self.card:
            with tempfile.TemporaryDirectory() as staged:
                stage(self.folder, Path(staged), self.repository, self.license)
                print((Path(staged) / CARD).read_text(encoding="utf-8"))
            return
        options: dict[str, Any] = {"private": self.private, "revision": self.revision, "license": self.license}
        print(push_folder(self.folder, self.repository, **options))
