"""Making, opening and exchanging the tables of a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import anyio
import pyarrow as pa

from pipeline.errors import SpaceMismatch, StoreError, StoreRefused, StoreUnavailable
from pipeline.records import Column, EmbeddingSpace
from pipeline.stores import _core
from pipeline.stores._column_fields import grow, grow_later, lacking, owed, with_columns
from pipeline.stores._core_writing import Merge, add, merge
from pipeline.stores._generations import Standing
from pipeline.stores._indexes import FIRST
from pipeline.stores._place import Place
from pipeline.stores._replacing import ensure_turn, first_turn
from pipeline.stores._schema import Names, check_form, pinned_space, schema_of

if TYPE_CHECKING:
    from pipeline.stores._core import CoreConnection, CoreTable

ATTEMPTS = 5
"""How often something is tried that others may be in the way of."""
LEASE_ENDS = timedelta(hours=1)
TAKEN_KEY = b"docweave.taken"
Outcome = TypeVar("Outcome")


async def repeated(attempt: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """What it gives, in the end. For what may be done twice, and may have a file taken from under it.

    Raises:
        StoreUnavailable: it has failed too often.
    """
    for number in range(1, ATTEMPTS):
        with suppress(StoreUnavailable):
            return await attempt()
        await asyncio.sleep(0.05 * number)
    return await attempt()


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one database, for writing."""

    place: Place
    connection: CoreConnection
    space: EmbeddingSpace

    async def find(self, name: str) -> CoreTable | None:
        """A fresh handle of a table; None where there is none."""
        with self.place.during(f"open the table {name}"):
            return await _core.find(self.connection, name)

    async def get(self, name: str) -> CoreTable:
        """A fresh handle of a table that is there, for writing.

        Raises:
            StoreRefused: somebody took it away.
            SpaceMismatch: somebody put one of another space in its place.
        """
        table = await self.find(name)
        if table is None:
            raise StoreRefused(f"{self.place} has no table {name} any more: run `docweave ingest` again")
        space = await self._space_of(table)
        if space != self.space:
            raise SpaceMismatch(
                f"{self.place}: {name} was rebuilt by somebody else while this ran: "
                f"it holds vectors of {space} now, and no more of {self.space}"
            )
        return table

    async def append(self, name: str, rows: pa.Table) -> None:
        """One commit of rows that are only ever added; the table is made where it is not there.

        Raises:
            StoreRefused: the table is not ours.
        """
        async with self._beside(name, rows.schema, f"add to {name}") as table:
            await add(table, rows)

    async def put(self, name: str, rows: pa.Table, *, by: str) -> None:
        """One commit of rows, each in place of the one with the same value of a column. As `append` else.

        Raises:
            StoreRefused: the table is not ours.
        """
        async with self._beside(name, rows.schema, f"write {name}") as table:
            every = Merge(on=(by,), when_matched_update_all=True, when_not_matched_insert_all=True)
            await merge(table, rows, every)

    @asynccontextmanager
    async def _beside(self, name: str, schema: pa.Schema, doing: str) -> AsyncIterator[CoreTable]:
        """A table beside those of documents, made where it is not there, for what is done to it."""
        await self._make(name, schema.empty_table())
        with self.place.during(doing):
            table = await self.connection.open_table(name)
            check_form(await table.schema(), f"{self.place}/{name}")
            yield table

    async def make(self, names: Names, columns: Sequence[Column] = ()) -> None:
        """Both tables and their first indexes, where they are not there; others may be at it too."""
        chunk_schema, document_schema = [
            with_columns(schema_of(name, self.space), columns) for name in names.both
        ]
        await self._make(names.chunks, first_turn(chunk_schema))
        await self._make(names.documents, document_schema.empty_table())
        for name in names.both:
            with self.place.during(f"add columns to {name}"):
                table = await self.get(name)
                if later := lacking(name, await table.schema()):
                    await grow_later(table, later)
                if owed(await table.schema(), columns):
                    await grow(table, columns)
        await self.index(names.chunks)
        chunks = await self.get(names.chunks)
        with self.place.during(f"look for the turn of {names.chunks}"):
            await ensure_turn(chunks)

    async def made(self, names: Names, columns: Sequence[Column]) -> bool:
        """Whether both tables are there with these columns: for who joins a run, which sees to the rest."""
        for name in names.both:
            table = await self.find(name)
            if table is None:
                return False
            with self.place.during(f"read the schema of {name}"):
                schema = await table.schema()
            if lacking(name, schema) or owed(schema, columns):
                return False
        return True

    async def index(self, name: str) -> None:
        """The indexes that a chunks table has from the start. They hide no row that is not in them yet."""
        for attempt in range(ATTEMPTS):
            table = await self.get(name)
            with self.place.during(f"read the indexes of {name}"):
                there = {column for index in await table.list_indices() for column in index.columns}
            missing = [column for column in FIRST if column not in there]
            if not missing:
                return
            try:
                with self.place.during(f"index {missing[0]} of {name}"):
                    await table.create_index(missing[0], FIRST[missing[0]], replace=False, train=True)
            except StoreError:  # another process made it in the meantime
                if attempt == ATTEMPTS - 1:
                    raise
                await asyncio.sleep(0.05 * (attempt + 1))

    async def clear(self, standing: Standing) -> None:
        """Drop the tables of generations that are none any more: states first, so that none lacks rows."""
        with self.place.during("list the tables"):
            there = await _core.names(self.connection)
        for name in sorted(standing.left_over(there), reverse=True):
            await self.drop(name)

    @asynccontextmanager
    async def lease(self, name: str) -> AsyncIterator[bool]:
        """Whether nobody else has the lease of this name; then nobody else gets it before this ends.

        It is a table without rows: to make one is the only thing that just one of several can succeed in on
        every storage. What a process that died has left is cleared away after `LEASE_ENDS`.
        """
        nothing = pa.schema([], metadata={TAKEN_KEY: datetime.now(UTC).isoformat()}).empty_table()
        try:
            with self.place.during(f"make the table {name}"):
                await self.connection.create_table(name, "create", nothing.to_reader())
        except StoreError:
            await self._clear_lease(name)
            yield False
            return
        try:
            yield True
        finally:
            with anyio.CancelScope(shield=True):
                await self.drop(name)

    async def _clear_lease(self, name: str) -> None:
        table = await self.find(name)
        taken = ((await table.schema()).metadata or {}).get(TAKEN_KEY) if table else None
        if taken and datetime.now(UTC) - datetime.fromisoformat(taken.decode()) > LEASE_ENDS:
            await self.drop(name)

    async def drop(self, name: str) -> None:
        """Drop a table, if it is there."""
        with self.place.during(f"drop the table {name}"):
            await _core.drop(self.connection, name)

    async def _space_of(self, table: CoreTable) -> EmbeddingSpace:
        with self.place.during(f"read the schema of {table.name()}"):
            schema = await table.schema()
        return pinned_space(schema, f"{self.place}/{table.name()}")

    async def _make(self, name: str, rows: pa.Table) -> None:
        for attempt in range(ATTEMPTS):
            if await self.find(name) is not None:
                return
            try:
                with self.place.during(f"make the table {name}"):
                    await self.connection.create_table(name, "exist_ok", rows.to_reader())
            except StoreError:  # another process made it in the meantime
                if attempt == ATTEMPTS - 1:
                    raise
                await asyncio.sleep(0.05 * (attempt + 1))
