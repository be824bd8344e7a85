"""A question as a method gets it: prompt, options and limits, with what else its task file says about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Question:
    """One question as lm-eval rendered it.

    Args:
        benchmark: Id of the benchmark.
        number: Its place in the benchmark, from 0.
        doc: The prepared line; has ``id``.
        prompt: The rendered prompt; in chats the user's last message.
        gold: The gold answer.
        options: Continuations to be scored; empty for a free answer.
        stops: Strings that end a free answer.
        max_new_tokens: Upper bound of a free answer, in tokens.
        message_tokens: Upper bound of a message of T2T, in tokens; the methods' own bound if None.
        t2t_question: Template of the request to the Sharer in T2T.
        t2t_prompt: Template of the Receiver's prompt in T2T in plain prompts, with ``{{message}}`` and ``{{prompt}}``.
        agents_question: Template of the request to the interpreter of two agents.
        agents_prompt: Template of the solver's prompt, with ``{{message}}`` and ``{{prompt}}``.
        messages: The conversation, each message with ``role`` and ``content``; empty in plain prompts. An assistant's
            message at the end is the opening that the answer continues.
    """

    benchmark: str
    number: int
    doc: dict[str, Any]
    prompt: str
    gold: str
    options: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    max_new_tokens: int = 64
    message_tokens: int | None = None
    t2t_question: str = ""
    t2t_prompt: str = ""
    agents_question: str = ""
    agents_prompt: str = ""
    messages: tuple[dict[str, str], ...] = ()

    @property
    def private(self) -> str:
        """The line that only the Sharer may read; empty if there is none."""
        return str(self.doc.get("private") or "")
