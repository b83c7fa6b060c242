"""The LanceDB store: the ingest side."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Self

import anyio
import pyarrow as pa

from pipeline.errors import StoreUnavailable
from pipeline.records import DocumentState, Embedded, EmbeddingSpace, Spending, Vectors
from pipeline.stores import _core, _journal, _predicates, _rows
from pipeline.stores._lease import Lease, Leases
from pipeline.stores._place import Place
from pipeline.stores._reading import LanceTables
from pipeline.stores._schema import JOURNAL, LEASE, LIVE, SPENDING, STAGED, Names, schema_of
from pipeline.stores._shape import check_groups, check_space, check_vectors
from pipeline.stores._tables import Tables, choose, repeated
from pipeline.stores._upkeep import KEEP_JOURNAL, KEEP_VERSIONS, is_scattered, is_slow

if TYPE_CHECKING:
    from lancedb import AsyncTable, Session

log = logging.getLogger(__name__)

CACHES = (64 << 20, 32 << 20)
"""Bytes of indexes and of metadata that are kept in memory. LanceDB's own limits are gigabytes, and every
commit adds to them: 38,000 documents then take 65 MB more."""
JOURNAL_BYTES = 2_000_000_000
"""Two million vectors of 1,024 int8 codes."""
LOOK_AFTER = 50
"""Writes to the journal between two looks at how large it has become."""


class LanceStore(LanceTables):
    """Reads and writes the tables of one embedding space.

    Opening it writes nothing, and does not import the lancedb package, which takes seconds: both are left to
    the first write, so that a run that owes nothing and a plan go without.
    """

    def __init__(
        self,
        place: Place,
        connection: _core.CoreConnection,
        session: Session,
        space: EmbeddingSpace,
        journal_bytes: int,
    ) -> None:
        super().__init__(place, connection, LIVE)
        self._leases = Leases(place, connection)
        self._lease: Lease | None = None
        self._rebuild = False
        self._session = session
        self._space = space
        self._journal_bytes = journal_bytes
        self._journal_writes = 0
        self._writing: Tables | None = None
        self._turn = anyio.Lock()

    @classmethod
    async def open(
        cls,
        uri: str,
        options: Mapping[str, str] = {},
        *,
        space: EmbeddingSpace,
        rebuild: bool = False,
        journal_bytes: int = JOURNAL_BYTES,
    ) -> Self:
        """The store at `uri`; tables that are not there are made by the first write.

        Args:
            uri: A folder, or an object store's address.
            options: What opens the object store, as LanceDB names it.
            space: Of the vectors that will be written.
            rebuild: Where the tables hold another space, write beside them until `publish`; what an earlier
                rebuild left there is taken up again.
            journal_bytes: The most that the journal keeps; the oldest goes first. At 0 it is left alone, and
                nothing is looked up there.

        Raises:
            SpaceMismatch: the tables hold another space, and `rebuild` is not asked for.
            StoreUnavailable: the storage does not answer.
            StoreRefused: it turns us away, the tables are not ours, or the space cannot be stored.
        """
        check_space(space)
        place = Place.at(uri, options)
        with place.during("open the database"):
            session = _core.session(*CACHES)
            connection = await _core.connect(place.uri, options, session)
        store = cls(place, connection, session, space, journal_bytes)
        store._rebuild = rebuild
        store._names = await store._chosen()
        return store

    @asynccontextmanager
    async def lease(
        self, doing: str, *, wait: float = 0, tell: Callable[[str], None] = log.info
    ) -> AsyncIterator[None]:
        """Be the only run that writes these tables until the block ends.

        Args:
            doing: What for, as others are told: "ingesting handbook".
            wait: Seconds for which to wait while another run has them. At 0 it is only looked whether that
                run is alive, which takes up to 20 seconds.
            tell: Is told what is waited for.

        Raises:
            StoreBusy: another run has them, and is alive.
            SpaceMismatch: it has rebuilt them in the meantime.
            StoreError: as `open`.
        """
        while self._lease is None:
            names = self._names
            async with self._leases.held(names.chunks, doing, wait=wait, tell=tell) as lease:
                self._tables.clear()  # whoever had them may have made them anew
                self._names = await self._chosen()
                if self._names is names:
                    self._lease = lease
                    try:
                        yield
                    finally:
                        self._lease = None
                    return
        raise RuntimeError("a store has one lease at a time")

    async def space(self) -> EmbeddingSpace:
        """The space that it was opened for: it holds no other."""
        return self._space

    async def marks(self, source: str) -> dict[str, tuple[str, str]]:
        """(version, recipe) of every stored document of the source, by key.

        Raises:
            StoreError: as `open`.
        """
        where = _predicates.among("source", [source])
        rows = await self._held(self._names.documents, ["key", "version", "recipe"], where)
        recipes: dict[str, str] = {}  # nearly all are equal: one string stands for them
        return {
            key: (version, recipes.setdefault(recipe, recipe))
            for batch in rows.to_batches()
            for key, version, recipe in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        }

    async def states(self, source: str, keys: Sequence[str]) -> dict[str, DocumentState]:
        """What is known of these documents; keys that are not stored are left out.

        Raises:
            StoreError: as `open`.
        """
        found: dict[str, DocumentState] = {}
        for some in _predicates.in_turns(keys):
            where = _predicates.documents((source, key) for key in some)
            rows = await self._held(self._names.documents, _rows.STATE_COLUMNS, where)
            found |= {state.key: state for state in _rows.states(rows)}
        return found

    async def vectors(self, group_keys: Sequence[str]) -> dict[str, Vectors]:
        """Vectors that were paid for already, under whatever document or in the journal.

        Unknown keys are left out.

        Raises:
            StoreError: as `open`.
        """
        found: dict[str, Vectors] = {}
        for some in _predicates.in_turns(group_keys):
            where = _predicates.among("group_key", some)
            rows = await self._held(self._names.chunks, _rows.VECTOR_COLUMNS, where)
            found |= _rows.vectors(rows, self._space)
            missing = [key for key in some if key not in found]
            if missing and self._journal_bytes:
                found |= await repeated(partial(self._journalled, missing))
        return found

    async def journal(self, vectors: Mapping[str, Vectors]) -> None:
        """Keep vectors by group key as soon as they are paid for, whatever becomes of their documents.

        Raises:
            StoreError: as `replace`.
        """
        if not (vectors and self._journal_bytes):
            return
        check_groups(vectors, self._space)
        tables = await self._to_write()
        rows = _journal.journal_rows(vectors, self._space)
        await repeated(lambda: tables.append(JOURNAL, rows))
        self._journal_writes += 1
        if self._journal_writes % LOOK_AFTER == 0:
            await self._tend_journal()

    async def spent(self, spending: Spending) -> None:
        """Keep what a run paid.

        Raises:
            StoreError: as `replace`.
        """
        tables = await self._to_write()
        await tables.append(SPENDING, _rows.spending_row(spending, self._space))

    async def replace(self, documents: Sequence[Embedded]) -> None:
        """Store these documents in place of what was stored under their keys.

        All their chunks in one commit, then their states: a crash between the two costs no vector. Of two
        with one key, the later counts.

        Raises:
            StoreUnavailable: the storage does not answer, or others write too much; storing again is safe.
            StoreRefused: it turns us away, or the vectors are not of the store's space.
        """
        latest = list({(d.prepared.state.source, d.prepared.state.key): d for d in documents}.values())
        if not latest:
            return
        check_vectors(latest, self._space)
        where = _predicates.documents((d.prepared.state.source, d.prepared.state.key) for d in latest)
        tables = await self._to_write()
        with self._place.during("store documents"):
            rows = _rows.chunk_rows(latest, self._space)
            states = _rows.document_rows([d.prepared for d in latest], self._space)
            stored = await self._select(self._names.chunks, ["id"], where)
            stale = not set(stored["id"].to_pylist()) <= set(rows["id"].to_pylist())
            chunks = await tables.get(self._names.chunks)
            await self._still_ours()
            if len(rows):
                await _merge(chunks, rows, delete=where if stale else None)
            elif stale:
                await chunks.delete(where)
            await _merge(await tables.get(self._names.documents), states)

    async def touch(self, states: Sequence[DocumentState]) -> None:
        """Store new marks; the rows stay as they are. What is not stored is left out.

        Raises:
            StoreError: as `replace`.
        """
        latest = list({(state.source, state.key): state for state in states}.values())
        if not latest:
            return
        tables = await self._to_write()
        await self._still_ours()
        with self._place.during("store marks"):
            documents = await tables.get(self._names.documents)
            rows = _rows.state_rows(latest, self._space)
            merge = documents.merge_insert("id").when_matched_update_all().use_index(False)  # noqa: FBT003
            await merge.execute(rows)

    async def remove(self, source: str, keys: Sequence[str]) -> None:
        """Remove these documents' rows: one commit on each table.

        Raises:
            StoreError: as `replace`.
        """
        if not keys:
            return
        where = _predicates.documents((source, key) for key in keys)
        tables = await self._to_write()
        await self._still_ours()
        with self._place.during("remove documents"):
            await (await tables.get(self._names.chunks)).delete(where)
            await (await tables.get(self._names.documents)).delete(where)

    async def upkeep(self) -> None:
        """Compact and extend the indexes, where enough has been written to need it; make room in the journal.

        Another writer may be in the way: then it is left to the next run.

        Raises:
            StoreRefused: the storage turns us away.
        """
        for name in (*self._names.both, SPENDING):
            with self._may_wait(f"compact {name}"):
                table = await self._table(name)
                if table and await is_slow(table):
                    slow = await (await self._to_write()).find(name)
                    if slow:
                        await slow.optimize(cleanup_older_than=KEEP_VERSIONS)
        await self._tend_journal()

    async def publish(self) -> None:
        """Make the tables that were built beside the live ones the live ones. Others: nothing to do.

        Raises:
            StoreError: as `replace`; to publish again completes it.
        """
        if self._names is STAGED:
            tables = await self._to_write()
            async with self._lease.also(LIVE.chunks) if self._lease else nullcontext():
                await self._still_ours()
                await tables.publish()
            self._names = LIVE
            self._tables.clear()

    async def _chosen(self) -> Names:
        """The tables that are to be written, as things stand."""
        live = [await self._pinned(name) for name in LIVE.both]
        return choose(self._place, live, self._space, rebuild=self._rebuild)

    async def _still_ours(self) -> None:
        """Raise if this run had a lease, and another took it over: what it would write is no longer true."""
        if self._lease:
            await self._lease.check()

    async def _tend_journal(self) -> None:
        """Make room where it is over its size, and compact it where that pays."""
        with self._may_wait("make room in the journal"):
            journal = await self._beside(JOURNAL)
            if journal is None or not self._journal_bytes:
                return
            ages = await self._select(JOURNAL, _journal.AGE_COLUMNS)
            gone = _journal.to_evict(ages, self._journal_bytes)
            if gone or await is_scattered(journal):
                tables = await self._to_write()
                async with tables.lease(LEASE) as ours:
                    table = await tables.find(JOURNAL)
                    if ours and table:
                        if gone:
                            await table.delete(f"kept_at <= timestamp '{gone.isoformat()}'")
                        await table.optimize(cleanup_older_than=KEEP_JOURNAL)

    @contextmanager
    def _may_wait(self, what: str) -> Iterator[None]:
        """What is not done now is done by a later run."""
        try:
            with self._place.during(what):
                yield
        except StoreUnavailable as error:
            log.warning("left for the next run: %s", error)

    async def _journalled(self, group_keys: Sequence[str]) -> dict[str, Vectors]:
        """Those that the journal has."""
        where = _predicates.among("group_key", group_keys)
        try:
            if await self._beside(JOURNAL) is None:
                return {}
            rows = await self._select(JOURNAL, _journal.FOUND_COLUMNS, where)
        except StoreUnavailable:
            self._tables.pop(JOURNAL, None)  # somebody may have dropped it
            raise
        return _journal.journalled(rows, self._space)

    async def _to_write(self) -> Tables:
        """The tables, made ready by the first who writes."""
        async with self._turn:
            if self._writing is None:
                import lancedb  # noqa: PLC0415 - see the class

                with self._place.during("open the database"):
                    database = await lancedb.connect_async(
                        self._place.uri,
                        storage_options=dict(self._place.options),
                        read_consistency_interval=timedelta(0),
                        session=self._session,
                    )
                tables = Tables(self._place, database, self._space)
                await self._still_ours()
                await tables.ready(self._names)
                self._tables.clear()  # what was opened to look may have been made anew
                self._writing = tables
        return self._writing

    async def _held(self, name: str, columns: list[str], where: str) -> pa.Table:
        """These columns of the rows for which `where` holds; none while no table of this space is there."""
        if self._writing is None and await self._pinned(name) != self._space:
            return schema_of(name, self._space).empty_table().select(columns)
        return await self._select(name, columns, where)


async def _merge(table: AsyncTable, rows: pa.Table, *, delete: str | None = None) -> None:
    """One commit: rows that are there change, new ones come, and what `delete` names has to be among them.

    Deleting reads the whole table: 240 ms and 230 MB at 100,000 chunks of 1,024 dimensions, against 40 ms
    and 20 MB without.
    """
    merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    if delete:
        merge = merge.when_not_matched_by_source_delete(delete)
    # Through an index on the id, a merge would pass by the primary key's protection.
    await merge.use_index(False).execute(rows)  # noqa: FBT003 - lancedb's signature
