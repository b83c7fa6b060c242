"""One run at a time writes a pair of tables: see docs/adr/0006.

A row of the table `leases` says who has them. It is changed only by updates that name what was read before
(`beat`), of which one of several succeeds on every storage that LanceDB writes to.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import anyio
import pyarrow as pa

from pipeline.errors import StoreBusy, StoreError, StoreRefused, StoreUnavailable
from pipeline.stores import _core
from pipeline.stores._conditional_put import check_conditional_put
from pipeline.stores._place import Place
from pipeline.stores._predicates import literal
from pipeline.stores._process import is_gone, this_process
from pipeline.stores._schema import LEASED, LEASES, check_form, leases_schema

log = logging.getLogger(__name__)

ABANDONED_AFTER = 60.0
"""Seconds, by the observer's own clock, without a change of the lease: then its holder is taken for dead."""
BEATS = 3
"""How often a holder renews its lease in that time."""
LOOKS = 60
"""How often one who waits looks in that time."""
TIDY_EVERY = 50
"""Changes of a row between two clearings: each leaves a few small files."""
KEEP = 600_000
"""Milliseconds that earlier versions of the table stay: somebody may just be reading one."""
LET_GO_SECONDS = 10.0
"""What giving a lease back may take at the end of a run that was cancelled, or whose storage is gone."""
FREE: Final = ("token", "host", "pid", "process", "doing", "since")
"""What is empty where nobody has the lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A lease as it stands in the table."""

    tables: str
    beat: int
    """Grows with every change."""
    token: str | None
    """Of whoever has it; None where nobody has."""
    host: str | None = None
    pid: int | None = None
    process: str | None = None
    doing: str | None = None
    since: datetime | None = None

    def __str__(self) -> str:
        """Who has it, and for what."""
        since = f" since {self.since:%Y-%m-%d %H:%M} UTC" if self.since else ""
        return f"the run on {self.host} (process {self.pid}), which has been {self.doing}{since}"


@dataclass(slots=True, kw_only=True)
class Lease:
    """A lease that this run has, as long as nobody takes it over."""

    leases: Leases
    row: Row
    wait: float
    tell: Callable[[str], None]

    @asynccontextmanager
    async def also(self, tables: str) -> AsyncIterator[None]:
        """Have the lease of other tables, too, waited for in the same way."""
        async with self.leases.held(tables, self.row.doing or "", wait=self.wait, tell=self.tell):
            yield

    async def check(self) -> None:
        """Raise unless this run still has it.

        Raises:
            StoreUnavailable: another run took it over.
        """
        now = await self.leases.read(self.row.tables)
        if now.token != self.row.token:
            other = now if now.token else "another run"
            raise StoreUnavailable(
                f"{self.leases.place}: this run was not heard of for {ABANDONED_AFTER:g} s, and its tables "
                f"were taken over by {other}. It writes nothing more; what it paid for is in the journal"
            )

    async def renew(self) -> None:
        """Show again and again that this run is alive, until it is cancelled or the lease is lost."""
        for number in itertools.count(1):
            await asyncio.sleep(ABANDONED_AFTER / BEATS)
            try:
                if not await self.leases.change(self.row, {"beat": "beat + 1"}):
                    return  # `check` tells it to whoever writes
                await self.leases.tidy(number)
            except StoreError as error:
                log.warning("a lease could not be renewed: %s", error)


FORMERLY: Final = {"live": "chunks", "staged": "chunks_next"}
"""How the rows are called in tables that were made before there were generations."""
SETTLED_AFTER = 0.5
"""Seconds for which a table that nobody has used yet is left alone: of several runs that make it at the same
moment, the last may put a free one in the place of one that was taken already."""


class Leases:
    """The leases of one database. Without the lancedb package: most runs take one, and owe nothing."""

    def __init__(self, place: Place, connection: _core.CoreConnection) -> None:
        self.place = place
        self._connection = connection
        self._table: _core.CoreTable | None = None

    @asynccontextmanager
    async def held(
        self, tables: str, doing: str, *, wait: float, tell: Callable[[str], None]
    ) -> AsyncIterator[Lease]:
        """The lease of these tables, renewed until the block ends, and then given back.

        Args:
            tables: One of `LEASED`.
            doing: What for, as in "ingesting handbook".
            wait: Seconds for which to wait while another run has it. At 0 it is looked only whether that run
                is alive.
            tell: Is told what is waited for.

        Raises:
            StoreBusy: another run has it, and is alive.
            StoreError: the storage does not answer, or turns us away.
        """
        await check_conditional_put(self.place)
        lease = Lease(leases=self, row=_claim(tables, doing), wait=wait, tell=tell)
        refused = False
        try:
            try:
                await self._take(lease.row, wait, tell)
            except StoreRefused:
                refused = True
                raise
            beating = asyncio.create_task(lease.renew())
            try:
                yield lease
            finally:
                beating.cancel()
                with anyio.move_on_after(LET_GO_SECONDS, shield=True):
                    await asyncio.wait([beating])
        finally:  # also if it was cancelled while it took it: the write may have gone through
            if not refused:
                with anyio.move_on_after(LET_GO_SECONDS, shield=True):
                    await self._give_back(lease.row)

    async def read(self, tables: str) -> Row:
        """The lease of these tables as it stands.

        Raises:
            StoreError: as `held`.
        """
        found = await self._rows(tables)
        if not found:
            await self._rename(FORMERLY[tables], tables)
            found = await self._rows(tables)
        if len(found) != 1:
            raise StoreRefused(
                f"{self.place}/{LEASES} has {len(found)} rows for {tables}, and must have one: drop that "
                "table while nothing is ingested"
            )
        return found[0]

    async def change(self, row: Row, values: Mapping[str, str], *, unchanged: bool = False) -> bool:
        """Set columns of a lease to these SQL values, if it is as it was.

        Args:
            row: What it was: the same token. With `unchanged` the same beat, too.
            values: What is set.
            unchanged: See above.

        Returns:
            Whether it was. False, too, where somebody came in between and LanceDB gave up: read it again.

        Raises:
            StoreError: as `held`.
        """
        where = [f"tables = {literal(row.tables)}"]
        where.append(f"token = {literal(row.token)}" if row.token else "token IS NULL")
        if unchanged:
            where.append(f"beat = {row.beat}")
        table = await self._opened()
        with self.place.during(f"write {LEASES}"):
            return (await table.update(dict(values), " AND ".join(where))).rows_updated == 1

    async def tidy(self, change: int) -> None:
        """Clear earlier versions away after this change, now and then."""
        if change % TIDY_EVERY > 1:  # a run that is short makes two
            return
        try:
            with self.place.during(f"compact {LEASES}"):
                await (await self._opened()).optimize(cleanup_since_ms=KEEP, delete_unverified=False)
        except StoreUnavailable as error:
            log.info("left for another run: %s", error)

    async def _take(self, claim: Row, wait: float, tell: Callable[[str], None]) -> None:
        """Take the lease as soon as it is free, or whoever had it is gone or silent for too long."""
        began = anyio.current_time()
        if not (await self.read(claim.tables)).beat:
            await anyio.sleep(SETTLED_AFTER)
        seen, seen_at, alive, told = await self.read(claim.tables), began, False, ""
        while True:
            now = anyio.current_time()
            lost = _lost(seen, now - seen_at)
            if not seen.token or lost:
                if lost:
                    tell(f"taking over from {seen}: {lost}")
                if await self._claimed(claim, seen):
                    return
            elif alive and now - began >= wait:
                raise StoreBusy(f"{self.place}: another run has the tables: {seen}{_waited(wait)}")
            elif seen.token != told:
                told = seen.token
                tell(f"{'waiting for' if wait else 'there is'} {seen}")
            await anyio.sleep(ABANDONED_AFTER / LOOKS if seen.token else 0)
            row = await self.read(claim.tables)
            if row.beat != seen.beat:
                seen, seen_at, alive = row, anyio.current_time(), True

    async def _claimed(self, claim: Row, seen: Row) -> bool:
        """Whether the lease, as it was seen, is ours now. A write may go through without our knowing."""
        values = {name: _sql(getattr(claim, name)) for name in FREE}
        try:
            if await self.change(seen, {**values, "beat": "beat + 1"}, unchanged=True):
                await self.tidy(seen.beat + 1)
                return True
        except StoreUnavailable as error:
            log.warning("a lease could not be taken: %s", error)
        return (await self.read(claim.tables)).token == claim.token

    async def _give_back(self, row: Row) -> None:
        """Leave the lease to the next. What does not work is told: the next waits until it is abandoned."""
        try:
            await self.change(row, {**dict.fromkeys(FREE, "NULL"), "beat": "beat + 1"})
        except StoreError as error:
            log.warning("a lease could not be given back: %s", error)

    async def _rows(self, tables: str) -> list[Row]:
        table = await self._opened()
        with self.place.during(f"read {LEASES}"):
            query = table.query()
            query.where(f"tables = {literal(tables)}")
            return [Row(**row) for row in (await _core.collected(query)).to_pylist()]

    async def _rename(self, old: str, tables: str) -> None:
        """Take over the row of an earlier version. Whoever has that lease is waited for, as anybody is."""
        table = await self._opened()
        with self.place.during(f"write {LEASES}"):
            renamed = {"tables": literal(tables), "beat": "beat + 1"}
            await table.update(renamed, f"tables = {literal(old)}")

    async def _opened(self) -> _core.CoreTable:
        """The table, made by the first who needs it: with a row for each pair of tables, in one commit."""
        while self._table is None:
            with self.place.during(f"open the table {LEASES}"):
                table = await _core.find(self._connection, LEASES)
                if table is None:
                    await self._make()
                    continue
                check_form(await table.schema(), f"{self.place}/{LEASES}")
                self._table = table
        return self._table

    async def _make(self) -> None:
        free = [{"tables": tables, "beat": 0} for tables in LEASED]
        rows = pa.Table.from_pylist(free, schema=leases_schema())
        try:
            await self._connection.create_table(LEASES, "create", rows.to_reader())
        except (ValueError, RuntimeError) as error:  # another process made it in the meantime
            if "already exists" not in str(error):
                raise


def _claim(tables: str, doing: str) -> Row:
    """This run, as it will stand in the row."""
    return Row(
        tables=tables,
        beat=0,
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        process=this_process(),
        doing=doing,
        since=datetime.now(UTC),
    )


def _lost(row: Row, silent: float) -> str:
    """Why whoever has it is taken for dead; empty while it is not."""
    if row.process and is_gone(row.process):
        return "that process has ended"
    return f"it has not been heard of for {silent:.0f} s" if silent >= ABANDONED_AFTER else ""


def _waited(wait: float) -> str:
    return f"; waited {wait / 60:g} min for it (store.wait_minutes)" if wait else ""


def _sql(value: str | int | datetime | None) -> str:
    if isinstance(value, datetime):
        return f"timestamp '{value.isoformat()}'"
    return "NULL" if value is None else literal(value) if isinstance(value, str) else str(value)
