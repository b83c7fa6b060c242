"""The flow that brings the tables up to date: a task a source, one after the other.

Sources take turns because each may use all that `embedding.concurrency` allows, and memory for one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
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
from flows.rebuild import publish, stage
from flows.retries import TRIED_AGAIN, again_in
from flows.secrets import know_blocks
from flows.shards import crew_for
from flows.stopping import stoppable
from flows.summary import counts, held_back, number
from flows.telling import busy_skips, telling
from pipeline.errors import DocweaveError, SettingsError
from pipeline.ingest import ingest_source
from pipeline.records import JsonValue

know_blocks()


def _flow_run_name() -> str:
    parameters = flow_run.parameters
    try:
        names = _names(load_settings(Path(str(parameters["config"]))), parameters.get("sources"))
    except DocweaveError:
        names = parameters.get("sources") or []
    return naming.begun(names, rebuild=bool(parameters.get("rebuild")))


@flow(name="ingest", flow_run_name=_flow_run_name, persist_result=False, retries=0)
async def ingest(  # noqa: PLR0913, PLR0917 - a deployment's parameters
    config: str,
    sources: list[str] | None = None,
    rebuild: bool = False,  # noqa: FBT001, FBT002 - as above
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
        names, settings = await _begun(config, sources, rebuild=rebuild, plan=plan)
        generation = await stage(config) if rebuild else None
        ended, failed = await _each(config, names, generation, approve_removals, plan)
        if not (rebuild or plan):
            failed += await _approved(config, settings, ended)
        await naming.name_run(ended, len(failed))
        if failed:
            said = f"{len(failed)} of {number(len(names), 'source')} failed: {'; '.join(failed)}"
            return Failed(message=said)
        if said := held_back(ended, rebuild=rebuild):
            return Completed(message=said)
        if generation is not None:
            await publish(config, generation, approve_removals)
    except DocweaveError as error:
        return Failed(message=_said(error))
    return Completed(message=f"{number(len(names), 'source')} ingested")


async def _begun(
    config: str, sources: list[str] | None, *, rebuild: bool, plan: str | None
) -> tuple[list[str], Settings]:
    """The sources that the run is about, all that can be wrong with its parameters having been looked at."""
    if rebuild and sources:
        raise SettingsError("a rebuild covers every source: leave out the names, or do not rebuild")
    settings = load_settings(Path(config))
    names = _names(settings, sources)
    begin(settings)
    budgets.set(Budgets.of(settings))
    clock.set(Clock.of(settings))
    approval.approvals.set(approval.Approvals())
    await naming.tag_run([*names[: naming.TAGGED_SOURCES], *(["rebuild"] if rebuild else [])])
    if plan:
        names = plan_file.chosen(Path(plan), sources or [], settings, rebuild=rebuild)
        await plan_file.check_settings(Path(plan), names, settings)
    return names, settings


def _names(settings: Settings, sources: list[str] | None) -> list[str]:
    """The sources that are named, or all.

    Raises:
        SettingsError: a name is none of the settings'.
    """
    return [connector.source for connector, _ in connectors(settings, sources or ())]


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


async def _approved(config: str, settings: Settings, ended: list[dict[str, JsonValue]]) -> list[str]:
    """Remove what is withheld and a person approves of, and note it in `ended`; give what failed of it."""
    granted = await approval.granted(settings, ended)
    again, failed = await _each(config, granted, None, None, None)
    done = {one["source"] for one in again}
    for one in ended:
        if one["source"] in done:
            one |= {"failed": 0, "left": 0, "withheld": 0}  # what is still so, stands in the other report
    ended += again
    return failed


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
            guard = approval.limited(removal_guard(settings, source, approved=approve_removals), source)
            agreed = plan_file.read_source(Path(plan), source) if plan else None
            spent, timer = budgets.get() or Budgets.of(settings), clock.get() or Clock.of(settings)
            rebuild, wait, tell = generation is not None, patience(settings), teller.waiting
            with timer.run():
                async with (
                    observed(settings, source, teller),
                    build_pipeline(settings, rebuild=rebuild, generation=generation) as pipeline,
                    busy_skips(settings, teller),
                    pipeline.store.lease(naming.doing(source), wait=wait, tell=tell) as lease,
                ):
                    crew = await crew_for(
                        settings, config, source, generation=generation, lease=lease, tell=tell
                    )
                    with spent.trying(teller), timer.source(source):
                        await ingest_source(
                            connector,
                            pipeline,
                            metadata=metadata,
                            budgets=spent.for_source(source),
                            guard=guard,
                            plan=agreed,
                            crew=crew,
                            observe=listing(teller.observe),
                        )
                    await teller.stored(pipeline.store, generation)
    except Exception as error:
        watching.failed(source, error, again_in=again_in(error))
        raise
    watching.ended(teller.report)
    return counts(teller.report)
