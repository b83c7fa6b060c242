"""Pages of a web site: the contract for each way of finding them, and what sites do wrong."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from html import escape
from pathlib import Path
from unittest.mock import patch
from urllib.parse import unquote

import anyio
import anyio.lowlevel
import pytest
from pydantic import SecretStr, ValidationError

from connectors._http import Patience
from connectors.web import WebConnector, WebSettings
from pipeline.chunk import Chunker
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.ingest import ingest_source
from pipeline.parse import DocumentParser
from pipeline.prepare import Pipeline
from pipeline.records import Grouping, ItemRef, RawDocument
from pipeline.stores.memory import MemoryStore
from tests.contract.connector_contract import ConnectorContract, listed
from tests.fakes import OracleEmbedder
from tests.web_server import LOOPBACK, Answered, Asked, Site, path_of, serving


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as site:
        yield site


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


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
    repeated: int = 0
    """Of the pages, so many stand in it twice."""
    torn: bool = False

    def sitemap(self, _: Asked) -> Answered:
        pages = {self.site.url + path_of(key): self.lastmod(count) for key, count in self.keys.items()}
        whole = urlset(pages)
        again = whole.partition("<url>")[2].split("<url>")[: self.repeated]
        whole = whole.replace("</urlset>", "".join(f"<url>{one}" for one in again) + "</urlset>")
        return Answered(body=(whole[: len(whole) // 2] if self.torn else whole).encode())

    def lastmod(self, count: int) -> str | None:
        return f"2026-01-01T00:00:{count:02d}Z"

    def found(self) -> dict[str, object]:
        self.site.answers("/sitemap.xml", self.sitemap)
        return {"sitemap": f"{self.site.url}/sitemap.xml"}


class InSitemapWithoutDates(InSitemap):
    def lastmod(self, count: int) -> str | None:
        return None


class Linked(Place):
    repeated: int = 0
    """Of the links, so many are there twice."""

    def start(self, _: Asked) -> Answered:
        keys = [*self.keys, *list(self.keys)[: self.repeated]]
        links = "".join(f'<a href="{escape(path_of(key))}">x</a>' for key in keys)
        return Answered(body=links.encode(), headers={"Content-Type": "text/html"})

    def found(self) -> dict[str, object]:
        self.site.answers("/start-", self.start)
        crawl = {"start": [f"{self.site.url}/start-"], "cache": str(self.cache)}
        return {"crawl": crawl, "exclude": ["start-"]}


@pytest.mark.usefixtures("impatient")
class WebContract(ConnectorContract):
    """The contract, on a site."""

    @contextmanager
    def outage(self, place: Place) -> Iterator[None]:
        with patch.object(place.site, "answer", lambda _: Answered(status=503)):
            yield

    @contextmanager
    def refusal(self, place: Place) -> Iterator[None]:
        with patch.object(place.site, "answer", lambda _: Answered(status=401)):
            yield

    @contextmanager
    def half(self, place: InSitemap) -> Iterator[None]:
        place.torn = True
        yield
        place.torn = False

    @contextmanager
    def repeating(self, place: InSitemap | Linked) -> Iterator[None]:
        place.repeated = 2
        yield


class TestSitemap(WebContract):
    """By lastmod alone: nothing is asked for but the sitemap."""

    tells_version = False

    @pytest.fixture
    def place(self, site: Site, tmp_path: Path) -> Place:
        return InSitemap(site, tmp_path)


class TestSitemapWithoutDates(WebContract):
    """By each page's headers."""

    @pytest.fixture
    def place(self, site: Site, tmp_path: Path) -> Place:
        return InSitemapWithoutDates(site, tmp_path)

    async def test_listing_many_items_loses_none(self, place: Place) -> None:
        """Fewer than usual: each is a request."""
        for number in range(300):
            place.put(f"{number % 7}/{number}.txt", b"x")
        assert sorted(ref.key for ref in await listed(place.connector())) == sorted(place.keys)


class TestCrawl(WebContract):
    """By links."""

    rereads = False

    @contextmanager
    def half(self, place: Linked) -> Iterator[None]:
        path = path_of("3/10.md")
        kept = place.site.routes[path]
        place.site.put(path, status=500)
        yield
        place.site.routes[path] = kept

    @pytest.fixture
    def place(self, site: Site, tmp_path: Path) -> Place:
        return Linked(site, tmp_path)

    async def test_listing_many_items_loses_none(self, place: Place) -> None:
        """Fewer than usual: each is a request."""
        for number in range(500):
            place.put(f"{number % 7}/{number}.txt", b"x")
        assert sorted(ref.key for ref in await listed(place.connector())) == sorted(place.keys)


HTML = {"Content-Type": "text/html; charset=utf-8"}


def page(*links: str, head: str = "", text: str = "words") -> str:
    anchors = "".join(f'<a href="{link}">x</a>' for link in links)
    return f"<html><head>{head}</head><body>{text}{anchors}</body>"


@pytest.fixture
def crawl(site: Site, tmp_path: Path) -> Callable[..., WebConnector]:
    """A crawl of the site from `/`."""

    def connector(depth: int = 10, start: Sequence[str] = ("/",), **settings: object) -> WebConnector:
        urls = [site.url + path for path in start]
        how = {"start": urls, "max_depth": depth, "cache": str(tmp_path / "cache")}
        return connector_of(crawl=how, **settings)

    return connector


async def paths(connector: WebConnector, site: Site) -> list[str]:
    return [ref.key.removeprefix(site.url) for ref in await listed(connector)]


async def drained(connector: WebConnector) -> dict[str, RawDocument]:
    return {ref.key: await connector.load(ref) for ref in await listed(connector)}


@pytest.mark.parametrize("dates", ["2026-01-01", None])
async def test_a_second_run_over_an_unchanged_sitemap_downloads_no_page(
    site: Site, dates: str | None
) -> None:
    for number in range(20):
        site.put(f"/{number}.html", page())
    urls = {f"{site.url}/{number}.html": dates for number in range(20)}
    site.put("/sitemap.xml", urlset(urls))
    first = await drained(connector_of(sitemap=f"{site.url}/sitemap.xml"))
    site.asked.clear()
    again = await listed(connector_of(sitemap=f"{site.url}/sitemap.xml"))
    assert {ref.key: ref.version for ref in again} == {key: raw.ref.version for key, raw in first.items()}
    assert site.downloads() == ["/sitemap.xml"]
    assert len(site.paths("HEAD")) == (0 if dates else 20)


@pytest.mark.parametrize("etag", [True, False])
async def test_a_second_crawl_of_an_unchanged_site_downloads_nothing(
    site: Site, crawl: Callable[..., WebConnector], etag: object
) -> None:
    dated = {**HTML, "Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
    site.put("/", page("/a", "/b"), headers=dated, etag=etag)
    site.put("/a", page("/c"), headers=dated, etag=etag)
    site.put("/b", page("/a", "/c"), headers=dated, etag=etag)
    site.put("/c", page(), headers=dated, etag=etag)
    first = await drained(crawl())
    assert len(site.downloads()) == 4  # what was listed was not fetched again to be loaded
    site.asked.clear()
    again = await listed(crawl())
    assert {ref.key: ref.version for ref in again} == {key: raw.ref.version for key, raw in first.items()}
    assert (site.downloads(), len(site.paths(status=304))) == ([], 4)


async def test_a_page_without_etag_and_date_is_told_by_its_content(
    site: Site, crawl: Callable[..., WebConnector]
) -> None:
    site.put("/", page(text="one"), headers=HTML, etag=False)
    [one] = await listed(crawl())
    [same] = await listed(crawl())
    site.put("/", page(text="two"), headers=HTML, etag=False)
    [two] = await listed(crawl())
    assert one == same
    assert two.version != one.version
    assert two.version.startswith("sha256:")


@pytest.mark.parametrize("way", ["crawl", "sitemap", "pages"])
async def test_a_second_ingest_of_an_unchanged_site_downloads_no_page_and_embeds_nothing(
    site: Site, tmp_path: Path, way: str
) -> None:
    for number in range(5):
        site.put(f"/{number}.html", page(f"/{(number + 1) % 5}.html", text=f"page {number}"), headers=HTML)
    urls = [f"{site.url}/{number}.html" for number in range(5)]
    site.put("/sitemap.xml", urlset(dict.fromkeys(urls)))
    settings: dict[str, object] = {
        "crawl": {"start": urls[:1], "cache": str(tmp_path)},
        "sitemap": f"{site.url}/sitemap.xml",
        "pages": urls,
    }
    embedder = OracleEmbedder()
    pipeline = Pipeline(
        parser=DocumentParser(),
        chunker=Chunker(max_tokens=64),
        embedder=embedder,
        store=MemoryStore(embedder.space),
        grouping=Grouping(),
    )
    first = await ingest_source(connector_of(**{way: settings[way]}), pipeline)
    assert (first.listed, len(first.failures)) == (5, 0)
    assert sorted(path for path in site.downloads() if path != "/sitemap.xml") == [
        f"/{n}.html" for n in range(5)
    ]
    site.asked.clear()
    embedder.requests.clear()
    second = await ingest_source(connector_of(**{way: settings[way]}), pipeline)
    assert (second.unchanged, embedder.requests) == (5, [])
    assert [path for path in site.downloads() if path != "/sitemap.xml"] == []


async def test_a_changed_page_alone_is_downloaded_and_what_it_links_to_now_is_found(
    site: Site, crawl: Callable[..., WebConnector]
) -> None:
    site.put("/", page("/a"), headers=HTML)
    site.put("/a", page(), headers=HTML)
    site.put("/b", page(), headers=HTML)
    await listed(crawl())
    site.asked.clear()
    site.put("/a", page("/b"), headers=HTML)
    assert await paths(crawl(), site) == ["/", "/a", "/b"]
    assert site.downloads() == ["/a", "/b"]


async def test_a_page_of_the_cache_that_the_store_lacks_is_fetched(
    site: Site, crawl: Callable[..., WebConnector]
) -> None:
    site.put("/", page(text="here"), headers=HTML)
    await listed(crawl())
    [raw] = (await drained(crawl())).values()
    assert b"here" in raw.content


async def test_a_broken_cache_costs_a_download_and_nothing_else(
    site: Site, crawl: Callable[..., WebConnector], tmp_path: Path
) -> None:
    site.put("/", page("/a"), headers=HTML)
    site.put("/a", page(), headers=HTML)
    before = await listed(crawl())
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(b"no database" * 1000)
    site.asked.clear()
    assert await listed(crawl()) == before
    assert len(site.downloads()) == 2


async def test_a_cache_folder_that_cannot_be_made_is_refused_by_name(
    site: Site, tmp_path: Path, crawl: Callable[..., WebConnector]
) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(SourceRefused, match=r"sources\.site\.crawl\.cache"):
        await listed(crawl())


async def test_the_same_page_under_several_urls_is_one_document(
    site: Site, crawl: Callable[..., WebConnector]
) -> None:
    links = ["/a?utm_source=x&amp;id=1", "/a?id=1&amp;fbclid=9", "/a?id=1#part", "/./a?id=1", "/%61?id=1"]
    site.put("/", page(*links), headers=HTML)
    site.put("/a?id=1", page(), headers=HTML)
    assert await paths(crawl(), site) == ["/", "/a?id=1"]
    assert site.downloads() == ["/", "/a?id=1"]


async def test_a_page_that_names_its_canonical_url_is_that_one_where_it_is_there(
    site: Site, crawl: Callable[..., WebConnector]
) -> None:
    site.put("/", page("/print", "/lost", "/x", "/y"), headers=HTML)
    site.put("/print", page(head='<link rel="canonical" href="/a">'), headers=HTML)
    site.put("/a", page(head='<link rel="canonical" href="/a">'), headers=HTML)
    site.put("/lost", page(head='<link rel="canonical" href="/nowhere">'), headers=HTML)
    site.put("/x", page(head='<link rel="canonical" href="/y">'), headers=HTML)
    site.put("/y", page(head='<link rel="canonical" href="/x">'), headers=HTML)
    assert await paths(crawl(), site) == ["/", "/lost", "/y", "/a"]


async def test_canonical_urls_that_lead_on_for_ever_end_at_the_depth(
    site: Site, crawl: Callable[..., WebConnector]
) -> None:
    site.otherwise = lambda asked: Answered(
        body=page(head=f'<link rel=canonical href="{asked.path}x/">').encode(), headers=HTML
    )
    assert len(await paths(crawl(depth=3), site)) == 1
    assert len(site.downloads()) == 5


async def test_a_redirect_gives_the_url_where_it_ends(site: Site, crawl: Callable[..., WebConnector]) -> None:
    site.put("/", page("/old", "/new/"), headers=HTML)
    site.redirect("/old", "/new", 301)
    site.redirect("/new", "/new/?utm_medium=x", 308)
    site.put("/new/?utm_medium=x", page(), headers=HTML)
    site.put("/new/", page(), headers=HTML)
    found = await drained(crawl())
    assert [key.removeprefix(site.url) for key in found] == ["/", "/new/"]
    assert [raw.url for raw in found.values()] == list(found)


async def test_a_redirect_loop_costs_one_page(site: Site, crawl: Callable[..., WebConnector]) -> None:
    site.put("/", page("/loop", "/a"), headers=HTML)
    site.redirect("/loop", "/loop2")
    site.redirect("/loop2", "/loop")
    site.put("/a", page(), headers=HTML)
    assert await paths(crawl(), site) == ["/", "/a"]
    connector = connector_of(pages=[f"{site.url}/loop"])
    [ref] = await listed(connector)
    with pytest.raises(ItemUnreadable, match="more than 10 redirects"):
        await connector.load(ref)


async def test_a_crawl_stays_on_its_host_within_its_depth_and_off_what_is_excluded(
    site: Site, crawl: Callable[..., WebConnector]
) -> None:
    elsewhere = site.url.replace("127.0.0.1", "127.0.0.2")
    site.put(
        "/",
        page("/a", f"{elsewhere}/b", "mailto:x@y", "javascript:x()", "/private/x", "/i.png"),
        headers=HTML,
    )
    site.put("/a", page("/a/b"), headers=HTML)
    site.put("/a/b", page("/a/b/c"), headers=HTML)
    site.put("/a/b/c", page(), headers=HTML)
    assert await paths(crawl(depth=2, exclude=["private"]), site) == ["/", "/a", "/a/b"]
    assert site.downloads() == ["/", "/a", "/a/b"]
    assert await paths(crawl(include=["a/**"]), site) == []
    assert await paths(crawl(include=["a/**", "a"]), site) == ["/a", "/a/b", "/a/b/c"]


async def test_a_calendar_without_an_end_is_refused_and_named(
    site: Site, crawl: Callable[..., WebConnector]
) -> None:
    def month(asked: Asked) -> Answered:
        number = int(asked.path.rpartition("/")[2] or 0)
        links = page(f"/calendar/{number + 1}", f"/calendar/{number + 2}", f"/calendar/{number + 500}")
        return Answered(body=links.encode(), headers=HTML)

    site.put("/", page("/calendar/1"), headers=HTML)
    site.otherwise = lambda asked: (
        month(asked) if asked.path.startswith("/calendar/") else Answered(status=404)
    )
    with pytest.raises(SourceRefused, match=r"max_pages: 50 pages, \d+ of them in /calendar: leave out with"):
        await listed(crawl(max_pages=50, depth=1000))
    assert len(site.paths()) < 150
    assert await paths(crawl(max_pages=50, exclude=["calendar"]), site) == ["/"]
    assert len(await paths(crawl(depth=3), site)) == 1 + 1 + 3 + 5


async def test_a_listing_that_takes_too_long_is_refused(
    site: Site, crawl: Callable[..., WebConnector]
) -> None:
    site.put("/", page("/slow"), headers=HTML)
    site.put("/slow", "x" * 1000, trickle=0.05)
    with pytest.raises(SourceRefused, match=r"not listed within max_seconds: 0\.3"):
        await listed(crawl(max_seconds=0.3))
    await site.until_closed()


async def test_robots_txt_is_obeyed(site: Site, crawl: Callable[..., WebConnector]) -> None:
    site.put("/robots.txt", "User-agent: *\nDisallow: /private\nDisallow: /*.pdf$\n", headers=HTML)
    site.put("/", page("/a", "/private/b", "/c.pdf", "/r"), headers=HTML)
    site.put("/a", page(), headers=HTML)
    site.redirect("/r", "/private/b")
    site.put("/private/b", page(), headers=HTML)
    site.put("/c.pdf", b"%PDF-")
    assert await paths(crawl(), site) == ["/", "/a"]
    assert "/private/b" not in site.paths()
    assert await paths(crawl(robots=False), site) == ["/", "/a", "/private/b", "/c.pdf"]
    connector = connector_of(pages=[f"{site.url}/private/b"])
    [ref] = await listed(connector)
    with pytest.raises(ItemUnreadable, match=r"forbidden by robots\.txt"):
        await connector.load(ref)
    with pytest.raises(SourceRefused, match=r"crawl\.start: .*forbidden by robots\.txt"):
        await listed(crawl(start=["/private/b"]))


async def test_rules_for_our_name_go_before_those_for_all(
    site: Site, crawl: Callable[..., WebConnector]
) -> None:
    site.put("/robots.txt", "User-agent: *\nDisallow: /\n\nUser-agent: docweave\nDisallow:\n")
    site.put("/", page(), headers=HTML)
    assert await paths(crawl(), site) == ["/"]
    assert {one.headers["user-agent"].partition("/")[0] for one in site.asked} == {"Docweave"}
    with pytest.raises(SourceRefused, match=r"robots\.txt"):
        await listed(crawl(user_agent="somebody"))


async def test_a_crawl_delay_is_kept(site: Site, crawl: Callable[..., WebConnector]) -> None:
    site.put("/robots.txt", "User-agent: *\nCrawl-delay: 0.2\n")
    site.put("/", page("/a", "/b"), headers=HTML)
    site.put("/a", page(), headers=HTML)
    site.put("/b", page(), headers=HTML)
    started = anyio.current_time()
    await listed(crawl())
    assert anyio.current_time() - started >= 0.4


async def test_robots_txt_that_fails_forbids_everything_for_now(
    site: Site, crawl: Callable[..., WebConnector], impatient: None
) -> None:
    site.put("/robots.txt", status=503)
    site.put("/", page(), headers=HTML)
    with pytest.raises(SourceUnavailable, match=r"robots\.txt answered 503"):
        await listed(crawl())
    assert site.paths() == []


async def test_pages_that_ask_not_to_be_indexed_are_left_out_and_what_they_link_to_is_not(
    site: Site, crawl: Callable[..., WebConnector]
) -> None:
    site.put("/", page("/meta", "/header", "/both"), headers=HTML)
    site.put("/meta", page("/a", head='<meta name=robots content="NoIndex">'), headers=HTML)
    site.put("/header", page(), headers={**HTML, "X-Robots-Tag": "noindex"})
    site.put("/both", page("/b", head='<meta content="none" name="robots">'), headers=HTML)
    site.put("/a", page(), headers=HTML)
    site.put("/b", page(), headers=HTML)
    assert await paths(crawl(), site) == ["/", "/a"]
    assert await paths(crawl(), site) == ["/", "/a"]  # as remembered
    assert await paths(crawl(noindex=False), site) == ["/", "/meta", "/header", "/both", "/a"]


async def test_a_hub_that_turns_us_away_later_is_reported_and_keeps_what_it_linked_to(
    site: Site, crawl: Callable[..., WebConnector]
) -> None:
    site.put("/", page("/hub", "/never"), headers=HTML)
    site.put("/hub", page("/a"), headers=HTML)
    site.put("/a", page(), headers=HTML)
    site.put("/never", status=403)
    assert await paths(crawl(), site) == ["/", "/hub", "/a"]
    site.put("/hub", status=403)
    connector = crawl()
    refs = await listed(connector)
    assert [ref.key.removeprefix(site.url) for ref in refs] == ["/", "/hub", "/a"]
    with pytest.raises(ItemUnreadable, match="403"):
        await connector.load(refs[1])


async def test_a_page_that_does_not_answer_ends_the_listing_with_an_error(
    site: Site, crawl: Callable[..., WebConnector], impatient: None
) -> None:
    site.put("/", page("/a", "/b"), headers=HTML)
    site.put("/a", page(), headers=HTML)
    site.put("/b", status=500)
    with pytest.raises(SourceUnavailable, match="/b answered 500"):
        await listed(crawl())
    assert site.paths().count("/b") == 4
    assert await paths(crawl(exclude=["b"]), site) == ["/", "/a"]


async def test_a_start_page_that_is_not_there_is_refused(
    site: Site, crawl: Callable[..., WebConnector]
) -> None:
    site.put("/", page(), headers=HTML)
    with pytest.raises(SourceRefused, match=r"sources\.site\.crawl\.start: .*/gone answered 404 Not Found"):
        await listed(crawl(start=["/", "/gone"]))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks again does so at once."""

    async def at_once(_: float) -> None:
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr("connectors.http_settings.Patience", partial(Patience, sleep=at_once))


class TestSitemaps:
    async def test_an_index_leads_to_others_packed_or_not(self, site: Site) -> None:
        pages = [f"{site.url}/{number}" for number in range(4)]
        places = [f"{site.url}/{name}" for name in ("one.xml", "two.xml.gz", "three.txt", "deeper.xml")]
        index = "".join(f"<sitemap><loc> {place} </loc></sitemap>" for place in places)
        site.put("/sitemap.xml", f"<sitemapindex>{index}</sitemapindex>")
        site.put("/one.xml", urlset({pages[0]: "2026-01-01"}), packed=True)
        site.put(
            "/two.xml.gz", gzip.compress(urlset({pages[1]: "2026-01-01", pages[0]: "2026-01-02"}).encode())
        )
        site.put("/three.txt", f"{pages[2]}\n\n{pages[2]}#x\n", headers={"Content-Type": "text/plain"})
        site.put(
            "/deeper.xml", f"<sitemapindex><sitemap><loc>{site.url}/four.xml</loc></sitemap></sitemapindex>"
        )
        site.put("/four.xml", urlset({pages[3]: "2026-01-01", "https://elsewhere.example/": "2026-01-01"}))
        site.put("/2")
        refs = await listed(connector_of(sitemap=f"{site.url}/sitemap.xml", media_types=["*/*"]))
        assert [ref.key for ref in refs] == pages
        assert [ref.version for ref in refs if ref.version.startswith("lastmod:")] == [
            "lastmod:2026-01-02",
            "lastmod:2026-01-01",
            "lastmod:2026-01-01",
        ]

    @pytest.mark.parametrize("wrong", ["half", "half packed", "cut", "503"])
    async def test_half_of_one_ends_the_listing_with_an_error(
        self, site: Site, wrong: str, impatient: None
    ) -> None:
        whole = urlset({f"{site.url}/{number}": "2026-01-01" for number in range(100)}).encode()
        index = "".join(f"<sitemap><loc>{site.url}/{number}.xml</loc></sitemap>" for number in range(3))
        site.put("/sitemap.xml", f"<sitemapindex>{index}</sitemapindex>")
        for number in (0, 2):
            site.put(f"/{number}.xml", whole)
        match wrong:
            case "half":
                site.put("/1.xml", whole[: len(whole) // 2])
            case "half packed":
                site.put("/1.xml", gzip.compress(whole)[:-20])
            case "cut":
                site.put("/1.xml", whole, cut_at=len(whole) // 2)
            case "503":
                site.put("/1.xml", status=503)
        with pytest.raises(SourceUnavailable, match=r"/1\.xml"):
            await listed(connector_of(sitemap=f"{site.url}/sitemap.xml"))

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"<html><body>Not found</body></html>", "its root is html"),
            (b"hello", "neither XML nor a list of URLs"),
            (b"", "neither XML nor a list of URLs"),
            (b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><urlset>&b;</urlset>', "document type"),
            (gzip.compress(bytes(60_000_000)), "unpacks to more than"),
        ],
    )
    async def test_what_is_no_sitemap_is_refused(self, site: Site, content: bytes, reason: str) -> None:
        site.put("/sitemap.xml", content)
        with pytest.raises(SourceRefused, match=reason):
            await listed(connector_of(sitemap=f"{site.url}/sitemap.xml"))

    async def test_one_that_is_not_there_is_refused_with_its_setting(self, site: Site) -> None:
        with pytest.raises(SourceRefused, match=r"sources\.site\.sitemap: .*/sitemap\.xml answered 404"):
            await listed(connector_of(sitemap=f"{site.url}/sitemap.xml"))

    async def test_an_index_that_leads_elsewhere_is_refused(self, site: Site) -> None:
        index = "<sitemapindex><sitemap><loc>http://169.254.169.254/x</loc></sitemap></sitemapindex>"
        site.put("/sitemap.xml", index)
        with pytest.raises(SourceRefused, match=r"169\.254\.169\.254, which sources\.site does not read"):
            await listed(connector_of(sitemap=f"{site.url}/sitemap.xml"))

    async def test_a_day_that_is_not_over_is_not_trusted(self, site: Site) -> None:
        today = datetime.now(UTC).date()
        urls = {
            f"{site.url}/new": today.isoformat(),
            f"{site.url}/old": (today - timedelta(days=3)).isoformat(),
        }
        site.put("/sitemap.xml", urlset(urls))
        site.put("/new", page(), headers=HTML)
        refs = await listed(connector_of(sitemap=f"{site.url}/sitemap.xml"))
        assert [ref.version.partition(":")[0] for ref in refs] == ["etag", "lastmod"]
        untrusting = connector_of(sitemap=f"{site.url}/sitemap.xml", trust_lastmod=False)
        site.put("/old", page(), headers=HTML)
        assert {ref.version.partition(":")[0] for ref in await listed(untrusting)} == {"etag"}

    async def test_pages_that_are_gone_excluded_or_of_another_type_are_not_listed(self, site: Site) -> None:
        urls = [f"{site.url}/{name}" for name in ("a", "gone", "private/b", "c.png", "d")]
        site.put("/sitemap.xml", urlset(dict.fromkeys(urls)))
        site.put("/a", page(), headers=HTML)
        site.put("/private/b", page(), headers=HTML)
        site.put("/d", b"x", headers={"Content-Type": "application/zip"})
        connector = connector_of(sitemap=f"{site.url}/sitemap.xml", exclude=["private"])
        assert await paths(connector, site) == ["/a"]

    async def test_more_pages_than_the_limit_are_refused(self, site: Site) -> None:
        site.put("/sitemap.xml", urlset({f"{site.url}/{number}": "2026-01-01" for number in range(11)}))
        with pytest.raises(SourceRefused, match="11 pages, more than max_pages: 10"):
            await listed(connector_of(sitemap=f"{site.url}/sitemap.xml", max_pages=10))


class TestPages:
    async def test_listed_pages_are_read_as_they_are(self, site: Site) -> None:
        site.put("/report.pdf", b"%PDF-1.7", headers={"Content-Type": "application/octet-stream"})
        site.put("/a", page(), headers=HTML)
        found = await drained(
            connector_of(
                pages=[f"{site.url}{path}" for path in ("/report.pdf", "/a?utm_source=x", "/a#part")]
            )
        )
        assert {raw.ref.key.removeprefix(site.url): raw.media_type for raw in found.values()} == {
            "/report.pdf": "application/pdf",
            "/a": "text/html",
        }

    async def test_a_page_that_is_not_there_is_listed_so_that_it_is_reported(self, site: Site) -> None:
        connector = connector_of(pages=[f"{site.url}/typo"])
        [ref] = await listed(connector)
        with pytest.raises(ItemUnreadable, match="/typo answered 404"):
            await connector.load(ref)

    async def test_a_server_that_does_not_know_head_is_asked_with_get_once(self, site: Site) -> None:
        def answer(asked: Asked) -> Answered:
            return (
                Answered(status=405)
                if asked.method == "HEAD"
                else Answered(body=b"x", headers=HTML, etag=False)
            )

        site.answers("/a", answer)
        [raw] = (await drained(connector_of(pages=[f"{site.url}/a"]))).values()
        assert (raw.content, site.downloads()) == (b"x", ["/a"])

    async def test_an_oversize_page_is_listed_and_refused_by_name_of_the_setting(self, site: Site) -> None:
        site.put("/a", b"x" * 2000, headers=HTML)
        connector = connector_of(pages=[f"{site.url}/a"], max_bytes=1000)
        [ref] = await listed(connector)
        with pytest.raises(ItemUnreadable, match=r"sources\.site\.max_bytes: 1,000"):
            await connector.load(ref)

    async def test_text_whose_encoding_the_header_alone_tells_is_made_utf8(self, site: Site) -> None:
        site.put("/a", "Größe".encode("cp1252"), headers={"Content-Type": "text/plain; charset=windows-1252"})
        site.put("/b", "<meta charset=cp1252>Größe".encode("cp1252"), headers={"Content-Type": "text/html"})
        found = await drained(connector_of(pages=[f"{site.url}/a", f"{site.url}/b"]))
        contents = [raw.content for raw in found.values()]
        assert contents == [b"\xef\xbb\xbf" + "Größe".encode(), "<meta charset=cp1252>Größe".encode("cp1252")]

    async def test_a_page_of_no_wanted_type_or_that_hides_is_unreadable(self, site: Site) -> None:
        today = "2026-01-01"
        site.put("/sitemap.xml", urlset({f"{site.url}/zip": today, f"{site.url}/hidden": today}))
        site.put("/zip", b"x", headers={"Content-Type": "application/zip"})
        site.put("/hidden", page(head="<meta name=robots content=noindex>"), headers=HTML)
        connector = connector_of(sitemap=f"{site.url}/sitemap.xml")
        zipped, hidden = await listed(connector)
        with pytest.raises(
            ItemUnreadable, match=r"application/zip, which sources\.site\.media_types does not name"
        ):
            await connector.load(zipped)
        with pytest.raises(ItemUnreadable, match="asks not to be indexed"):
            await connector.load(hidden)

    async def test_credentials_are_sent_and_their_refusal_says_so(self, site: Site) -> None:
        def answer(asked: Asked) -> Answered:
            return Answered(status=200 if asked.headers.get("authorization") == "Basic bWU6cHc=" else 401)

        site.answers("/", answer)
        crawl = {"start": [site.url]}
        knows = connector_of(crawl=crawl, username="me", password=SecretStr("pw"), media_types=["*/*"])
        assert await paths(knows, site) == ["/"]
        site.put("/", page(), headers=HTML, status=401)
        with pytest.raises(SourceRefused, match="401 Unauthorized: it wants credentials"):
            await listed(connector_of(crawl=crawl))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({}, "needs one of sitemap, pages and crawl"),
        ({"pages": ["https://x.org"], "sitemap": "https://x.org/s"}, "needs one of"),
        ({"pages": ["ftp://x.org"]}, "https:// or http://"),
        ({"pages": ["https://u:p@x.org"]}, "username and password"),
        ({"pages": []}, "at least 1"),
        ({"pages": ["https://x.org"], "allow_hosts": ["https://y.org"]}, "must be a host"),
        ({"pages": ["https://x.org"], "private_networks": ["10.0.0.1/8"]}, "must be an address or a network"),
        ({"pages": ["https://x.org"], "user_agent": "a\nb"}, "printable ASCII"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        WebSettings.model_validate({"type": "web", **wrong})
