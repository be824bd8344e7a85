"""The page in a real Chromium: what a person does and sees, with no error and no request to another machine."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from c2c.demo.page import serve
from c2c.demo.request import PageRequest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("gradio", reason="gradio is not installed: the extra demo")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PATIENCE = 240_000
"""Milliseconds: a loaded machine takes long to show a page."""
EVIL = "<b>red</b> ${1+1} {{value}}"


@pytest.fixture(scope="module")
def url(session) -> Iterator[str]:
    """The address of a served page; at its end the server has connected to no other machine."""
    connect, addresses = socket.socket.connect, []

    def recorded_connect(self, address):
        addresses.append(address)
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", recorded_connect)
        page = serve(session, ["--results", "results/smoke"])
        yield page.url
        page.close()
    # Addresses of the machine's own sockets are no pairs
    assert {address[0] for address in addresses if isinstance(address, tuple)} <= {"127.0.0.1", "::1"}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A new tab; at its end there was no error, and all that it requested came from this machine."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    playwright.expect.set_options(timeout=PATIENCE)
    errors, hosts = [], set()
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.on("websocket", lambda socket: hosts.add(urlsplit(socket.url).hostname))
    yield page
    page.close()
    assert errors == []
    # Pictures that are part of the page have no host
    assert hosts - {None} == {"127.0.0.1"}


def column(page, method):
    return page.locator(f"#column-{method} .c2c-card")


def bars(page, method) -> str:
    return column(page, method).locator(".c2c-bars").inner_text()


def value(page, name):
    return page.locator(f"#{name} :is(textarea, input)").first


def test_a_person_asks_swaps_the_message_closes_a_layer_and_comes_back_by_the_link(url, page) -> None:
    expect = playwright.expect
    # 1. The first example is there; ask it
    page.goto(url)
    expect(value(page, "question")).to_have_value("what is the zorvex color")
    page.locator("#ask").click()
    for method in ("receiver", "t2t", "c2c", "c2c_deranged"):
        expect(column(page, method).locator(".c2c-bars tr")).to_have_count(5)
        expect(column(page, method).locator(".c2c-answer")).not_to_be_empty()
    expect(page.locator("#notice")).to_have_text("Gold answer: red")
    expect(value(page, "link")).to_have_value(re.compile("question="))
    # 2. Swap the wrong message: its column changes, that of the right message does not
    answer, likeliest, right = (
        column(page, "c2c_deranged").locator(".c2c-answer").inner_text(),
        bars(page, "c2c_deranged"),
        bars(page, "c2c"),
    )
    donor = value(page, "donor").input_value()
    page.locator("#swap").click()
    expect(value(page, "donor")).not_to_have_value(donor)
    expect(column(page, "c2c_deranged").locator(".c2c-answer")).not_to_have_text(answer)
    assert bars(page, "c2c_deranged") != likeliest
    assert bars(page, "c2c") == right
    # 3. Close a layer: the columns with Fusers change, that of the Receiver does not
    alone, wrong = bars(page, "receiver"), column(page, "c2c_deranged").locator(".c2c-bars")
    before = wrong.inner_text()
    page.locator("#heat [data-layer='2']").first.click()
    expect(page.locator("#heat [data-layer='2']").first).to_have_attribute("aria-pressed", "true")
    expect(wrong).not_to_have_text(before, use_inner_text=True)
    expect(value(page, "link")).to_have_value(re.compile("closed_layers=2"))
    assert bars(page, "c2c") != right
    assert bars(page, "receiver") == alone
    # 4. The link opens the same page, and the command names the same request
    link, command = value(page, "link").input_value(), value(page, "command").input_value()
    assert page.url == link
    query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    assert PageRequest.of_query(query, 1).command(["--results", "results/smoke"]) == command
    numbers = {method: bars(page, method) for method in ("receiver", "t2t", "c2c", "c2c_deranged")}
    page.goto(link)
    expect(column(page, "c2c_deranged").locator(".c2c-bars tr")).to_have_count(5)
    assert {method: bars(page, method) for method in numbers} == numbers
    expect(page.locator("#heat [data-layer='2']").first).to_have_attribute("aria-pressed", "true")


def test_controls_on_demand_are_columns_and_texts_are_shown_as_they_are(url, page) -> None:
    expect = playwright.expect
    request = PageRequest("what is the zorvex color", EVIL, max_new_tokens=2, controls=("zeroed", "random"))
    page.goto(f"{url}?{request.query()}")
    for method in ("c2c_zeroed", "c2c_random"):
        expect(column(page, method).locator(".c2c-bars tr")).to_have_count(5)
    assert EVIL in column(page, "c2c").locator(".c2c-message dd").inner_text()
    assert column(page, "c2c").locator(".c2c-message dd b").count() == 0
    page.locator("#controls input").first.uncheck()
    expect(column(page, "c2c_zeroed")).to_have_count(0)
    expect(value(page, "link")).to_have_value(re.compile("controls=random$"))


def test_a_control_that_is_chosen_before_the_question_is_asked_waits_for_it(url, page) -> None:
    page.goto(url)
    playwright.expect(value(page, "question")).not_to_be_empty()
    page.locator("#controls input").first.check()
    playwright.expect(column(page, "c2c_zeroed")).to_be_visible()
    assert column(page, "c2c_zeroed").locator(".c2c-bars").count() == 0
    page.locator("#ask").click()
    playwright.expect(column(page, "c2c_zeroed").locator(".c2c-bars tr")).to_have_count(5)


def test_what_is_refused_is_said_on_the_page(url, page) -> None:
    page.goto(f"{url}?question=what&max_new_tokens=0")
    playwright.expect(page.locator("#notice")).to_contain_text("The longest answer must have 1 to 1024 tokens")


def test_the_page_names_no_other_machine_for_fonts_and_scripts(url, page) -> None:
    page.goto(url)
    playwright.expect(value(page, "question")).not_to_be_empty()
    sources = page.evaluate(
        "JSON.stringify([...document.querySelectorAll('script[src], link[rel=stylesheet], link[rel=preconnect]')]"
        ".map((element) => element.src || element.href))"
    )
    assert {urlsplit(source).hostname for source in json.loads(sources)} <= {"127.0.0.1"}
