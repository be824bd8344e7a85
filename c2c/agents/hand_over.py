"""Hand-over of caches between agents: senders read their facts and the question, and one receiver answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedConfig

from c2c.agents.agent import Agent
from c2c.agents.message import AgentMessage, subject_of
from c2c.agents.writing import write
from c2c.alignment.chat import ChatAligner
from c2c.alignment.tokens import AlignedPrompt
from c2c.checkpoints.checkpoint_folder import read_config, read_manifest
from c2c.checkpoints.pair_fusers import load_pair_fusers
from c2c.checkpoints.released_folder import is_released, released_alignment
from c2c.checkpoints.sharer_cache import SharerCache
from c2c.checkpoints.signing import Envelope, contract_hash
from c2c.errors import RefusedError, WrongModelError, check_choice
from c2c.fuser.stack import FuserStack
from c2c.fusion.batch import collate_chats
from c2c.models import hub
from c2c.models.contract import Contract, check_contract
from c2c.models.pair import Pair, check_embeddings
from c2c.rosetta import RosettaModel
from c2c.types import FUSIONS, TOKEN_ALIGNMENTS

NO_FUSERS = "there are no fusers of this pair"
REQUEST = (
    "{facts}\n\nSomebody else has to answer the question below, and cannot read the above. Write in one short sentence "
    "what of it the answer needs.\n\n{question}"
)
READING = "{message}\n\n{question}"


@dataclass(frozen=True)
class TextPrompts:
    """The wordings of a hand-over by text.

    Args:
        request: What the sender reads; with ``{facts}`` and ``{question}``.
        reading: What is answered, and read by all who send a cache; with ``{message}`` (the texts, a line each) and
            ``{question}``.
        tokens: Most tokens of a text.
    """

    request: str = REQUEST
    reading: str = READING
    tokens: int = 128


@dataclass(frozen=True)
class AgentAnswer:
    """An answer and the messages that it rests on.

    Args:
        text: The receiver's answer.
        messages: One of each sender.
    """

    text: str
    messages: tuple[AgentMessage, ...]

    @property
    def kinds(self) -> dict[str, str]:
        """Whether each sender handed over a ``cache`` or a ``text``, by its name."""
        return {message.envelope.sender: message.kind for message in self.messages}

    @property
    def reasons(self) -> dict[str, str]:
        """Why a sender handed over a text, by the names of those who did."""
        return {message.envelope.sender: message.reason for message in self.messages if message.kind == "text"}


class HandOver:
    """One agent answers questions with what others hand over: their caches, or texts where caches cannot be read.

    A sender hands over its cache if there are fusers for it and their contract accepts both models. Otherwise it writes
    a text, which the receiver and all who send a cache read before the question; the answer says so, and why.

    Args:
        receiver: The agent that answers.
        senders: The agents that are asked, in the order in which their caches are fused.
        fusers: For each sender, by its name, the fusers of the pair: a folder or hub id, in the own or the released
            layout, or the Fusers themselves.
        alignment: Token alignment; that of each training if None.
        fusion: With several caches: ``parallel`` (each reads the receiver's own cache; their changes are added up) or
            ``sequential``.
        chat: Read questions in each model's chat template, or as plain text; if None, by whether all have a template.
        override: Lines of the contracts that may differ, by name, such as ``sharer.rope``.
        prompts: Wordings of a hand-over by text.

    Attributes:
        reasons: Why senders write texts, by the names of those who do.

    Raises:
        RefusedError: If two agents have one name, or fusers are of nobody, not found, or trained without messages.
    """

    def __init__(
        self,
        receiver: Agent,
        senders: Sequence[Agent],
        fusers: Mapping[str, FuserStack | str | Path],
        *,
        alignment: str | None = None,
        fusion: str = "parallel",
        chat: bool | None = None,
        override: Sequence[str] = (),
        prompts: TextPrompts | None = None,
    ) -> None:
        names = [agent.name for agent in (receiver, *senders)]
        if not senders or len({*names}) < len(names):
            rule = "A hand-over must have at least one sender, and agents of different names"
            raise RefusedError(rule, names, "Name each agent otherwise")
        if strangers := sorted(fusers.keys() - {*names[1:]}):
            raise RefusedError("Fusers must be those of a sender", strangers, f"Name one of: {', '.join(names[1:])}")
        check_choice("The fusion of several Sharers", fusion, FUSIONS)
        if alignment is not None:
            check_choice("The alignment of a hand-over", alignment, TOKEN_ALIGNMENTS)
        self.receiver, self.senders = receiver, {agent.name: agent for agent in senders}
        self.prompts = prompts or TextPrompts()
        tokenizers = [agent.model.tokenizer for agent in (receiver, *senders)]
        self.chat = all(getattr(each, "chat_template", None) for each in tokenizers) if chat is None else chat
        # Who sends a cache, and who a text
        self.reasons: dict[str, str] = {}
        self.fusers: dict[str, _Fusers] = {}
        self.aligners: dict[str, ChatAligner] = {}
        for agent in senders:
            if agent.name not in fusers:
                self.reasons[agent.name] = NO_FUSERS
                continue
            try:
                opened = self._open(agent, fusers[agent.name], override)
            except WrongModelError as refusal:
                received: Any = refusal.received
                self.reasons[agent.name] = received if isinstance(received, str) else "; ".join(map(str, received))
                continue
            self.fusers[agent.name] = opened
            chosen = alignment or opened.alignment
            check_embeddings(chosen, receiver.model.tokenizer, _config(agent))
            self.aligners[agent.name] = ChatAligner(receiver.model.tokenizer, agent.model.tokenizer, chosen)
        self.model = self._build(fusion, override) if receiver.is_here else None

    def __call__(self, question: str, **options: Any) -> AgentAnswer:
        """Ask all senders, and answer; `options` are those of `receive`."""
        return self.receive(self.send(question), question, **options)

    def send(self, question: str) -> list[AgentMessage]:
        """One message of each sender about a question, in the senders' order.

        Raises:
            RefusedError: If a sender runs in another process, or cannot read the question.
        """
        # Texts first: who sends a cache reads them before the question, as the receiver does.
        messages = {name: self.message_from(name, question) for name in self.reasons}
        texts = list(messages.values())
        messages |= {name: self.message_from(name, question, texts) for name in self.aligners}
        return [messages[name] for name in self.senders]

    def message_from(self, sender: str, question: str, texts: Sequence[AgentMessage] = ()) -> AgentMessage:
        """The message of one sender.

        Args:
            sender: Its name.
            question: What the receiver is asked.
            texts: The messages of all who send texts; not needed for a sender that is one of them.

        Raises:
            RefusedError: As `send`, or if a text is missing.
        """
        agent = self.senders[check_choice("A sender", sender, self.senders)]
        if not agent.is_here:
            raise RefusedError("A message must be sent where its agent's model is", sender, "Send it in that process")
        address = Envelope(sender=sender, receiver=self.receiver.name)
        if sender in self.reasons:
            text = self._write_text(agent, question)
            return AgentMessage(replace(address, subject=subject_of(question)), text, self.reasons[sender])
        # The agent's own reading: its facts, then what the receiver reads
        prompt = self.prompt(question, texts)
        aligned = self._align(self.aligners[sender], prompt, agent.facts)
        batch = collate_chats([aligned], self.receiver.model.pad, agent.model.pad)
        cache = SharerCache.of_model(agent.model.model, batch.sharer_input, tokenizer=agent.model.tokenizer)
        envelope = replace(address, contract=self._contract(sender), subject=subject_of(prompt))
        return AgentMessage(envelope, replace(cache, sharer=agent.model.description, envelope=envelope))

    def receive(self, messages: Sequence[AgentMessage], question: str, **options: Any) -> AgentAnswer:
        """Answer a question with one message of each sender.

        Args:
            messages: In any order.
            question: As the senders were asked.
            **options: As `c2c.agents.writing.write` takes them: ``max_new_tokens``, ``stop``, sampling.

        Raises:
            RefusedError: If a sender has no message or several, one is for another receiver, question or contract, or a
                cache is of another model than the fusers were trained for.
        """
        if self.model is None:
            rule = "A question must be answered where the receiver's model is"
            raise RefusedError(rule, self.receiver.name, "Answer it in that process")
        senders = [message.envelope.sender for message in messages]
        if sorted(senders) != sorted(self.senders):
            rule = f"There must be one message of each sender: {', '.join(self.senders)}"
            raise RefusedError(rule, senders, "Pass what send returned")
        by_sender = {message.envelope.sender: message for message in messages}
        prompt = self.prompt(question, messages)
        for name, message in by_sender.items():
            self._check(name, message, prompt if name in self.aligners else question)
        # The receiver's prompt, in which the caches take the places of the Sharers
        aligners = list(self.aligners.values()) or [self._own_aligner()]
        pads = [self.senders[name].model.pad for name in self.aligners] or [self.receiver.model.pad]
        batch = collate_chats(
            [[self._align(aligner, prompt) for aligner in aligners]],
            self.receiver.model.pad,
            pads,
            mask=None if self.aligners else 0,
        )
        # `_check` has refused a text of a sender whose cache is fused.
        contents = [by_sender[name].content for name in self.aligners]
        inputs = [content.as_input() for content in contents if isinstance(content, SharerCache)]
        text = write(self.model, self.receiver.model, batch._replace(sharer_inputs=inputs), **options)[0]
        return AgentAnswer(text, tuple(by_sender[name] for name in self.senders))

    def prompt(self, question: str, messages: Sequence[AgentMessage] = ()) -> str:
        """What the receiver is asked: the question, after the texts of those who cannot hand over a cache.

        Raises:
            RefusedError: If one of these texts is not among `messages`.
        """
        texts = {message.envelope.sender: str(message.content) for message in messages if message.kind == "text"}
        if missing := [name for name in self.reasons if name not in texts]:
            rule = "The texts of all who cannot hand over a cache must be there"
            raise RefusedError(rule, f"none from {', '.join(missing)}", "Ask them first (message_from)")
        if not self.reasons:
            return question
        message = "\n".join(texts[name] for name in self.reasons)
        return self.prompts.reading.format(message=message, question=question)

    def _open(self, agent: Agent, fuser: FuserStack | str | Path, override: Sequence[str]) -> _Fusers:
        """The fusers of a sender, with the contract that they come with.

        Raises:
            WrongModelError: If they were trained for other models.
        """
        if isinstance(fuser, FuserStack):
            if self.receiver.is_here:
                fuser.to(self.receiver.model.model.device, self.receiver.model.model.dtype)
            return _Fusers(fuser, "span", {}, {})
        folder = hub.resolve(fuser)
        contract: Contract = {} if is_released(folder) else read_manifest(folder)["contract"]
        # A model that runs elsewhere is known by what its messages say of it, which is compared when they arrive.
        sharer = agent.model if agent.is_here else replace(agent.model, lines=contract.get("sharer"))
        if self.receiver.is_here:
            loaded = load_pair_fusers(Pair(self.receiver.model, sharer), fuser, override)
            components = loaded.components
            if loaded.zeroed or components.include_response:
                received = "zeros in place of messages" if loaded.zeroed else "responses that are fused too"
                rule = f"The fusers of {agent.name} must have been trained with messages, and with plain responses"
                raise RefusedError(rule, received, "Use fusers of the recipe c2c")
            return _Fusers(components.stacks[0], loaded.alignment, contract, components.contracts[0])
        # In a sender's process only the contract and the alignment matter.
        if not contract:
            return _Fusers(None, released_alignment(folder), {}, {})
        check_contract([{"sharer": contract["sharer"]}], [{"sharer": sharer.description}], override)
        return _Fusers(None, read_config(folder)["about"].get("alignment", "span"), contract, contract)

    def _build(self, fusion: str, override: Sequence[str]) -> RosettaModel:
        """The receiver with the fusers of all who send a cache."""
        names = list(self.fusers)
        stacks = [fusers.stack for fusers in self.fusers.values() if fusers.stack is not None]
        sharers = [self.senders[name].model.model for name in names]
        model = RosettaModel.of_stacks(self.receiver.model.model, sharers, stacks, fusion=fusion).eval()
        model.contracts = [fusers.expected for fusers in self.fusers.values()]
        # Of several Sharers the lines have numbers: sharer_1, sharer_2, …
        parts = [f"sharer_{number}." for number in range(1, len(names) + 1)] if len(names) > 1 else ["sharer."]
        model.override = [line.replace("sharer.", part) for part in parts for line in override]
        return model

    def _check(self, name: str, message: AgentMessage, prompt: str) -> None:
        """Refuse a message that is not the one of `name` to this receiver about `prompt`."""
        kind = "text" if name in self.reasons else "cache"
        if message.kind != kind:
            received = f"a {message.kind}, although {self.reasons.get(name, 'there are fusers for its cache')}"
            remedy = "Send it by a hand-over with the same fusers"
            raise RefusedError(f"The message of {name} must be a {kind}", received, remedy)
        contract = self._contract(name) if kind == "cache" else ""
        expected = Envelope(sender=name, receiver=self.receiver.name, contract=contract, subject=subject_of(prompt))
        message.envelope.check(expected)

    def _contract(self, name: str) -> str:
        contract = self.fusers[name].contract
        return contract_hash(contract) if contract else ""

    def _write_text(self, agent: Agent, question: str) -> str:
        request = self.prompts.request.format(facts=agent.facts, question=question)
        aligner = ChatAligner(agent.model.tokenizer, agent.model.tokenizer)
        batch = collate_chats([self._align(aligner, request)], agent.model.pad, agent.model.pad, mask=0)
        alone = RosettaModel([agent.model.model])
        (text,) = write(alone, agent.model, batch._replace(sharer_inputs=[]), max_new_tokens=self.prompts.tokens)
        return text.strip()

    def _own_aligner(self) -> ChatAligner:
        return ChatAligner(self.receiver.model.tokenizer, self.receiver.model.tokenizer)

    def _align(self, aligner: ChatAligner, prompt: str, facts: str = "") -> AlignedPrompt:
        if self.chat:
            return aligner.align([{"role": "user", "content": prompt}], private=facts)
        return aligner.align_text(prompt, facts)


class _Fusers(NamedTuple):
    """Fusers of a pair and what holds for them.

    Args:
        stack: None in a sender's process.
        alignment: Token alignment of their training.
        contract: Of their folder, as sender and receiver both know it; empty for released fusers, which have none.
        expected: The models that messages are compared with; empty if unknown.
    """

    stack: FuserStack | None
    alignment: str
    contract: Contract
    expected: Contract


def _config(agent: Agent) -> PreTrainedConfig:
    model = agent.model.model
    return model if isinstance(model, PreTrainedConfig) else model.config
