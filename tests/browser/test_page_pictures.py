"""The documentation's pictures of the page, made of the sample documents where they are asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.serving_page import made, page_at

pytestmark = pytest.mark.skipif(
    "DOCWEAVE_SCREENSHOTS" not in os.environ, reason="makes the documentation's pictures"
)

COLORS = 200
HANDBOOK = Path(__file__).parents[2] / "examples" / "handbook"


@pytest.fixture(scope="module")
def address(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("company")
    shutil.copytree(HANDBOOK, folder / "docs")
    (folder / "docs/operations/fern-waike-jianyan.md").unlink()  # few machines have a font for its title
    names = sorted(path.name for path in HANDBOOK.iterdir() if path.is_dir())
    sources = "\n".join(f"  {name}: {{type: files, path: docs/{name}}}" for name in names)
    with page_at(made(folder, f"columns: {{year: integer}}\nsources:\n{sources}\n", {})) as address:
        yield f"{address}/"


@pytest.mark.parametrize(
    ("name", "path", "look"),
    [
        ("page-search", "#/?q=how+long+is+parental+leave", ("light", 1280, 860)),
        ("page-map", "#/map", ("dark", 1280, 860)),
        ("page-narrow", "#/?q=how+do+I+reset+it", ("light", 360, 740)),
    ],
)
def test_a_picture_is_kept(browser: Browser, address: str, name: str, path: str, look: Any) -> None:
    theme, width, height = look
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    tab = context.new_page()
    tab.goto(address + path)
    expect(tab.locator(".hit, .point").first).to_be_visible()
    tab.wait_for_load_state("networkidle")
    picture = Image.open(BytesIO(tab.screenshot())).convert("RGB")
    folder = Path(os.environ["DOCWEAVE_SCREENSHOTS"])
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{name}.png"
    picture.quantize(COLORS, method=Image.Quantize.FASTOCTREE).save(kept, optimize=True)
    assert kept.stat().st_size < 150_000
    context.close()
