"""Bring the store up to date with one source. The whole pipeline, read top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio
from anyio.abc import ObjectSendStream
from anyio.streams.memory import MemoryObjectReceiveStream

from pipeline.budget import Budget, Calibration, Purse
from pipeline.decide import Step, decided
from pipeline.embed import EmbedStage
from pipeline.errors import StoreError
from pipeline.plan import USUAL_GUARD, Change, PlannedDocument, RemovalGuard, SourcePlan, Survey, survey
from pipeline.prepare import Found, Pipeline, Preparer
from pipeline.protocols import Connector, Store
from pipeline.records import DocumentState, Embedded, Known, Metadata, Prepared, Spending, Vectors
from pipeline.report import Observer, SourceReport, ignore

log = logging.getLogger(__name__)

AHEAD = 256
"""Documents that are read ahead of what is embedded."""
UPKEEP_CHUNKS = 5_000
"""Chunks that a run writes before it tends the store for the first time, …"""
UPKEEP_GROWTH = 8
"""… how many times as many before the next time, …"""
UPKEEP_CHUNKS_PER_STORED = 8
"""… or so many for each document that was there: about as many as there were chunks."""


async def ingest_source(  # noqa: PLR0913 - what holds for one run, by name
    connector: Connector,
    pipeline: Pipeline,
    *,
    metadata: Metadata | None = None,
    budgets: Sequence[Budget] = (),
    guard: RemovalGuard = USUAL_GUARD,
    observe: Observer = ignore,
) -> SourceReport:
    """Embed what is new or changed, rewrite what only looks different, remove what is gone.

    A document that fails is reported and costs its neighbours nothing. What was paid for before an error
    stays, and is not paid for again.

    Args:
        connector: Reads the source.
        pipeline: What the run is made of.
        metadata: Added to each document's own.
        budgets: None of them is passed. Where one would be, nothing is sent any more: the report tells how
            much is left for another run, and all that costs nothing is done.
        guard: How much may be removed; what is more is withheld, and everything else is done.
        observe: Sees the report grow.

    Raises:
        SourceError: the source could not be listed, or turned us away. Nothing was removed.
        EmbedError: the service works for nothing (RETRY: for now).
        StoreError: the store cannot be read or written.
    """
    started = time.monotonic()
    report = SourceReport(source=connector.source)
    preparer = Preparer(connector=connector, pipeline=pipeline, metadata=metadata or {}, report=report)
    writer = _Writer(store=pipeline.store, report=report, observe=observe, journal=pipeline.journal)
    found = await _survey(preparer, guard)
    observe(report)
    purse = await _purse(pipeline, budgets)
    embedding = EmbedStage(
        embedder=pipeline.embedder,
        report=report,
        purse=purse,
        find=pipeline.store.vectors,
        complete=writer.complete,
    )
    read, prepared = anyio.create_memory_object_stream[Found](AHEAD)
    owe, owing = anyio.create_memory_object_stream[tuple[Prepared, Known]](0)
    try:
        with _one_error():
            async with anyio.create_task_group() as stages:
                stages.start_soon(preparer.run, found.owed, read)
                stages.start_soon(embedding.run, owing, pipeline.concurrency)
                await _decide_all(prepared, await _vanished(preparer, found), owe, writer, embedding)
    finally:
        await _note_spending(pipeline, report, purse.calibration)
    if found.withheld:
        report.withheld = len(found.removed)
    else:
        await writer.remove(found.removed)
    await pipeline.store.upkeep()
    report.seconds = time.monotonic() - started
    observe(report)
    return report


async def plan_source(
    connector: Connector,
    pipeline: Pipeline,
    *,
    metadata: Metadata | None = None,
    guard: RemovalGuard = USUAL_GUARD,
    observe: Observer = ignore,
) -> SourcePlan:
    """What `ingest_source` would do, document by document. Reads the source; pays and writes nothing.

    Raises:
        SourceError: the source could not be listed, or turned us away.
        StoreError: the store cannot be read.
    """
    report = SourceReport(source=connector.source)
    preparer = Preparer(connector=connector, pipeline=pipeline, metadata=metadata or {}, report=report)
    found = await _survey(preparer, guard)
    calibration = Calibration.of(await pipeline.store.spending(), pipeline.embedder.space)
    observe(report)
    plan = SourcePlan(source=connector.source, unchanged=found.unchanged)
    gone = await _vanished(preparer, found)
    read, prepared = anyio.create_memory_object_stream[Found](AHEAD)
    with _one_error():
        async with anyio.create_task_group() as stages:
            stages.start_soon(preparer.run, found.owed, read)
            async for steps, touched in decided(prepared, gone, pipeline.store):
                _estimate(steps, touched, plan, report)
                observe(report)
    renamed = {document.renamed_from for document in plan.documents}
    unlisted = sorted(key for key in found.removed if key not in renamed)
    plan.removed, plan.withheld = ([], unlisted) if found.withheld else (unlisted, [])
    plan.failures = {failure.key: failure.reason for failure in report.failures}
    billed = plan.tokens * calibration.ratio
    plan.cost_usd = billed * pipeline.embedder.usd_per_million_tokens / 1_000_000
    plan.documents.sort(key=lambda document: document.key)
    return plan


async def _survey(preparer: Preparer, guard: RemovalGuard) -> Survey:
    """List the whole source and compare it with what is stored."""
    refs = [ref async for ref in preparer.connector.list_items()]
    marks = await preparer.pipeline.store.marks(preparer.connector.source)
    found = survey(refs, marks, preparer.recipe, guard)
    report = preparer.report
    report.listed, report.stored = len(refs), found.stored
    report.unchanged, report.owed = found.unchanged, len(found.owed)
    return found


async def _purse(pipeline: Pipeline, budgets: Sequence[Budget]) -> Purse:
    """The budgets, with what earlier runs tell of the service's token counts."""
    return Purse(
        budgets=budgets,
        usd_per_million_tokens=pipeline.embedder.usd_per_million_tokens,
        calibration=Calibration.of(await pipeline.store.spending(), pipeline.embedder.space),
    )


async def _note_spending(pipeline: Pipeline, report: SourceReport, calibration: Calibration) -> None:
    """Keep what was paid, also by a run that failed or was cancelled."""
    if not (pipeline.journal and report.requests):
        return
    space = pipeline.embedder.space
    spending = Spending(
        at=datetime.now(UTC),
        source=report.source,
        provider=space.provider,
        model=space.model,
        requests=report.requests,
        counted=report.counted,
        tokens=report.tokens,
        highest_ratio=calibration.highest_now,
        cost_usd=report.cost_usd,
    )
    with anyio.CancelScope(shield=True):
        try:
            await pipeline.store.spent(spending)
        except StoreError as error:  # must not take the place of what ended the run
            log.warning("what %s cost could not be noted: %s", report.source, error)


async def _vanished(preparer: Preparer, found: Survey) -> dict[tuple[str, ...], str]:
    """The keys that go, by what was embedded under them: a new key with the same is a rename."""
    if found.withheld:
        return {}  # they stay: what has the same content is a copy
    states = await preparer.pipeline.store.states(preparer.connector.source, found.removed)
    return {state.group_keys: key for key, state in states.items() if state.group_keys}


async def _decide_all(
    found: MemoryObjectReceiveStream[Found],
    gone: dict[tuple[str, ...], str],
    owing: ObjectSendStream[tuple[Prepared, Known]],
    writer: _Writer,
    embedding: EmbedStage,
) -> None:
    """Send each document on: to be embedded, to be written as it is, or only to have its marks moved."""
    async with owing:
        async for steps, touched in decided(found, gone, writer.store, embedding.look_up_begins):
            writer.expect(steps)
            await writer.touch(touched)
            whole = [(step, step.embedded()) for step in steps]
            await writer.complete({}, [embedded for _, embedded in whole if embedded])
            for step, embedded in whole:
                if not embedded:
                    await owing.send((step.prepared, step.known))


def _estimate(
    steps: Sequence[Step], touched: Sequence[DocumentState], plan: SourcePlan, report: SourceReport
) -> None:
    """Put down what each document would cost. Groups that stand in several documents are paid once."""
    for state in touched:
        report.count(Change.TOUCHED.value)
        plan.documents.append(PlannedDocument(key=state.key, change=Change.TOUCHED.value, tokens=0))
    for step in steps:
        report.count(step.change.value)
        owed = plan.owed_by(step.prepared, step.known)
        plan.tokens += owed
        plan.documents.append(
            PlannedDocument(
                key=step.prepared.state.key,
                change=step.change.value,
                tokens=owed,
                renamed_from=step.renamed_from,
            )
        )


@dataclass(slots=True, kw_only=True)
class _Writer:
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
        self._paid |= paid
        self._whole += whole
        with anyio.CancelScope(shield=True):
            async with self._turn:
                paid, whole = self._paid, self._whole
                self._paid, self._whole = {}, []
                if paid and self.journal:
                    await self.store.journal(paid)
                if whole:
                    await self.store.replace(whole)
                    self._tally(whole)
        await self._keep_up()

    async def _keep_up(self) -> None:
        """Tend the store while documents are still read and embedded: the later, the more it has to do.

        After many times as many chunks each time: tending rewrites small tables whole.
        """
        due = max(UPKEEP_CHUNKS, UPKEEP_CHUNKS_PER_STORED * self.report.stored, UPKEEP_GROWTH * self._tended)
        if self.report.chunks < due:
            return
        async with self._turn:
            if self._tended < due:
                self._tended = self.report.chunks
                await self.store.upkeep()

    def _tally(self, documents: Sequence[Embedded]) -> None:
        for document in documents:
            change = self._changes.pop(document.prepared.state.key)
            self.report.count(change.value)
            self.report.chunks += sum(len(group.chunks) for group in document.prepared.groups)
        self.observe(self.report)

    async def touch(self, states: Sequence[DocumentState]) -> None:
        if not states:
            return
        async with self._turn:
            await self.store.touch(states)
        for _ in states:
            self.report.count(Change.TOUCHED.value)
        self.observe(self.report)

    async def remove(self, keys: Sequence[str]) -> None:
        if keys:
            await self.store.remove(self.report.source, keys)
        # A document that went on under a new key was counted as renamed.
        self.report.removed += max(0, len(keys) - self.report.renamed)


@contextmanager
def _one_error() -> Iterator[None]:
    """Raise the error that stopped a group of tasks by itself: the others are its consequences.

    A stage that ends closes its streams, so that its neighbours find them broken.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        errors = list(_leaves(group))
        error = next((e for e in errors if not isinstance(e, anyio.BrokenResourceError)), errors[0])
        raise error from error.__cause__


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
