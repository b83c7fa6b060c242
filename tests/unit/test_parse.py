from __future__ import annotations

import io
import subprocess
import sys

import docx
import fpdf
import openpyxl  # type: ignore[import-untyped]  # it ships no types
import pptx
import pytest
from langchain_text_splitters import Language
from PIL import Image

from pipeline.errors import ParseError
from pipeline.parse import DocumentParser, ParseLimits
from pipeline.parse.formats import _LANGUAGES
from pipeline.protocols import Parser
from pipeline.records import Document, ItemRef, RawDocument
from tests.documents import compound


@pytest.fixture(scope="module")
def parser() -> DocumentParser:
    return DocumentParser(processes=1)


def raw(key: str, content: bytes | str, media_type: str = "", title: str | None = None) -> RawDocument:
    return RawDocument(
        ref=ItemRef(source="s", key=key, version="1"),
        content=content.encode() if isinstance(content, str) else content,
        media_type=media_type,
        title=title,
        url="https://example.org/x",
        metadata={"team": "people"},
    )


def sections(document: Document) -> list[tuple[tuple[str, ...], str]]:
    return [
        (section.heading_path, document.text[section.start : section.end].strip())
        for section in document.sections
    ]


def pages(document: Document) -> list[tuple[int, str]]:
    assert document.pages[0].start == 0
    assert document.pages[-1].end == len(document.text)
    for one, other in zip(document.pages, document.pages[1:], strict=False):
        assert one.end == other.start
    return [(page.number, document.text[page.start : page.end].strip()) for page in document.pages]


async def test_markdown_stays_as_it_is(parser: DocumentParser) -> None:
    text = "# Leave\n\nIt grants *25* days.\n\n## Carry over\n\nFive.\n"

    document = await parser.parse(raw("people/leave.md", text))

    assert document.text == text
    assert document.syntax == "markdown"
    assert document.media_type == "text/markdown"
    assert document.title == "Leave"
    assert sections(document) == [
        (("Leave",), "# Leave\n\nIt grants *25* days."),
        (("Leave", "Carry over"), "## Carry over\n\nFive."),
    ]
    assert document.pages == ()
    assert document.url == "https://example.org/x"
    assert document.metadata == {"team": "people"}
    assert document.ref.key == "people/leave.md"


async def test_the_sources_title_wins(parser: DocumentParser) -> None:
    assert (await parser.parse(raw("a.md", "# Heading", title="The source's"))).title == "The source's"


async def test_plain_text_has_no_headings(parser: DocumentParser) -> None:
    document = await parser.parse(raw("meeting-notes.txt", "# no heading\ntext", "text/plain"))

    assert (document.syntax, document.title) == ("plain", "Meeting notes")
    assert sections(document) == [((), "# no heading\ntext")]


@pytest.mark.parametrize("content", ["", " \n\t\n"])
@pytest.mark.parametrize("key", ["empty.md", "empty.txt", "empty.html", "empty.csv", "empty.py"])
async def test_a_document_without_text_has_neither_text_nor_sections(
    parser: DocumentParser, key: str, content: str
) -> None:
    document = await parser.parse(raw(key, content))

    assert (document.text, document.sections, document.pages) == ("", (), ())
    assert document.title.lower().startswith("empty")


@pytest.mark.parametrize(
    ("media_type", "key", "syntax"),
    [
        ("text/markdown", "a.bin", "markdown"),
        ("text/markdown; charset=utf-8", "a", "markdown"),
        ("text/plain", "a.md", "markdown"),
        ("application/octet-stream", "A.MD", "markdown"),
        ("", "src/a.rs", "rust"),
        ("video/mp2t", "src/a.ts", "ts"),
        ("text/x-python", "script", "python"),
        ("text/plain", "LICENSE", "plain"),
        ("application/json", "a.json", "plain"),
        ("text/html", "a.md", "markdown"),
    ],
)
async def test_the_media_type_decides_and_the_suffix_where_it_says_nothing(
    parser: DocumentParser, media_type: str, key: str, syntax: str
) -> None:
    assert (await parser.parse(raw(key, "some words", media_type))).syntax == syntax


def test_every_language_is_one_that_langchain_splits() -> None:
    assert set(_LANGUAGES) <= {language.value for language in Language}


async def test_bytes_that_are_no_text_are_refused_by_name(parser: DocumentParser) -> None:
    with pytest.raises(ParseError, match=r"^a\.png .*image/png.*Markdown, HTML, plain text, PDF, DOCX"):
        await parser.parse(raw("a.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4, "image/png"))
    with pytest.raises(ParseError, match=r"no text"):
        await parser.parse(raw("film.ts", b"\x47\x00\x11" * 200, "video/mp2t"))


@pytest.mark.parametrize(
    "content",
    [
        "Grüße aus Köln — 你好".encode(),
        b"\xef\xbb\xbf" + "Grüße aus Köln — 你好".encode(),
        "\ufeffGrüße aus Köln — 你好".encode("utf-16-le"),
        "\ufeffGrüße aus Köln — 你好".encode("utf-16-be"),
        "\ufeffGrüße aus Köln — 你好".encode("utf-32-le"),
    ],
)
async def test_unicode_is_read_in_any_of_its_encodings(parser: DocumentParser, content: bytes) -> None:
    assert (await parser.parse(raw("a.txt", content))).text == "Grüße aus Köln — 你好"


async def test_text_in_an_old_encoding_is_guessed(parser: DocumentParser) -> None:
    german = "Die Grüße aus Köln gehen an alle Kolleginnen und Kollegen in der Straße. " * 5
    russian = "Сотрудник обязан сообщить об отпуске заранее, не позднее двух недель. " * 5

    assert (await parser.parse(raw("a.txt", german.encode("cp1252")))).text == german
    assert (await parser.parse(raw("a.txt", russian.encode("cp1251")))).text == russian
    assert (await parser.parse(raw("a.txt", "plain UTF-16".encode("utf-16-le")))).text == "plain UTF-16"


async def test_text_is_cleaned_before_anything_is_counted(parser: DocumentParser) -> None:
    content = "# Cafe\u0301\r\n\r\nold\rMac\r\n\0" + "x" * 200

    document = await parser.parse(raw("a.md", content))

    assert document.text == "# Caf\u00e9\n\nold\nMac\n\ufffd" + "x" * 200
    assert sections(document)[0][0] == ("Caf\u00e9",)


async def test_csv_becomes_a_markdown_table(parser: DocumentParser) -> None:
    content = 'City;Note\r\nBonn;"a | b"\r\n\r\nKöln;"two\r\nlines ""quoted"""\r\nKiel\r\n'

    document = await parser.parse(raw("city-rates.csv", content, "text/csv"))

    assert document.text == (
        '| City | Note |\n| --- | --- |\n| Bonn | a \\| b |\n| Köln | two lines "quoted" |\n| Kiel |  |\n'
    )
    assert (document.syntax, document.title) == ("markdown", "City rates")


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("a.csv", "a,b\n1,2\n"),
        ("a.csv", 'a, "b"\n1, 2\n'),
        ("a.csv", "a|b\n1|2\n"),
        ("a.csv", "a\tb\n1\t2\n"),
        ("a.tsv", "a\tb\n1\t2\n"),
    ],
)
async def test_the_delimiter_is_found_out(parser: DocumentParser, key: str, content: str) -> None:
    assert (await parser.parse(raw(key, content))).text == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


async def test_a_csv_of_one_column_is_a_table_too(parser: DocumentParser) -> None:
    assert (
        await parser.parse(raw("a.csv", "name\nAnn\nBo\n"))
    ).text == "| name |\n| --- |\n| Ann |\n| Bo |\n"


async def test_what_only_calls_itself_csv_stays_text(parser: DocumentParser) -> None:
    content = 'a,b\n"' + "never closed " * 20_000

    document = await parser.parse(raw("a.csv", content))

    assert (document.text, document.syntax) == (content, "plain")


HTML = """<!doctype html><html><head><title>Remote work &amp; you</title><style>p {}</style></head><body>
<header><a href="/">Home</a></header><nav><ul><li>Menu</li></ul></nav><div role="navigation">Crumbs</div>
<main><h1>Remote work</h1><p>It is <b>allowed</b> from <a href="https://x.y/z">abroad</a>.</p>
<h2>Limits<a class="headerlink" href="#l">¶</a></h2><pre><code class="language-sh"># no heading
ls</code></pre><table><tr><th>Days</th></tr><tr><td>a|b</td></tr></table>
<p># no heading</p><script>track()</script></main><footer>Imprint</footer></body></html>"""


async def test_html_keeps_its_content_and_drops_what_is_around_it(parser: DocumentParser) -> None:
    document = await parser.parse(raw("remote.html", HTML))

    assert document.title == "Remote work & you"
    assert sections(document) == [
        (("Remote work",), "# Remote work\n\nIt is **allowed** from [abroad](https://x.y/z)."),
        (
            ("Remote work", "Limits"),
            "## Limits\n\n```sh\n# no heading\nls\n```\n\n| Days |\n| --- |\n| a\\|b |\n\n\\# no heading",
        ),
    ]
    assert (document.syntax, document.media_type) == ("markdown", "text/html")


async def test_html_with_one_main_element_is_that_element(parser: DocumentParser) -> None:
    outside = '<a href="#c">Skip</a><p>Lunch</p>'
    one = await parser.parse(raw("a.html", f"<body>{outside}<main id=c><p>Words</p></main></body>"))
    two = await parser.parse(raw("b.html", f"<body>{outside}<main>A</main><main hidden>B</main></body>"))
    empty = await parser.parse(raw("c.html", "<body><p>Words</p><main></main></body>"))

    assert one.text == empty.text == "Words\n"
    assert "Lunch" in two.text


async def test_html_that_is_nothing_but_a_form_or_a_header_keeps_it(parser: DocumentParser) -> None:
    form = await parser.parse(raw("a.html", "<body><form><h1>All</h1><p>of it</p></form></body>"))
    header = await parser.parse(raw("b.html", "<body><header><h1>All</h1><p>of it</p></header></body>"))

    assert form.text == header.text == "# All\n\nof it\n"


async def test_html_is_decoded_as_it_declares(parser: DocumentParser) -> None:
    page = '<html><head><meta charset="koi8-r"></head><body><p>Отпуск</p></body></html>'

    assert (await parser.parse(raw("a.html", page.encode("koi8-r")))).text.strip() == "Отпуск"


def pdf(*texts: str, title: str | None = None, password: str | None = None) -> bytes:
    file = fpdf.FPDF()
    if title:
        file.set_title(title)
    if password:
        file.set_encryption(owner_password="owner", user_password=password)
    for text in texts:
        file.add_page()
        if text:
            file.set_font("helvetica", size=22, style="B")
            file.cell(0, 14, f"Chapter {text}", new_x="LMARGIN", new_y="NEXT")
            file.set_font("helvetica", size=11)
            file.multi_cell(0, 6, f"This device is charged with cable {text}. " * 12)
    return bytes(file.output())


async def test_a_pdf_has_pages_and_headings(parser: DocumentParser) -> None:
    document = await parser.parse(raw("manual.pdf", pdf("one", "", "three", title="Device manual")))

    assert document.title == "Device manual"
    assert [(number, text.split("\n")[0]) for number, text in pages(document)] == [
        (1, "# Chapter one"),
        (3, "# Chapter three"),
    ]
    assert [path for path, _ in sections(document)] == [("Chapter one",), ("Chapter three",)]
    assert document.text.count("charged with cable three") == 12


async def test_a_pdf_whose_title_is_no_title_is_called_by_its_heading(parser: DocumentParser) -> None:
    document = await parser.parse(raw("manual.pdf", pdf("one", title="Microsoft Word - x.doc")))

    assert document.title == "Chapter one"


async def test_a_pdf_is_not_called_by_a_heading_of_a_later_page(parser: DocumentParser) -> None:
    file = fpdf.FPDF()
    file.set_font("helvetica", size=11)
    for size, text in ((11, "Only words here."), (24, "Later heading")):
        file.add_page()
        file.set_font("helvetica", size=size)
        file.cell(0, 14, text, new_x="LMARGIN", new_y="NEXT")
        file.set_font("helvetica", size=11)
        file.multi_cell(0, 6, "Body words that go on. " * 30)

    document = await parser.parse(raw("user-guide.pdf", bytes(file.output())))

    assert ("Later heading",) in [path for path, _ in sections(document)]
    assert document.title == "User guide"


async def test_a_pdf_that_liteparse_cannot_read_is_read_by_pypdf(parser: DocumentParser) -> None:
    broken = pdf("one", "two").replace(b"/Type /Pages", b"/Type /Pagez").replace(b"startxref", b"startxxxx")

    document = await parser.parse(raw("manual.pdf", broken))

    assert "charged with cable one" in document.text.replace("\n", " ")


async def test_a_scanned_pdf_says_that_it_has_no_text_layer(parser: DocumentParser) -> None:
    with pytest.raises(ParseError, match=r"^scan\.pdf has scanned pages and no text.*pages: 2"):
        await parser.parse(raw("scan.pdf", pdf("", "")))


async def test_a_protected_pdf_says_that_it_needs_a_password(parser: DocumentParser) -> None:
    with pytest.raises(ParseError, match=r"^secret\.pdf is protected by a password$"):
        await parser.parse(raw("secret.pdf", pdf("one", password="user")))


def docx_file(title: str = "") -> bytes:
    file = docx.Document()
    file.core_properties.title = title
    file.add_heading("Leave policy", 1)
    file.add_paragraph("It grants ").add_run("25").bold = True
    file.add_heading("Carry over", 2)
    table = file.add_table(2, 2)
    for cell, text in zip(
        (cell for row in table.rows for cell in row.cells), ["Who", "Days", "a|b", "5"], strict=True
    ):
        cell.text = text
    file.sections[0].footer.paragraphs[0].text = "Page footer"
    out = io.BytesIO()
    file.save(out)
    return out.getvalue()


async def test_a_docx_keeps_headings_and_tables(parser: DocumentParser) -> None:
    document = await parser.parse(raw("leave.docx", docx_file()))

    assert document.title == "Leave policy"
    assert sections(document) == [
        (("Leave policy",), "# Leave policy\n\nIt grants **25**"),
        (("Leave policy", "Carry over"), "## Carry over\n\n| Who | Days |\n| --- | --- |\n| a\\|b | 5 |"),
    ]
    assert document.pages == ()
    assert (await parser.parse(raw("leave.docx", docx_file("Leave 2026")))).title == "Leave 2026"


async def test_a_picture_leaves_no_trace_in_the_text(parser: DocumentParser) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (300, 200), "red").save(picture, "PNG")
    text = docx.Document()
    text.add_paragraph("Before")
    text.add_picture(picture)
    slides = pptx.Presentation()
    slides.slides.add_slide(slides.slide_layouts[6]).shapes.add_picture(picture, 0, 0)
    scan = fpdf.FPDF()
    scan.add_page()
    scan.image(picture, 20, 20)
    files: dict[str, bytes] = {"scan.pdf": bytes(scan.output())}
    for key, file in (("a.docx", text), ("a.pptx", slides)):
        out = io.BytesIO()
        file.save(out)
        files[key] = out.getvalue()

    assert (await parser.parse(raw("a.docx", files["a.docx"]))).text == "Before\n"
    assert (await parser.parse(raw("a.pptx", files["a.pptx"]))).text == ""
    with pytest.raises(ParseError, match="no text"):
        await parser.parse(raw("scan.pdf", files["scan.pdf"]))


async def test_slides_are_pages_with_headings_and_notes(parser: DocumentParser) -> None:
    file = pptx.Presentation()
    file.core_properties.title = "PowerPoint Presentation"
    first = file.slides.add_slide(file.slide_layouts[1])
    first.shapes.title.text = "Kick-off"
    first.placeholders[1].text = "Welcome"
    first.notes_slide.notes_text_frame.text = "Wait for everybody"
    file.slides.add_slide(file.slide_layouts[6])
    last = file.slides.add_slide(file.slide_layouts[1])
    last.shapes.title.text = "Agenda"
    last.placeholders[1].text = "It is short"
    out = io.BytesIO()
    file.save(out)

    document = await parser.parse(raw("kick-off.pptx", out.getvalue()))

    assert document.title == "Kick-off"
    assert pages(document) == [
        (1, "## Kick-off\n\nWelcome\n\nNotes: Wait for everybody"),
        (3, "## Agenda\n\nIt is short"),
    ]
    assert [path for path, _ in sections(document)] == [("Kick-off",), ("Agenda",)]


async def test_sheets_are_pages_with_tables(parser: DocumentParser) -> None:
    file = openpyxl.Workbook()
    rates = file.active
    assert rates is not None
    rates.title = "Rates"
    rates.append(["City", "Rate"])
    rates.append(["Bonn", 12.5])
    file.create_sheet("Empty")
    file.create_sheet("People").append(["Name"])
    out = io.BytesIO()
    file.save(out)

    document = await parser.parse(raw("travel-rates.xlsx", out.getvalue()))

    assert document.title == "Travel rates"
    assert pages(document) == [
        (1, "## Rates\n\n| City | Rate |\n| --- | --- |\n| Bonn | 12.5 |"),
        (3, "## People\n\n| Name |\n| --- |"),
    ]
    assert [path for path, _ in sections(document)] == [("Rates",), ("People",)]


async def test_a_workbook_of_many_cells_is_read(parser: DocumentParser) -> None:
    file = openpyxl.Workbook(write_only=True)
    sheet = file.create_sheet("Big")
    for row in range(30_000):
        sheet.append([row, "a", "b", "c"])
    out = io.BytesIO()
    file.save(out)

    document = await parser.parse(raw("big.xlsx", out.getvalue()))

    assert document.text.rstrip().endswith("| 29999 | a | b | c |")


@pytest.mark.parametrize("key", ["a.docx", "a.pptx", "a.xlsx"])
async def test_a_protected_office_file_says_so(parser: DocumentParser, key: str) -> None:
    protected = compound({"EncryptionInfo": bytes(200), "EncryptedPackage": bytes(9000)})

    with pytest.raises(ParseError, match=rf"^{key} is protected by a password$"):
        await parser.parse(raw(key, protected))


async def test_what_is_too_large_is_refused_with_its_limit() -> None:
    parser = DocumentParser(ParseLimits(input_bytes=1000, output_chars=100), processes=1)

    with pytest.raises(ParseError, match=r"^a\.md has 1,001 bytes; at most 1,000"):
        await parser.parse(raw("a.md", "x" * 1001))
    for key, content in (("a.md", "x" * 101), ("a.csv", "a\n" * 50), ("a.html", f"<p>{'x' * 101}")):
        with pytest.raises(ParseError, match="characters of text; at most 100"):
            await parser.parse(raw(key, content))


async def test_a_large_text_is_parsed_like_a_small_one(parser: DocumentParser) -> None:
    text = "# A\n\n" + "some words\n" * 50_000

    assert (await parser.parse(raw("a.md", text))).text == text


def test_the_recipe_names_every_library_and_its_version() -> None:
    parser: Parser = DocumentParser()

    assert parser.recipe.startswith("parse 3 (charset-normalizer ")
    for library in ("html-to-markdown 3.", "liteparse 2.", "olefile ", "py3langid ", "pypdf ", "xberg 1.3."):
        assert library in parser.recipe


def test_a_parser_imports_no_library_before_it_needs_one() -> None:
    program = (
        "import sys, anyio; from pipeline.parse import DocumentParser; from pipeline.records import *\n"
        "ref = ItemRef(source='s', key='a.md', version='1')\n"
        "parser = DocumentParser(); parser.recipe\n"
        "anyio.run(parser.parse, RawDocument(ref=ref, content=b'# A', media_type=''))\n"
        "heavy = {'liteparse', 'xberg', 'html_to_markdown', 'pypdf', 'charset_normalizer'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("key", "text", "title"),
    [
        ("0042-slices.md", "- Feature Name: x\n\n# Summary\n\nA.\n\n# Motivation\n\nB.\n", "0042 slices"),
        ("eip-20.md", "---\ntitle: Tokens\n---\n\n## Abstract\n\nA.\n\n## Motivation\n\nB.\n", "Tokens"),
        ("a.md", "# Leave\n\nA.\n\n# Appendix\n\nB.\n", "Leave"),
        ("a.md", "Some words.\n\n# Leave\n\n## Asking\n\nB.\n", "Leave"),
        ("a.md", "## Leave\n\nWords.\n\n### Asking\n\nB.\n", "Leave"),
    ],
)
async def test_the_title_is_the_heading_over_all_others(
    parser: DocumentParser, key: str, text: str, title: str
) -> None:
    assert (await parser.parse(raw(key, text))).title == title


async def test_the_sites_name_behind_a_pages_heading_is_no_part_of_its_title(parser: DocumentParser) -> None:
    page = "<title>Your first week | Intranet</title><h1>Your first week</h1><p>Bring a friend.</p>"
    assert (await parser.parse(raw("week.html", page))).title == "Your first week"
