"""Text as it stands. For a worker process: what is left of a format whose reader failed."""

from __future__ import annotations

from pipeline.parse.decode import clean, decode, is_text
from pipeline.parse.extract import Extract, Part, Unreadable


def read(content: bytes, *, charset: str = "") -> Extract:
    """The bare text."""
    if not is_text(content):
        raise Unreadable("is no text")
    return Extract(parts=(Part(text=clean(decode(content, declared=charset))),), syntax="plain", line=1)
