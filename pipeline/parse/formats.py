"""Which format a document is in, and how each format is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format that is read."""

    name: str
    media_type: str
    syntax: str = "markdown"
    """The syntax of the parsed text, as `Document.syntax` has it."""
    readers: tuple[str, ...] = ()
    """Functions ("module:name") that read it in a worker, the next where one fails; none: in process."""


_OFFICE = "application/vnd.openxmlformats-officedocument"

MARKDOWN = Format(name="Markdown", media_type="text/markdown")
PLAIN = Format(name="plain text", media_type="text/plain", syntax="plain")
CSV = Format(name="CSV", media_type="text/csv")
TSV = Format(name="TSV", media_type="text/tab-separated-values")
HTML = Format(name="HTML", media_type="text/html", readers=("pipeline.parse.html:read",))
PDF = Format(
    name="PDF",
    media_type="application/pdf",
    readers=("pipeline.parse.pdf:read", "pipeline.parse.pdf:read_plainly"),
)
DOCX = Format(
    name="DOCX",
    media_type=f"{_OFFICE}.wordprocessingml.document",
    readers=("pipeline.parse.office:read_docx",),
)
PPTX = Format(
    name="PPTX",
    media_type=f"{_OFFICE}.presentationml.presentation",
    readers=("pipeline.parse.office:read_pptx",),
)
XLSX = Format(
    name="XLSX",
    media_type=f"{_OFFICE}.spreadsheetml.sheet",
    readers=("pipeline.parse.office:read_xlsx",),
)

FORMATS = (MARKDOWN, HTML, PLAIN, PDF, DOCX, PPTX, XLSX, CSV, TSV)

_BY_MEDIA_TYPE = {known.media_type: known for known in FORMATS if known is not PLAIN} | {
    "text/x-markdown": MARKDOWN,
    "application/xhtml+xml": HTML,
    "application/x-pdf": PDF,
    "application/csv": CSV,
    "text/tsv": TSV,
}

_BY_SUFFIX = {
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".mdown": MARKDOWN,
    ".mdx": MARKDOWN,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".pdf": PDF,
    ".docx": DOCX,
    ".docm": DOCX,
    ".pptx": PPTX,
    ".pptm": PPTX,
    ".xlsx": XLSX,
    ".xlsm": XLSX,
    ".csv": CSV,
    ".tsv": TSV,
    ".tab": TSV,
    ".txt": PLAIN,
    ".text": PLAIN,
    ".log": PLAIN,
}

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
    "perl": ".pl .pm",
    "php": ".php",
    "powershell": ".ps1 .psm1",
    "proto": ".proto",
    "python": ".py .pyi",
    "r": ".r",
    "rst": ".rst",
    "ruby": ".rb",
    "rust": ".rs",
    "scala": ".scala .sc",
    "sol": ".sol",
    "swift": ".swift",
    "ts": ".ts .cts .mts .tsx",
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
    "text/x-rst": _CODE[".rst"],
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
        or (PLAIN if kind == PLAIN.media_type else None)
    )
