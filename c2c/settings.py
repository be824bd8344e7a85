"""Settings as fields of frozen dataclasses: type, default, bounds, choices and meaning of a setting in one place.

From these fields follow the checks of a value, the flags of the command line, the JSON schema of the config and the
tables of keys in ``config/README.md``. Imports no torch.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from c2c.errors import RefusedError, check_choice

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

AUTO = "auto"
"""In place of a number of tokens: as many as fit into memory, which is measured."""


@dataclass(frozen=True)
class Rule:
    """What a setting means and which values it may have; of a list, which values its elements may have.

    Args:
        help: Meaning, in a phrase of at most 200 characters.
        choices: The values that are allowed, where they are names.
        words: The words that are allowed in place of a whole number.
        least: Smallest value.
        most: Greatest value.
        above: Values are greater than this.
        below: Values are less than this.
        pattern: Regular expression of a text, or of the keys of a mapping.
        fewest: Elements that a list or mapping has at least.
        block: Where the setting of a training stands in the config; None if it follows from something else there.
        parse: Reads the text of a flag, where the type alone does not.
    """

    help: str
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    pattern: str = ""
    fewest: int = 0
    block: str | None = "training"
    parse: Callable[[str], Any] | None = None


def setting(default: Any, help: str, **rule: Any) -> Any:
    """A dataclass field with a `Rule`; `default` is ``...`` for a setting that must be given."""
    metadata = {"rule": Rule(help, **rule)}
    return field(metadata=metadata) if default is ... else field(default=default, metadata=metadata)


def rule_of(item: Field[Any]) -> Rule:
    """The rule of a field that `setting` made."""
    rule: Rule = item.metadata["rule"]
    return rule


def check_values(values: Any) -> None:
    """Hold the whole numbers, numbers and names of a dataclass against their rules.

    Raises:
        RefusedError: At the first value of another type, outside of its bounds, or with an unknown name.
    """
    kinds = get_type_hints(type(values))
    for item in fields(values):
        # type() instead of isinstance: True is an int in Python, and no number of a setting.
        bounds, value = rule_of(item), getattr(values, item.name)
        if bounds.choices:
            check_choice(f"--{item.name.replace('_', '-')}", value, bounds.choices)
        elif kinds[item.name] is int or bounds.words:
            if value not in bounds.words and (type(value) is not int or not _is_inside(value, bounds)):
                words = "".join(f"{word} or " for word in bounds.words)
                rule = f"{item.name} must be {words}a whole number of {bounds.least} to {bounds.most}"
                raise RefusedError(rule, value, f"Correct {item.name}")
        elif kinds[item.name] is float:
            # Every comparison with a NaN is false, so bounds alone would let it pass.
            if type(value) not in (int, float) or not math.isfinite(value):
                raise RefusedError(f"{item.name} must be a finite number", value, f"Correct {item.name}")
            if not _is_inside(value, bounds):
                raise RefusedError(f"{item.name} must be {_range(bounds)}", value, f"Correct {item.name}")


def _is_inside(value: float, rule: Rule) -> bool:
    return (
        (rule.least is None or value >= rule.least)
        and (rule.above is None or value > rule.above)
        and (rule.most is None or value <= rule.most)
        and (rule.below is None or value < rule.below)
    )


def _range(rule: Rule) -> str:
    """The bounds of a number in words: ``positive``, ``at least 0``, ``in [0, 1)``."""
    low = (
        ""
        if rule.least is None and rule.above is None
        else f"[{rule.least}"
        if rule.above is None
        else f"({rule.above}"
    )
    high = (
        "" if rule.most is None and rule.below is None else f"{rule.most}]" if rule.below is None else f"{rule.below})"
    )
    if low and high:
        return f"in {low}, {high}"
    if high:
        return f"at most {rule.most}" if rule.below is None else f"less than {rule.below}"
    if rule.above == 0:
        return "positive"
    return f"at least {rule.least}" if rule.above is None else f"greater than {rule.above}"


def json_schema(model: type[Any]) -> dict[str, Any]:
    """JSON Schema of the objects that a dataclass of settings describes; unknown keys are refused."""
    kinds = get_type_hints(model)
    required = [item.name for item in fields(model) if item.default is MISSING]
    properties = {item.name: _property(kinds[item.name], item) for item in fields(model)}
    schema: dict[str, Any] = {"type": "object", "additionalProperties": False}
    return {**schema, **({"required": required} if required else {}), "properties": properties}


def _property(kind: Any, item: Field[Any]) -> dict[str, Any]:
    rule = rule_of(item)
    schema = {"description": rule.help, **_value_schema(kind, rule)}
    # null is no default that a user could read anything from.
    if item.default is not MISSING and item.default is not None:
        schema["default"] = as_json(item.default)
    return schema


def _value_schema(kind: Any, rule: Rule) -> dict[str, Any]:
    """The schema of a value of some type; a rule's bounds, choices and pattern are those of a list's elements."""
    kind, nullable = without_none(kind)
    # Lists and mappings hold values of one type; dataclasses are objects with known keys; the rest are scalars.
    if get_origin(kind) is tuple:
        element = get_args(kind)[0]
        schema: dict[str, Any] = {"type": "array", "items": _value_schema(element, rule)}
        schema |= {"minItems": rule.fewest} if rule.fewest else {}
        schema |= {} if is_dataclass(element) else {"uniqueItems": True}
    elif get_origin(kind) is dict:
        schema = {"type": "object", "propertyNames": {"pattern": rule.pattern}}
        schema |= {"minProperties": rule.fewest, "additionalProperties": _value_schema(get_args(kind)[1], Rule(""))}
    elif is_dataclass(kind):
        assert isinstance(kind, type)
        schema = json_schema(kind)
    elif kind is Any:
        # Whoever reads the value knows what it may be.
        schema = {}
    elif rule.choices:
        schema = {"enum": list(rule.choices)}
    else:
        bounds = {
            "minimum": rule.least,
            "maximum": rule.most,
            "exclusiveMinimum": rule.above,
            "exclusiveMaximum": rule.below,
            "pattern": rule.pattern or None,
        }
        limits = {word: bound for word, bound in bounds.items() if bound is not None}
        number = {"type": "integer" if rule.words else TYPES[kind], **limits}
        schema = {"anyOf": [{"enum": list(rule.words)}, number]} if rule.words else number
    if nullable:
        schema["type"] = [schema["type"], "null"]
    return schema


TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}
"""Types of JSON Schema."""


def without_none(kind: Any) -> tuple[Any, bool]:
    """A type without ``None``, and whether ``None`` was one of its alternatives."""
    if get_origin(kind) is not types.UnionType or type(None) not in get_args(kind):
        return kind, False
    (rest,) = (part for part in get_args(kind) if part is not type(None))
    return rest, True


def as_json(value: Any) -> Any:
    """A default as JSON has it: tuples as lists."""
    return [as_json(part) for part in value] if isinstance(value, tuple) else value


Model = TypeVar("Model", bound="DataclassInstance")


def from_mapping(model: type[Model], values: Mapping[str, Any], **more: Any) -> Model:
    """A dataclass of settings from those of `values` that are its fields, lists as tuples; `more` comes first."""
    names = {item.name for item in fields(model)}
    arguments = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if name in names
    }
    return model(**{**arguments, **more})


def whole_number_or(word: str, text: str, flag: str) -> int | str:
    """A whole number as a flag gives it, or a word that may stand there.

    Raises:
        RefusedError: If the text is neither.
    """
    if text == word:
        return text
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise RefusedError(f"{flag} must be {word} or a whole number", text, f"Write {word}, or a number such as 8192")
    return int(text)


def whole_numbers(text: str, flag: str, example: str) -> tuple[int, ...]:
    """Whole numbers as a flag gives them, with commas between; none for an empty text.

    Raises:
        RefusedError: If a part of the text is no whole number.
    """
    parts: Sequence[str] = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) <= 9):
            raise RefusedError(f"{flag} must be whole numbers with commas between", part, f"Write {example}")
    return tuple(int(part) for part in parts)
