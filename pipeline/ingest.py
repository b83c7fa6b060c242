"""Bring the store up to date with one source. The whole pipeline, read top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

import anyio
from anyio.abc import ObjectSendStream

from pipeline.agreed import Agreed
from pipeline.budget import Budget, Calibration, Purse
from pipeline.contained import Containers, container_of
from pipeline.copies import Copies, settle
from pipeline.decide import Step, Touch, decided, planned
from pipeline.embed import EmbedStage
from pipeline.errors import DocweaveError, StoreError
from pipeline.parse.formats import INSIDE
from pipeline.plan import USUAL_GUARD, Owing, RemovalGuard, SourcePlan, Survey, check_recipe, marks_of, survey
from pipeline.prepare import Found, Pipeline, Preparer
from pipeline.protocols import Connector, ListsTheNewest, Store
from pipeline.records import ItemRef, Known, Metadata, Prepared, Spending
from pipeline.report import Observer, SourceReport, ignore
from pipeline.write import Writer

log = logging.getLogger(__name__)


class Crew(Protocol):
    """Others who work off what a source owes: see `pipeline.shards`."""

    async def work_off(
        self,
        preparer: Preparer,
        found: Survey,
        gone: Mapping[tuple[str, ...], str],
        purse: Purse,
        observe: Observer,
    ) -> bool:
        """As the function of this name; False where it is so little that they are not worth it."""


AHEAD = 256
"""Documents that are read ahead of what is embedded."""
NOTING_SECONDS = 60.0
"""For each note of how a run went and what it cost: longer than others are in the way."""


async def ingest_source(  # noqa: PLR0913 - what holds for one run, by name
    connector: Connector,
    pipeline: Pipeline,
    *,
    metadata: Metadata | None = None,
    budgets: Sequence[Budget] = (),
    guard: RemovalGuard = USUAL_GUARD,
    plan: SourcePlan | None = None,
    crew: Crew | None = None,
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
        plan: Exactly this is done. What has moved since it was made is reported and not touched; what it
            withheld stays, unless `guard` approves of it.
        crew: Others who work off what is owed. Not where there is a plan to keep to.
        observe: Sees the report grow.

    Raises:
        SettingsError: the plan was made with other settings.
        SourceError: the source could not be listed, or turned us away. Nothing was removed.
        EmbedError: the service works for nothing (RETRY: for now).
        StoreError: the store cannot be read or written.
    """
    report = SourceReport(source=connector.source)
    preparer = Preparer(connector=connector, pipeline=pipeline, metadata=metadata or {}, report=report)
    agreed = Agreed(plan=plan, report=report, approved=guard.approved) if plan else None
    async with _remembered(pipeline.store, report):
        found = await survey_source(preparer, guard, agreed)
        observe(report)
        purse = await purse_of(pipeline, budgets)
        gone = await vanished(preparer, found)
        # Of two copies that two of a crew read at the same time, both would get rows.
        others = crew if crew and not agreed and not pipeline.copies_once else None
        try:
            if not (others and await others.work_off(preparer, found, gone, purse, observe)):
                await work_off(preparer, found.owed, gone, purse, observe, agreed)
            await finish(preparer, found, guard, observe, agreed)
            await _settle(preparer, purse, observe, agreed)
        finally:
            await note_spending(pipeline, report, purse.calibration)
    observe(report)
    return report


@asynccontextmanager
async def _remembered(store: Store, report: SourceReport) -> AsyncIterator[None]:
    """Keep how the run goes that the block is, also where it fails or is cancelled."""
    started, error = time.monotonic(), None
    try:
        yield
    except DocweaveError as failed:
        error = str(failed)
        raise
    except BaseException as failed:
        error = "cancelled" if isinstance(failed, anyio.get_cancelled_exc_class()) else type(failed).__name__
        raise
    finally:
        report.seconds = time.monotonic() - started
        with _noting(f"how the run over {report.source} went"):
            await store.ran(report.latest(error))


@contextmanager
def _noting(what: str) -> Iterator[None]:
    """Note something, also of a run that is cancelled.

    What comes of it must not take the place of what ended the run, nor keep it from ending: a storage that is
    silent is asked for ten minutes and more.
    """
    with anyio.move_on_after(NOTING_SECONDS, shield=True) as scope:
        try:
            yield
        except StoreError as error:
            log.warning("%s could not be noted: %s", what, error)
    if scope.cancelled_caught:
        log.warning("%s could not be noted: the storage has not answered for %g s", what, NOTING_SECONDS)


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
    found = await survey_source(preparer, guard)
    calibration = Calibration.of(await pipeline.store.spending(), pipeline.embedder.space)
    observe(report)
    plan = SourcePlan(source=connector.source, recipe=preparer.recipe, unchanged=found.unchanged)
    stored = await pipeline.store.states(connector.source, found.removed)
    plan.stored = {key: marks_of(state) for key, state in stored.items()}
    gone = await vanished(preparer, found)
    owing = Owing()
    read, prepared = anyio.create_memory_object_stream[Found](AHEAD)
    with _one_error():
        async with anyio.create_task_group() as stages:
            stages.start_soon(preparer.run, found.owed, read)
            copies = _copies(preparer, gone)
            async for steps, touched in decided(prepared, gone, pipeline.store, copies=copies):
                for document in planned(steps, touched, owing):
                    report.count(document.change)
                    plan.documents.append(document)
                    plan.tokens += document.tokens
                observe(report)
    emptied = preparer.containers.emptied()
    inside = await pipeline.store.states(connector.source, emptied)
    plan.stored |= {key: marks_of(state) for key, state in inside.items()}
    renamed = {document.renamed_from for document in plan.documents}
    unlisted = sorted(key for key in found.removed if key not in renamed)
    (plan.withheld if found.withheld else plan.removed).extend(unlisted)
    also = 0 if found.withheld else len(found.removed)
    withheld = guard.withholds(also + len(emptied), found.stored)
    (plan.withheld if withheld else plan.removed).extend(emptied)
    plan.removed.sort()
    plan.withheld.sort()
    plan.failures = {failure.key: failure.reason for failure in report.failures}
    billed = plan.tokens * calibration.ratio
    plan.cost_usd = billed * pipeline.embedder.usd_per_million_tokens / 1_000_000
    plan.documents.sort(key=lambda document: document.key)
    return plan


async def survey_source(preparer: Preparer, guard: RemovalGuard, agreed: Agreed | None = None) -> Survey:
    """List the whole source and compare it with what is stored, and with what was agreed to.

    Raises:
        SettingsError: that was with other settings.
    """
    store, source, report = preparer.pipeline.store, preparer.connector.source, preparer.report
    if agreed:
        check_recipe(source, agreed.plan.recipe, preparer.recipe)
    with report.timed("listing"):
        async for ref in preparer.connector.list_items():
            preparer.listed.append(ref)
    newest = preparer.connector if isinstance(preparer.connector, ListsTheNewest) else None
    keep = newest is not None and newest.keeps_vanished
    refs = preparer.listed
    found = survey(refs, await store.marks(source), preparer.recipe, guard, keep=keep)
    if agreed:
        stored = await store.states(source, found.removed)
        found = agreed.limited(found, {ref.key for ref in refs}, stored)
    preparer.containers.held = found.held
    preparer.containers.listed = {ref.key for ref in refs if INSIDE in ref.key}
    report.listed, report.stored = len(refs), found.stored
    report.unchanged, report.owed = found.unchanged, len(found.owed) + len(report.moved)
    return found


async def work_off(  # noqa: PLR0913, PLR0917 - what holds for one run
    preparer: Preparer,
    owed: Sequence[ItemRef],
    gone: dict[tuple[str, ...], str],
    purse: Purse,
    observe: Observer,
    agreed: Agreed | None = None,
) -> None:
    """Read these items, and store what is owed of them. A rename takes its old key out of `gone`.

    Raises:
        DocweaveError: one that is not about a single document.
    """
    pipeline, report = preparer.pipeline, preparer.report
    writer = Writer(store=pipeline.store, report=report, observe=observe, journal=pipeline.journal)
    embedding = EmbedStage(
        embedder=pipeline.embedder,
        report=report,
        purse=purse,
        find=pipeline.store.vectors,
        complete=writer.complete,
    )
    read, prepared = anyio.create_memory_object_stream[Found](AHEAD)
    owe, owing = anyio.create_memory_object_stream[tuple[Prepared, Known]](0)
    with _one_error():
        async with anyio.create_task_group() as stages, prepared:
            stages.start_soon(preparer.run, owed, read)
            stages.start_soon(embedding.run, owing, pipeline.concurrency)
            copies = _copies(preparer, gone)
            decisions = decided(prepared, gone, pipeline.store, embedding.look_up_begins, copies)
            if agreed:
                decisions = agreed.kept(decisions, pipeline.store, embedding.look_up_begins)
            await _carry_out(decisions, owe, writer)


def _copies(preparer: Preparer, gone: Mapping[tuple[str, ...], str]) -> Copies | None:
    """What tells the copies, where they are stored once."""
    pipeline, source = preparer.pipeline, preparer.connector.source
    if not pipeline.copies_once:
        return None
    return Copies(source=source, store=pipeline.store, leaving=set(gone.values()))


async def finish(
    preparer: Preparer,
    found: Survey,
    guard: RemovalGuard,
    observe: Observer,
    agreed: Agreed | None = None,
) -> None:
    """When all that is owed was worked off: remove what is gone, end what was opened, tend the store."""
    store, source, report = preparer.pipeline.store, preparer.connector.source, preparer.report
    writer = Writer(store=store, report=report, observe=observe, journal=preparer.pipeline.journal)
    gone: Sequence[str] = ()
    if found.withheld:
        report.withhold(found.removed)
    else:
        gone = agreed.removals(found.removed) if agreed else found.removed
    emptied = await _emptied(preparer, len(gone), found, guard, agreed)
    await writer.remove([*gone, *emptied])
    left = set(preparer.containers.emptied()).difference(emptied)
    await preparer.containers.finish(source, store, left)
    with report.timed("writing"):
        await store.upkeep()


async def _settle(preparer: Preparer, purse: Purse, observe: Observer, agreed: Agreed | None = None) -> None:
    """Have the copies of what this run removed or exchanged stand for themselves.

    Those of this source are read at once; those of others are owed by the next run over these. So are all,
    where a plan is kept to, which does not know them.
    """
    store, source, report = preparer.pipeline.store, preparer.connector.source, preparer.report
    released = {
        container_of(state.version) or state.key for state in await settle(store) if state.source == source
    }
    refs = sorted((ref for ref in preparer.listed if ref.key in released), key=lambda ref: ref.key)
    if agreed or not refs:
        return
    report.owed += len(refs)
    again = replace(preparer, containers=Containers(listed=preparer.containers.listed))
    await work_off(again, refs, {}, purse, observe)
    await again.containers.finish(source, store, ())
    await settle(store)


async def _emptied(
    preparer: Preparer, gone: int, found: Survey, guard: RemovalGuard, agreed: Agreed | None
) -> list[str]:
    """What containers hold no more, and may go together with the `gone` that are no longer listed."""
    store, source, report = preparer.pipeline.store, preparer.connector.source, preparer.report
    emptied = preparer.containers.emptied()
    if agreed:
        emptied = agreed.emptied(emptied, await store.states(source, emptied))
        withheld = agreed.withholds(emptied, gone + len(emptied))
    else:
        withheld = guard.keeps(emptied, gone, found.stored)
    if not withheld:
        return emptied
    report.withhold(emptied)
    return []


async def purse_of(pipeline: Pipeline, budgets: Sequence[Budget]) -> Purse:
    """The budgets, with what earlier runs tell of the service's token counts."""
    return Purse(
        budgets=budgets,
        usd_per_million_tokens=pipeline.embedder.usd_per_million_tokens,
        calibration=Calibration.of(await pipeline.store.spending(), pipeline.embedder.space),
    )


async def note_spending(pipeline: Pipeline, report: SourceReport, calibration: Calibration) -> None:
    """Keep what was paid, also by a run that failed or was cancelled."""
    if not (pipeline.journal and report.tokens):
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
    with _noting(f"what {report.source} cost"):
        await pipeline.store.spent(spending)


async def vanished(preparer: Preparer, found: Survey) -> dict[tuple[str, ...], str]:
    """The keys that go, by what was embedded under them: a new key with the same is a rename."""
    if found.withheld:
        return {}  # they stay: what has the same content is a copy
    states = await preparer.pipeline.store.states(preparer.connector.source, found.removed)
    return {state.group_keys: key for key, state in states.items() if state.group_keys}


async def _carry_out(
    decisions: AsyncIterator[tuple[list[Step], list[Touch]]],
    owing: ObjectSendStream[tuple[Prepared, Known]],
    writer: Writer,
) -> None:
    """Send each document on: to be embedded, to be written as it is, or only to have its marks moved."""
    async with owing:
        async for steps, touched in decisions:
            writer.expect(steps)
            await writer.touch(touched)
            whole = [(step, step.embedded()) for step in steps]
            await writer.complete({}, [embedded for _, embedded in whole if embedded])
            for step, embedded in whole:
                if not embedded:
                    await owing.send((step.prepared, step.known))


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
