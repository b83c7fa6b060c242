"""Runs of a real worker that are stopped, killed, or in each other's way; runs that take too long."""

# ruff: noqa: PLC0415 - prefect reads its environment when it is imported, after conftest.py has set it

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import psutil
import pytest

from apps.fake_service.server import serving
from apps.fake_service.service import EmbeddingService
from config.build import build_pipeline
from config.load import load_settings
from pipeline.in_flight import GRACE_SECONDS
from pipeline.records import Spending
from tests.prefect_server import PrefectServer, worker

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # Prefect's clients

ROOT = Path(__file__).parents[2]
POOL = "stopping"
KEY = "test-key"
DOCUMENTS = 24


@dataclass
class Service:
    """A slow service, and where it is."""

    seconds: float = 2.0
    """That a reply takes: less than is waited for, where a run is stopped."""
    serves: EmbeddingService = field(init=False)
    base_url: str = ""

    def __post_init__(self) -> None:
        self.serves = EmbeddingService(api_key=KEY, delay=lambda _: self.seconds)

    async def asked(self, requests: int) -> None:
        """Return when it has been asked so often."""
        with anyio.fail_after(120):
            while len(self.serves.requests) < requests:  # noqa: ASYNC110 - it runs in threads of its own
                await anyio.sleep(0.05)

    @property
    def texts(self) -> int:
        """That it has embedded, and charged for."""
        return sum(seen.groups for seen in self.serves.requests if seen.status == 200)

    @property
    def tokens(self) -> int:
        return sum(seen.tokens for seen in self.serves.requests if seen.status == 200)


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    with serving(service.serves) as service.base_url:
        yield service


@pytest.fixture
def notes(tmp_path: Path, service: Service) -> Path:
    """Settings over documents of a chunk each; two go with a request, and two requests at a time."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(DOCUMENTS):
        (folder / f"{number:02}.md").write_text(f"# Note {number}\n\nIt is about {number} things.")
    settings = tmp_path / "docweave.yaml"
    settings.write_text(
        "store: {uri: db}\n"
        f"embedding: {{provider: openrouter, base_url: '{service.base_url}/api/v1', concurrency: 2, "
        "request_texts: 2, dimensions: 128}\n"
        f"sources: {{notes: {{type: files, path: {folder}}}}}\n"
    )
    return settings


@pytest.fixture(scope="module")
def flow_runs(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A worker, and a deployment for it; gives the worker's log."""
    from prefect import flow

    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with worker(prefect_server, POOL, log, OPENROUTER_API_KEY=KEY):
        with anyio.from_thread.start_blocking_portal() as portal:
            portal.call(made, POOL)
        loaded: Any = flow.from_source(source=str(ROOT), entrypoint="flows/ingest.py:ingest")
        loaded.deploy(name=POOL, work_pool_name=POOL, build=False, push=False, print_next_steps=False)
        yield log


async def made(pool: str) -> None:
    """Return when the worker has made its pool."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    async with get_client() as client:
        with anyio.fail_after(120):
            while True:
                try:
                    await client.read_work_pool(pool)
                except ObjectNotFound:
                    await anyio.sleep(0.2)
                else:
                    return


async def begin(config: Path) -> UUID:
    """Have the worker run it; gives the run."""
    from prefect.deployments import run_deployment

    asked = run_deployment(f"ingest/{POOL}", parameters={"config": str(config)}, timeout=0)
    run: Any = await asked  # type: ignore[misc] # Prefect's own spelling for both kinds of code
    return UUID(str(run.id))


async def end_of(run: UUID) -> Any:
    """Its last state."""
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        with anyio.fail_after(120):
            while True:
                state = (await client.read_flow_run(run)).state
                if state and state.is_final():
                    return state
                await anyio.sleep(0.2)


async def kept(config: Path) -> tuple[list[Spending], int]:
    """What is noted of the spending, and how many documents are stored. The lease is free."""
    async with build_pipeline(load_settings(config)) as pipeline:
        async with pipeline.store.lease("looking"):
            stored = await pipeline.store.marks("notes")
        return list(await pipeline.store.spending()), len(stored)


def process_of(run: UUID) -> psutil.Process:
    """The one in which a worker's run goes on."""
    for process in psutil.process_iter(["cmdline"]):
        if "prefect.engine" in (process.info["cmdline"] or []):
            try:
                if process.environ().get("PREFECT__FLOW_RUN_ID") == str(run):
                    return process
            except psutil.Error:
                continue
    raise AssertionError("it has no process")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)


@pytest.mark.usefixtures("flow_runs")
class TestAWorkersRun:
    async def test_is_cancelled_within_seconds_and_loses_nothing_that_was_paid(
        self, notes: Path, service: Service
    ) -> None:
        from prefect.client.orchestration import get_client
        from prefect.states import Cancelling

        run = await begin(notes)
        await service.asked(4)
        process = process_of(run)
        async with get_client() as client:
            await client.set_flow_run_state(run, Cancelling())  # as the button does
        began = time.monotonic()
        while process.is_running():  # noqa: ASYNC110 - a process has no event
            await anyio.sleep(0.05)
        assert time.monotonic() - began < GRACE_SECONDS + 8
        assert (await end_of(run)).is_cancelled()
        [spending], stored = await kept(notes)
        assert (spending.requests, spending.tokens) == (len(service.serves.requests), service.tokens)
        assert stored == service.texts < DOCUMENTS, "a reply that was under way is stored"

    async def test_that_is_killed_is_told_so_and_of_two_that_follow_at_once_one_does_the_rest(
        self, notes: Path, service: Service
    ) -> None:
        run = await begin(notes)
        await service.asked(4)
        process_of(run).send_signal(signal.SIGKILL)
        state = await end_of(run)
        assert state.is_crashed()
        assert "-9" in state.message
        service.seconds = 0.0
        first, second = await begin(notes), await begin(notes)
        assert [(await end_of(one)).type for one in (first, second)] == ["COMPLETED", "COMPLETED"]
        spending, stored = await kept(notes)
        assert stored == DOCUMENTS
        assert len(spending) == 1, "the killed run could note nothing, and one of the two had nothing to do"
        assert service.texts <= DOCUMENTS + 4, "only what was under way was paid for again"


def test_a_run_goes_on_when_nobody_reads_what_it_prints(
    handbook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.logging.handlers import PrefectConsoleHandler

    from flows.observed import begin

    reading, writing = os.pipe()
    os.close(reading)  # as when the worker is killed that read it
    with os.fdopen(writing, "w", buffering=1) as stream:
        handler = PrefectConsoleHandler(stream=stream)
        monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
        begin(load_settings(handbook))
        for _ in range(2):
            logging.getLogger("anybody").error("nobody hears this")
    assert handler.console.quiet


def limited(config: Path, **minutes: float) -> Path:
    """The settings with limits of time, of the run or of the source."""
    text = config.read_text()
    if "source" in minutes:
        text = text.replace("{type: files,", f"{{type: files, timeout_minutes: {minutes['source']},")
    if "run" in minutes:
        text += f"timeout_minutes: {minutes['run']}\n"
    config.write_text(text)
    return config


def with_source(config: Path, feed: str) -> None:
    """Add it before the others, and a limit of three seconds for the run."""
    config.write_text(config.read_text().replace("sources:\n", feed) + "timeout_minutes: 0.05\n")


@pytest.mark.usefixtures("prefect_server")
class TestALimitOfTime:
    async def test_ends_a_slow_source_keeps_what_was_committed_and_names_the_setting(
        self, notes: Path, service: Service
    ) -> None:
        from flows.ingest import ingest

        service.seconds = 3.0
        state: Any = await ingest(str(limited(notes, source=0.15)), return_state=True)
        assert state.is_failed()
        assert "notes: OutOfTime: stopped: it may take 0.15 min" in state.message
        assert "(sources.notes.timeout_minutes)" in state.message
        [spending], stored = await kept(notes)
        assert spending.tokens == service.tokens
        assert 0 < stored == service.texts < DOCUMENTS

    async def test_of_the_run_holds_for_a_source_that_never_answers_and_for_those_after_it(
        self, handbook: Path
    ) -> None:
        from flows.ingest import ingest

        with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
            address = f"http://127.0.0.1:{silent.getsockname()[1]}/feed.xml"
            feed = f"sources:\n  news: {{type: feed, url: '{address}', private_networks: [127.0.0.0/8]}}\n"
            with_source(handbook, feed)
            began = time.monotonic()
            state: Any = await ingest(str(handbook), return_state=True)
        assert time.monotonic() - began < 30
        assert state.is_failed()
        assert "3 of 3 sources failed: news: OutOfTime: stopped: the run may take 0.05 min" in state.message
        assert "wiki: OutOfTime: stopped" in state.message
        assert "(timeout_minutes)" in state.message
