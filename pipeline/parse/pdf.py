"""PDF to Markdown, page by page. For a worker process."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING

from pipeline.parse.extract import Extract, Part, Unreadable
from pipeline.parse.properties import about
from pipeline.records import JsonValue

if TYPE_CHECKING:
    from pypdf import PageObject, PdfReader

_EMPTY_FENCE = re.compile(r"\s*```\w*\s*```\s*")  # what liteparse makes of a page without text
_MOST_LOOKED_AT = 1_000
"""Pages without text that are looked at for pictures."""


def read(content: bytes, *, ocr: list[str]) -> Extract:
    """With headings and tables, as liteparse sees them.

    `ocr`: the folder of Tesseract's data and the languages, to read scanned pages too; empty: they are not.
    """
    _refuse_what_is_no_pdf(content)
    parts = _pages(content, [])
    if ocr and not all(part.text.strip() for part in parts):
        with contextlib.suppress(Exception):  # pages that cannot be recognised leave the others as they are
            parts = _pages(content, ocr)
    return _extract(content, parts, syntax="markdown", tried=bool(ocr))


def read_plainly(content: bytes, *, ocr: list[str]) -> Extract:
    """The bare text, by pypdf: slower and without structure, but pure Python and hard to crash."""
    from pypdf import PdfReader  # noqa: PLC0415  in the worker only
    from pypdf.errors import DependencyError, FileNotDecryptedError  # noqa: PLC0415

    _refuse_what_is_no_pdf(content)
    try:
        reader = PdfReader(io.BytesIO(content))
        parts = [
            Part(number=number, text=page.extract_text()) for number, page in enumerate(reader.pages, start=1)
        ]
    except (FileNotDecryptedError, DependencyError) as error:
        raise Unreadable("is protected by a password") from error
    return _extract(content, parts, syntax="plain", tried=bool(ocr))


def _pages(content: bytes, ocr: list[str]) -> list[Part]:
    from liteparse import LiteParse, ParseError  # noqa: PLC0415  in the worker only

    recognition = (
        {"tessdata_path": ocr[0], "ocr_language": "+".join(ocr[1:]), "num_workers": 1} if ocr else {}
    )
    try:
        result = LiteParse(
            output_format="markdown", image_mode="off", ocr_enabled=bool(ocr), quiet=True, **recognition
        ).parse(content)
    except ParseError as error:
        if "password" in str(error).lower():
            raise Unreadable("is protected by a password") from error
        raise
    return [
        Part(number=page.page_num, text="" if _EMPTY_FENCE.fullmatch(page.markdown) else page.markdown)
        for page in result.pages
    ]


def _refuse_what_is_no_pdf(content: bytes) -> None:
    if b"%PDF-" not in content[:1024]:
        raise Unreadable("is no PDF file: it does not begin with %PDF-")


def _extract(content: bytes, parts: list[Part], *, syntax: str, tried: bool) -> Extract:
    blank = [part.number or 0 for part in parts if not part.text.strip()]
    if len(blank) == len(parts):
        cure = "OCR found none either" if tried else "set parsing.ocr, or run OCR on it first"
        raise Unreadable(f"has scanned pages and no text: {cure}; pages: {len(parts)}")
    title, said = None, about()
    with contextlib.suppress(Exception):  # a document whose properties are broken is still read
        from pypdf import PdfReader  # noqa: PLC0415  in the worker only

        reader = PdfReader(io.BytesIO(content))
        title, said = _properties(reader)
        if scanned := [
            number for number in blank[:_MOST_LOOKED_AT] if _has_picture(reader.pages[number - 1])
        ]:
            said["pages_without_text"] = _ranges(scanned)
    return Extract(parts=tuple(parts), title=title, syntax=syntax, metadata=said)


def _properties(reader: PdfReader) -> tuple[str | None, dict[str, JsonValue]]:
    properties = reader.metadata
    if properties is None:
        return None, {}
    dates: dict[str, datetime | None] = {}
    for name, field in (("created", "creation_date"), ("modified", "modification_date")):
        with contextlib.suppress(Exception):  # pypdf raises over dates that are none
            dates[name] = getattr(properties, field)
    return properties.title, about(
        author=properties.author, subject=properties.subject, keywords=properties.get("/Keywords"), **dates
    )


def _has_picture(page: PageObject) -> bool:
    """Whether a page without text is a scan, and not just blank."""
    resources = page.get("/Resources")
    pictures = resources.get_object().get("/XObject") if resources else None
    return bool(pictures and pictures.get_object())


def _ranges(numbers: Iterable[int]) -> str:
    """As "2, 5-9"."""

    def spans() -> Iterator[str]:
        for _, run in groupby(enumerate(numbers), key=lambda at: at[1] - at[0]):
            pages = [number for _, number in run]
            yield str(pages[0]) if len(pages) == 1 else f"{pages[0]}-{pages[-1]}"

    return ", ".join(spans())
