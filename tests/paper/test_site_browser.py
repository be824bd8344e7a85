"""The results site in a real browser, from the file system: from a claim to a question, filters, links, CSV, speed."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paper.site.__main__ import write_site
from tests.paper.builder import Bench, Run
from tests.paper.site_builder import add_testbed, make_folder

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PATIENCE = 120_000
"""Milliseconds; a busy machine is slow to start a browser."""
FREEZE = 0.2
"""Seconds of the page's own thread that a filter or a scroll may take."""
LARGE = (
    Run("gap_a"),
    *(Run("gap_a", recipe, "span", seed) for recipe in ("c2c", "adapter") for seed in (0, 1)),
)
LARGE_BENCH = Bench(("knowledge_gap_choice",), questions=4200)
"""Twelve answers a question: 50,400."""
CELL = "#/cell/smoke/gap_a/knowledge_gap_choice"
LIST = ".window[aria-label=Answers]"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[[str], Any]]:
    """Opens an address; at the end nothing may have been written to the console as an error, nor asked of a network."""
    errors: list[str] = []
    context = browser.new_context(accept_downloads=True, viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(PATIENCE)
    context.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else errors.append(request.url),
    )

    def visit(address: str) -> Any:
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        settle(page)
        return page

    yield visit
    context.close()
    assert errors == []


def settle(page: Any) -> None:
    """Wait until a page is drawn."""
    page.wait_for_selector("#main:not([aria-busy]) h1")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("small")
    add_testbed(make_folder(folder / "results/smoke"))
    return write_site([str(folder / "results/smoke")], folder / "site").as_uri()


@pytest.fixture(scope="module")
def large_site(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("large")
    make_folder(folder / "results/smoke", LARGE, LARGE_BENCH, has_claims=False)
    return write_site([str(folder / "results/smoke")], folder / "site").as_uri()


def selected(page: Any) -> int:
    """How many rows the list has, as the line above it says."""
    number = int(page.locator(".count").inner_text().split()[0].replace(",", ""))
    first = page.locator(f"{LIST} [role=listitem]").first
    assert number == 0 or int(first.get_attribute("aria-setsize")) == number
    return number


def test_a_claim_leads_to_its_cell_its_discordant_questions_and_one_question(site: str, open_page: Callable) -> None:
    page = open_page(site)
    page.get_by_role("link", name="C2C answers more questions correctly than the Receiver alone.").click()
    page.wait_for_selector("text=c2c claims show c2c_above_receiver")
    assert page.locator("h2 .badge").inner_text() == "supported"
    page.get_by_role("link", name="Pair A, four-way choice").click()
    page.wait_for_selector(LIST)
    # Each box of the 2×2 table, counted in Python, selects as many rows.
    for box in ("11", "10", "01", "00"):
        button = page.locator(f"[data-box='{box}']")
        count = int(button.inner_text())
        button.click()
        assert selected(page) == count
    page.locator("[data-box='00']").click()
    assert selected(page) == 48
    page.locator("[data-box='10']").click()
    page.locator(f"{LIST} a").first.click()
    page.wait_for_selector("text=Answers of each arm")
    body = page.locator("#main").inner_text()
    assert "What is the value of number" in body and "A secret of number" in body and "It must be" in body
    assert "Whose question the Sharer read instead" in body and "−1.00" in body and "−3.00" in body
    # The next question of the selection, by its key.
    title = page.locator("h1").inner_text()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("title => document.querySelector('h1').textContent !== title", arg=title)
    settle(page)


def test_a_channel_of_the_test_bed_leads_to_an_item_with_its_texts(site: str, open_page: Callable) -> None:
    page = open_page(site + "#/testbed")
    page.get_by_role("link", name="Ridge").first.click()
    page.wait_for_selector(LIST)
    chip = page.locator(".chip", has_text="right only with the right message")
    count = int(chip.locator("b").inner_text())
    chip.click()
    assert selected(page) == count > 0
    page.locator(f"{LIST} a").first.click()
    page.wait_for_selector("text=Answers of each arm")
    body = page.locator("#main").inner_text()
    assert "Ada's word is unknown." in body and "Whose question the Sharer read instead" in body
    assert page.locator("nav [aria-current]").inner_text() == "Test bed"


def test_filters_by_outcome_select_as_many_rows_as_python_counted(site: str, open_page: Callable) -> None:
    page = open_page(site + CELL)
    total = 0
    for title in ("right only with the right message", "right with any message", "harmed"):
        chip = page.locator(".chip", has_text=title)
        count = int(chip.locator("b").inner_text())
        chip.click()
        assert selected(page) == count
        total += count
        page.locator(".chip", has_text=title).click()
    assert 0 < total < selected(page) == 48
    page.get_by_label("Training seed").select_option("1")
    assert selected(page) == 24
    # The head of a column: right ones, wrong ones, any.
    head = page.locator("[data-arm=c2c]")
    head.click()
    right = selected(page)
    page.locator("[data-arm=c2c]").click()
    assert right + selected(page) == 24


def test_a_search_and_its_link_show_the_same_questions_to_another_reader(site: str, open_page: Callable) -> None:
    page = open_page(site + CELL)
    page.keyboard.press("/")
    page.keyboard.type("q007")
    page.wait_for_function("document.querySelector('.count').textContent.startsWith('2 ')")
    assert page.locator(f"{LIST} a").first.inner_text() == "q007"
    page.get_by_label("Training seed").select_option("0")
    assert selected(page) == 1
    other = open_page(page.url)
    assert selected(other) == 1 and other.get_by_label("Search questions").input_value() == "q007"
    other.locator(f"{LIST} a").first.click()
    other.wait_for_selector("text=Answers of each arm")
    assert open_page(other.url).locator("h1").inner_text() == "q007"


def test_a_selection_is_downloaded_as_csv(site: str, open_page: Callable, tmp_path: Path) -> None:
    page = open_page(site + CELL + "?marks=c2c:1,receiver:0")
    with page.expect_download() as download:
        page.locator("[data-act=csv]").click()
    download.value.save_as(tmp_path / "selection.csv")
    with (tmp_path / "selection.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == selected(page) > 0
    assert {(row["c2c"], row["receiver"]) for row in rows} == {("1", "0")}
    assert {row["scale"] for row in rows} == {"smoke"} and rows[0]["text"].startswith("A secret of number")
    assert rows[0]["outcome"] in ("right_message", "any_message") and rows[0]["page"].startswith("#/question/smoke/")


def test_every_kind_of_page_opens_at_both_widths_without_scrolling_sideways(site: str, open_page: Callable) -> None:
    question = "#/question/smoke/gap_a/knowledge_gap_choice/q001"
    for address in (
        "#/",
        "#/claim/c2c_above_receiver",
        "#/cells/smoke",
        "#/paper",
        "#/tables/smoke",
        "#/tables/smoke/gains",
        "#/testbed",
        CELL,
        question,
    ):
        page = open_page(site + address)
        text = page.locator("#main").inner_text()
        assert "cannot be shown" not in text and "[object" not in text and "undefined" not in text
        for width in (1400, 420):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        page.close()


def test_an_address_of_nothing_is_a_sentence(site: str, open_page: Callable) -> None:
    assert "There is no claim nothing" in open_page(site + "#/claim/nothing").locator("#main").inner_text()
    assert "There is no page" in open_page(site + "#/constructor").locator("#main").inner_text()


def test_arrow_keys_move_in_the_list_and_enter_opens(site: str, open_page: Callable) -> None:
    page = open_page(site + CELL + "?seed=0")
    page.locator(LIST).focus()
    for key in ("ArrowDown", "ArrowDown", "End", "Home", "ArrowDown"):
        page.keyboard.press(key)
    assert page.locator(f"{LIST} .current a").inner_text() == "q001"
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Answers of each arm")
    assert page.locator("h1").inner_text() == "q001"


def test_fifty_thousand_answers_are_filtered_and_scrolled_without_a_freeze(
    large_site: str, open_page: Callable
) -> None:
    page = open_page(large_site + CELL)
    assert selected(page) == 8400
    session = page.context.new_cdp_session(page)
    # Seconds of the page's thread, so that other processes of the machine do not count.
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy() -> float:
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

    def seconds(act: Callable[[], Any]) -> float:
        start = busy()
        act()
        return busy() - start

    def type_words() -> None:
        page.get_by_label("Search questions").fill("value of number 41")
        page.wait_for_function("!document.querySelector('.count').textContent.startsWith('8,400 ')")

    def scroll(share: float) -> Callable[[], Any]:
        script = "(node, share) => { node.scrollTop = share * node.scrollHeight; }"
        return lambda: page.locator(LIST).evaluate(script, share)

    scrolls = [seconds(scroll(share)) for share in (0.1, 0.5, 0.9, 0.3)]
    rows = page.locator(f"{LIST} [role=listitem]")
    assert rows.count() < 60, "only the rows in view are elements"
    assert int(rows.first.get_attribute("aria-posinset")) > 2000
    filters = [
        seconds(page.locator("[data-outcome=right_message]").click),
        seconds(page.locator("[data-outcome=right_message]").click),
        seconds(page.locator("[data-box='10']").click),
        seconds(page.locator("[data-box='10']").click),
        seconds(type_words),
        seconds(lambda: page.get_by_label("Training seed").select_option("1")),
    ]
    assert 0 < selected(page) < 200
    assert max(scrolls) < FREEZE and max(filters) < FREEZE, {"scrolls": scrolls, "filters": filters}
    # One question loads the file of its answers alone.
    page.locator(f"{LIST} a").first.click()
    page.wait_for_selector("text=Answers of each arm")
    scripts = page.evaluate("[...document.querySelectorAll('head script')].map((node) => node.src)")
    assert len(scripts) == 3
