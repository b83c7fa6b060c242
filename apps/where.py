"""What --where says: words of the command line to a filter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date
from typing import NoReturn, TypeAlias, cast

from pipeline.errors import SettingsError, StoreRefused
from pipeline.records import Column, Comparison, Condition, Filter
from pipeline.stores._columns import check_condition

Scalar: TypeAlias = str | int | float | bool

_COMPARISON = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(<=|>=|=|<|>)(.*)", re.DOTALL)


def where_clause(sources: Sequence[str], conditions: Sequence[str], columns: Iterable[Column] = ()) -> Filter:
    """The filter that the command line's words stand for.

    Args:
        sources: Names.
        conditions: Each NAME=VALUE. Where the name is a column's, the value is of its type, and <, <=, > or
            >= may stand in place of =. Elsewhere the name is one of the metadata, in JSON's quotes if need
            be, and the value is text, but for JSON's true, false, numbers and quoted text.
        columns: What the tables have.

    Raises:
        SettingsError: a condition is none.
    """
    known = {column.name: column for column in columns}
    metadata: dict[str, Scalar] = {}
    on_columns: list[Condition] = []
    for given in conditions:
        found = _COMPARISON.fullmatch(given)
        if found and found[1] in known:
            on_columns.append(_condition(known[found[1]], cast("Comparison", found[2]), found[3], given))
        else:
            name, text = _quoted(given) if given.lstrip().startswith('"') else _plain(given, known)
            metadata[name] = _scalar(text)
    return Filter(sources=tuple(sources), metadata=metadata, conditions=tuple(on_columns))


def _condition(column: Column, comparison: Comparison, text: str, given: str) -> Condition:
    value: Scalar | date = _scalar(text)
    if column.type in ("text", "list") and not isinstance(value, str):
        value = text
    if column.type == "date":
        with suppress(ValueError):
            value = date.fromisoformat(text.strip())
    condition = Condition(column=column.name, comparison=comparison, value=value)
    try:
        check_condition(condition, [column])
    except StoreRefused as error:
        raise _wrong(given, str(error)) from None
    return condition


def _plain(given: str, columns: Iterable[str]) -> tuple[str, str]:
    """A name of the metadata, and what is said to be its value."""
    name, separator, text = given.partition("=")
    if name.endswith(("<", ">")) or (not separator and re.search("[<>]", given)):
        raise _wrong(
            given,
            "only columns are less or more than something, and the tables have "
            f"{', '.join(columns) or 'none'}. The next `docweave ingest` adds those that `columns:` declares",
        )
    if not separator or not name.strip():
        raise _wrong(given, "must be KEY=VALUE, as in --where team=people")
    return name.strip(), text


def _quoted(given: str) -> tuple[str, str]:
    """The same, of a name in JSON's quotes."""
    try:
        name, end = json.JSONDecoder().raw_decode(given.lstrip())
    except ValueError:
        raise _wrong(given, "the quotes around the name must be as in JSON") from None
    rest = given.lstrip()[end:].lstrip()
    if not name or not rest.startswith("="):
        raise _wrong(given, 'must be "KEY"=VALUE')
    return name, rest[1:]


def _scalar(text: str) -> Scalar:
    """As JSON has it, where it has it; otherwise text."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str | int | float) else text


def _no_number(name: str) -> NoReturn:
    """NaN and its like are words here."""
    raise ValueError(name)


def _wrong(given: str, why: str) -> SettingsError:
    return SettingsError(f"--where {given}: {why}")
