"""The live page in gradio; the models' part is `c2c.demo.session`. Nothing is fetched from, or sent to, a network."""

from __future__ import annotations

import html
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

from c2c.demo.cards import TITLES, card, heat_map_table
from c2c.demo.questions import ExampleQuestion
from c2c.demo.request import CONTROLS, METHODS_OF_PAGE, MOST_TOKENS, PageRequest
from c2c.demo.session import ColumnAnswer, PageSession
from c2c.errors import RefusedError

STYLES = Path(__file__).with_name("page.css")
COLUMNS = (*METHODS_OF_PAGE, *(f"c2c_{name}" for name in CONTROLS))
LONGEST_CHOICE = 100
"""Characters of an example in the list."""
CLICK_ON_LAYER = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-layer]');
  if (button) trigger('click', {layer: Number(button.dataset.layer)});
});
"""
SHOW_LINK = """
(query) => {
  const link = window.location.origin + window.location.pathname + (query ? '?' + query : '');
  window.history.replaceState(null, '', link);
  return link;
}
"""
"""Puts a query into the address, and returns the whole link."""


FIRST_PORT, MOST_PORTS = 7860, 100
"""Ports that are tried, from the first on, where none is named."""
LARGEST_PORT = 65535


class PageServer:
    """A server of the page in a thread of its own; it listens once it is built.

    Args:
        app: An ASGI application.
        listener: Where it listens.

    Attributes:
        url: The address of the page, without a query.
    """

    def __init__(self, app: Any, listener: socket.socket) -> None:
        import uvicorn

        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        self._thread = Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)

    def wait(self) -> None:
        """Wait until the server ends; Ctrl-C gets through."""
        while self._thread.is_alive():
            self._thread.join(1.0)

    def close(self) -> None:
        """End the server."""
        self._server.should_exit = True
        self._thread.join()


def load_gradio() -> Any:
    """The module gradio.

    Raises:
        RefusedError: If it is not installed.
    """
    try:
        import gradio
    except ModuleNotFoundError as error:
        raise RefusedError(
            "The live page must have gradio", f"no module {error.name}", 'Run pip install "cache-to-cache[demo]"'
        ) from error
    return gradio


def serve(
    session: PageSession, pair_flags: Sequence[str], *, host: str = "127.0.0.1", port: int | None = None
) -> PageServer:
    """Serve the page; returns when it listens.

    Args:
        session: Answers.
        pair_flags: Flags of ``c2c demo`` that name the pair, for the command that the page shows.
        host: Address that the server listens on. The page has no log-in.
        port: If None, the first free one from `FIRST_PORT` on.

    Raises:
        RefusedError: If gradio is not installed, or the port is not free.
    """
    gradio = load_gradio()
    # fastapi and uvicorn come with gradio. Its own launch would ask this page for an answer through the user's proxies.
    from fastapi import FastAPI

    listener = _listener(host, port)
    fonts = ["system-ui", "sans-serif"]
    app = gradio.mount_gradio_app(
        FastAPI(),
        build(session, pair_flags),
        path="/",
        server_name=host,
        server_port=listener.getsockname()[1],
        footer_links=[],
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=gradio.themes.Base(primary_hue="blue", font=fonts, font_mono=["ui-monospace", "monospace"]),
        css_paths=[STYLES],
    )
    return PageServer(app, listener)


def _listener(host: str, port: int | None) -> socket.socket:
    """A socket that listens.

    Raises:
        RefusedError: If the port, or each of those that are tried, is not free.
    """
    if port is not None and not 0 <= port <= LARGEST_PORT:
        raise RefusedError(f"A port must be a number from 0 to {LARGEST_PORT}", port, "Name another one with --port")
    ports = range(FIRST_PORT, FIRST_PORT + MOST_PORTS) if port is None else [port]
    for number in ports:
        try:
            return socket.create_server((host, number), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except socket.gaierror as error:
            raise RefusedError("The host of the page must be an address of this machine", host, str(error)) from error
        except OSError:
            continue
    raise RefusedError(
        "The page must have a free port", f"{host}, {ports[0]} to {ports[-1]}", "Name another one with --port"
    )


def build(session: PageSession, pair_flags: Sequence[str]) -> Any:
    """The page as gradio Blocks, without a server."""
    gr = load_gradio()
    page = Page(session, list(pair_flags))
    receiver, sharer = (html.escape(loaded.name) for loaded in (session.pipe.pair.receiver, session.pipe.pair.sharer))
    with gr.Blocks(title="Cache-to-Cache", analytics_enabled=False) as app:
        gr.HTML(
            '<div class="c2c-head"><h1>Cache-to-Cache</h1>'
            f"<p>Receiver <b>{receiver}</b>, Sharer <b>{sharer}</b></p></div>"
        )
        page.add_fields()
        page.add_answers()
        page.connect(app)
    return app


Update = dict[Any, Any]
"""New values by component, as gradio takes them."""


class Page:
    """The components of the page, and what happens when something is clicked.

    Args:
        session: Answers.
        pair_flags: As in `serve`.

    Attributes:
        fields: Components that a person fills, by name, in the order of the fields of a `PageRequest`.
        places: Components that show something, by name.
        buttons: Components that are clicked, by name.
    """

    def __init__(self, session: PageSession, pair_flags: list[str]) -> None:
        self.session, self.pair_flags = session, pair_flags
        self.gradio = load_gradio()
        self.fields: dict[str, Any] = {}
        self.places: dict[str, Any] = {}
        self.buttons: dict[str, Any] = {}

    def add_fields(self) -> None:
        """Add what a person fills in: the question and the wrong message, side by side."""
        gr, questions = self.gradio, self.session.questions
        reading = "as a user's message" if self.session.chat else "and continue it"
        choices = [(_choice(example), number) for number, example in enumerate(questions.examples)]
        with gr.Row():
            with gr.Column(min_width=300):
                self.buttons["example"] = gr.Dropdown(choices, value=None, label="Example", elem_id="example")
                question = gr.Textbox(label=f"Question: both models read it {reading}", lines=2, elem_id="question")
                private = gr.Textbox(label="Private: only the Sharer reads it", elem_id="private")
            with gr.Column(min_width=300):
                label = "Wrong message: the question that the Sharer reads instead"
                donor = gr.Textbox(label=label, lines=2, elem_id="donor")
                donor_private = gr.Textbox(label="Wrong message: its private text", elem_id="donor_private")
                with gr.Row():
                    limits: dict[str, Any] = {"minimum": 1, "maximum": MOST_TOKENS, "precision": 0, "min_width": 140}
                    label = "Longest answer, in tokens"
                    tokens = gr.Number(questions.max_new_tokens, label=label, elem_id="tokens", **limits)
                    label = "On demand: C2C with"
                    controls = gr.CheckboxGroup(list(CONTROLS), label=label, min_width=140, elem_id="controls")
        with gr.Row():
            self.buttons["ask"] = gr.Button("Ask", variant="primary", elem_id="ask", min_width=200)
            self.buttons["swap"] = gr.Button("Swap the wrong message", elem_id="swap", min_width=200)
        self.fields = {"question": question, "private": private, "donor": donor, "donor_private": donor_private}
        self.fields |= {"max_new_tokens": tokens, "closed_layers": gr.State(()), "controls": controls}

    def add_answers(self) -> None:
        """Add what is shown: a card for each column, the heat map, and how to come back to all this."""
        gr = self.gradio
        self.places["notice"] = gr.HTML(elem_id="notice")
        with gr.Row(equal_height=True, elem_classes="c2c-columns"):
            for name in COLUMNS:
                is_visible = name in METHODS_OF_PAGE
                with gr.Column(min_width=260, visible=is_visible) as column:
                    self.places[name] = gr.HTML(
                        _blank(name), elem_id=f"column-{name}", elem_classes="c2c-column", apply_default_css=False
                    )
                if not is_visible:
                    self.places[f"{name} column"] = column
        gr.Markdown(
            "### Gate × weight of C2C, by Receiver layer and token\n"
            "How much of the Sharer's projection each layer adds, the mean over heads. "
            "Click a layer to close it, or to open it again."
        )
        self.places["heat"] = gr.HTML(elem_id="heat", js_on_load=CLICK_ON_LAYER, apply_default_css=False)
        with gr.Row():
            options: dict[str, Any] = {"interactive": False, "buttons": ["copy"], "min_width": 300}
            self.buttons["link"] = gr.Textbox(label="Link to this page", elem_id="link", **options)
            self.places["command"] = gr.Textbox(label="Command that opens this page", elem_id="command", **options)
        # In the page, so that its value is there for SHOW_LINK
        self.places["query"] = gr.Textbox(visible="hidden", elem_id="query")

    def connect(self, app: Any) -> None:
        """Say what is done on each event; one at a time, since the columns share the models."""
        gr, buttons = self.gradio, self.buttons
        inputs, outputs = [*self.fields.values()], [*self.fields.values(), *self.places.values()]
        options: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private"}
        turns = {"concurrency_id": "models", "concurrency_limit": 1, **options}

        def close(event: Any, *values: Any) -> Iterator[Update]:
            yield from self.close(int(event.layer), *values)

        def open_link(request: Any) -> Iterator[Update]:
            yield from self.open_link(dict(request.query_params))

        # gradio passes the event and the request to arguments with these annotations
        close.__annotations__["event"], open_link.__annotations__["request"] = gr.EventData, gr.Request
        buttons["example"].input(self.choose, buttons["example"], outputs, **options)
        triggers = [buttons["ask"].click, self.fields["question"].submit, self.fields["private"].submit]
        events = [
            gr.on(triggers, self.ask, inputs, outputs, **turns),
            buttons["swap"].click(self.swap, inputs, outputs, **turns),
            self.fields["controls"].input(self.ask_controls, [*inputs, self.places["query"]], outputs, **turns),
            self.places["heat"].click(close, inputs, outputs, **turns),
            app.load(open_link, None, outputs, **turns),
        ]
        for event in events:
            event.then(None, self.places["query"], buttons["link"], js=SHOW_LINK, api_visibility="private")

    def choose(self, number: int | None) -> Update:
        """Fill in an example; the wrong message is chosen when it is asked."""
        if number is None:
            return {self.places["notice"]: ""}
        example = self.session.questions.examples[number]
        texts = {"question": example.prompt, "private": example.private, "donor": "", "donor_private": ""}
        return {**{self.fields[name]: text for name, text in texts.items()}, self.places["notice"]: _gold(example)}

    def ask(self, *values: Any) -> Iterator[Update]:
        """Answer by all columns."""
        yield from self._respond(values)

    def swap(self, *values: Any) -> Iterator[Update]:
        """Take the wrong message of the next example, and answer by that column."""
        yield from self._respond(values, ["c2c_deranged"], swaps=True)

    def ask_controls(self, *values: Any) -> Iterator[Update]:
        """Show or hide the columns on demand; once a question was asked, they answer it.

        Args:
            *values: Of the fields, then the query of what was asked.
        """
        *fields, query = values
        if query:
            yield from self._respond(fields, [f"c2c_{name}" for name in CONTROLS])
        else:
            yield self._visibility(dict(zip(self.fields, fields, strict=True))["controls"])

    def close(self, layer: int, *values: Any) -> Iterator[Update]:
        """Close a layer, or open it again; all columns with Fusers answer anew."""
        fields = dict(zip(self.fields, values, strict=True))
        fields["closed_layers"] = sorted({*fields["closed_layers"]} ^ {layer})
        yield from self._respond(list(fields.values()), [name for name in COLUMNS if name.startswith("c2c")])

    def open_link(self, query: dict[str, str]) -> Iterator[Update]:
        """Fill in and answer the question of a link; without one the first example is filled in."""
        try:
            request = PageRequest.of_query(query, self.session.questions.max_new_tokens)
        except RefusedError as refusal:
            yield {self.places["notice"]: _error(refusal)}
            return
        if request is None:
            yield self.choose(0)
            return
        yield from self._respond([getattr(request, name) for name in self.fields])

    def _respond(
        self, values: Sequence[Any], columns: Sequence[str] = COLUMNS, *, swaps: bool = False
    ) -> Iterator[Update]:
        """The fields of a request, then the answers of some columns as they come.

        Args:
            values: Of the fields.
            columns: Those that answer; the others stay as they are.
            swaps: Whether the wrong message is that of the next example.
        """
        fields = dict(zip(self.fields, values, strict=True))
        try:
            request = PageRequest(
                **{name: fields[name] or "" for name in ("question", "private", "donor", "donor_private")},
                max_new_tokens=int(fields["max_new_tokens"] or 0),
                closed_layers=tuple(fields["closed_layers"]),
                controls=tuple(fields["controls"]),
            )
            request = self.session.with_next_donor(request) if swaps else self.session.with_donor(request)
        except RefusedError as refusal:
            yield {self.places["notice"]: _error(refusal)}
            return
        yield self._request_update(request)
        for method in request.columns:
            if method in columns:
                yield self._answer_update(self.session.answer(request, method))

    def _request_update(self, request: PageRequest) -> Update:
        """The fields as they are asked, the gold answer, link and command, and which columns are there."""
        example = self.session.questions.example(request.question)
        return {
            **{component: getattr(request, name) for name, component in self.fields.items()},
            self.fields["controls"]: list(request.controls),
            self.places["notice"]: "" if example is None else _gold(example),
            self.places["query"]: request.query(),
            self.places["command"]: request.command(self.pair_flags),
            **self._visibility(request.controls),
        }

    def _visibility(self, controls: Sequence[str]) -> Update:
        """Which columns on demand are there."""
        return {self.places[f"c2c_{name} column"]: self.gradio.update(visible=name in controls) for name in CONTROLS}

    def _answer_update(self, answer: ColumnAnswer) -> Update:
        """The card of a column; the heat map is that of the right message."""
        update = {self.places[answer.method]: card(answer)}
        if answer.method == "c2c":
            update[self.places["heat"]] = heat_map_table(answer.heat_map)
        return update


def _blank(method: str) -> str:
    """A card before the first question."""
    title, hint = TITLES[method]
    return f'<article class="c2c-card c2c-{method}"><h3>{title}</h3><p class="c2c-hint">{hint}</p></article>'


def _error(refusal: RefusedError) -> str:
    return f'<p class="c2c-error">{html.escape(str(refusal))}</p>'


def _gold(example: ExampleQuestion) -> str:
    """The gold answer of an example, if it has one."""
    return f"Gold answer: <b>{html.escape(example.answer)}</b>" if example.answer else ""


def _choice(example: ExampleQuestion) -> str:
    """An example as the list shows it, in one line."""
    text = " ".join(f"{example.private} {example.prompt}".split())
    return text if len(text) <= LONGEST_CHOICE else f"{text[:LONGEST_CHOICE]}…"
