"""Lists and reads the pages of a web site."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from http import HTTPStatus
from re import Pattern

import anyio
import anyio.to_thread

from connectors import globs
from connectors._http import Answer, Http
from connectors._refusals import is_oversize
from connectors._url import shown
from connectors.cache_folder import cache_file
from connectors.http_content import content_of, kind_of
from connectors.media_types import media_type
from connectors.spool import Spool
from connectors.web import sitemap
from connectors.web.at_once import each
from connectors.web.links import Outline, tagged
from connectors.web.page import Page, kept_as, packed, page_of, unpacked
from connectors.web.robots import Robots
from connectors.web.settings import CrawlSettings, WebSettings
from connectors.web.urls import canonical, path_of
from connectors.web.version import UNREADABLE, of_headers, of_sitemap
from pipeline.errors import ItemUnreadable, SourceRefused
from pipeline.records import ItemRef, RawDocument

log = logging.getLogger(__name__)

_AT_ONCE = 64
_NOT_TOLD_OF = frozenset({401, 403, 405, 501})
"""What servers say to HEAD that would answer GET."""
_NO_DOCUMENTS = frozenset({"audio", "font", "image", "video"})


@dataclass(slots=True, kw_only=True)
class WebConnector:
    """Lists and reads the pages of a web site.

    A key is a page's URL in its canonical form, where redirects end. A version is the ETag, else
    Last-Modified, else a sitemap's lastmod (first, where it is trusted), else a digest of the content.
    What a listing had to download is kept until it is loaded.
    """

    source: str
    settings: WebSettings
    _http: Http = field(init=False, repr=False)
    _robots: Robots | None = field(init=False, repr=False)
    _spool: Spool = field(init=False, repr=False, default_factory=Spool)
    _wanted: Pattern[str] = field(init=False, repr=False)
    _unwanted: Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._http = self.settings.http(self.source, self.settings.urls)
        self._robots = self._new_robots()
        self._wanted = globs.matching(self.settings.include)
        self._unwanted = globs.matching(self.settings.exclude)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every page, in the order of the sitemap, the list, or the links.

        Raises:
            SourceRefused: what the settings name is not there, or there are more pages than max_pages.
            SourceUnavailable: something did not answer, so that the listing is not complete.
        """
        self._spool.clear()
        self._robots = self._new_robots()
        most = self.settings.max_seconds
        pages: list[Page] = []
        with anyio.move_on_after(most) as time:
            async with self._http.opened():
                pages = await self._pages()
        if time.cancelled_caught:
            raise SourceRefused(f"{self._where} was not listed within max_seconds: {most:g}")
        for page in pages:
            yield ItemRef(source=self.source, key=page.url, version=page.version, size=page.size)

    async def load(self, ref: ItemRef) -> RawDocument:
        """The page as it is now, or as the listing had to download it.

        Raises:
            ItemUnreadable: it is gone, too large, not to be read, or of a type that is not.
            SourceUnavailable: the site does not answer.
        """
        kept = kept_as(ref.key, ref.version)
        if kept in self._spool:
            page, content = unpacked(await anyio.to_thread.run_sync(self._spool.get, kept))
        else:
            answer = await self._answer("GET", ref.key)
            if answer.status != HTTPStatus.OK:
                raise ItemUnreadable(f"{shown(answer.url)} answered {answer.status}: it wants credentials")
            url = self._canonical(answer.url) or answer.url
            page = await anyio.to_thread.run_sync(page_of, answer, url, ref.version)
            self._check(page)
            content = content_of(answer, page.media_type)
        now = ref if page.version == ref.version else replace(ref, version=page.version, size=len(content))
        return RawDocument(ref=now, content=content, media_type=page.media_type, url=page.url)

    @property
    def _where(self) -> str:
        return f"sources.{self.source}"

    def _new_robots(self) -> Robots | None:
        return Robots(self._http, self.settings.user_agent) if self.settings.robots else None

    async def _pages(self) -> list[Page]:
        if self.settings.crawl is not None:
            return await self._crawled(self.settings.crawl)
        if self.settings.pages is not None:
            plain = {self._canonical(url) or url: None for url in self.settings.pages}
            listed = [sitemap.Listed(url=url, lastmod=None) for url in plain]
        else:
            found = await sitemap.pages(self._http, self.settings.urls[0], f"{self._where}.sitemap")
            each_once = sitemap.latest((self._canonical(one.url), one) for one in found)
            listed = [one for one in each_once if self._asked(one.url)]
        if len(listed) > self.settings.max_pages:
            raise SourceRefused(
                f"{self._where} has {len(listed):,} pages, more than max_pages: {self.settings.max_pages:,}"
            )
        pages: dict[str, Page] = {}
        for start in range(0, len(listed), _AT_ONCE):
            for page in await each(self._found, listed[start : start + _AT_ONCE]):
                if page is not None and self._counts(page):
                    pages.setdefault(page.url, page)
        return list(pages.values())

    async def _crawled(self, crawl: CrawlSettings) -> list[Page]:
        from connectors.web.crawl import Bounds, Crawl  # noqa: PLC0415 - with the settings' light import
        from connectors.web.remembered import Remembered  # noqa: PLC0415

        file = await anyio.to_thread.run_sync(
            cache_file, self.source, crawl.cache, "crawl.cache", crawl.start
        )
        bounds = Bounds(
            canonical=self._canonical,
            asked=self._asked,
            counted=self._counts,
            depth=crawl.max_depth,
            pages=self.settings.max_pages,
            where=self._where,
        )
        with await anyio.to_thread.run_sync(lambda: Remembered(file)) as remembered:
            walk = Crawl(
                http=self._http, robots=self._robots, remembered=remembered, spool=self._spool, bounds=bounds
            )
            return await walk.pages(crawl.start)

    def _canonical(self, url: str) -> str | None:
        return canonical(url, self.settings.drop_parameters)

    async def _found(self, listed: sitemap.Listed) -> Page | None:
        """A page of a list with its version; None for one that is not there or not to be read."""
        try:
            if self.settings.trust_lastmod and listed.lastmod and listed.is_settled(sitemap.today()):
                if self._robots:
                    await self._robots.permit(listed.url)
                return Page(url=listed.url, version=of_sitemap(listed.lastmod))
            return await self._asked_for(listed.url)
        except ItemUnreadable as error:
            if is_oversize(error) or self.settings.pages is not None:  # asked for by name
                return Page(url=listed.url, version=UNREADABLE)  # to be reported
            log.info("not listed: %s", error)
            return None

    async def _asked_for(self, url: str) -> Page:
        """A page with its version, by its headers alone where these tell."""
        answer = await self._answer("HEAD", url)
        version = of_headers(answer.headers) if answer.status == HTTPStatus.OK else None
        if version is None:
            answer = await self._answer("GET", url)
            if answer.status != HTTPStatus.OK:
                return Page(url=url, version=UNREADABLE)
        final = self._canonical(answer.url) or answer.url
        if version is not None:
            hidden = bool(tagged(answer.headers) & {"noindex", "none"})
            return Page(
                url=final, version=version, media_type=kind_of(answer), outline=Outline(noindex=hidden)
            )
        page = await anyio.to_thread.run_sync(page_of, answer, final)
        self._spool.put(kept_as(page.url, page.version), packed(page, content_of(answer, page.media_type)))
        return page

    async def _answer(self, method: str, url: str) -> Answer:
        permit = self._robots.permit if self._robots else None
        returned = _NOT_TOLD_OF if method == "HEAD" else (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        return await self._http.request(method, url, returned=returned, permit=permit)

    def _asked(self, url: str) -> bool:
        """Whether a URL that was found is one of the source's."""
        path = path_of(url)
        if not self._http.reach.allows(url) or not self._wanted.fullmatch(path):
            return False
        return not self._is_left_out(path) and not self._is_no_document(path)

    def _counts(self, page: Page) -> bool:
        """Whether a page that was found is one of the source's."""
        if page.version == UNREADABLE:
            return True
        hidden = self.settings.noindex and page.outline.noindex
        return (
            self._asked(page.url) and not hidden and (not page.media_type or self._is_read(page.media_type))
        )

    def _check(self, page: Page) -> None:
        if not self._is_read(page.media_type):
            raise ItemUnreadable(
                f"{shown(page.url)} is {page.media_type}, which {self._where}.media_types does not name"
            )
        if self.settings.noindex and page.outline.noindex:
            raise ItemUnreadable(
                f"{shown(page.url)} asks not to be indexed; {self._where}.noindex: false reads it"
            )

    def _is_left_out(self, path: str) -> bool:
        names = path.split("/")
        above = ["/".join(names[:count]) for count in range(1, len(names) + 1)]
        return any(self._unwanted.fullmatch(folder) for folder in above)

    def _is_no_document(self, path: str) -> bool:
        """By its name: what is not even asked for."""
        kind = media_type(path)
        return kind.partition("/")[0] in _NO_DOCUMENTS and not self._is_read(kind)

    def _is_read(self, kind: str) -> bool:
        return any(fnmatchcase(kind, pattern) for pattern in self.settings.media_types)
