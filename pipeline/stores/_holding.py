"""Whether a clause holds of a chunk that is held in memory: what `_clauses` says in SQL."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import cast

from pipeline import globs
from pipeline.clauses import AllOf, AnyOf, Clause, Declared, InMetadata, Not, Own, Plain, Test
from pipeline.records import Chunk, Column, JsonValue, Metadata, Prepared
from pipeline.stores import _clauses
from pipeline.stores._columns import holds, value
from pipeline.stores._text import well_formed

_ORDER: Mapping[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def true_of(clause: Clause, prepared: Prepared, chunk: Chunk, columns: Sequence[Column]) -> bool:
    """Whether it holds of a chunk.

    Raises:
        StoreRefused: as `_clauses.sql`.
    """
    match clause:
        case AllOf(parts):
            return all(true_of(part, prepared, chunk, columns) for part in parts)
        case AnyOf(parts):
            return any(true_of(part, prepared, chunk, columns) for part in parts)
        case Not(part):
            return not true_of(part, prepared, chunk, columns)
        case Test():
            return _test_true(clause, prepared, chunk, columns)


def _test_true(test: Test, prepared: Prepared, chunk: Chunk, columns: Sequence[Column]) -> bool:
    match test.place:
        case Own(name):
            return _own_true(test, _own(prepared, chunk)[name])
        case Declared(name):
            return _declared_true(test, _clauses.find(name, columns), prepared.metadata)
        case InMetadata(path):
            return _metadata_true(test, path, prepared.metadata)


def _own(prepared: Prepared, chunk: Chunk) -> Mapping[str, str | int | None]:
    return {
        "source": prepared.state.source,
        "key": prepared.state.key,
        "title": well_formed(prepared.title),
        "url": prepared.url and well_formed(prepared.url),
        "media_type": prepared.media_type,
        "page": chunk.page,
    }


def _own_true(test: Test, stored: str | int | None) -> bool:
    if stored is None or test.relation == "exists":
        return stored is not None
    if isinstance(stored, str):
        if test.relation == "~":
            return _globbed(test, stored)
        return stored in [well_formed(str(one)) for one in test.values]
    numbers = [one for one in test.values if isinstance(one, int)]
    return stored in numbers if test.relation == "=" else _ORDER[test.relation](stored, numbers[0])


def _declared_true(test: Test, column: Column, metadata: Metadata) -> bool:
    stored = value(column, metadata)
    if test.relation == "exists":
        return stored is not None
    if test.relation == "~":
        _clauses.check_text(column)
        return isinstance(stored, str) and _globbed(test, stored)
    return any(holds(one, column, metadata) for one in _clauses.conditions(test, column))


def _metadata_true(test: Test, path: Sequence[str], metadata: Metadata) -> bool:
    here: JsonValue = cast("JsonValue", metadata)
    for name in path:
        if not isinstance(here, Mapping) or name not in here:
            return False
        here = here[name]
    if test.relation == "exists":
        return here is not None
    several = here if isinstance(here, list) else [here]
    return any(_same(stored, _clauses.plain(wanted)) for stored in several for wanted in test.values)


def _same(stored: JsonValue, wanted: Plain) -> bool:
    """As JSON has it: 3 and 3.0 are equal, 1 and true are not."""
    if isinstance(wanted, str) and isinstance(stored, str):
        return well_formed(stored) == well_formed(wanted)
    return stored == wanted and isinstance(stored, bool) == isinstance(wanted, bool)


def _globbed(test: Test, stored: str) -> bool:
    return any(_compiled(str(one)).search(well_formed(stored)) is not None for one in test.values)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    # In Python, $ also stands before a last line break.
    return re.compile(globs.expression(pattern).removesuffix("$") + r"\Z")
