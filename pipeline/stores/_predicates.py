"""SQL for LanceDB's filters. Names and values are data: they cannot end the literal that holds them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import TypeAlias, TypeVar

from pipeline.errors import StoreRefused
from pipeline.records import Column, Condition, Filter
from pipeline.stores._columns import check_condition
from pipeline.stores._schema import ACCESS
from pipeline.stores._text import well_formed

FilterValue: TypeAlias = str | int | float | bool

Value = TypeVar("Value")
LITERALS = 2_000
"""How many values one predicate may list; more are asked for in turns."""
LARGEST_SPELLED_OUT = 1e16
"""From here on, a float is written with an exponent."""


def literal(text: str) -> str:
    """A string: single-quoted, quotes doubled. Nothing else has a meaning inside."""
    return "'" + well_formed(text).replace("'", "''") + "'"


def among(column: str, values: Iterable[str]) -> str:
    """The column holds one of these."""
    return f"{column} IN ({', '.join(literal(value) for value in values)})"


def documents(keys: Iterable[tuple[str, str]]) -> str:
    """The rows of these documents, each given by source and key."""
    by_source: dict[str, list[str]] = {}
    for source, key in keys:
        by_source.setdefault(source, []).append(key)
    return " OR ".join(
        f"(source = {literal(source)} AND {among('key', keys)})" for source, keys in by_source.items()
    )


def with_keys_of(documents: Iterable[tuple[str, str]]) -> str:
    """The rows that have the key of one of these documents, in whatever source.

    Quicker to look up than `documents` in a large table of chunks: with the source in the predicate, LanceDB
    reads that column of all rows (44 ms instead of 8 at a million chunks).
    """
    return among("key", sorted({key for _, key in documents}))


def in_turns(values: Sequence[Value]) -> Iterable[Sequence[Value]]:
    """The values, not too many at a time."""
    return (values[start : start + LITERALS] for start in range(0, len(values), LITERALS))


def matching(where: Filter, columns: Sequence[Column] = ()) -> str | None:
    """The rows that a search may see; None for all. `columns` are what the table has of metadata.

    Raises:
        StoreRefused: a condition is on none of them, or cannot be put to it.
    """
    parts = [among("source", where.sources)] if where.sources else []
    parts += [_holds(name, value) for name, value in where.metadata.items()]
    parts += [meets(condition, check_condition(condition, columns)) for condition in where.conditions]
    parts += [seen_by(where.access)] if where.access is not None else []
    return " AND ".join(parts) or None


def seen_by(access: Iterable[str]) -> str:
    """The rows that somebody with these labels may see: what has one of them, and what has none at all.

    To a table that has no labels at all it cannot be put.
    """
    nobodys = f"{ACCESS} IS NULL"
    labels = ", ".join(literal(label) for label in sorted(set(access)))
    return f"({nobodys} OR array_has_any({ACCESS}, [{labels}]))" if labels else nobodys


def meets(condition: Condition, column: Column) -> str:
    """A condition on a column. In backticks, its name is one even where SQL has another use for it."""
    match condition.value:
        case str() as text:
            value = literal(text)
        case bool() as truth:
            value = "true" if truth else "false"
        case date() as day:
            value = f"date '{day.isoformat()}'"
        case number:
            # As a number it would be read with its sign apart, and lose the lowest one.
            value = f"CAST('{number!r}' AS {'DOUBLE' if column.type == 'number' else 'BIGINT'})"
    if column.type == "list":
        return f"array_has(`{column.name}`, {value})"
    return f"`{column.name}` {condition.comparison} {value}"


def _holds(name: str, value: FilterValue) -> str:
    """A top-level metadata value, compared as the JSON text that it is stored as.

    `json_get_int` and its like convert what they find, and fail the whole query where they cannot: "team"
    may be a string in one document and a number in the next.
    """
    if not name:
        raise StoreRefused("a metadata filter needs a name: LanceDB cannot look up an empty one")
    return among(f"json_extract(metadata, {literal(json_path([name]))})", spellings(value))


def json_path(names: Iterable[str]) -> str:
    """Where a value stands in a JSON text, as `json_extract` wants it."""
    return "$" + "".join("." + json.dumps(name, ensure_ascii=False) for name in names)


def spellings(value: FilterValue) -> list[str]:
    """How the value may stand in JSON: 3 and 3.0 are equal, and 1e-05 is written 1e-5 or 0.00001."""
    if isinstance(value, str | bool):
        return [json.dumps(value, ensure_ascii=False)]
    spellings = {repr(value).replace("e-0", "e-")}
    if 0 < abs(value) < 1:
        spellings.add(format(Decimal(repr(value)), "f"))
    if abs(value) < LARGEST_SPELLED_OUT and value == int(value):
        spellings |= {str(int(value)), repr(float(value)), repr(-0.0 if not value else float(value))}
    return sorted(spellings)
