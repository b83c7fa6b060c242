"""The tables of several settings files, told apart by name: a source of one is called `name.source`.

A dot stands in no source's name and in no name of tables, so that nothing else can be meant, and the name can
stand wherever a source's does: in a filter, in an address, in what a passage is cited by.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from pipeline import globs
from pipeline.clauses import Clause, Declared, Own, Test, every_test, mapped
from pipeline.errors import DocweaveError, SettingsError
from pipeline.protocols import Reader
from pipeline.records import Column, EmbeddingSpace, Filter, Hit, LatestRun, Ranking, Span, Spending, Vector
from pipeline.stored import Stored, StoredMarks

SIGN = "."
_NO_SOURCE = ""
"""The name of no source."""


class Surveyed(Protocol):
    """What a look over all documents needs of a reader. All is as in `pipeline.protocols.Reader`."""

    async def space(self) -> EmbeddingSpace | None:
        """Of the stored vectors; None also where there are several."""

    async def version(self) -> str:
        """Another one after every write."""

    async def spending(self) -> list[Spending]:
        """What was paid."""

    async def runs(self) -> list[LatestRun]:
        """How the latest run over each source went."""

    def every(self) -> AsyncIterator[StoredMarks]:
        """The marks of every document."""

    def stored(
        self, source: str, keys: Sequence[str] | None = None, *, access: Collection[str] | None = None
    ) -> AsyncIterator[Stored]:
        """The source's documents."""


class HasName(Protocol):
    """Says which tables it is about."""

    @property
    def name(self) -> str:
        """Theirs; empty where they are the only ones."""


T = TypeVar("T", bound=HasName)
Answer = TypeVar("Answer")


async def of_each(tables: Sequence[T], ask: Callable[[T], Awaitable[Answer]]) -> list[Answer]:
    """What each answers, all asked at once.

    Raises:
        DocweaveError: what the first to fail raised. It says whose it is, where there are several.
    """

    async def one(table: T) -> Answer:
        with naming(table.name):
            return await ask(table)

    return [await one(tables[0])] if len(tables) == 1 else await asyncio.gather(*map(one, tables))


@contextmanager
def naming(name: str) -> Iterator[None]:
    """What is raised within says whose tables it was."""
    try:
        yield
    except DocweaveError as error:
        if not name:
            raise
        told = copy(error)  # others may be waiting for the same one
        told.args = (f"{name}: {error}", *error.args[1:])
        told.tables = name
        raise told from error


@dataclass(frozen=True, slots=True)
class Named:
    """A reader whose sources have the tables' name in front of theirs.

    A filter names a source so, or by its own name alone: that is then meant in all tables that have it.
    """

    name: str
    reader: Reader

    async def snapshot(self) -> Named:
        """As `Reader.snapshot`."""
        return Named(self.name, await self.reader.snapshot())

    async def space(self) -> EmbeddingSpace | None:
        """As `Reader.space`."""
        return await self.reader.space()

    async def version(self) -> str:
        """As `Reader.version`."""
        return await self.reader.version()

    async def columns(self) -> Sequence[Column]:
        """As `Reader.columns`."""
        return await self.reader.columns()

    async def rank_nearest(self, vector: Vector, *, limit: int, where: Filter) -> Ranking:
        """As `Reader.rank_nearest`."""
        here = await self._here(where)
        return {} if here is None else await self.reader.rank_nearest(vector, limit=limit, where=here)

    async def rank_matching(self, text: str, *, limit: int, where: Filter) -> Ranking:
        """As `Reader.rank_matching`."""
        here = await self._here(where)
        return {} if here is None else await self.reader.rank_matching(text, limit=limit, where=here)

    async def take(self, rows: Sequence[int]) -> list[Hit]:
        """As `Reader.take`."""
        return [self._told(hit) for hit in await self.reader.take(rows)]

    async def passages(self, spans: Sequence[Span], *, where: Filter) -> list[Hit]:
        """As `Reader.passages`: of the spans that are of these tables."""
        own = [replace(span, source=source) for span in spans if (source := self.own(span.source))]
        here = await self._here(where)
        if not own or here is None:
            return []
        return [self._told(hit) for hit in await self.reader.passages(own, where=here)]

    async def counts(self, access: Collection[str] | None = None) -> Mapping[str, tuple[int, int]]:
        """As `Reader.counts`."""
        return {self.full(name): counted for name, counted in (await self.reader.counts(access)).items()}

    async def spending(self) -> list[Spending]:
        """As `Reader.spending`."""
        return [replace(one, source=self.full(one.source)) for one in await self.reader.spending()]

    async def runs(self) -> list[LatestRun]:
        """As `Reader.runs`."""
        return [replace(one, source=self.full(one.source)) for one in await self.reader.runs()]

    async def stored(
        self, source: str, keys: Sequence[str] | None = None, *, access: Collection[str] | None = None
    ) -> AsyncIterator[Stored]:
        """As `Reader.stored`; nothing of a source that is not of these tables."""
        if own := self.own(source):
            async for one in self.reader.stored(own, keys, access=access):
                yield replace(one, source=source)

    async def every(self) -> AsyncIterator[StoredMarks]:
        """As `Reader.every`."""
        async for one in self.reader.every():
            yield replace(one, state=replace(one.state, source=self.full(one.state.source)))

    def full(self, source: str) -> str:
        """What a source of these tables is called."""
        return full_name(self.name, source)

    def own(self, source: str) -> str | None:
        """What the source is called within these tables; None if it is not of them."""
        return meant(source, self.name) if SIGN in source else None

    def _told(self, hit: Hit) -> Hit:
        return replace(hit, source=self.full(hit.source))

    async def _here(self, where: Filter) -> Filter | None:
        """What the filter says of these tables; None if that nothing of them is wanted."""
        sources = _in_tables(where.sources, self.name)
        if where.sources and not sources:
            return None
        clause = where.clause
        if clause is not None:
            by_pattern = any(
                test.place == Own("source") and test.relation == "~" for test in every_test(clause)
            )
            known = await self.reader.counts() if by_pattern else ()
            clause = mapped(clause, lambda test: self._own_test(test, known))
        return replace(where, sources=sources, clause=clause)

    def _own_test(self, test: Test, known: Collection[str]) -> Test:
        """A test of sources, as that of these tables' own; any other as it is."""
        match test:
            case Test(Own("source"), "=" | "~" as relation, values):
                texts = map(str, values)
                found = self._matching(texts, known) if relation == "~" else _in_tables(texts, self.name)
                return Test(test.place, "=", tuple(found) or (_NO_SOURCE,))
            case _:
                return test

    def _matching(self, patterns: Iterator[str], known: Collection[str]) -> Iterator[str]:
        """The sources of these tables whose name, with the tables' or without, any pattern matches."""
        compiled = [re.compile(globs.expression(one)) for one in patterns]
        for source in known:
            if any(one.search(name) for one in compiled for name in (source, self.full(source))):
                yield source


def full_name(tables: str, source: str) -> str:
    """What a source is called; that of the only tables of a desk, which have no name, as it is."""
    return f"{tables}{SIGN}{source}" if tables else source


def meant(source: str, tables: str) -> str | None:
    """What a source is called within these tables; None if it is of others.

    One that is named without its tables may be of any.
    """
    name, sign, own = source.rpartition(SIGN)
    return own if not sign or name == tables else None


def may_have(tables: str, sources: Sequence[str]) -> bool:
    """Whether these tables may have any of the sources; if none is named, they may."""
    return not tables or not sources or bool(_in_tables(sources, tables))


def _in_tables(sources: Iterable[str], tables: str) -> tuple[str, ...]:
    return tuple(own for one in sources if (own := meant(one, tables)))


class Several:
    """The tables of several settings files, looked over as one. Satisfies `Surveyed`."""

    def __init__(self, tables: Sequence[Named]) -> None:
        self._tables = tables

    async def space(self) -> EmbeddingSpace | None:
        """Of the stored vectors; None where they are of several."""
        spaces = set(await of_each(self._tables, lambda one: one.space()))
        return spaces.pop() if len(spaces) == 1 else None

    async def version(self) -> str:
        """Another one after every write to any."""
        return " ".join(await of_each(self._tables, lambda one: one.version()))

    async def spending(self) -> list[Spending]:
        """What was paid, oldest first."""
        found = await of_each(self._tables, lambda one: one.spending())
        return sorted((one for some in found for one in some), key=lambda one: one.at)

    async def runs(self) -> list[LatestRun]:
        """How the latest run over each source went."""
        return [one for some in await of_each(self._tables, lambda one: one.runs()) for one in some]

    async def every(self) -> AsyncIterator[StoredMarks]:
        """The marks of every document."""
        for table in self._tables:
            with naming(table.name):
                async for one in table.every():
                    yield one

    async def stored(
        self, source: str, keys: Sequence[str] | None = None, *, access: Collection[str] | None = None
    ) -> AsyncIterator[Stored]:
        """The source's documents."""
        for table in self._tables:
            with naming(table.name):
                async for one in table.stored(source, keys, access=access):
                    yield one


def declared_in(clause: Clause | None) -> set[str]:
    """The columns that a filter names."""
    tests = every_test(clause) if clause is not None else ()
    return {test.place.name for test in tests if isinstance(test.place, Declared)}


def check_columns(tables: Mapping[str, Sequence[Column]], names: Collection[str]) -> None:
    """Refuse a filter by a column that not all tables have, or not of the same type.

    Args:
        tables: The columns that each has that is asked, by name.
        names: Those that the filter names, which was read with the columns of all of them.

    Raises:
        SettingsError: says which tables lack it.
    """
    for column in sorted(names):
        types = {name: one.type for name, columns in tables.items() for one in columns if one.name == column}
        if lacking := [name for name in tables if name not in types]:
            raise SettingsError(
                f"{column} is a column of {', '.join(types) or 'none of the tables that are asked'}, and not "
                f"of {', '.join(lacking)}: declare it under `columns:` there too, name sources of the tables "
                f"that have it, or compare metadata.{column} by =, which needs no column"
            )
        if len(set(types.values())) > 1:
            told = ", ".join(f"{kind} in {name}" for name, kind in types.items())
            raise SettingsError(f"the column {column} is not of one type: it is {told}")


def all_columns(tables: Sequence[Sequence[Column]]) -> list[Column]:
    """The columns that any of the tables has, each name once."""
    found: dict[str, Column] = {}
    for columns in tables:
        for column in columns:
            found.setdefault(column.name, column)
    return list(found.values())
