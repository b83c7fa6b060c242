"""The tables that a store writes: of which generation, under which lease; made ready by the first write."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass

import anyio

from pipeline.errors import SpaceMismatch, StoreRefused, StoreUnavailable
from pipeline.records import Column, EmbeddingSpace
from pipeline.stores._abreast import one_at_a_time
from pipeline.stores._column_fields import owed, pinned_columns
from pipeline.stores._columns import OURS
from pipeline.stores._conditional_put import check_conditional_put
from pipeline.stores._generations import Generations, Standing
from pipeline.stores._lease import Lease, Leases, Row
from pipeline.stores._opened import Opened
from pipeline.stores._schema import Names
from pipeline.stores._tables import Tables

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a store was opened for."""

    space: EmbeddingSpace
    columns: Sequence[Column]
    """Of the documents' metadata: tables that lack one get it by the first write."""
    rebuild: bool
    """Whether to write beside the live tables."""
    generation: int | None
    """What an earlier step of the rebuild has staged."""


class Tenure:
    """Says which tables one store writes, and whether it still may."""

    def __init__(self, opened: Opened, wanted: Wanted) -> None:
        self._opened = opened
        self._place = opened.place
        self._wanted = wanted
        self.space = wanted.space
        """Of the vectors that are written."""
        self._generations = Generations(opened.place, opened.connection)
        self._leases = Leases(opened.place, opened.connection)
        self._lease: Lease | None = None
        self._ready: Tables | None = None
        self._making = anyio.Lock()
        self.names = Names()
        """Of the tables that are read and written."""
        self.staged = False
        """Whether these are built beside the live ones."""
        self.reused: Names | None = None
        """The live ones, while others are built and theirs are of the same space."""
        self.writer = ""
        """Names one of several who write under one lease; empty for whoever has it."""

    @property
    def run(self) -> str:
        """Names the lease; empty where there is none."""
        return (self._lease.row.token or "") if self._lease else ""

    @property
    def is_ready(self) -> bool:
        """Whether both tables are there, of the space that is wanted: something was written."""
        return self._ready is not None

    async def choose(self) -> None:
        """Set the tables that are to be read and written, as things stand.

        Raises:
            SpaceMismatch: the live ones hold another space, and are not to be rebuilt.
            StoreRefused: the generation that was asked for is neither live nor staged any more.
        """
        standing, space = await self._generations.read(), self._wanted.space
        live = Names(standing.live)
        held = {await self._opened.space(name) for name in live.both} - {None}
        rebuild = self._wanted.rebuild and bool(held) and self._wanted.generation != standing.live
        if held - {space} and not rebuild:
            raise SpaceMismatch(
                f"{self._place} holds vectors of {held.pop()}, and the settings ask for {space}; "
                "these cannot be compared. Go back to the model that the tables were made with, choose "
                "another store.uri, or build the tables anew with `docweave ingest --rebuild`"
            )
        self.names, self.staged, self.reused = live, rebuild, None
        if rebuild:
            self.names = await self._beside_live(standing)
            self.reused = live if held == {space} else None
        self._opened.forget()
        self._ready = None

    @asynccontextmanager
    async def held(self, doing: str, *, wait: float, tell: Callable[[str], None]) -> AsyncIterator[None]:
        """Be the only run that writes the tables, which are chosen anew, until the block ends.

        Raises:
            StoreBusy: another run has them, and is alive.
            StoreError: as `choose`.
        """
        while self._lease is None:
            staged = self.staged
            async with self._leases.held(
                "staged" if staged else "live", doing, wait=wait, tell=tell
            ) as lease:
                await self.choose()  # whoever had them may have switched
                if self.staged == staged:
                    self._lease = lease
                    try:
                        yield
                    finally:
                        self._lease = None
                    return
        raise RuntimeError("a store has one lease at a time")

    @asynccontextmanager
    async def joined(self, lease: str) -> AsyncIterator[None]:
        """Write beside others under the lease that another process has, until the block ends."""
        row = Row(tables="staged" if self.staged else "live", beat=0, token=lease)
        self._lease = Lease(leases=self._leases, row=row, wait=0, tell=log.info)
        self.writer = uuid.uuid4().hex
        try:
            yield
        finally:
            self._lease, self.writer = None, ""

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Where several write under one lease: those of this machine one after the other."""
        return one_at_a_time(self._place) if self.writer else nullcontext()

    async def check(self) -> None:
        """Raise if what this run would write is no longer true.

        Raises:
            StoreUnavailable: another took its lease over, or its tables are neither live nor staged.
        """
        if self._lease:
            await self._lease.check()
        standing = await self._generations.read()
        if self.names.generation != (standing.staged if self.staged else standing.live):
            raise StoreUnavailable(f"{self._place}: the tables were rebuilt by somebody else while this ran")

    async def tables(self) -> Tables:
        """The tables, made ready by the first who writes.

        Raises:
            StoreError: they cannot be made.
        """
        async with self._making:
            if self._ready is None:
                await check_conditional_put(self._place)
                tables = Tables(self._place, self._opened.connection, self._wanted.space)
                if self._lease:
                    await self._lease.check()
                columns = list(self._wanted.columns)
                if self.staged:
                    columns += await self._columns_of_others()
                    await self._generations.stage(self.names.generation)
                    await tables.clear(await self._generations.read())
                if not (self.writer and await tables.made(self.names, columns)):
                    await tables.make(self.names, columns)
                self._opened.forget()  # what was opened to look may have been made anew
                self._ready = tables
        return self._ready

    async def owes_columns(self) -> bool:
        """Whether columns are wanted that the tables have not, and nobody has written yet who adds them."""
        if self.is_ready or not self._wanted.columns:
            return False
        tables = [await self._opened.find(name) for name in self.names.both]
        return any([owed(await table.schema(), self._wanted.columns) for table in tables if table])

    async def live(self) -> Names:
        """The live tables, whichever are written."""
        return await self._generations.names()

    def of_live_too(self) -> AbstractAsyncContextManager[None]:
        """Have the lease of the live tables beside that of the staged ones; without any, none is needed."""
        return self._lease.also("live") if self._lease else nullcontext()

    async def switch(self) -> None:
        """Make the staged tables the live ones: one commit. What is left over then is dropped."""
        tables = await self.tables()
        await self._generations.switch(self.names.generation)
        self.staged, self.reused = False, None
        await tables.clear(await self._generations.read())

    async def _beside_live(self, standing: Standing) -> Names:
        """The tables of the rebuild that is under way, if it is to this space, or of a new one."""
        if self._wanted.generation not in (None, standing.staged):
            raise StoreRefused(f"{self._place}: another rebuild has taken this one's place")
        if standing.staged is not None:
            names = Names(standing.staged)
            if {await self._opened.space(name) for name in names.both} <= {self._wanted.space, None}:
                return names
        return Names(standing.last + 1)

    async def _columns_of_others(self) -> list[Column]:
        """Columns of the live tables that are not wanted here: a rebuild keeps them."""
        live = await self._opened.find((await self.live()).chunks)
        if live is None:
            return []
        mine = OURS.union(column.name for column in self._wanted.columns)
        with self._place.during("read the columns of the live tables"):
            return [column for column in pinned_columns(await live.schema()) if column.name not in mine]
