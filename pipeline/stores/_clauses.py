"""Clauses as SQL for LanceDB. Whatever they name is a literal, or a column that is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from pipeline import globs
from pipeline.clauses import AllOf, AnyOf, Clause, Declared, InMetadata, Not, Own, Plain, Test
from pipeline.errors import StoreRefused
from pipeline.records import Column, Comparison, Condition, Filter, Span
from pipeline.stores import _predicates
from pipeline.stores._columns import check_condition


def predicate(where: Filter, columns: Sequence[Column] = ()) -> str | None:
    """The rows that a search may see; None for all. `columns` are what the table has of metadata.

    Raises:
        StoreRefused: a column is unknown, or cannot be compared so.
    """
    plain = _predicates.matching(where, columns)
    if where.clause is None:
        return plain
    clause = sql(where.clause, columns)
    return f"{plain} AND ({clause})" if plain else clause


def within(spans: Sequence[Span]) -> str:
    """The rows of these neighbouring chunks."""
    each = []
    for span in spans:
        of = f"source = {_predicates.literal(span.source)} AND key = {_predicates.literal(span.key)}"
        last = "" if span.last is None else f" AND ordinal <= {span.last:d}"
        each.append(f"({of} AND ordinal >= {span.first:d}{last})")
    # The keys by themselves are what an index is asked for.
    keys = _predicates.with_keys_of((span.source, span.key) for span in spans)
    return f"{keys} AND ({' OR '.join(each)})"


def sql(clause: Clause, columns: Sequence[Column]) -> str:
    """The rows for which it holds.

    Raises:
        StoreRefused: as `predicate`.
    """
    match clause:
        case AllOf(parts):
            return "(" + " AND ".join(sql(part, columns) for part in parts) + ")"
        case AnyOf(parts):
            return "(" + " OR ".join(sql(part, columns) for part in parts) + ")"
        case Not(part):
            # NULL is neither true nor false, and a test of it does not hold.
            return f"NOT coalesce({sql(part, columns)}, false)"
        case Test():
            return _test(clause, columns)


def find(name: str, columns: Sequence[Column]) -> Column:
    """The column of this name.

    Raises:
        StoreRefused: there is none; says which there are.
    """
    for column in columns:
        if column.name == name:
            return column
    return check_condition(Condition(column=name, comparison="=", value=""), columns)


def conditions(test: Test, column: Column) -> list[Condition]:
    """The comparisons of which one must hold: of a test that is neither of a pattern nor of presence.

    Raises:
        StoreRefused: the column cannot be compared so.
    """
    comparison = cast("Comparison", test.relation)
    found = [Condition(column=column.name, comparison=comparison, value=one) for one in test.values]
    for condition in found:
        check_condition(condition, [column])
    return found


def check_text(column: Column) -> None:
    """Only texts are compared with patterns.

    Raises:
        StoreRefused: the column has none.
    """
    if column.type != "text":
        raise StoreRefused(
            f"{column.name!r} is a column of {column.type}: only texts are compared with a pattern"
        )


def plain(value: Plain) -> _predicates.FilterValue:
    """A value that can stand in metadata.

    Raises:
        StoreRefused: it is a day.
    """
    if isinstance(value, str | int | float | bool):
        return value
    raise StoreRefused("metadata without a column is compared with texts, numbers, true and false")


def _test(test: Test, columns: Sequence[Column]) -> str:
    match test.place:
        case Own(name):
            return _of_own(name, test)
        case Declared(name):
            return _of_declared(find(name, columns), test)
        case InMetadata(path):
            return _of_metadata(path, test)


def _of_own(name: str, test: Test) -> str:
    if test.relation == "exists":
        return f"{name} IS NOT NULL"
    if test.relation == "~":
        return _like(name, test)
    if name != "page":
        return _predicates.among(name, map(str, test.values))
    numbers = [int(one) for one in test.values if isinstance(one, int)]
    if test.relation == "=":
        return f"page IN ({', '.join(map(str, numbers))})"
    return f"page {test.relation} {numbers[0]}"


def _of_declared(column: Column, test: Test) -> str:
    if test.relation == "exists":
        return f"`{column.name}` IS NOT NULL"
    if test.relation == "~":
        check_text(column)
        return _like(f"`{column.name}`", test)
    return "(" + " OR ".join(_predicates.meets(one, column) for one in conditions(test, column)) + ")"


def _of_metadata(path: Sequence[str], test: Test) -> str:
    where = _predicates.literal(_predicates.json_path(path))
    there = f"json_extract(metadata, {where})"
    if test.relation == "exists":
        return f"({there} IS NOT NULL AND {there} <> 'null')"
    spellings = [spelling for one in test.values for spelling in _predicates.spellings(plain(one))]
    held = [f"json_array_contains(metadata, {where}, {_predicates.literal(one)})" for one in spellings]
    return "(" + " OR ".join([_predicates.among(there, spellings), *held]) + ")"


def _like(column: str, test: Test) -> str:
    patterns = [_predicates.literal(globs.expression(str(one))) for one in test.values]
    return "(" + " OR ".join(f"regexp_like({column}, {pattern})" for pattern in patterns) + ")"
