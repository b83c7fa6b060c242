"""Hands deployments to Prefect's server: reads what is there, and does what the plan says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentCreate, DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    DeploymentFilterTags,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import ConcurrencyOptions, FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import (
    SCHEDULE_TYPES,
    CronSchedule,
    IntervalSchedule,
    RRuleSchedule,
)
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

from config.settings import Settings
from flows.addresses import without_credentials
from flows.deployments import SETTINGS_LABEL, TAG, Deployment, Forms, Step, identity, plan, wanted
from flows.ingest import ingest
from flows.maintain import maintain
from pipeline.errors import DocweaveError, SettingsError
from pipeline.records import JsonValue

PAGE = 100
"""How many the server is asked for at a time."""
_FLOWS = ("ingest", "maintain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What was done, or would be."""

    steps: Sequence[Step]
    pool: str
    pool_made: bool
    """Whether the work pool was not there before."""
    server: str


async def deploy(
    config: Path, settings: Settings, *, pool: str | None = None, prune: bool = False, dry_run: bool = False
) -> Deployed:
    """Bring the server's deployments into line with the settings.

    Args:
        config: The absolute path of the YAML file.
        settings: What it says.
        pool: The work pool, in place of the settings' own.
        prune: Whether those that are no longer wanted are removed.
        dry_run: Whether nothing is changed.

    Raises:
        SettingsError: a deployment of that name is there, and is not of these settings.
        DocweaveError: the server does not answer, or refuses.
    """
    async with _server() as client:
        asked = wanted(config, settings, _forms(), pool=pool)
        there = await _existing(client, asked, identity(config, settings))
        steps = plan(asked, there, prune=prune)
        chosen = pool or settings.deploy.pool
        pool_made = not await _has_pool(client, chosen)
        if not dry_run:
            if pool_made:
                await client.create_work_pool(WorkPoolCreate(name=chosen, type="process"))
            await _apply(client, steps, there)
        return Deployed(
            steps=steps,
            pool=chosen,
            pool_made=pool_made,
            server=without_credentials(str(client.api_url).rstrip("/")),
        )


@asynccontextmanager
async def _server() -> AsyncIterator[PrefectClient]:
    """A client of the server that is configured.

    Raises:
        SettingsError: none is.
        DocweaveError: whatever goes wrong with it.
    """
    address = PREFECT_API_URL.value()
    if not address:
        raise SettingsError(
            "no Prefect server is configured: start one (prefect server start) and set "
            "PREFECT_API_URL=http://127.0.0.1:4200/api; or let `docweave up` do all of it"
        )
    try:
        async with get_client() as client:
            yield client
    except DocweaveError:
        raise
    except Exception as error:  # Prefect's client and httpx raise a great many
        if isinstance(error, httpx.ConnectError):
            where = without_credentials(address)
            raise DocweaveError(
                f"no Prefect server answers at {where}: is it up (prefect server start), and is that its "
                "address (PREFECT_API_URL)?"
            ) from error
        reason = without_credentials(f"at {address}: {error}".partition("\n")[0])
        raise DocweaveError(f"Prefect's server did not do what it was asked to, {reason}") from error


def _forms() -> Forms:
    return Forms(
        ingest=ingest.parameters.model_dump(mode="json"), maintain=maintain.parameters.model_dump(mode="json")
    )


async def _existing(client: PrefectClient, asked: Sequence[Deployment], settings: str) -> list[_There]:
    """The deployments of these settings.

    Raises:
        SettingsError: one of the names that are asked for is somebody else's.
    """
    flows = await client.read_flows(flow_filter=FlowFilter(name=FlowFilterName(any_=[*_FLOWS])))
    names = {flow.id: flow.name for flow in flows}
    found = await _all(client, DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG])))
    known = {one.name for one in found}
    if new := [one.name for one in asked if one.name not in known]:
        # Somebody may have taken the name.
        found += await _all(client, DeploymentFilter(name=DeploymentFilterName(any_=new)))
    there = [_there(one, names[one.flow_id]) for one in found if one.flow_id in names]
    wanted_names = {one.full_name for one in asked}
    for one in there:
        if one.full_name in wanted_names and one.settings != settings:
            whose = f"is of {one.settings}" if one.settings else "was not made by docweave"
            raise SettingsError(
                f"Prefect has a deployment {one.full_name} already, and it {whose}: name these settings' own "
                "with deploy.name, or remove that one"
            )
    return [one for one in there if one.settings == settings]


async def _all(client: PrefectClient, chosen: DeploymentFilter) -> list[DeploymentResponse]:
    found: list[DeploymentResponse] = []
    while True:
        page = await client.read_deployments(deployment_filter=chosen, limit=PAGE, offset=len(found))
        found += page
        if len(page) < PAGE:
            return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _There(Deployment):
    """A deployment that the server has."""

    id: UUID
    active: bool
    """Whether its schedules are; beside that, the deployment as a whole may be paused."""
    halted: bool


def _there(one: DeploymentResponse, flow: str) -> _There:
    limit, options = one.global_concurrency_limit, one.concurrency_options
    active = all(schedule.active for schedule in one.schedules)
    return _There(
        id=one.id,
        active=active,
        halted=one.paused,
        flow=flow,
        name=one.name,
        settings=str(one.labels.get(SETTINGS_LABEL, "")),
        description=one.description or "",
        version=one.version or "",
        tags=one.tags,
        entrypoint=one.entrypoint or "",
        parameters=one.parameters,
        form=one.parameter_openapi_schema or {},
        pool=one.work_pool_name,
        schedules=[_plain(schedule.schedule, schedule.parameters) for schedule in one.schedules],
        paused=one.paused or not active,
        limit=limit.limit if limit else None,
        when_running=options.collision_strategy.value if options else None,
    )


def _plain(schedule: SCHEDULE_TYPES, parameters: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """A schedule as `flows.deployments` spells it."""
    when: dict[str, JsonValue] = schedule.model_dump(mode="json")
    if isinstance(schedule, IntervalSchedule):
        local = schedule.anchor_date.astimezone(ZoneInfo(schedule.timezone or "UTC"))
        anchor = local.replace(tzinfo=None).isoformat()
        when |= {"interval": schedule.interval.total_seconds(), "anchor_date": anchor}
    return {"schedule": when, "parameters": parameters}


def _as_prefect(when: JsonValue) -> SCHEDULE_TYPES:
    """The reverse."""
    said: dict[str, Any] = dict(when) if isinstance(when, dict) else {}
    if "cron" in said:
        return CronSchedule(**said)
    if "rrule" in said:
        return RRuleSchedule(**said)
    anchor = datetime.fromisoformat(said["anchor_date"]).replace(tzinfo=ZoneInfo(said["timezone"]))
    return IntervalSchedule(
        interval=timedelta(seconds=said["interval"]), anchor_date=anchor, timezone=said["timezone"]
    )


async def _has_pool(client: PrefectClient, name: str) -> bool:
    try:
        await client.read_work_pool(name)
    except ObjectNotFound:
        return False
    return True


async def _apply(client: PrefectClient, steps: Sequence[Step], there: Sequence[_There]) -> None:
    """Do what the steps say, one after the other: of several at once a server on SQLite refuses some."""
    before = {one.full_name: one for one in there}
    touched = {step.deployment.flow for step in steps if step.kind in ("created", "updated")}
    flows = {name: await client.create_flow_from_name(name) for name in touched}
    for step in steps:
        one, known = step.deployment, before.get(step.deployment.full_name)
        if step.kind == "removed" and known:
            await client.delete_deployment(known.id)
        elif step.kind in ("created", "updated"):
            await _put(client, one, flows[one.flow], known)


async def _put(client: PrefectClient, one: Deployment, flow_id: UUID, before: _There | None) -> None:
    """Create it, or have it take the place of the one of its name."""
    halted, active = bool(one.paused), True
    if one.paused is None and before:
        halted, active = before.halted, before.active
    made = DeploymentCreate(
        flow_id=flow_id,
        name=one.name,
        version=one.version,
        description=one.description,
        tags=list(one.tags),
        labels={SETTINGS_LABEL: one.settings},
        entrypoint=one.entrypoint,
        parameters=dict(one.parameters),
        parameter_openapi_schema=dict(one.form),
        enforce_parameter_schema=True,
        work_pool_name=one.pool,
        paused=halted,
        concurrency_limit=one.limit,
        concurrency_options=ConcurrencyOptions(collision_strategy=one.when_running),
        schedules=[
            DeploymentScheduleCreate(
                schedule=_as_prefect(each["schedule"]), parameters=each["parameters"], active=active
            )
            for each in one.schedules
        ],
    )
    # The client's own method for it knows no labels.
    await client.request("POST", "/deployments/", json=made.model_dump(mode="json", exclude_unset=True))


async def drop_overdue(steps: Sequence[Step]) -> int:
    """Delete the scheduled runs that were missed, all but the latest of each deployment.

    For a machine that was off: there is no use in bringing the same tables up to date ten times.

    Returns:
        How many there were beyond the latest ones.

    Raises:
        DocweaveError: the server does not answer, or refuses.
    """
    names = [step.deployment.name for step in steps if step.kind != "removed"]
    async with _server() as client:
        runs = await _overdue(client, names)
        latest = {run.deployment_id: run.id for run in runs}
        dropped = [run for run in runs if latest[run.deployment_id] != run.id]
        for run in dropped:
            await client.delete_flow_run(run.id)
    return len(dropped)


async def _overdue(client: PrefectClient, names: Sequence[str]) -> list[FlowRun]:
    """The runs that schedules asked for, and that should have begun by now; the earliest first."""
    asked = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=datetime.now(UTC)),
    )
    found: list[FlowRun] = []
    while True:
        page = await client.read_flow_runs(
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[*names])),
            flow_run_filter=asked,
            sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
            limit=PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < PAGE:
            return [run for run in found if run.auto_scheduled]
