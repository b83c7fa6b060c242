"""The tables of a database as they are read: opened once, by name, and what their schemas say."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa

from pipeline.errors import StoreRefused
from pipeline.records import Column, EmbeddingSpace
from pipeline.stores import _core, _predicates
from pipeline.stores._column_fields import has_access, known, pinned_columns
from pipeline.stores._place import Place
from pipeline.stores._schema import ACCESS, check_form, pinned_space


class Opened:
    """The tables of one database. Every look sees what the last commit wrote.

    What is not there yet is looked for again the next time.
    """

    def __init__(self, place: Place, connection: _core.CoreConnection) -> None:
        self.place = place
        self.connection = connection
        self._tables: dict[str, _core.CoreTable] = {}

    def still(self) -> Still:
        """The same, of which each table stays as it is when it is first looked at."""
        return Still(self.place, self.connection)

    def forget(self, *names: str) -> None:
        """Open these tables anew, or all of them: others may have been made in their place."""
        for name in names or [*self._tables]:
            self._tables.pop(name, None)

    async def find(self, name: str) -> _core.CoreTable | None:
        """A table; None where there is none yet."""
        if name not in self._tables:
            with self.place.during(f"open the table {name}"):
                table = await self._open(name)
            if table is None:
                return None
            self._tables[name] = table
        return self._tables[name]

    async def beside(self, name: str) -> _core.CoreTable | None:
        """A table that holds no chunks and no documents, made by the first who needs it.

        Raises:
            StoreRefused: it is not ours.
        """
        table = await self.find(name)
        if table is not None:
            with self.place.during(f"read the schema of {name}"):
                check_form(await table.schema(), f"{self.place}/{name}")
        return table

    async def schema(self, name: str) -> pa.Schema | None:
        """A table's columns, and what is pinned to them; None where there is no table."""
        table = await self.find(name)
        if table is None:
            return None
        with self.place.during("read the tables' schema"):
            return await self._schema(table)

    async def space(self, name: str) -> EmbeddingSpace | None:
        """The space that is pinned to a table; None where there is none.

        Raises:
            StoreRefused: it is not ours.
        """
        schema = await self.schema(name)
        return None if schema is None else pinned_space(schema, f"{self.place}/{name}")

    async def columns(self, name: str) -> Sequence[Column]:
        """Those of metadata that a table has: what the settings declare, or did once."""
        schema = await self.schema(name)
        return () if schema is None else pinned_columns(schema)

    async def seen_by(self, name: str, access: Collection[str] | None) -> str | None:
        """The rows of a table that somebody with these labels may see; None for all.

        Tables that an earlier Docweave made get labels with the next write.
        """
        if access is None:
            return None
        schema = await self.schema(name)
        return _predicates.seen_by(access) if schema is not None and has_access(schema) else None

    async def select(self, name: str, columns: list[str], where: str | None = None) -> pa.Table:
        """These columns of the rows for which `where` holds.

        Raises:
            StoreRefused: there is no such table.
        """
        table = await self.find(name)
        if table is None:
            raise StoreRefused(f"{self.place} has no table {name}: run `docweave ingest` first")
        with self.place.during(f"read {name}"):
            there = known(columns, await self._schema(table)) if ACCESS in columns else columns
            return await _core.selected(table, there, where)

    async def _open(self, name: str) -> _core.CoreTable | None:
        return await _core.find(self.connection, name)

    async def _schema(self, table: _core.CoreTable) -> pa.Schema:
        return await table.schema()


class Still(Opened):
    """The tables as they were when each was first looked at."""

    def __init__(self, place: Place, connection: _core.CoreConnection, *, follows_none: bool = False) -> None:
        """Of the connection, `follows_none` says that what is opened by it follows no commits anyway."""
        super().__init__(place, connection)
        self._follows_none = follows_none
        self._schemas: dict[str, pa.Schema] = {}

    def still(self) -> Still:
        """These: they stand still already."""
        return self

    async def _open(self, name: str) -> _core.CoreTable | None:
        table = await super()._open(name)
        if table is not None and not self._follows_none:
            await table.checkout(await table.version())
        return table

    async def _schema(self, table: _core.CoreTable) -> pa.Schema:
        name = table.name()
        if name not in self._schemas:
            self._schemas[name] = await super()._schema(table)
        return self._schemas[name]
