"""The one language of filters, for every face: text to a clause.

    source = handbook and (year >= 2024 or tags in (legal, "human resources")) and not path ~ "drafts/**"

A test is a name, a relation and a value; tests are joined by `and`, `or`, `not` and parentheses. A value is a
word, or a text in quotes: JSON's, or single ones, which are doubled within. docs/search.md has all of it.
Nothing of what is written becomes SQL but as a literal: see `pipeline.stores._clauses`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from typing import NoReturn, cast, get_args

from pipeline import globs
from pipeline.clauses import (
    Clause,
    Declared,
    InMetadata,
    Own,
    OwnName,
    Place,
    Plain,
    Relation,
    Test,
    both,
    every_test,
)
from pipeline.errors import SettingsError, StoreRefused
from pipeline.records import Column, Comparison, Condition
from pipeline.stores._columns import check_condition
from pipeline.where_reading import METADATA, Reading, Word

LONGEST = 4_000
"""Characters of a filter."""
_OTHER_NAMES: dict[str, OwnName] = {"path": "key", "type": "media_type"}
_OWN: Mapping[str, OwnName] = {**{name: name for name in get_args(OwnName)}, **_OTHER_NAMES}
_ORDERED = ("<", "<=", ">", ">=")


def parse(text: str, columns: Iterable[Column] = ()) -> Clause | None:
    """What a filter says; None where it says nothing.

    Args:
        text: In the language above.
        columns: What the tables have: their names mean them, and values are of their types.

    Raises:
        SettingsError: it cannot be meant; says where and why.
    """
    if len(text) > LONGEST:
        raise SettingsError(f"a filter has at most {LONGEST:,} characters; this one has {len(text):,}")
    if not text.strip():
        return None
    known = {column.name: column for column in columns}

    def meant(names: Sequence[str], relation: Relation, values: Sequence[Plain]) -> Test:
        return _meant(Test(_place(names, known), relation, tuple(values)), known)

    return Reading(text, meant).whole()


def names_columns(text: str) -> bool:
    """Whether a filter may say something else where the tables have columns of metadata."""
    try:
        clause = parse(text)
    except SettingsError:
        return True
    return clause is not None and not all(isinstance(test.place, Own) for test in every_test(clause))


def parse_all(texts: Iterable[str], columns: Iterable[Column] = ()) -> Clause | None:
    """What several filters say together: all must hold.

    Raises:
        SettingsError: as `parse`.
    """
    columns, clause = list(columns), None
    for text in texts:
        clause = both(clause, parse(text, columns))
    return clause


def one_test(name: str, relation: Relation, values: Sequence[Plain], columns: Iterable[Column]) -> Test:
    """A test of a name and values that another language of filters has brought, checked as `parse` does.

    Raises:
        SettingsError: it cannot be put to what the name means.
    """
    known = {column.name: column for column in columns}
    try:
        return _meant(Test(_place(name.split("."), known), relation, tuple(values)), known)
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from None


def _place(names: Sequence[str], columns: Mapping[str, Column]) -> Place:
    """What a name means: what every passage has, then columns, then the metadata."""
    if len(names) == 1 and names[0].lower() in _OWN:
        return Own(_OWN[names[0].lower()])
    if len(names) == 1 and names[0] in columns:
        return Declared(names[0])
    within = names[1:] if len(names) > 1 and names[0] == METADATA else names
    return InMetadata(tuple(within))


def _meant(test: Test, columns: Mapping[str, Column]) -> Test:
    """The test, with its values as the place has them.

    Raises:
        ValueError: they cannot be compared so.
    """
    if test.relation == "~":
        _check_pattern(test, columns)
        return Test(test.place, "~", tuple(str(one) for one in test.values))
    match test.place:
        case Own(name):
            return _own(test, name)
        case Declared(name):
            return _declared(test, columns[name])
        case InMetadata(path):
            return _in_metadata(test, path, columns)


def _check_pattern(test: Test, columns: Mapping[str, Column]) -> None:
    match test.place:
        case Own("page") | InMetadata():
            raise ValueError("only texts that every passage has, and columns of text, have a pattern")
        case Declared(name) if columns[name].type != "text":
            raise ValueError(f"a column of {columns[name].type} has no pattern: only text has")
    for pattern in test.values:
        globs.expression(str(pattern))


def _own(test: Test, name: OwnName) -> Test:
    if name != "page":
        if test.relation in _ORDERED:
            raise ValueError("texts have no order: compare by =, != or ~")
        return replace(test, values=tuple(map(_text, test.values)))
    values = tuple(map(_unmarked, test.values))
    if not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**31 for one in values):
        raise ValueError("pages are whole numbers")
    return replace(test, values=values)


def _declared(test: Test, column: Column) -> Test:
    made = replace(test, values=tuple(_fitted(one, column) for one in test.values))
    comparison = cast("Comparison", test.relation)
    try:
        for value in made.values:
            check_condition(Condition(column=column.name, comparison=comparison, value=value), [column])
    except StoreRefused as error:
        raise ValueError(str(error)) from None
    return made


def _fitted(value: Plain, column: Column) -> Plain:
    if column.type in ("text", "list"):
        return _text(value)
    if column.type == "date" and isinstance(value, str):
        with suppress(ValueError):
            return date.fromisoformat(value.strip())
    return _unmarked(value)


def _in_metadata(test: Test, path: Sequence[str], columns: Mapping[str, Column]) -> Test:
    if not all(path):
        raise ValueError("a name in the metadata is empty")
    if test.relation in _ORDERED:
        raise ValueError(
            f"only columns and pages are less or more, and the tables have {', '.join(columns) or 'none'}. "
            "The next `docweave ingest` adds those that `columns:` declares"
        )
    return replace(test, values=tuple(map(_unmarked, test.values)))


def _text(value: Plain) -> str:
    if isinstance(value, str):
        return str(value)
    raise ValueError("is compared with texts")


def _unmarked(value: Plain) -> Plain:
    """A word as JSON has it, where it has it; otherwise text."""
    if not isinstance(value, Word):
        return value
    try:
        read = json.loads(value, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return str(value)
    return read if isinstance(read, str | int | float) else str(value)


def _no_number(name: str) -> NoReturn:
    """NaN and its like are words here."""
    raise ValueError(name)
