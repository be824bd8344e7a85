"""The command ``c2c chat``: a conversation of several turns, answered by one method or by several side by side."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

from c2c.cli.flags import ContractFlags, DtypeFlags, OptionalText, PairFlags, one_of
from c2c.errors import RefusedError
from c2c.types import TOKEN_ALIGNMENTS


@dataclass(frozen=True, kw_only=True)
class Chat(PairFlags, DtypeFlags, ContractFlags):
    """Talk with a Receiver that reads along with a Sharer, line by line in one conversation."""

    fuser: str
    """Fusers of the pair: folder or hub id"""
    message: OptionalText = None
    """answer this alone; else each line of the standard input"""
    alignment: Annotated[str | None, one_of(TOKEN_ALIGNMENTS)] = None
    """token alignment; that of the Fusers' training by default"""
    max_new_tokens: int = 256
    """longest answer, in tokens"""
    device: OptionalText = None
    """where the models run, such as cuda or mps"""

    def run(self) -> None:
        """Print the answers."""
        if self.message is None and sys.stdin is None:
            remedy = "Pass --message, or redirect a file to it"
            raise RefusedError("The standard input must be open", "a closed one", remedy)
        from transformers import TextStreamer

        from c2c.agents.chat_pipeline import converse, lines_of, pipeline

        pipe = pipeline(
            self.receiver,
            self.sharer,
            self.fuser,
            alignment=self.alignment,
            dtype=self.dtype,
            device=self.device,
            override=self.accept_difference,
        )
        if self.message is not None:
            print(pipe(self.message, max_new_tokens=self.max_new_tokens), flush=True)
            return
        streamer = TextStreamer(pipe.pair.receiver.tokenizer, skip_prompt=True, skip_special_tokens=True)
        # A person at a terminal sees when a line is waited for; a program's output stays as it is.
        prompt = "> " if sys.stdin.isatty() else ""
        lines = lines_of(sys.stdin, ready=lambda: print(prompt, end="", file=sys.stderr, flush=True))
        options = {"max_new_tokens": self.max_new_tokens, "streamer": streamer}
        converse(pipe, lines, say=lambda text: print(f"c2c chat: {text}", file=sys.stderr), **options)
