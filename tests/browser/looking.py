"""What a person does in a browser: opens a page, reads it, and keeps a picture of it."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

PATIENCE = 30_000
"""Milliseconds until a page must say what it is to say. It takes one second on an idle machine."""
COLORS = 64
"""Of a picture that is kept: pages have few, and the file becomes a third as large."""

_IN_PLACE = """([folder, shown]) => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode())
    node.textContent = node.textContent.replaceAll(folder, shown);
  for (const box of document.querySelectorAll("textarea, input"))
    box.value = box.value.replaceAll(folder, shown);
}"""
"""Has a page show another folder than this machine's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """One tab."""

    page: Page
    pictures: Path | None
    """Where pictures are kept; None: nowhere."""

    def at(self, address: str, *texts: str) -> Page:
        """Open a page, and wait until it says all of this."""
        self.page.goto(address)
        self.sees(*texts)
        return self.page

    def sees(self, *texts: str) -> None:
        """Wait until the page says all of this."""
        for text in texts:
            expect(self.page.get_by_text(text).first).to_be_visible(timeout=PATIENCE)

    def keep(self, name: str, *, folder: Path | None = None, height: int = 900) -> None:
        """Keep a picture of what is seen, where pictures are asked for; `folder` is shown as another."""
        if self.pictures is None:
            return
        self.page.set_viewport_size({"width": 1280, "height": height})
        self.page.wait_for_timeout(700)  # until what moves has come to rest
        if folder:
            self.page.evaluate(_IN_PLACE, [str(folder), "/srv/company"])
        picture = Image.open(BytesIO(self.page.screenshot())).convert("RGB").quantize(COLORS)
        self.pictures.mkdir(parents=True, exist_ok=True)
        picture.save(self.pictures / f"{name}.png", optimize=True)
