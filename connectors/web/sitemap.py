"""The pages that a site says it has, as sitemaps.org defines it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import anyio.to_thread

from connectors._http import Answer, Http, whole
from connectors._url import shown
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_BYTES = 52_428_800
"""Of one sitemap, unpacked: the protocol's own limit."""
_MOST_SITEMAPS = 5_000
_MOST_NESTED = 3
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A page of a sitemap."""

    url: str
    lastmod: str | None

    def is_settled(self, today: date) -> bool:
        """Whether lastmod tells this version from the next: a mere day does not before it is over."""
        if self.lastmod is None:
            return False
        if not _DAY.fullmatch(self.lastmod):
            return True
        try:
            # The site's day may end later than ours.
            return date.fromisoformat(self.lastmod) < today - timedelta(days=1)
        except ValueError:
            return False


async def pages(http: Http, url: str, where: str) -> list[Listed]:
    """All pages of a sitemap, or of an index of sitemaps, in their order.

    Args:
        http: Asks for them.
        url: The first one.
        where: The setting that names it.

    Raises:
        SourceRefused: it is not there, is no sitemap, or leads to too many others.
        SourceUnavailable: one of them cannot be read, or ends early.
    """
    found: list[Listed] = []
    seen, level = {url}, [url]
    for _ in range(_MOST_NESTED):
        below: list[str] = []
        for sitemap in level:
            with whole(where):
                answer = await http.get(sitemap, max_bytes=MAX_BYTES)
            named, listed = await anyio.to_thread.run_sync(_read, answer)
            found += listed
            below += [one for one in dict.fromkeys(named) if one not in seen]
            seen.update(below)
            if len(seen) > _MOST_SITEMAPS:
                raise SourceRefused(f"{where}: {shown(url)} leads to more than {_MOST_SITEMAPS:,} sitemaps")
        if not (level := below):
            return found
    raise SourceRefused(f"{where}: {shown(url)} is an index of indexes, more than {_MOST_NESTED} deep")


def today() -> date:
    """The day, in UTC."""
    return datetime.now(UTC).date()


def _read(answer: Answer) -> tuple[list[str], list[Listed]]:
    """(sitemaps that it names, pages that it lists).

    Raises:
        SourceRefused: it is no sitemap.
        SourceUnavailable: it ends early.
    """
    content, where = _unpacked(answer), shown(answer.url)
    start = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start.startswith((b"<", b"\xff\xfe", b"\xfe\xff")):
        if answer.media_type == "text/plain" and start.lower().startswith(b"http"):
            lines = content.decode("utf-8", "replace").splitlines()
            return [], [Listed(url=line.strip(), lastmod=None) for line in lines if line.strip()]
        raise SourceRefused(f"{where} is no sitemap: it is neither XML nor a list of URLs")
    if b"<!ENTITY" in content or b"<!DOCTYPE" in content:
        raise SourceRefused(f"{where} is no sitemap: it declares a document type")
    from xml.etree import ElementTree as ET  # noqa: PLC0415 - seldom needed

    # Without declarations, which are refused above, expat has no entity to expand or fetch.
    events = ET.iterparse(io.BytesIO(content), events=("start", "end"))  # noqa: S314
    try:
        return _parsed(events, where)
    except ET.ParseError as error:
        raise SourceUnavailable(f"{where} is no whole sitemap: {error}") from error


def _parsed(events: Iterable[tuple[str, Element]], where: str) -> tuple[list[str], list[Listed]]:
    sitemaps: list[str] = []
    listed: list[Listed] = []
    root = None
    for event, element in events:
        name = _name(element)
        if root is None:
            root = element
            if name not in ("urlset", "sitemapindex"):
                raise SourceRefused(f"{where} is no sitemap: its root is {name[:40]}")
        if event != "end" or name not in ("url", "sitemap"):
            continue
        said = {_name(child): (child.text or "").strip() for child in element if child.text}
        if place := said.get("loc"):
            if name == "sitemap":
                sitemaps.append(place)
            else:
                listed.append(Listed(url=place, lastmod=said.get("lastmod") or None))
        root.clear()  # or all of it stays in memory
    return sitemaps, listed


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _unpacked(answer: Answer) -> bytes:
    """The content, where it is itself a gzip file."""
    if not answer.content.startswith(b"\x1f\x8b"):
        return answer.content
    from connectors import _wire  # noqa: PLC0415 - heavy

    try:
        return _wire.unpacked(answer.content, MAX_BYTES, shown(answer.url))
    except ItemUnreadable as error:
        raise SourceRefused(str(error)) from error


def latest(listed: Iterable[tuple[str | None, Listed]]) -> list[Listed]:
    """Each page once, in the order of the sitemaps: of several entries the latest counts.

    Args:
        listed: Entries, each with the canonical form of its URL; without one it is no page.
    """
    found: dict[str, Listed] = {}
    for url, one in listed:
        if url is None:
            continue
        if (known := found.get(url)) is None or (one.lastmod or "") > (known.lastmod or ""):
            found[url] = replace(one, url=url)
    return list(found.values())
