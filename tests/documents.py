"""A small document of each format that is parsed, made by script."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from email.message import EmailMessage

import docx
import fpdf
import openpyxl  # type: ignore[import-untyped]  # it ships no types
import pptx
import xlwt
from PIL import Image, ImageDraw, ImageFont

WORDS = "The device is charged with its own cable, and it may not be left alone while it does so. "
TABLE = [["City", "Rate"], ["Bonn", "12.5"], ["Kiel", "11.0"]]


def markdown() -> bytes:
    table = "| City | Rate |\n| --- | --- |\n| Bonn | 12.5 |\n"
    return f"---\ntitle: Travel\ntags: [a, b]\n---\n# Travel\n\n{WORDS}\n\n## Rates\n\n{table}".encode()


def html() -> bytes:
    return f"""<!doctype html><html lang="en-GB"><head><title>Travel</title>
<link rel="canonical" href="https://example.org/travel"><meta name="author" content="Ann Smith"></head>
<body><nav><a href="/">Menu</a></nav><h1>Travel</h1><p>{WORDS}</p><h2>Rates</h2>
<table><tr><th>City</th><th>Rate</th></tr><tr><td>Bonn</td><td>12.5</td></tr></table>
<aside>Subscribe</aside><footer>Imprint</footer></body></html>""".encode()


def picture_of(text: str) -> io.BytesIO:
    """A scanned page: 150 dots an inch."""
    picture = Image.new("RGB", (1240, 1754), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=40)
    for number, line in enumerate(text.split("\n")):
        draw.text((100, 100 + 70 * number), line, fill="black", font=font)
    out = io.BytesIO()
    picture.save(out, "PNG")
    out.seek(0)
    return out


def pdf(*, pages: tuple[str, ...] = (WORDS * 3,), scanned: tuple[str, ...] = ()) -> bytes:
    file = fpdf.FPDF()
    file.set_title("Travel")
    file.set_author("Ann Smith")
    for number, text in enumerate(pages, start=1):
        file.add_page()
        if text:
            file.set_font("helvetica", size=20, style="B")
            file.cell(0, 12, f"Chapter {number}", new_x="LMARGIN", new_y="NEXT")
            file.set_font("helvetica", size=11)
            file.multi_cell(0, 6, text)
    for text in scanned:
        file.add_page()
        file.image(picture_of(text), 0, 0, 210)
    return bytes(file.output())


def word() -> bytes:
    file = docx.Document()
    file.core_properties.author = "Ann Smith"
    file.add_heading("Travel", 1)
    file.add_paragraph(WORDS)
    file.add_heading("Rates", 2)
    table = file.add_table(len(TABLE), 2)
    for row, cells in zip(table.rows, TABLE, strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    return _saved(file.save)


def slides() -> bytes:
    file = pptx.Presentation()
    for number in (1, 2):
        slide = file.slides.add_slide(file.slide_layouts[1])
        slide.shapes.title.text = f"Slide {number}"
        slide.placeholders[1].text = WORDS
    return _saved(file.save)


def sheets() -> bytes:
    file = openpyxl.Workbook()
    sheet = file.active
    assert sheet is not None
    sheet.title = "Rates"
    for row in TABLE:
        sheet.append(row)
    return _saved(file.save)


def old_sheets() -> bytes:
    file = xlwt.Workbook()
    sheet = file.add_sheet("Rates")
    for number, row in enumerate(TABLE):
        for column, text in enumerate(row):
            sheet.write(number, column, text)
    return _saved(file.save)


def _zipped(files: Mapping[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            kind = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(name, content, kind)
    return out.getvalue()


_NAMESPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{long}:1.0"'
    for name, long in {
        "office": "office",
        "text": "text",
        "table": "table",
        "draw": "drawing",
        "presentation": "presentation",
        "meta": "meta",
    }.items()
)


def _open_document(kind: str, body: str) -> bytes:
    media_type = f"application/vnd.oasis.opendocument.{kind}"
    tag = {"text": "text", "spreadsheet": "spreadsheet", "presentation": "presentation"}[kind]
    content = (
        f'<?xml version="1.0"?><office:document-content {_NAMESPACES} office:version="1.2"><office:body>'
        f"<office:{tag}>{body}</office:{tag}></office:body></office:document-content>"
    )
    said = (
        f'<?xml version="1.0"?><office:document-meta {_NAMESPACES} '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><office:meta><dc:title>Travel</dc:title>'
        "<meta:initial-creator>Ann Smith</meta:initial-creator></office:meta></office:document-meta>"
    )
    entry = f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{media_type}"/>'
    manifest = (
        '<?xml version="1.0"?><manifest:manifest '
        f'xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">{entry}</manifest:manifest>'
    )
    return _zipped(
        {
            "mimetype": media_type,
            "META-INF/manifest.xml": manifest,
            "content.xml": content,
            "meta.xml": said,
        }
    )


_CELL = '<table:table-cell office:value-type="string">'


def _open_table() -> str:
    rows = "".join(
        "<table:table-row>"
        + "".join(f"{_CELL}<text:p>{cell}</text:p></table:table-cell>" for cell in row)
        + "</table:table-row>"
        for row in TABLE
    )
    return f'<table:table table:name="Rates">{rows}</table:table>'


def open_text() -> bytes:
    def heading(level: int, text: str) -> str:
        return f'<text:h text:outline-level="{level}">{text}</text:h>'

    body = f"{heading(1, 'Travel')}<text:p>{WORDS}</text:p>{heading(2, 'Rates')}{_open_table()}"
    return _open_document("text", body)


def open_sheets() -> bytes:
    return _open_document("spreadsheet", _open_table())


def open_slides() -> bytes:
    def frame(kind: str, body: str) -> str:
        return f'<draw:frame presentation:class="{kind}"><draw:text-box>{body}</draw:text-box></draw:frame>'

    items = "<text:list><text:list-item><text:p>Trains first</text:p></text:list-item></text:list>"
    notes = f"<presentation:notes>{frame('notes', '<text:p>Wait for all</text:p>')}</presentation:notes>"
    first = f"{frame('title', '<text:p>Travel</text:p>')}{frame('outline', items)}{notes}"
    second = f"{frame('title', '<text:p>Rates</text:p>')}<draw:frame>{_open_table()}</draw:frame>"
    return _open_document("presentation", f"<draw:page>{first}</draw:page><draw:page>{second}</draw:page>")


def rtf() -> bytes:
    rows = "".join(rf"\trowd\cellx1000\cellx2000 {one}\cell {two}\cell\row" + "\n" for one, two in TABLE)
    return (
        rf"{{\rtf1\ansi{{\info{{\title Travel}}{{\author Ann Smith}}}}{{\b Gr\'fc\'dfe}}\par {WORDS}\par"
        f"\n{rows}}}"
    ).encode()


def epub() -> bytes:
    def chapter(number: int) -> str:
        return (
            f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>{number}</title></head><body>'
            f"<h1>Chapter {number}</h1><p>{WORDS}</p><table><tr><th>City</th><th>Rate</th></tr>"
            "<tr><td>Bonn</td><td>12.5</td></tr></table></body></html>"
        )

    items = "".join(f'<item id="c{n}" href="{n}.xhtml" media-type="application/xhtml+xml"/>' for n in (1, 2))
    package = (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Travel</dc:title><dc:creator>Ann Smith'
        f"</dc:creator><dc:language>en-GB</dc:language></metadata><manifest>{items}</manifest>"
        '<spine><itemref idref="c1"/><itemref idref="c2"/></spine></package>'
    )
    root = '<rootfile full-path="OPS/content.opf" media-type="application/oebps-package+xml"/>'
    container = (
        '<?xml version="1.0"?><container version="1.0" '
        f'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>{root}</rootfiles></container>'
    )
    return _zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "OPS/content.opf": package,
            "OPS/1.xhtml": chapter(1),
            "OPS/2.xhtml": chapter(2),
        }
    )


def rst() -> bytes:
    table = "=====  =====\nCity   Rate\n=====  =====\nBonn   12.5\n=====  =====\n"
    code = ".. code-block:: python\n\n   print(1)\n"
    return f"======\nTravel\n======\n\n{WORDS}\n\nRates\n-----\n\n{table}\n{code}".encode()


def asciidoc() -> bytes:
    table = '[options="header"]\n|===\n|City |Rate\n|Bonn |12.5\n|===\n'
    code = "----\n== no heading\n----\n"
    return f"= Travel\nAnn Smith <ann@example.org>\n\n{WORDS}\n\n== Rates\n\n{table}\n{code}".encode()


def csv() -> bytes:
    return "".join(f"{one},{two}\n" for one, two in TABLE).encode()


def json_object() -> bytes:
    cities = [{"city": city, "rate": float(rate)} for city, rate in TABLE[1:]]
    return json.dumps({"title": "Travel", "note": WORDS, "owner": {"name": "Ann"}, "rates": cities}).encode()


def json_lines() -> bytes:
    return b"".join(json.dumps({"city": city, "rate": rate}).encode() + b"\n" for city, rate in TABLE[1:])


def xml() -> bytes:
    items = "".join(f"<rate><city>{city}</city><usd>{rate}</usd></rate>" for city, rate in TABLE[1:])
    return (
        f'<?xml version="1.0"?><policy><title>Travel</title><section id="s1"><title>Rates</title><p>{WORDS}'
        f"</p>{items}</section></policy>"
    ).encode()


def notebook() -> bytes:
    table = "<table><tr><th>City</th></tr><tr><td>Bonn</td></tr></table>"
    printed = {"output_type": "stream", "name": "stdout", "text": ["12.5\n"]}
    shown = {"output_type": "execute_result", "metadata": {}, "data": {"text/html": table, "text/plain": "x"}}
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Travel\n", "\n", WORDS]},
        {"cell_type": "code", "metadata": {}, "source": "print(rate)", "outputs": [printed, shown]},
    ]
    said = {"kernelspec": {"language": "python", "name": "python3"}}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": said, "cells": cells}).encode()


def mail(*attachments: tuple[str, bytes], html: str = "", text: str = f"Hello Bo,\n\n{WORDS}") -> bytes:
    message = EmailMessage()
    message["Subject"] = "Grüße zur Reise"
    message["From"] = "Ann Smith <ann@example.org>"
    message["To"] = "Bo <bo@example.org>"
    message["Date"] = "Tue, 03 Feb 2026 10:00:00 +0100"
    if text:
        message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    for name, content in attachments:
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return bytes(message)


def archive(*files: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files or (("people/leave.md", markdown()), ("rates.csv", csv())):
            target.writestr(name, content)
    return out.getvalue()


def outlook(*attachments: tuple[str, bytes], inner: Mapping[str, object] | None = None) -> bytes:
    """An MSG file; `inner` is attached as a message of its own."""

    def wide(text: str) -> bytes:
        return text.encode("utf-16-le")

    sent = (1770109200 + 11644473600) * 10_000_000  # 2026-02-03 09:00 UTC
    entry = struct.pack("<HHIQ", 0x0040, 0x0039, 6, sent)
    streams: dict[str, object] = {
        "__properties_version1.0": bytes(32) + entry,
        "__substg1.0_0037001F": wide("Grüße zur Reise"),
        "__substg1.0_0C1A001F": wide("Ann Smith"),
        "__substg1.0_5D01001F": wide("ann@example.org"),
        "__substg1.0_0E04001F": wide("Bo; Cy"),
        "__substg1.0_1000001F": wide(f"Hello Bo,\r\n\r\n{WORDS}"),
    }
    for number, (name, content) in enumerate(attachments):
        streams[f"__attach_version1.0_#{number:08X}"] = {
            "__properties_version1.0": bytes(8),
            "__substg1.0_3707001F": wide(name),
            "__substg1.0_37010102": content,
        }
    if inner is not None:
        streams[f"__attach_version1.0_#{len(attachments):08X}"] = {
            "__properties_version1.0": bytes(8),
            "__substg1.0_3701000D": dict(inner),
        }
    return compound(streams)


_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_SECTOR = 512
_MINI = 64


def compound(tree: Mapping[str, object]) -> bytes:
    """A compound file (Microsoft's [MS-CFB]) of streams (bytes) in storages (mappings)."""
    entries: list[dict[str, object]] = [
        {"name": "Root Entry", "kind": 5, "data": b"", "child": -1, "right": -1}
    ]
    _add(entries, 0, tree)
    mini = b""
    mini_fat: list[int] = []
    sectors: list[bytes] = []
    fat: list[int] = []

    def chain(data: bytes) -> int:
        first = len(sectors)
        pieces = [data[at : at + _SECTOR].ljust(_SECTOR, b"\0") for at in range(0, len(data), _SECTOR)]
        sectors.extend(pieces)
        fat.extend([*range(first + 1, first + len(pieces)), _END] if pieces else [])
        return first if pieces else _END

    for entry in entries[1:]:
        data = entry["data"]
        assert isinstance(data, bytes)
        if entry["kind"] == 2 and len(data) < 4096:
            entry["start"] = len(mini_fat) if data else _END
            count = -(-len(data) // _MINI)
            mini_fat += [*range(len(mini_fat) + 1, len(mini_fat) + count), _END] if count else []
            mini += data.ljust(count * _MINI, b"\0")
        else:
            entry["start"] = chain(data) if data else (_END if entry["kind"] == 2 else 0)
    entries[0]["start"], entries[0]["data"] = chain(mini), mini
    packed_mini = struct.pack(f"<{len(mini_fat)}I", *mini_fat)
    mini_at = chain(packed_mini.ljust(-(-len(packed_mini) // _SECTOR) * _SECTOR, b"\xff"))
    directory = b"".join(map(_entry, entries))
    directory_at = chain(directory.ljust(-(-len(directory) // _SECTOR) * _SECTOR, b"\0"))
    fat_sectors = 1
    while fat_sectors * 128 < len(fat) + fat_sectors:
        fat_sectors += 1
    fat_at = len(sectors)
    table = [*fat, *[_FAT] * fat_sectors]
    table += [_FREE] * (fat_sectors * 128 - len(table))
    sectors.append(struct.pack(f"<{len(table)}I", *table))
    mini_sectors = -(-len(packed_mini) // _SECTOR)
    head = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16) + struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    head += struct.pack("<IIIIIIII", 0, fat_sectors, directory_at, 0, 4096, mini_at, mini_sectors, _END)
    head += struct.pack("<I", 0) + struct.pack(
        "<109I", *range(fat_at, fat_at + fat_sectors), *[_FREE] * (109 - fat_sectors)
    )
    return head + b"".join(sectors)


def _add(entries: list[dict[str, object]], parent: int, tree: Mapping[str, object]) -> None:
    """Siblings as a list to the right: no balanced tree, which readers do not ask for."""
    before = -1
    for name, data in sorted(tree.items(), key=lambda item: (len(item[0]), item[0].upper())):
        number = len(entries)
        is_stream = isinstance(data, bytes)
        entries.append(
            {
                "name": name,
                "kind": 2 if is_stream else 1,
                "data": data if is_stream else b"",
                "child": -1,
                "right": -1,
            }
        )
        entries[parent if before < 0 else before]["child" if before < 0 else "right"] = number
        before = number
        if isinstance(data, Mapping):
            _add(entries, number, data)


def _entry(entry: Mapping[str, object]) -> bytes:
    name = str(entry["name"]).encode("utf-16-le")
    data, start = entry["data"], entry["start"]
    assert isinstance(data, bytes)
    assert isinstance(start, int)
    return (
        name.ljust(64, b"\0")
        + struct.pack("<HBB", len(name) + 2, int(str(entry["kind"])), 1)
        + struct.pack("<iii", -1, int(str(entry["right"])), int(str(entry["child"])))
        + bytes(36)
        + struct.pack("<IQ", start, len(data))
    )


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    out = io.BytesIO()
    save(out)
    return out.getvalue()


SAMPLES: Mapping[str, Callable[[], bytes]] = {
    "a.md": markdown,
    "a.html": html,
    "a.pdf": pdf,
    "a.docx": word,
    "a.pptx": slides,
    "a.xlsx": sheets,
    "a.xls": old_sheets,
    "a.odt": open_text,
    "a.ods": open_sheets,
    "a.odp": open_slides,
    "a.rtf": rtf,
    "a.epub": epub,
    "a.rst": rst,
    "a.adoc": asciidoc,
    "a.csv": csv,
    "a.json": json_object,
    "a.jsonl": json_lines,
    "a.xml": xml,
    "a.ipynb": notebook,
    "a.eml": lambda: mail(("rates.csv", csv()), ("inner.zip", archive())),
    "a.msg": lambda: outlook(("rates.csv", csv())),
    "a.zip": lambda: archive(("a.md", markdown()), ("mail.eml", mail(("rates.csv", csv())))),
}
"""A file of each format, by a name for it. DOC and PPT are not among them: nothing at hand writes them."""
