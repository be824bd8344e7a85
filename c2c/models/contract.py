"""The compatibility contract: what a Fuser was trained for, and whether other models are that.

A contract has three parts, ``receiver``, ``sharer`` and ``fuser``, each with named lines. A line that differs either
*refuses* (the Fuser would be used on caches that it does not know) or is *noted*:

* Refused: ``weights_sha256``, ``tokenizer_sha256``, ``architecture``, cache and vocabulary sizes, ``rope``,
  ``layer_types``, ``sliding_window``, ``computation`` (the config's other settings, `c2c.models.computation`; only
  those that both sides have), and the Fuser's own ``layer_map`` and ``sizes``. Each changes what a cache means.
* Noted: ``id`` and ``revision``, since a folder's path is no identity and equal weights under two names are one model;
  ``dtype``, since precision moves numbers by rounding alone. Without weights to compare (released fusers name ids
  only, a Sharer that runs elsewhere is known by its config) the ``id`` is all there is, and then it refuses. A
  tokenizer that only one side has is noted.

A contract without ``computation`` is older than that line, and the line is not compared.

The weights' fingerprint samples both ends of every parameter, so that it costs milliseconds. It tells apart what was
trained apart; it does not find one number that was changed by hand. It is the same in fp32 and bf16; fp16 and integer
weights round otherwise and are refused.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from c2c.cache.shape import cache_shape
from c2c.errors import RefusedError, WrongModelError, check_choice
from c2c.fuser.stack import FuserStack
from c2c.models import hub
from c2c.models.computation import describe_computation, rope_of, shared_settings
from c2c.models.hub import Identity

Lines = dict[str, Any]
Contract = dict[str, Lines]

MODEL_LINES = (
    "id",
    "revision",
    "architecture",
    "layers",
    "kv_heads",
    "head_dim",
    "vocab_size",
    "rope",
    "layer_types",
    "sliding_window",
    "computation",
    "dtype",
    "tokenizer_sha256",
    "weights_sha256",
)
FUSER_LINES = ("layer_map", "sizes", "dtype")
PARTS = {"receiver": MODEL_LINES, "sharer": MODEL_LINES, "fuser": FUSER_LINES}
NOTED = ("revision", "dtype")
COMPUTATION = "computation"
LATER_LINES = (COMPUTATION,)
"""Lines that older contracts lack; one that either side lacks is not compared."""
HALF = "float16"
SAMPLED = 8
SHOWN = 120


class Difference(NamedTuple):
    """A line in which a model or Fuser differs from the contract; it is refused, or noted if not `refuses`."""

    line: str
    expected: Any
    actual: Any
    refuses: bool

    def __str__(self) -> str:
        expected, actual = self.expected, self.actual
        if isinstance(expected, Mapping) and isinstance(actual, Mapping):
            keys = [key for key in {**expected, **actual} if expected.get(key) != actual.get(key)]
            # Of mappings only the keys that differ.
            expected, actual = ({key: lines.get(key) for key in keys} for lines in (expected, actual))
        return f"{self.line}: expected {_excerpt(expected)}, found {_excerpt(actual)}"


@dataclass(frozen=True)
class ContractCheck:
    """What a check let pass: lines that were `accepted` by name though they differ, and lines that are only `noted`."""

    accepted: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()

    def merged(self, *others: ContractCheck) -> ContractCheck:
        """This check and others as one, each line once."""
        checks = (self, *others)
        accepted = dict.fromkeys(line for check in checks for line in check.accepted)
        noted = dict.fromkeys(line for check in checks for line in check.noted)
        return ContractCheck(tuple(accepted), tuple(noted))

    def to_dict(self) -> dict[str, list[str]]:
        """Both, as provenance has them."""
        return {"accepted": list(self.accepted), "noted": list(self.noted)}


def describe_model(
    model: PreTrainedModel | PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    name: str | None = None,
    revision: str | None = None,
) -> Lines:
    """A model's lines in a contract, as JSON has them.

    Args:
        model: A causal model whose cache is keys and values, or the config of one that runs elsewhere: then
            ``weights_sha256`` is None.
        tokenizer: Its tokenizer; without one ``tokenizer_sha256`` is None.
        name: Its id, or where it is; the name that the model carries if None.
        revision: Commit, tag or branch.

    Raises:
        RefusedError: If the model's cache is not keys and values.
    """
    config = model if isinstance(model, PreTrainedConfig) else model.config
    # Of a multimodal model the lines are those of the part that writes text.
    shape, identity, decoder = cache_shape(config), identify_model(model), config.get_text_config(decoder=True)
    # The order of these lines is that of refusals; see MODEL_LINES.
    lines = {
        "id": identity.id if name is None else hub.identify(name).id,
        "revision": identity.revision if revision is None and name is None else revision,
        "architecture": config.model_type,
        "layers": shape.layers,
        "kv_heads": shape.heads,
        "head_dim": shape.head_dim,
        "vocab_size": decoder.vocab_size,
        "rope": rope_of(decoder),
        "layer_types": getattr(decoder, "layer_types", None),
        "sliding_window": getattr(decoder, "sliding_window", None),
        COMPUTATION: describe_computation(decoder),
        "dtype": None if model.dtype is None else str(model.dtype).removeprefix("torch."),
        "tokenizer_sha256": None if tokenizer is None else tokenizer_fingerprint(tokenizer),
        "weights_sha256": weights_fingerprint(model) if isinstance(model, PreTrainedModel) else None,
    }
    return _as_json(lines)


def describe_fusers(stack: FuserStack) -> Lines:
    """A stack's lines in a contract: Receiver layer to Sharer layer, distinct Fuser configs, dtype of its weights."""
    sizes: list[dict[str, Any]] = []
    for fuser in stack.all_fusers():
        described = fuser.config.to_dict()
        if described not in sizes:
            sizes.append(described)
    dtypes = {str(parameter.dtype).removeprefix("torch.") for parameter in stack.parameters()}
    layer_map = {str(layer): link.sharer_layer for layer, link in sorted(stack.links.items())}
    return _as_json({"layer_map": layer_map, "sizes": sizes, "dtype": ", ".join(sorted(dtypes))})


def identify_model(model: PreTrainedModel | PreTrainedConfig) -> Identity:
    """Id and revision that a loaded model or config carries; an empty id if it was built in code."""
    config = model if isinstance(model, PreTrainedConfig) else model.config
    identity = hub.identify(model.name_or_path or "")
    return Identity(identity.id, identity.revision or getattr(config, "_commit_hash", None))


def weights_fingerprint(model: torch.nn.Module) -> str:
    """SHA-256 of each parameter's name, shape and first and last values, rounded to bf16; 64 hexadecimal digits."""
    digest = hashlib.sha256()
    # By name: the order of modules is no part of what a model is.
    for name, parameter in sorted(model.named_parameters(), key=lambda item: item[0]):
        # (...) -> (size,); bf16 values are hashed by their bits.
        flat = parameter.detach().reshape(-1)
        ends = torch.cat([flat[:SAMPLED], flat[-SAMPLED:]]).to("cpu", torch.bfloat16)
        bits = ends.view(torch.int16).tolist()  # same shape: bf16 and int16 are two bytes each
        digest.update(f"{name} {tuple(parameter.shape)} {bits}\n".encode())
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of how a tokenizer splits text and of its chat template; 64 hexadecimal digits."""
    if tokenizer.is_fast:
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        for state in ("padding", "truncation"):  # left behind by the last call
            rules.pop(state, None)
    else:
        # A slow tokenizer has no rules that could be written out; its class and vocabulary stand for them.
        rules = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    content = {"rules": rules, "chat_template": getattr(tokenizer, "chat_template", None)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def compare(expected: Mapping[str, Lines], actual: Mapping[str, Lines]) -> list[Difference]:
    """The lines of `expected` from which `actual` differs, in their order."""
    differences = []
    for part, lines in expected.items():
        actual_lines = actual.get(part, {})
        for line, value in lines.items():
            actual_value = actual_lines.get(line)
            if line == COMPUTATION:
                value, actual_value = shared_settings(value, actual_value)
            if not _is_same(line, value, actual_value):
                refuses = _is_refused(line, lines, actual_lines)
                differences.append(Difference(f"{part}.{line}", value, actual_value, refuses))
    return differences


def _is_refused(line: str, expected: Lines, actual: Lines) -> bool:
    """Whether a line that differs is refused; it is noted otherwise."""
    # The two values of the line, and of what identifies a model.
    has = {name: (expected.get(name), actual.get(name)) for name in (line, "id", "weights_sha256")}
    # An id is a name: it decides only where the weights of one side cannot be compared.
    if line == "id":
        return all(has["id"]) and not all(has["weights_sha256"])
    if line == "weights_sha256" and not all(has[line]):
        return not (all(has["id"]) and _is_same("id", *has["id"]))
    if line == "tokenizer_sha256":
        return all(has[line])
    return line not in NOTED


def check_contract(
    expected: Sequence[Mapping[str, Lines]], actual: Sequence[Mapping[str, Lines]], override: Sequence[str] = ()
) -> ContractCheck:
    """Refuse models or Fusers that are not those of the contract.

    Args:
        expected: The contract of each Sharer's Fusers.
        actual: The lines of the models and Fusers that are used, in the same order.
        override: Lines that may differ, by name: ``receiver.weights_sha256``. With several Sharers their lines are
            those of ``sharer_1``, ``fuser_1``, ``sharer_2`` and so on.

    Raises:
        RefusedError: With each line that differs and is not in `override`, or if a name in it is no line.
    """
    differences: dict[str, Difference] = {}
    names: dict[str, None] = {}
    for number, contracts in enumerate(zip(expected, actual, strict=True), start=1):
        # The Receiver is the same in all contracts, so its lines have no number, and a difference in it counts once.
        suffix = f"_{number}" if len(expected) > 1 else ""
        contract, models = ({_part(part, suffix): lines for part, lines in parts.items()} for parts in contracts)
        names |= {f"{part}.{line}": None for parts in (models, contract) for part in parts for line in parts[part]}
        differences |= {str(difference): difference for difference in compare(contract, models)}
    return _let_pass(differences, check_lines(override, names))


def check_precision(contract: Mapping[str, Lines], dtype: str, override: Sequence[str] = ()) -> None:
    """Refuse, before a model is loaded, a precision in which its weights cannot be told to be those of a contract.

    float16 rounds weights otherwise than float32 and bfloat16, whose fingerprints are the same.

    Args:
        contract: Of one Sharer's Fusers.
        dtype: In which the models would be loaded.
        override: As `check_contract` takes it.

    Raises:
        RefusedError: If the one is float16 and the other is not.
    """
    for part in ("receiver", "sharer"):
        lines = contract.get(part) or {}
        trained = lines.get("dtype")
        differs = trained is not None and (trained == HALF) != (dtype == HALF)
        if differs and lines.get("weights_sha256") and f"{part}.weights_sha256" not in override:
            raise RefusedError(
                f"Models must be loaded in float16 if their Fusers were trained in it, and only then ({part})",
                f"{dtype}, where the Fusers were trained with {trained}",
                f"Pass --dtype {trained}; float32 and bfloat16 go together",
            )


def check_cache(
    contracts: Sequence[Mapping[str, Lines]], sharer: int, actual: Lines, override: Sequence[str] = ()
) -> ContractCheck:
    """Refuse a cache of another model than the Sharer that Fusers were trained for.

    Args:
        contracts: The contract of each Sharer's Fusers.
        sharer: Number of the Sharer, from 0.
        actual: Lines of the model that computed the cache.
        override: As `check_contract` takes it; lines of other parts have no effect here.

    Raises:
        RefusedError: With each line that differs and is not in `override`.
    """
    part = _part("sharer", f"_{sharer + 1}" if len(contracts) > 1 else "")
    differences = compare({part: contracts[sharer].get("sharer", {})}, {part: dict(actual)})
    return _let_pass({str(difference): difference for difference in differences}, override)


def _let_pass(differences: Mapping[str, Difference], accepted: Sequence[str]) -> ContractCheck:
    refused = [text for text, line in differences.items() if line.refuses and line.line not in accepted]
    if refused:
        names = sorted({differences[text].line for text in refused})
        # A remedy that fits: float16 alone changes the fingerprint of equal weights.
        in_half = any(line.line.endswith(".dtype") and HALF in line[1:3] for line in differences.values())
        precision = "Load them in the precision of the contract, since float16 rounds weights otherwise; else u"
        use = f"{precision if in_half else 'U'}se those models"
        raise WrongModelError(
            "Fusers must be used with the models that they were trained for",
            refused,
            f"{use}, or accept the difference by name: override={names}, --accept-difference " + " ".join(names),
        )
    return ContractCheck(
        tuple(text for text, line in differences.items() if line.refuses),
        tuple(text for text, line in differences.items() if not line.refuses),
    )


def check_lines(override: Sequence[str], lines: Sequence[str] | Mapping[str, None] | None = None) -> list[str]:
    """`override` as a list, if each of it is a line of a contract (by default of one with one Sharer).

    Raises:
        RefusedError: Otherwise, with the nearest line.
    """
    if isinstance(override, bool) or not isinstance(override, Sequence):
        raise RefusedError(
            "An override must name the lines that may differ", override, "Pass names, such as ['receiver.rope']"
        )
    names = (
        [f"{part}.{line}" for part, part_lines in PARTS.items() for line in part_lines]
        if lines is None
        else list(lines)
    )
    return [
        check_choice("A line of the contract", line, names)
        for line in ([override] if isinstance(override, str) else override)
    ]


def _part(part: str, suffix: str) -> str:
    return part if part == "receiver" else part + suffix


def _is_same(line: str, expected: Any, actual: Any) -> bool:
    if line == "id":
        return hub.is_same_id(str(expected or ""), str(actual or ""))
    if line == "revision" and (expected is None or actual is None):
        return True
    return bool(expected == actual)


def _as_json(lines: Lines) -> Lines:
    return json.loads(json.dumps(lines))


def _excerpt(value: Any) -> str:
    short = reprlib.Repr()
    short.maxstring = short.maxother = SHOWN
    short.maxdict = short.maxlist = 8
    return short.repr(value)
