"""A source that two workers of a pool of Prefect's work off, one of which is killed (-9) with its run."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate

from apps.fake_service.server import serving
from apps.fake_service.service import EmbeddingService
from flows import engines
from tests.flow.test_crash import content
from tests.flow.test_shards_engines import board_of, ingest, settings_in, stored, write_corpus
from tests.prefect_server import PrefectServer, worker

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # Prefect's, at a loop's end
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

POOL = "shards"


@dataclass
class Gate:
    """Lets so many requests be answered, and others wait until it lets all go."""

    answers: int
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: threading.Event = field(default_factory=threading.Event)

    def __call__(self, _tokens: int) -> float:
        with self._lock:
            self.answers -= 1
            waits = self.answers < 0
        if waits:
            self._open.wait(100)
        return 0.0

    def let_all_go(self) -> None:
        self._open.set()


async def two_at_work(settings: Path) -> list[int]:
    """The pids of those who have a shard, when there are two and something is stored."""
    with anyio.fail_after(90):
        while True:
            await anyio.sleep(0.05)
            for folder in list((settings.parent / "db").glob("shards_*.lance")):
                try:
                    pids = sorted(set(await board_of(folder)))
                except (ValueError, OSError, RuntimeError):
                    continue  # it is just being made, or gone
                if len(pids) > 1 and await stored(settings):
                    return pids


def worker_of(pid: int) -> int:
    """The worker that has started this run."""
    [above] = [one.pid for one in psutil.Process(pid).parents() if "worker" in one.cmdline()]
    return above


async def test_workers_of_a_pool_make_the_same_table_though_one_is_killed_half_way(
    tmp_path: Path, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERPLEXITY_API_KEY", "test-key")
    monkeypatch.setattr(engines, "ENDING_SECONDS", 2.0)  # for the run of which nothing is heard any more
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    corpus = tmp_path / "corpus"
    write_corpus(corpus)
    gate = Gate(1_000)
    service = EmbeddingService(delay=gate)
    with serving(service) as base_url, ExitStack() as running:
        workers = [
            running.enter_context(
                worker(prefect_server, POOL, tmp_path / f"{n}.log", limit=1, PERPLEXITY_API_KEY="test-key")
            )
            for n in range(2)
        ]
        alone = settings_in(tmp_path / "alone", corpus, base_url, "{}")
        assert await ingest(alone) is None
        gate.answers = 2  # then something is stored, and much is not
        execution = f"{{engine: prefect-workers, work_pool: {POOL}, workers: 2, shard_tokens: 10000}}"
        shared = settings_in(tmp_path / "shared", corpus, base_url, execution)
        at_work: list[int] = []

        async def kill_one() -> None:
            runs = await two_at_work(shared)
            at_work.extend(worker_of(pid) for pid in runs)
            for pid in (at_work[0], runs[0]):  # the worker first: it would tell of its run's end
                os.kill(pid, signal.SIGKILL)
            gate.let_all_go()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill_one)
            assert await ingest(shared) is None
    assert sorted(at_work) == sorted(process.pid for process in workers)
    assert await content(shared) == await content(alone)
    assert not list((shared.parent / "db").glob("shards_*"))
