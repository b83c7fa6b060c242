"""Where the workers of a sharded source run: Prefect's own task runners, and its work pools."""

# ruff: noqa: PLC0415 - each engine's packages are imported where they are asked for

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import anyio
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner

from config.execution import DASK, RAY, ExecutionSettings
from pipeline.errors import SettingsError
from pipeline.shards import Boards

POLL_SECONDS = 0.5
"""Between two looks at the runs of a work pool."""
ENDING_SECONDS = 15.0
"""For which runs may still say that they have ended, when all is done."""
SILENT_SECONDS = 90.0
"""After which runs that go on, but work on nothing, are taken for dead: longer than a shard is left alone."""


def task_runner(execution: ExecutionSettings) -> TaskRunner[Any]:
    """What runs tasks of this engine.

    Raises:
        SettingsError: its packages are not installed.
    """
    workers, address = execution.workers, execution.address
    if execution.engine == DASK:
        try:
            from prefect_dask.task_runners import DaskTaskRunner
        except ImportError as error:
            raise _missing(DASK) from error
        # Threads would share one interpreter: reading and cutting documents is most of the work.
        local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
        dask = DaskTaskRunner(address=address) if address else DaskTaskRunner(cluster_kwargs=local)
        return cast("TaskRunner[Any]", dask)
    if execution.engine == RAY:
        try:
            from prefect_ray.task_runners import RayTaskRunner
        except ImportError as error:
            raise _missing(RAY) from error
        here = {"num_cpus": workers, "include_dashboard": False}
        ray = RayTaskRunner(address=address) if address else RayTaskRunner(init_kwargs=here)
        return cast("TaskRunner[Any]", ray)
    return ProcessPoolTaskRunner(max_workers=workers)


def _missing(engine: str) -> SettingsError:
    return SettingsError(
        f"execution.engine is {engine}, and its packages are not installed: pip install 'docweave[{engine}]'"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkPool:
    """Workers as runs of a deployment on a work pool of Prefect's."""

    name: str
    workers: int
    flow: str
    entrypoint: str
    """Of the flow, as the pool's workers import it."""

    async def run(self, parameters: dict[str, Any], boards: Boards) -> list[str]:
        """Send the workers, and wait until they have ended; give why those that failed did.

        Runs that have not begun when all is done are cancelled; those of which nothing is heard, while nobody
        works on what is left, are given up.

        Raises:
            SettingsError: there is no such pool.
        """
        board = await boards.opened()
        async with get_client() as client:
            deployment = await self._deployed(client)
            runs: list[UUID] = []
            for number in range(1, self.workers + 1):
                made = await client.create_flow_run_from_deployment(
                    deployment,
                    name=f"{parameters['source']}, worker {number}",
                    parameters={**parameters, "number_of_worker": number},
                )
                runs.append(made.id)
            heard = anyio.current_time()
            states = await _states(client, runs)
            while not all(state.is_final() for state in states):
                left, at_work = await board.standing()
                begun = any(state.is_running() for state in states)
                if at_work or not begun:
                    heard = anyio.current_time()
                if not left:
                    await _ended(client, runs)
                    await _set(client, runs, Cancelled(message="all is done"))
                elif anyio.current_time() - heard > SILENT_SECONDS:
                    await _set(client, runs, Crashed(message="nothing was heard of it any more"))
                await anyio.sleep(POLL_SECONDS)
                states = await _states(client, runs)
        return [str(state.message) for state in states if state.is_failed() or state.is_crashed()]

    async def _deployed(self, client: PrefectClient) -> UUID:
        """The deployment of the workers on this pool, made where it is not there."""
        try:
            await client.read_work_pool(self.name)
        except ObjectNotFound as error:
            raise SettingsError(
                f"execution.work_pool: Prefect has no work pool {self.name!r}; make it, and start workers: "
                f"prefect work-pool create {self.name} --type process; "
                f"prefect worker start --pool {self.name}"
            ) from error
        return await client.create_deployment(
            flow_id=await client.create_flow_from_name(self.flow),
            name=self.name,
            entrypoint=self.entrypoint,
            work_pool_name=self.name,
            tags=["docweave"],
        )


async def _ended(client: PrefectClient, runs: Sequence[UUID]) -> None:
    """Give runs that have begun the time to say that they have ended."""
    with anyio.move_on_after(ENDING_SECONDS):
        while any(state.is_running() for state in await _states(client, runs)):  # noqa: ASYNC110 - polled
            await anyio.sleep(POLL_SECONDS)


async def _set(client: PrefectClient, runs: Sequence[UUID], to: State[Any]) -> None:
    """Have those that have not ended be in this state."""
    for run, state in zip(runs, await _states(client, runs), strict=True):
        if not state.is_final():
            await client.set_flow_run_state(run, to, force=True)


async def _states(client: PrefectClient, runs: Sequence[UUID]) -> list[State[Any]]:
    found = [(await client.read_flow_run(run)).state for run in runs]
    return [state for state in found if state]
