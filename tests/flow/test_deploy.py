"""`docweave deploy` against a real server: what it makes, changes, leaves alone and removes."""

# ruff: noqa: ASYNC240 - small files, and nobody waits
# ruff: noqa: PLC0415 - prefect reads its environment when it is imported, after conftest.py has set it

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from typer.testing import CliRunner

from apps.cli import app
from config.load import load_settings

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # Prefect's, at a loop's end

TEXT = """
schedule: {cron: "0 2 * * *", timezone: Europe/Berlin, jitter: 10m}
store: {upkeep: {schedule: {rrule: "FREQ=MONTHLY;BYDAY=1SU;BYHOUR=4"}}}
sources:
  handbook: {type: files, path: docs}
  wiki: {type: files, path: docs, schedule: {interval: 6h, timezone: Europe/Berlin}}
"""


@pytest.fixture
def config(tmp_path: Path, prefect_server: str) -> Path:
    """Settings in a folder whose name no other test has: it is the deployments'."""
    folder = tmp_path / f"notes-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    path = folder / "docweave.yaml"
    path.write_text(TEXT)
    return path


async def deploy(config: Path, *options: str, ends: int = 0) -> dict[str, Any]:
    command = ["deploy", "--config", str(config), "--json", *options]
    result = await anyio.to_thread.run_sync(CliRunner().invoke, app, command)
    assert result.exit_code == ends, result.output
    printed: dict[str, Any] = json.loads(result.stdout)
    return printed


def done(printed: dict[str, Any]) -> dict[str, str]:
    return {one["name"].partition(".")[2]: one["done"] for one in printed["deployments"]}


async def stored(config: Path, name: str, flow: str = "ingest") -> Any:
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        return await client.read_deployment_by_name(f"{flow}/{config.parent.name}.{name}")


@pytest.fixture
async def pool(prefect_server: str) -> AsyncIterator[str]:
    """The name of one that is not there; it is removed in the end."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    name = f"pool-{uuid.uuid4().hex[:8]}"
    yield name
    async with get_client() as client:
        with suppress(ObjectNotFound):
            await client.delete_work_pool(name)


async def test_a_dry_run_says_what_would_be_made_and_makes_nothing(config: Path, pool: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    printed = await deploy(config, "--dry-run", "--pool", pool)
    assert done(printed) == {"default": "created", "wiki": "created", "maintain": "created"}
    assert (printed["pool"], printed["pool_made"]) == (pool, True)
    with pytest.raises(ObjectNotFound):
        await stored(config, "default")
    async with get_client() as client:
        with pytest.raises(ObjectNotFound):
            await client.read_work_pool(pool)


async def test_prefect_has_it_as_the_settings_say(config: Path, pool: str) -> None:
    from prefect.client.orchestration import get_client

    assert (await deploy(config, "--pool", pool))["pool_made"] is True
    made = await stored(config, "default")
    assert made.tags == sorted(["docweave", config.parent.name, "handbook"])
    assert made.parameters == {"config": str(config), "sources": ["handbook"]}
    assert made.entrypoint == "flows.ingest.ingest"
    assert made.version.startswith("0.1.0+")
    assert "Brings the tables up to date with `handbook`" in made.description
    assert made.global_concurrency_limit.limit == 1
    assert made.concurrency_options.collision_strategy.value == "ENQUEUE"
    assert made.parameter_openapi_schema["properties"]["sources"]["items"]["enum"] == ["handbook"]
    [schedule] = made.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 2 * * *", "Europe/Berlin")
    assert schedule.parameters == {"start_within": 600}
    [every] = (await stored(config, "wiki")).schedules
    assert every.schedule.interval.total_seconds() == 6 * 3600
    upkeep = await stored(config, "maintain", flow="maintain")
    assert upkeep.entrypoint == "flows.maintain.maintain"
    async with get_client() as client:
        assert (await client.read_work_pool(pool)).type == "process"


async def test_to_deploy_twice_is_to_deploy_once_and_a_change_changes_what_it_is_about(
    config: Path, pool: str
) -> None:
    await deploy(config, "--pool", pool)
    assert set(done(await deploy(config, "--pool", pool)).values()) == {"unchanged"}
    config.write_text(TEXT.replace("interval: 6h", "interval: 12h, paused: true"))
    printed = await deploy(config, "--pool", pool, "--dry-run")
    assert done(printed) == {"default": "unchanged", "wiki": "updated", "maintain": "unchanged"}
    [changed] = [one for one in printed["deployments"] if one["done"] == "updated"]
    differences = changed["differences"]
    assert differences["schedule"] == ["every 6h Europe/Berlin", "every 12h Europe/Berlin"]
    assert differences["paused"] == ["false", "true"]
    await deploy(config, "--pool", pool)
    assert set(done(await deploy(config, "--pool", pool)).values()) == {"unchanged"}
    assert (await stored(config, "wiki")).paused is True


async def test_what_somebody_paused_stays_paused_through_an_update(config: Path, pool: str) -> None:
    from prefect.client.orchestration import get_client

    await deploy(config, "--pool", pool)
    async with get_client() as client:
        await client.pause_deployment((await stored(config, "wiki")).id)
    config.write_text(TEXT.replace("interval: 6h", "interval: 12h"))
    assert done(await deploy(config, "--pool", pool))["wiki"] == "updated"
    assert (await stored(config, "wiki")).paused is True


async def test_prune_removes_its_own_and_nothing_else(config: Path, pool: str, tmp_path: Path) -> None:
    from prefect.exceptions import ObjectNotFound

    other = tmp_path / "other" / "docweave.yaml"
    other.parent.mkdir()
    other.write_text(TEXT)
    await deploy(config, "--pool", pool)
    await deploy(other, "--pool", pool)
    config.write_text(TEXT[: TEXT.index("  wiki:")])
    assert done(await deploy(config, "--pool", pool))["wiki"] == "no longer wanted"
    assert (await stored(config, "wiki")).name.endswith(".wiki")
    assert done(await deploy(config, "--pool", pool, "--prune"))["wiki"] == "removed"
    with pytest.raises(ObjectNotFound):
        await stored(config, "wiki")
    assert (await stored(other, "wiki")).name == "other.wiki"


async def test_a_deployment_of_that_name_that_is_somebody_elses_is_not_touched(
    config: Path, pool: str, tmp_path: Path
) -> None:
    await deploy(config, "--pool", pool)
    same_name = tmp_path / "elsewhere" / config.parent.name / "docweave.yaml"
    same_name.parent.mkdir(parents=True)
    same_name.write_text(TEXT)
    printed = await deploy(same_name, "--pool", pool, ends=2)
    assert f"and it is of {config}: name these settings' own with deploy.name" in printed["error"]["reason"]


async def test_of_the_runs_that_were_missed_the_latest_is_left(config: Path, pool: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    from flows.deploying import drop_overdue
    from flows.deployments import Forms, plan, wanted

    config.write_text(TEXT.replace("interval: 6h", "interval: 1h"))
    await deploy(config, "--pool", pool)
    made = await stored(config, "wiki")
    now = datetime.now(UTC)
    window = {
        "start_time": (now - timedelta(hours=7)).isoformat(),
        "end_time": now.isoformat(),
        "min_runs": 10,
    }
    async with get_client() as client:
        await client.request("POST", f"/deployments/{made.id}/schedule", json=window)
        of_it = DeploymentFilter(name=DeploymentFilterName(any_=[made.name]))
        before = [run.expected_start_time for run in await client.read_flow_runs(deployment_filter=of_it)]
        missed = [time for time in before if time < now]
        to_come = {time for time in before if time >= now}
        assert len(missed) == 7
        steps = plan(wanted(config, load_settings(config), Forms(ingest={}, maintain={})), [])
        assert await drop_overdue(steps) == 6
        left = [run.expected_start_time for run in await client.read_flow_runs(deployment_filter=of_it)]
    assert [time for time in left if time < now] == [max(missed)]
    assert to_come <= set(left)  # the server may have planned more by now


async def test_without_a_server_it_says_how_to_start_one(tmp_path: Path, prefect_server: str) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    path = tmp_path / "docweave.yaml"
    path.write_text(TEXT)
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        printed = await deploy(path, ends=2)
    assert "no Prefect server is configured: start one" in printed["error"]["reason"]
    with temporary_settings({PREFECT_API_URL: "http://user:pass@127.0.0.1:9/api"}):
        reason = (await deploy(path, ends=3))["error"]["reason"]
    assert reason.startswith("no Prefect server answers at http://127.0.0.1:9/api: is it up")
