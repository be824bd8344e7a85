"""The command ``c2c demo``: the live page of a pair, or its answers as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from c2c.cli.flags import (
    ContractFlags,
    DtypeFlags,
    OptionalNumber,
    OptionalPath,
    OptionalText,
    Texts,
    one_of,
    run_from_flags,
)
from c2c.demo.request import CONTROLS
from c2c.errors import RefusedError, check_choice
from c2c.types import PROMPTS, TOKEN_ALIGNMENTS

DEFAULT_RESULTS = Path("results/smoke")


@dataclass(frozen=True, kw_only=True)
class Demo(DtypeFlags, ContractFlags):
    """Open a page on which a pair answers with and without messages, until Ctrl-C."""

    # The pair
    receiver: OptionalText = None
    """Receiver: folder, model manifest or hub id"""
    sharer: OptionalText = None
    """Sharer: folder, model manifest or hub id"""
    fuser: OptionalText = None
    """Fusers of the pair: folder or hub id"""
    results: OptionalPath = None
    """finished run with a pair (without a pair: results/smoke)"""
    pair: OptionalText = None
    """pair of --results; its first one by default"""
    questions: OptionalPath = None
    """example questions (JSON lines: id, question; answer, private)"""
    tasks: OptionalPath = None
    """folder of task files; that of --questions is <its name>.yaml"""
    prompts: Annotated[str | None, one_of(PROMPTS)] = None
    """chat where both models have chat templates"""
    alignment: Annotated[str | None, one_of(TOKEN_ALIGNMENTS)] = None
    """token alignment; that of the Fusers' training by default"""
    device: OptionalText = None
    """where the models run, such as cuda or mps"""
    # What is asked first
    question: OptionalText = None
    """ask this at once"""
    private: str = ""
    """what the Sharer alone reads"""
    donor: str = ""
    """question that the wrong message is about; an example by default"""
    donor_private: str = ""
    """what the Sharer reads before that question"""
    max_new_tokens: OptionalNumber = None
    """longest answer, in tokens"""
    closed_layers: Annotated[tuple[int, ...], arg(metavar="[LAYER ...]")] = ()
    """Receiver layers that are not fused"""
    controls: Annotated[Texts, one_of(CONTROLS)] = ()
    """more messages"""
    json: bool = False
    """print the answers to --question, and serve no page"""
    # Where
    host: str = "127.0.0.1"
    """address to listen on; the page has no log-in"""
    port: OptionalNumber = None
    """the first free one from 7860 on by default"""

    def run(self) -> None:
        """Load the pair and serve the page, or print the answers."""
        if self.json and not self.question:
            raise RefusedError("--json must have a question", "none", "Pass --question")
        for control in self.controls:
            check_choice("--controls", control, CONTROLS)
        if self.prompts is not None:
            check_choice("--prompts", self.prompts, PROMPTS)
        from c2c.demo.start import DemoRun, start

        without_pair = self.results is None and self.receiver is None and DEFAULT_RESULTS.is_dir()
        run = run_from_flags(DemoRun, self, results=DEFAULT_RESULTS if without_pair else self.results)
        if self.json:
            session = run.page_session
            request = run.request(session.questions.max_new_tokens)
            assert request is not None
            for answer in session.answers(request):
                print(json.dumps(answer.as_dict(), ensure_ascii=False), flush=True)
            return
        start(run, self.host, self.port)
