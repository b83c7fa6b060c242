"""What a page's URL and its markup say: one URL for one page, links, canonical and robots."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors._url import host_of
from connectors.web.links import Outline, outline
from connectors.web.urls import canonical, path_of
from connectors.web.version import of_answer, of_headers, of_sitemap

AT = "https://example.org/docs/page"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTPS://Example.ORG.:443", "https://example.org/"),
        ("http://example.org:80/a", "http://example.org/a"),
        ("http://example.org:8080/a", "http://example.org:8080/a"),
        ("https://example.org/a/../b/./c/..", "https://example.org/b/"),
        ("https://example.org/../../a", "https://example.org/a"),
        ("https://example.org/a/", "https://example.org/a/"),
        ("https://example.org/a//b", "https://example.org/a//b"),
        ("https://example.org/%7euser/%c3%a4?q=%2f", "https://example.org/~user/%C3%A4?q=%2F"),
        ("https://example.org/ä b", "https://example.org/%C3%A4%20b"),
        ("https://müller.example/a", "https://xn--mller-kva.example/a"),
        ("https://example.org/a#part", "https://example.org/a"),
        ("https://example.org/a?#x", "https://example.org/a"),
        ("https://example.org/?utm_source=a&b=2&UTM_Medium=c&fbclid&a=1", "https://example.org/?b=2&a=1"),
        ("https://example.org/?gclid=1&&msclkid=2", "https://example.org/"),
        ("https://example.org/a;jsessionid=1F?b=1", "https://example.org/a?b=1"),
        ("https://example.org/?a=1&a=2&b", "https://example.org/?a=1&a=2&b"),
        ("http://[::1]:8080/", "http://[::1]:8080/"),
        ("ftp://example.org/", None),
        ("mailto:a@example.org", None),
        ("https://user@example.org/", None),
        ("https://", None),
        ("http://[", None),
        ("http://example.org:port/", None),
        ("https://xn--/", "https://xn--/"),
    ],
)
def test_equivalent_urls_are_one(url: str, expected: str | None) -> None:
    assert canonical(url) == expected


@given(st.text(max_size=60))
def test_a_canonical_url_is_its_own_and_keeps_its_host(rest: str) -> None:
    once = canonical(f"https://example.org/{rest}")
    if once is not None:
        assert canonical(once) == once
        assert once.isascii()
        assert host_of(once) == "example.org"


@given(st.text(max_size=200))
def test_nothing_is_taken_for_a_url_or_page_that_breaks(text: str) -> None:
    canonical(text)
    outline(f"<a href='{text}'>{text}<link rel=canonical href=\"{text}\">".encode("utf-8", "replace"), AT, {})


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://example.org/", "index.html"),
        ("https://example.org/docs/", "docs/index.html"),
        ("https://example.org/docs/a%20b+c.html?x=1", "docs/a b+c.html"),
    ],
)
def test_globs_see_the_path_alone(url: str, path: str) -> None:
    assert path_of(url) == path


def links(markup: str, **how: str) -> tuple[str, ...]:
    return outline(markup.encode(), AT, {}, **how).links


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ('<a href="a">x</a>', ["https://example.org/docs/a"]),
        ("<A CLASS=x HREF=/a>", ["https://example.org/a"]),
        ("<a\n  href = '/a?b=1&amp;c=2'  >", ["https://example.org/a?b=1&c=2"]),
        ('<a title="a > b" href="/a">', ["https://example.org/a"]),
        ('<a data-href="/no" href="/a">', ["https://example.org/a"]),
        ('<base href="https://other.org/x/"><a href="a">', ["https://other.org/x/a"]),
        ('<area href="/a"><iframe src="/b"></iframe><frame src="/c">', ["/a", "/b", "/c"]),
        ('<meta http-equiv="Refresh" content="0; URL=\'/a\'">', ["https://example.org/a"]),
        ('<a href="/a"></a><a href="/a#x"></a><a href="/a"></a>', ["/a", "/a#x"]),
        ('<a href="/a" rel="nofollow noopener">', []),
        ('<a href="mailto:x@y.z"><a href="javascript:x()"><a href="tel:1"><a href="data:,x"><a>', []),
        ('<!-- <a href="/no"> --><a href="/a">', ["/a"]),
        ('<!--><a href="/a">', ["/a"]),
        ('<script>\'<a href="/no">\'</script><a href="/a">', ["/a"]),
        ('<style>/* <a href="/no"> */</style ><a href="/a">', ["/a"]),
        ('<script>var unclosed = "<a href=/no>"', []),
        ('<abbr title="x">y</abbr><article href="/no">', []),
        ('<a href="http://[bad">x</a><a href="/a">', ["/a"]),
        ('<a href="/İ"><SCRIPT>İ</SCRIPT><a href="/b">', ["/İ", "/b"]),
        ('<a <a href="/a">', ["/a"]),
    ],
)
def test_links_are_found_as_browsers_find_them(markup: str, expected: list[str]) -> None:
    whole = [link if "://" in link else f"https://example.org{link}" for link in expected]
    assert list(links(markup)) == whole


def test_links_are_read_in_the_encoding_of_the_page() -> None:
    markup = '<meta charset="windows-1252"><a href="/größe">'
    assert outline(markup.encode("cp1252"), AT, {}).links == ("https://example.org/größe",)
    assert outline(markup.encode("utf-8-sig"), AT, {}).links == ("https://example.org/größe",)
    assert outline(markup.encode(), AT, {}, "utf-8").links == ("https://example.org/größe",)
    assert outline(markup.encode("utf-16"), AT, {}).links == ("https://example.org/größe",)


@pytest.mark.parametrize(
    ("markup", "headers", "expected"),
    [
        ('<link href="/x" rel="canonical">', {}, Outline(canonical="https://example.org/x")),
        ('<link rel="alternate" href="/x">', {}, Outline()),
        ('<meta name="ROBOTS" content="NOINDEX, follow">', {}, Outline(noindex=True)),
        ('<meta name="docweave" content="none">', {}, Outline(noindex=True, nofollow=True)),
        ('<meta name="googlebot" content="noindex">', {}, Outline()),
        ("", {"x-robots-tag": "noindex, nofollow"}, Outline(noindex=True, nofollow=True)),
        ("", {"x-robots-tag": "googlebot: noindex"}, Outline()),
    ],
)
def test_what_a_page_says_of_itself_is_known(markup: str, headers: dict[str, str], expected: Outline) -> None:
    assert outline(markup.encode(), AT, headers) == expected


@pytest.mark.parametrize(
    "hostile",
    [
        "<a " * 700_000,
        '<a "' * 500_000,
        "<a '\"" * 400_000,
        "<a href=" * 250_000,
        "<" * 2_000_000,
        "<!--" * 500_000,
        "<script>" * 250_000,
        "<title" * 300_000,
        "<a " + "x" * 2_000_000,
        "<a " + "x=" * 1_000_000 + ">",
        "<a " + " " * 2_000_000 + "href='/a'>",
        "<meta content='" + "0" * 1_000_000 + "' http-equiv=refresh>",
        "<a href='" + "../" * 300_000 + "'>",
    ],
)
def test_a_hostile_page_costs_no_more_than_its_length(hostile: str) -> None:
    started = time.process_time()
    outline(hostile.encode(), AT, {})
    assert time.process_time() - started < 3


def test_a_page_with_very_many_links_gives_the_first() -> None:
    assert len(links("".join(f'<a href="/{number}">' for number in range(20_000)))) == 5_000


def test_a_version_is_told_in_the_way_in_which_it_was_listed() -> None:
    both = {"etag": '"1"', "last-modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
    assert of_headers(both) == 'etag:"1"'
    assert of_headers({}) is None
    assert of_answer(both, b"x") == 'etag:"1"'
    assert of_answer(both, b"x", "modified:long ago") == f"modified:{both['last-modified']}"
    assert of_answer(both, b"x", of_sitemap("2026-01-01")) == "lastmod:2026-01-01"
    assert of_answer(both, b"x", "sha256:0").startswith("sha256:2d711642")
    assert of_answer({}, b"x", 'etag:"1"').startswith("sha256:2d711642")
