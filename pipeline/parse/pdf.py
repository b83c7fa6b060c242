"""PDF to Markdown, page by page. For a worker process."""

from __future__ import annotations

import contextlib
import io
import re

from pipeline.parse.extract import Extract, Part, Unreadable

_EMPTY_FENCE = re.compile(r"\s*```\w*\s*```\s*")  # what liteparse makes of a page without text


def read(content: bytes) -> Extract:
    """With headings and tables, as liteparse sees them."""
    from liteparse import LiteParse, ParseError  # noqa: PLC0415  in the worker only

    _refuse_what_is_no_pdf(content)
    try:
        result = LiteParse(
            output_format="markdown",
            image_mode="off",
            ocr_enabled=False,
            quiet=True,
        ).parse(content)
    except ParseError as error:
        if "password" in str(error).lower():
            raise Unreadable("is protected by a password") from error
        raise
    parts = [
        Part(number=page.page_num, text="" if _EMPTY_FENCE.fullmatch(page.markdown) else page.markdown)
        for page in result.pages
    ]
    _refuse_what_has_no_text(parts)
    return Extract(parts=tuple(parts), title=_title(content))


def read_plainly(content: bytes) -> Extract:
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
    _refuse_what_has_no_text(parts)
    return Extract(parts=tuple(parts), title=_title(content), syntax="plain")


def _refuse_what_is_no_pdf(content: bytes) -> None:
    if b"%PDF-" not in content[:1024]:
        raise Unreadable("is no PDF file: it does not begin with %PDF-")


def _refuse_what_has_no_text(parts: list[Part]) -> None:
    if not any(part.text.strip() for part in parts):
        raise Unreadable(f"has no text layer (scanned?): run OCR on it first; pages: {len(parts)}")


def _title(content: bytes) -> str | None:
    from pypdf import PdfReader  # noqa: PLC0415  in the worker only

    with contextlib.suppress(Exception):  # a document whose properties are broken is still read
        properties = PdfReader(io.BytesIO(content)).metadata
        return properties.title if properties else None
    return None
