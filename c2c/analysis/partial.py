"""Progressive fusion: only a share of each prompt's tokens is fused, the former or the latter (paper Figure 11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pandas as pd
import torch

from c2c.alignment.chat import ChatSection
from c2c.alignment.tokens import UNMATCHED, AlignedPrompt, batch_readings
from c2c.analysis.run import AnalysisRun, run_reader, sample_questions
from c2c.errors import RefusedError, check_choice
from c2c.evaluation.answers.answer import DecodingState
from c2c.evaluation.answers.store import check_free
from c2c.evaluation.generate import record, write_answers
from c2c.evaluation.methods.method import Method
from c2c.evaluation.questions.question import Question
from c2c.evaluation.questions.tasks import load_tasks
from c2c.evaluation.readers.fused import FusedReader
from c2c.evaluation.readers.prompt_memory import PromptMemory
from c2c.evaluation.readers.reader import check_room
from c2c.fusion.batch import ChatBatch, lay_out
from c2c.fusion.prompt import SIDES, section_index
from c2c.models.pair import load_pair

READS = {"c2c": "matched", "c2c_deranged": "deranged"}
"""What the Sharer reads by method: this question, or, as the control, another one."""


@dataclass
class PartialReader(FusedReader):
    """As `FusedReader`, but of the n tokens that it would fuse of a prompt only ``int(n * share)`` are.

    The tokens are read section by section (``docs/reference-behaviour.md``, "Prefill and sections"): tokens after fused
    ones attend to the fused cache. Each row of a batch gets the share of its own tokens.

    Args:
        share: In [0, 1].
        side: Which tokens: those at the ``front`` (the paper's former) or at the ``back`` (its latter).

    Raises:
        RefusedError: If share or side is out of range, or the Fusers fuse responses too.
    """

    share: float = 1.0
    side: str = "front"

    def __post_init__(self) -> None:
        check_choice("The side that is fused", self.side, SIDES)
        if not 0 <= self.share <= 1:
            raise RefusedError(
                "The share of tokens that are fused must be in [0, 1]", self.share, "Choose 0.5 for a half"
            )
        if self.model.include_response:
            raise RefusedError(
                "A share of a prompt must be fused by Fusers of prompts alone",
                "Fusers that fuse the response too",
                "Choose a fuser that was trained without include_response",
            )

    def layout(self, questions: Sequence[Question]) -> tuple[ChatBatch, list[list[Question | None]]]:
        """Three sections, each as wide as the widest row's: the two parts of the prefix, and the last token."""
        prompts = self.sharer
        alignments = [prompts.sharer_prompt(question) for question in questions]
        rows = [aligned for aligned, _ in alignments]
        # The three parts of each row, padded to the widest row's.
        parts = [_sections(row, self.share, self.side) for row in rows]
        widths = [max(part.end - part.start for part in column) for column in zip(*parts, strict=True)]
        check_room(self.receiver, sum(widths), max(question.max_new_tokens for question in questions))
        pads, device = (self.receiver.pad, prompts.pair.sharer.pad), self.receiver.model.device
        masks = [lay_out([1] * len(row.receiver_ids), part, widths, 0) for row, part in zip(rows, parts, strict=True)]
        ids = [lay_out(row.receiver_ids, part, widths, pads[0]) for row, part in zip(rows, parts, strict=True)]
        moved = [
            replace(row, token_map=lay_out([*row.token_map, UNMATCHED], part, widths, UNMATCHED)[:-1])
            for row, part in zip(rows, parts, strict=True)
        ]
        # The Sharer reads the same tokens; only one of the parts has it fused.
        zeroed = prompts.sharer_cache == "zeroed"
        sharer_input = batch_readings(moved, pads[1], zeroed=zeroed, reencode=prompts.aligner.reencode)
        # Masks of the sections; an empty section is left out.
        sharers = (1, -1, -1) if self.side == "front" else (-1, 1, -1)
        index = [section_index(mask, width) for mask, width in zip(sharers, widths, strict=True) if width]
        batch = ChatBatch(index, torch.tensor(ids), torch.tensor(masks), [sharer_input]).to(device)
        return batch, [[question for _, question in alignments]]

    def read_questions(self, questions: Sequence[Question]) -> DecodingState:
        """Prefill and fuse; where nothing is fused, the Sharer has read nothing."""
        state = super().read_questions(questions)
        if self.share == 0:
            for answer in state.answers:
                answer.sharer_question_id, answer.sharer_tokens_in = None, 0
        return state


def partial_reader(whole: FusedReader, share: float, side: str) -> PartialReader:
    """A reader like `whole` that fuses a share of what it fuses."""
    return PartialReader(whole.sharers, share=share, side=side)


def _sections(prompt: AlignedPrompt, share: float, side: str) -> tuple[ChatSection, ...]:
    """The former and the latter part of the prefix, and the last token; one part holds all that is fused."""
    tokens = len(prompt.receiver_ids)
    places = [place for place, at in enumerate(prompt.token_map) if at != UNMATCHED]
    count = int(len(places) * share)
    # The border follows the last fused token at the front, or precedes the first one at the back.
    if side == "front":
        border = places[count - 1] + 1 if count else 0
    else:
        border = places[len(places) - count] if count else tokens - 1
    return tuple(ChatSection(*ends, "message") for ends in ((0, border), (border, tokens - 1), (tokens - 1, tokens)))


@dataclass(frozen=True, kw_only=True)
class PartialRun(AnalysisRun):
    """One call of ``c2c analyse partial``.

    Args:
        shares: Of the tokens that are fused, each in [0, 1].
    """

    shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)


def setting_of(side: str, share: float) -> str:
    """The setting of a record: side and share, such as ``front 0.25``."""
    return f"{side} {share:g}"


def answer_partially_fused(run: PartialRun, notes: dict[str, Any] | None = None) -> pd.DataFrame:
    """Answer the questions with each share of their tokens fused, by `c2c` and by `c2c_deranged`.

    Args:
        run: What is asked.
        notes: As in `c2c.evaluation.generate.write_answers`.

    Returns:
        The records, also written to ``run.output``: one row a question, method and setting (`setting_of`).

    Raises:
        RefusedError: If an input is missing or does not fit.
    """
    check_free(run.output)
    tasks, pair = load_tasks(run.tasks, run.benchmarks), load_pair(run.receiver, run.sharer, run.dtype)
    questions = sample_questions(run, tasks, [pair.receiver, pair.sharer])
    # All settings share what the Sharer has read.
    memory, rows = PromptMemory(pair.sharer), []
    with run.store() as store:
        for method, reads in READS.items():
            whole = run_reader(run, pair, reads, memory)
            for side, share in product(SIDES, run.shares):
                setting = setting_of(side, share)
                reader = partial_reader(whole, share, side)
                answers = Method(f"{method} {setting}", reader, run.token_budget, store).answer(questions)
                rows += [
                    record(run.columns(method), method, question, answer, tasks, setting)
                    for question, answer in zip(questions, answers, strict=True)
                ]
        return write_answers(rows, run.output, notes)
