"""The methods of design §4 as models that lm-eval knows: `receiver`, `sharer`, `t2t`, `routing`, `c2c` and controls.

Importing this module registers them, so that ``lm_eval.simple_evaluate(model="c2c", model_args={...})`` works.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from lm_eval.api.registry import register_model

from c2c.alignment.chat import ChatAligner
from c2c.checkpoint import assemble
from c2c.evaluation.fused import Fused
from c2c.evaluation.method import Method
from c2c.evaluation.published import published_reader
from c2c.evaluation.reading import Alone
from c2c.evaluation.router import Router
from c2c.evaluation.routing import Routing, TrainedRouting
from c2c.evaluation.sharer_memory import SharerMemory
from c2c.evaluation.text_to_text import TextToText
from c2c.pair import LoadedModel, Pair, load_model, load_pair
from c2c.published import is_published

__all__ = ["C2C", "FUSED_METHODS", "T2T", "C2CDeranged", "C2CZeroed", "Method", "OneModel", "Routing", "TrainedRouting"]


def fused_reader(
    pair: Pair, fuser: str, sharer_reads: str, accept: Sequence[str] = (), memory: SharerMemory | None = None
) -> Fused:
    """The reader of a trained fuser; one that was trained on zeroed caches gets zeroed ones.

    Args:
        pair: The models.
        fuser: Folder of the fuser, or published ones: their folder, or the manifest of ``c2c fetch-fuser``.
        sharer_reads: As in `Fused`.
        accept: Lines of the fuser's contract that may differ, by name.
        memory: See `Fused`.

    Raises:
        RefusedError: If the pair is not the one that the fuser was trained for.
    """
    if is_published(fuser):
        return published_reader(pair, fuser, sharer_reads, accept, memory)
    described = [(loaded.model, loaded.description) for loaded in (pair.receiver, pair.sharer)]
    model, (about,) = assemble([Path(fuser)], described, override=accept)
    if about.get("sharer_cache") == "zeroed":
        sharer_reads = "zeroed"
    aligner = ChatAligner(pair.receiver.tokenizer, pair.sharer.tokenizer, about.get("alignment", "span"))
    return Fused(pair, model, aligner, sharer_reads, memory=memory)


@register_model("receiver", "sharer")
class OneModel(Method):
    """One model alone. lm-eval's ``model_args``: ``model`` (a folder, manifest or hub id)."""

    def __init__(self, model: str | LoadedModel, name: str = "receiver", **options: Any) -> None:
        loaded = load_model(model) if isinstance(model, str) else model
        super().__init__(name, Alone(loaded, private=name == "sharer"), **_known(options))


@register_model("t2t")
class T2T(TextToText):
    """Text to text. ``model_args``: ``receiver``, ``sharer``."""

    def __init__(self, receiver: str | Pair, sharer: str = "", **options: Any) -> None:
        super().__init__(_pair(receiver, sharer), **_known(options))


class _FusedMethod(Method):
    """A method of a fuser."""

    method: ClassVar[str]
    sharer_reads: ClassVar[str]

    def __init__(
        self,
        receiver: str | Pair,
        sharer: str = "",
        fuser: str = "",
        accept: Sequence[str] = (),
        memory: SharerMemory | None = None,
        **options: Any,
    ) -> None:
        reader = fused_reader(_pair(receiver, sharer), fuser, self.sharer_reads, accept, memory)
        super().__init__(self.method, reader, **_known(options))


@register_model("c2c")
class C2C(_FusedMethod):
    """Fused prefix. ``model_args``: ``receiver``, ``sharer``, ``fuser``."""

    method, sharer_reads = "c2c", "matched"


@register_model("c2c_deranged")
class C2CDeranged(_FusedMethod):
    """The Sharer reads another question. ``model_args`` as for `c2c`."""

    method, sharer_reads = "c2c_deranged", "deranged"


@register_model("c2c_zeroed")
class C2CZeroed(_FusedMethod):
    """The Sharer's cache is zeros. ``model_args`` as for `c2c`."""

    method, sharer_reads = "c2c_zeroed", "zeroed"


@register_model("routing")
class RoutingModel(Routing):
    """Confidence router. ``model_args``: ``receiver``, ``sharer``."""

    def __init__(self, receiver: str | Method, sharer: str | Method, **options: Any) -> None:
        super().__init__(*_both(receiver, sharer, options))


@register_model("routing_trained")
class TrainedRoutingModel(TrainedRouting):
    """Trained router. ``model_args``: ``receiver``, ``sharer``, ``router`` (folder of `c2c train-router`)."""

    def __init__(self, receiver: str | Method, sharer: str | Method, router: str | Path, **options: Any) -> None:
        super().__init__(*_both(receiver, sharer, options), Router.load(Path(router)))


def _both(receiver: str | Method, sharer: str | Method, options: dict[str, Any]) -> tuple[Method, Method]:
    first, second = (
        each if isinstance(each, Method) else OneModel(each, name, **_known(options))
        for each, name in ((receiver, "receiver"), (sharer, "sharer"))
    )
    return first, second


FUSED_METHODS = {"c2c": C2C, "c2c_deranged": C2CDeranged, "c2c_zeroed": C2CZeroed}


def _pair(receiver: str | Pair, sharer: str) -> Pair:
    return load_pair(receiver, sharer) if isinstance(receiver, str) else receiver


def _known(options: dict[str, Any]) -> dict[str, Any]:
    """lm-eval hands every model a device and batch sizes; only these are ours."""
    return {name: value for name, value in options.items() if name in ("token_budget", "store") and value is not None}
