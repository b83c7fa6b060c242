"""JSON to Markdown that reads: objects under headings, values behind their names, like rows as tables.

For a worker process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from pipeline.parse.decode import clean, decode, is_text
from pipeline.parse.delimited import rows
from pipeline.parse.extract import Extract, Part, Unreadable
from pipeline.records import JsonValue

Object: TypeAlias = Mapping[str, JsonValue]

_DEEPEST_HEADING = 4
_DEEPEST = 100
_MOST_COLUMNS = 30
_LONGEST_CELL = 200
_SHORT = 80
_NAMES = ("title", "name", "heading", "subject", "summary", "label", "id", "key")


def read(content: bytes, *, charset: str = "") -> Extract:
    """The whole as one text."""
    value = _loaded(_text(content, charset))
    title = value.get("title") if isinstance(value, dict) else None
    return Extract(
        parts=(Part(text="\n".join(lines(value))),), title=title if isinstance(title, str) else None
    )


def read_lines(content: bytes, *, charset: str = "") -> Extract:
    """A value a line, as an array of them."""
    values = [_loaded(line) for line in _text(content, charset).split("\n") if line.strip()]
    return Extract(parts=(Part(text="\n".join(lines(values))),))


def lines(value: JsonValue, *, depth: int = 0, path: str = "") -> Iterator[str]:
    """The lines of a value: what is small stays together, what is large begins a section of its own."""
    if depth > _DEEPEST:
        raise Unreadable(f"is nested more than {_DEEPEST} deep")
    match value:
        case dict():
            yield from _object(value, depth, path)
        case list():
            yield from _array(value, depth, path)
        case _:
            yield _spoken(value)


def _object(value: Object, depth: int, path: str) -> Iterator[str]:
    """What is plain first: behind a heading of one inner object it would seem to be the object's."""
    plain = {name: inner for name, inner in value.items() if not _is_large(inner)}
    for name, inner in plain.items():
        yield f"{path}{name}: {_inline(inner)}" + "  "
    if plain:
        yield ""
    for name, inner in value.items():
        if name not in plain:
            yield from _section(name, inner, depth, path)


def _array(value: list[JsonValue], depth: int, path: str) -> Iterator[str]:
    if columns := _columns(value):
        cells = ([_cell(row.get(name)) for name in columns] for row in value if isinstance(row, dict))
        yield from (block.rstrip("\n") for block in rows([columns, *cells]))
        yield ""
        return
    for number, inner in enumerate(value, start=1):
        if _is_large(inner):
            yield from _section(_name_of(inner) or str(number), inner, depth, path)
        else:
            yield f"- {_inline(inner)}"
    yield ""


def _section(name: str, inner: JsonValue, depth: int, path: str) -> Iterator[str]:
    """Under a heading; below those that there are, under the path to it."""
    if depth < _DEEPEST_HEADING:
        yield from (f"{'#' * (depth + 1)} {' '.join(name.split()) or '-'}", "")
        yield from lines(inner, depth=depth + 1, path="")
    else:
        yield from lines(inner, depth=depth + 1, path=f"{path}{name}.")


def _columns(value: list[JsonValue]) -> list[str]:
    """The columns of an array of like objects of plain values; none where it is no such thing."""
    if len(value) < 2:
        return []
    columns: dict[str, None] = {}
    filled = 0
    for row in value:
        if not isinstance(row, dict) or not all(_fits_cell(cell) for cell in row.values()):
            return []
        columns |= dict.fromkeys(row)
        filled += len(row)
        if len(columns) > _MOST_COLUMNS:
            return []
    return list(columns) if filled * 2 >= len(columns) * len(value) else []


def _fits_cell(value: JsonValue) -> bool:
    return not isinstance(value, dict | list) and len(_spoken(value)) <= _LONGEST_CELL


def _cell(value: JsonValue) -> str:
    return _spoken(value)


def _is_large(value: JsonValue) -> bool:
    if isinstance(value, dict):
        return bool(value)
    if isinstance(value, list):
        return any(isinstance(inner, dict | list) for inner in value) or len(_inline(value)) > _SHORT
    return False


def _inline(value: JsonValue) -> str:
    if isinstance(value, list):
        return ", ".join(_spoken(inner) for inner in value)
    return _spoken(value) if not isinstance(value, dict) else ""


def _spoken(value: JsonValue) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _name_of(value: JsonValue) -> str | None:
    """What an object among others calls itself."""
    if isinstance(value, dict):
        for name in _NAMES:
            called = value.get(name)
            if isinstance(called, str | int) and 0 < len(str(called)) <= _SHORT:
                return str(called)
    return None


def _loaded(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text, parse_int=_number)
    except RecursionError as error:
        raise Unreadable("is nested too deeply") from error
    return value


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) < 4000 else digits


def _text(content: bytes, charset: str) -> str:
    if not is_text(content):
        raise Unreadable("is no text")
    return clean(decode(content, declared=charset))
