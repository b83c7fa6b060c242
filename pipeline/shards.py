"""One source worked off by several workers: what each is given, and what it tells.

Whoever has the tables' lease lists the source, plans once and cuts what is owed into shards; workers, in
other processes or on other machines, take one after the other from a board that stands beside the tables, and
put there what became of it. See docs/adr/0012.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

import anyio

from pipeline.budget import Purse
from pipeline.contained import Containers
from pipeline.errors import DocweaveError, SettingsError
from pipeline.ingest import purse_of, work_off
from pipeline.plan import RemovalGuard, Survey, survey
from pipeline.prepare import Pipeline, Preparer
from pipeline.protocols import Connector
from pipeline.records import Contained, ItemRef, Metadata
from pipeline.report import Observer, SourceReport, ignore
from pipeline.shards_told import Shard, Shared, Told, add_up, cut, error_of, share
from pipeline.write import UPKEEP_CHUNKS, UPKEEP_GROWTH, upkeep_due

log = logging.getLogger(__name__)

Tell: TypeAlias = Callable[[str], None]

ROUNDS = 3
"""How often workers are sent for without that a shard more is worked off."""
LOOK_SECONDS = 1.0
"""Between two looks at what was worked off."""
UPKEEP_BEGINS = UPKEEP_GROWTH * UPKEEP_CHUNKS
"""Chunks that workers write before the store is tended for the first time: they have to stop for it."""
IDLE_SECONDS = (0.02, 2.0)
"""Between two looks of a worker that finds nothing to take, but others at work: at the least, and at most."""
IDLE_PART = 0.03
"""… and in between, this part of the time for which it has been here: the run waits for its last look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A shard that this worker has."""

    number: int
    body: bytes
    token: str


class Board(Protocol):
    """Where shards are taken from, by one worker at a time."""

    @property
    def name(self) -> str:
        """By which others open it."""

    async def shared(self) -> bytes:
        """What was put up for all shards."""

    async def take(self) -> Taken | None:
        """A shard that nobody has, or whose worker is gone; None if there is none at present."""

    def held(self, taken: Taken) -> AbstractAsyncContextManager[None]:
        """Show that it is being worked on; give it back at the end, unless it was ended."""

    async def end(self, taken: Taken, told: bytes) -> bool:
        """Put up what became of a shard; False where another worker has taken it over."""

    async def fail(self, told: bytes) -> None:
        """Put up why a worker gave up."""

    def paused(self) -> AbstractAsyncContextManager[None]:
        """Have no shard taken until the block ends, which begins when nobody works on one."""

    async def standing(self) -> tuple[int, int]:
        """How many shards are not ended and may still be; and how many of these are being worked on."""

    async def told(self, known: Sequence[int]) -> Mapping[int, bytes]:
        """What became of the ended shards, by number, but for those known already."""

    async def failures(self) -> Sequence[bytes]:
        """Why workers gave up since this was asked last."""


class Boards(Protocol):
    """Makes boards, and opens them."""

    def made(self, shared: bytes, shards: Sequence[bytes]) -> AbstractAsyncContextManager[Board]:
        """A board with these shards, until the block ends."""

    async def opened(self) -> Board:
        """The board that another process has made."""


@dataclass(slots=True, kw_only=True)
class Crew:
    """Has what a source owes be worked off by others. To be given to `ingest_source`."""

    boards: Boards
    lease: str
    """Of the tables, as `Store.lease` gives it."""
    workers: int
    shard_tokens: int
    send: Callable[[], Awaitable[Sequence[str]]]
    """Sends the workers; returns when all of them have ended, with what is known of those that failed."""
    tell: Tell = log.info

    async def work_off(
        self,
        preparer: Preparer,
        found: Survey,
        gone: Mapping[tuple[str, ...], str],
        purse: Purse,
        observe: Observer,
    ) -> bool:
        """Work off what was found.

        Returns:
            Whether it was; False where it is so little that others are not worth it.

        Raises:
            DocweaveError: what made a worker give up; or workers ended again and again without a word.
        """
        shards = cut(found.owed, self.shard_tokens, self.workers)
        if len(shards) < 2:
            return False
        store = preparer.pipeline.store
        await store.stage()  # not by all workers at the same time
        bodies = [
            Shard(
                refs=refs,
                held={ref.key: sorted(found.held[ref.key]) for ref in refs if ref.key in found.held},
            ).encoded()
            for refs in shards
        ]
        shared = Shared(
            source=preparer.connector.source,
            recipe=preparer.recipe,
            lease=self.lease,
            stored=found.stored,
            gone=gone,
            listed=sorted(preparer.containers.listed),
            budgets=[share(budget, self.workers) for budget in purse.budgets],
        )
        tally = Tally(preparer=preparer, purse=purse, observe=observe, sizes=[len(refs) for refs in shards])
        self.tell(f"{len(found.owed)} documents in {len(shards)} shards for {self.workers} workers")
        async with self.boards.made(shared.encoded(), bodies) as board:
            idle = 0
            while idle < ROUNDS:
                before = len(tally.ended)
                said = await self._round(board, tally)
                if len(tally.ended) == len(shards):
                    return True
                if failures := await board.failures():
                    raise error_of(failures[0])
                idle = 0 if len(tally.ended) > before else idle + 1
                self.tell(
                    f"workers ended{_because(said)}: {len(shards) - len(tally.ended)} shards are still to do"
                )
        raise DocweaveError(
            f"{len(shards) - len(tally.ended)} of {len(shards)} shards of {shared.source} were not worked "
            f"off: the workers ended again and again{_because(said)}; see their logs, and how much memory "
            "there is. What they stored stays, and another run goes on from it"
        )

    async def _round(self, board: Board, tally: Tally) -> Sequence[str]:
        """Until the workers have ended; what is known of those that failed."""
        failure: Exception | None = None
        said: Sequence[str] = ()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tally.keep_up, board)
            try:
                said = await self.send()
            except Exception as error:  # noqa: BLE001 - carried past the task group, which would wrap it
                failure = error
            tasks.cancel_scope.cancel()
        if failure:
            raise failure
        await tally.look(board)
        return said


@dataclass(slots=True, kw_only=True)
class Tally:
    """Adds up what workers tell, and tends the store meanwhile: they leave that to whoever has the lease."""

    preparer: Preparer
    purse: Purse
    observe: Observer
    sizes: Sequence[int]
    """How many items each shard has."""
    ended: set[int] = field(default_factory=set)
    _claimed: set[str] = field(default_factory=set)
    _tended: int = 0

    async def keep_up(self, board: Board) -> None:
        """Look again and again."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            await self.look(board)
            await self._tend(board)

    async def look(self, board: Board) -> None:
        """Take in what became of shards since the last time."""
        with anyio.CancelScope(shield=True):
            for number, body in (await board.told(sorted(self.ended))).items():
                self.ended.add(number)
                self._add(Told.of(body), self.sizes[number])
                self.observe(self.preparer.report)

    def _add(self, told: Told, items: int) -> None:
        report, more = self.preparer.report, told.report
        add_up(report, more)
        report.owed += more.owed - items
        report.unchanged += more.unchanged
        twice = self._claimed.intersection(told.claimed)
        self._claimed.update(told.claimed)
        report.renamed -= len(twice)
        report.added += len(twice)
        if more.stopped_by:
            whole = (str(budget) for budget in self.purse.budgets if more.stopped_by.endswith(budget.name))
            report.stopped_by = next(whole, more.stopped_by)
        self.purse.spend(more.tokens, more.cost_usd)
        calibration = self.purse.calibration
        calibration.highest_now = max(calibration.highest_now, told.highest_ratio)
        for key, version, content_keys, refused in told.opened:
            ref = ItemRef(source=report.source, key=key, version=version)
            nothing = Contained(documents=(), refused=dict.fromkeys(refused, ""))
            self.preparer.containers.open(ref, nothing, content_keys)

    async def _tend(self, board: Board) -> None:
        """Between shards: a compaction that others write beside is given up, and was for nothing."""
        report = self.preparer.report
        if report.chunks >= upkeep_due(UPKEEP_BEGINS, report.stored, self._tended):
            self._tended = report.chunks
            async with board.paused():
                await self.look(board)
                await self.preparer.pipeline.store.upkeep()


async def work_off_shards(  # noqa: PLR0913 - what holds for one worker, by name
    board: Board,
    connector: Connector,
    pipeline: Pipeline,
    *,
    metadata: Metadata,
    most_tokens: int | None = None,
    ended: Observer = ignore,
) -> None:
    """Take shards and work them off, until none is left and nobody is at one who might die over it.

    Args:
        board: Where they are.
        connector: Reads the source.
        pipeline: What this worker is made of. Its store writes under the lease of whoever planned.
        metadata: Added to each document's own.
        most_tokens: Of one request, where a minute has no more for this worker.
        ended: Sees the report of each shard.

    Raises:
        SettingsError: this worker would make other documents of the source than whoever planned.
        DocweaveError: as `ingest_source`. The shard goes to another worker.
    """
    shared = Shared.of(await board.shared())
    mine = Preparer(
        connector=connector, pipeline=pipeline, metadata=metadata, report=SourceReport(source=shared.source)
    )
    if mine.recipe != shared.recipe:
        raise SettingsError(
            f"this worker treats {shared.source} otherwise than the run that sent it here: it has other "
            "settings of chunking, embedding or metadata, or another version of Docweave or its libraries"
        )
    purse = await purse_of(pipeline, shared.budgets)
    if most_tokens is not None:
        purse.calibration.largest = most_tokens / max(1.0, purse.calibration.highest)
    async for taken in _taken(board):
        async with board.held(taken):
            told = await _worked_off(Shard.of(taken.body, shared.source), shared, mine, purse)
            if await board.end(taken, told.encoded()):
                ended(told.report)


async def _taken(board: Board) -> AsyncIterator[Taken]:
    """Shards, as long as there may be one to take."""
    began = anyio.current_time()
    while True:
        taken = await board.take()
        if taken:
            yield taken
        elif (await board.standing())[0]:
            least, most = IDLE_SECONDS
            await anyio.sleep(min(most, max(least, IDLE_PART * (anyio.current_time() - began))))
        else:
            return


async def _worked_off(shard: Shard, shared: Shared, worker: Preparer, purse: Purse) -> Told:
    """One shard: what a worker that died over it has stored already is not read again."""
    report = SourceReport(source=shared.source, stored=shared.stored)
    containers = Containers(held=shard.held, listed=set(shared.listed))
    preparer = replace(worker, report=report, containers=containers)
    keys = [ref.key for ref in shard.refs]
    states = await worker.pipeline.store.states(shared.source, keys)
    marks = {key: (state.version, state.recipe) for key, state in states.items()}
    found = survey(shard.refs, marks, shared.recipe, RemovalGuard())
    report.unchanged, report.owed = found.unchanged, len(found.owed)
    gone = dict(shared.gone)
    purse.calibration.highest_now = 0.0
    await work_off(preparer, found.owed, gone, purse, ignore)
    left = set(gone.values())
    return Told(
        report=report,
        claimed=[key for key in shared.gone.values() if key not in left],
        opened=containers.opened(),
        highest_ratio=purse.calibration.highest_now,
    )


def _because(said: Sequence[str]) -> str:
    return f" ({said[0]})" if said else ""
