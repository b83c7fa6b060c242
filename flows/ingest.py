"""The flow that brings the tables up to date: a task a source, one after the other.

Sources take turns because each may use all that `embedding.concurrency` allows, and memory for one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from prefect import Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run, task_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, Failed

from config.build import build_pipeline, connectors, patience, removal_guard
from config.load import load_settings
from config.settings import Settings
from flows import approval, naming, plan_file
from flows.budgets import Budgets, budgets
from flows.clock import Clock, clock
from flows.jitter import begin_within
from flows.observed import begin, listing, observed
from flows.progress import watcher
from flows.secrets import know_blocks
from flows.shards import crew_for
from flows.stopping import stoppable
from flows.summary import counts, number
from flows.switching import check_switch
from flows.telling import busy_skips, telling
from pipeline.errors import DocweaveError, Recovery, SettingsError
from pipeline.ingest import ingest_source
from pipeline.records import JsonValue

RETRIES = 2
RETRY_DELAYS = [10.0, 60.0]
"""Seconds. The outer ring: each request has been retried by then, for minutes."""

_CREDENTIALS = re.compile(r"//[^/@\s]+@")
"""What stands before the host in an address."""

know_blocks()


async def run_here(
    config: str,
    sources: list[str] | None,
    *,
    rebuild: bool,
    approve_removals: int | None = None,
    plan: str | None = None,
) -> str | None:
    """Run the flow in this process.

    Returns:
        Why it failed; None if it did not.

    Raises:
        DocweaveError: the scheduler's server does not answer, or did not start.
        asyncio.CancelledError: it was stopped.
    """
    begun = ingest(config, sources, rebuild, approve_removals, plan, return_state=True)
    run = cast("Awaitable[State[Any]]", begun)
    try:
        state = await run
    except Exception as error:  # the flow's own errors are in its state: this is Prefect's
        server = PREFECT_API_URL.value() or "the server that is started for the time of a run"
        reason = f"at {server}: {error}".partition("\n")[0]
        raise DocweaveError(f"Prefect could not run the flow {_CREDENTIALS.sub('//', reason)}") from error
    if state.is_cancelled():
        raise asyncio.CancelledError(state.message)
    return None if state.is_completed() else str(state.message)


def may_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether what a task failed of may pass: only then is it worth another try."""
    error = state.data
    return isinstance(error, DocweaveError) and error.recovery is Recovery.RETRY


TRIED_AGAIN: Mapping[str, Any] = {
    "retries": RETRIES,
    "retry_delay_seconds": RETRY_DELAYS,
    "retry_condition_fn": may_pass,
    "persist_result": False,
    "cache_policy": NO_CACHE,
}
"""What holds for every task."""


def _flow_run_name() -> str:
    parameters = flow_run.parameters
    try:
        names = source_names(str(parameters["config"]), parameters.get("sources"))
    except DocweaveError:
        names = parameters.get("sources") or []
    return naming.begun(names, rebuild=bool(parameters.get("rebuild")))


def source_names(config: str, sources: list[str] | None, *, rebuild: bool = False) -> list[str]:
    """The sources that a run is about: those named, or all.

    Raises:
        SettingsError: the settings cannot be meant, a name is none of theirs, or a rebuild names sources.
    """
    if rebuild and sources:
        raise SettingsError("a rebuild covers every source: leave out the names, or do not rebuild")
    chosen = connectors(load_settings(Path(config)), sources or ())
    return [connector.source for connector, _ in chosen]


@flow(name="ingest", flow_run_name=_flow_run_name, persist_result=False, retries=0)
async def ingest(
    config: str,
    sources: list[str] | None = None,
    rebuild: bool = False,  # noqa: FBT001, FBT002 - a deployment's parameters
    approve_removals: int | None = None,
    plan: str | None = None,
    start_within: float = 0,
) -> State[Any]:
    """Bring the tables up to date with the documents, source by source.

    A source that fails does not stop the others; the run ends failed after all have run, and its message
    says which and why. A document that fails is reported, and the run does not fail by it; nor does it by a
    budget, which leaves what would pass it for the next run.

    Args:
        config: The path of the YAML settings.
        sources: Names from the settings. Left out: all of them.
        rebuild: Build the tables anew beside the live ones, and let them take their place when every source
            has been ingested.
        approve_removals: How many documents may be removed from each source, where the settings withhold
            more than they allow. Left out: none beyond these.
        plan: The path of a plan that `docweave plan --save` wrote: exactly that is done, in the sources
            named, or in all that it is about. What has moved since is reported and not touched.
        start_within: Seconds. The run begins after a random part of them: the jitter of a schedule.
    """
    async with stoppable() as stop:
        await begin_within(start_within)
        return await _ingested(config, sources, rebuild=rebuild, approve_removals=approve_removals, plan=plan)
    return Cancelled(message=f"{stop.reason}; what was committed stays, and is not paid for again")


async def _ingested(
    config: str, sources: list[str] | None, *, rebuild: bool, approve_removals: int | None, plan: str | None
) -> State[Any]:
    """How the run ended."""
    try:
        names = await _begun(config, sources, rebuild=rebuild, plan=plan)
        generation = await stage(config) if rebuild else None
        ended, failed = await _each(config, names, generation, approve_removals, plan)
        if not (rebuild or plan):
            failed += await _approved(config, ended)
        await naming.name_run(ended, len(failed))
        message = _stopped(ended, rebuild=rebuild) or f"{number(len(names), 'source')} ingested"
        if failed:
            message = f"{len(failed)} of {number(len(names), 'source')} failed: {'; '.join(failed)}"
        elif generation is not None and not _stopped(ended, rebuild=rebuild):
            await publish(config, generation, approve_removals)
    except DocweaveError as error:
        return Failed(message=_said(error))
    return Failed(message=message) if failed else Completed(message=message)


async def _begun(config: str, sources: list[str] | None, *, rebuild: bool, plan: str | None) -> list[str]:
    """The sources that the run is about, all that can be wrong with its parameters having been looked at."""
    names = source_names(config, sources, rebuild=rebuild)
    settings = load_settings(Path(config))
    begin(settings)
    budgets.set(Budgets.of(settings))
    clock.set(Clock.of(settings))
    approval.approvals.set(approval.Approvals())
    await naming.tag_run([*names[: naming.TAGGED_SOURCES], *(["rebuild"] if rebuild else [])])
    if plan:
        names = plan_file.chosen(Path(plan), sources or [], settings, rebuild=rebuild)
        await plan_file.check_settings(Path(plan), names, settings)
    return names


async def _each(
    config: str, names: list[str], generation: int | None, approve_removals: int | None, plan: str | None
) -> tuple[list[dict[str, JsonValue]], list[str]]:
    """What became of the sources that ended, and why the others failed."""
    ended: list[dict[str, JsonValue]] = []
    failed: list[str] = []
    for name in names:
        try:
            ended.append(await one_source(config, name, generation, approve_removals, plan))
        except Exception as error:  # noqa: BLE001 - whatever it is, it does not stop the other sources
            failed.append(f"{name}: {_said(error)}")
    return ended, failed


async def _approved(config: str, ended: list[dict[str, JsonValue]]) -> list[str]:
    """Remove what is withheld and a person approves of, and note it in `ended`; give what failed of it."""
    granted = await approval.granted(load_settings(Path(config)), ended)
    again, failed = await _each(config, granted, None, None, None)
    done = {one["source"] for one in again}
    for one in ended:
        if one["source"] in done:
            one |= {"failed": 0, "left": 0, "withheld": 0}  # what is still so, stands in the other report
    ended += again
    return failed


def _stopped(ended: list[dict[str, JsonValue]], *, rebuild: bool) -> str:
    """What kept sources from being brought up to date, that is no failure; empty where nothing did."""
    left = sum(cast("int", one["left"]) for one in ended)
    if left:
        when = "; the new tables take over when nothing is left" if rebuild else ""
        return f"a budget was reached: {number(left, 'document')} left for the next run{when}"
    if skipped := sum(one["skipped"] is not None for one in ended):
        return f"{number(skipped, 'source')} skipped: another run is at it"
    if moved := sum(bool(one["moved"]) for one in ended):
        when = "; the new tables take over after a rebuild of the rest" if rebuild else ""
        return f"{number(moved, 'source')} moved since the plan{when}"
    return ""


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


@task(name="ingest source", task_run_name="{source}", **TRIED_AGAIN)
async def one_source(
    config: str,
    source: str,
    generation: int | None,
    approve_removals: int | None = None,
    plan: str | None = None,
) -> dict[str, JsonValue]:
    """Ingest one source, into the live tables or the generation of a rebuild.

    Returns:
        Its report as plain values, with the first failures only.

    Raises:
        DocweaveError: as `ingest_source`. Tried again only if it may pass.
    """
    logger, watching = get_run_logger(source=source), watcher.get()
    logger.info("%s: listing", source)
    try:
        async with telling(source, logger, watching) as teller:
            settings = load_settings(Path(config))
            teller.about(settings)
            [(connector, metadata)] = connectors(settings, [source])
            timer = clock.get() or Clock.of(settings)
            with timer.run(source):
                async with (
                    observed(settings, source, teller),
                    build_pipeline(
                        settings, rebuild=generation is not None, generation=generation
                    ) as pipeline,
                    busy_skips(settings, teller),
                    pipeline.store.lease(
                        _doing(source), wait=patience(settings), tell=teller.waiting
                    ) as lease,
                ):
                    spent = budgets.get() or Budgets.of(settings)
                    crew = await crew_for(
                        settings, config, source, generation=generation, lease=lease, tell=teller.waiting
                    )
                    with spent.trying(teller), timer.source(source):
                        await ingest_source(
                            connector,
                            pipeline,
                            metadata=metadata,
                            guard=approval.limited(
                                removal_guard(settings, source, approved=approve_removals), source
                            ),
                            plan=plan_file.read_source(Path(plan), source) if plan else None,
                            budgets=spent.for_source(source),
                            crew=crew,
                            observe=listing(teller.observe),
                        )
                    await teller.stored(pipeline.store, generation)
    except Exception as error:
        watching.failed(source, error, again_in=_again_in(error))
        raise
    watching.ended(teller.report)
    return counts(teller.report)


@task(name="stage", task_run_name="stage", **TRIED_AGAIN)
async def stage(config: str) -> int:
    """Make the tables of a rebuild beside the live ones, or find those of one that was stopped.

    Returns:
        The number of their generation.

    Raises:
        StoreError: they cannot be made.
    """
    settings, logger = load_settings(Path(config)), get_run_logger()
    async with (
        build_pipeline(settings, rebuild=True) as pipeline,
        pipeline.store.lease(_doing("a rebuild"), wait=_patience(settings), tell=logger.info),
    ):
        return await pipeline.store.stage()


@task(name="publish", task_run_name="publish", **TRIED_AGAIN)
async def publish(config: str, generation: int, approve_removals: int | None = None) -> None:
    """Let the tables that were built anew take the place of the live ones.

    Raises:
        StoreError: they could not; the live ones are as they were.
        RemovalsWithheld: they hold less of what is live than may be lost unasked.
    """
    settings, logger = load_settings(Path(config)), get_run_logger()
    async with (
        build_pipeline(settings, rebuild=True, generation=generation) as pipeline,
        pipeline.store.lease(_doing("a rebuild's end"), wait=_patience(settings), tell=logger.info),
    ):
        may = partial(check_switch, settings, approved=approve_removals)
        await pipeline.store.publish(sources=settings.sources, may=may)
    logger.info("the new tables are live; `docweave rollback` goes back to those before")


def _patience(settings: Settings) -> float:
    """Seconds; also where runs are to skip what is busy: to skip this would be to throw the rebuild away."""
    return settings.store.wait_minutes * 60


def _doing(what: str) -> str:
    """What a lease says of this run."""
    run = f" (flow run {flow_run.id})" if flow_run.id else ""
    return f"ingesting {what}{run}"


def _again_in(error: Exception) -> float | None:
    """Seconds until the task is tried again; None if it is not."""
    passing = isinstance(error, DocweaveError) and error.recovery is Recovery.RETRY
    tried = task_run.run_count or 1
    return RETRY_DELAYS[tried - 1] if passing and tried <= RETRIES else None
