"""The tables of several settings files, told apart by name: a source of one is called `name.source`.

A dot stands in no source's name and in no name of tables, so that nothing else can be meant, and the name can
stand wherever a source's does: in a filter, in an address, in what a passage is cited by.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline import globs
from pipeline.clauses import Own, Test, every_test, mapped
from pipeline.protocols import Reader
from pipeline.records import Column, EmbeddingSpace, Filter, Hit, LatestRun, Ranking, Span, Spending, Vector
from pipeline.stored import Stored, StoredMarks

SIGN = "."
_NO_SOURCE = ""
"""The name of no source."""


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
