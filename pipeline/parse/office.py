"""Office files and books to Markdown, by xberg. For a worker process."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pipeline.parse.extract import Extract, Part, Unreadable
from pipeline.parse.native import extracted
from pipeline.parse.properties import about
from pipeline.records import JsonValue

if TYPE_CHECKING:
    from xberg import ExtractedDocument
    from xberg._xberg import PageContent

_COMPOUND_FILE = bytes.fromhex("d0cf11e0a1b11ae1")
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_OPEN_XML = "application/vnd.openxmlformats-officedocument"
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument"
_IN_ZIP = {
    # What a file of Word 97 and its like is when it is none: renamed, or saved by another program.
    "application/msword": f"{_OPEN_XML}.wordprocessingml.document",
    "application/vnd.ms-powerpoint": f"{_OPEN_XML}.presentationml.presentation",
    "application/vnd.ms-excel": f"{_OPEN_XML}.spreadsheetml.sheet",
}
_BEFORE_2007 = {known: old for old, known in _IN_ZIP.items()}
_SLIDES_RULE = re.compile(r"^-{5}\n+", re.MULTILINE)
_FOOTNOTES = re.compile(r"^\[\^\d+\]:.*\Z", re.MULTILINE | re.DOTALL)
# A row of a table whose cells are filled up with blanks, and what they are filled with. Lines are looked for
# by the line feed before them, as in `structure`.
_PADDED = re.compile(r"\n\|.*\|(?=\n|\Z)")
_PADDING = re.compile(r"(?<= ) +(?=\|)|(?<=---)-+(?= \|)")


def read_text(content: bytes, *, media_type: str) -> Extract:
    """A text document, which has no pages until it is set: DOCX, DOC, ODT, RTF."""
    found = _extract(content, media_type)
    return _extract_of(found, (Part(text=found.content),))


def read_book(content: bytes, *, media_type: str) -> Extract:
    """An EPUB, chapter after chapter."""
    found = _extract(content, media_type)
    text = _PADDED.sub(lambda row: _PADDING.sub("", row[0]), "\n" + found.content)
    return _extract_of(found, (Part(text=text[1:]),), language=found.metadata.language)


def read_slides(content: bytes, *, media_type: str) -> Extract:
    """A part a slide, with the speaker's notes, under a heading each."""
    found = _extract(content, media_type)
    if not found.pages:  # the binary format: slides between rules, all notes at the end
        return _extract_of(found, tuple(_ruled_slides(found)))
    parts = []
    for slide in found.pages:
        text = "" if slide.is_blank else slide.content.strip()
        if slide.speaker_notes:
            text = f"{text}\n\nNotes: {slide.speaker_notes.strip()}"
        parts.append(Part(number=slide.page_number, text=_headed(text, f"Slide {slide.page_number}")))
    return _extract_of(found, tuple(parts))


def read_sheets(content: bytes, *, media_type: str) -> Extract:
    """A part a sheet, a table under the sheet's name."""
    found = _extract(content, media_type)
    parts = [Part(number=sheet.page_number, text=_sheet(sheet)) for sheet in found.pages or []]
    return _extract_of(found, tuple(parts))


def _sheet(sheet: PageContent) -> str:
    name = sheet.sheet_name or f"Sheet {sheet.page_number}"
    text = sheet.content.strip()
    return "" if sheet.is_blank or text == f"## {name}" else _headed(text, name)


def _ruled_slides(found: ExtractedDocument) -> list[Part]:
    notes = found.metadata.additional.get("speaker_notes")
    spoken = _FOOTNOTES.search(found.content) if notes else None
    text = found.content[: spoken.start()] if spoken else found.content
    slides = [slide.strip() for slide in _SLIDES_RULE.split(text)][1:] or [text.strip()]
    parts = [
        Part(number=number, text=_headed(slide, f"Slide {number}"))
        for number, slide in enumerate(slides, start=1)
    ]
    if spoken and parts:
        said = re.sub(r"^\[\^\d+\]:\s*", "", spoken[0], flags=re.MULTILINE)
        last = parts[-1]
        parts[-1] = Part(number=last.number, text=f"{last.text}\n\nNotes:\n\n{said.strip()}")
    return parts


def _headed(text: str, heading: str) -> str:
    return text if not text or text.startswith("#") else f"## {heading}\n\n{text}"


def _extract_of(found: ExtractedDocument, parts: tuple[Part, ...], *, language: str | None = None) -> Extract:
    return Extract(parts=parts, title=found.metadata.title, metadata=_about(found), language=language)


def _about(found: ExtractedDocument) -> dict[str, JsonValue]:
    said = found.metadata
    creator = said.additional.get("initial_creator") or ""  # what OpenDocument calls it, as JSON
    return about(
        author=", ".join(said.authors or []) or creator.strip('"'),
        created=said.created_at,
        modified=said.modified_at,
        subject=said.subject,
        keywords=list(said.keywords or []),
    )


def _extract(content: bytes, media_type: str) -> ExtractedDocument:
    if media_type == "application/rtf" or content.startswith(b"{\\rtf"):
        if not content.lstrip().startswith(b"{\\rtf"):
            raise Unreadable("is no RTF file: it does not begin with {\\rtf")
        return extracted(content, "application/rtf")
    if content.startswith(_COMPOUND_FILE):
        if _ENCRYPTED in content:
            raise Unreadable("is protected by a password")
        media_type = _BEFORE_2007.get(media_type, media_type)
        if media_type not in _IN_ZIP:
            raise Unreadable("is no OpenDocument or EPUB file, but one of Microsoft Office before 2007")
    elif content.startswith(b"PK"):
        media_type = _IN_ZIP.get(media_type, media_type)
    else:
        raise Unreadable("is no Office file: it begins neither as a ZIP archive nor as a compound file")
    return extracted(content, media_type)
