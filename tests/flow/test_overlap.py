"""Runs of one table that overlap: they take turns, one copy is left, and a killed one is followed."""

# ruff: noqa: PLC0415 - prefect reads its environment when it is imported, after conftest.py has set it

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import lancedb
import pytest

from apps import tables
from config.build import build_pipeline, open_store, patience
from config.load import load_settings
from pipeline.errors import StoreBusy
from pipeline.records import EmbeddingSpace
from pipeline.stores import _lease
from tests.contract.store_contract import embedded
from tests.flow.test_crash import content, settings_in, write_corpus

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # Prefect's, at a loop's end

RUN = """
import asyncio, json, sys
from pathlib import Path
from config.build import build_pipeline, connectors, patience
from config.load import load_settings
from pipeline.ingest import ingest_source

async def main():
    settings = load_settings(Path(sys.argv[1]))
    tell = lambda reason: print(reason, flush=True)
    async with (
        build_pipeline(settings) as pipeline,
        pipeline.store.lease("ingesting notes", wait=patience(settings), tell=tell),
    ):
        for connector, metadata in connectors(settings):
            observe = lambda report: print("done", report.done, flush=True)
            report = await ingest_source(connector, pipeline, metadata=metadata, observe=observe)
            print(json.dumps(report.as_json()), flush=True)

asyncio.run(main())
"""


def start(settings: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, str(settings)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def report_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    report: dict[str, Any] = json.loads(out.splitlines()[-1])
    return report


async def test_six_processes_that_ingest_the_same_new_documents_leave_one_copy_and_pay_once(
    tmp_path: Path,
) -> None:
    write_corpus(tmp_path / "corpus", 12)
    settings = settings_in(tmp_path / "six", tmp_path / "corpus")
    reports = [report_of(process) for process in [start(settings) for _ in range(6)]]
    assert sorted((report["added"], report["unchanged"]) for report in reports) == [(0, 12)] * 5 + [(12, 0)]
    assert sum(report["requests"] > 0 for report in reports) == 1

    alone = settings_in(tmp_path / "alone", tmp_path / "corpus")
    assert report_of(start(alone))["added"] == 12
    assert await content(settings) == await content(alone)
    database = await lancedb.connect_async(str(tmp_path / "six/db"))
    for name, rows in (("chunks", 12 * 25), ("documents", 12)):
        ids = (await (await database.open_table(name)).query().select(["id"]).to_arrow())["id"].to_pylist()
        assert len(ids) == len(set(ids)), name
        assert len(ids) <= rows


async def test_a_run_follows_one_that_was_killed_in_the_middle_and_ends_as_if_it_had_not_been(
    tmp_path: Path,
) -> None:
    write_corpus(tmp_path / "corpus", 120)
    settings = settings_in(tmp_path / "killed", tmp_path / "corpus")
    with start(settings) as killed:
        assert killed.stdout
        while not (line := killed.stdout.readline()).startswith("done") or line == "done 0\n":
            assert line, "it ended by itself"
        killed.send_signal(signal.SIGKILL)
    began = time.monotonic()
    next_run = start(settings)
    out, _ = next_run.communicate(timeout=60)
    assert next_run.returncode == 0
    assert out.startswith("taking over from the run on")
    assert f"process {killed.pid}" in out
    assert time.monotonic() - began < 45, "it waited for nobody"

    alone = settings_in(tmp_path / "alone", tmp_path / "corpus")
    report_of(start(alone))
    assert await content(settings) == await content(alone)


@asynccontextmanager
async def another_run(config: Path, doing: str = "ingesting handbook") -> AsyncIterator[None]:
    """Has the lease."""
    async with build_pipeline(load_settings(config)) as pipeline, pipeline.store.lease(doing):
        yield


def busy(config: Path, when: str, **more: object) -> Path:
    """The settings, with what is done while another run has the tables."""
    store = {"uri": "db", "when_busy": when, **more}
    changed = config.with_name(f"{when}.yaml")
    changed.write_text(config.read_text().replace("store: {uri: db}", f"store: {json.dumps(store)}"))
    return changed


@pytest.mark.usefixtures("prefect_server")
class TestTheFlow:
    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_lease, "ABANDONED_AFTER", 1.5)

    @pytest.fixture
    def watching(self) -> Any:
        from apps.watch import Lines
        from flows.progress import watcher

        lines = Lines()
        token = watcher.set(lines)
        yield lines
        watcher.reset(token)

    async def run(self, config: Path) -> Any:
        from flows.ingest import ingest

        return await ingest(str(config), sources=["wiki"], return_state=True)

    async def test_waits_and_says_for_whom(
        self, handbook: Path, watching: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        states: list[Any] = []

        async def run() -> None:
            states.append(await self.run(handbook))

        async with anyio.create_task_group() as tasks, another_run(handbook):
            tasks.start_soon(run)
            said = ""
            with anyio.fail_after(30):
                while "waiting for" not in said:
                    await anyio.sleep(0.05)
                    said += capsys.readouterr().err
            await anyio.sleep(0.2)
            assert not states
        assert states[0].is_completed()
        assert f"wiki: waiting for the run on {os.uname().nodename} (process {os.getpid()})" in said
        assert "which has been ingesting handbook since 2" in said
        assert watching.reports["wiki"].added == 1

    async def test_skips_with_a_clear_word(self, handbook: Path, watching: Any) -> None:
        config = busy(handbook, "skip")
        async with another_run(config):
            state = await self.run(config)
        assert state.is_completed()
        assert state.message == "1 source skipped: another run is at it"
        report = watching.reports["wiki"]
        assert "which has been ingesting handbook since" in report.skipped
        assert report.complete, "for another run does it"
        assert report.added == 0

        from apps.console import ingest_lines

        line, reason = ingest_lines([report])
        assert line.startswith("wiki   skipped: another run is at it")
        assert reason.startswith(f"  {handbook.parent}/db: another run has the tables: the run on")
        again = await self.run(config)
        assert again.message == "1 source ingested"

    async def test_fails_at_once_or_when_it_has_waited_for_long_enough(
        self, handbook: Path, watching: Any
    ) -> None:
        for settings, words in (
            ({"when": "fail"}, "another run has the tables: the run on"),
            ({"when": "wait", "wait_minutes": 0.01}, "; waited 0.01 min for it (store.wait_minutes)"),
        ):
            config = busy(handbook, **settings)
            async with another_run(config):
                began = time.monotonic()
                state = await self.run(config)
                assert time.monotonic() - began < 8, "and is not tried again"
            assert state.is_failed()
            assert words in state.message
            assert isinstance(watching.errors["wiki"], StoreBusy)


async def test_forget_waits_for_a_run(handbook: Path) -> None:
    settings = load_settings(handbook)
    space = EmbeddingSpace(provider="test", model="m", dimensions=16)
    store = await open_store(settings, space)
    await store.replace([embedded("a.md", "word", source="blog")])
    told: list[str] = []
    removed: list[int] = []

    async def forget() -> None:
        removed.append(await tables.forget(settings, "blog", tell=told.append))

    async with anyio.create_task_group() as tasks, store.lease("ingesting handbook"):
        tasks.start_soon(forget)
        with anyio.fail_after(20):
            while not told:  # noqa: ASYNC110 - lines that come from a callback
                await anyio.sleep(0.02)
        assert not removed
    assert removed == [1]
    assert "ingesting handbook" in told[0]


def test_how_long_is_waited_is_a_setting(handbook: Path) -> None:
    for when, minutes, seconds in (("wait", 60, 3600), ("wait", 0.5, 30), ("skip", 9, 0), ("fail", 9, 0)):
        assert patience(load_settings(busy(handbook, when, wait_minutes=minutes))) == seconds
