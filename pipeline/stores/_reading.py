"""Reading the tables of a LanceDB database: what its reader and its store have in common."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Self

import pyarrow as pa

from pipeline.digest import copy_of
from pipeline.errors import StoreRefused
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
from pipeline.stores import _clauses, _core, _predicates, _rows, _stored
from pipeline.stores._column_fields import has_access, known, pinned_columns
from pipeline.stores._columns import Filled
from pipeline.stores._generations import Generations, Standing
from pipeline.stores._indexes import looks_everywhere
from pipeline.stores._place import Place
from pipeline.stores._schema import (
    ACCESS,
    RUNS,
    SPENDING,
    TEXT_COLUMNS,
    Names,
    check_form,
    pinned_space,
    stored_type,
)
from pipeline.stores._shape import check_question

ROW = "_rowid"
"""Lance's name for a row's number."""
_NO_ROWS = pa.table({ROW: pa.array([], pa.uint64())})


class LanceTables:
    """Reads two tables, by name, and what stands beside them. Every call sees what the last commit wrote."""

    _pinned_to_now = False

    def __init__(self, place: Place, connection: _core.CoreConnection, names: Names) -> None:
        self._place = place
        self._connection = connection
        self._names = names
        self._tables: dict[str, _core.CoreTable] = {}

    async def snapshot(self) -> LanceTables:
        """The chunks as they are now: what is written later is not seen by it.

        Raises:
            StoreError: as `open`.
        """
        return await Snapshot(self._place, self._connection, self._names).taken()

    async def space(self) -> EmbeddingSpace | None:
        """The space that is pinned to the stored vectors; None while there is no table.

        Raises:
            StoreError: as `open`, or the table is not one of ours.
        """
        return await self._pinned(self._names.chunks)

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
        rows, scores = await self._nearest(vector, limit, where, whole=True)
        return _rows.hits(rows, scores)

    async def rank_nearest(self, vector: Vector, *, limit: int, where: Filter) -> Ranking:
        """What `nearest` finds, as rows: of the table, no more than that is read.

        Raises:
            StoreRefused: as `nearest`.
            StoreError: as `open`.
        """
        rows, scores = await self._nearest(vector, limit, where, whole=False)
        return dict(zip(rows[ROW].to_pylist(), scores, strict=True))

    async def matching(self, text: str, *, limit: int, where: Filter) -> list[Hit]:
        """The chunks that hold words of `text`, in their text or the headings above it, best first by BM25.

        Raises:
            StoreError: as `open`.
        """
        rows, scores = await self._matching(text, limit, where, whole=True)
        return _rows.hits(rows, scores)

    async def rank_matching(self, text: str, *, limit: int, where: Filter) -> Ranking:
        """What `matching` finds, as rows: of the table, no more than that is read.

        Raises:
            StoreError: as `open`.
        """
        rows, scores = await self._matching(text, limit, where, whole=False)
        return dict(zip(rows[ROW].to_pylist(), scores, strict=True))

    async def take(self, rows: Sequence[int]) -> list[Hit]:
        """The chunks of rows that this snapshot ranked, in this order, with their vectors.

        Raises:
            StoreError: as `open`.
        """
        table = await self._table(self._names.chunks)
        if table is None or not rows:
            return []
        with self._place.during("read what was found"):
            query = table.take_row_ids([*rows])
            columns = [*known(_rows.HIT_COLUMNS, await self._schema(table)), _rows.VECTOR]
            query.select([(name, f"`{name}`") for name in columns])
            query.with_row_id()
            taken = await _core.collected(query, len(rows))
        found = dict(zip(taken[ROW].to_pylist(), _rows.hits(taken, repeat(0.0, len(taken))), strict=True))
        return [found[number] for number in rows]

    async def passages(self, spans: Sequence[Span], *, where: Filter) -> list[Hit]:
        """The chunks of these spans that a search with this filter may see: by document, in order.

        Raises:
            StoreError: as `open`.
        """
        table = await self._table(self._names.chunks)
        if table is None or not spans:
            return []
        with self._place.during("read passages"):
            query = table.query()
            await self._filter(query, where, _clauses.within(spans))
            query.select_columns(known(_rows.HIT_COLUMNS, await self._schema(table)))
            rows = await _core.collected(query)
        order = [(name, "ascending") for name in ("source", "key", "ordinal")]
        return _rows.hits(rows.sort_by(order), [0.0] * len(rows))

    async def columns(self) -> Sequence[Column]:
        """What conditions can be put to.

        Raises:
            StoreError: as `open`.
        """
        return await self._columns_in(self._names.chunks)

    async def filled(self) -> Mapping[str, tuple[int, int]]:
        """Of each column: how many documents have a value in it, and how many one that does not fit.

        Raises:
            StoreError: as `open`.
        """
        table = await self._table(self._names.documents)
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
        if await self._table(self._names.documents) is None:
            return {}
        where = await self._seen_by(self._names.documents, access)
        rows = await self._select(self._names.documents, ["source", "chunk_count"], where)
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
        if await self._table(self._names.documents) is None:
            return set()
        where = _predicates.among("source", [source])
        return set((await self._select(self._names.documents, ["key"], where))["key"].to_pylist())

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
        seen = [await self._seen_by(name, access) for name in self._names.both]
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
        if await self._table(self._names.documents) is None:
            return []
        with self._place.during(f"read the versions of {self._names.documents}"):
            table = await self._connection.open_table(self._names.documents)
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
        if await self._table(self._names.chunks) is None:
            return []
        for some in _predicates.in_turns(group_keys):
            where = f"{_predicates.among('group_key', some)} AND ordinal = 0"
            rows = await self._select(self._names.chunks, ["source", "key"], where)
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
        table = await self._table(self._names.documents)
        if table is None:
            return
        with self._place.during("read the documents' marks"):
            async for one in _stored.marks(table, where):
                yield one

    async def _both(self) -> list[_core.CoreTable]:
        """The chunks and the documents; fewer while they are not there."""
        return [table for name in self._names.both if (table := await self._table(name))]

    async def spending(self) -> list[Spending]:
        """What was paid, run by run, oldest first.

        Raises:
            StoreError: as `open`.
        """
        if await self._beside(SPENDING) is None:
            return []
        rows = await self._select(SPENDING, _rows.SPENDING_COLUMNS)
        return [Spending(**row) for row in rows.sort_by("at").to_pylist()]

    async def runs(self) -> list[LatestRun]:
        """How the latest run over each source went, by source.

        Raises:
            StoreError: as `open`.
        """
        if await self._beside(RUNS) is None:
            return []
        return _rows.runs(await self._select(RUNS, _rows.RUN_COLUMNS))

    async def generations(self) -> Sequence[Generation]:
        """The generations that have their tables, the live one first.

        Raises:
            StoreError: as `open`.
        """
        standing = await Generations(self._place, self._connection).read()
        numbers: dict[Role, int | None] = {
            "live": standing.live,
            "staged": standing.staged,
            "previous": standing.previous,
        }
        found = [await self._described(role, n, standing) for role, n in numbers.items() if n is not None]
        return [generation for generation in found if generation]

    async def _described(self, role: Role, number: int, standing: Standing) -> Generation | None:
        """One of them; None where it has no tables yet."""
        tables = LanceTables(self._place, self._connection, Names(number))
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

    async def _columns_in(self, name: str) -> Sequence[Column]:
        """Those of metadata that a table has: what the settings declare, or did once."""
        table = await self._table(name)
        if table is None:
            return ()
        with self._place.during("read the tables' schema"):
            return pinned_columns(await self._schema(table))

    async def _has_access(self, name: str) -> bool:
        """Whether a table has labels: those that an earlier Docweave made get them with the next write."""
        table = await self._table(name)
        if table is None:
            return False
        with self._place.during("read the tables' schema"):
            return has_access(await self._schema(table))

    async def _seen_by(self, name: str, access: Collection[str] | None) -> str | None:
        """The rows of a table that somebody with these labels may see; None for all."""
        if access is None or not await self._has_access(name):
            return None
        return _predicates.seen_by(access)

    async def _pinned(self, name: str) -> EmbeddingSpace | None:
        table = await self._table(name)
        if table is None:
            return None
        with self._place.during("read the tables' schema"):
            schema = await self._schema(table)
        return pinned_space(schema, f"{self._place}/{name}")

    async def _schema(self, table: _core.CoreTable) -> pa.Schema:
        return await table.schema()

    async def _nearest(
        self, vector: Vector, limit: int, where: Filter, *, whole: bool
    ) -> tuple[pa.Table, list[float]]:
        """The rows, as `_ranked`, and their scores."""
        space = await self._pinned(self._names.chunks)
        table = await self._table(self._names.chunks)
        if table is None or space is None:
            return _NO_ROWS, []
        check_question(vector, space)
        by_bits = space.encoding == "binary"
        with self._place.during("search by vector"):
            query = table.query().nearest_to(pa.array(vector.astype(stored_type(space).to_pandas_dtype())))
            query.distance_type("hamming" if by_bits else "cosine")
            looks_everywhere(query, limit)
            rows = await self._ranked(table, query, limit, where, rank="_distance", whole=whole)
        # A cosine distance is 0 … 2; rounding may leave it a few parts in ten million below zero.
        scale = 2 / space.dimensions if by_bits else 1
        return rows, [min(1.0, 1.0 - scale * distance) for distance in rows["_distance"].to_pylist()]

    async def _matching(
        self, text: str, limit: int, where: Filter, *, whole: bool
    ) -> tuple[pa.Table, list[float]]:
        """The rows, as `_ranked`, and their scores."""
        table = await self._table(self._names.chunks)
        if table is None or not text.strip():
            return _NO_ROWS, []
        words = text.encode("utf-8", "replace").decode()
        asked = _core.MultiMatchQuery(query=words, columns=[*TEXT_COLUMNS])
        with self._place.during("search by words"):
            query = table.query().nearest_to_text({"query": asked})
            rows = await self._ranked(table, query, limit, where, rank="_score", whole=whole)
        return rows, rows["_score"].to_pylist()

    async def _ranked(  # noqa: PLR0913 - what a query is made of
        self,
        table: _core.CoreTable,
        query: _core.CoreQuery,
        limit: int,
        where: Filter,
        *,
        rank: str,
        whole: bool,
    ) -> pa.Table:
        """The best rows: their columns, or just their numbers; with the column that they were ranked by.

        Lance warns where that is left out.
        """
        await self._filter(query, where)
        query.limit(limit)
        if whole:
            query.select_columns([*known(_rows.HIT_COLUMNS, await self._schema(table)), _rows.VECTOR, rank])
        else:
            query.select_columns([rank])
            query.with_row_id()
        return await _core.collected(query, limit)

    async def _filter(self, query: _core.CoreQuery, where: Filter, also: str | None = None) -> None:
        """Have the query see what the filter lets it see, and of that only what this SQL says."""
        if where.access is not None and not await self._has_access(self._names.chunks):
            where = replace(where, access=None)  # nothing here has labels
        named = where.conditions or where.clause
        predicate = _clauses.predicate(where, await self.columns() if named else ())
        if parts := [part for part in (also, predicate) if part]:
            query.where(" AND ".join(parts))

    async def _select(self, name: str, columns: list[str], where: str | None = None) -> pa.Table:
        """These columns of the rows for which `where` holds."""
        table = await self._table(name)
        if table is None:
            raise StoreRefused(f"{self._place} has no table {name}: run `docweave ingest` first")
        with self._place.during(f"read {name}"):
            there = known(columns, await self._schema(table)) if ACCESS in columns else columns
            return await _core.selected(table, there, where)

    async def _beside(self, name: str) -> _core.CoreTable | None:
        """A table that holds no chunks and no documents, made by the first who needs it."""
        table = await self._table(name)
        if table is not None:
            with self._place.during(f"read the schema of {name}"):
                check_form(await table.schema(), f"{self._place}/{name}")
        return table

    async def _table(self, name: str) -> _core.CoreTable | None:
        """A table that follows every commit; None where there is none yet."""
        if name not in self._tables:
            with self._place.during(f"open the table {name}"):
                table = await _core.find(self._connection, name)
                if table is None:
                    return None
                if self._pinned_to_now:
                    await table.checkout(await table.version())
            self._tables[name] = table
        return self._tables[name]


class Snapshot(LanceTables):
    """The tables as they were when each was first looked at: the chunks at once, others as they are read."""

    def __init__(
        self, place: Place, connection: _core.CoreConnection, names: Names, *, stands_still: bool = False
    ) -> None:
        """Of the connection, `stands_still` says that what is opened by it follows no commits anyway."""
        super().__init__(place, connection, names)
        self._pinned_to_now = not stands_still
        self._schemas: dict[str, pa.Schema] = {}

    async def _schema(self, table: _core.CoreTable) -> pa.Schema:
        """Read once: of what stands still."""
        name = table.name()
        if name not in self._schemas:
            self._schemas[name] = await super()._schema(table)
        return self._schemas[name]

    async def snapshot(self) -> LanceTables:
        """This: it is one already."""
        return self

    async def taken(self) -> Self:
        """This, with the chunks as they are now."""
        await self._table(self._names.chunks)
        return self
