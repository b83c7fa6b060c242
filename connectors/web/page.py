"""What is known of a page."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from connectors._http import Answer
from connectors.http_content import HTML, kind_of
from connectors.web.links import Outline, outline
from connectors.web.version import of_answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page without its content."""

    url: str
    """Where redirects end, in its canonical form."""
    version: str
    size: int | None = None
    media_type: str = ""
    etag: str = ""
    modified: str = ""
    outline: Outline = field(default_factory=Outline)

    @property
    def conditions(self) -> dict[str, str]:
        """The headers that ask for it only if it is another one by now."""
        asked = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in asked.items() if value}


def page_of(answer: Answer, url: str, listed: str = "") -> Page:
    """What an answer with content tells. For a worker thread: HTML is looked through.

    Args:
        answer: Status 200.
        url: The page's canonical URL.
        listed: The version under which it was listed, where it was.
    """
    kind = kind_of(answer)
    return Page(
        url=url,
        version=of_answer(answer.headers, answer.content, listed),
        size=len(answer.content),
        media_type=kind,
        etag=answer.headers.get("etag", ""),
        modified=answer.headers.get("last-modified", ""),
        outline=outline(answer.content, answer.url, answer.headers, answer.charset, is_html=kind in HTML),
    )


def kept_as(url: str, version: str) -> str:
    """The key under which the content of this version is kept."""
    return f"{version} {url}"


def packed(page: Page, content: bytes) -> bytes:
    """A page with its content, to be kept until it is loaded."""
    about = {"url": page.url, "version": page.version, "media_type": page.media_type}
    return json.dumps(about).encode() + b"\n" + content


def unpacked(kept: bytes) -> tuple[Page, bytes]:
    """What `packed` was given, without the outline."""
    head, _, content = kept.partition(b"\n")
    return Page(**json.loads(head)), content


def as_json(page: Page) -> str:
    """To be remembered."""
    return json.dumps(asdict(page))


def from_json(text: str) -> Page:
    """What `as_json` was given."""
    about = json.loads(text)
    said = about.pop("outline")
    return Page(**about, outline=Outline(**{**said, "links": tuple(said["links"])}))
