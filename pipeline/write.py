"""What a run commits to the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import anyio

from pipeline.decide import Step, Touch
from pipeline.errors import StoreUnavailable
from pipeline.plan import Change
from pipeline.protocols import Store
from pipeline.records import Embedded, Vectors
from pipeline.report import Observer, SourceReport

UPKEEP_CHUNKS = 5_000
"""Chunks that a run writes before it tends the store for the first time, …"""
UPKEEP_GROWTH = 8
"""… how many times as many before the next time, …"""
UPKEEP_CHUNKS_PER_STORED = 8
"""… or so many for each document that was there: about as many as there were chunks."""


def upkeep_due(begins: int, stored: int, tended: int) -> int:
    """After how many chunks of a run the store is tended next.

    Args:
        begins: After how many the first time, at the least.
        stored: Documents that were there.
        tended: Chunks that had been written when it was tended last.
    """
    return max(begins, UPKEEP_CHUNKS_PER_STORED * stored, UPKEEP_GROWTH * tended)


@dataclass(slots=True, kw_only=True)
class Writer:
    """Commits to the store, one batch at a time, and keeps the tally."""

    store: Store
    report: SourceReport
    observe: Observer
    journal: bool
    _changes: dict[str, Change] = field(default_factory=dict)
    _turn: anyio.Lock = field(default_factory=anyio.Lock)
    _paid: dict[str, Vectors] = field(default_factory=dict)
    _whole: list[Embedded] = field(default_factory=list)
    _tended: int = 0
    """Chunks that had been written when the store was tended last."""

    def expect(self, steps: Sequence[Step]) -> None:
        """What will be counted for each document when it is written."""
        self._changes.update({step.prepared.state.key: step.change for step in steps})

    async def complete(self, paid: Mapping[str, Vectors], whole: Sequence[Embedded]) -> None:
        """Keep what was paid for, then store the documents that are whole.

        What came while others were writing is written with the next batch, all of it at once: a commit costs
        nearly the same for one document as for all. Cancellation waits until it is written.
        """
        if not (paid or whole):
            return  # not when others are done writing: what is to be embedded waits behind this
        self._paid |= paid
        self._whole += whole
        with anyio.CancelScope(shield=True):
            async with self._turn:
                with self.report.timed("writing"):
                    await self._keep_paid()
                    if self._whole:
                        await self.store.others_done()
                        await self._keep_paid()
                        await self._store_whole()
        await self._keep_up()

    async def _keep_paid(self) -> None:
        paid, self._paid = self._paid, {}
        if not (paid and self.journal):
            return
        try:
            await self.store.journal(paid)
        except StoreUnavailable:
            self._paid = paid | self._paid  # some of it others handed in, who try again
            raise

    async def _store_whole(self) -> None:
        whole, self._whole = self._whole, []
        await self.store.replace(whole)
        self._tally(whole)

    async def _keep_up(self) -> None:
        """Tend the store while documents are still read and embedded: the later, the more it has to do.

        After many times as many chunks each time: tending rewrites small tables whole.
        """
        due = upkeep_due(UPKEEP_CHUNKS, self.report.stored, self._tended)
        if self.report.chunks < due:
            return
        async with self._turn:
            if self._tended < due:
                self._tended = self.report.chunks
                with self.report.timed("writing"):
                    await self.store.upkeep()

    def _tally(self, documents: Sequence[Embedded]) -> None:
        for document in documents:
            change = self._changes.pop(document.prepared.state.key)
            self.report.count(change.value)
            self.report.chunks += sum(len(group.chunks) for group in document.prepared.groups)
        self.observe(self.report)

    async def touch(self, touched: Sequence[Touch]) -> None:
        """Store new marks; the rows stay as they are."""
        if not touched:
            return
        moved = [touch.now for touch in touched if touch.now != touch.state]
        if moved:
            async with self._turn:
                with self.report.timed("writing"):
                    await self.store.touch(moved)
        for _ in touched:
            self.report.count(Change.TOUCHED.value)
        self.observe(self.report)

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove these documents' rows."""
        if keys:
            with self.report.timed("writing"):
                await self.store.remove(self.report.source, keys)
        # A document that went on under a new key was counted as renamed.
        self.report.removed += max(0, len(keys) - self.report.renamed)
