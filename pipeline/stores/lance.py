"""The LanceDB store: the ingest side."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Self

import pyarrow as pa

from pipeline.protocols import Lost
from pipeline.records import Column, DocumentState, Embedded, EmbeddingSpace, LatestRun, Spending, Vectors
from pipeline.stores import _core, _halves, _predicates, _rows
from pipeline.stores._columns import Unfit, check_columns
from pipeline.stores._journal import Journal, make_room
from pipeline.stores._opened import Opened
from pipeline.stores._place import Place
from pipeline.stores._reading import LanceTables
from pipeline.stores._schema import RUNS, SPENDING, schema_of
from pipeline.stores._shape import check_groups, check_keys, check_space, check_vectors
from pipeline.stores._tables import Tables, repeated
from pipeline.stores._tenure import Tenure, Wanted
from pipeline.stores._text import well_formed
from pipeline.stores._upkeep import is_slow, may_wait, tend
from pipeline.stores._writing import BothTables
from pipeline.upkeep import Policy

log = logging.getLogger(__name__)

CACHES = (64 << 20, 32 << 20)
"""Bytes of indexes and of metadata that are kept in memory. LanceDB's own limits are gigabytes, and every
commit adds to them: 38,000 documents then take 65 MB more."""
JOURNAL_BYTES = 2_000_000_000
"""Two million vectors of 1,024 int8 codes."""


class LanceStore(LanceTables):
    """Reads and writes the tables of one embedding space.

    Opening it writes nothing: the tables are made by the first write.
    """

    def __init__(self, opened: Opened, tenure: Tenure, journal: Journal, policy: Policy) -> None:
        super().__init__(opened, tenure.names)
        self._tenure = tenure
        self._space = tenure.space
        self._journal = journal
        self._policy = policy
        self._unfit = Unfit()

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
        opened = Opened(place, connection)
        wanted = Wanted(space=space, columns=columns, rebuild=rebuild, generation=generation)
        tenure = Tenure(opened, wanted)
        await tenure.choose()
        return cls(opened, tenure, Journal(opened, space, journal_bytes), policy)

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
        async with self._tenure.held(doing, wait=wait, tell=tell):
            self._names = self._tenure.names
            await self._mend()
            yield self._tenure.run

    def join(self, lease: str) -> AbstractAsyncContextManager[None]:
        """Write under a lease that another process has, until the block ends: each other documents.

        Upkeep is left to whoever has the lease. Once it is lost, writes raise StoreUnavailable.
        """
        return self._tenure.joined(lease)

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
            for names in (self._tenure.reused, self._names):
                if names:
                    rows = await self._held(names.chunks, _rows.VECTOR_COLUMNS, where)
                    found |= _rows.vectors(rows, self._space)
            found |= await self._journal.find([key for key in some if key not in found])
        return found

    async def journal(self, vectors: Mapping[str, Vectors]) -> None:
        """Keep vectors by group key as soon as they are paid for, whatever becomes of their documents.

        Raises:
            StoreError: as `replace`.
        """
        if not (vectors and self._journal.is_kept):
            return
        check_groups(vectors, self._space)
        await self._journal.add(await self._tenure.tables(), vectors)
        if self._journal.wants_a_look:
            await self._tend_journal()

    async def spent(self, spending: Spending) -> None:
        """Keep what a run paid.

        Raises:
            StoreError: as `replace`.
        """
        tables = await self._tenure.tables()
        await tables.append(SPENDING, _rows.spending_row(spending, self._space))

    async def ran(self, run: LatestRun) -> None:
        """Keep how a run went, in place of the one before it over the same source.

        The other tables are not made for it: of a run that wrote nothing, they need not be there.

        Raises:
            StoreError: as `replace`.
        """
        tables = Tables(self._place, self._opened.connection, self._space)
        before = await self._runs(_predicates.among("source", [run.source]))
        row = _rows.run_row(run.following(before[0] if before else None), self._space)
        await repeated(lambda: tables.put(RUNS, row, by="source"))

    async def others_done(self) -> None:
        """Where several write under one lease: wait while others of this machine commit."""
        async with self._tenure.turn():
            pass

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
        both = await self._to_write()
        # As they are in the tables: others may have declared columns that these settings do not know.
        of_chunks, of_documents = [await self._opened.columns(name) for name in self._names.both]
        self._unfit.tell(of_documents, [d.prepared for d in latest])
        await both.put(latest, of_chunks, of_documents)

    async def touch(self, states: Sequence[DocumentState]) -> None:
        """Store new marks; the rows stay as they are. What is not stored is left out.

        Raises:
            StoreError: as `replace`.
        """
        latest = list({(state.source, state.key): state for state in states}.values())
        if latest:
            await (await self._to_write()).mark(latest)

    async def remove(self, source: str, keys: Sequence[str]) -> None:
        """Remove these documents' rows: one commit on each table.

        Raises:
            StoreError: as `replace`.
        """
        stored = [(source, key) for key in keys if well_formed(key) == key]
        if stored:
            await (await self._to_write()).remove(stored)

    async def drop_columns(self, names: Sequence[str]) -> None:
        """Have these columns no longer; names that are no columns of metadata are left out.

        Raises:
            StoreError: as `replace`.
        """
        await (await self._to_write()).drop_columns(names)

    async def upkeep(self) -> None:
        """Compact and extend the indexes, where enough has been written to need it; make room in the journal.

        Another writer may be in the way: then it is left to the next run. Where the run had nothing to write,
        columns that were declared since are added.

        Raises:
            StoreRefused: the storage turns us away.
        """
        if self._tenure.writer:
            return
        with may_wait(self._place, "add columns"):
            if await self._tenure.owes_columns():
                await self._tenure.tables()
        for name in (*self._names.both, SPENDING, RUNS):
            with may_wait(self._place, f"compact {name}"):
                table = await self._opened.find(name)
                if table and await is_slow(table):
                    slow = await (await self._tenure.tables()).find(name)
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
        await self._tenure.tables()
        return self._names.generation

    async def lost(self) -> Lost:
        """Of each live source: how many documents the staged tables lack, and how many it has.

        Raises:
            StoreError: as `open`.
        """
        live = LanceTables(Opened(self._place, self._opened.connection), await self._tenure.live())
        lost: dict[str, tuple[int, int]] = {}
        for source, (documents, _) in (await live.counts()).items():
            there = await live.keys(source)
            lost[source] = (len(there - await self.keys(source)) if self._tenure.staged else 0, documents)
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
        if not self._tenure.staged:
            return
        await self.stage()
        for source in set(await self.sources()) - set(sources) if sources is not None else ():
            await self.remove(source, sorted(await self.keys(source)))
        async with self._tenure.of_live_too():
            await self._tenure.check()
            may(await self.lost())
            await self._tenure.switch()

    async def _mend(self) -> None:
        """Undo what a run was stopped in the middle of, between its commits on the two tables.

        Of the documents of the last batch, those whose chunks are not as their marks say get no marks, so
        that the next ingest reads them again; chunks of documents that have no marks at all go.
        """
        async for half in _halves.found(self._opened, self._names):
            log.warning("%s: a run was stopped while it stored %d documents", self._place, half.documents)
            if half.torn:
                await self.touch([_halves.unmarked(source, key) for source, key in half.torn])
            if half.orphans:
                await (await self._to_write()).remove_chunks(half.orphans)

    async def _tend_journal(self) -> None:
        """Make room where it is over its size, and compact it where that pays."""
        with may_wait(self._place, "make room in the journal"):
            due = await self._journal.due()
            if due:
                await make_room(await self._tenure.tables(), due)

    async def _to_write(self) -> BothTables:
        """The chunks and the documents, made ready by the first who writes."""
        return BothTables(
            tables=await self._tenure.tables(),
            names=self._names,
            run=self._tenure.run,
            writer=self._tenure.writer,
            still_ours=self._tenure.check,
            turn=self._tenure.turn,
        )

    async def _held(self, name: str, columns: list[str], where: str) -> pa.Table:
        """These columns of the rows for which `where` holds; none while no table of this space is there."""
        if not self._tenure.is_ready and await self._opened.space(name) != self._space:
            return schema_of(name, self._space).empty_table().select(columns)
        return await self._opened.select(name, columns, where)
