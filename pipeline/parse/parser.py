"""The parser of the pipeline: any document to text, sections and pages."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

from anyio import to_thread

from pipeline.errors import ParseError
from pipeline.parse import formats
from pipeline.parse.decode import clean, decode, is_text
from pipeline.parse.delimited import table
from pipeline.parse.extract import Extract, Part, Unreadable
from pipeline.parse.formats import Format, format_of
from pipeline.parse.structure import headings, sections_of
from pipeline.parse.title import title_of
from pipeline.parse.workers import WorkerFailed, Workers
from pipeline.records import Document, Page, RawDocument

_OUR_VERSION = 1  # raise it when the same bytes come to be parsed differently by code of ours
_LIBRARIES = ("charset-normalizer", "html-to-markdown", "liteparse", "pypdf", "xberg")
_LARGE_BYTES = 256 * 1024  # some 5 ms of work: below, changing to a thread costs more than it frees
_BETWEEN_PAGES = "\n\n"
_GENERIC = {"", "application/octet-stream", "binary/octet-stream"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseLimits:
    """What one document may cost; each is the most that is allowed."""

    seconds: float = 60
    memory_bytes: int = 4 * 2**30
    """Address space of the process that parses it, where the platform has such a limit."""
    input_bytes: int = 256 * 2**20
    output_chars: int = 20_000_000


class DocumentParser:
    """Reads Markdown, HTML, plain text, PDF, DOCX, PPTX, XLSX, CSV, TSV and source code.

    HTML, PDF and Office files, which can be made to hang or crash a parser, are parsed in `processes` worker
    processes (default: one a core). They start with the first such document and end with the parser.
    """

    def __init__(self, limits: ParseLimits | None = None, *, processes: int | None = None) -> None:
        self._limits = limits or ParseLimits()
        self._workers = Workers(
            count=processes or os.cpu_count() or 1,
            seconds=self._limits.seconds,
            memory_bytes=self._limits.memory_bytes,
            output_chars=self._limits.output_chars,
        )

    @property
    def recipe(self) -> str:
        """Our own version and that of each library. Not the limits: they decide whether, not how."""
        return _recipe()

    async def parse(self, raw: RawDocument) -> Document:
        """The document's text, sections and pages.

        Raises:
            ParseError: the format is unknown, the document is broken, or it goes over a limit.
        """
        size = len(raw.content)
        if size > self._limits.input_bytes:
            raise _failure(raw, f"has {size:,} bytes; at most {self._limits.input_bytes:,} are parsed")
        kind = _format(raw)
        extract = await self._read_apart(raw, kind) if kind.readers else None
        if size > _LARGE_BYTES:
            return await to_thread.run_sync(self._document, raw, kind, extract)
        return self._document(raw, kind, extract)

    async def _read_apart(self, raw: RawDocument, kind: Format) -> Extract:
        """By the first of the format's readers that manages, in a worker process."""
        failures: list[WorkerFailed] = []
        for reader in kind.readers:
            try:
                return await self._workers.run(reader, raw.content)
            except Unreadable as reason:
                raise _failure(raw, str(reason)) from reason
            except WorkerFailed as failure:
                failures.append(failure)
        raise _failure(raw, str(failures[0])) from failures[0]

    def _read_here(self, raw: RawDocument, kind: Format) -> Extract:
        """Formats that are text already."""
        text = self._within_limit(raw, clean(decode(raw.content)))
        syntax = kind.syntax
        if kind in (formats.CSV, formats.TSV):
            try:
                text = self._within_limit(raw, table(text, delimiter="\t" if kind is formats.TSV else None))
            except csv.Error:  # it says it is CSV and is not: its text is still worth finding
                syntax = formats.PLAIN.syntax
        return Extract(parts=(Part(text=text),), syntax=syntax)

    def _within_limit(self, raw: RawDocument, text: str) -> str:
        if len(text) > self._limits.output_chars:
            raise _failure(
                raw,
                f"gives {len(text):,} characters of text; at most {self._limits.output_chars:,} are taken",
            )
        return text

    def _document(self, raw: RawDocument, kind: Format, extract: Extract | None) -> Document:
        if extract is None:
            extract = self._read_here(raw, kind)
        text, pages = _joined(extract.parts)
        found = list(headings(text)) if extract.syntax == formats.MARKDOWN.syntax else []
        # A later page's heading does not name the whole, nor does the name of a sheet.
        first_page = (
            [] if kind is formats.XLSX else [top for top in found if not pages or top.start < pages[0].end]
        )
        stated = raw.media_type.partition(";")[0].strip().lower()
        return Document(
            ref=raw.ref,
            text=text,
            title=title_of(
                key=raw.ref.key,
                given=raw.title,
                own=extract.title and clean(extract.title),
                found=first_page,
                syntax=extract.syntax,
            ),
            media_type=kind.media_type if stated in _GENERIC else stated,
            syntax=extract.syntax,
            sections=sections_of(text, found),
            pages=pages,
            url=raw.url,
            metadata=raw.metadata,
        )


def _joined(parts: tuple[Part, ...]) -> tuple[str, tuple[Page, ...]]:
    """One text of all parts, and the pages that cover it. A page without text is left out of both."""
    written = [(part.number, text) for part in parts if (text := clean(part.text)).strip()]
    if len(written) == 1 and written[0][0] is None:
        return written[0][1], ()
    pages = []
    start = 0
    for index, (number, text) in enumerate(written):
        end = start + len(text) + (len(_BETWEEN_PAGES) if index + 1 < len(written) else 0)
        if number is not None:
            pages.append(Page(start=start, end=end, number=number))
        start = end
    return _BETWEEN_PAGES.join(text for _, text in written), tuple(pages)


def _format(raw: RawDocument) -> Format:
    kind = format_of(raw.media_type, raw.ref.key)
    if kind is not None and (kind.readers or is_text(raw.content)):
        return kind
    if kind is None and is_text(raw.content):
        return formats.PLAIN
    known = ", ".join(known.name for known in formats.FORMATS)
    what = f"is of the media type {raw.media_type or '(none)'} and is no text"
    raise _failure(raw, f"{what}; what is read: {known}, source code and other text")


def _failure(raw: RawDocument, reason: str) -> ParseError:
    return ParseError(f"{raw.ref.key} {reason}")


@cache
def _recipe() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return f"parse {_OUR_VERSION} ({libraries})"
