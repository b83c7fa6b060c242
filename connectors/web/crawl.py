"""Follows links: nearest pages first, each URL once."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from http import HTTPStatus

import anyio.to_thread

from connectors._http import Answer, Http
from connectors._refusals import is_oversize
from connectors.http_content import content_of
from connectors.spool import Spool
from connectors.web.at_once import each
from connectors.web.page import Page, kept_as, packed, page_of
from connectors.web.remembered import Remembered
from connectors.web.robots import Robots
from connectors.web.urls import path_of
from connectors.web.version import UNREADABLE
from pipeline.errors import ItemUnreadable, SourceRefused

log = logging.getLogger(__name__)

_AT_ONCE = 32
_URLS_A_PAGE = 10
"""With so many URLs to one page that they lead to, it is called a trap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What belongs to a crawl."""

    canonical: Callable[[str], str | None]
    asked: Callable[[str], bool]
    """By URL: whether it is asked for when a link leads there."""
    counted: Callable[[Page], bool]
    """Whether a page is one of the source's."""
    depth: int
    """How many links away from the start."""
    pages: int
    where: str
    """The source, as the settings name it."""


@dataclass(slots=True, kw_only=True)
class Crawl:
    """One crawl."""

    http: Http
    robots: Robots | None
    remembered: Remembered
    spool: Spool
    """Gets the content of the pages that had to be downloaded, by `kept_as`."""
    bounds: Bounds
    _asked: set[str] = field(default_factory=set)
    _pages: dict[str, Page] = field(default_factory=dict)
    """By their own URLs, in the order in which they were found."""

    async def pages(self, start: Iterable[str]) -> list[Page]:
        """Every page within the bounds, each once, in the order of the links.

        Raises:
            SourceRefused: a start page cannot be read, or there are too many pages.
            SourceUnavailable: a page did not answer, so that its links are not known.
        """
        waiting: deque[tuple[str, int]] = deque()
        self._add(waiting, start, 0)
        while waiting:
            batch = [waiting.popleft() for _ in range(min(_AT_ONCE, len(waiting)))]
            known = await anyio.to_thread.run_sync(self.remembered.some, [url for url, _ in batch])
            visits = [(url, known.get(url), not depth) for url, depth in batch]
            found = await each(self._visited, visits)
            for (_, depth), page in zip(batch, found, strict=True):
                if page is not None:
                    self._take(page, depth, waiting)
            self._check()
        await anyio.to_thread.run_sync(self.remembered.keep, self._asked)
        return [page for page in self._each_once() if self.bounds.counted(page)]

    def _add(self, waiting: deque[tuple[str, int]], urls: Iterable[str], depth: int) -> None:
        for url in urls:
            plain = self.bounds.canonical(url)
            if plain and plain not in self._asked and (not depth or self.bounds.asked(plain)):
                self._asked.add(plain)
                waiting.append((plain, depth))

    def _take(self, page: Page, depth: int, waiting: deque[tuple[str, int]]) -> None:
        self._asked.add(page.url)
        if page.url in self._pages:
            return
        self._pages[page.url] = page
        if page.outline.canonical and depth <= self.bounds.depth:  # one step more: it is this page
            self._add(waiting, [page.outline.canonical], depth + 1)
        if depth < self.bounds.depth and not page.outline.nofollow:
            self._add(waiting, page.outline.links, depth + 1)

    def _check(self) -> None:
        most = self.bounds.pages
        if len(self._pages) <= most and len(self._asked) <= _URLS_A_PAGE * most:
            return
        folders = Counter(path_of(url).rpartition("/")[0] for url in self._pages)
        folder, count = folders.most_common(1)[0]
        raise SourceRefused(
            f"{self.bounds.where} has more than max_pages: {most:,} pages, {count:,} of them in "
            f"/{folder}: leave out with exclude what leads nowhere, or raise max_pages"
        )

    async def _visited(self, visit: tuple[str, Page | None, bool]) -> Page | None:
        url, known, is_start = visit
        try:
            return await self._visit(url, known, is_start=is_start)
        except (ItemUnreadable, SourceRefused) as error:
            if is_start:
                raise SourceRefused(f"{self.bounds.where}.crawl.start: {error}") from error
            log.info("not listed: %s", error)
            return None

    async def _visit(self, url: str, known: Page | None, *, is_start: bool) -> Page | None:
        """What is there now; as it is remembered, where the server says that it is the same."""
        try:
            answer = await self._answer(url, known)
        except ItemUnreadable as error:
            if not is_oversize(error):
                raise
            return Page(url=url, version=UNREADABLE)
        except SourceRefused:
            if known is None or is_start:
                raise
            return replace(known, version=UNREADABLE)  # reported, and not taken for gone
        if known and answer.status == HTTPStatus.NOT_MODIFIED:
            return known
        final = self.bounds.canonical(answer.url)
        if final is None:
            return None
        return await anyio.to_thread.run_sync(self._read, answer, url, final)

    async def _answer(self, url: str, known: Page | None) -> Answer:
        permit = self.robots.permit if self.robots else None
        if known and known.conditions:
            answer = await self.http.get(
                url, headers=known.conditions, returned={HTTPStatus.NOT_MODIFIED}, permit=permit
            )
            same_place = self.bounds.canonical(answer.url) == known.url
            if answer.status != HTTPStatus.NOT_MODIFIED or same_place:
                return answer
        return await self.http.get(url, permit=permit)

    def _read(self, answer: Answer, asked: str, final: str) -> Page:
        page = page_of(answer, final)
        self.remembered.put(asked, page)
        if self.bounds.counted(page):
            self.spool.put(kept_as(page.url, page.version), packed(page, content_of(answer, page.media_type)))
        return page

    def _each_once(self) -> list[Page]:
        """Without the pages that give another one, which is there too, as their canonical one."""
        left_out: set[str] = set()
        for url, page in self._pages.items():
            own = self.bounds.canonical(page.outline.canonical or url)
            if own != url and own in self._pages and own not in left_out:
                left_out.add(url)
        return [page for url, page in self._pages.items() if url not in left_out]
