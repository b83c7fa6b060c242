"""A source that the workers of a work pool of Prefect's work off, one of which is killed (-9) with its machine."""

# ruff: noqa: PLC0415 - prefect reads its environment when it is imported, after conftest.py has set it

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

from apps.fake_service.server import serving
from apps.fake_service.service import EmbeddingService
from flows import engines
from tests.flow.test_crash import content
from tests.flow.test_shards_engines import DOCUMENTS, board_of, ingest, settings_in, stored, write_corpus
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


def kill_with_its_worker(pid: int) -> int:
    """Kill a run, and before it the worker that would tell of its end; gives that worker's pid."""
    run = psutil.Process(pid)
    above = [one for one in run.parents() if "worker" in one.cmdline()]
    for process in [*above, run]:
        process.send_signal(signal.SIGKILL)
    return above[0].pid


async def test_workers_of_a_pool_make_the_same_table_though_one_is_killed_half_way(
    tmp_path: Path, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERPLEXITY_API_KEY", "test-key")
    monkeypatch.setattr(engines, "ENDING_SECONDS", 2.0)  # for the run of which nothing is heard any more
    corpus = tmp_path / "corpus"
    write_corpus(corpus)
    gate = Gate(1_000)
    service = EmbeddingService(delay=gate)
    with serving(service) as base_url, ExitStack() as running:
        workers = [
            running.enter_context(
                worker(prefect_server, POOL, tmp_path / f"worker {n}.log", PERPLEXITY_API_KEY="test-key")
            )
            for n in range(2)
        ]
        alone = settings_in(tmp_path / "alone", corpus, base_url, "{}")
        assert await ingest(alone) is None
        gate.answers = 2
        killed: list[int] = []

        async def kill_one() -> None:
            first, _ = await two_at_work(shared)
            killed.append(kill_with_its_worker(first))
            gate.let_all_go()

        execution = f"{{engine: prefect-workers, work_pool: {POOL}, workers: 2, shard_tokens: 10000}}"
        shared = settings_in(tmp_path / "shared", corpus, base_url, execution)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill_one)
            assert await ingest(shared) is None
    assert killed == [process.pid for process in workers if process.pid in killed]
    assert await content(shared) == await content(alone)
    assert not list((shared.parent / "db").glob("shards_*"))
