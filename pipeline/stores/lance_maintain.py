"""Tending all tables of a database: what `docweave maintain` does. See docs/upkeep.md."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import StoreBusy, StoreUnavailable
from pipeline.stores import _core
from pipeline.stores._generations import Generations, Standing
from pipeline.stores._journal import KEEP_JOURNAL
from pipeline.stores._lease import Lease, Leases
from pipeline.stores._maintenance import Subject, look, work
from pipeline.stores._place import Place
from pipeline.stores._schema import JOURNAL, LEASE, LIVE, RUNS, SPENDING, Names, pinned_space
from pipeline.stores._tables import Tables
from pipeline.upkeep import Policy, Tended

CACHES = (64 << 20, 32 << 20)
"""Bytes of indexes and of metadata that are kept in memory."""


async def maintain(  # noqa: PLR0913 - a place, and what a run is asked by name
    uri: str,
    options: Mapping[str, str] = {},
    *,
    policy: Policy = Policy(),  # noqa: B008 - frozen
    wait: float = 0,
    tell: Callable[[str], None],
    dry_run: bool = False,
) -> list[Tended]:
    """Do what is due for each table: compact it, index it, clear away what nobody needs any more.

    Nothing that is searched changes by it. It may be stopped at any moment, and goes on the next time.

    Args:
        uri: As `LanceReader.open`.
        options: As `LanceReader.open`.
        policy: What it keeps to.
        wait: Seconds for which to wait while a run writes the tables.
        tell: Is told what is waited for, and what is begun.
        dry_run: Do nothing, and give what is due.

    Returns:
        What was done for each table, or is due; empty where there is no table.

    Raises:
        StoreBusy: another run writes the tables, and is alive.
        StoreUnavailable: the storage does not answer, or another run took the tables over.
        StoreRefused: it turns us away, or the tables are not ours.
    """
    place = Place.at(uri, options)
    connection = await place.opened(_core.connect(place.uri, place.options, _core.session(*CACHES)))
    generations = Generations(place, connection)
    tables = await _tables(place, connection, await generations.names())
    if tables is None:
        return []
    keeper = _Keeper(place=place, generations=generations, tables=tables, policy=policy, tell=tell)
    if dry_run:
        return [tended async for tended in keeper.each(None, staged=True)]
    leases = Leases(place, connection)
    async with AsyncExitStack() as stack:
        lease = await stack.enter_async_context(leases.held("live", "maintaining", wait=wait, tell=tell))
        staged = True
        try:
            await stack.enter_async_context(leases.held("staged", "maintaining", wait=0, tell=tell))
        except StoreBusy as error:
            tell(f"the tables of a rebuild are left alone: {error}")
            staged = False
        return [tended async for tended in keeper.each(lease, staged=staged)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keeper:
    """Goes from table to table."""

    place: Place
    generations: Generations
    tables: Tables
    policy: Policy
    tell: Callable[[str], None]

    async def each(self, lease: Lease | None, *, staged: bool) -> AsyncIterator[Tended]:
        """What was done for each table; without a lease, what is due.

        Args:
            lease: Of the live tables.
            staged: Whether the lease of those that a rebuild builds is there, too.
        """
        standing = await self.generations.read()
        async for gone in self._outlived(standing, lease):
            yield gone
        if lease and staged:  # what somebody who was killed has not cleared away
            await lease.check()
            await self.tables.clear(await self.generations.read())
        standing = await self.generations.read()
        numbers = [standing.live, standing.previous, standing.staged if staged else None]
        for names in (Names(number) for number in numbers if number is not None):
            for name in names.both:
                async for tended in self._tended(name, lease, chunks=name == names.chunks, alone=True):
                    yield tended
        for name in (JOURNAL, SPENDING, RUNS, LIVE):
            async for tended in self._tended(name, lease, alone=staged):
                yield tended

    async def _outlived(self, standing: Standing, lease: Lease | None) -> AsyncIterator[Tended]:
        """The tables from before a rebuild, when they have been kept for long enough."""
        since, keep = standing.switched_at, self.policy.keep_previous
        if standing.previous is None or since is None or datetime.now(UTC) - since.astimezone(UTC) < keep:
            return
        for name in Names(standing.previous).both:
            subject = await self._subject(name)
            if subject:
                with self.place.during(f"look at {name}"):
                    tended = Tended(table=name, rows=(await look(subject)).rows, dropped=True)
                    yield replace(tended, bytes_before=subject.bytes, bytes_after=0)
        if lease:
            await lease.check()
            await self.generations.forget_previous()
            await self.tables.clear(await self.generations.read())

    async def _tended(
        self, name: str, lease: Lease | None, *, chunks: bool = False, alone: bool
    ) -> AsyncIterator[Tended]:
        """What was done for a table, or is due; nothing where it is not there."""
        subject = await self._subject(name, chunks=chunks, alone=alone)
        if subject is None:
            return
        if lease is None:
            with self.place.during(f"look at {name}"):
                yield await look(subject)
            return
        await lease.check()
        self.tell(f"looking after {name}")
        try:
            with self.place.during(f"look after {name}"):
                yield await self._worked(subject)
        except StoreUnavailable as error:  # somebody without a lease was in the way
            yield Tended(table=name, rows=0, kept=f"left for the next time: {error}")

    async def _worked(self, subject: Subject) -> Tended:
        if subject.name != JOURNAL:
            return await work(subject)
        async with self.tables.lease(LEASE) as ours:
            return await work(subject) if ours else replace(await look(subject), kept="another run is at it")

    async def _subject(self, name: str, *, chunks: bool = False, alone: bool = False) -> Subject | None:
        table = await self.tables.find(name)
        if table is None:
            return None
        keep = KEEP_JOURNAL if name == JOURNAL else self.policy.keep_versions
        return Subject(
            table=table,
            name=name,
            folder=None if "://" in self.place.uri else Path(self.place.uri) / f"{name}.lance",
            policy=replace(self.policy, keep_versions=keep),
            chunks=chunks,
            alone=alone,
        )


async def _tables(place: Place, connection: _core.CoreConnection, live: Names) -> Tables | None:
    """The database, for writing; None where nothing has been stored yet."""
    with place.during(f"open the table {live.chunks}"):
        table = await _core.find(connection, live.chunks)
        if table is None:
            return None
        schema = await table.schema()
    return Tables(place, connection, pinned_space(schema, f"{place}/{live.chunks}"))
