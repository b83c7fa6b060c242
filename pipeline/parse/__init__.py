"""Bytes to text with structure (headings, pages, offsets), by media type.

The library that reads a format is imported where it is used, most of them in worker processes only. A worker
imports this package too, and without the parser that starts it: hence the names that are looked up late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.parse.parser import DocumentParser, ParseLimits

__all__ = ["DocumentParser", "ParseLimits"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline.parse import parser  # noqa: PLC0415  see above

    return getattr(parser, name)
