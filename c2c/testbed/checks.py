"""What a channel returns is checked before it becomes a record: a wrong number of answers would be a wrong number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from c2c.errors import ModelFaultError, RefusedError, check_choice
from c2c.testbed.channel import Message, Prompt, ReceiverAnswer
from c2c.testbed.items import Item

PAGE = "See docs/testbed.md"


def change_settings(channel: str, settings: Any, change: dict[str, Any]) -> Any:
    """Settings of a channel with some values replaced.

    Raises:
        RefusedError: If the channel has no settings, a name is unknown, or a value is of another type or out of bounds.
    """
    if not change:
        return settings
    if not is_dataclass(settings) or isinstance(settings, type):
        raise RefusedError(f"A channel with settings in a run must have some; {channel} has none", change, "Drop them")
    names = [field.name for field in fields(settings)]
    for name, value in change.items():
        check_choice(f"A setting of the channel {channel}", name, names)
        kind = type(getattr(settings, name))
        if type(value) not in ((int, float) if kind is float else (kind,)):
            rule = f"The setting {name} of the channel {channel} must be of the type {kind.__name__}"
            raise RefusedError(rule, value, "Correct it")
    try:
        return replace(settings, **change)
    except RefusedError as refusal:
        raise RefusedError(f"The channel {channel}: {refusal.rule}", refusal.received, refusal.remedy) from None


def check_messages(channel: str, messages: Any, count: int) -> list[Message]:
    """Refuse messages that are not one for each context, with tensors of finite numbers.

    Raises:
        RefusedError: If so.
        ModelFaultError: If a number is not finite.
    """
    if not isinstance(messages, Sequence) or not all(isinstance(message, Message) for message in messages):
        rule = f"The channel {channel} must send a list of Message"
        raise RefusedError(rule, type(messages).__name__, PAGE)
    if len(messages) != count:
        rule = f"The channel {channel} must send one message for each of {count} contexts"
        raise RefusedError(rule, len(messages), PAGE)
    for message in messages:
        for name, tensor in message.tensors.items():
            if not getattr(tensor, "dim", lambda: 0)() >= 2:
                rule = f"A tensor of a message must have the axes tokens and features; {name} of {channel} has not"
                raise RefusedError(rule, type(tensor).__name__, PAGE)
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                rule = f"A message of the channel {channel} must hold finite numbers"
                raise ModelFaultError(rule, f"{name} has others", "Check the channel, and the weights of the Sharer")
    return list(messages)


def check_answers(channel: str, message: str, answers: Any, prompts: Sequence[Prompt]) -> list[ReceiverAnswer]:
    """Refuse answers that are not one for each prompt, with a finite log-probability for each option and the value.

    Raises:
        RefusedError: If so.
        ModelFaultError: If a number is not finite.
    """
    where = f"the channel {channel} with the message {message}"
    if not isinstance(answers, Sequence) or len(answers) != len(prompts):
        rule = f"There must be one answer for each of {len(prompts)} prompts from {where}"
        raise RefusedError(rule, len(answers) if isinstance(answers, Sequence) else type(answers).__name__, PAGE)
    for answer, prompt in zip(answers, prompts, strict=True):
        if not isinstance(answer, ReceiverAnswer) or len(answer.option_logps) != len(prompt.options):
            rule = f"An answer of {where} must be a ReceiverAnswer with {len(prompt.options)} option_logps"
            raise RefusedError(rule, answer, PAGE)
        if not all(map(math.isfinite, (*answer.option_logps, answer.value_logp))):
            rule = f"Log-probabilities of {where} must be finite"
            raise ModelFaultError(rule, answer, "Check the channel, and the weights of both models")
    return list(answers)


def check_splits(items: dict[str, list[Item]]) -> None:
    """Refuse items of which a test or validation value, or text, is in another split.

    Raises:
        RefusedError: If so, or if the items are of several tasks.
    """
    remedy = "Make the items anew: c2c.testbed.tasks.make"
    tasks = {item.task for its_items in items.values() for item in its_items}
    if len(tasks) > 1:
        raise RefusedError("The items of a run must be of one task", sorted(tasks), remedy)
    # An item that needs no message may have its value in other splits: it is in the Receiver's text.
    values = {split: {item.value for item in its_items if item.need} for split, its_items in items.items()}
    texts = {split: {item.sharer_texts for item in its_items} for split, its_items in items.items()}
    for one, other in (("test", "train"), ("test", "validation"), ("validation", "train")):
        for what, parts in (("values", values), ("texts", texts)):
            shared = parts[one] & parts[other]
            if shared:
                rule = f"The {what} of the {one} items must be in no {other} item"
                raise RefusedError(rule, sorted(map(str, shared))[:3], remedy)
