"""What a page says for those who crawl: its links, its canonical URL, its robots meta. Pure, in linear time.

No HTML parser: what must be known stands in attributes of a few elements, and a hostile page costs no more
than its length.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

from connectors._url import split
from connectors.http_content import decoded

_MOST_BYTES = 4_000_000
"""Of a page that are looked through."""
_MOST_ATTRIBUTES = 20_000
"""Characters of one element's."""
_MOST_LINKS = 5_000
_TAG = re.compile(r"<([a-z]{1,10})(?=[\s/>])((?:[^<>\"']|\"[^\"]{0,4096}\"|'[^']{0,4096}')*+)", re.IGNORECASE)
"""A start tag up to its end, or up to where it stops being one: what was read once is not read again."""
_ATTRIBUTE = re.compile(r"([a-z-]{1,20})\s{0,9}=\s{0,9}(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+))", re.IGNORECASE)
_SKIPPED = {
    name: re.compile(f"</{name}", re.IGNORECASE)
    for name in ("script", "style", "template", "textarea", "title", "noembed", "noframes", "xmp")
}
_WANTED = frozenset({"a", "area", "base", "frame", "iframe", "link", "meta"})
_REFRESH = re.compile(r"^\s*\d{0,9}(?:\.\d*)?\s*[;,]\s*url\s*=\s*['\"]?([^'\"]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A page without its text."""

    links: tuple[str, ...] = ()
    """Where it leads, absolute, in its order, each once."""
    canonical: str | None = None
    """The URL that it gives as its own."""
    noindex: bool = False
    nofollow: bool = False


def outline(
    content: bytes, url: str, headers: Mapping[str, str], charset: str = "", *, is_html: bool = True
) -> Outline:
    """What a page says about itself and its neighbours.

    Args:
        content: Of the page.
        url: Of the page: links are relative to it, or to its `<base>`.
        headers: Of the answer, names in lower case.
        charset: As the answer's header says.
        is_html: Otherwise the headers alone say something.
    """
    links: dict[str, None] = {}
    canonical: str | None = None
    robots: list[str] = []
    at = url
    for name, attributes in _elements(decoded(content[:_MOST_BYTES], charset) if is_html else ""):
        match name:
            case "base" if at == url and attributes.get("href"):
                at = _absolute(url, attributes["href"]) or url
            case "meta":
                robots += _robots(attributes)
                if target := _refresh(attributes):
                    links[_absolute(at, target) or at] = None
            case "link" if _says(attributes, "rel", "canonical"):
                canonical = canonical or _absolute(at, attributes.get("href", ""))
            case "a" | "area" if not _says(attributes, "rel", "nofollow"):
                links[_absolute(at, attributes.get("href", "")) or at] = None
            case "frame" | "iframe" if attributes.get("src"):
                links[_absolute(at, attributes["src"]) or at] = None
        if len(links) >= _MOST_LINKS:
            break
    said = {*robots, *tagged(headers)}
    return Outline(
        links=tuple(link for link in links if link not in (at, url)),
        canonical=canonical,
        noindex=bool(said & {"noindex", "none"}),
        nofollow=bool(said & {"nofollow", "none"}),
    )


def tagged(headers: Mapping[str, str]) -> set[str]:
    """What X-Robots-Tag says to everybody."""
    said = headers.get("x-robots-tag", "").lower()
    return {word.strip() for word in said.split(",") if ":" not in word}


def _elements(page: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The start tags that say something, with their attributes; none of comments and scripts."""
    place = page.find("<")
    while place >= 0:
        if page.startswith("<!--", place):
            end = page.find("-->", place + 2)
        elif tag := _TAG.match(page, place):
            end, name = tag.end(), tag[1].lower()
            if name in _WANTED and page.startswith(">", end):
                yield name, _attributes(tag[2][:_MOST_ATTRIBUTES])
            if name in _SKIPPED:
                close = _SKIPPED[name].search(page, end)
                end = close.end() if close else -1
        else:
            end = place + 1
        place = page.find("<", end) if end >= 0 else -1


def _attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(text):
        value = next((group for group in match.groups()[1:] if group is not None), "")
        found.setdefault(match[1].lower(), html.unescape(value).strip())
    return found


def _says(attributes: Mapping[str, str], name: str, word: str) -> bool:
    return word in attributes.get(name, "").lower().split()


def _robots(attributes: Mapping[str, str]) -> Iterable[str]:
    if attributes.get("name", "").lower() not in ("robots", "docweave"):
        return ()
    return {word.strip() for word in attributes.get("content", "").lower().split(",")}


def _refresh(attributes: Mapping[str, str]) -> str | None:
    if attributes.get("http-equiv", "").lower() != "refresh":
        return None
    found = _REFRESH.match(attributes.get("content", ""))
    return found[1].strip() if found else None


def _absolute(at: str, target: str) -> str | None:
    try:
        whole = urljoin(at, target)
    except ValueError:
        return None
    parts = split(whole)
    return whole if parts and parts.scheme in ("http", "https") and parts.hostname else None
