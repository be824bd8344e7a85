"""Training sets of conversations: OpenHermes, GPTeacher, LIMA, and any other with the same columns."""

from __future__ import annotations

from benchmarks.readers.base import KEPT_ROW, Outcome, Row, RowPlace, exclusion, numbered
from c2c.errors import RefusedError

ROLES = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "system": "system",
}


def chat(row: Row, place: RowPlace, protocol: str) -> Outcome:
    """A conversation from the column `conversations` or `messages`, or from an instruction and its response.

    A turn is an object with from/value or role/content, or a text. System turns are dropped; a user's text is stripped,
    an answer is not. Turns must alternate between user and assistant and end with the assistant's.

    Raises:
        RefusedError: The row has none of these columns.
    """
    messages = []
    for at, turn in enumerate(_turns(row)):
        speaker, text = _role_and_text(turn, at)
        role = ROLES.get(speaker.lower())
        if role is None:
            return exclusion(f"a turn is by {speaker!r}")
        if role != "system":
            messages.append({"role": role, "content": text.strip() if role == "user" else text})
    if not messages or messages[-1]["role"] != "assistant":
        return exclusion("the last turn is not an assistant's")
    if any(message["role"] != ("user", "assistant")[at % 2] for at, message in enumerate(messages)):
        return exclusion("turns do not go to and fro, from a human's on")
    if not all(message["content"].strip() for message in messages):
        return exclusion("a turn is empty")
    identity = row.get("id") or numbered(place)
    return Outcome(KEPT_ROW, {"id": str(identity), "messages": messages}, group=str(row.get("source") or ""))


def _turns(row: Row) -> list[object]:
    for column in ("conversations", "messages", "conversation"):
        if row.get(column):
            return list(row[column])
    answer = next((row[column] for column in ("response", "output") if row.get(column) is not None), None)
    if row.get("instruction") is not None and answer is not None:
        question = "\n".join(str(row[column]) for column in ("instruction", "input") if row.get(column))
        return [question, str(answer)]
    if any(column in row for column in ("conversations", "messages", "conversation")):
        return []
    rule = "A set of conversations must have the column conversations or messages, or instruction and response"
    raise RefusedError(rule, sorted(row), "Choose another reader, or another data set")


def _role_and_text(turn: object, at: int) -> tuple[str, str]:
    if not isinstance(turn, dict):
        return ("human", "gpt")[at % 2], str(turn)
    speaker = turn.get("from") or turn.get("role") or ""
    text = turn["value"] if turn.get("value") is not None else turn.get("content")
    return str(speaker), str(text if text is not None else "")
