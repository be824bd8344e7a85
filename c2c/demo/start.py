"""From the flags of ``c2c demo`` to a page that is served."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from c2c.agents.chat_pipeline import pipeline
from c2c.alignment.template import ChatTemplate
from c2c.demo.page import load_gradio, serve
from c2c.demo.pair_of_results import PairPlaces, pair_of_results
from c2c.demo.questions import file_questions, package_questions
from c2c.demo.request import PageRequest
from c2c.demo.session import PageSession
from c2c.errors import RefusedError


@dataclass(kw_only=True)
class DemoRun:
    """What one call of ``c2c demo`` serves; the fields are its flags.

    Args:
        receiver: Folder, model manifest or hub id.
        sharer: The same of the Sharer.
        fuser: Folder or hub id of the Fusers.
        results: Instead of the three: folder of a finished run of the workflow.
        pair: Id of the pair of `results`; its first one if None.
        questions: File of example questions; those of the results or of the package if None.
        tasks: Folder of task files, one of which is of `questions`.
        prompts: ``plain`` or ``chat``; if None, ``chat`` where both models have a chat template.
        alignment: Token alignment; that of the Fusers' training if None.
        dtype: Precision of the models.
        device: Where they run; the CPU if None.
        accept_difference: Lines of the Fusers' contract that may differ.
        question: Asked at once; None leaves the page empty.
        private: As in `PageRequest`, and so are the others.

    Raises:
        RefusedError: If no pair is named, or one is named twice.
    """

    receiver: str | None = None
    sharer: str | None = None
    fuser: str | None = None
    results: Path | None = None
    pair: str | None = None
    questions: Path | None = None
    tasks: Path | None = None
    prompts: str | None = None
    alignment: str | None = None
    dtype: str = "float32"
    device: str | None = None
    accept_difference: tuple[str, ...] | list[str] = ()
    question: str | None = None
    private: str = ""
    donor: str = ""
    donor_private: str = ""
    max_new_tokens: int | None = None
    closed_layers: tuple[int, ...] | list[int] = ()
    controls: tuple[str, ...] | list[str] = ()

    def __post_init__(self) -> None:
        names = ("receiver", "sharer", "fuser")
        absent = [f"--{name}" for name in names if not getattr(self, name)]
        if self.results is None and absent:
            raise RefusedError(
                "The live page must have a pair",
                f"no {', '.join(absent)}",
                "Name all three, or a finished run with --results (make smoke makes one in results/smoke)",
            )
        if self.results is not None and len(absent) < len(names):
            raise RefusedError(
                "The pair of the live page must be named once",
                f"--results {self.results} and {', '.join(f'--{n}' for n in names if getattr(self, n))}",
                "Leave out one of them",
            )
        if self.pair is not None and self.results is None:
            raise RefusedError("--pair must be one of a run's pairs", self.pair, "Add --results")

    @property
    def places(self) -> PairPlaces:
        """Where the models, the Fusers and the questions are."""
        if self.results is not None:
            return pair_of_results(self.results, self.pair)
        return PairPlaces(str(self.receiver), str(self.sharer), str(self.fuser))

    @property
    def pair_flags(self) -> list[str]:
        """The flags that name the pair and how it is loaded, for the command that the page shows."""
        flags = []
        for name in ("receiver", "sharer", "fuser", "results", "pair", "questions", "tasks", "prompts", "alignment"):
            flags += [f"--{name}", str(getattr(self, name))] if getattr(self, name) else []
        flags += ["--device", self.device] if self.device else []
        flags += ["--dtype", self.dtype] if self.dtype != "float32" else []
        return [*flags, *(["--accept-difference", *self.accept_difference] if self.accept_difference else [])]

    @cached_property
    def page_session(self) -> PageSession:
        """The loaded pair, which answers."""
        # Questions that do not fit are refused before models are loaded
        places = self.places
        path, tasks = self.questions or places.questions, self.tasks if self.questions else places.tasks
        if path is not None:
            file_questions(path, tasks, chat=False)
        pipe = pipeline(
            places.receiver,
            places.sharer,
            places.fuser,
            alignment=self.alignment,
            dtype=self.dtype,
            device=self.device,
            override=self.accept_difference,
        )
        models = (pipe.pair.receiver, pipe.pair.sharer)
        chat = self.prompts == "chat"
        if self.prompts is None:
            # The questions of a run of the workflow are plain where its pair was asked in plain prompts
            chat = tasks is None and all(ChatTemplate(loaded.tokenizer).source for loaded in models)
        questions = package_questions(chat=chat) if path is None else file_questions(path, tasks, chat=chat)
        return PageSession(pipe, questions, chat=chat)

    def request(self, max_new_tokens: int) -> PageRequest | None:
        """What is asked at once, or None.

        Args:
            max_new_tokens: Where the flags name no length.
        """
        if self.question is None:
            return None
        return PageRequest(
            self.question,
            self.private,
            self.donor,
            self.donor_private,
            max_new_tokens if self.max_new_tokens is None else self.max_new_tokens,
            tuple(self.closed_layers),
            tuple(self.controls),
        )


def start(run: DemoRun, host: str, port: int | None) -> None:
    """Serve the page of a run until Ctrl-C, and print its address.

    Args:
        run: What is served.
        host: Address to listen on.
        port: If None, the first free one from 7860 on.
    """
    load_gradio()
    session = run.page_session
    request = run.request(session.questions.max_new_tokens)
    page = serve(session, run.pair_flags, host=host, port=port)
    query = "" if request is None else f"?{request.query()}"
    print(f"c2c demo: open {page.url}{query} (Ctrl-C ends it)", file=sys.stderr, flush=True)
    try:
        page.wait()
    finally:
        page.close()
