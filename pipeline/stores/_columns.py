"""Columns that the settings declare over the documents' metadata: names, values and comparisons. Pure.

What is said here in Python, `_column_fields.fill` says in SQL: a column has the same values whether it was
there when a document was written, or came later.
"""

from __future__ import annotations

import logging
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TypeAlias

from pipeline.errors import StoreRefused
from pipeline.records import Column, ColumnType, Comparison, Condition, JsonValue, Metadata, Prepared
from pipeline.stores._text import well_formed

log = logging.getLogger(__name__)

Value: TypeAlias = str | int | float | bool | date | list[str]

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
"""So that it can stand in SQL as it is, and is the same however a client spells its case."""
OURS = frozenset(
    {
        *("id", "source", "key", "ordinal", "text", "vector", "title", "heading_path", "headings", "page"),
        *("start", "end", "tokens", "url", "media_type", "metadata", "group_key", "group_ordinal", "version"),
        *("recipe", "content_key", "group_keys", "row_key", "chunk_count", "updated_at", "access"),
        *("line", "last_line", "anchor"),
    }
)
"""The columns that the tables have anyway."""
INT64 = range(-(2**63), 2**63)
WHOLE = 1e16
"""From here on a float is written with an exponent, and is no whole number any more."""
DATE = (
    r"([1-9][0-9]{3}-[0-9]{2}-[0-9]{2})"
    r"([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
"""ISO 8601: a day, or a moment, of which the day counts as it is written. The same in Python and in Rust."""
INDEXES: Mapping[ColumnType, str] = {
    "text": "BTREE",
    "integer": "BTREE",
    "number": "BTREE",
    "date": "BTREE",
    "boolean": "BITMAP",
    "list": "LABEL_LIST",
}
ORDERED: frozenset[ColumnType] = frozenset({"integer", "number", "date"})
_IS: Mapping[Comparison, Callable[[Value, Value], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_DATE = re.compile(DATE)


def check_columns(columns: Iterable[Column]) -> None:
    """These columns can stand beside the tables' own.

    Raises:
        StoreRefused: they cannot.
    """
    names: set[str] = set()
    for column in columns:
        if not NAME.fullmatch(column.name) or column.name in OURS | names:
            raise StoreRefused(
                f"no column can be called {column.name!r}: a name is of a-z, 0-9 and _, at most 63 of them, "
                "begins with a letter, stands once, and is none of the tables' own "
                f"({', '.join(sorted(OURS))})"
            )
        if not all(column.path):
            raise StoreRefused(f"the column {column.name!r} has an empty name on the way to its value")
        names.add(column.name)


def found(column: Column, metadata: Metadata) -> JsonValue:
    """What stands where the column looks; None where nothing does."""
    here: object = metadata
    for name in column.path:
        if not isinstance(here, Mapping):
            return None
        here = here.get(name)
    if isinstance(here, float) and not math.isfinite(here):
        return None  # as JSON has it
    return here  # type: ignore[return-value]  # of Metadata, all the way down


def value(column: Column, metadata: Metadata) -> Value | None:
    """The column's value for a document; None where the metadata has none, or one that does not fit."""
    return _FITTED[column.type](found(column, metadata))


@dataclass(slots=True)
class Filled:
    """Counts, for each column, the documents that have a value in it and those whose value does not fit."""

    columns: Sequence[Column]
    _counts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def count(self, metadata: Metadata) -> None:
        """Count one document."""
        for column in self.columns:
            have, unfit = self._counts.get(column.name, (0, 0))
            there = found(column, metadata)
            if there is not None:
                fits = _FITTED[column.type](there) is not None
                self._counts[column.name] = (have + fits, unfit + (not fits))

    def counts(self) -> dict[str, tuple[int, int]]:
        """Both numbers, of every column."""
        return {column.name: self._counts.get(column.name, (0, 0)) for column in self.columns}


def wanted_indexes(columns: Iterable[Column]) -> dict[str, str]:
    """The columns that a search with conditions is to find by an index in a large table, and its kind."""
    return {column.name: INDEXES[column.type] for column in columns if column.indexed}


def check_condition(condition: Condition, columns: Iterable[Column]) -> Column:
    """The column that the condition is about.

    Raises:
        StoreRefused: there is none, or it cannot be compared so.
    """
    known = {column.name: column for column in columns}
    column = known.get(condition.column)
    if column is None:
        there = ", ".join(known) or "none yet"
        raise StoreRefused(
            f"the tables have no column {condition.column!r}; columns: {there}. "
            "Declare it under `columns:`, and run `docweave ingest`"
        )
    if condition.comparison != "=" and column.type not in ORDERED:
        raise StoreRefused(
            f"{column.name!r} is a column of {column.type}, which has no order: compare it by ="
        )
    if not _is_of(column.type, condition.value):
        raise StoreRefused(f"{column.name!r} is compared with {_WANTED[column.type]}")
    return column


def holds(condition: Condition, column: Column, metadata: Metadata) -> bool:
    """Whether a document with this metadata is meant."""
    stored, wanted = value(column, metadata), condition.value
    if isinstance(wanted, str):
        wanted = well_formed(wanted)
    if column.type == "number" and isinstance(wanted, int):
        wanted = float(wanted)  # as the stored ones are, which may have been rounded
    if isinstance(stored, list):
        return wanted in stored
    return stored is not None and _IS[condition.comparison](stored, wanted)


@dataclass(slots=True)
class Unfit:
    """Tells, once for each source and column, that a value does not fit."""

    _told: set[tuple[str, str]] = field(default_factory=set)

    def tell(self, columns: Sequence[Column], documents: Iterable[Prepared]) -> None:
        """Look these documents over."""
        for document in documents if columns else ():
            source = document.state.source
            for column in columns:
                there = found(column, document.metadata)
                fits = there is None or _FITTED[column.type](there) is not None
                if fits or (source, column.name) in self._told:
                    continue
                self._told.add((source, column.name))
                log.warning(
                    "%s/%s: %s stands at %s, and the column %s takes %s: it is empty there, and wherever "
                    "else in %s it does not fit. `docweave columns` counts them",
                    *(source, document.state.key, _KINDS[type(there)], ".".join(column.path)),
                    *(column.name, _WANTED[column.type], source),
                )


def _text(there: JsonValue) -> str | None:
    return well_formed(there) if isinstance(there, str) else None


def _integer(there: JsonValue) -> int | None:
    if isinstance(there, float) and there.is_integer() and abs(there) < WHOLE:
        there = int(there)
    return there if isinstance(there, int) and not isinstance(there, bool) and there in INT64 else None


def _number(there: JsonValue) -> float | None:
    if isinstance(there, bool) or not isinstance(there, int | float):
        return None
    try:
        return float(there)
    except OverflowError:
        return None


def _day(there: JsonValue) -> date | None:
    written = _DATE.fullmatch(there) if isinstance(there, str) else None
    try:
        return date.fromisoformat(written[1]) if written else None
    except ValueError:
        return None


def _boolean(there: JsonValue) -> bool | None:
    return there if isinstance(there, bool) else None


def _list(there: JsonValue) -> list[str] | None:
    several = [there] if isinstance(there, str) else there
    if not isinstance(several, list):
        return None
    texts = [well_formed(one) for one in several if isinstance(one, str)]
    return texts if len(texts) == len(several) else None


def _is_of(kind: ColumnType, given: object) -> bool:
    match kind:
        case "text" | "list":
            return isinstance(given, str)
        case "boolean":
            return isinstance(given, bool)
        case "integer":
            return isinstance(given, int) and not isinstance(given, bool) and given in INT64
        case "number":
            return isinstance(given, int | float) and not isinstance(given, bool) and _is_finite(given)
        case "date":
            return isinstance(given, date) and not isinstance(given, datetime) and given.year >= 1000


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


_FITTED: Mapping[ColumnType, Callable[[JsonValue], Value | None]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "date": _day,
    "boolean": _boolean,
    "list": _list,
}
_WANTED: Mapping[ColumnType, str] = {
    "text": "text",
    "integer": "whole numbers of 64 bits",
    "number": "numbers",
    "date": "days from the year 1000 on, as 2024-12-31",
    "boolean": "true or false",
    "list": "texts",
}
_KINDS: Mapping[type, str] = {
    str: "a text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}
