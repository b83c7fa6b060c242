"""What a file's name says of its content."""

from __future__ import annotations

import mimetypes
from pathlib import PurePosixPath

UNKNOWN = "application/octet-stream"

DOCUMENTS = (
    "md",
    "markdown",
    "html",
    "htm",
    "txt",
    "rst",
    "adoc",
    "asciidoc",
    "pdf",
    "docx",
    "doc",
    "odt",
    "rtf",
    "pptx",
    "ppt",
    "odp",
    "xlsx",
    "xls",
    "ods",
    "csv",
    "tsv",
    "epub",
    "ipynb",
    "eml",
    "msg",
)
"""What is read where the settings say nothing: pictures and the like would be reported as failures.

Not data and source code, nor archives, which are parsed too where they are included by name.
"""

_OPEN_XML = "application/vnd.openxmlformats-officedocument"
_EXPLICIT = {
    ".adoc": "text/asciidoc",
    ".asciidoc": "text/asciidoc",
    ".csv": "text/csv",
    ".docx": f"{_OPEN_XML}.wordprocessingml.document",
    ".eml": "message/rfc822",
    ".epub": "application/epub+zip",
    ".htm": "text/html",
    ".html": "text/html",
    ".ipynb": "application/x-ipynb+json",
    ".jsonl": "application/x-ndjson",
    ".log": "text/plain",
    ".markdown": "text/markdown",
    ".md": "text/markdown",
    ".mdown": "text/markdown",
    ".mdx": "text/markdown",
    ".ndjson": "application/x-ndjson",
    ".msg": "application/vnd.ms-outlook",
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".pdf": "application/pdf",
    ".pptx": f"{_OPEN_XML}.presentationml.presentation",
    ".rst": "text/x-rst",
    ".rtf": "application/rtf",
    ".ts": "application/typescript",
    ".tsv": "text/tab-separated-values",
    ".tsx": "application/typescript",
    ".txt": "text/plain",
    ".xlsx": f"{_OPEN_XML}.spreadsheetml.sheet",
}
_KNOWN = mimetypes.MimeTypes()
"""Python's own table, not the machine's: the same file is of the same type everywhere."""


def media_type(path: str) -> str:
    """The media type by the name's suffix; `UNKNOWN` where that says nothing."""
    name = PurePosixPath(path).name.lower()
    if explicit := _EXPLICIT.get(PurePosixPath(name).suffix):
        return explicit
    kind, encoding = _KNOWN.guess_type(name)
    return kind if kind and not encoding else UNKNOWN


DOCUMENT_TYPES = (
    *dict.fromkeys(media_type(f"any.{suffix}") for suffix in DOCUMENTS),
    "application/xhtml+xml",
)
"""The media types of `DOCUMENTS`, for sources whose items are not told by their names."""
