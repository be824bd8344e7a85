"""The methods, one declaration each: what a method needs, who builds it, and what its records hold. Imports no torch.

A new method is a module with a builder, and a row here. The command line, the checks of a run, the columns of records,
lm-eval's models and the workflow read this table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from c2c.errors import RefusedError, check_choice

MOST_SHARERS = 4
"""Most Sharers that answer together."""
SHARER_CACHES = ("matched", "deranged", "same_answer", "zeroed")
PAIR_OPTIONS = ("receiver", "sharer")
FUSER_OPTIONS = (*PAIR_OPTIONS, "fuser", "accept", "max_length")


@dataclass(frozen=True)
class Declaration:
    """A method.

    Args:
        name: Id in records, configs and on the command line.
        builder: ``module:function`` below `c2c.evaluation.methods`; the function takes the name and a
            `c2c.evaluation.methods.inputs.MethodInputs`, and returns a `c2c.evaluation.methods.method.Method`.
        sharer_cache: What the Fusers of every Sharer read: the cache of this question (``matched``), of one with
            another answer (``deranged``), of another one with the same answer (``same_answer``) or zeros (``zeroed``);
            empty for a method without Fusers.
        zeroed_sharer: Number of the one Sharer, from 1, whose cache is zeros; 0 for none.
        pair: Whether it answers with one Sharer.
        group: Whether it answers with several Sharers.
        router: Whether it needs a trained router.
        agents: Whether it needs the prompts of two agents, an interpreter and a solver, in the task.
        timed: Whether ``c2c latency`` can time it.
        confidence: Whether its records hold a confidence.
        options: What lm-eval's ``model_args`` of it may name in addition to the common options; None if lm-eval does
            not offer the method.
    """

    name: str
    builder: str
    sharer_cache: str = ""
    zeroed_sharer: int = 0
    pair: bool = True
    group: bool = False
    router: bool = False
    agents: bool = False
    timed: bool = False
    confidence: bool = False
    options: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.sharer_cache:
            check_choice("The sharer_cache of a method", self.sharer_cache, SHARER_CACHES)

    @property
    def fusers(self) -> bool:
        """Whether it needs trained Fusers."""
        return bool(self.sharer_cache)

    def sharer_caches(self, sharers: int) -> list[str]:
        """What the Fusers of each Sharer read; see `sharer_cache`."""
        return ["zeroed" if number == self.zeroed_sharer else self.sharer_cache for number in range(1, sharers + 1)]


SINGLE = ("model", "max_length")
FUSED = "fused:build"


def by_name(*rows: Declaration) -> dict[str, Declaration]:
    """Declarations by their names.

    Raises:
        RefusedError: Two have the same name.
    """
    declarations: dict[str, Declaration] = {}
    for row in rows:
        if row.name in declarations:
            raise RefusedError("A method must be declared once", row.name, "Give one of the two another name")
        declarations[row.name] = row
    return declarations


DECLARATIONS = by_name(
    Declaration("receiver", "single:build", timed=True, options=SINGLE),
    Declaration("sharer", "single:build", timed=True, options=SINGLE),
    Declaration("t2t", "text_to_text:build", timed=True, options=(*PAIR_OPTIONS, "wording")),
    Declaration("routing", "routing:build_by_confidence", confidence=True, options=PAIR_OPTIONS),
    Declaration(
        "routing_trained",
        "routing:build_by_router",
        router=True,
        confidence=True,
        options=(*PAIR_OPTIONS, "router"),
    ),
    Declaration("c2c", FUSED, "matched", group=True, timed=True, options=FUSER_OPTIONS),
    Declaration("c2c_deranged", FUSED, "deranged", group=True, options=FUSER_OPTIONS),
    Declaration("c2c_same_answer", FUSED, "same_answer", options=FUSER_OPTIONS),
    Declaration("c2c_zeroed", FUSED, "zeroed", group=True, options=FUSER_OPTIONS),
    Declaration("t2t_agents", "agents:build", agents=True),
    Declaration("t_c2c", "agents:build", "matched", agents=True),
    Declaration("t_c2c_deranged", "agents:build", "deranged", agents=True),
    *(
        Declaration(f"c2c_zeroed_{number}", FUSED, "matched", number, pair=False, group=True)
        for number in range(1, MOST_SHARERS + 1)
    ),
)

METHODS = tuple(DECLARATIONS)
PAIR_METHODS = tuple(row.name for row in DECLARATIONS.values() if row.pair)
"""Methods of one Receiver and one Sharer."""
GROUP_METHODS = tuple(row.name for row in DECLARATIONS.values() if row.group)
"""Methods of one Receiver and several Sharers."""
AGENT_METHODS = tuple(row.name for row in DECLARATIONS.values() if row.agents)
"""Methods of two agents, an interpreter and a solver."""
BASELINE_METHODS = tuple(row.name for row in DECLARATIONS.values() if not row.fusers and not row.agents)
"""Methods without Fusers that answer every task."""
FUSER_METHODS = tuple(row.name for row in DECLARATIONS.values() if row.pair and row.fusers and not row.agents)
"""Methods of a pair's Fusers that answer every task: a recipe names some of them."""
TIMED_METHODS = tuple(row.name for row in DECLARATIONS.values() if row.timed)
METHOD_OPTIONS = {row.name: row.options for row in DECLARATIONS.values() if row.options is not None}
"""The methods that are registered with lm-eval, and the ``model_args`` of each in addition to the common ones."""


def methods_for(sharers: int) -> Sequence[str]:
    """Methods that can answer with this number of Sharers."""
    if sharers == 1:
        return PAIR_METHODS
    return [name for name in GROUP_METHODS if DECLARATIONS[name].zeroed_sharer <= sharers]
