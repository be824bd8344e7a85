"""Several Sharers at once, whose Fusers were trained alone (paper, Table 13): all of them read each question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from c2c.alignment.chat import ChatAligner
from c2c.cache import kv_cache
from c2c.checkpoints.checkpoint import load_components
from c2c.errors import RefusedError
from c2c.evaluation.answers.answer import Answer, DecodingState
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.fused import Fused
from c2c.evaluation.readers.reader import Reader
from c2c.evaluation.readers.sharer_memory import SharerMemory
from c2c.fusion.prompt import Section
from c2c.models.loading import LoadedModel
from c2c.models.pair import Pair
from c2c.rosetta import RosettaModel


@dataclass
class FusedBySeveral(Reader):
    """The prefix is fused with the caches that several Sharers have of it.

    In a derangement all Sharers read the same other question.

    Args:
        parts: One reader a Sharer. They have the same Receiver and the same model, that of all Sharers in this order.
    """

    parts: Sequence[Fused]

    @property
    def models(self) -> tuple[LoadedModel, ...]:
        """The Receiver, then the Sharers."""
        return self.parts[0].pair.receiver, *(part.pair.sharer for part in self.parts)

    def length(self, question: Question) -> int:
        """Tokens of the Receiver or of a Sharer, whichever are most."""
        return max(part.length(question) for part in self.parts)

    def prepare(self, questions: Sequence[Question], token_budget: int) -> None:
        """As `Fused.prepare`, for each Sharer."""
        for part in self.parts:
            part.prepare(questions, token_budget)

    @torch.no_grad()
    def read(self, questions: Sequence[Question]) -> DecodingState:
        """Prefill all models, and fuse.

        Raises:
            RefusedError: If the Receiver would read other tokens beside one Sharer than beside another.
        """
        laid_out = [part.inputs(questions) for part in self.parts]
        ids, mask, _, whose = laid_out[0]
        if any(not torch.equal(ids, other) for other, *_ in laid_out):
            raise RefusedError(
                "The Receiver must read the same tokens beside each Sharer",
                questions[0].doc.get("id"),
                "Use one token alignment for all Fusers",
            )
        given = [part.remembered(each, names) for part, (_, _, each, names) in zip(self.parts, laid_out, strict=True)]
        end = ids.shape[1] - 1
        sections = [Section(0, end, tuple(range(len(self.parts)))), Section(end, end + 1, ())]
        cache = self.parts[0].model.prefill(sections, ids, mask, kv_cache.positions_of(mask), given)
        receiver, chat = self.models[0], bool(questions[0].messages)
        ran = [each.attention_mask for each in given if not each.zeroed]
        # A Sharer whose cache is zeroed reads nobody's question; those that read all read the same one.
        names = next((names for *_, names in laid_out if names[0] is not None), whose)
        answers = [
            Answer(
                prompt_read=prompting.prompt_text(receiver, question),
                tokens_in=int(row.sum()),
                sharer_question_id=None if name is None else str(name.doc["id"]),
                sharer_tokens_in=sum(int(read[place].sum()) for read in ran),
            )
            for place, (question, row, name) in enumerate(zip(questions, mask, names, strict=True))
        ]
        return DecodingState(receiver.model, receiver.tokenizer, ids, mask, cache, answers, special=not chat)


def several_reader(
    receiver: LoadedModel,
    sharers: Sequence[LoadedModel],
    fusers: Sequence[str | Path],
    reads: Sequence[str],
    *,
    fusion: str = "sequential",
    accept: Sequence[str] = (),
    memories: Sequence[SharerMemory | None] | None = None,
) -> FusedBySeveral:
    """The reader of Fusers that were trained alone, one folder a Sharer.

    Args:
        receiver: The Receiver of all.
        sharers: The Sharers.
        fusers: Their Fusers.
        reads: What each Sharer reads: ``matched``, ``deranged`` or ``zeroed``, as in `Fused`.
        fusion: ``sequential`` or ``parallel``.
        accept: Lines of the contracts that may differ, by name: ``receiver.rope``, ``sharer_1.rope``.
        memories: One a Sharer; see `Fused`.

    Raises:
        RefusedError: If the models are not those of the Fusers' contracts, or the Fusers were trained on different
            token alignments, or with the response fused.
    """
    described = [(loaded.model, loaded.description) for loaded in (receiver, *sharers)]
    components = load_components([Path(folder) for folder in fusers], described, fusion=fusion, override=accept)
    model = RosettaModel.of_components(components)
    alignments = sorted({about.get("alignment", "span") for about in components.about})
    if len(alignments) > 1 or model.include_response:
        raise RefusedError(
            "Fusers that are used together must have one token alignment, and fuse prompts alone",
            f"alignments {', '.join(alignments)}; response fused: {model.include_response}",
            "Train them with the same --alignment and --response plain",
        )
    kept = memories or [None] * len(sharers)
    return FusedBySeveral(
        [
            Fused(
                Pair(receiver, sharer),
                model,
                ChatAligner(receiver.tokenizer, sharer.tokenizer, alignments[0]),
                "zeroed" if about.get("sharer_cache") == "zeroed" else what,
                memory=memory,
            )
            for sharer, about, what, memory in zip(sharers, components.about, reads, kept, strict=True)
        ]
    )
