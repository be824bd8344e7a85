"""What a fused method lets the answering model read: a prompt, fused with the Sharer's cache of it (design §4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from c2c.alignment.chat import ChatAligner, UnalignedChats
from c2c.alignment.derangement import derange, with_reading_of
from c2c.alignment.tokens import AlignedPrompt, SharerInput, batch_readings, left_pad
from c2c.cache import kv_cache
from c2c.errors import RefusedError
from c2c.evaluation.answers.answer import Answer, DecodingState
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.reader import Reader, check_room
from c2c.evaluation.readers.sharer_memory import SharerMemory
from c2c.fusion.batch import ChatBatch, collate_chats, in_two_sections, up_to_fused
from c2c.fusion.prompt import generate_kv_cache_index, read_sections
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from c2c.rosetta import RosettaModel

FUSED_ROLES = ("user",)
"""Whose messages are fused in a chat: neither the template's words nor the opening of the answer are."""

Key = tuple[str, int]


@dataclass
class Fused(Reader):
    """The prefix is fused with the Sharer's cache (methods `c2c`, `c2c_deranged`, `c2c_zeroed`).

    Args:
        pair: The models.
        model: The Receiver, the Sharer and the Fusers.
        aligner: Token alignment that the Fusers were trained with. Without any, the whole prompt but its last token is
            fused, the template's words too.
        sharer_reads: ``matched`` (this question), ``deranged`` (another one) or ``zeroed`` (nothing).
        seed: Of the derangement.
        memory: Keeps what the Sharer has read, and may be shared by several readers of the same pair and alignment;
            None reads anew each time.
    """

    pair: Pair
    model: RosettaModel
    aligner: ChatAligner | UnalignedChats
    sharer_reads: str = "matched"
    seed: int = 0
    memory: SharerMemory | None = None

    def __post_init__(self) -> None:
        self._other: dict[Key, Question] = {}
        self._aligned: dict[tuple[str, str, str], AlignedPrompt] = {}

    @property
    def models(self) -> tuple[LoadedModel, ...]:
        """Receiver and Sharer."""
        return self.pair.receiver, self.pair.sharer

    def align(self, question: Question) -> AlignedPrompt:
        """The prompt as both models read it; remembered, since a control reads it again."""
        key = (question.prompt, question.private, prompting.messages_as_json(question.messages))
        if key not in self._aligned:
            if question.messages:
                options: dict[str, Any] = {"private": question.private, **prompting.turn_options(question)}
                if isinstance(self.aligner, ChatAligner):
                    options["roles"] = FUSED_ROLES
                aligned: AlignedPrompt = self.aligner.align(question.messages, **options)
                self._aligned[key] = up_to_fused(aligned) if self.model.include_response else aligned
            else:
                self._aligned[key] = self.aligner.align_text(question.prompt, question.private)
        return self._aligned[key]

    def length(self, question: Question) -> int:
        """Tokens of the Receiver or the Sharer, whichever are more."""
        aligned = self.align(question)
        return max(len(aligned.receiver_ids), len(aligned.sharer_ids))

    def prepare(self, questions: Sequence[Question], token_budget: int) -> None:
        """Choose whose question the Sharer reads, and in which batches it reads them.

        A question that cannot be aligned takes no part; it fails when it is read.
        """
        usable = [question for question in questions if self._fits(question)]
        if self.sharer_reads == "deranged":
            sizes = [len(self.align(question).receiver_ids) for question in usable]
            swapped = derange(sizes, [question.gold for question in usable], self.seed)
            for question, other in zip(usable, swapped, strict=True):
                self._other[_key(question)] = usable[other]
        if self.memory is not None and self.sharer_reads != "zeroed":
            self.memory.plan({_key(each): self.align(each).sharer_ids for each in usable}, token_budget)

    def _fits(self, question: Question) -> bool:
        try:
            return self.align(question) is not None
        except RefusedError:
            return False

    def sharer_reads_of(self, question: Question) -> tuple[AlignedPrompt, Question | None]:
        """What the Sharer reads beside this question's prompt, and whose question that is."""
        own = self.align(question)
        if self.sharer_reads == "zeroed":
            return own, None
        if self.sharer_reads == "matched":
            return own, question
        other = self._other[_key(question)]
        return with_reading_of(own, self.align(other)), other

    def inputs(self, questions: Sequence[Question]) -> tuple[Tensor, Tensor, SharerInput, list[Question | None]]:
        """Receiver ids and mask, each ``(B, N)``; what the Sharer reads; whose questions those are."""
        read = [self.sharer_reads_of(question) for question in questions]
        device = self.pair.receiver.model.device
        ids, mask = left_pad([aligned.receiver_ids for aligned, _ in read], self.pair.receiver.pad)
        check_room(self.pair.receiver, ids.shape[1], max(question.max_new_tokens for question in questions))
        sharer_input = batch_readings(
            [aligned for aligned, _ in read],
            self.pair.sharer.pad,
            zeroed=self.sharer_reads == "zeroed",
            reencode=self.aligner.reencode,
        )
        return ids.to(device), mask.to(device), sharer_input.to(device), [whose for _, whose in read]

    def laid_out(self, questions: Sequence[Question]) -> tuple[ChatBatch, list[Question | None]]:
        """What is read of a batch, section by section, and whose questions the Sharer reads.

        Of a chat whose answer is fused too, the template's words after the last message belong to the answer: they
        are all that the Sharer reads of them, as in training.
        """
        ids, mask, sharer_input, whose = self.inputs(questions)
        if not (self.model.include_response and questions[0].messages):
            return ChatBatch(generate_kv_cache_index(ids.shape[1] - 1, 1), ids, mask, [sharer_input]), whose
        rows = [in_two_sections(self.sharer_reads_of(question)[0]) for question in questions]
        pads, zeroed = (self.pair.receiver.pad, self.pair.sharer.pad), self.sharer_reads == "zeroed"
        return collate_chats(rows, *pads, zeroed, self.aligner.reencode).to(ids.device), whose

    def remembered(self, sharer_input: SharerInput, whose: Sequence[Question | None]) -> SharerInput:
        """With what the Sharer has read before of these questions, where there is a memory and it reads at all."""
        if self.memory is None or self.sharer_reads == "zeroed":
            return sharer_input
        keys = [_key(each) for each in whose if each is not None]
        return replace(sharer_input, layers=self.memory.layers(keys, sharer_input.input_ids.shape[1]))

    @torch.no_grad()
    def read(self, questions: Sequence[Question]) -> DecodingState:
        """Prefill both models, and fuse."""
        (index, ids, mask, [sharer_input]), whose = self.laid_out(questions)
        sharer_input = self.remembered(sharer_input, whose)
        fused_response = self.model.include_response
        sections = read_sections(index, ids, 1, include_response=fused_response)
        read = self.model.read_prompt(
            sections, ids, mask, kv_cache.positions_of(mask), [sharer_input], keep_unfused=fused_response
        )
        ran = self.sharer_reads != "zeroed"
        receiver, chat = self.pair.receiver, bool(questions[0].messages)
        answers = [
            Answer(
                prompt_read=prompting.prompt_text(receiver, question),
                tokens_in=int(row.sum()),
                sharer_question_id=None if name is None else str(name.doc["id"]),
                sharer_tokens_in=int(given.sum()) if ran else 0,
            )
            for question, row, given, name in zip(questions, mask, sharer_input.attention_mask, whose, strict=True)
        ]
        response = self.model.fuse_response(read, sections[-1].sharers) if fused_response else None
        return DecodingState(
            receiver.model, receiver.tokenizer, ids, mask, read.cache, answers, response, special=not chat
        )


def _key(question: Question) -> Key:
    return question.benchmark, question.number
