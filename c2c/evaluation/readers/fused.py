"""The reader of fused methods: the Receiver's cache of a prompt, fused with the caches of one or several Sharers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from c2c.alignment.chat import ChatAligner
from c2c.alignment.derangement import OTHER_QUESTION
from c2c.alignment.tokens import AlignedPrompt, SharerInput, batch_readings, left_pad, with_reading_of
from c2c.cache import kv_cache
from c2c.errors import RefusedError
from c2c.evaluation.answers.answer import Answer, DecodingState
from c2c.evaluation.answers.batches import batches_of
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.prompt_memory import PromptMemory
from c2c.evaluation.readers.reader import Reader, check_room
from c2c.fusion.batch import ChatBatch, collate_chats, in_two_sections, up_to_fused
from c2c.fusion.prompt import read_sections, section_index
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from c2c.rosetta import RosettaModel

FUSED_ROLES = ("user",)
"""Whose messages are fused in a chat: neither the template's words nor the opening of the answer are."""

Key = tuple[str, int]


@dataclass
class SharerPrompts:
    """The prompts of one Sharer: how they align with the Receiver's, and whose question it reads.

    Args:
        pair: The Receiver and this Sharer.
        model: The Receiver, all Sharers and their Fusers.
        aligner: Token alignment that the Fusers were trained with. Under ``unaligned`` the whole prompt but its last
            token is fused, the template's words too.
        sharer_cache: Whose cache is fused: ``matched`` (this question's), ``deranged`` (that of a question with another
            answer), ``same_answer`` (that of another question with the same answer) or ``zeroed``.
        seed: Draws the other questions; see `c2c.alignment.derangement`.
        memory: Caches that the Sharer has made before; readers of the same pair and alignment may share it. None
            makes each cache anew.
    """

    pair: Pair
    model: RosettaModel
    aligner: ChatAligner
    sharer_cache: str = "matched"
    seed: int = 0
    memory: PromptMemory | None = None

    def __post_init__(self) -> None:
        self._donors: dict[Key, Question] = {}
        self._aligned: dict[tuple[str, str, str], AlignedPrompt] = {}

    def align(self, question: Question) -> AlignedPrompt:
        """The prompt in the tokens of both models; kept, since a control aligns it again."""
        key = (question.prompt, question.private, prompting.messages_as_json(question.messages))
        if key not in self._aligned:
            if question.messages:
                options = prompting.turn_options(question)
                aligned = self.aligner.align(question.messages, private=question.private, roles=FUSED_ROLES, **options)
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

        A question that cannot be aligned is left out; it fails when it is read.
        """
        # 1. Questions that can be aligned
        usable = [question for question in questions if self._fits(question)]
        # 2. Whose question the Sharer reads
        if choose := OTHER_QUESTION.get(self.sharer_cache):
            sizes = [len(self.align(question).receiver_ids) for question in usable]
            donors = choose(sizes, [question.gold for question in usable], self.seed)
            for question, donor in zip(usable, donors, strict=True):
                self._donors[_key(question)] = usable[donor]
        # 3. The batches in which it reads them
        if self.memory is not None and self.sharer_cache != "zeroed":
            # A control with other questions plans the same texts: the caches of all questions serve both.
            prompts = list(dict.fromkeys(tuple(self.align(question).sharer_ids) for question in usable))
            self.memory.plan(batches_of(prompts, [max(len(ids), 1) for ids in prompts], token_budget))

    def read_instead(self, question: Question, donor: Question) -> None:
        """Let the Sharer read `donor` in a control, in place of the question that `prepare` would choose."""
        self._donors[_key(question)] = donor

    def _fits(self, question: Question) -> bool:
        try:
            return self.align(question) is not None
        except RefusedError:
            return False

    def sharer_prompt(self, question: Question) -> tuple[AlignedPrompt, Question | None]:
        """This question's prompt aligned with what the Sharer reads, and the question that the Sharer reads."""
        prompt = self.align(question)
        if self.sharer_cache == "zeroed":
            return prompt, None
        if self.sharer_cache == "matched":
            return prompt, question
        donor = self._donors[_key(question)]
        return with_reading_of(prompt, self.align(donor)), donor

    def inputs(self, questions: Sequence[Question]) -> tuple[Tensor, Tensor, SharerInput, list[Question | None]]:
        """The batch of the Receiver and of this Sharer.

        Returns:
            Receiver ids and mask, each ``(B, N)``; the Sharer's input; for each row the question that the Sharer reads,
            None if its cache is zeros.
        """
        rows = [self.sharer_prompt(question) for question in questions]
        device = self.pair.receiver.model.device
        ids, mask = left_pad([aligned.receiver_ids for aligned, _ in rows], self.pair.receiver.pad)
        check_room(self.pair.receiver, ids.shape[1], max(question.max_new_tokens for question in questions))
        sharer_input = batch_readings(
            [aligned for aligned, _ in rows],
            self.pair.sharer.pad,
            zeroed=self.sharer_cache == "zeroed",
            reencode=self.aligner.reencode,
        )
        return ids.to(device), mask.to(device), sharer_input.to(device), [question for _, question in rows]

    def with_memory(self, sharer_input: SharerInput, questions: Sequence[Question | None]) -> SharerInput:
        """The input with the caches of these questions, if there is a memory and the Sharer's cache is not zeros."""
        if self.memory is None or self.sharer_cache == "zeroed":
            return sharer_input
        texts = [self.align(question).sharer_ids for question in questions if question is not None]
        return replace(sharer_input, layers=self.memory.layers(texts, sharer_input.input_ids.shape[1]))


@dataclass
class FusedReader(Reader):
    """The prefix is fused with the caches that one or several Sharers have of it.

    In a control that reads another question all Sharers read the same one.

    Args:
        sharers: The prompts of each Sharer. All have the same Receiver and the same model, whose Sharers are these in
            this order.
        memory: The Receiver's un-fused caches of prompts, which readers of its other methods share; None reads each
            prompt anew.
    """

    sharers: Sequence[SharerPrompts]
    memory: PromptMemory | None = None

    @property
    def model(self) -> RosettaModel:
        """The Receiver, the Sharers and their Fusers."""
        return self.sharers[0].model

    @property
    def receiver(self) -> LoadedModel:
        """The Receiver of all Sharers."""
        return self.sharers[0].pair.receiver

    @property
    def models(self) -> tuple[LoadedModel, ...]:
        """The Receiver, then the Sharers."""
        return self.receiver, *(prompts.pair.sharer for prompts in self.sharers)

    @property
    def sharer(self) -> SharerPrompts:
        """The prompts of the only Sharer."""
        (prompts,) = self.sharers
        return prompts

    def length(self, question: Question) -> int:
        """Tokens of the Receiver or of a Sharer, whichever are most."""
        return max(prompts.length(question) for prompts in self.sharers)

    def prepare(self, questions: Sequence[Question], token_budget: int) -> None:
        """See `SharerPrompts.prepare`."""
        for prompts in self.sharers:
            prompts.prepare(questions, token_budget)

    def plan(self, batches: Sequence[Sequence[Question]]) -> None:
        """See `Reader.plan`; of each prompt the Receiver's tokens but the last are kept."""
        if self.memory is not None and not self.model.include_response:
            # All Sharers are aligned with the same Receiver tokens
            prompts = self.sharers[0]
            self.memory.plan([[prompts.align(question).receiver_ids[:-1] for question in batch] for batch in batches])

    def layout(self, questions: Sequence[Question]) -> tuple[ChatBatch, list[list[Question | None]]]:
        """The batch, section by section, and for each Sharer the questions that it reads.

        Where the answer of a chat is fused too, the template's words after the last message belong to the answer: the
        Sharer reads only these of them, as in training.

        Raises:
            RefusedError: If the Receiver would read other tokens with one Sharer than with another.
        """
        # 1. The same Receiver tokens with each Sharer
        inputs = [prompts.inputs(questions) for prompts in self.sharers]
        ids, mask = inputs[0][:2]
        sharer_inputs, owners = [item[2] for item in inputs], [item[3] for item in inputs]
        if any(not torch.equal(ids, item[0]) for item in inputs):
            raise RefusedError(
                "The Receiver must read the same tokens with each Sharer",
                questions[0].doc.get("id"),
                "Use one token alignment for all Fusers",
            )
        # 2. A chat whose response is fused has its last section after the last fused token
        if self.model.include_response and questions[0].messages:
            prompts = self.sharer
            rows = [in_two_sections(prompts.sharer_prompt(question)[0]) for question in questions]
            pads, zeroed = (self.receiver.pad, prompts.pair.sharer.pad), prompts.sharer_cache == "zeroed"
            return collate_chats(rows, *pads, zeroed, prompts.aligner.reencode).to(ids.device), owners
        # 3. Otherwise all Sharers are fused into the prompt up to its last token
        everyone = (1 << len(self.sharers)) - 1
        index = [section_index(everyone, ids.shape[1] - 1), section_index(-1, 1)]
        return ChatBatch(index, ids, mask, sharer_inputs), owners

    @torch.no_grad()
    def read_questions(self, questions: Sequence[Question]) -> DecodingState:
        """Prefill all models, and fuse."""
        # 1. The batch of each model, with the caches that Sharers made before
        (index, ids, mask, sharer_inputs), owners = self.layout(questions)
        sharer_inputs = [
            prompts.with_memory(sharer_input, sharer_questions)
            for prompts, sharer_input, sharer_questions in zip(self.sharers, sharer_inputs, owners, strict=True)
        ]
        # 2. Prefill and fusion
        response = self.model.include_response
        sections = read_sections(index, ids, len(self.sharers), include_response=response)
        # From 0 at the first token of each row: (B, N)
        positions = kv_cache.positions_of(mask)
        unfused = None if self.memory is None or response else self.memory.prefix(ids, mask)
        caches = self.model.read_prompt(
            sections, ids, mask, positions, sharer_inputs, keep_unfused=response, prefix=unfused
        )
        # 3. The columns of records that are known before the answer. A Sharer whose cache is zeros reads no question;
        # all others read the same one.
        read_by_sharers = next((row for row in owners if row[0] is not None), owners[0])
        masks = [sharer_input.attention_mask for sharer_input in sharer_inputs if not sharer_input.zeroed]
        answers = [
            Answer(
                prompt_read=prompting.prompt_text(self.receiver, question),
                tokens_in=int(mask[row].sum()),
                sharer_question_id=None if donor is None else str(donor.doc["id"]),
                sharer_tokens_in=sum(int(sharer_mask[row].sum()) for sharer_mask in masks),
            )
            for row, (question, donor) in enumerate(zip(questions, read_by_sharers, strict=True))
        ]
        return DecodingState(
            self.receiver.model,
            self.receiver.tokenizer,
            ids,
            mask,
            caches.cache,
            answers,
            self.model.fuse_response(caches, sections[-1].sharers) if response else None,
            special=not questions[0].messages,
        )


def _key(question: Question) -> Key:
    return question.benchmark, question.number
