"""Office files to Markdown. For a worker process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pipeline.parse.extract import Extract, Part, Unreadable
from pipeline.parse.formats import DOCX, PPTX, XLSX, Format

if TYPE_CHECKING:
    from xberg import ExtractedDocument

_COMPOUND_FILE = bytes.fromhex("d0cf11e0a1b11ae1")
_TABLE_CELLS = (
    20_000_000  # xberg's default is 100,000: a sheet of 10,000 rows. The limits of the worker hold anyway.
)


def read_docx(content: bytes) -> Extract:
    """The whole text: a DOCX file has no pages until it is set."""
    found = _extract(content, DOCX)
    return Extract(parts=(Part(text=found.content),), title=found.metadata.title)


def read_pptx(content: bytes) -> Extract:
    """A part a slide, with the speaker's notes, under a heading each."""
    found = _extract(content, PPTX)
    parts = []
    for slide in found.pages or []:
        text = "" if slide.is_blank else slide.content.strip()
        if slide.speaker_notes:
            text = f"{text}\n\nNotes: {slide.speaker_notes.strip()}"
        parts.append(Part(number=slide.page_number, text=_headed(text, f"Slide {slide.page_number}")))
    return Extract(parts=tuple(parts), title=found.metadata.title)


def read_xlsx(content: bytes) -> Extract:
    """A part a sheet, a table under the sheet's name."""
    found = _extract(content, XLSX)
    parts = []
    for sheet in found.pages or []:
        name = sheet.sheet_name or f"Sheet {sheet.page_number}"
        parts.append(
            Part(
                number=sheet.page_number, text="" if sheet.is_blank else _headed(sheet.content.strip(), name)
            )
        )
    return Extract(parts=tuple(parts), title=found.metadata.title)


def _headed(text: str, heading: str) -> str:
    return text if not text or text.startswith("#") else f"## {heading}\n\n{text}"


def _extract(content: bytes, kind: Format) -> ExtractedDocument:
    import xberg  # noqa: PLC0415  in the worker only

    if content.startswith(_COMPOUND_FILE):
        raise Unreadable("is protected by a password, or in the binary format of before 2007")
    if not content.startswith(b"PK"):
        raise Unreadable(f"is no {kind.name} file: it is not a ZIP archive")
    config = xberg.ExtractionConfig(
        output_format="markdown",
        pages=xberg.PageConfig(extract_pages=True),
        images=xberg.ImageExtractionConfig(extract_images=False, inject_placeholders=False),
        disable_ocr=True,
        use_cache=False,
        enable_quality_processing=False,
        concurrency=xberg.ConcurrencyConfig(max_threads=1),
        security_limits=xberg.SecurityLimits(max_table_cells=_TABLE_CELLS),
    )
    document = xberg.ExtractInput(kind="bytes", bytes=content, mime_type=kind.media_type)
    result = asyncio.run(xberg.extract(document, config))
    if result.errors:
        raise ValueError("; ".join(error.message for error in result.errors))
    return result.results[0]
