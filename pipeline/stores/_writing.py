"""Writing documents: their rows in one table, their marks in the other, one commit each.

A run may be stopped between the two. Which documents a batch is about stands in the first, and whoever has
the lease next looks at these: see `_halves`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from pipeline.records import Column, DocumentState, Embedded
from pipeline.stores import _halves, _predicates, _replacing, _rows
from pipeline.stores._column_fields import drop
from pipeline.stores._core_writing import Merge, merge
from pipeline.stores._halves import Pair
from pipeline.stores._schema import Names
from pipeline.stores._tables import Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class BothTables:
    """The two tables of a generation, as one run writes them."""

    tables: Tables
    names: Names
    run: str
    """Names the lease under which they are written; empty where there is none."""
    writer: str
    """Names one of several who write under it; empty for whoever has it."""
    still_ours: _replacing.StillOurs
    turn: Callable[[], AbstractAsyncContextManager[None]]
    """In which those who write under it commit, one after the other."""

    async def put(
        self, documents: Sequence[Embedded], of_chunks: Sequence[Column], of_documents: Sequence[Column]
    ) -> None:
        """Store documents in place of what is stored under their keys.

        Args:
            documents: One for each key.
            of_chunks: The declared columns that the table of chunks has.
            of_documents: Those that the table of documents has.
        """
        with self.tables.place.during("store documents"):
            prepared = [document.prepared for document in documents]
            rows = _rows.chunk_rows(documents, self.tables.space, of_chunks)
            marks = _rows.document_rows(prepared, self.tables.space, of_documents)
            pairs = [(one.state.source, one.state.key) for one in prepared]
            chunks = partial(self.tables.get, self.names.chunks)
            # Through an index on the id, a merge would pass by the primary key's protection.
            anew = Merge(when_matched_update_all=True, when_not_matched_insert_all=True)
            async with self.turn():
                await _replacing.put(rows, pairs, self._about(pairs), chunks, self.still_ours)
                await merge(await self.tables.get(self.names.documents), marks, anew)

    async def mark(self, states: Sequence[DocumentState]) -> None:
        """Store new marks of documents that are stored: one for each key."""
        await self.still_ours()
        with self.tables.place.during("store marks"):
            rows = _rows.state_rows(states, self.tables.space)
            async with self.turn():
                documents = await self.tables.get(self.names.documents)
                await merge(documents, rows, Merge(when_matched_update_all=True))

    async def remove(self, pairs: Sequence[Pair]) -> None:
        """Remove all rows of these documents."""
        await self.still_ours()
        with self.tables.place.during("remove documents"):
            where = _predicates.documents(pairs)
            chunks = partial(self.tables.get, self.names.chunks)
            schema = await (await chunks()).schema()
            await _replacing.announce(self._about(pairs), schema, chunks, self.still_ours)
            await (await chunks()).delete(where)
            await (await self.tables.get(self.names.documents)).delete(where)

    async def remove_chunks(self, pairs: Sequence[Pair]) -> None:
        """Remove the chunks of documents that have no marks."""
        await self.still_ours()
        with self.tables.place.during("remove what a stopped run left"):
            await (await self.tables.get(self.names.chunks)).delete(_predicates.documents(pairs))

    async def drop_columns(self, names: Sequence[str]) -> None:
        """Drop those of these columns that are of metadata."""
        await self.still_ours()
        with self.tables.place.during("drop columns"):
            # The chunks last: if it is stopped in between, they still tell that the column is there.
            for name in reversed(self.names.both):
                await drop(await self.tables.get(name), names)

    def _about(self, pairs: Sequence[Pair]) -> Callable[[str | None], str]:
        return lambda told: _halves.about(pairs, told, run=self.run, writer=self.writer)
