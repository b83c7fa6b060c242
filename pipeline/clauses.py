"""Conditions joined by and, or and not: what a filter says beyond equality. `pipeline.where` reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Literal, TypeAlias

Plain: TypeAlias = str | int | float | bool | date
OwnName: TypeAlias = Literal["source", "key", "title", "url", "media_type", "page"]
Relation: TypeAlias = Literal["=", "<", "<=", ">", ">=", "~", "exists"]


@dataclass(frozen=True, slots=True)
class Own:
    """What every passage has; `page` is a number, or missing, and all others are texts."""

    name: OwnName


@dataclass(frozen=True, slots=True)
class Declared:
    """A column that the settings declare over the metadata."""

    name: str


@dataclass(frozen=True, slots=True)
class InMetadata:
    """A place in the metadata: names, outermost first."""

    path: tuple[str, ...]


Place: TypeAlias = Own | Declared | InMetadata


@dataclass(frozen=True, slots=True)
class Test:
    """What must stand at a place. Where nothing stands, no test holds."""

    __test__ = False  # for pytest, which would take it for one of its own

    place: Place
    relation: Relation
    values: tuple[Plain, ...] = ()
    """Of "=": any of these; where a list stands, one of them is in it. Of "~": a text that any of these globs
    matches. Of "exists": none. Of all others: one."""


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one of these holds."""

    parts: tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of these holds."""

    parts: tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """This does not hold. What is missing makes a test not hold, and its negation hold."""

    part: Clause


Clause: TypeAlias = Test | AllOf | AnyOf | Not


def both(one: Clause | None, other: Clause | None) -> Clause | None:
    """What holds where both do; None is no condition."""
    if one is None or other is None:
        return one or other
    return AllOf((one, other))


def mapped(clause: Clause, of: Callable[[Test], Clause]) -> Clause:
    """The same, with something else in the place of each test."""
    match clause:
        case Test():
            return of(clause)
        case Not(part):
            return Not(mapped(part, of))
        case AllOf(parts):
            return AllOf(tuple(mapped(part, of) for part in parts))
        case AnyOf(parts):
            return AnyOf(tuple(mapped(part, of) for part in parts))


def every_test(clause: Clause) -> Iterator[Test]:
    """Every test in it."""
    match clause:
        case Test():
            yield clause
        case Not(part):
            yield from every_test(part)
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from every_test(part)
