"""The parts of a RosettaModel: what loading finds, and what saving takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from c2c.fuser.stack import FuserStack
from c2c.models.contract import Contract, ContractCheck


@dataclass(frozen=True, kw_only=True)
class Components:
    """Models, Fusers and settings of one RosettaModel; `c2c.rosetta.RosettaModel.of_components` builds it.

    Args:
        receiver: A causal model.
        sharers: Causal models, or the configs of those that run elsewhere.
        stacks: The Fusers of each Sharer.
        fusion: ``sequential`` or ``parallel``.
        include_response: Whether the response is fused too.
        contracts: For each Sharer, the models that its Fusers were trained for; empty if nothing was loaded.
        override: Lines of the contracts that may differ, by name.
        contract_check: Differences from the contracts that were accepted or noted; None if there is no contract.
        about: For each Sharer, what its checkpoint records about recipe, alignment, training settings and seed.
        released_settings: For each Sharer with released fusers, the settings of their recipe.
    """

    receiver: Any
    sharers: Sequence[Any]
    stacks: Sequence[FuserStack]
    fusion: str = "sequential"
    include_response: bool = False
    contracts: Sequence[Contract] = ()
    override: Sequence[str] = ()
    contract_check: ContractCheck | None = None
    about: Sequence[Mapping[str, Any]] = ()
    released_settings: Sequence[dict[str, Any]] = ()
