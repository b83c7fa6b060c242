"""The page of `docweave serve`, used as people use it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Error, Page, Request, Route, expect

from config.settings import Settings
from tests.browser.looking import PATIENCE
from tests.serving import new_key
from tests.serving_page import HOSTILE, indexed, page_at

VIEWS = {
    "#/?q=leave": ".hit",
    "#/?q=leave&where=year+%3E": "#where[aria-invalid]",
    "#/document/people/parental-leave.md?chunk=1": ".chunk.meant",
    "#/sources": "td",
    "#/map": ".point",
    "#/spending": "rect",
    "#/?q=leave&where=year+%3D+1": ".welcome p",
    "#/nowhere": ".problem",
}
"""What is there as soon as a view is."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return indexed(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def address(browser: Browser, settings: Settings) -> Iterator[str]:
    with page_at(settings) as address:
        yield f"{address}/"


class Watched:
    """What a browser asks for, and what goes wrong in it."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.requests: list[Request] = []
        self.faults: list[str] = []
        self._address = address
        context.set_default_timeout(PATIENCE)
        context.on("request", lambda one: self.requests.append(one))  # noqa: PLW0108 - it marks what it is given
        context.on("console", lambda said: self._said(said.type, said.text))
        context.on("weberror", lambda error: self.faults.append(str(error.error)))

    def _said(self, kind: str, text: str) -> None:
        if kind == "error" and "Failed to load resource" not in text:
            self.faults.append(text)

    def check(self) -> None:
        outside = [one.url for one in self.requests if not one.url.startswith(self._address)]
        assert outside == []
        assert self.faults == []


@pytest.fixture
def context(browser: Browser, address: str) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 860}, locale="en-GB")
    watched = Watched(context, address)
    yield context
    context.close()
    watched.check()


@pytest.fixture
def tab(context: BrowserContext) -> Page:
    return context.new_page()


def hits(tab: Page) -> Any:
    return tab.get_by_role("list", name="Hits").get_by_role("listitem")


def focused(tab: Page) -> str:
    return str(tab.evaluate("document.activeElement.textContent || document.activeElement.id"))


def test_hits_come_while_somebody_types_with_their_words_marked_and_why_they_rank(
    tab: Page, address: str
) -> None:
    tab.goto(address)
    expect(tab.get_by_text("7 documents in 3 sources")).to_be_visible()
    tab.keyboard.type("coming back from leave", delay=5)
    first = hits(tab).first
    expect(first.get_by_role("link")).to_have_text("Parental leave")
    expect(tab.get_by_role("status")).to_contain_text("hits for coming back from leave")
    assert first.locator("mark").all_text_contents() == ["Coming", "back"]
    why = first.locator("details")
    expect(why).to_contain_text("similarity")
    why.locator("summary").click()
    expect(why.locator("p")).to_contain_text("This one is no. 1 by meaning and no. 1 by words, which makes")
    expect(tab).to_have_url(f"{address}#/?q=coming+back+from+leave")
    expect(tab).to_have_title("coming back from leave – Docweave")
    # Beside it, the hit among the passages around it.
    pane = tab.get_by_role("region", name="The hit in its document")
    expect(pane.locator(".here")).to_contain_text("four fifths")
    expect(pane).to_contain_text("Say so fifteen weeks before")
    expect(pane).to_contain_text("After a stay in hospital")


def test_what_is_typed_over_is_called_off_and_not_shown(tab: Page, address: str) -> None:
    held: list[Route] = []
    failed: list[str] = []
    asked: list[str] = []

    def hold(route: Route) -> None:
        asked.append(str(route.request.post_data_json["question"]))
        if asked[-1] == "fern":
            held.append(route)
        else:
            route.continue_()

    tab.route("**/v1/search", hold)
    tab.on("requestfailed", lambda one: failed.append(str(one.post_data_json["question"])))
    tab.goto(address)
    box = tab.get_by_role("searchbox")
    with tab.expect_request("**/v1/search"):
        box.fill("fern")
    box.fill("")
    box.press_sequentially("parental leave", delay=5)
    expect(hits(tab).first).to_contain_text("Parental leave")
    assert failed == ["fern"]
    [one] = held
    one.abort()
    assert asked[-1] == "parental leave"
    assert len(asked) < 6


def test_filters_choose_the_mode_the_sources_and_what_must_hold(tab: Page, address: str) -> None:
    tab.goto(f"{address}#/?q=leave")
    expect(hits(tab).filter(has_text="Merger")).to_have_count(1)
    tab.get_by_role("radio", name="Words").check(force=True)
    expect(hits(tab).first).to_contain_text("BM25")
    expect(tab).to_have_url(f"{address}#/?q=leave&mode=text")
    tab.get_by_role("group", name="Sources").get_by_label("people").check(force=True)
    expect(hits(tab).filter(has_text="Merger")).to_have_count(0)
    tab.get_by_text("Filter", exact=True).click()
    where = tab.get_by_label("Where")
    where.fill("year >")
    expect(tab.get_by_text("a value must stand here")).to_be_visible()
    expect(where).to_have_attribute("aria-invalid", "true")
    where.fill("path ~ 'annual*'")
    expect(hits(tab).first).to_contain_text("Annual leave")
    expect(hits(tab).filter(has_text="Parental leave")).to_have_count(0)
    expect(where).not_to_have_attribute("aria-invalid", "true")
    there = hits(tab).count()
    tab.get_by_label("one passage of each document").check()
    expect(hits(tab)).to_have_count(1)
    assert there > 1
    address_of_it = tab.url
    tab.goto("about:blank")
    tab.goto(address_of_it)
    expect(hits(tab)).to_have_count(1)
    expect(tab.get_by_label("Where")).to_have_value("path ~ 'annual*'")
    expect(tab.get_by_role("radio", name="Words")).to_be_checked()
    expect(tab.get_by_role("group", name="Sources").get_by_label("people")).to_be_checked()


def test_everything_is_reached_by_keys(tab: Page, address: str) -> None:
    tab.goto(f"{address}#/?q=leave")
    expect(hits(tab).nth(2)).to_be_visible()
    tab.keyboard.press("ArrowDown")
    assert focused(tab) == hits(tab).nth(0).get_by_role("link").text_content()
    tab.keyboard.press("j")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("k")
    second = hits(tab).nth(1)
    expect(second).to_have_class("hit chosen")
    outline = second.get_by_role("link").evaluate("element => getComputedStyle(element).outlineStyle")
    assert outline == "solid"
    tab.keyboard.press("/")
    expect(tab.get_by_role("searchbox")).to_be_focused()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("j")
    title = focused(tab)
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("heading", level=1)).to_have_text(title)
    expect(tab.locator(".chunk.meant")).to_be_focused()
    tab.keyboard.press("k")
    tab.keyboard.press("j")
    tab.keyboard.press("Escape")
    expect(hits(tab).nth(1)).to_have_class("hit chosen")
    expect(hits(tab).nth(1).get_by_role("link")).to_be_focused()
    tab.keyboard.press("Escape")
    expect(tab.get_by_role("searchbox")).to_be_focused()


def test_an_address_leads_to_a_passage_and_back_leads_back(tab: Page, address: str) -> None:
    tab.goto(f"{address}#/document/people/parental-leave.md?chunk=1")
    meant = tab.locator(".chunk.meant")
    expect(meant).to_have_attribute("id", "chunk-1")
    expect(meant).to_be_in_viewport()
    tab.get_by_role("navigation", name="Headings").get_by_role("link", name="Exceptions").click()
    expect(meant).to_contain_text("hospital")
    tab.go_back()
    expect(meant).to_have_attribute("id", "chunk-1")
    tab.get_by_role("navigation", name="Pages").get_by_role("link", name="Sources").click()
    tab.get_by_role("link", name="Search in devices").click()
    tab.get_by_role("searchbox").fill("button")
    hits(tab).first.get_by_role("link").click()
    expect(tab.get_by_role("heading", level=1)).to_have_text("Fern")
    tab.go_back()
    expect(tab.get_by_role("searchbox")).to_have_value("button")
    tab.go_back()
    tab.go_back()
    expect(tab.get_by_role("heading", level=1)).to_have_text("Sources")
    tab.goto(f"{address}#/document/people/none.md")
    expect(tab.get_by_role("alert").filter(has_text="there is no such document")).to_be_visible()


def test_what_stands_in_a_document_is_text_and_nothing_else(tab: Page, address: str) -> None:
    tab.goto(f"{address}#/?q=hostile+text")
    expect(hits(tab).first).to_contain_text("<script>window.hacked")
    expect(tab.locator(".pane .passage")).to_contain_text(HOSTILE)
    hits(tab).first.get_by_role("link").click()
    expect(tab.locator(".passages")).to_contain_text(HOSTILE)
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("main img, main script, main iframe").count() == 0
    assert tab.locator("main svg").count() == 0


def test_no_text_could_become_html_were_it_tried(browser: Browser, address: str) -> None:
    tab = browser.new_page()
    tab.goto(address)
    with pytest.raises(Error, match="TrustedHTML"):
        tab.evaluate("document.body.innerHTML = '<b>bold</b>'")
    tab.close()


def test_links_out_of_the_page_lead_only_where_documents_may_be(tab: Page, address: str) -> None:
    tab.goto(address)
    safe = tab.evaluate(
        "async given => { const { safeUrl } = await import('/page/dom.js'); return given.map(safeUrl); }",
        ["https://a.example/x", "file:///a.md", "javascript:alert(1)", " JaVaScRiPt:alert(1)",
         "data:text/html,x", "vbscript:x", "blob:x", "/etc", "", None],
    )  # fmt: skip
    assert safe == ["https://a.example/x", *[None] * 9]
    link = str(
        tab.evaluate(
            "async () => (await import('/page/dom.js')).outLink('https://a.example/x', '<b>').outerHTML"
        )
    )
    assert 'rel="noopener noreferrer nofollow"' in link
    assert "&lt;b&gt;" in link


def test_a_key_is_asked_for_once_and_kept_in_this_tab(
    settings: Settings, context: BrowserContext, address: str
) -> None:
    keys = Path(settings.serve.keys)
    some = new_key(settings, "people", "staff")["Authorization"].removeprefix("Bearer ")
    try:
        tab = context.new_page()
        tab.goto(f"{address}#/?q=leave")
        asking = tab.get_by_role("dialog", name="This index needs a key")
        expect(asking).to_be_visible()
        tab.keyboard.press("Escape")
        expect(asking).to_be_visible()
        asking.get_by_label("Key").fill("dw_wrong")
        tab.keyboard.press("Enter")
        expect(asking.get_by_role("alert")).to_have_text("This key opens nothing here.")
        asking.get_by_label("Key").fill(f" {some} ")
        asking.get_by_role("button", name="Open").click()
        expect(asking).not_to_be_visible()
        expect(hits(tab).first).to_be_visible()
        expect(hits(tab).filter(has_text="Merger")).to_have_count(0)
        expect(tab.get_by_text("6 documents, ")).to_be_visible()
        tab.goto(f"{address}#/spending")
        expect(tab.get_by_text("This key sees only some of the documents")).to_be_visible()
        tab.goto(f"{address}#/sources")
        expect(tab.get_by_role("row")).to_have_count(3)
        expect(tab.get_by_role("main")).not_to_contain_text("false")
        tab.reload()
        expect(tab.get_by_role("row")).to_have_count(3)
        assert tab.evaluate("localStorage.getItem('docweave-key')") is None
        assert some not in tab.url
        other = context.new_page()
        other.goto(address)
        expect(other.get_by_role("dialog")).to_be_visible()
        tab.get_by_role("button", name="Forget key").click()
        expect(asking).to_be_visible()
    finally:
        keys.unlink()


def test_sources_tell_how_fresh_they_are_and_what_failed(tab: Page, address: str) -> None:
    tab.goto(f"{address}#/sources")
    row = tab.get_by_role("row").filter(has_text="devices")
    expect(row).to_contain_text("2 documents")
    failures = tab.get_by_role("region", name="Failures")
    expect(failures).to_contain_text("devices: 2 documents could not be read in the last run.")
    expect(failures).to_contain_text("devices: 1 removal waits for approval.")
    failures.get_by_text("Which, and why").click()
    expect(failures.get_by_role("link", name="a.pdf")).to_have_attribute("href", "https://example.com/a.pdf")
    expect(failures).to_contain_text(HOSTILE)
    expect(failures).to_contain_text("… and 1 more")
    expect(tab.get_by_role("link", name="Parental leave")).to_be_visible()


def test_spending_is_drawn_and_written_as_a_table(tab: Page, address: str) -> None:
    tab.goto(f"{address}#/spending")
    expect(tab.get_by_text("$0.88")).to_be_visible()
    plot = tab.get_by_role("img", name="US dollars by day")
    expect(plot.locator("rect")).to_have_count(3)
    tab.get_by_role("radio", name="Tokens").check(force=True)
    expect(tab.get_by_role("img", name="Tokens by day")).to_be_visible()
    tab.get_by_text("The same as a table").click()
    table = tab.get_by_role("region", name="Spending by day")
    expect(table.get_by_role("row")).to_have_count(4)
    expect(table).to_contain_text("$0.25")


def test_the_map_has_a_point_and_a_link_for_each_document(tab: Page, address: str) -> None:
    tab.goto(f"{address}#/map")
    points = tab.get_by_role("img", name="Map of 7 documents").locator("path")
    expect(points).to_have_count(7)
    tab.get_by_role("group", name="Sources that are shown").get_by_label("people").uncheck(force=True)
    expect(tab.locator("path.point:visible")).to_have_count(4)
    tab.get_by_text("The same as a list").click()
    expect(tab.locator(".list").get_by_role("link")).to_have_count(7)
    shown = tab.locator("path.point:visible").first
    shown.hover()
    name = tab.locator(".tip b").text_content() or ""
    shown.click()
    expect(tab.get_by_role("heading", level=1)).to_have_text(name)


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 360)])
def test_no_view_has_a_serious_fault_of_accessibility(
    browser: Browser, address: str, theme: Any, width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 740}, color_scheme=theme)
    watched = Watched(context, address)
    tab = context.new_page()
    tab.goto(address)
    faults = []
    tab.evaluate(Axe().axe_script)
    for path, there in VIEWS.items():
        tab.evaluate("path => { location.hash = path; }", path)
        expect(tab.locator(there).first).to_be_attached(timeout=PATIENCE)
        tab.locator("main details").evaluate_all("all => all.forEach(one => { one.open = true; })")
        found = tab.evaluate("async () => (await axe.run({resultTypes: ['violations']})).violations")
        faults += [
            (path, one["id"], one["nodes"][0]["html"], one["nodes"][0].get("failureSummary"))
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    assert faults == []
    context.close()
    watched.check()


def test_the_theme_follows_the_system_until_one_is_chosen(browser: Browser, address: str) -> None:
    context = browser.new_context(color_scheme="dark", reduced_motion="reduce")
    tab = context.new_page()
    tab.goto(address)

    def paper() -> int:
        shown = str(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        return int(re.findall(r"\d+", shown)[0])

    assert paper() < 60
    styles = "[...document.querySelectorAll('body *')].map(one => getComputedStyle(one))"
    assert tab.evaluate(f"{styles}.every(one => one.transitionDuration === '0s')")
    assert tab.evaluate(f"{styles}.every(one => one.animationName === 'none')")
    tab.get_by_role("button", name="Theme: system").click()
    assert paper() > 200
    tab.reload()
    assert paper() > 200
    tab.get_by_role("button", name="Theme: light").click()
    tab.get_by_role("button", name="Theme: dark").click()
    assert paper() < 60
    context.close()
