"""Chromium, and a Prefect server with a worker, for tests that look at pages as people do.

DOCWEAVE_SCREENSHOTS names a folder: what the tests see is kept there, as the documentation shows it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.looking import PATIENCE, Looking
from tests.prefect_server import PrefectServer, prefect_serving

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZE = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """This machine's Chromium. For one module: while it is driven, no event loop of others can run here."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if not found and os.environ.get("DOCWEAVE_NEED_BROWSER") == "1":
        pytest.fail("there is no Chromium on the PATH, and DOCWEAVE_NEED_BROWSER=1: apt install chromium")
    if not found:
        pytest.skip("there is no Chromium on the PATH: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """An open tab: to load Prefect's pages anew for each test takes longer than the test."""
    context = browser.new_context(viewport=SIZE, locale="en-GB", timezone_id="Europe/Berlin")
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def looking(page: Page) -> Looking:
    """Reads pages, and keeps pictures of them where they are asked for."""
    folder = os.environ.get("DOCWEAVE_SCREENSHOTS")
    return Looking(page=page, pictures=Path(folder) if folder else None)


@pytest.fixture(scope="module")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A Prefect server. Not started where there is no browser to look at it."""
    with prefect_serving(tmp_path_factory.mktemp("prefect")) as server:
        yield server
