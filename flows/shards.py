"""One source worked off by several workers, on the engine that the settings name.

Workers take names, paths and numbers, and give counts: what they are to do, and what became of it, stands on
a board beside the tables (`pipeline.shards`).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from functools import partial
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import anyio
import anyio.to_thread
import httpx
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.context import TaskRunContext
from prefect.exceptions import ObjectNotFound
from prefect.futures import PrefectFuture
from prefect.states import Crashed

from config.build import build_pipeline, connectors, open_boards
from config.execution import PREFECT_WORKERS, part_of
from config.load import load_settings
from config.settings import Settings
from flows.engines import WorkPool, task_runner
from flows.observed import helping
from flows.secrets import know_blocks
from flows.summary import number
from pipeline.report import SourceReport
from pipeline.shards import Crew, Tell, work_off_shards
from pipeline.shards_told import failure

know_blocks()


async def crew_for(  # noqa: PLR0913 - what holds for one run, by name
    settings: Settings, config: str, source: str, *, generation: int | None, lease: str, tell: Tell
) -> Crew | None:
    """Who is to work off a source; None where this run does it alone.

    Args:
        settings: Of the file `config`.
        config: The path of the settings, for workers to read.
        source: Its name.
        generation: As `docweave.flows.ingest.one_source`.
        lease: Of the tables.
        tell: Hears what people may want to know.

    Raises:
        SettingsError: what the engine needs is not installed.
    """
    execution = settings.execution
    if not execution.shares:
        return None
    parameters = {
        "config": os.path.abspath(config),  # noqa: ASYNC240, PTH100 - looks at nothing, follows no link
        "source": source,
        "lease": lease,
        "generation": generation,
    }
    boards = await open_boards(settings, lease)
    if execution.engine == PREFECT_WORKERS:
        pool = WorkPool(
            name=str(execution.work_pool),
            workers=execution.workers,
            flow=pool_worker.name,
            entrypoint=ENTRYPOINT,
        )
        send = partial(pool.run, parameters, boards)
    else:
        send = partial(_run_tasks, execution.workers, task_runner(execution), parameters)
    return Crew(
        boards=boards,
        lease=lease,
        workers=execution.workers,
        shard_tokens=execution.shard_tokens,
        send=send,
        tell=tell,
    )


async def _run_tasks(workers: int, runner: Any, parameters: dict[str, Any]) -> list[str]:
    """Have the workers run as tasks; give why those that failed did."""
    send = partial(shards.with_options(task_runner=runner), **parameters, workers=workers)

    def run() -> list[str]:
        # Task runners send the task along in which they are used, and that of a source cannot be sent.
        TaskRunContext.__var__.set(None)  # type: ignore[arg-type]
        return send()

    # In a thread, with a copy of the context: the lease of the tables is renewed meanwhile.
    return await anyio.to_thread.run_sync(run, abandon_on_cancel=True)


@flow(name="shards", flow_run_name="shards of {source}", persist_result=False)
def shards(config: str, source: str, lease: str, generation: int | None, workers: int) -> list[str]:
    """Work off the shards of a source, by as many workers. Sent by the flow `ingest`.

    Args:
        config: The path of the YAML settings.
        source: Its name.
        lease: Names the board.
        generation: Of the tables, in a rebuild.
        workers: How many.

    Returns:
        Why those that failed did.
    """
    sent = [shard_worker.submit(config, source, lease, generation, one + 1) for one in range(workers)]
    return [said for future in sent if (said := _said(future))]


def _said(worker: PrefectFuture[Any]) -> str:
    """Why a worker failed, when it has ended; empty if it did not."""
    try:
        worker.wait()
    except Exception as error:  # noqa: BLE001 - what runs it may be gone, and each engine says so in its own way
        why = f"{type(error).__name__}: {error}"
        _show_crashed(worker.task_run_id, why)
        return why
    return "" if worker.state.is_completed() else str(worker.state.message)


def _show_crashed(task_run: UUID, why: str) -> None:
    """Have Prefect know that it has ended: the process that would say so is gone."""
    with get_client(sync_client=True) as client, suppress(ObjectNotFound, httpx.HTTPError):
        client.set_task_run_state(task_run, Crashed(message=why), force=True)


async def _work(config: str, source: str, lease: str, generation: int | None) -> dict[str, float]:
    """Take shards of the source and work them off, until none is left.

    Returns:
        What was done, in numbers.

    Raises:
        DocweaveError: as `work_off_shards`; the board has it, too.
    """
    settings, logger = part_of(load_settings(Path(config))), get_run_logger()
    [(connector, metadata)] = connectors(settings, [source])
    board = await (await open_boards(settings, lease)).opened()
    done: list[SourceReport] = []

    def ended(report: SourceReport) -> None:
        done.append(report)
        logger.info("%s: %s, %s", source, number(report.done, "document"), number(report.chunks, "chunk"))

    try:
        async with (
            helping(settings, source),
            build_pipeline(settings, rebuild=generation is not None, generation=generation) as pipeline,
            pipeline.store.join(lease),
        ):
            await work_off_shards(
                board,
                connector,
                pipeline,
                metadata=metadata,
                most_tokens=getattr(settings.embedding, "tokens_per_minute", None),
                ended=ended,
            )
    except Exception as error:
        await board.fail(failure(error))
        raise
    names = ("chunks", "tokens", "requests", "retries", "cost_usd")
    sums = {name: sum(getattr(report, name) for report in done) for name in names}
    return {"shards": len(done), "documents": sum(report.done for report in done), **sums}


@task(
    name="work off shards",
    task_run_name="{source}, worker {number_of_worker}",
    persist_result=False,
    cache_policy=NO_CACHE,
)
async def shard_worker(
    config: str,
    source: str,
    lease: str,
    generation: int | None,
    number_of_worker: int,  # noqa: ARG001 - for its name
) -> dict[str, float]:
    """One worker, as a task of the flow `shards`."""
    if parent := parent_process():
        Thread(target=_end_with, args=(parent,), daemon=True).start()
    return await _work(config, source, lease, generation)


def _end_with(parent: BaseProcess) -> None:
    """End this process when that which started it is gone: a run that is killed cannot call its workers off.

    A process pool waits for more to do for ever, and pays until then.
    """
    parent.join()
    os._exit(1)


@flow(name="work off shards", flow_run_name="{source}, worker {number_of_worker}", persist_result=False)
async def pool_worker(
    config: str,
    source: str,
    lease: str,
    generation: int | None = None,
    number_of_worker: int = 1,  # noqa: ARG001 - for its name
) -> None:
    """One worker, as a run on a work pool. Sent by the flow `ingest`.

    Args:
        config: The path of the YAML settings, on the worker's machine.
        source: Its name.
        lease: Names the board.
        generation: Of the tables, in a rebuild.
        number_of_worker: For people.
    """
    get_run_logger().info("%s", json.dumps(await _work(config, source, lease, generation)))


ENTRYPOINT = "flows.shards.pool_worker"
