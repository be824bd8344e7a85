"""The command ``c2c chat``: a conversation of several turns, answered by one method or by several side by side."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any

from c2c.cli.flags import ContractFlags, DtypeFlags, OptionalText, PairFlags, Texts, one_of
from c2c.errors import RefusedError, check_choice
from c2c.types import TOKEN_ALIGNMENTS

METHODS = ("receiver", "t2t", "c2c")


@dataclass(frozen=True, kw_only=True)
class Chat(PairFlags, DtypeFlags, ContractFlags):
    """Talk with a Receiver that reads along with a Sharer, line by line in one conversation.

    With several methods each line is answered by all of them, one after the other, each with a conversation of its own.
    """

    fuser: str
    """Fusers of the pair: folder or hub id"""
    message: OptionalText = None
    """answer this alone; else each line of the standard input"""
    methods: Annotated[Texts, one_of(METHODS)] = ("c2c",)
    """who answers: the Receiver alone, with a text of the Sharer, with its cache"""
    json: bool = False
    """print the answers to --message as JSON, by method"""
    alignment: Annotated[str | None, one_of(TOKEN_ALIGNMENTS)] = None
    """token alignment; that of the Fusers' training by default"""
    max_new_tokens: int = 256
    """longest answer, in tokens"""
    device: OptionalText = None
    """where the models run, such as cuda or mps"""

    def run(self) -> None:
        """Print the answers."""
        # Refusals before a model is loaded
        if self.message is None and sys.stdin is None:
            remedy = "Pass --message, or redirect a file to it"
            raise RefusedError("The standard input must be open", "a closed one", remedy)
        if self.json and self.message is None:
            raise RefusedError("--json must have a message", "none", "Pass --message")
        for method in self.methods:
            check_choice("--methods", method, METHODS)
        from transformers import TextStreamer

        from c2c.agents.chat_pipeline import converse, lines_of, pipeline
        from c2c.agents.side_by_side import converse_side_by_side, respondents_of

        pipe = pipeline(
            self.receiver,
            self.sharer,
            self.fuser,
            alignment=self.alignment,
            dtype=self.dtype,
            device=self.device,
            override=self.accept_difference,
        )
        respondents = respondents_of(pipe, self.methods)
        # One message
        if self.message is not None:
            turns, limit = [{"role": "user", "content": self.message}], self.max_new_tokens
            answers = {name: respondent(turns, max_new_tokens=limit) for name, respondent in respondents.items()}
            several = len(answers) > 1
            lines = [f"{method}: {answer}" if several else answer for method, answer in answers.items()]
            print(json.dumps(answers, ensure_ascii=False) if self.json else "\n".join(lines), flush=True)
            return
        # A conversation. A person at a terminal sees when a line is waited for; a program's output stays as it is.
        streamer = TextStreamer(pipe.pair.receiver.tokenizer, skip_prompt=True, skip_special_tokens=True)
        prompt = "> " if sys.stdin.isatty() else ""
        lines_of_user = lines_of(sys.stdin, ready=lambda: print(prompt, end="", file=sys.stderr, flush=True))
        options: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "streamer": streamer}
        if tuple(self.methods) == ("c2c",):
            converse(pipe, lines_of_user, say=tell, **options)
            return

        def announce(method: str) -> None:
            print(f"{method}: ", end="", flush=True)

        converse_side_by_side(respondents, lines_of_user, announce=announce, say=tell, **options)


def tell(text: str) -> None:
    """Print a remark about the conversation, apart from the answers."""
    print(f"c2c chat: {text}", file=sys.stderr)
