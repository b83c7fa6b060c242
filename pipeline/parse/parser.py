"""The parser of the pipeline: any document to text, sections and pages."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

from anyio import to_thread

from pipeline.errors import ParseError
from pipeline.parse import formats
from pipeline.parse.decode import clean, decode, is_text
from pipeline.parse.delimited import table
from pipeline.parse.extract import Extract, Members, Option, Part, Unreadable
from pipeline.parse.formats import Format, format_by_content, format_of
from pipeline.parse.front_matter import front_matter
from pipeline.parse.language import language_of
from pipeline.parse.ocr import tesseract_data
from pipeline.parse.structure import headings, sections_of
from pipeline.parse.title import title_of
from pipeline.parse.workers import WorkerFailed, Workers
from pipeline.records import Contained, Document, JsonValue, Page, RawDocument

_OUR_VERSION = 3  # raise it when the same bytes come to be parsed differently by code of ours
_LIBRARIES = (
    *(
        "charset-normalizer",
        "html-to-markdown",
        "liteparse",
        "olefile",
        "py3langid",
        "pypdf",
        "pyyaml",
        "xberg",
    ),
)
_LARGE_BYTES = 256 * 1024  # some 5 ms of work: below, changing to a thread costs more than it frees
_BETWEEN_PAGES = "\n\n"
_GENERIC = {"", "application/octet-stream", "binary/octet-stream"}
_UNPACK = "pipeline.parse.contents:unpack"
_ISO_639_1 = re.compile(r"([A-Za-z]{2})(?:[-_]|\Z)")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseLimits:
    """What one document may cost; each is the most that is allowed."""

    seconds: float = 60
    memory_bytes: int = 4 * 2**30
    """Address space of the process that parses it, where the platform has such a limit."""
    input_bytes: int = 256 * 2**20
    output_chars: int = 20_000_000
    contained_documents: int = 10_000
    """Documents in a container, and in all containers that it holds."""
    contained_bytes: int = 256 * 2**20
    """Bytes of these."""
    container_depth: int = 3
    """Containers in one another, the outermost being the first."""


class DocumentParser:
    """Reads the formats of `formats.FORMATS`, source code and other text.

    What can be made to hang or crash a parser (all but Markdown, plain text, CSV and code) is parsed in
    `processes` worker processes (default: one a core). They start with the first such document and end with
    the parser.

    `ocr` are the languages that scanned pages may be in, as Tesseract names them ("eng"); none: these are not
    read. `tessdata` is the folder with Tesseract's data; it is looked for where it is usually installed.

    Raises:
        SettingsError: Tesseract's data for a language of `ocr` is not there.
    """

    def __init__(
        self,
        limits: ParseLimits | None = None,
        *,
        processes: int | None = None,
        ocr: Sequence[str] = (),
        tessdata: Path | None = None,
    ) -> None:
        self._limits = limits or ParseLimits()
        self._ocr = tesseract_data(ocr, tessdata) if ocr else []
        self._workers = Workers(
            count=processes or os.cpu_count() or 1,
            seconds=self._limits.seconds,
            memory_bytes=self._limits.memory_bytes,
            output_chars=self._limits.output_chars,
        )

    @property
    def recipe(self) -> str:
        """Our own version and that of each library, and the languages of OCR.

        Not the limits: they decide whether, not how.
        """
        return _recipe() + (f"; ocr {' '.join(self._ocr[1:])}" if self._ocr else "")

    async def parse(self, raw: RawDocument) -> Document:
        """The document's text, sections and pages.

        Raises:
            ParseError: the format is unknown, the document is broken, or it goes over a limit.
        """
        self._check_size(raw)
        kind = _format(raw)
        extract = await self._read_apart(raw, kind) if kind.readers else None
        if max(len(raw.content), extract.size if extract else 0) > _LARGE_BYTES:
            return await to_thread.run_sync(self._document, raw, kind, extract)
        return self._document(raw, kind, extract)

    async def children(self, raw: RawDocument) -> Contained:
        """The documents that an item holds: the files of a ZIP archive, the attachments of an e-mail.

        Down to the innermost: the files of an archive that is attached to an e-mail in an archive are among
        them, and this is not to be asked of them again. Nothing is asked of a worker for other formats.

        A child's key is its container's, `!/` and its name there, in which nothing leads anywhere else
        (`reports.zip!/2026/may.pdf`, `mail.eml!/offer.zip!/a.docx`). Keys are unlike each other, in the
        container's order, and as stable as the names in it: where two are the same, the later one is called
        `name~2`. A child has its item's `version`, `url` and metadata, and may be given to `parse`.

        What is no document (pictures, programs, hidden files) is left out, as `parse` would refuse it.
        What alone cannot be taken out (broken, too large, protected by a password, containers too deep in one
        another) is in `refused`. An archive that is a document of its own has no text; an e-mail has.

        Raises:
            ParseError: the container is broken, or holds more than may be taken out: nothing is.
        """
        self._check_size(raw)
        named = format_of(raw.media_type, raw.ref.key)
        kind = _format(raw) if named is None or named.holds else named
        if not kind.holds:
            return Contained(documents=())
        limits = self._limits
        options: dict[str, Option] = {
            "kind": kind.holds,
            "most_documents": limits.contained_documents,
            "most_bytes": limits.contained_bytes,
            "member_bytes": limits.input_bytes,
            "deepest": limits.container_depth,
        }
        try:
            found = await self._workers.ask(
                Members, _UNPACK, raw.content, options, at_most=limits.contained_bytes
            )
        except (Unreadable, WorkerFailed) as failure:
            raise _failure(raw, str(failure)) from failure
        inside = raw.ref.key + formats.INSIDE
        return Contained(
            documents=tuple(
                RawDocument(
                    ref=replace(raw.ref, key=inside + member.name, size=len(member.content)),
                    content=member.content,
                    media_type=member.media_type,
                    url=raw.url,
                    metadata=raw.metadata,
                )
                for member in found.members
            ),
            refused={inside + name: reason for name, reason in found.refused},
        )

    def _check_size(self, raw: RawDocument) -> None:
        size = len(raw.content)
        if size > self._limits.input_bytes:
            raise _failure(raw, f"has {size:,} bytes; at most {self._limits.input_bytes:,} are parsed")

    async def _read_apart(self, raw: RawDocument, kind: Format) -> Extract:
        """By the first of the format's readers that manages, in a worker process."""
        told: dict[str, Option] = {"media_type": kind.media_type, "charset": _charset(raw), "ocr": self._ocr}
        options = {name: told[name] for name in kind.asks}
        failures: list[str] = []  # not the errors: they hold this frame, and it the content
        for reader in kind.readers:
            try:
                return await self._workers.run(reader, raw.content, **options)
            except Unreadable as reason:
                raise _failure(raw, str(reason)) from reason
            except WorkerFailed as failure:
                failures.append(str(failure))
        raise _failure(raw, failures[0])

    def _read_here(self, raw: RawDocument, kind: Format) -> Extract:
        """Formats that are text already."""
        if kind is formats.ZIP:
            return Extract(parts=())
        text = self._within_limit(raw, clean(decode(raw.content, declared=_charset(raw))))
        syntax = kind.syntax
        if kind is formats.MARKDOWN and (front := front_matter(text)):
            own = text[front.end :].lstrip("\n")
            return Extract(
                parts=(Part(text=own),),
                title=front.title,
                metadata=front.metadata,
                line=1 + text.count("\n", 0, len(text) - len(own)),
            )
        line: int | None = 1
        if kind in (formats.CSV, formats.TSV):
            try:
                text = self._within_limit(raw, table(text, delimiter="\t" if kind is formats.TSV else None))
                line = None
            except csv.Error:  # it says it is CSV and is not: its text is still worth finding
                syntax = formats.PLAIN.syntax
        return Extract(parts=(Part(text=text),), syntax=syntax, line=line)

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
            [] if kind in formats.SHEETS else [top for top in found if not pages or top.start < pages[0].end]
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
            metadata={**_found(extract, text), **raw.metadata},
            first_line=extract.line,
            anchor=raw.anchor,
        )


def _found(extract: Extract, text: str) -> dict[str, JsonValue]:
    """What the document says of itself, and the language that it is in."""
    found = dict(extract.metadata)
    if "language" not in found and extract.syntax in {formats.MARKDOWN.syntax, formats.PLAIN.syntax}:
        declared = _ISO_639_1.match(extract.language or "")
        if spoken := language_of(text) or (declared and declared[1].lower()):
            found["language"] = spoken
    return found


def _charset(raw: RawDocument) -> str:
    """What the source says of the encoding."""
    said = _CHARSET.search(raw.media_type)
    return said[1] if said else ""


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
    kind = format_of(raw.media_type, raw.ref.key) or format_by_content(raw.content)
    if kind is not None and (kind.readers or kind.holds or is_text(raw.content)):
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
