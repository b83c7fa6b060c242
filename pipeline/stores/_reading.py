"""Reading the tables of a LanceDB database: what its reader and its store have in common."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from pipeline.digest import copy_of
from pipeline.records import (
    Column,
    EmbeddingSpace,
    Filter,
    Generation,
    Hit,
    LatestRun,
    Ranking,
    Role,
    Span,
    Spending,
    Vector,
)
from pipeline.stored import Moment, Stored, StoredMarks
from pipeline.stores import _core, _predicates, _rows, _stored
from pipeline.stores._columns import Filled
from pipeline.stores._generations import Generations, Standing
from pipeline.stores._opened import Opened
from pipeline.stores._schema import RUNS, SPENDING, Names
from pipeline.stores._searching import Chunks


class LanceTables:
    """Reads two tables, by name, and what stands beside them."""

    def __init__(self, opened: Opened, names: Names) -> None:
        self._opened = opened
        self._place = opened.place
        self._names = names

    async def snapshot(self) -> LanceTables:
        """The chunks as they are now: what is written later is not seen by it.

        Raises:
            StoreError: as `open`.
        """
        still = self._opened.still()
        await still.find(self._names.chunks)
        return LanceTables(still, self._names)

    async def space(self) -> EmbeddingSpace | None:
        """The space that is pinned to the stored vectors; None while there is no table.

        Raises:
            StoreError: as `open`, or the table is not one of ours.
        """
        return await self._opened.space(self._names.chunks)

    async def version(self) -> str:
        """Of both tables: another one after every write to one of them.

        Raises:
            StoreError: as `open`.
        """
        tables = await self._both()
        with self._place.during("read the tables' versions"):
            return " ".join([f"{table.name()}@{await table.version()}" for table in tables])

    async def nearest(self, vector: Vector, *, limit: int, where: Filter) -> list[Hit]:
        """The chunks whose vectors are nearest, best first: by cosine, bits by Hamming distance.

        Exact where the table has no index of vectors: every vector is compared. Of an index, the candidates
        are (see `_indexes`), and scores are exact. By cosine, a chunk whose vector is zero has no direction,
        and is near to nothing.

        Raises:
            StoreRefused: the vector is not of the table's space.
            StoreError: as `open`.
        """
        chunks = await self._chunks()
        if chunks is None:
            return []
        return (await chunks.nearest(vector, limit=limit, where=where, whole=True)).hits

    async def rank_nearest(self, vector: Vector, *, limit: int, where: Filter) -> Ranking:
        """What `nearest` finds, as rows: of the table, no more than that is read.

        Raises:
            StoreRefused: as `nearest`.
            StoreError: as `open`.
        """
        chunks = await self._chunks()
        if chunks is None:
            return {}
        return (await chunks.nearest(vector, limit=limit, where=where, whole=False)).ranking

    async def matching(self, text: str, *, limit: int, where: Filter) -> list[Hit]:
        """The chunks that hold words of `text`, in their text or the headings above it, best first by BM25.

        Raises:
            StoreError: as `open`.
        """
        chunks = await self._chunks() if text.strip() else None
        if chunks is None:
            return []
        return (await chunks.matching(text, limit=limit, where=where, whole=True)).hits

    async def rank_matching(self, text: str, *, limit: int, where: Filter) -> Ranking:
        """What `matching` finds, as rows: of the table, no more than that is read.

        Raises:
            StoreError: as `open`.
        """
        chunks = await self._chunks() if text.strip() else None
        if chunks is None:
            return {}
        return (await chunks.matching(text, limit=limit, where=where, whole=False)).ranking

    async def take(self, rows: Sequence[int]) -> list[Hit]:
        """The chunks of rows that this snapshot ranked, in this order, with their vectors.

        Raises:
            StoreError: as `open`.
        """
        chunks = await self._chunks() if rows else None
        return [] if chunks is None else await chunks.take(rows)

    async def passages(self, spans: Sequence[Span], *, where: Filter) -> list[Hit]:
        """The chunks of these spans that a search with this filter may see: by document, in order.

        Raises:
            StoreError: as `open`.
        """
        chunks = await self._chunks() if spans else None
        return [] if chunks is None else await chunks.passages(spans, where=where)

    async def columns(self) -> Sequence[Column]:
        """What conditions can be put to.

        Raises:
            StoreError: as `open`.
        """
        return await self._opened.columns(self._names.chunks)

    async def filled(self) -> Mapping[str, tuple[int, int]]:
        """Of each column: how many documents have a value in it, and how many one that does not fit.

        Raises:
            StoreError: as `open`.
        """
        table = await self._opened.find(self._names.documents)
        counting = Filled(await self.columns())
        if table is None or not counting.columns:
            return {}
        with self._place.during("read the documents' metadata"):
            query = table.query()
            query.select_columns(["metadata"])
            async for batch in await query.execute():
                for text in batch["metadata"].to_pylist():
                    counting.count(json.loads(text or "{}"))
        return counting.counts()

    async def counts(self, access: Collection[str] | None = None) -> Mapping[str, tuple[int, int]]:
        """Documents and chunks of each source that has any, that somebody with these labels may see.

        Raises:
            StoreError: as `open`.
        """
        if await self._opened.find(self._names.documents) is None:
            return {}
        where = await self._opened.seen_by(self._names.documents, access)
        rows = await self._opened.select(self._names.documents, ["source", "chunk_count"], where)
        grouped = rows.group_by("source").aggregate([([], "count_all"), ("chunk_count", "sum")])
        return {
            row["source"]: (row["count_all"], row["chunk_count_sum"])
            for row in sorted(grouped.to_pylist(), key=lambda row: row["source"])
        }

    async def keys(self, source: str) -> set[str]:
        """Of every stored document of the source.

        Raises:
            StoreError: as `open`.
        """
        if await self._opened.find(self._names.documents) is None:
            return set()
        where = _predicates.among("source", [source])
        return set((await self._opened.select(self._names.documents, ["key"], where))["key"].to_pylist())

    async def sources(self) -> list[str]:
        """Every source that either table has a row of.

        Raises:
            StoreError: as `open`.
        """
        tables = await self._both()
        with self._place.during("read the sources"):
            return await _stored.sources(tables)

    async def stored(
        self, source: str, keys: Sequence[str] | None = None, *, access: Collection[str] | None = None
    ) -> AsyncIterator[Stored]:
        """The source's documents as the two tables hold them, in the order of their keys, orphans too.

        Args:
            source: Its name.
            keys: Of these documents; all of the source's if left out. Unknown ones are left out.
            access: Only what somebody with these labels may see; None: everything.

        Raises:
            StoreError: as `open`.
        """
        tables = await self._both()
        if len(tables) < 2:
            return
        with self._place.during(f"read the keys of {source}"):
            wheres = _stored.some(source, keys) if keys is not None else await _stored.ranges(tables, source)
        seen = [await self._opened.seen_by(name, access) for name in self._names.both]
        for where in wheres:
            in_chunks, in_documents = [f"{where} AND {part}" if part else where for part in seen]
            with self._place.during(f"read documents of {source}"):
                chunks = await _stored.rows_of(tables[0], _stored.CHUNK_COLUMNS, in_chunks)
                documents = await _stored.rows_of(tables[1], _stored.MARKS_COLUMNS, in_documents)
            for one in _stored.put_together(source, chunks, documents):
                yield one

    async def history(self, source: str, key: str) -> list[Moment]:
        """When a document's row changed, oldest first, as far as the table keeps its versions.

        Raises:
            StoreError: as `open`.
        """
        if await self._opened.find(self._names.documents) is None:
            return []
        with self._place.during(f"read the versions of {self._names.documents}"):
            table = await self._opened.connection.open_table(self._names.documents)
            return await _stored.history(table, source, key)

    async def copies(self) -> list[StoredMarks]:
        """The marks of the documents that are stored without rows, as copies of others.

        Raises:
            StoreError: as `open`.
        """
        return [one async for one in self.every(_stored.IS_COPY)]

    async def holding(self, group_keys: Sequence[str]) -> list[StoredMarks]:
        """The marks of the documents that have rows, and whose first group is one of these.

        Raises:
            StoreError: as `open`.
        """
        places: set[tuple[str, str]] = set()
        if await self._opened.find(self._names.chunks) is None:
            return []
        for some in _predicates.in_turns(group_keys):
            where = f"{_predicates.among('group_key', some)} AND ordinal = 0"
            rows = await self._opened.select(self._names.chunks, ["source", "key"], where)
            places |= set(zip(*(rows[name].to_pylist() for name in ("source", "key")), strict=True))
        return [
            one
            for some in _predicates.in_turns(sorted(places))
            async for one in self.every(_predicates.documents(some))
            if not copy_of(one.state.row_key)
        ]

    async def every(self, where: str | None = None) -> AsyncIterator[StoredMarks]:
        """The marks of every stored document, or of those for which `where` holds, in no order.

        Raises:
            StoreError: as `open`.
        """
        table = await self._opened.find(self._names.documents)
        if table is None:
            return
        with self._place.during("read the documents' marks"):
            async for one in _stored.marks(table, where):
                yield one

    async def spending(self) -> list[Spending]:
        """What was paid, run by run, oldest first.

        Raises:
            StoreError: as `open`.
        """
        if await self._opened.beside(SPENDING) is None:
            return []
        rows = await self._opened.select(SPENDING, _rows.SPENDING_COLUMNS)
        return [Spending(**row) for row in rows.sort_by("at").to_pylist()]

    async def runs(self) -> list[LatestRun]:
        """How the latest run over each source went, by source.

        Raises:
            StoreError: as `open`.
        """
        return await self._runs()

    async def generations(self) -> Sequence[Generation]:
        """The generations that have their tables, the live one first.

        Raises:
            StoreError: as `open`.
        """
        standing = await Generations(self._place, self._opened.connection).read()
        numbers: dict[Role, int | None] = {
            "live": standing.live,
            "staged": standing.staged,
            "previous": standing.previous,
        }
        found = [await self._described(role, n, standing) for role, n in numbers.items() if n is not None]
        return [generation for generation in found if generation]

    async def _described(self, role: Role, number: int, standing: Standing) -> Generation | None:
        """One of them; None where it has no tables yet."""
        tables = LanceTables(Opened(self._place, self._opened.connection), Names(number))
        space = await tables.space()
        if space is None:
            return None
        return Generation(
            role=role,
            number=number,
            space=space,
            documents=sum(documents for documents, _ in (await tables.counts()).values()),
            since=standing.switched_at if role != "staged" else None,
        )

    async def _runs(self, where: str | None = None) -> list[LatestRun]:
        """Those of all sources, or those for which `where` holds."""
        if await self._opened.beside(RUNS) is None:
            return []
        return _rows.runs(await self._opened.select(RUNS, _rows.RUN_COLUMNS, where))

    async def _both(self) -> list[_core.CoreTable]:
        """The chunks and the documents; fewer while they are not there."""
        return [table for name in self._names.both if (table := await self._opened.find(name))]

    async def _chunks(self) -> Chunks | None:
        """The chunks as they are searched; None while there are none."""
        table = await self._opened.find(self._names.chunks)
        schema = await self._opened.schema(self._names.chunks)
        if table is None or schema is None:
            return None
        return Chunks(place=self._place, table=table, schema=schema)
