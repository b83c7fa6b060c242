"""The query side of the LanceDB store: light enough for a command that must answer in a second."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Self

from pipeline.records import (
    Column,
    EmbeddingSpace,
    Filter,
    Generation,
    Hit,
    LatestRun,
    Ranking,
    Span,
    Spending,
    Vector,
)
from pipeline.stored import Moment, Stored, StoredMarks
from pipeline.stores import _core
from pipeline.stores._generations import Generations
from pipeline.stores._opened import Still
from pipeline.stores._place import Place
from pipeline.stores._reading import LanceTables


class LanceReader:
    """Searches the live tables at one address, whichever these are at each call.

    Does not import the lancedb package.
    """

    def __init__(self, place: Place, following: _core.CoreConnection, still: _core.CoreConnection) -> None:
        self._place = place
        self._still = still
        self._generations = Generations(place, following)

    @classmethod
    async def open(cls, uri: str, options: Mapping[str, str] = {}) -> Self:
        """A reader of the database at `uri`: a folder, or an object store's address with its options.

        Tables that are not there yet are looked for again at every call.

        Raises:
            StoreUnavailable: the storage does not answer.
            StoreRefused: it turns us away.
        """
        place = Place.at(uri, options)
        following = await place.opened(_core.connect(place.uri, place.options))
        # A snapshot is taken for every question: to open a table that stands still is half of the work.
        still = await place.opened(_core.connect(place.uri, place.options, follows=False))
        return cls(place, following, still)

    async def snapshot(self) -> LanceTables:
        """The live tables as they are now: all that one question asks, it asks of the same rows.

        Raises:
            StoreError: as `open`.
        """
        names = await self._generations.names()
        return await LanceTables(Still(self._place, self._still, follows_none=True), names).snapshot()

    async def space(self) -> EmbeddingSpace | None:
        """As `LanceTables.space`."""
        return await (await self.snapshot()).space()

    async def version(self) -> str:
        """As `LanceTables.version`."""
        return await (await self.snapshot()).version()

    async def nearest(self, vector: Vector, *, limit: int, where: Filter) -> list[Hit]:
        """As `LanceTables.nearest`."""
        return await (await self.snapshot()).nearest(vector, limit=limit, where=where)

    async def matching(self, text: str, *, limit: int, where: Filter) -> list[Hit]:
        """As `LanceTables.matching`."""
        return await (await self.snapshot()).matching(text, limit=limit, where=where)

    async def rank_nearest(self, vector: Vector, *, limit: int, where: Filter) -> Ranking:
        """As `LanceTables.rank_nearest`."""
        return await (await self.snapshot()).rank_nearest(vector, limit=limit, where=where)

    async def rank_matching(self, text: str, *, limit: int, where: Filter) -> Ranking:
        """As `LanceTables.rank_matching`."""
        return await (await self.snapshot()).rank_matching(text, limit=limit, where=where)

    async def take(self, rows: Sequence[int]) -> list[Hit]:
        """As `LanceTables.take`."""
        return await (await self.snapshot()).take(rows)

    async def passages(self, spans: Sequence[Span], *, where: Filter) -> list[Hit]:
        """As `LanceTables.passages`."""
        return await (await self.snapshot()).passages(spans, where=where)

    async def columns(self) -> Sequence[Column]:
        """As `LanceTables.columns`."""
        return await (await self.snapshot()).columns()

    async def filled(self) -> Mapping[str, tuple[int, int]]:
        """As `LanceTables.filled`."""
        return await (await self.snapshot()).filled()

    async def counts(self, access: Collection[str] | None = None) -> Mapping[str, tuple[int, int]]:
        """As `LanceTables.counts`."""
        return await (await self.snapshot()).counts(access)

    async def sources(self) -> list[str]:
        """As `LanceTables.sources`."""
        return await (await self.snapshot()).sources()

    async def keys(self, source: str) -> set[str]:
        """As `LanceTables.keys`."""
        return await (await self.snapshot()).keys(source)

    async def stored(
        self, source: str, keys: Sequence[str] | None = None, *, access: Collection[str] | None = None
    ) -> AsyncIterator[Stored]:
        """As `LanceTables.stored`."""
        async for one in (await self.snapshot()).stored(source, keys, access=access):
            yield one

    async def history(self, source: str, key: str) -> list[Moment]:
        """As `LanceTables.history`."""
        return await (await self.snapshot()).history(source, key)

    async def copies(self) -> list[StoredMarks]:
        """As `LanceTables.copies`."""
        return await (await self.snapshot()).copies()

    async def holding(self, group_keys: Sequence[str]) -> list[StoredMarks]:
        """As `LanceTables.holding`."""
        return await (await self.snapshot()).holding(group_keys)

    async def every(self) -> AsyncIterator[StoredMarks]:
        """As `LanceTables.every`."""
        async for one in (await self.snapshot()).every():
            yield one

    async def spending(self) -> list[Spending]:
        """As `LanceTables.spending`."""
        return await (await self.snapshot()).spending()

    async def runs(self) -> list[LatestRun]:
        """As `LanceTables.runs`."""
        return await (await self.snapshot()).runs()

    async def generations(self) -> Sequence[Generation]:
        """As `LanceTables.generations`."""
        return await (await self.snapshot()).generations()
