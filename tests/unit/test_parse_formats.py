"""Every format: its text, its headings, its tables, and what it says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import ParseError, SettingsError
from pipeline.parse import DocumentParser, native
from pipeline.parse.formats import FORMATS, format_by_content, format_of
from pipeline.parse.ocr import tesseract_data
from pipeline.records import Document, ItemRef, RawDocument
from tests import documents
from tests.documents import SAMPLES

TABLE = "| City | Rate |\n| --- | --- |\n| Bonn | 12.5 |"


@pytest.fixture(scope="module")
def parser() -> DocumentParser:
    return DocumentParser(processes=1)


async def parse(parser: DocumentParser, key: str, content: bytes | str, media_type: str = "") -> Document:
    data = content.encode() if isinstance(content, str) else content
    ref = ItemRef(source="s", key=key, version="1")
    return await parser.parse(RawDocument(ref=ref, content=data, media_type=media_type))


def paths(document: Document) -> list[tuple[str, ...]]:
    return [section.heading_path for section in document.sections]


@pytest.mark.parametrize(
    ("key", "headings"),
    [
        ("a.md", ["Travel", "Rates"]),
        ("a.html", ["Travel", "Rates"]),
        ("a.docx", ["Travel", "Rates"]),
        ("a.odt", ["Travel", "Rates"]),
        ("a.rst", ["Travel", "Rates"]),
        ("a.adoc", ["Travel", "Rates"]),
        ("a.xml", ["Travel", "Rates"]),
        ("a.odp", ["Travel", "Rates"]),
        ("a.xlsx", ["Rates"]),
        ("a.xls", ["Rates"]),
        ("a.ods", ["Rates"]),
        ("a.epub", ["Chapter 1", "Chapter 2"]),
        ("a.csv", []),
        ("a.rtf", []),
    ],
)
async def test_headings_and_tables_survive(parser: DocumentParser, key: str, headings: list[str]) -> None:
    document = await parse(parser, key, SAMPLES[key]())

    assert [path[-1] for path in paths(document) if path] == headings
    assert TABLE.replace("City | Rate", "city | usd") in document.text or TABLE in document.text
    assert document.syntax == "markdown"


def test_every_format_has_a_sample() -> None:
    unwritten = {"plain text", "TSV", "DOC", "PPT"}

    read = {kind.name for key in SAMPLES if (kind := format_of("", key))}

    assert read | unwritten == {kind.name for kind in FORMATS}


@pytest.mark.parametrize("key", ["a.html", "a.docx", "a.odt", "a.ods", "a.odp", "a.rtf", "a.epub", "a.pdf"])
async def test_a_format_that_names_its_author_has_it_in_the_metadata(
    parser: DocumentParser, key: str
) -> None:
    assert (await parse(parser, key, SAMPLES[key]())).metadata["author"] == "Ann Smith"


async def test_slides_of_an_odp_are_pages_with_notes(parser: DocumentParser) -> None:
    document = await parse(parser, "a.odp", documents.open_slides())

    assert [page.number for page in document.pages] == [1, 2]
    assert document.text.startswith("## Travel\n\n- Trains first\n\nNotes: Wait for all\n\n## Rates")


async def test_yaml_front_matter_is_metadata_and_names_the_document(parser: DocumentParser) -> None:
    text = "---\ntitle: Moving\ndate: 2026-02-03\ntags: [a, b]\nauthor: {name: Ann}\n---\n\nThe text.\n"

    document = await parse(parser, "a.md", text)

    assert (document.title, document.text) == ("Moving", "The text.\n")
    assert document.metadata == {"date": "2026-02-03", "tags": ["a", "b"], "author": {"name": "Ann"}}


async def test_toml_front_matter_is_metadata_too(parser: DocumentParser) -> None:
    document = await parse(parser, "a.md", "+++\ntitle = 'Moving'\nweight = 3\n+++\nThe text.\n")

    assert (document.title, document.text, document.metadata) == ("Moving", "The text.\n", {"weight": 3})


@pytest.mark.parametrize(
    "block",
    [
        "a: [",
        "just words",
        "- a list",
        "date: 2026-13-45",
        "a: &x [1]\nb: *x",
        "a: !!python/object/apply:os.getcwd []",
        "a: " + "[" * 5_000 + "]" * 5_000,
        "- " * 5_000 + "a",
        "",
    ],
)
async def test_front_matter_that_is_broken_or_hostile_stays_text(parser: DocumentParser, block: str) -> None:
    text = f"---\n{block}\n---\nThe text.\n"

    document = await parse(parser, "a.md", text)

    assert (document.text, document.metadata) == (text, {})


async def test_front_matter_that_is_too_much_for_metadata_stays_in_the_text(parser: DocumentParser) -> None:
    text = f"---\ntitle: Moving\nteam: a\nabstract: {'word ' * 300}\n---\nThe text.\n"

    document = await parse(parser, "a.md", text)

    assert (document.title, document.text) == ("Moving", text)
    assert document.metadata["team"] == "a"
    assert "abstract" not in document.metadata


async def test_what_the_source_says_wins_over_what_the_document_says(parser: DocumentParser) -> None:
    ref = ItemRef(source="s", key="a.md", version="1")
    content = b"---\naccess: everybody\ntitle: Own\n---\nText."
    raw = RawDocument(ref=ref, content=content, media_type="", title="Given", metadata={"access": "board"})

    document = await parser.parse(raw)

    assert (document.title, document.metadata) == ("Given", {"access": "board"})


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The rates are paid for each day of a journey, and for the night.", "en"),
        ("Die Sätze werden für jeden Tag einer Reise gezahlt, und für die Nacht.", "de"),
        ("Les taux sont versés pour chaque jour de voyage, et pour la nuit.", "fr"),
        ("Ставки выплачиваются за каждый день поездки и за ночь.", "ru"),
        ("旅費は出張の日ごとに支払われます。夜の分も含みます。", "ja"),
        ("差旅费按每天支付,也包括夜间,不需要另外申请。", "zh"),
    ],
)
async def test_the_language_is_told(parser: DocumentParser, text: str, language: str) -> None:
    assert (await parse(parser, "a.txt", text)).metadata["language"] == language


@pytest.mark.parametrize(
    "text", ["", "Ok.", "12.5 99.1 " * 100, "```\nfor x in y: pass\n```\n" * 20, "/usr/bin " * 50]
)
async def test_no_language_is_told_of_what_is_in_none(parser: DocumentParser, text: str) -> None:
    assert "language" not in (await parse(parser, "a.md", text)).metadata


async def test_a_declared_language_counts_where_the_text_is_too_short(parser: DocumentParser) -> None:
    short = await parse(parser, "a.html", '<html lang="de-AT"><p>Servus</p></html>')
    long = await parse(parser, "b.html", f'<html lang="de-AT"><p>{documents.WORDS}</p></html>')
    written = await parse(parser, "c.md", f"---\nlanguage: English\n---\n{documents.WORDS}")

    assert (short.metadata["language"], long.metadata["language"]) == ("de", "en")
    assert written.metadata["language"] == "English"


async def test_a_page_says_where_it_belongs_and_who_wrote_it_when(parser: DocumentParser) -> None:
    page = """<html><head><link href='https://x.org/a?b=1&amp;c=2' rel="canonical">
    <meta content="Ann" name=author><meta property="article:published_time" content="2026-02-03">
    <meta name="description" content="All about it"></head><p>Hi</p></html>"""

    assert (await parse(parser, "a.html", page)).metadata == {
        "canonical": "https://x.org/a?b=1&c=2",
        "author": "Ann",
        "published": "2026-02-03",
        "description": "All about it",
    }


async def test_site_chrome_does_not_reach_the_text(parser: DocumentParser) -> None:
    chrome = [
        "<nav>CHROME</nav>",
        "<header>CHROME</header>",
        "<footer>CHROME</footer>",
        "<aside>CHROME</aside>",
        "<div role=navigation>CHROME</div>",
        "<div role='complementary'>CHROME</div>",
        "<div aria-hidden=true>CHROME</div>",
        "<dialog open>CHROME</dialog>",
        "<template>CHROME</template>",
        "<div id=sidebar>CHROME</div>",
        "<div class='wide sidebar left'>CHROME</div>",
        "<ol class=breadcrumbs><li>CHROME</li></ol>",
        "<a class=skip-link href='#c'>CHROME</a>",
        "<button>CHROME</button>",
        "<noscript><style>CHROME{}</style></noscript>",
    ]
    link = '<p>See <a href="/rates">the rates</a>.</p>'

    document = await parse(parser, "a.html", f"<body>{''.join(chrome)}<h1>Leave</h1>{link}{chrome[2]}</body>")

    assert document.text == "# Leave\n\nSee [the rates](/rates).\n"


async def test_an_articles_own_header_is_content(parser: DocumentParser) -> None:
    article = "<article><header><h1>Leave</h1><p>By Ann</p></header><aside>Note</aside><p>Words</p></article>"

    document = await parse(parser, "a.html", f"<body><header>Site</header>{article}</body>")
    inside = await parse(parser, "b.html", f"<main>{article}</main>")

    assert document.text == "# Leave\n\nBy Ann\n\nWords\n"
    assert "Note" in inside.text


async def test_the_transports_charset_is_believed(parser: DocumentParser) -> None:
    page = "<p>Отпуск</p>".encode("koi8-r")

    assert "Отпуск" in (await parse(parser, "a.html", page, "text/html; charset=KOI8-R")).text
    assert (
        "Отпуск" in (await parse(parser, "a", "Отпуск".encode("koi8-r"), 'text/plain;charset="koi8-r"')).text
    )


async def test_json_is_sections_fields_and_tables(parser: DocumentParser) -> None:
    value = {
        "name": "Widget",
        "tags": ["a", "b"],
        "owner": {"name": "Ann", "address": {"city": "Bonn"}},
        "rates": [{"city": "Bonn", "rate": 12.5}, {"city": "Kiel"}],
        "notes": ["x" * 50, "y" * 50],
        "last": None,
    }

    document = await parse(parser, "a.json", json.dumps(value))

    assert document.text.split("\n") == [
        "name: Widget  ",
        "tags: a, b  ",
        "last:   ",
        "",
        "# owner",
        "",
        "name: Ann  ",
        "",
        "## address",
        "",
        "city: Bonn  ",
        "",
        "# rates",
        "",
        "| city | rate |",
        "| --- | --- |",
        "| Bonn | 12.5 |",
        "| Kiel |  |",
        "",
        "# notes",
        "",
        f"- {'x' * 50}",
        f"- {'y' * 50}",
        "",
    ]
    assert paths(document) == [(), ("owner",), ("owner", "address"), ("rates",), ("notes",)]


async def test_objects_too_unlike_for_a_table_are_sections_by_their_names(parser: DocumentParser) -> None:
    value = [{"title": "One", "text": "x" * 300}, {"id": 7, "inner": {"a": 1}}]

    document = await parse(parser, "a.json", json.dumps(value))

    assert paths(document) == [("One",), ("7",), ("7", "inner")]


@pytest.mark.parametrize("key", ["a.json", "a.jsonl", "a.xml", "a.ipynb"])
async def test_what_is_not_what_it_says_stays_text(parser: DocumentParser, key: str) -> None:
    document = await parse(parser, key, "{ not <quite right")

    assert (document.text, document.syntax) == ("{ not <quite right", "plain")


async def test_xml_keeps_its_order_and_its_code(parser: DocumentParser) -> None:
    text = (
        "<article xmlns='http://docbook.org/ns/docbook'><title>T</title><para>One <b>two</b>\n three.</para>"
        "<programlisting>a\n  b</programlisting><price unit='EUR'>3</price><size>4</size></article>"
    )

    document = await parse(parser, "a.xml", text)

    assert document.text == ("# T\n\nOne two three.\n\n```\na\n  b\n```\n\nprice (unit=EUR): 3  \nsize: 4")


async def test_xml_is_decoded_as_it_declares(parser: DocumentParser) -> None:
    text = '<?xml version="1.0" encoding="koi8-r"?><a><b>Отпуск</b></a>'

    assert (await parse(parser, "a.xml", text.encode("koi8-r"))).text == "b: Отпуск"


async def test_no_file_that_markup_names_is_read(parser: DocumentParser, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("TOP-SECRET")
    entity = f'<!DOCTYPE a [<!ENTITY x SYSTEM "{secret.as_uri()}">]><a><b>before &x; after</b></a>'
    named = {
        "a.xml": entity,
        "a.rst": f"Title\n=====\n\n.. include:: {secret}\n\n.. csv-table::\n   :file: {secret}\n\n"
        f".. literalinclude:: {secret}\n",
        "a.adoc": f"= Title\n\ninclude::{secret}[]\n",
        "a.html": f'<p>Hi</p><iframe src="{secret.as_uri()}"></iframe><img src="{secret.as_uri()}">',
        "a.rtf": rf"{{\rtf1 Hi {{\field{{\*\fldinst INCLUDETEXT {secret}}}{{\fldrslt x}}}}}}",
    }
    for key, text in named.items():
        assert "TOP-SECRET" not in (await parse(parser, key, text)).text


async def test_a_notebook_is_its_cells_and_what_they_gave(parser: DocumentParser) -> None:
    document = await parse(parser, "a.ipynb", documents.notebook())

    assert document.title == "Travel"
    assert document.text == (
        f"# Travel\n\n{documents.WORDS.strip()}\n\n```python\nprint(rate)\n```\n\n```\n12.5\n```\n\n"
        "| City |\n| --- |\n| Bonn |\n"
    )
    assert document.metadata == {"kernel": "python", "language": "en"}


async def test_what_a_notebook_printed_is_cut(parser: DocumentParser) -> None:
    output = {"output_type": "stream", "text": "x" * 100_000}
    picture = {"output_type": "display_data", "data": {"image/png": "aGVsbG8="}}
    cell = {"cell_type": "code", "source": "a```b", "outputs": [output, picture]}

    document = await parse(parser, "a.ipynb", json.dumps({"cells": [cell]}))

    assert document.text == f"````\na```b\n````\n\n```\n{'x' * 4_000}\n```"


@pytest.mark.parametrize("key", ["a.eml", "a.msg"])
async def test_an_email_is_called_by_its_subject_and_says_who_wrote_when(
    parser: DocumentParser, key: str
) -> None:
    document = await parse(parser, key, SAMPLES[key]())

    assert document.title == "Grüße zur Reise"
    assert document.metadata["from"] == "Ann Smith <ann@example.org>"
    assert str(document.metadata["to"]).startswith("Bo")
    assert str(document.metadata["date"]).startswith("2026-02-03T")
    assert document.text.startswith("From: Ann Smith <ann@example.org>\nTo: Bo")
    assert document.text.endswith(f"Hello Bo,\n\n{documents.WORDS.strip()}")
    assert "rates.csv" not in document.text


async def test_an_email_without_a_plain_body_is_converted(parser: DocumentParser) -> None:
    page = "<h1>Rates</h1><table><tr><th>City</th></tr><tr><td>Bonn</td></tr></table>"

    only = await parse(parser, "a.eml", documents.mail(html=page, text=""))
    both = await parse(parser, "b.eml", documents.mail(html=page, text="The plain one"))

    assert only.syntax == "markdown"
    assert only.text.endswith("# Rates\n\n| City |\n| --- |\n| Bonn |")
    assert (both.syntax, both.text.endswith("The plain one")) == ("plain", True)


async def test_headers_in_any_encoding_are_read(parser: DocumentParser) -> None:
    head = (
        b"From: =?iso-8859-1?q?J=FCrgen?= <j@x.org>\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\nDate: never\r\n"
    )
    body = (
        b"Content-Type: text/plain; charset=nonsense\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + "Die Grüße gehen an alle Straßen. ".encode("cp1252") * 4
    )

    document = await parse(parser, "a.eml", head + body)

    assert (document.title, document.metadata["from"]) == ("Grüße", "Jürgen <j@x.org>")
    assert document.text.startswith("From: Jürgen <j@x.org>\n\nDie Grüße gehen an alle Straßen.")


@pytest.mark.parametrize(
    ("key", "media_type", "name"),
    [
        ("a.docx", "application/zip", "DOCX"),
        ("a.ipynb", "application/json", "notebooks"),
        ("a.xhtml", "application/xml", "HTML"),
        ("download", "application/zip", "ZIP"),
        ("feed", "text/xml; charset=utf-8", "XML"),
        ("a.json", "application/json", "JSON"),
        ("A.EML", "application/octet-stream", "EML"),
    ],
)
def test_a_vague_media_type_gives_way_to_the_suffix(key: str, media_type: str, name: str) -> None:
    kind = format_of(media_type, key)

    assert kind is not None
    assert kind.name == name


@pytest.mark.parametrize(
    "key",
    ["a.pdf", "a.docx", "a.pptx", "a.xlsx", "a.odt", "a.ods", "a.odp", "a.epub", "a.rtf", "a.html", "a.zip"],
)
def test_a_file_without_a_name_is_known_by_its_content(key: str) -> None:
    assert format_by_content(SAMPLES[key]()) == format_of("", key)


@pytest.mark.parametrize(
    ("named", "really"), [("a.doc", "a.rtf"), ("a.doc", "a.docx"), ("a.xls", "a.xlsx"), ("a.xlsx", "a.xls")]
)
async def test_an_office_file_may_be_of_the_other_generation(
    parser: DocumentParser, named: str, really: str
) -> None:
    assert "Bonn" in (await parse(parser, named, SAMPLES[really]())).text


async def test_scanned_pages_among_others_are_told(parser: DocumentParser) -> None:
    content = documents.pdf(pages=("Words. " * 30, "", "More. " * 30), scanned=("A scan", "Another"))

    document = await parse(parser, "a.pdf", content)

    assert document.metadata["pages_without_text"] == "4-5"
    assert [page.number for page in document.pages] == [1, 3]


async def test_a_scan_is_refused_with_its_cure(parser: DocumentParser) -> None:
    with pytest.raises(
        ParseError, match=r"^a\.pdf has scanned pages and no text: set parsing\.ocr.*pages: 2$"
    ):
        await parse(parser, "a.pdf", documents.pdf(pages=(), scanned=("One", "Two")))


def has_tesseract() -> bool:
    try:
        return bool(tesseract_data(["eng"], None))
    except SettingsError:
        return False


@pytest.mark.skipif(not has_tesseract(), reason="Tesseract's data is not installed")
async def test_scanned_pages_are_read_where_ocr_is_set() -> None:
    parser = DocumentParser(processes=1, ocr=["eng"])
    content = documents.pdf(
        pages=("Plain words of a page. " * 8,), scanned=("Carry over of leave\nis five days",)
    )

    document = await parse(parser, "a.pdf", content)

    assert [page.number for page in document.pages] == [1, 2]
    assert "Carry over of leave" in document.text
    assert "pages_without_text" not in document.metadata
    assert parser.recipe.endswith("; ocr eng")
    with pytest.raises(ParseError, match="OCR found none either"):
        await parse(parser, "b.pdf", documents.pdf(pages=(), scanned=("",)))


def test_ocr_without_its_data_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"parsing\.ocr: .* xyz .*tesseract-ocr-xyz.*parsing\.tessdata"):
        DocumentParser(ocr=["xyz"], tessdata=tmp_path)
    with pytest.raises(SettingsError, match=r"'\.\./eng' is no language"):
        DocumentParser(ocr=["../eng"])


def test_the_short_cut_into_xberg_is_for_the_version_that_is_installed() -> None:
    assert native.short_cut(), "look whether its private names still are what they were: native.py"


@pytest.mark.parametrize("key", ["a.docx", "a.xls"])
def test_an_xberg_that_is_not_known_reads_the_same(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = format_of("", key)
    assert kind is not None
    known = native.extracted(SAMPLES[key](), kind.media_type)
    monkeypatch.setattr(native, "short_cut", lambda: False)
    monkeypatch.setattr(native, "_compiled_settings", None)
    assert native.extracted(SAMPLES[key](), kind.media_type).content == known.content != ""
