"""OpenDocument presentations to Markdown. For a worker process.

xberg tells their slides apart less well: it leaves out tables' slides and adds what the master slide says.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from pipeline.parse.delimited import rows
from pipeline.parse.extract import Extract, Part, Unreadable
from pipeline.parse.properties import about
from pipeline.parse.xml_text import local, tree

_MOST_BYTES = 200_000_000
_MOST_REPEATED = 1_000


def read(content: bytes) -> Extract:
    """A part a slide, with its notes, under its title."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if b"manifest:encryption-data" in _file(archive, "META-INF/manifest.xml"):
                raise Unreadable("is protected by a password")
            slides = tree(_file(archive, "content.xml"))
            said = _file(archive, "meta.xml")
    except zipfile.BadZipFile as error:
        raise Unreadable("is no ODP file: it is no ZIP archive, or a broken one") from error
    fields = {local(field.tag): field.text for field in tree(said).iter()} if said else {}
    pages = [element for element in slides.iter() if local(element.tag) == "page"]
    return Extract(
        parts=tuple(
            Part(number=number, text=_slide(page, number)) for number, page in enumerate(pages, start=1)
        ),
        title=fields.get("title"),
        metadata=about(
            author=fields.get("creator") or fields.get("initial-creator"),
            created=fields.get("creation-date"),
            subject=fields.get("subject"),
        ),
    )


def _file(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        return b""
    with archive.open(name) as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise Unreadable(f"holds a {name} of more than {_MOST_BYTES:,} bytes")
    return content


def _slide(page: Element, number: int) -> str:
    title = ""
    blocks: list[str] = []
    notes: list[str] = []
    for shape in page:
        if local(shape.tag) == "notes":
            notes = [words for words in _texts(shape, kept={"notes"}) if words]
            continue
        written = [block for block in _texts(shape) if block]
        if not title and _class(shape) == "title":
            title = " ".join(written)
        else:
            blocks += written
    if notes:
        blocks.append("Notes: " + "\n\n".join(notes))
    text = "\n\n".join(blocks)
    return f"## {title or f'Slide {number}'}\n\n{text}".strip() if title or text else ""


def _texts(element: Element, *, kept: frozenset[str] | set[str] = frozenset()) -> Iterator[str]:
    """The paragraphs, lists and tables of a shape. `kept`: only of frames of these classes."""
    name = local(element.tag)
    if name in {"p", "h"}:
        yield _words(element)
    elif name == "list":
        yield "\n".join(_items(element, 0))
    elif name == "table":
        yield "".join(rows(_rows(element))).strip()
    elif not (name == "frame" and kept and _class(element) not in kept):
        for child in element:
            yield from _texts(child, kept=kept)


def _items(element: Element, depth: int) -> Iterator[str]:
    for item in element:
        for child in item:
            if local(child.tag) == "list":
                yield from _items(child, depth + 1)
            elif words := _words(child):
                yield f"{'  ' * depth}- {words}"


def _rows(table: Element) -> Iterator[list[str]]:
    for row in table.iter():
        if local(row.tag) == "table-row":
            cells: list[str] = []
            for cell in row:
                times = next(
                    (int(n) for key, n in cell.items() if local(key) == "number-columns-repeated"), 1
                )
                cells += [_words(cell)] * min(times, _MOST_REPEATED)
            yield cells


def _words(element: Element) -> str:
    """The text, with the blanks that are written as elements."""
    said = [element.text or ""]
    for child in element:
        name = local(child.tag)
        said += [" " if name in {"s", "tab", "line-break"} else _words(child), child.tail or ""]
        if name in {"p", "h"}:
            said.append(" ")
    return " ".join("".join(said).split())


def _class(shape: Element) -> str:
    return next((value for key, value in shape.items() if local(key) == "class"), "")
