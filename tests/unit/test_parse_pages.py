"""Whole web pages, as sites and their generators make them: what of them becomes text."""

from __future__ import annotations

import re

import pytest

from pipeline.chunk import Chunker
from pipeline.parse import DocumentParser
from pipeline.records import Document, ItemRef, RawDocument

SAID = (
    "Travel is paid by the day.",
    "The rate depends on the city.",
    "Ask before you book.",
    "A night in Bonn costs more.",
)
CONTENT = f"""<h1>Travel</h1><p>{SAID[0]}</p><h2>Rates</h2><p>{SAID[1]}</p>
<table><tr><th>City</th><th>Rate</th></tr><tr><td>Bonn</td><td>12.5</td></tr></table>
<ul><li>{SAID[2]}</li></ul><p>{SAID[3]} See <a href="/rates">all rates</a>.</p>"""
MENU = "".join(f'<li><a href="/chrome/{number}">CHROME {number}</a></li>' for number in range(30))
SCRIPTS = '<script>var CHROME = "<p>CHROME</p>";</script><style>.CHROME { color: red }</style>'
HEAD = f"<!doctype html><html lang=en><head><meta charset=utf-8><title>Travel | Site</title>{SCRIPTS}</head>"

PAGES = {
    "a handbook's generator, with a main element": f"""{HEAD}<body><a class="skip-link" href="#c">CHROME</a>
        <header class="md-header"><nav>{MENU}</nav><form role="search"><input value="CHROME"></form></header>
        <div class="md-sidebar"><ul>{MENU}</ul></div><main id="c"><article>{CONTENT}</article></main>
        <footer><p>CHROME 2026</p><ul>{MENU}</ul></footer>{SCRIPTS}</body></html>""",
    "a blog, with an article and no main element": f"""{HEAD}<body class="home"><div id="page">
        <header id="masthead"><h2>CHROME</h2><nav><ul>{MENU}</ul></nav></header><div id="content">
        <article class="post">{CONTENT}</article></div><aside class="widget-area"><h2>CHROME</h2>
        <ul>{MENU}</ul></aside><footer id="colophon">CHROME</footer></div><div class="cookie-banner">CHROME
        <button>CHROME</button></div></body></html>""",
    "an old site, with neither": f"""{HEAD}<body><div id="nav"><ul>{MENU}</ul></div>
        <ol class="breadcrumb"><li>CHROME</li></ol><div class="text">{CONTENT}</div>
        <div id="footer">CHROME <a href="/imprint">CHROME</a></div></body></html>""",
    "a wiki": f"""{HEAD}<body><div role="banner">CHROME</div><div role="navigation"><ul>{MENU}</ul></div>
        <div role="search">CHROME</div><div id="bodyContent">
        {CONTENT.replace("</h2>", '<span class="mw-editsection">[CHROME]</span></h2>')}
        <div class="printfooter">CHROME</div><div class="catlinks">CHROME</div></div>
        <div role="contentinfo"><ul>{MENU}</ul></div></body></html>""",
}


@pytest.fixture(scope="module")
def parser() -> DocumentParser:
    return DocumentParser(processes=1)


async def parse(parser: DocumentParser, page: str) -> Document:
    ref = ItemRef(source="site", key="travel.html", version="1")
    return await parser.parse(RawDocument(ref=ref, content=page.encode(), media_type="text/html"))


@pytest.mark.parametrize("site", PAGES)
async def test_menus_and_footers_reach_no_chunk_and_the_content_does(
    parser: DocumentParser, site: str
) -> None:
    document = await parse(parser, PAGES[site])

    chunks = "\n".join(chunk.text for chunk in Chunker().chunk(document))
    assert "CHROME" not in chunks
    assert [said for said in SAID if said not in chunks] == []
    assert "| Bonn | 12.5 |" in chunks
    assert "[all rates](/rates)" in chunks
    assert document.title == "Travel"
    assert [section.heading_path for section in document.sections] == [("Travel",), ("Travel", "Rates")]


async def test_pages_without_main_or_article_keep_all_their_text(parser: DocumentParser) -> None:
    blocks = [f"Said in block {number}." for number in range(40)]
    tags = ["p", "div", "section", "li", "td", "blockquote", "pre", "dd", "span", "center"]
    body = "".join(
        f"<{tags[at % len(tags)]}>{said}</{tags[at % len(tags)]}>" for at, said in enumerate(blocks)
    )

    document = await parse(parser, f"<html><body>{body}</body></html>")

    assert re.findall(r"Said in block \d+\.", document.text) == blocks
