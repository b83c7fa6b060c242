"""Which format a document is in, and how each format is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

INSIDE = "!/"
"""Stands in a key between a container and what it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format that is read."""

    name: str
    media_type: str
    syntax: str = "markdown"
    """The syntax of the parsed text, as `Document.syntax` has it."""
    readers: tuple[str, ...] = ()
    """Functions ("module:name") that read it in a worker, the next where one fails; none: in process."""
    asks: tuple[str, ...] = ()
    """What the readers are to be told beside the content: "media_type", "charset", "ocr"."""
    holds: str = ""
    """The kind of container that it is, if it holds other documents: "zip", "mail" or "msg"."""


_OFFICE = "application/vnd.openxmlformats-officedocument"
_OPEN = "application/vnd.oasis.opendocument"
_AS_PLAIN = "pipeline.parse.plain:read"


def _office(name: str, media_type: str, reader: str) -> Format:
    return Format(
        name=name, media_type=media_type, readers=(f"pipeline.parse.office:{reader}",), asks=("media_type",)
    )


def _text(name: str, media_type: str, reader: str) -> Format:
    """A format whose text is still worth finding where its reader fails."""
    return Format(
        name=name, media_type=media_type, readers=(f"pipeline.parse.{reader}", _AS_PLAIN), asks=("charset",)
    )


MARKDOWN = Format(name="Markdown", media_type="text/markdown")
PLAIN = Format(name="plain text", media_type="text/plain", syntax="plain")
CSV = Format(name="CSV", media_type="text/csv")
TSV = Format(name="TSV", media_type="text/tab-separated-values")
HTML = Format(name="HTML", media_type="text/html", readers=("pipeline.parse.html:read",), asks=("charset",))
PDF = Format(
    name="PDF",
    media_type="application/pdf",
    readers=("pipeline.parse.pdf:read", "pipeline.parse.pdf:read_plainly"),
    asks=("ocr",),
)
DOCX = _office("DOCX", f"{_OFFICE}.wordprocessingml.document", "read_text")
PPTX = _office("PPTX", f"{_OFFICE}.presentationml.presentation", "read_slides")
XLSX = _office("XLSX", f"{_OFFICE}.spreadsheetml.sheet", "read_sheets")
DOC = _office("DOC", "application/msword", "read_text")
PPT = _office("PPT", "application/vnd.ms-powerpoint", "read_slides")
XLS = _office("XLS", "application/vnd.ms-excel", "read_sheets")
ODT = _office("ODT", f"{_OPEN}.text", "read_text")
ODS = _office("ODS", f"{_OPEN}.spreadsheet", "read_sheets")
ODP = Format(name="ODP", media_type=f"{_OPEN}.presentation", readers=("pipeline.parse.presentation:read",))
RTF = _office("RTF", "application/rtf", "read_text")
EPUB = _office("EPUB", "application/epub+zip", "read_book")
RST = _text("reStructuredText", "text/x-rst", "markup:read_rst")
ASCIIDOC = _text("AsciiDoc", "text/asciidoc", "markup:read_asciidoc")
JSON = _text("JSON", "application/json", "json_text:read")
JSON_LINES = _text("JSON Lines", "application/x-ndjson", "json_text:read_lines")
XML = _text("XML", "application/xml", "xml_text:read")
NOTEBOOK = _text("notebooks", "application/x-ipynb+json", "notebook:read")
EML = Format(name="EML", media_type="message/rfc822", readers=("pipeline.parse.mail:read",), holds="mail")
MSG = Format(
    name="MSG",
    media_type="application/vnd.ms-outlook",
    readers=("pipeline.parse.msg:read", "pipeline.parse.msg:read_rich"),
    holds="msg",
)
ZIP = Format(name="ZIP", media_type="application/zip", holds="zip")

FORMATS = (
    *(MARKDOWN, HTML, PLAIN, PDF, DOCX, PPTX, XLSX, CSV, TSV, DOC, PPT, XLS, ODT, ODP, ODS, RTF, EPUB),
    *(RST, ASCIIDOC, JSON, JSON_LINES, XML, NOTEBOOK, EML, MSG, ZIP),
)
SHEETS = (XLSX, XLS, ODS)

# Types under which all kinds of things are served: a suffix that says more is believed first.
_VAGUE = {known.media_type: known for known in (PLAIN, JSON, XML, ZIP)} | {
    "application/x-zip-compressed": ZIP,
    "text/json": JSON,
    "text/xml": XML,
}
_BY_MEDIA_TYPE = {known.media_type: known for known in FORMATS if known.media_type not in _VAGUE} | {
    "application/csv": CSV,
    "application/jsonl": JSON_LINES,
    "application/x-pdf": PDF,
    "application/xhtml+xml": HTML,
    "text/prs.fallenstein.rst": RST,
    "text/rtf": RTF,
    "text/tsv": TSV,
    "text/x-asciidoc": ASCIIDOC,
    "text/x-markdown": MARKDOWN,
}

_SUFFIXES = {
    ".md .markdown .mdown .mdx": MARKDOWN,
    ".html .htm .xhtml": HTML,
    ".pdf": PDF,
    ".docx .docm .dotx": DOCX,
    ".pptx .pptm .ppsx": PPTX,
    ".xlsx .xlsm .xltx": XLSX,
    ".doc .dot": DOC,
    ".ppt .pps": PPT,
    ".xls": XLS,
    ".odt": ODT,
    ".ods": ODS,
    ".odp": ODP,
    ".rtf": RTF,
    ".epub": EPUB,
    ".csv": CSV,
    ".tsv .tab": TSV,
    ".rst .rest": RST,
    ".adoc .asciidoc .asc": ASCIIDOC,
    ".json": JSON,
    ".jsonl .ndjson": JSON_LINES,
    ".xml .dbk .dita": XML,
    ".ipynb": NOTEBOOK,
    ".eml": EML,
    ".msg": MSG,
    ".zip": ZIP,
    ".txt .text .log": PLAIN,
}
_BY_SUFFIX = {suffix: known for suffixes, known in _SUFFIXES.items() for suffix in suffixes.split()}

_LANGUAGES = {
    # The names are those of langchain_text_splitters.Language.
    "c": ".c .h",
    "cobol": ".cob .cbl",
    "cpp": ".cc .cpp .cxx .hh .hpp .hxx",
    "csharp": ".cs",
    "elixir": ".ex .exs",
    "go": ".go",
    "haskell": ".hs",
    "html": ".vue .svelte",
    "java": ".java",
    "js": ".js .cjs .mjs .jsx",
    "kotlin": ".kt .kts",
    "latex": ".tex",
    "lua": ".lua",
    "perl": ".pl .pm",  # has no separators yet, and is split as plain text
    "php": ".php",
    "powershell": ".ps1 .psm1",
    "proto": ".proto",
    "python": ".py .pyi",
    "r": ".r",
    "ruby": ".rb",
    "rust": ".rs",
    "scala": ".scala .sc",
    "sol": ".sol",
    "swift": ".swift",
    "ts": ".ts .cts .mts .tsx",
    "visualbasic6": ".bas .vb",
}
_CODE = {
    suffix: Format(name=f"{language} code", media_type="text/plain", syntax=language)
    for language, suffixes in _LANGUAGES.items()
    for suffix in suffixes.split()
}
_CODE_BY_MEDIA_TYPE = {
    "application/javascript": _CODE[".js"],
    "text/javascript": _CODE[".js"],
    "application/typescript": _CODE[".ts"],
    "text/x-python": _CODE[".py"],
    "text/x-go": _CODE[".go"],
    "text/x-java": _CODE[".java"],
    "text/x-rust": _CODE[".rs"],
}


def format_of(media_type: str, key: str) -> Format | None:
    """The format of a document, or None where neither its media type nor its key's suffix is known.

    A media type of ours decides. Otherwise the suffix does: guessers know little of source code, and call
    TypeScript a film ("video/mp2t").
    """
    kind = media_type.partition(";")[0].strip().lower()
    suffix = PurePosixPath(key).suffix.lower()
    return (
        _BY_MEDIA_TYPE.get(kind)
        or _BY_SUFFIX.get(suffix)
        or _CODE.get(suffix)
        or _CODE_BY_MEDIA_TYPE.get(kind)
        or _VAGUE.get(kind)
    )


def format_by_content(content: bytes) -> Format | None:
    """The format that the content shows by itself, where nothing else tells."""
    if b"%PDF-" in content[:1024]:
        return PDF
    if content.startswith(b"{\\rtf"):
        return RTF
    if content.startswith(b"PK\x03\x04"):
        return _zip_format(content)
    start = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return HTML if start.startswith((b"<!doctype html", b"<html")) else None


def _zip_format(content: bytes) -> Format:
    """By what EPUB and OpenDocument put first, and by the folders that Office's formats have."""
    if content[30:38] == b"mimetype":
        said = content[38:120].decode("ascii", errors="replace")
        named = [known for known in (EPUB, ODT, ODS, ODP) if said.startswith(known.media_type)]
        if named:
            return named[0]
    if b"[Content_Types].xml" in content:
        for folder, known in ((b"word/", DOCX), (b"ppt/", PPTX), (b"xl/", XLSX)):
            if folder in content:
                return known
    return ZIP
