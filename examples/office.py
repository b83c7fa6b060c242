"""Blocks to Word, PowerPoint and Excel files."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from datetime import datetime

import docx
import pptx
from blocks import Block, Heading, Items, Notes, Paragraph, Table, title_of
from openpyxl import Workbook  # type: ignore[import-untyped]
from openpyxl.styles import Font  # type: ignore[import-untyped]
from pptx.slide import Slide
from pptx.util import Cm, Pt

_AUTHOR = "Lathhouse Instruments"
_OPENING, _TITLE_AND_TEXT, _TITLE_ALONE = 0, 1, 5  # layouts of the library's own template
_DATES = re.compile(rb"(<dcterms:(?:created|modified)\b[^>]*>)[^<]*")


def docx_of(blocks: list[Block], created: datetime) -> bytes:
    """The bytes of a Word file, the same for the same blocks and date."""
    paper = docx.Document()
    paper.core_properties.title = title_of(blocks)
    paper.core_properties.author = _AUTHOR
    paper.core_properties.comments = ""
    for block in blocks:
        match block:
            case Heading(level=level, text=text):
                paper.add_heading(text, level=level - 1)  # level 0 is Word's style "Title"
            case Paragraph(text=text):
                paper.add_paragraph(text)
            case Items(texts=texts, numbered=numbered):
                for text in texts:
                    paper.add_paragraph(text, style="List Number" if numbered else "List Bullet")
            case Table(rows=rows):
                grid = paper.add_table(rows=len(rows), cols=len(rows[0]), style="Light Grid Accent 1")
                for cells, row in zip(grid.rows, rows, strict=True):
                    for cell, text in zip(cells.cells, row, strict=True):
                        cell.text = text
            case _:
                raise ValueError(f"a Word file has no place for {type(block).__name__}")
    file = io.BytesIO()
    paper.save(file)
    return _settled(file, created)


def pptx_of(blocks: list[Block], created: datetime) -> bytes:
    """The bytes of a PowerPoint file, the same for the same blocks and date: a slide for each heading."""
    deck = pptx.Presentation()
    deck.core_properties.title = title_of(blocks)
    deck.core_properties.author = _AUTHOR
    for heading, body in _under_headings(blocks):
        has_table = any(isinstance(block, Table) for block in body)
        layout = _OPENING if heading.level == 1 else _TITLE_ALONE if has_table else _TITLE_AND_TEXT
        slide = deck.slides.add_slide(deck.slide_layouts[layout])
        slide.shapes.title.text = heading.text
        _fill(slide, body)
    file = io.BytesIO()
    deck.save(file)
    return _settled(file, created)


def xlsx_of(blocks: list[Block], created: datetime) -> bytes:
    """The bytes of an Excel file, the same for the same blocks and date: a sheet for each level-2 heading."""
    book = Workbook()
    book.remove(book.active)
    book.properties.title = title_of(blocks)
    book.properties.creator = _AUTHOR
    for heading, body in _under_headings(blocks):
        if heading.level == 1:
            continue
        sheet = book.create_sheet(heading.text)
        for block in body:
            match block:
                case Paragraph(text=text):
                    sheet.append([text])
                case Table(rows=rows):
                    for row in rows:
                        sheet.append([_value(cell) for cell in row])
                    for cell in sheet[sheet.max_row - len(rows) + 1]:
                        cell.font = Font(bold=True)
                case _:
                    raise ValueError(f"a sheet has no place for {type(block).__name__}")
    file = io.BytesIO()
    book.save(file)
    return _settled(file, created)


def members(package: bytes) -> dict[str, bytes]:
    """What an office file (a zip archive) holds, by name."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _settled(file: io.BytesIO, created: datetime) -> bytes:
    """The package without a trace of when or where it was written."""
    stamp = created.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    settled = io.BytesIO()
    with zipfile.ZipFile(settled, "w") as archive:
        for name, content in members(file.getvalue()).items():
            entry = zipfile.ZipInfo(name)  # dated 1980-01-01
            entry.create_system = 3  # else the platform's own number
            entry.compress_type = zipfile.ZIP_DEFLATED
            if name == "docProps/core.xml":
                content = _DATES.sub(rb"\g<1>" + stamp, content)  # noqa: PLW2901 - the same member, dated
            archive.writestr(entry, content)
    return settled.getvalue()


def _under_headings(blocks: list[Block]) -> Iterator[tuple[Heading, list[Block]]]:
    starts = [place for place, block in enumerate(blocks) if isinstance(block, Heading)]
    for start, stop in zip(starts, [*starts[1:], len(blocks)], strict=True):
        heading = blocks[start]
        if isinstance(heading, Heading):
            yield heading, blocks[start + 1 : stop]


def _fill(slide: Slide, body: list[Block]) -> None:
    lines: list[str] = []
    for block in body:
        match block:
            case Paragraph(text=text):
                lines.append(text)
            case Items(texts=texts):
                lines.extend(texts)
            case Table(rows=rows):
                _add_table(slide, rows)
            case Notes(text=text):
                notes = slide.notes_slide.notes_text_frame
                if notes is not None:  # the library's template has them
                    notes.text = text
    if lines:
        frame = slide.placeholders[1].text_frame
        frame.text = "\n".join(lines)
        for paragraph in frame.paragraphs:
            paragraph.font.size = Pt(22)


def _add_table(slide: Slide, rows: tuple[tuple[str, ...], ...]) -> None:
    shape = slide.shapes.add_table(len(rows), len(rows[0]), Cm(2), Cm(5), Cm(21), Cm(len(rows)))
    for number, row in enumerate(rows):
        for column, text in enumerate(row):
            shape.table.cell(number, column).text = text


def _value(cell: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
