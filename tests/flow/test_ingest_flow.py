"""The flow on a real Prefect server: what it does, what it shows, and what it never shows."""

# ruff: noqa: PLC0415 - prefect reads its environment when it is imported, after conftest.py has set it

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest

from config import build
from config.load import load_settings
from config.settings import Settings
from pipeline.errors import EmbedError, ServiceRefused, ServiceUnavailable, SourceRefused, SourceUnavailable
from pipeline.ingest import ingest_source
from pipeline.prepare import Pipeline
from pipeline.records import EmbeddingSpace, EmbedRequest, Filter, ItemRef
from pipeline.report import SourceReport
from tests.fakes import MemorySource, OracleEmbedder

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # Prefect's clients, at the end of a loop
]


@dataclass
class Watching:
    """Keeps all that a run tells who watches it."""

    seen: list[tuple[str, int]] = field(default_factory=list)
    done: list[SourceReport] = field(default_factory=list)
    errors: list[tuple[str, Exception, float | None]] = field(default_factory=list)
    waited: list[tuple[str, str]] = field(default_factory=list)

    def progressed(self, report: SourceReport) -> None:
        self.seen.append((report.source, report.done))

    def ended(self, report: SourceReport) -> None:
        self.done.append(report)

    def failed(self, source: str, error: Exception, *, again_in: float | None) -> None:
        self.errors.append((source, error, again_in))

    def waiting(self, source: str, reason: str) -> None:
        self.waited.append((source, reason))


@pytest.fixture
def watching() -> Any:
    from flows.progress import watcher

    watching = Watching()
    token = watcher.set(watching)
    yield watching
    watcher.reset(token)


async def run(config: Path, **parameters: Any) -> Any:
    """The final state of a run."""
    from flows.ingest import ingest

    return await ingest(str(config), **parameters, return_state=True)


async def artifacts(state: Any) -> dict[str, Any]:
    """The data of a run's artifacts by key, as the server has them."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    async with get_client() as client:
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
        return {a.key: a.data for a in await client.read_artifacts(artifact_filter=of_run)}


async def logs(state: Any) -> list[str]:
    """The messages that the server has of a run, each with its level."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.logging.handlers import APILogHandler

    await APILogHandler.aflush()
    async with get_client() as client:
        of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[state.state_details.flow_run_id]))
        return [f"{log.level} {log.message}" for log in await client.read_logs(of_run)]


async def flow_run_name(run_id: UUID) -> str:
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        return (await client.read_flow_run(run_id)).name


async def task_names(run_id: UUID, expected: int) -> list[str]:
    """The names of a run's tasks: the server hears of them by events, a moment later."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    async with get_client() as client:
        for _ in range(100):
            of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
            names = sorted(run.name for run in await client.read_task_runs(flow_run_filter=of_run))
            if len(names) >= expected and all(" · " in name for name in names):
                break
            await anyio.sleep(0.1)
    return names


async def counts(config: Path) -> dict[str, tuple[int, int]]:
    reader = await build.open_reader(load_settings(config))
    return dict(await reader.counts())


async def test_a_run_ingests_every_source_and_says_what_it_is_by_its_names(handbook: Path) -> None:
    state = await run(handbook)
    assert state.is_completed()
    assert state.message == "2 sources ingested"
    assert await counts(handbook) == {"handbook": (3, 3), "wiki": (1, 1)}
    run_id = state.state_details.flow_run_id
    assert await flow_run_name(run_id) == "handbook, wiki · 4 added"
    assert await task_names(run_id, 2) == ["handbook · 3 added", "wiki · 1 added"]


async def test_a_run_over_named_sources_leaves_the_others_alone(handbook: Path) -> None:
    state = await run(handbook, sources=["wiki"])
    assert await flow_run_name(state.state_details.flow_run_id) == "wiki · 1 added"
    assert list(await counts(handbook)) == ["wiki"]


async def test_an_artifact_for_each_source_tells_counts_and_failures(handbook: Path) -> None:
    (handbook.parent / "documents/handbook/broken|`.pdf").write_bytes(b"not a pdf")
    state = await run(handbook)
    assert state.is_completed(), "a document that fails does not fail the run"
    found = await artifacts(state)
    assert set(found) == {
        "ingest-handbook",
        "ingest-handbook-progress",
        "ingest-handbook-trend",
        "ingest-wiki",
        "ingest-wiki-progress",
        "ingest-wiki-trend",
    }
    page = found["ingest-handbook"]
    assert "| documents listed | 4 |" in page
    assert "| added | 3 |" in page
    assert "| failed | 1 |" in page
    assert "| chunks written | 3 |" in page
    assert "| requests | 1 |" in page
    assert "| broken\\|\\`.pdf | ParseError |" in page, "a file's name is not taken for markup"
    assert found["ingest-handbook-progress"] == 100.0


async def test_logs_tell_begin_end_and_failed_documents(handbook: Path) -> None:
    (handbook.parent / "documents/handbook/broken.pdf").write_bytes(b"not a pdf")
    told = await logs(await run(handbook))
    assert "20 handbook: listing" in told
    assert any(line.startswith("20 handbook   4 documents: 3 added, 1 failed   3 chunks") for line in told)
    assert any(line.startswith("30 handbook: broken.pdf: ParseError: ") for line in told)


async def test_no_text_and_no_secret_leaves_the_task(
    handbook: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    monkeypatch.setenv("PERPLEXITY_API_KEY", "pplx-secret")
    results = tmp_path / "results"
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: str(results)}):
        state = await run(handbook)
    shown = f"{await artifacts(state)} {await logs(state)} {state.message}"
    assert "button" not in shown, "a word of a document"
    assert "pplx-secret" not in shown
    kept = [path for path in results.rglob("*") if path.is_file()] if results.exists() else []
    assert kept == [], "results are not persisted"


async def test_a_task_gives_counts_that_are_plain_values(handbook: Path) -> None:
    from prefect import flow

    from flows.ingest import one_source

    found: dict[str, Any] = {}

    @flow
    async def once() -> None:
        found.update(await one_source(str(handbook), "handbook", None))

    await once()
    assert json.loads(json.dumps(found)) == found
    assert (found["added"], found["chunks"], found["failed"], found["failures"]) == (3, 3, 0, [])
    assert "button" not in json.dumps(found)


async def test_a_failing_source_does_not_stop_the_others_and_the_run_says_which_and_why(
    handbook: Path, watching: Watching
) -> None:
    (handbook.parent / "documents/handbook").rename(handbook.parent / "moved")
    state = await run(handbook)
    assert state.is_failed()
    assert state.message.startswith("1 of 2 sources failed: handbook: SourceRefused: ")
    assert "documents/handbook" in state.message
    assert await counts(handbook) == {"wiki": (1, 1)}
    [(source, error, again_in)] = watching.errors
    assert (source, type(error), again_in) == ("handbook", SourceRefused, None), "and it was tried once"
    assert [report.source for report in watching.done] == ["wiki"]
    assert "**Failed: SourceRefused.**" in (await artifacts(state))["ingest-handbook"]


async def test_who_watches_sees_the_report_grow(handbook: Path, watching: Watching) -> None:
    await run(handbook)
    assert watching.seen[0] == ("handbook", 0)
    assert ("handbook", 3) in watching.seen
    assert [(r.source, r.added) for r in watching.done] == [("handbook", 3), ("wiki", 1)]


async def test_unknown_sources_and_bad_settings_fail_the_run_with_their_message(handbook: Path) -> None:
    state = await run(handbook, sources=["wikki"])
    assert state.is_failed()
    assert "no source is called 'wikki'" in state.message
    state = await run(handbook, sources=["wiki"], rebuild=True)
    assert state.is_failed()
    assert "a rebuild covers every source" in state.message
    assert await counts(handbook) == {}


@dataclass
class Flaky(MemorySource):
    """A source whose first listings fail."""

    failures: list[Exception] = field(default_factory=list)
    listings: int = 0

    async def list_items(self) -> AsyncIterator[ItemRef]:
        self.listings += 1
        if self.failures:
            raise self.failures.pop(0)
        async for ref in super().list_items():
            yield ref


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Flaky:
    """Stands for every source; tried again at once."""
    from flows import ingest

    flaky = Flaky(items={"a.md": "# A\n\nSome text."}, source="wiki")
    monkeypatch.setattr(ingest, "connectors", lambda settings, names: [(flaky, {})])
    monkeypatch.setattr(ingest, "one_source", ingest.one_source.with_options(retry_delay_seconds=0))
    return flaky


async def test_what_may_pass_is_tried_again(handbook: Path, flaky: Flaky, watching: Watching) -> None:
    flaky.failures = [SourceUnavailable("no answer"), SourceUnavailable("no answer")]
    state = await run(handbook, sources=["wiki"])
    assert state.is_completed()
    assert flaky.listings == 3
    assert [again_in for _, _, again_in in watching.errors] == [10.0, 60.0]
    assert await counts(handbook) == {"wiki": (1, 1)}


async def test_it_is_given_up_after_two_more_tries(handbook: Path, flaky: Flaky, watching: Watching) -> None:
    flaky.failures = [SourceUnavailable("no answer") for _ in range(9)]
    state = await run(handbook, sources=["wiki"])
    assert state.is_failed()
    assert state.message == "1 of 1 source failed: wiki: SourceUnavailable: no answer"
    assert flaky.listings == 3
    assert [again_in for _, _, again_in in watching.errors] == [10.0, 60.0, None]


@pytest.mark.parametrize("error", [SourceRefused("no"), ServiceRefused("no"), ValueError("a fault of ours")])
async def test_what_waiting_does_not_mend_is_not_tried_again(
    handbook: Path, flaky: Flaky, error: Exception
) -> None:
    flaky.failures = [error]
    state = await run(handbook, sources=["wiki"])
    assert state.is_failed()
    assert flaky.listings == 1


OTHER = EmbeddingSpace(provider="test", model="another", dimensions=16)


@pytest.fixture
def another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on runs embed with another model."""
    from flows import ingest
    from flows import rebuild as of_a_rebuild

    @asynccontextmanager
    async def build_pipeline(
        settings: Settings, *, rebuild: bool = False, generation: int | None = None
    ) -> AsyncIterator[Pipeline]:
        embedder = OracleEmbedder(space=OTHER)
        store = await build.open_store(settings, OTHER, rebuild=rebuild, generation=generation)
        beside = settings.store.model_copy(update={"uri": f"{settings.store.uri}-beside"})
        async with build.build_pipeline(settings.model_copy(update={"store": beside})) as pipeline:
            yield replace(pipeline, embedder=embedder, store=store)

    for module in (ingest, of_a_rebuild):
        monkeypatch.setattr(module, "build_pipeline", build_pipeline)


async def ingest_with_the_settings_model(settings: Settings) -> EmbeddingSpace:
    async with build.build_pipeline(settings) as pipeline:
        for connector, metadata in build.connectors(settings):
            await ingest_source(connector, pipeline, metadata=metadata)
        return pipeline.embedder.space


@pytest.mark.usefixtures("another_model")
async def test_a_rebuild_takes_the_place_of_the_live_tables_when_every_source_is_done(handbook: Path) -> None:
    settings = load_settings(handbook)
    await ingest_with_the_settings_model(settings)
    state = await run(handbook)
    assert state.is_failed()
    assert "SpaceMismatch" in state.message
    state = await run(handbook, rebuild=True)
    assert state.is_completed()
    assert await flow_run_name(state.state_details.flow_run_id) == "rebuild handbook, wiki · 4 added"
    reader = await build.open_reader(settings)
    assert await reader.space() == OTHER
    assert dict(await reader.counts()) == {"handbook": (3, 3), "wiki": (1, 1)}


@pytest.mark.usefixtures("another_model")
async def test_a_rebuild_with_a_failing_source_leaves_the_live_tables(handbook: Path) -> None:
    settings = load_settings(handbook)
    live = await ingest_with_the_settings_model(settings)
    reader = await build.open_reader(settings)
    found = await reader.matching("button", limit=5, where=Filter())
    (handbook.parent / "documents/wiki").rename(handbook.parent / "elsewhere")
    state = await run(handbook, rebuild=True)
    assert state.is_failed()
    assert await reader.space() == live
    assert await reader.matching("button", limit=5, where=Filter()) == found


def lose_wiki(config: Path) -> None:
    """Take the source out of the settings."""
    lines = config.read_text("utf-8").splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "wiki:" not in line), encoding="utf-8")


async def test_a_rebuild_of_a_source_that_the_settings_lost_is_not_switched_to(handbook: Path) -> None:
    await run(handbook)
    lose_wiki(handbook)
    state = await run(handbook, rebuild=True)
    assert state.is_failed()
    assert "the settings no longer name 'wiki' (1 document)" in state.message
    assert await counts(handbook) == {"handbook": (3, 3), "wiki": (1, 1)}


async def test_a_rebuild_that_lacks_many_documents_waits_for_approval(handbook: Path) -> None:
    folder = handbook.parent / "documents/wiki"
    for number in range(30):
        (folder / f"{number}.md").write_text(f"Page {number}.")
    await run(handbook)
    for number in range(20):
        (folder / f"{number}.md").unlink()
    state = await run(handbook, rebuild=True)
    assert state.is_failed()
    assert "'wiki' would lose 20 of 31 documents" in state.message
    assert (await counts(handbook))["wiki"] == (31, 31)
    state = await run(handbook, rebuild=True, approve_removals=20)
    assert state.is_completed()
    assert (await counts(handbook))["wiki"] == (11, 11)


def limit(config: Path, budget: str) -> None:
    config.write_text(f"{config.read_text('utf-8')}\n{budget}\n", encoding="utf-8")


@pytest.mark.usefixtures("another_model")
async def test_a_budget_of_the_run_holds_over_all_its_sources(handbook: Path, watching: Watching) -> None:
    limit(handbook, "budget: {tokens: 60}")
    state = await run(handbook)
    assert state.is_completed(), "a budget is no failure"
    assert state.message == "a budget was reached: 1 document left for the next run"
    assert await counts(handbook) == {"handbook": (3, 3)}
    page = (await artifacts(state))["ingest-wiki"]
    assert "more would pass the budget of 60 tokens for this run" in page
    assert [report.tokens for report in watching.done] == [50, 0]
    state = await run(handbook)
    assert state.message == "2 sources ingested"
    assert await counts(handbook) == {"handbook": (3, 3), "wiki": (1, 1)}


@pytest.mark.usefixtures("another_model")
async def test_a_rebuild_that_a_budget_stops_is_not_published(handbook: Path) -> None:
    settings = load_settings(handbook)
    live = await ingest_with_the_settings_model(settings)
    limit(handbook, "budget: {usd: 0}")
    state = await run(handbook, rebuild=True)
    assert state.is_completed()
    assert "the new tables take over when nothing is left" in state.message
    assert await (await build.open_reader(settings)).space() == live


async def test_a_source_that_is_tried_again_reports_what_both_tries_did(
    handbook: Path, monkeypatch: pytest.MonkeyPatch, watching: Watching
) -> None:
    from flows import ingest

    asked: list[EmbedRequest] = []

    def refuse(request: EmbedRequest) -> EmbedError | None:
        asked.append(request)
        return ServiceUnavailable("down for a while") if len(asked) == 2 else None

    source = MemorySource(
        items={f"{n}.md": f"# {n}\n\n{f'Page {n}. ' * 300}" for n in range(12)}, source="wiki"
    )
    embedder = OracleEmbedder(space=OTHER, refuse=refuse)

    @asynccontextmanager
    async def build_pipeline(
        settings: Settings, *, rebuild: bool = False, generation: int | None = None
    ) -> AsyncIterator[Pipeline]:
        store = await build.open_store(settings, OTHER, rebuild=rebuild, generation=generation)
        beside = settings.store.model_copy(update={"uri": f"{settings.store.uri}-beside"})
        async with build.build_pipeline(settings.model_copy(update={"store": beside})) as pipeline:
            yield replace(pipeline, embedder=embedder, store=store, concurrency=1)

    monkeypatch.setattr(ingest, "build_pipeline", build_pipeline)
    monkeypatch.setattr(ingest, "connectors", lambda settings, names: [(source, {})])
    monkeypatch.setattr(ingest, "one_source", ingest.one_source.with_options(retry_delay_seconds=0))
    state = await run(handbook, sources=["wiki"])
    assert state.is_completed()
    [report] = watching.done
    assert (report.listed, report.added, report.unchanged, report.owed) == (12, 12, 0, 12)
    assert report.requests == len(embedder.requests) == 2
    assert report.tokens == sum(request.tokens for request in embedder.requests)


async def test_what_the_pipeline_warns_of_is_told_while_it_works(
    handbook: Path, flaky: Flaky, watching: Watching
) -> None:
    class Warns(Flaky):
        async def list_items(self) -> AsyncIterator[ItemRef]:
            logging.getLogger("pipeline.embedders._pace").warning("the service is left alone")
            async for ref in super().list_items():
                yield ref

    flaky.__class__ = Warns
    state = await run(handbook, sources=["wiki"])
    assert state.is_completed()
    assert ("wiki", "the service is left alone") in watching.waited
    assert "20 wiki: the service is left alone" in await logs(state)
