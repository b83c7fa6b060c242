"""What a document says of itself, as metadata: plain JSON, and little of it.

A document is not to be trusted with more: its metadata is stored with each chunk, and shown with each hit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time

from pipeline.records import JsonValue

_LONGEST_TEXT = 1_000
_LONGEST_NAME = 100
_MOST_VALUES = 200
_DEEPEST = 4
_MOST_CHARS = 8_000
_INT64 = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """Metadata that was found."""

    metadata: dict[str, JsonValue]
    whole: bool
    """Whether nothing had to be left out or cut."""


class _TooMuch(Exception):
    pass


def bounded(found: Mapping[str, object]) -> Properties:
    """What of the values can be kept: plain JSON, in their order, as many as there is room for.

    Dates become ISO 8601, blank values are dropped. What is too long or deep or of another type is left out.
    """
    metadata: dict[str, JsonValue] = {}
    room = _MOST_CHARS
    whole = True
    for name, value in found.items():
        try:
            kept = _plain(value, iter(range(_MOST_VALUES)), 1)
            length = len(json.dumps(kept, ensure_ascii=False))
        except _TooMuch:
            whole = False
            continue
        if kept in (None, "", [], {}):
            continue
        called = _text(str(name))
        if not called or len(called) > _LONGEST_NAME or length + len(called) > room:
            whole = False
            continue
        room -= length + len(called)
        metadata[called] = kept
    return Properties(metadata=metadata, whole=whole)


def about(**found: object) -> dict[str, JsonValue]:
    """The metadata that is worth keeping of a format's own fields; long texts are cut."""
    cut = {
        name.rstrip("_"): value[:_LONGEST_TEXT] if isinstance(value, str) else value
        for name, value in found.items()
        if value is not None
    }
    return bounded(cut).metadata


def _plain(value: object, left: Iterator[int], depth: int) -> JsonValue:  # noqa: PLR0911  one a type
    if next(left, None) is None or depth > _DEEPEST:
        raise _TooMuch
    match value:
        case None | bool():
            return value
        case int():
            return value if -_INT64 <= value < _INT64 else _short(str(value))
        case float():
            return value if math.isfinite(value) else None
        case str():
            return _short(value)
        case datetime() | date() | time():
            return value.isoformat()
        case Mapping():
            return {_short(str(name)): _plain(inner, left, depth + 1) for name, inner in value.items()}
        case list() | tuple():
            return [_plain(inner, left, depth + 1) for inner in value]
    raise _TooMuch


def _short(text: str) -> str:
    if len(text) > _LONGEST_TEXT:
        raise _TooMuch
    return _text(text)


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "").strip()
