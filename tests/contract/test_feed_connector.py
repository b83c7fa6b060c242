"""Entries of feeds: the contract over the articles that they link to, and what feeds do wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from html import escape
from pathlib import Path
from unittest.mock import patch

import anyio.lowlevel
import pytest

from connectors._http import Patience
from connectors.feed import FeedConnector, FeedSettings
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from tests.contract.connector_contract import ConnectorContract, listed
from tests.web_server import LOOPBACK, Answered, Asked, Site, path_of, serving


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as site:
        yield site


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks again does so at once."""

    async def at_once(_: float) -> None:
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr("connectors.http_settings.Patience", partial(Patience, sleep=at_once))


def feed_of(site: Site, **settings: object) -> FeedConnector:
    chosen = {"type": "feed", "url": f"{site.url}/feed.xml", "private_networks": [LOOPBACK], **settings}
    return FeedConnector(
        source="news", settings=FeedSettings.model_validate({"requests_per_second": 1000, **chosen})
    )


def rss(*items: str) -> str:
    channel = f"<channel><title>News</title>{''.join(items)}</channel>"
    return f'<?xml version="1.0"?><rss version="2.0">{channel}</rss>'


def item(key: str, text: str = "", **more: str) -> str:
    others = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in more.items())
    guid = f'<guid isPermaLink="false">{escape(key)}</guid>' if key else ""
    return f"<item>{guid}<description>{escape(text)}</description>{others}</item>"


@dataclass
class Articles:
    """A feed whose entries link to articles."""

    site: Site
    keys: dict[str, int] = field(default_factory=dict)
    """Each with how often it was changed."""

    def put(self, key: str, content: bytes) -> None:
        self.site.put(path_of(key), content)
        self.keys[key] = self.keys.get(key, 0) + 1

    def drop(self, key: str) -> None:
        self.site.drop(path_of(key))
        del self.keys[key]

    def feed(self, _: Asked) -> Answered:
        items = [item(key, f"revision {count}", link=path_of(key)) for key, count in self.keys.items()]
        return Answered(body=rss(*items).encode())

    def connector(self) -> FeedConnector:
        self.site.answers("/feed.xml", lambda asked: self.feed(asked))  # noqa: PLW0108 - as it is then
        return feed_of(self.site, full=True)


class TestFeedOfArticles(ConnectorContract):
    """The contract, where `full` has the articles read."""

    tells_version = False

    @contextmanager
    def outage(self, place: Articles) -> Iterator[None]:
        with patch.object(place.site, "answer", lambda _: Answered(status=503)):
            yield

    @contextmanager
    def refusal(self, place: Articles) -> Iterator[None]:
        with patch.object(place.site, "answer", lambda _: Answered(status=401)):
            yield

    @contextmanager
    def half(self, place: Articles) -> Iterator[None]:
        whole = place.feed
        with patch.object(place, "feed", lambda asked: Answered(body=whole(asked).body[:2000])):
            yield

    @contextmanager
    def repeating(self, place: Articles) -> Iterator[None]:
        def feed(_: Asked) -> Answered:
            once = [item(key, f"revision {count}", link=path_of(key)) for key, count in place.keys.items()]
            return Answered(body=rss(*once, *once[:2]).encode())

        with patch.object(place, "feed", feed):
            yield

    @pytest.fixture
    def place(self, site: Site) -> Articles:
        return Articles(site)


ATOM = """<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom"><title>News</title><id>urn:feed</id>
<entry><id>urn:uuid:1</id><title type="html">Köln &amp;amp; &lt;b&gt;more&lt;/b&gt;</title>
<link rel="alternate" href="/articles/1"/><link rel="enclosure" href="/a.mp3"/>
<published>2026-11-20T08:00:00+01:00</published><updated>2026-11-21T10:00:00Z</updated>
<author><name>Ada</name></author><author><name>Bob</name></author>
<category term="people"/><category term="places"/>
<summary>Short.</summary>
<content type="html">&lt;p&gt;The whole &lt;em&gt;article&lt;/em&gt;&lt;/p&gt;
&lt;script&gt;x()&lt;/script&gt;</content>
</entry></feed>"""


async def test_all_that_an_atom_entry_says_is_given(site: Site) -> None:
    site.put("/feed.xml", ATOM)
    connector = feed_of(site)
    [ref] = await listed(connector)
    raw = await connector.load(ref)
    assert (ref.key, raw.title, raw.url) == ("urn:uuid:1", "Köln & more", f"{site.url}/articles/1")
    assert raw.content.decode() == "<p>The whole <em>article</em></p>"
    assert raw.media_type == "text/html"
    assert raw.metadata == {
        "published": "2026-11-20T07:00:00+00:00",
        "updated": "2026-11-21T10:00:00+00:00",
        "authors": ["Ada", "Bob"],
        "tags": ["people", "places"],
    }


RDF = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/">
<channel rdf:about="c"/>
<item rdf:about="u:1"><title>T</title><link>https://x.org/</link><description>d</description></item>
</rdf:RDF>"""


@pytest.mark.parametrize(
    ("feed", "expected"),
    [
        (rss(item("1", "<p>Hi", title="T")), [("1", "T", "<p>Hi")]),
        (rss(item("", "a", link="https://x.org/1")), [("https://x.org/1", None, "a")]),
        (rss(item("1", title="Only a title")), [("1", "Only a title", "Only a title")]),
        (rss(item("1", "newer"), item("1", "older")), [("1", None, "newer")]),
        (rss(item("", "nothing tells it apart")), []),
        (rss(), []),
        (
            RDF,
            [("u:1", "T", "d")],
        ),
    ],
)
async def test_feeds_of_every_kind_are_read(
    site: Site, feed: str, expected: list[tuple[str, str | None, str]]
) -> None:
    site.put("/feed.xml", feed)
    connector = feed_of(site)
    raws = [await connector.load(ref) for ref in await listed(connector)]
    assert [(raw.ref.key, raw.title, raw.content.decode()) for raw in raws] == expected


async def test_a_feed_that_is_not_well_formed_is_read_as_far_as_it_means_something(site: Site) -> None:
    site.put(
        "/feed.xml", rss("<item><guid>1</guid><title>Fish & chips &nbsp; <br></title></item>", item("2", "b"))
    )
    assert len(await listed(feed_of(site))) == 2


async def test_the_encoding_is_the_one_that_the_feed_declares(site: Site) -> None:
    text = rss(item("1", "Größe")).replace('"1.0"', '"1.0" encoding="iso-8859-1"', 1)
    site.put("/feed.xml", text.encode("iso-8859-1"))
    connector = feed_of(site)
    [ref] = await listed(connector)
    assert (await connector.load(ref)).content.decode() == "Größe"


async def test_an_entry_that_says_something_else_has_another_version_and_its_neighbours_keep_theirs(
    site: Site,
) -> None:
    site.put("/feed.xml", rss(item("1", "a"), item("2", "b")))
    one, two = await listed(feed_of(site))
    site.put("/feed.xml", rss(item("1", "a", title="corrected"), item("2", "b")))
    changed, same = await listed(feed_of(site))
    assert (changed.key, same) == (one.key, two)
    assert changed.version != one.version


@pytest.mark.parametrize("etag", ["etag", ""])
async def test_an_unchanged_feed_is_not_downloaded_again(site: Site, etag: str) -> None:
    dated = {"Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
    site.put("/feed.xml", rss(item("1", "a")), etag=bool(etag), headers=dated)
    before = await listed(feed_of(site))
    site.asked.clear()
    connector = feed_of(site)
    [ref] = await listed(connector)
    assert [ref] == before
    assert (await connector.load(ref)).content == b"a"
    assert [one.status for one in site.asked] == [304]


async def test_a_broken_cache_costs_a_download_and_nothing_else(site: Site, tmp_path: Path) -> None:
    site.put("/feed.xml", rss(item("1", "a")))
    before = await listed(feed_of(site, cache=str(tmp_path)))
    [file] = tmp_path.glob("news-*")  # noqa: ASYNC240 - a test may block
    for content in (b"", b"{}\n", b"{broken", b'{"url": 1}\nx'):
        file.write_bytes(content)
        assert await listed(feed_of(site, cache=str(tmp_path))) == before


async def test_entries_that_drop_off_are_kept_unless_said_otherwise(site: Site) -> None:
    assert feed_of(site).keeps_vanished
    assert not feed_of(site, keep_vanished=False).keeps_vanished


async def test_what_the_parser_stumbles_over_is_refused(site: Site) -> None:
    declared = b'<?xml version="1.0" encoding="ut\xd4f-8"?>'
    site.put("/feed.xml", declared + rss(item("1", "a")).partition("?>")[2].encode())
    with pytest.raises(SourceRefused, match="neither RSS nor Atom"):
        await listed(feed_of(site))


async def test_half_a_feed_ends_the_listing_with_an_error(site: Site) -> None:
    whole = rss(*(item(str(number), "x" * 50) for number in range(50)))
    site.put("/feed.xml", whole[: len(whole) // 2])
    with pytest.raises(SourceUnavailable, match=r"/feed\.xml ends before its entries do"):
        await listed(feed_of(site))
    site.put("/feed.xml", whole, cut_at=len(whole) // 2)
    with pytest.raises(SourceUnavailable, match=r"/feed\.xml could not be read"):
        await listed(feed_of(site))
    site.put("/feed.xml", whole + "\n<!-- made by a machine -->\n")
    assert len(await listed(feed_of(site))) == 50


@pytest.mark.parametrize("content", ["<html><body>Log in</body></html>", "", "hello", '{"version": "1.1"}'])
async def test_what_is_no_feed_is_refused_with_its_setting(site: Site, content: str) -> None:
    site.put("/feed.xml", content)
    with pytest.raises(SourceRefused, match=r"sources\.news\.url: .* is neither RSS nor Atom"):
        await listed(feed_of(site))


@pytest.mark.parametrize(
    ("status", "error"), [(401, SourceRefused), (404, SourceRefused), (503, SourceUnavailable)]
)
async def test_a_feed_that_is_not_given_says_why(site: Site, status: int, error: type[Exception]) -> None:
    site.put("/feed.xml?key=s3cret", b"", status=status)
    with pytest.raises(error, match=f"answered {status}") as raised:
        await listed(feed_of(site, url=f"{site.url}/feed.xml?key=s3cret"))
    assert "s3cret" not in str(raised.value)


async def test_no_entity_is_fetched_or_expanded(site: Site, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    declared = (
        f'<!DOCTYPE rss [<!ENTITY a SYSTEM "file://{tmp_path}/secret"><!ENTITY b SYSTEM "{site.url}/entity">'
        '<!ENTITY c "ccccccccccccccccccccccccccccccccccccccccccccccccc">'
        + "".join(
            f'<!ENTITY c{n} "{"&c;" if not n else f"&c{n - 1};" * 10}{"" if n else "&c;"}">' for n in range(9)
        )
        + "]>"
    )
    text = "<item><guid>1</guid><description>x &a; &b; &c8;</description></item>"
    site.put(
        "/feed.xml", f'<?xml version="1.0"?>{declared}<rss version="2.0"><channel>{text}</channel></rss>'
    )
    connector = feed_of(site)
    for ref in await listed(connector):
        raw = await connector.load(ref)
        assert b"s3cret" not in raw.content
        assert len(raw.content) < 10_000
    assert site.paths() == ["/feed.xml"]


async def test_an_article_elsewhere_is_read_only_where_its_host_is_allowed(site: Site) -> None:
    async with serving() as other:
        other.put("/article", "the article", headers={"Content-Type": "text/html; charset=utf-8"})
        links = [f"{other.url}/article", "http://169.254.169.254/latest", f"{site.url}/moved"]
        site.put("/feed.xml", rss(*(item(link, "in short", link=link) for link in links)))
        site.redirect("/moved", "http://127.0.0.2/")
        closed = feed_of(site, full=True)
        for ref in await listed(closed):
            with pytest.raises(ItemUnreadable, match=r"sources\.news does not read: name it in allow_hosts"):
                await closed.load(ref)
        opened = feed_of(site, full=True, allow_hosts=["*"])
        refs = await listed(opened)
        assert (await opened.load(refs[0])).content == b"the article"
        with pytest.raises(ItemUnreadable, match=r"169\.254\.169\.254, which is no public address"):
            await opened.load(refs[1])


async def test_an_article_that_wants_a_login_or_is_gone_costs_itself_only(site: Site) -> None:
    site.put(
        "/feed.xml", rss(*(item(str(number), "x", link=f"/{number}") for number in range(3)), item("4", "x"))
    )
    site.put("/0", status=403)
    site.put("/2", b"here", headers={"Content-Type": "text/plain"})
    connector = feed_of(site, full=True)
    locked, gone, there, linkless = await listed(connector)
    for ref, reason in ((locked, "403"), (gone, "404"), (linkless, "links to no article")):
        with pytest.raises(ItemUnreadable, match=reason):
            await connector.load(ref)
    assert (await connector.load(there)).content == b"here"
