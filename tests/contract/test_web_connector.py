"""Pages of a web site: the contract for each way of finding them, and what sites do wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from urllib.parse import unquote

import anyio
import pytest

from connectors.web import WebConnector, WebSettings
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.records import ItemRef, RawDocument
from tests.contract.connector_contract import ConnectorContract, listed
from tests.web_server import LOOPBACK, Answered, Asked, Site, path_of, serving


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as site:
        yield site


@dataclass
class ByName:
    """A connector of a site whose keys are the paths alone, so that the contract can name them."""

    inner: WebConnector
    site: Site

    @property
    def source(self) -> str:
        return self.inner.source

    async def list_items(self) -> AsyncIterator[ItemRef]:
        async for ref in self.inner.list_items():
            yield replace(ref, key=unquote(ref.key.removeprefix(self.site.url + "/")))

    async def load(self, ref: ItemRef) -> RawDocument:
        raw = await self.inner.load(replace(ref, key=self.site.url + path_of(ref.key)))
        return replace(raw, ref=replace(raw.ref, key=ref.key))


@dataclass
class Place:
    """A site that a test fills; how its pages are found is the subclass's."""

    site: Site
    cache: Path
    keys: dict[str, int] = field(default_factory=dict)
    """Each with how often it was changed."""

    def put(self, key: str, content: bytes) -> None:
        self.site.put(path_of(key), content)
        self.keys[key] = self.keys.get(key, 0) + 1

    def drop(self, key: str) -> None:
        self.site.drop(path_of(key))
        del self.keys[key]

    def connector(self) -> ByName:
        return ByName(connector_of(media_types=["*/*"], **self.found()), self.site)

    def found(self) -> dict[str, object]:
        raise NotImplementedError



def connector_of(**settings: object) -> WebConnector:
    chosen = {"type": "web", "private_networks": [LOOPBACK], "requests_per_second": 1000, **settings}
    return WebConnector(source="site", settings=WebSettings.model_validate(chosen))


def urlset(urls: dict[str, str | None]) -> str:
    entries = (
        f"<url><loc>{escape(url)}</loc>{f'<lastmod>{mod}</lastmod>' if mod else ''}</url>"
        for url, mod in urls.items()
    )
    return f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{"".join(entries)}</urlset>'


class InSitemap(Place):
    def sitemap(self, _: Asked) -> Answered:
        pages = {self.site.url + path_of(key): self.lastmod(count) for key, count in self.keys.items()}
        return Answered(body=urlset(pages).encode())

    def lastmod(self, count: int) -> str | None:
        return f"2026-01-01T00:00:{count:02d}Z"

    def found(self) -> dict[str, object]:
        self.site.answers("/sitemap.xml", self.sitemap)
        return {"sitemap": f"{self.site.url}/sitemap.xml"}


class InSitemapWithoutDates(InSitemap):
    def lastmod(self, count: int) -> str | None:
        return None


class Linked(Place):
    def start(self, _: Asked) -> Answered:
        links = "".join(f'<a href="{escape(path_of(key))}">x</a>' for key in self.keys)
        return Answered(body=links.encode(), headers={"Content-Type": "text/html"})

    def found(self) -> dict[str, object]:
        self.site.answers("/start-", self.start)
        crawl = {"start": [f"{self.site.url}/start-"], "cache": str(self.cache)}
        return {"crawl": crawl, "exclude": ["start-"]}


class TestSitemap(ConnectorContract):
    """By lastmod alone: nothing is asked for but the sitemap."""

    @pytest.fixture
    def place(self, site: Site, tmp_path: Path) -> Place:
        return InSitemap(site, tmp_path)

    async def test_loading_what_changed_after_the_listing_gives_content_and_version_that_belong_together(
        self, place: Place
    ) -> None:
        """A page does not tell its lastmod: the newer content keeps the older one, and is read once more."""
        place.put("a.md", b"old")
        connector = place.connector()
        [old] = await listed(connector)
        place.put("a.md", b"newer")
        raw = await connector.load(old)
        [new] = await listed(connector)
        assert (raw.content, raw.ref.version) == (b"newer", old.version)
        assert new.version != old.version


class TestSitemapWithoutDates(ConnectorContract):
    """By each page's headers."""

    @pytest.fixture
    def place(self, site: Site, tmp_path: Path) -> Place:
        return InSitemapWithoutDates(site, tmp_path)


class TestCrawl(ConnectorContract):
    """By links."""

    rereads = False

    @pytest.fixture
    def place(self, site: Site, tmp_path: Path) -> Place:
        return Linked(site, tmp_path)
