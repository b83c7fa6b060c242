"""A source that real engines of Prefect's work off: the same tables, also where a worker is killed (-9)."""

# ruff: noqa: PLC0415 - prefect reads its environment when it is imported, after conftest.py has set it

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import lancedb
import psutil
import pytest

from apps.fake_service.server import serving
from apps.fake_service.service import EmbeddingService
from config.build import build_pipeline
from config.load import load_settings
from tests.flow.test_crash import content
from tests.prefect_server import PrefectServer

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # Prefect's and Dask's, at a loop's end
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

DOCUMENTS = 24


def write_corpus(folder: Path) -> None:
    folder.mkdir()
    for number in range(DOCUMENTS):
        lines = [f"# Note {number}"]
        lines += [f"\n## Part {n}\n\n" + f"Sentence {number} says word{number * n}. " * 40 for n in range(6)]
        (folder / f"note {number}.md").write_text("\n".join(lines))


def settings_in(folder: Path, corpus: Path, base_url: str, execution: str) -> Path:
    folder.mkdir()
    path = folder / "docweave.yaml"
    path.write_text(
        f"store: {{uri: db}}\nembedding: {{provider: perplexity, base_url: {base_url}, concurrency: 4}}\n"
        f"execution: {execution}\nsources:\n  notes: {{type: files, path: {corpus}}}\n"
    )
    return path


async def ingest(settings: Path) -> str | None:
    from flows.here import run_here

    return await run_here(str(settings), None, rebuild=False)


@asynccontextmanager
async def one_worker_killed(database: Path) -> AsyncIterator[list[int]]:
    """Kill the first process that is seen to have a shard; gives its pid."""
    killed: list[int] = []

    async def kill() -> None:
        while not killed:
            await anyio.sleep(0.05)
            for folder in list(database.glob("shards_*.lance")):  # noqa: ASYNC240 - a moment
                try:
                    rows = await board_of(folder)
                except (ValueError, OSError, RuntimeError):
                    continue  # it is just being made, or gone
                killed.extend(pid for pid in rows[:1] if pid != os.getpid())
        os.kill(killed[0], signal.SIGKILL)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kill)
        yield killed
        tasks.cancel_scope.cancel()


async def board_of(folder: Path) -> list[int]:
    """The pids of those who have a shard."""
    database = await lancedb.connect_async(folder.parent)
    table = await database.open_table(folder.stem)
    rows = await table.query().where("kind = 'shard' AND token IS NOT NULL AND NOT ended").to_list()
    return [int(found[1]) for row in rows if (found := re.search(r":(\d+)\.\d+$", row["process"] or ""))]


async def still_running() -> list[str]:
    """The tasks of workers that Prefect takes to be running."""
    from prefect.client.orchestration import get_client

    found: list[str] = []
    async with get_client() as client:
        with anyio.move_on_after(20):
            while True:  # events arrive late
                runs = await client.read_task_runs()
                found = [run.name for run in runs if ", worker" in run.name and run.state_name == "Running"]
                if not found:
                    break
                await anyio.sleep(0.5)
    return found


@pytest.mark.parametrize("engine", ["local", "dask", "ray"])
async def test_a_worker_killed_half_way_costs_no_document(
    tmp_path: Path, engine: str, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "ray":  # 200 MB, and no part of what the checks install
        pytest.importorskip("prefect_ray")
    monkeypatch.setenv("PERPLEXITY_API_KEY", "test-key")
    corpus = tmp_path / "corpus"
    write_corpus(corpus)
    service = EmbeddingService(delay=lambda _tokens: 0.5)
    with serving(service) as base_url:
        alone = settings_in(tmp_path / "alone", corpus, base_url, "{}")
        assert await ingest(alone) is None
        execution = f"{{engine: {engine}, workers: 2, shard_tokens: 10000}}"
        shared = settings_in(tmp_path / "shared", corpus, base_url, execution)
        async with one_worker_killed(shared.parent / "db") as killed:
            assert await ingest(shared) is None
    assert len(killed) == 1
    assert engine != "local" or not await still_running()
    assert await content(shared) == await content(alone)
    assert not list((shared.parent / "db").glob("shards_*"))


async def test_a_run_killed_half_way_costs_no_document_and_leaves_no_worker(
    tmp_path: Path, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERPLEXITY_API_KEY", "test-key")
    corpus = tmp_path / "corpus"
    write_corpus(corpus)
    quick = [1_000]  # so many requests are answered at once, the others after the run was killed
    service = EmbeddingService(delay=lambda _tokens: 0.1 if len(service.requests) < quick[0] else 20.0)
    with serving(service) as base_url:
        alone = settings_in(tmp_path / "alone", corpus, base_url, "{}")
        assert await ingest(alone) is None
        paid_alone = tokens_of(service)
        execution = "{engine: local, workers: 2, shard_tokens: 10000}"
        shared = settings_in(tmp_path / "shared", corpus, base_url, execution)
        quick[0] = len(service.requests) + 2
        workers = await kill_the_run(shared, prefect_server)
        quick[0] = 1_000
        assert await all_gone(workers)
        half = await stored(shared)
        assert 0 < half < DOCUMENTS
        assert await ingest(shared) is None
        paid = tokens_of(service) - paid_alone
    assert await content(shared) == await content(alone)
    assert not list((shared.parent / "db").glob("shards_*"))
    assert paid_alone <= paid < 2 * paid_alone


RUN = """
import asyncio, sys
from flows.here import run_here
if __name__ == "__main__":  # a process pool imports it again
    asyncio.run(run_here(sys.argv[1], None, rebuild=False))
"""


async def kill_the_run(settings: Path, server: PrefectServer) -> list[int]:
    """Ingest in a process of its own, and kill it when something is stored; gives the pids of its workers."""
    workers: list[int] = []
    command = [sys.executable, "-c", RUN, str(settings)]
    env = {**server.env, "PERPLEXITY_API_KEY": "test-key"}
    async with await anyio.open_process(command, env=env, stdout=None, stderr=None) as process:
        while not (workers and await stored(settings)):
            assert process.returncode is None, "it ended before it was killed"
            await anyio.sleep(0.05)
            for folder in list((settings.parent / "db").glob("shards_*.lance")):
                with suppress(ValueError, OSError, RuntimeError):  # it is just being made, or gone
                    workers = sorted({*workers, *await board_of(folder)})
        process.kill()
    return workers


async def stored(settings: Path) -> int:
    """How many documents are."""
    loaded = load_settings(settings)
    async with build_pipeline(loaded) as pipeline:
        return len(await pipeline.store.marks("notes"))


async def all_gone(pids: Sequence[int]) -> bool:
    """Whether these processes end by themselves within seconds."""
    with anyio.move_on_after(20):
        while any(map(is_there, pids)):  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.1)
        return True
    return False


def is_there(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def tokens_of(service: EmbeddingService) -> int:
    return sum(seen.tokens for seen in service.requests if seen.embedded)
