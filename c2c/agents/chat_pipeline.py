"""From messages to text in one call: a Receiver that reads a conversation together with a Sharer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from c2c.agents.writing import write
from c2c.alignment.template import Message
from c2c.alignment.tokens import AlignedPrompt
from c2c.checkpoints.pair_fusers import load_pair_fusers
from c2c.errors import ModelFaultError, NoRoomError, RefusedError, check_choice
from c2c.fuser.stack import FuserStack
from c2c.fusion.batch import collate_chats
from c2c.generation.decoding import check_options
from c2c.models.loading import LoadedModel, check_device, load_model
from c2c.models.pair import Pair
from c2c.rosetta import RosettaModel
from c2c.types import DTYPES, TOKEN_ALIGNMENTS

Conversation = str | Sequence[Message]
"""Messages with ``role`` and ``content``, or the text of one user's message."""

SEVERAL = "Build a RosettaModel of several Sharers, and its batches with c2c.fusion.batch.collate_chats"


class ChatPipeline:
    """Answers conversations with fused caches; see `pipeline`.

    Args:
        pair: The Receiver and the Sharer with their tokenizers.
        model: The same two with their Fusers.
        alignment: Token alignment: ``span``, ``first``, ``longest``, or ``unaligned``: the Sharer reads the Receiver's
            tokens, template and all, as fusers that were released without alignment were trained.
        zeroed: The Sharer does not run; its cache is zeros, as the recipe `adapter` was trained.

    Raises:
        RefusedError: If the model has several Sharers, the alignment is unknown, or the tokenizers do not give what it
            needs.
    """

    def __init__(self, pair: Pair, model: RosettaModel, *, alignment: str = "span", zeroed: bool = False) -> None:
        if len(model.sharers) != 1:
            raise RefusedError("A chat pipeline must have exactly one Sharer", f"{len(model.sharers)} Sharers", SEVERAL)
        self.pair, self.model, self.zeroed = pair, model.eval(), zeroed
        check_choice("The alignment of a chat", alignment, TOKEN_ALIGNMENTS)
        self.aligner = pair.chat_aligner(alignment)

    def __call__(
        self,
        messages: Conversation | Sequence[Conversation],
        *,
        continue_final_message: bool = False,
        **options: Any,
    ) -> str | list[str]:
        """Answer one conversation, or several in one batch.

        Args:
            messages: Turns with ``role`` and ``content``, a text (one user's message), or a list of such conversations.
            continue_final_message: Continue the last message instead of answering it.
            **options: As `complete` takes them.

        Returns:
            The answer, or one a conversation: without special tokens, and ended before a stop string.

        Raises:
            RefusedError: If a tokenizer has no chat template (see `complete` for base models), or `messages` is no
                conversation.
        """
        conversations, several = _conversations(messages)
        chats = [
            self.aligner.align(conversation, continue_final_message=continue_final_message)
            for conversation in conversations
        ]
        texts = self._write(chats, **options)
        return texts if several else texts[0]

    def complete(self, text: str | Sequence[str], *, control_tokens: bool = False, **options: Any) -> str | list[str]:
        """Continue plain text, without a chat template; its whole prefix is fused. For base models.

        Args:
            text: A text, or a batch of them. Strings of control tokens in it are plain text; but where it begins with
                the Receiver's BOS, no other is added.
            control_tokens: Read such strings as control tokens: the text is a rendered conversation.
            **options: ``max_new_tokens`` (256), ``do_sample`` (False), ``stop`` (a string or several that end the
                text), ``streamer`` (of transformers, for one text), and ``temperature``, ``top_k``, ``top_p``,
                ``repetition_penalty`` and the like, as `RosettaModel.generate` takes them.

        Returns:
            The continuation of the text, or a list with one of each text.

        Raises:
            RefusedError: If a text has fewer than two tokens, or nothing that can be fused, or is no text.
        """
        prefixes = texts_of("A text to continue", text)
        prompts = [self.aligner.align_text(prefix, control_tokens=control_tokens) for prefix in prefixes]
        texts = self._write(prompts, **options)
        return texts[0] if isinstance(text, str) else texts

    def _write(self, prompts: Sequence[AlignedPrompt], **options: Any) -> list[str]:
        # Prompts of one batch, aligned with the Sharer's
        pads = self.pair.receiver.pad, self.pair.sharer.pad
        batch = collate_chats(prompts, *pads, self.zeroed, self.aligner.reencode)
        return write(self.model, self.pair.receiver, batch, **options)


def texts_of(what: str, value: Any) -> list[str]:
    """`value` as a list of texts.

    Raises:
        RefusedError: If it is neither a text nor a list of them.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise RefusedError(f"{what} must be a text or a list of texts", value, "Pass a string, or several in a list")
    return list(texts)


Model = LoadedModel | tuple[PreTrainedModel, PreTrainedTokenizerBase] | str | Path


def pipeline(
    receiver: Model,
    sharer: Model,
    fuser: FuserStack | str | Path,
    *,
    alignment: str | None = None,
    dtype: str = "float32",
    device: str | torch.device | None = None,
    override: Sequence[str] = (),
) -> ChatPipeline:
    """Load a pair and its Fusers; what comes back is called with messages and returns text.

    Args:
        receiver: The model that answers: a folder, model manifest or hub id, or a model with its tokenizer, as a
            `LoadedModel` or as ``(model, tokenizer)``.
        sharer: The model whose cache is fused, likewise.
        fuser: A folder or hub id with the pair's Fusers, in the own or the released layout, or the Fusers themselves.
        alignment: Token alignment; if None, what the Fusers were trained with, or ``span`` where nothing says it.
            The recipe of released fusers names it.
        dtype: Of models that are loaded here, such as ``bfloat16``.
        device: Where both models run; they stay where they are if None.
        override: Lines of the Fusers' contract that may differ, by name; see `c2c.models.contract.check_contract`.

    Raises:
        RefusedError: If something is not found, is of another kind, the Fusers were made for other models, there are
            several Sharers, or no such device.
    """
    # Refuse before any model is loaded
    check_choice("The precision of models", dtype, DTYPES)
    if device is not None:
        device = check_device(device)
    for what, value in (("Sharer", sharer), ("folder of Fusers", fuser)):
        if isinstance(value, list):
            raise RefusedError(f"A chat pipeline must have exactly one {what}", f"a list of {len(value)}", SEVERAL)
    for role, source in (("receiver", receiver), ("sharer", sharer)):
        check_model(role, source)
    if not isinstance(fuser, (FuserStack, str, Path)):
        raise RefusedError(
            "fuser must be a folder, a hub id or a FuserStack, with Fusers for all layers",
            type(fuser).__name__,
            "Load them by name, or build them with FuserStack.between and link a Fuser to each layer",
        )
    # A pair of one model loads it once
    same = sharer is receiver or (isinstance(sharer, (str, Path)) and str(sharer) == str(receiver))
    answering = open_model(receiver, dtype, device)
    pair = Pair(answering, answering if same else open_model(sharer, dtype, device))
    model, alignment_of_fusers, zeroed = _model(fuser, pair, override)
    return ChatPipeline(pair, model, alignment=alignment or alignment_of_fusers, zeroed=zeroed)


def check_model(role: str, source: Any) -> None:
    """Refuse what is neither the place of a model nor a model with its tokenizer.

    Raises:
        RefusedError: With the kind of `source`.
    """
    parts = source if isinstance(source, tuple) and len(source) == 2 else ()
    kinds = zip(parts, (PreTrainedModel, PreTrainedTokenizerBase), strict=False)
    if isinstance(source, (LoadedModel, str, Path)) or (parts and all(isinstance(*part) for part in kinds)):
        return
    raise RefusedError(
        f"The {role} must be a folder, a manifest, a hub id, or a model with its tokenizer",
        type(source).__name__,
        "Pass LoadedModel(name, model, tokenizer) or (model, tokenizer)",
    )


def open_model(source: Model, dtype: str, device: str | torch.device | None) -> LoadedModel:
    """A model with its tokenizer, loaded where `source` is a place; moved to `device` unless that is None."""
    if isinstance(source, tuple):
        loaded = LoadedModel(str(source[0].name_or_path or type(source[0]).__name__), *source)
    else:
        loaded = source if isinstance(source, LoadedModel) else load_model(source, dtype)
    if device is not None:
        loaded.model.to(device)  # type: ignore[arg-type]
    return loaded


def _model(fuser: FuserStack | str | Path, pair: Pair, override: Sequence[str]) -> tuple[RosettaModel, str, bool]:
    """The pair with its Fusers; the alignment that they were trained with; whether the Sharer's cache was zeros."""
    receiver = pair.receiver.model
    if isinstance(fuser, FuserStack):
        # Moved in place: the stack that was passed is the one that is used.
        fuser.to(receiver.device, receiver.dtype)
        return RosettaModel.of_stacks(receiver, [pair.sharer.model], [fuser]), "span", False
    fusers = load_pair_fusers(pair, fuser, override)
    return RosettaModel.of_components(fusers.components), fusers.alignment, fusers.zeroed


def _conversations(value: Any) -> tuple[list[Sequence[Message]], bool]:
    """The conversations of a text, a list of messages or a list of either, and whether `value` is such a list."""
    if isinstance(value, str):
        return [[{"role": "user", "content": value}]], False
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise RefusedError("A conversation must be a text or a list of messages", value, "Put a message into a list")
    if not value:
        raise RefusedError("There must be at least one message", list(value), "Pass a user's message")
    # A list with a message in it is one conversation, whatever else it holds.
    if any(isinstance(item, Mapping) for item in value):
        return [value], False
    conversations = [_conversations(item) for item in value]
    if any(several for _, several in conversations):
        raise RefusedError(
            "A list must hold conversations, each of them a text or a list of messages",
            value,
            "Pass one list of them; a message is a mapping with role and content",
        )
    return [conversation for (conversation,), _ in conversations], True


def converse(
    pipe: ChatPipeline, lines: Iterable[str], *, say: Callable[[str], object] = warnings.warn, **options: Any
) -> list[dict[str, str]]:
    """Answer line by line in one conversation; blank lines are passed over, and so is, with a word, what is refused.

    Of an answer the conversation keeps what the chat templates show of it later: most leave out its reasoning. Where it
    outgrows the models' positions, its oldest turns are left out, and a line that is too long alone is not answered.

    Args:
        pipe: Answers.
        lines: What the user says.
        say: Called with one line for each message that was left out or refused.
        **options: As `ChatPipeline.complete` takes them; a streamer shows the answers.

    Returns:
        The messages that are still in the conversation.

    Raises:
        RefusedError: If no line could be answered: a tokenizer has no chat template, or an option is wrong.
        ModelFaultError: If a model is of no use.
    """
    check_ready(pipe, options)
    messages: list[dict[str, str]] = []
    for line in lines:
        if line.strip():
            messages = answer_turn(pipe, [*messages, {"role": "user", "content": line.strip()}], say, options)
    return messages


def check_ready(pipe: Any, options: Mapping[str, Any]) -> None:
    """Refuse at once what every line would be refused for."""
    for template in pipe.aligner.templates:
        template.render([{"role": "user", "content": "hello"}])
    check_options(1, options.get("max_new_tokens", 1), bool(options.get("do_sample")), {})


def answer_turn(
    pipe: Any, messages: list[dict[str, str]], say: Callable[[str], object], options: Mapping[str, Any]
) -> list[dict[str, str]]:
    """The messages with an answer, without turns for which there is no room; without the last if it is refused."""
    dropped, turns = 0, messages
    while turns:
        try:
            answer = str(pipe(turns, **options))
        except ModelFaultError:
            raise
        except RefusedError as refusal:
            # The oldest question and its answer are left out, until the rest fits or only the new line remains.
            if isinstance(refusal, NoRoomError) and len(turns) > 1:
                dropped, turns = dropped + 2, turns[2:]
                continue
            say(f"This line is not answered. {' '.join(str(refusal).splitlines())}")
            return messages[:-1]
        if dropped:
            say(f"The conversation has no room for more; its {dropped} oldest messages are left out from here on.")
        break
    try:
        return [*turns, {"role": "assistant", "content": _remembered(pipe, turns, answer)}]
    except RefusedError as refusal:
        say(f"This line and its answer are not remembered. {' '.join(str(refusal).splitlines())}")
        return turns[:-1]


def _remembered(pipe: Any, messages: Sequence[Message], answer: str) -> str:
    """What all templates show of an answer once another message follows."""
    for template in pipe.aligner.templates:
        conversation = [*messages, {"role": "assistant", "content": answer}, {"role": "user", "content": "?"}]
        answer = template.displayed_content(conversation, len(messages))
    return answer


def lines_of(stream: Any, ready: Callable[[], object] = lambda: None) -> Iterator[str]:
    """The lines that a person or a program writes; Ctrl-C ends them as the end of the input does.

    Args:
        stream: Of text or bytes.
        ready: Called before each line is waited for.

    Raises:
        RefusedError: If a line is not UTF-8.
    """
    # A stream of text decodes more than a line at a time, and says nothing of the place.
    source = getattr(stream, "buffer", stream)
    for number in count(1):
        # A line, or the end of the input
        try:
            ready()
            line = source.readline()
        except KeyboardInterrupt:
            return
        if not line:
            return
        try:
            text = line if isinstance(line, str) else line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RefusedError(
                "Input lines must be UTF-8", f"line {number}: {line[:80]!r}", "Set the terminal, or convert the file"
            ) from error
        yield text
