"""Files that are made to hang, crash or fill a parser, or to reach what is none of theirs. Made by script."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping

from tests import documents
from tests.documents import archive, compound, mail

UNREADABLE = "TOP-SECRET"
"""What stands in the file that some of these name; must never come to light."""


def one_page(stream: bytes, extra: bytes = b"", *, kids: bytes = b"3 0 R", page: bytes = b"") -> bytes:
    """A PDF of one page, whose content is the stream."""
    fonts = b"/Resources<</Font<</F1 5 0 R>>>>"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%s]/Count 1>>" % kids,
        page or b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R%s>>" % fonts,
        b"<</Length %d%s>>\nstream\n%s\nendstream" % (len(stream), extra, stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    body = b"%PDF-1.4\n"
    offsets = []
    for number, written in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, written)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 6\n0000000000 65535 f \n"
    return body + head + table + b"trailer\n<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(body)


def flate_bomb() -> bytes:
    """400 MB of text operators in 1 MB."""
    packer = zlib.compressobj(9)
    unit = b"BT /F1 12 Tf 10 10 Td (AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA) Tj ET\n" * 10_000
    stream = b"".join(packer.compress(unit) for _ in range(600)) + packer.flush()
    return one_page(stream, b"/Filter/FlateDecode")


def page_tree_loop() -> bytes:
    return one_page(b"", page=b"<</Type/Pages/Parent 2 0 R/Kids[2 0 R 3 0 R]/Count 9>>")


def parent_loop() -> bytes:
    return one_page(b"", kids=b"2 0 R 2 0 R")


def swapped(whole: bytes, part: str, pieces: list[bytes]) -> bytes:
    """An Office file with another content of one of its parts."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(whole)) as source,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            if name != part:
                target.writestr(name, source.read(name))
        with target.open(part, "w", force_zip64=True) as written:
            for piece in pieces:
                written.write(piece)
    return out.getvalue()


def word_bomb() -> bytes:
    """A DOCX whose text is 300 MB of one paragraph's repetition."""
    schema = b"http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    head = b'<?xml version="1.0"?><w:document xmlns:w="%s"><w:body>' % schema
    paragraphs = b"<w:p><w:r><w:t>AAAAAAAAAAAAAAAAAAAAAAAA</w:t></w:r></w:p>" * 180_000
    return swapped(
        documents.word(), "word/document.xml", [head, *[paragraphs] * 30, b"</w:body></w:document>"]
    )


def _sheet(rows: bytes) -> bytes:
    schema = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return b'<?xml version="1.0"?><worksheet xmlns="%s"><sheetData>%s</sheetData></worksheet>' % (
        schema,
        rows,
    )


def endless_sheet() -> bytes:
    """An XLSX of two cells, at the two corners of the largest sheet there is."""
    cells = b'<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    return swapped(documents.sheets(), "xl/worksheets/sheet1.xml", [_sheet(cells)])


def endless_open_sheet() -> bytes:
    many = 'table:number-columns-repeated="16384"'
    cell = f'<table:table-cell office:value-type="string" {many}><text:p>x</text:p></table:table-cell>'
    row = f'<table:table-row table:number-rows-repeated="1048576">{cell}</table:table-row>'
    return documents._open_document("spreadsheet", f'<table:table table:name="A">{row}</table:table>')


def repeated_cells_of_slides() -> bytes:
    cell = '<table:table-cell table:number-columns-repeated="999999999"><text:p>x</text:p></table:table-cell>'
    table = f"<table:table>{f'<table:table-row>{cell}</table:table-row>' * 1_000}</table:table>"
    return documents._open_document(
        "presentation", f"<draw:page><draw:frame>{table}</draw:frame></draw:page>"
    )


def xml_bomb() -> bytes:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    return f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e0 "ha">{entities}]><a>&e9;</a>'.encode()


def xml_growth() -> bytes:
    """One entity of much text, used many times."""
    return f'<!DOCTYPE a [<!ENTITY e "{"x" * 100_000}">]><a>{"&e;" * 20_000}</a>'.encode()


def nested_zip(depth: int) -> bytes:
    inner = archive(("a.md", b"# A"))
    for _ in range(depth):
        inner = archive(("a.zip", inner))
    return inner


def wide_zip() -> bytes:
    return archive(*((f"{number}.md", b"# A") for number in range(12_000)))


def overlapping_zip() -> bytes:
    """Many entries of the same megabytes."""
    data = archive(("000.txt", b"a" * 9_000_000))
    end = data.index(b"PK\x01\x02")
    entry = data[end : data.index(b"PK\x05\x06")]
    count = 400
    directory = b"".join(entry.replace(b"000.txt", b"%03d.txt" % number) for number in range(count))
    return (
        data[:end]
        + directory
        + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(directory), end, 0)
    )


def looping_compound() -> bytes:
    """A compound file whose directory's siblings go round in a circle."""
    content = bytearray(compound({"__properties_version1.0": bytes(64), "__substg1.0_0037001F": b"x\0"}))
    name = "__substg1.0_0037001F".encode("utf-16-le")
    at = content.index(name)
    content[at + 68 : at + 80] = struct.pack("<iii", 1, 1, 1)
    return bytes(content)


def messages_in_messages(depth: int) -> bytes:
    inner: dict[str, object] = {"__properties_version1.0": bytes(24)}
    for _ in range(depth):
        attached = {"__properties_version1.0": bytes(8), "__substg1.0_3701000D": inner}
        inner = {"__properties_version1.0": bytes(24), "__attach_version1.0_#00000000": attached}
    return documents.outlook(inner=inner)


def deep_mail() -> bytes:
    head = b"From: a@x.org\r\nSubject: deep\r\nMIME-Version: 1.0\r\n"
    parts = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (number, number)
        for number in range(5_000)
    )
    return head + parts + b"Content-Type: text/plain\r\n\r\nend\r\n"


def many_parts() -> bytes:
    part = b"--b\r\nContent-Type: text/csv\r\nContent-Disposition: attachment\r\n\r\na\r\n"
    return (
        b'From: a@x.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
        + part * 1_100
    )


def long_headers() -> bytes:
    return b"From: " + b"<a@x.org>, " * 50_000 + b"\r\nSubject: " + b"=?utf-8?q?a?= " * 50_000 + b"\r\n\r\nHi"


def notebook_of_nonsense() -> bytes:
    cells = [
        1,
        None,
        {"cell_type": "code", "source": {"a": 1}, "outputs": "x"},
        {"cell_type": "heading", "level": []},
    ]
    return json.dumps({"cells": cells, "metadata": []}).encode()


QUICK: Mapping[str, Callable[[], bytes]] = {
    "truncated.pdf": lambda: documents.pdf()[: len(documents.pdf()) // 2],
    "empty.pdf": lambda: b"",
    "random.pdf": lambda: b"%PDF-1.7\n" + bytes(range(256)) * 40,
    "named.pdf": lambda: b"no PDF",
    "parents.pdf": parent_loop,
    "random.docx": lambda: bytes(range(256)) * 40,
    "random.xlsx": lambda: b"PK\x03\x04" + bytes(range(256)) * 40,
    "random.pptx": lambda: b"PK\x03\x04" + bytes(range(256)) * 40,
    "random.odt": lambda: b"PK\x03\x04" + bytes(range(256)) * 40,
    "random.epub": lambda: b"PK\x03\x04" + bytes(range(256)) * 40,
    "random.doc": lambda: bytes.fromhex("d0cf11e0a1b11ae1") + bytes(range(256)) * 40,
    "random.msg": lambda: bytes.fromhex("d0cf11e0a1b11ae1") + bytes(range(256)) * 40,
    "another.msg": lambda: compound({"WordDocument": bytes(5_000)}),
    "words.msg": lambda: b"From: me",
    "loop.msg": looping_compound,
    "deep.eml": deep_mail,
    "random.eml": lambda: bytes(range(256)) * 40,
    "binary.json": lambda: bytes(range(256)) * 40,
    "deep.json": lambda: b"[" * 200_000,
    "nested.json": lambda: b'{"a":' * 600 + b"1" + b"}" * 600,
    "bomb.xml": xml_bomb,
    "growth.xml": xml_growth,
    "deep.xml": lambda: b"<a>" * 100_000,
    "deep.html": lambda: b"<div>" * 100_000 + b"text",
    "slides.odp": lambda: archive(("content.xml", xml_bomb()), ("META-INF/manifest.xml", b"<a/>")),
}
"""Small files that no parser may make a document of: each a ParseError, at once."""

HARMLESS: Mapping[str, Callable[[], bytes]] = {
    "number.json": lambda: b"[" + b"9" * 100_000 + b"]",
    "nonsense.ipynb": notebook_of_nonsense,
    "deep.rtf": lambda: b"{\\rtf1 " + b"{" * 100_000,
    "headers.eml": long_headers,
    "outside.xml": lambda: (
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd" [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>hi &x;</a>'
    ),
    "span.html": lambda: b"<table><tr><td rowspan=100000 colspan=100000>a</td></tr></table>",
    "fence.md": lambda: b"`" * 100_000 + b"\n" + b"[" * 100_000,
    "emphasis.md": lambda: b"# " + b"*a_ " * 100_000,
    "formula.csv": lambda: b'=cmd|"/C calc"!A0,1\n' * 10,
    "repeated.odp": repeated_cells_of_slides,
    "deep.rst": lambda: b"* a\n" + b"".join(b"  " * level + b"* a\n\n" for level in range(300)),
}
"""Odd files of which a document comes, and nothing else."""

SLOW: Mapping[str, Callable[[], bytes]] = {
    "flate-bomb.pdf": flate_bomb,
    "page-tree-loop.pdf": page_tree_loop,
    "bomb.docx": word_bomb,
    "endless.xlsx": endless_sheet,
    "endless.ods": endless_open_sheet,
    "one-line.md": lambda: b"a " * 100_000_000,
    "one-line.csv": lambda: b"a," * 100_000_000,
    "one-line.json": lambda: b"[" + b"1," * 20_000_000 + b"1]",
    "one-line.html": lambda: b"<p>" + b"word " * 20_000_000,
    "tags.html": lambda: b"<b>" * 5_000_000,
    "quotes.csv": lambda: b'"' * 50_000_000,
    "cells.html": lambda: b"<table>" + b"<tr><td rowspan=5000 colspan=5000>a</td></tr>" * 300,
}
"""What takes seconds or gigabytes: tried by `benchmarks/fuzz.py`."""

CONTAINERS: Mapping[str, Callable[[], bytes]] = {
    "wide.zip": wide_zip,
    "many.eml": many_parts,
    "messages.msg": lambda: messages_in_messages(12),
    "random.zip": lambda: b"PK\x03\x04" + bytes(range(256)) * 40,
    "truncated.zip": lambda: archive()[:-30],
}
"""Containers that nothing is taken out of."""


def zip_slip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name in ("../../../../tmp/slip.md", "/etc/slip.md", "..\\..\\slip.md", "a/../../slip.md"):
            target.writestr(name, "# Slip")
        link = zipfile.ZipInfo("link.md")
        link.external_attr = 0o120777 << 16
        target.writestr(link, "/etc/passwd")
    return out.getvalue()


def mail_of_bombs() -> bytes:
    return mail(("bomb.zip", archive(("zeros.txt", bytes(40_000_000)))), ("../up.md", b"# Up"))
