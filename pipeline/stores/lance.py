"""The LanceDB store: the ingest side."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Self

import anyio
import pyarrow as pa

from pipeline.errors import SpaceMismatch, StoreRefused, StoreUnavailable
from pipeline.protocols import Lost
from pipeline.records import Column, DocumentState, Embedded, EmbeddingSpace, LatestRun, Spending, Vectors
from pipeline.stores import _core, _halves, _journal, _predicates, _replacing, _rows
from pipeline.stores._abreast import one_at_a_time
from pipeline.stores._column_fields import drop, owed, pinned_columns
from pipeline.stores._columns import OURS, Unfit, check_columns
from pipeline.stores._conditional_put import check_conditional_put
from pipeline.stores._core_writing import Merge, merge
from pipeline.stores._generations import Generations, Standing
from pipeline.stores._lease import Lease, Leases, Row
from pipeline.stores._place import Place
from pipeline.stores._reading import LanceTables
from pipeline.stores._schema import JOURNAL, LEASE, RUNS, SPENDING, Names, schema_of
from pipeline.stores._shape import check_groups, check_keys, check_space, check_vectors
from pipeline.stores._tables import Tables, repeated
from pipeline.stores._text import well_formed
from pipeline.stores._upkeep import KEEP_JOURNAL, is_scattered, is_slow, tend
from pipeline.upkeep import Policy

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

    Opening it writes nothing: the tables are made by the first write.
    """

    def __init__(
        self,
        place: Place,
        connection: _core.CoreConnection,
        space: EmbeddingSpace,
        journal_bytes: int,
    ) -> None:
        super().__init__(place, connection, Names())
        self._generations = Generations(place, connection)
        self._leases = Leases(place, connection)
        self._lease: Lease | None = None
        self._writer = ""
        self._rebuild = False
        self._generation: int | None = None
        self._staged = False
        self._reused: Names | None = None
        self._space = space
        self._journal_bytes = journal_bytes
        self._journal_writes = 0
        self._writing: Tables | None = None
        self._turn = anyio.Lock()
        self._declared: Sequence[Column] = ()
        self._unfit = Unfit()
        self._policy = Policy()

    @classmethod
    async def open(  # noqa: PLR0913 - two that every store has, and its settings by name
        cls,
        uri: str,
        options: Mapping[str, str] = {},
        *,
        space: EmbeddingSpace,
        rebuild: bool = False,
        generation: int | None = None,
        journal_bytes: int = JOURNAL_BYTES,
        columns: Sequence[Column] = (),
        policy: Policy = Policy(),  # noqa: B008 - frozen
    ) -> Self:
        """The store at `uri`; tables that are not there are made by the first write.

        Args:
            uri: A folder, or an object store's address.
            options: What opens the object store, as LanceDB names it.
            space: Of the vectors that will be written.
            rebuild: Write beside the live tables until `publish`; what an earlier rebuild to this space left
                there is taken up again. Where nothing is live yet, write to the live tables.
            generation: For a rebuild in several steps: what `stage` gave for the first of them. If it has
                been published since, the live tables are written.
            journal_bytes: The most that the journal keeps; the oldest goes first. At 0 it is left alone, and
                nothing is looked up there.
            columns: Of the documents' metadata. Those that the tables have not are added by the first write,
                to the rows that are there too; those that they have beside are filled as before.
            policy: What upkeep keeps to.

        Raises:
            SpaceMismatch: the tables hold another space, and `rebuild` is not asked for.
            StoreUnavailable: the storage does not answer.
            StoreRefused: it turns us away, the tables are not ours, or the space cannot be stored.
        """
        check_space(space)
        check_columns(columns)
        place = Place.at(uri, options)
        connection = await place.opened(_core.connect(place.uri, place.options, _core.session(*CACHES)))
        store = cls(place, connection, space, journal_bytes)
        store._rebuild, store._generation, store._declared = rebuild, generation, columns
        store._policy = policy
        await store._choose()
        return store

    @asynccontextmanager
    async def lease(
        self, doing: str, *, wait: float = 0, tell: Callable[[str], None] = log.info
    ) -> AsyncIterator[str]:
        """Be the only run that writes these tables until the block ends; gives what others `join` it by.

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
            staged = self._staged
            async with self._leases.held(
                "staged" if staged else "live", doing, wait=wait, tell=tell
            ) as lease:
                await self._choose()  # whoever had them may have switched
                if self._staged == staged:
                    self._lease = lease
                    try:
                        await self._mend()
                        yield lease.row.token or ""
                    finally:
                        self._lease = None
                    return
        raise RuntimeError("a store has one lease at a time")

    @asynccontextmanager
    async def join(self, lease: str) -> AsyncIterator[None]:
        """Write under a lease that another process has, until the block ends: each other documents.

        Upkeep is left to whoever has the lease. Once it is lost, writes raise StoreUnavailable.
        """
        row = Row(tables="staged" if self._staged else "live", beat=0, token=lease)
        self._lease = Lease(leases=self._leases, row=row, wait=0, tell=log.info)
        self._writer = uuid.uuid4().hex
        try:
            yield
        finally:
            self._lease, self._writer = None, ""

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
            for names in (self._reused, self._names):
                if names:
                    rows = await self._held(names.chunks, _rows.VECTOR_COLUMNS, where)
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

    async def ran(self, run: LatestRun) -> None:
        """Keep how a run went, in place of the one before it over the same source.

        The other tables are not made for it: of a run that wrote nothing, they need not be there.

        Raises:
            StoreError: as `replace`.
        """
        tables = Tables(self._place, self._connection, self._space)
        before = {one.source: one for one in await self.runs()}
        row = _rows.run_row(run.following(before.get(run.source)), self._space)
        await repeated(lambda: tables.put(RUNS, row, by="source"))

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
        check_keys(latest)
        check_vectors(latest, self._space)
        tables = await self._to_write()
        # As they are in the tables: others may have declared columns that these settings do not know.
        chunk_columns, document_columns = [await self._columns_in(name) for name in self._names.both]
        self._unfit.tell(document_columns, [d.prepared for d in latest])
        with self._place.during("store documents"):
            prepared = [d.prepared for d in latest]
            rows = _rows.chunk_rows(latest, self._space, chunk_columns)
            states = _rows.document_rows(prepared, self._space, document_columns)
            pairs = [(d.state.source, d.state.key) for d in prepared]
            chunks = partial(tables.get, self._names.chunks)
            # Through an index on the id, a merge would pass by the primary key's protection.
            anew = Merge(when_matched_update_all=True, when_not_matched_insert_all=True)
            async with self._in_order():
                await _replacing.put(rows, pairs, self._about(pairs), chunks, self._still_ours)
                await merge(await tables.get(self._names.documents), states, anew)

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
            rows = _rows.state_rows(latest, self._space)
            async with self._in_order():
                documents = await tables.get(self._names.documents)
                await merge(documents, rows, Merge(when_matched_update_all=True))

    async def remove(self, source: str, keys: Sequence[str]) -> None:
        """Remove these documents' rows: one commit on each table.

        Raises:
            StoreError: as `replace`.
        """
        stored = [key for key in keys if well_formed(key) == key]
        if not stored:
            return
        where = _predicates.documents((source, key) for key in stored)
        tables = await self._to_write()
        await self._still_ours()
        with self._place.during("remove documents"):
            chunks = partial(tables.get, self._names.chunks)
            about = self._about([(source, key) for key in stored])
            await _replacing.announce(about, await (await chunks()).schema(), chunks, self._still_ours)
            await (await chunks()).delete(where)
            await (await tables.get(self._names.documents)).delete(where)

    async def drop_columns(self, names: Sequence[str]) -> None:
        """Have these columns no longer; names that are no columns of metadata are left out.

        Raises:
            StoreError: as `replace`.
        """
        tables = await self._to_write()
        await self._still_ours()
        with self._place.during("drop columns"):
            # The chunks last: if it is stopped in between, they still tell that the column is there.
            for name in reversed(self._names.both):
                await drop(await tables.get(name), names)

    async def upkeep(self) -> None:
        """Compact and extend the indexes, where enough has been written to need it; make room in the journal.

        Another writer may be in the way: then it is left to the next run. Where the run had nothing to write,
        columns that were declared since are added.

        Raises:
            StoreRefused: the storage turns us away.
        """
        if self._writer:
            return
        with self._may_wait("add columns"):
            if await self._owes_columns():
                await self._to_write()
        for name in (*self._names.both, SPENDING, RUNS):
            with self._may_wait(f"compact {name}"):
                table = await self._table(name)
                if table and await is_slow(table):
                    slow = await (await self._to_write()).find(name)
                    if slow:
                        await tend(slow, self._policy, chunks=name == self._names.chunks)
        await self._tend_journal()

    async def stage(self) -> int:
        """Make the tables that this store writes, so that others can join in.

        Returns:
            The number of their generation, for `open`.

        Raises:
            StoreError: as `replace`.
        """
        await self._to_write()
        return self._names.generation

    async def lost(self) -> Lost:
        """Of each live source: how many documents the staged tables lack, and how many it has.

        Raises:
            StoreError: as `open`.
        """
        live = LanceTables(self._place, self._connection, await self._generations.names())
        lost: dict[str, tuple[int, int]] = {}
        for source, (documents, _) in (await live.counts()).items():
            there = await live.keys(source)
            lost[source] = (len(there - await self.keys(source)) if self._staged else 0, documents)
        return lost

    async def publish(
        self, *, sources: Collection[str] | None = None, may: Callable[[Lost], None] = lambda _: None
    ) -> None:
        """Make the tables that were built beside the live ones the live ones: one commit.

        What was live is kept, to go back to, until the next rebuild is published. Where nothing was built
        beside, or it is live already, there is nothing to do.

        Args:
            sources: Those that are meant. What a rebuild that was stopped ingested of others goes first.
            may: Is told what the switch would lose, when nobody else writes any more; raises to refuse.

        Raises:
            StoreError: as `replace`; to publish again completes it.
        """
        if not self._staged:
            return
        tables = await self._to_write()
        for source in set(await self.sources()) - set(sources) if sources is not None else ():
            await self.remove(source, sorted(await self.keys(source)))
        async with self._lease.also("live") if self._lease else nullcontext():
            await self._still_ours()
            may(await self.lost())
            await self._generations.switch(self._names.generation)
            self._staged, self._reused = False, None
            await tables.clear(await self._generations.read())

    async def _choose(self) -> None:
        """Set the tables that are to be read and written, as things stand.

        Raises:
            SpaceMismatch: the live ones hold another space, and are not to be rebuilt.
            StoreRefused: the generation that was asked for is neither live nor staged any more.
        """
        standing = await self._generations.read()
        live = Names(standing.live)
        held = {await self._pinned(name) for name in live.both} - {None}
        rebuild = self._rebuild and bool(held) and self._generation != standing.live
        if held - {self._space} and not rebuild:
            raise SpaceMismatch(
                f"{self._place} holds vectors of {held.pop()}, and the settings ask for {self._space}; "
                "these cannot be compared. Go back to the model that the tables were made with, choose "
                "another store.uri, or build the tables anew with `docweave ingest --rebuild`"
            )
        self._names, self._staged, self._reused = live, rebuild, None
        if rebuild:
            self._names = await self._beside_live(standing)
            self._reused = live if held == {self._space} else None
        self._tables.clear()
        self._writing = None

    async def _beside_live(self, standing: Standing) -> Names:
        """The tables of the rebuild that is under way, if it is to this space, or of a new one."""
        if self._generation not in (None, standing.staged):
            raise StoreRefused(f"{self._place}: another rebuild has taken this one's place")
        if standing.staged is not None:
            names = Names(standing.staged)
            if {await self._pinned(name) for name in names.both} <= {self._space, None}:
                return names
        return Names(standing.last + 1)

    async def _mend(self) -> None:
        """Undo what a run was stopped in the middle of, between its commits on the two tables.

        Of the documents of the last batch, those whose chunks are not as their marks say get no marks, so
        that the next ingest reads them again; chunks of documents that have no marks at all go.
        """
        table = await self._table(self._names.chunks)
        if table is None or await self._table(self._names.documents) is None:
            return
        with self._place.during("look whether the last run came to its end"):
            told = await _replacing.announced(table)
        for pairs in _halves.batches(told):
            where = _predicates.with_keys_of(pairs)
            chunks = await self._select(self._names.chunks, _halves.CHUNK_COLUMNS, where)
            documents = await self._select(self._names.documents, _halves.DOCUMENT_COLUMNS, where)
            orphans, torn = _halves.left(pairs, chunks, documents)
            if orphans or torn:
                log.warning("%s: a run was stopped while it stored %d documents", self._place, len(pairs))
            if torn:
                await self.touch([_halves.unmarked(source, key) for source, key in torn])
            if orphans:
                writing = await self._to_write()
                await self._still_ours()
                with self._place.during("remove what a stopped run left"):
                    gone = _predicates.documents(orphans)
                    await (await writing.get(self._names.chunks)).delete(gone)

    def _about(self, pairs: Sequence[tuple[str, str]]) -> Callable[[str | None], str]:
        run = self._lease.row.token if self._lease else None
        return lambda told: _halves.about(pairs, told, run=run or "", writer=self._writer)

    def _in_order(self) -> AbstractAsyncContextManager[None]:
        """Where several write under one lease: those of this machine one after the other."""
        return one_at_a_time(self._place) if self._writer else nullcontext()

    async def _still_ours(self) -> None:
        """Raise if what this run would write is no longer true.

        Because it had a lease that another took over, or because its tables are neither live nor staged.
        """
        if self._lease:
            await self._lease.check()
        standing = await self._generations.read()
        if self._names.generation != (standing.staged if self._staged else standing.live):
            raise StoreUnavailable(f"{self._place}: the tables were rebuilt by somebody else while this ran")

    async def _columns_of_others(self) -> list[Column]:
        """Columns of the live tables that these settings do not declare: a rebuild keeps them."""
        live = await self._table((await self._generations.names()).chunks)
        if live is None:
            return []
        mine = OURS.union(column.name for column in self._declared)
        with self._place.during("read the columns of the live tables"):
            return [column for column in pinned_columns(await live.schema()) if column.name not in mine]

    async def _owes_columns(self) -> bool:
        """Whether columns are declared that the tables have not, and nobody has written yet who adds them."""
        if self._writing or not self._declared:
            return False
        tables = [await self._table(name) for name in self._names.both]
        return any([owed(await table.schema(), self._declared) for table in tables if table])

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
                        keep = round(KEEP_JOURNAL.total_seconds() * 1000)
                        await table.optimize(cleanup_since_ms=keep, delete_unverified=False)

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
                await check_conditional_put(self._place)
                tables = Tables(self._place, self._connection, self._space)
                if self._lease:
                    await self._lease.check()
                columns = list(self._declared)
                if self._staged:
                    columns += await self._columns_of_others()
                    await self._generations.stage(self._names.generation)
                    await tables.clear(await self._generations.read())
                if not (self._writer and await tables.made(self._names, columns)):
                    await tables.make(self._names, columns)
                self._tables.clear()  # what was opened to look may have been made anew
                self._writing = tables
        return self._writing

    async def _held(self, name: str, columns: list[str], where: str) -> pa.Table:
        """These columns of the rows for which `where` holds; none while no table of this space is there."""
        if self._writing is None and await self._pinned(name) != self._space:
            return schema_of(name, self._space).empty_table().select(columns)
        return await self._select(name, columns, where)
