"""reStructuredText and AsciiDoc to Markdown, by xberg. For a worker process.

Nothing that such a text includes is read: `include`, `csv-table` and the like name files of the machine.
"""

from __future__ import annotations

from pipeline.parse.decode import clean, decode, is_text
from pipeline.parse.extract import Extract, Part, Unreadable
from pipeline.parse.native import extracted
from pipeline.parse.properties import about


def read_rst(content: bytes, *, charset: str = "") -> Extract:
    """Headings, tables, lists and code as Markdown has them."""
    return _read(content, charset, "text/prs.fallenstein.rst")


def read_asciidoc(content: bytes, *, charset: str = "") -> Extract:
    """Headings, tables, lists and code as Markdown has them."""
    return _read(content, charset, "text/asciidoc")


def _read(content: bytes, charset: str, media_type: str) -> Extract:
    if not is_text(content):
        raise Unreadable("is no text")
    text = clean(decode(content, declared=charset))
    found = extracted(text.encode(), media_type)
    if text.strip() and not found.content.strip():
        raise ValueError("nothing was found in it")
    said = found.metadata
    return Extract(
        parts=(Part(text=found.content),),
        title=said.title,
        metadata=about(author=", ".join(said.authors or []), date=said.created_at),
    )
