"""Traces and figures: what is told, that nothing secret is, and that being off costs nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from config.build import build_pipeline, connectors
from config.settings import Settings
from flows.observed import listing, observed, start_traces
from pipeline import telemetry
from pipeline.errors import SettingsError, SourceUnavailable
from pipeline.ingest import ingest_source
from pipeline.report import SourceReport
from pipeline.telemetry_metrics import note_run
from tests.settings_text import SOURCES, Load

TEXT = "Leave is 25 days a year."


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    telemetry.start_with(exporter)
    yield exporter
    telemetry.stop()


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.md").write_text(f"# Leave {number}\n\n{TEXT}\n")
    return folder


class Teller:
    def __init__(self) -> None:
        self.report = SourceReport(source="docs")

    def observe(self, report: SourceReport) -> None:
        self.report = report


async def ingest(settings: Settings) -> SourceReport:
    teller = Teller()
    [(connector, metadata)] = connectors(settings)
    async with (
        observed(settings, "docs", teller),
        build_pipeline(settings) as pipeline,
        pipeline.store.lease("ingesting docs"),
    ):
        await ingest_source(connector, pipeline, metadata=metadata, observe=listing(teller.observe))
    return teller.report


def by_name(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    telemetry.flush()
    return {span.name: span for span in spans.get_finished_spans()}


@pytest.mark.usefixtures("documents")
async def test_a_run_is_a_span_with_its_stages_below_it(load: Load, spans: InMemorySpanExporter) -> None:
    await ingest(load(f"store: {{uri: db}}\n{SOURCES}"))
    found = by_name(spans)
    assert {"ingest", "list", "parse", "embed", "write", "upkeep"} <= found.keys()
    run = found["ingest"]
    assert run.context is not None
    for name in ("list", "parse", "embed", "write", "upkeep"):
        parent = found[name].parent
        assert parent is not None, name
        assert parent.trace_id == run.context.trace_id, name
    assert run.attributes is not None
    assert run.attributes["docweave.source"] == "docs"
    assert run.attributes["docweave.added"] == 3
    parsed, embedded = found["parse"].attributes, found["embed"].attributes
    assert parsed is not None
    assert embedded is not None
    assert parsed["docweave.calls"] == 3
    assert embedded["docweave.model"] == "docweave-static-1"
    assert isinstance(embedded["docweave.tokens"], int)


@pytest.mark.usefixtures("documents")
async def test_no_span_holds_a_text_a_key_of_a_document_or_a_path(
    load: Load, spans: InMemorySpanExporter, tmp_path: Path
) -> None:
    await ingest(load(f"store: {{uri: db}}\n{SOURCES}"))
    telemetry.flush()
    told = " ".join(span.to_json() for span in spans.get_finished_spans())
    for secret in (TEXT, "25 days", "0.md", str(tmp_path)):
        assert secret not in told


async def test_a_span_tells_of_an_error_by_its_class_alone(spans: InMemorySpanExporter) -> None:
    def fail() -> None:
        with telemetry.span("search", mode="hybrid"):
            raise SourceUnavailable("https://ada:secret@example.com does not answer")

    with pytest.raises(SourceUnavailable):
        fail()
    span = by_name(spans)["search"]
    assert span.attributes is not None
    assert span.attributes["error.type"] == "SourceUnavailable"
    assert "secret" not in span.to_json()


class Receiver(BaseHTTPRequestHandler):
    got: list[tuple[str, str | None, ExportTraceServiceRequest]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.path, self.headers.get("X-Key"), ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.usefixtures("documents")
async def test_spans_reach_a_collector_over_http(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    Receiver.got = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("COLLECTOR_KEY", "a-key")
    address = f"http://127.0.0.1:{server.server_port}"
    settings = load(f"telemetry: {{otlp: '{address}', headers: {{X-Key: '${{COLLECTOR_KEY}}'}}}}\n{SOURCES}")
    try:
        await ingest(settings)
    finally:
        telemetry.stop()
        server.shutdown()
        server.server_close()
    assert {(path, key) for path, key, _ in Receiver.got} == {("/v1/traces", "a-key")}
    sent = [
        span.name
        for _, _, request in Receiver.got
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert sent.count("ingest") == 1
    assert "embed" in sent


@pytest.mark.usefixtures("documents")
async def test_a_collector_that_is_not_there_costs_a_run_nothing_but_seconds(load: Load) -> None:
    try:
        report = await ingest(load(f"telemetry: {{otlp: 'http://127.0.0.1:9'}}\n{SOURCES}"))
    finally:
        telemetry.stop()
    assert (report.added, report.failures) == (3, [])


def test_the_environment_can_ask_for_traces(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = load(SOURCES).telemetry
    assert chosen.traces_endpoint is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/")
    assert chosen.traces_endpoint == "http://collector:4318/v1/traces"


def test_traces_without_the_extra_say_what_to_install(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SettingsError, match=r"extra `telemetry` is not installed.*docweave\[telemetry\]"):
        start_traces(load(f"telemetry: {{otlp: 'http://localhost:4318'}}\n{SOURCES}").telemetry)


def test_nothing_of_opentelemetry_is_imported_while_traces_are_off() -> None:
    run = (
        "import sys; from pipeline import telemetry, telemetry_stages, telemetry_metrics\n"
        "with telemetry.span('search', mode='text') as notes: notes.set(hits=3)\n"
        "telemetry.flush()\n"
        "print([name for name in ('opentelemetry', 'prometheus_client') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", run], check=True, capture_output=True, text=True).stdout
    assert said == "[]\n"


def figures(path: Path) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def test_counters_go_on_from_run_to_run_and_gauges_are_of_the_latest(tmp_path: Path) -> None:
    path = tmp_path / "out" / "docweave.prom"
    note_run(path, SourceReport(source="wiki", added=5, tokens=100, listed=5, seconds=1), failed=False)
    note_run(path, SourceReport(source='we"ird', added=1, seconds=1), failed=True)
    note_run(path, SourceReport(source="wiki", added=2, tokens=50, listed=7, seconds=2), failed=False)
    found = figures(path)
    assert found["docweave_documents_total", "added", "wiki"] == 7
    assert found["docweave_tokens_total", "wiki"] == 150
    assert found["docweave_listed", "wiki"] == 7
    assert found["docweave_runs_total", "done", "wiki"] == 2
    assert found["docweave_runs_total", "failed", 'we"ird'] == 1
    assert ("docweave_last_success_timestamp_seconds", 'we"ird') not in found
    assert found["docweave_last_success_timestamp_seconds", "wiki"] > 1_700_000_000


def test_runs_that_end_at_the_same_moment_lose_no_count(tmp_path: Path) -> None:
    path = tmp_path / "docweave.prom"
    writers = [
        threading.Thread(
            target=note_run,
            args=(path, SourceReport(source=f"s{number % 2}", added=1)),
            kwargs={"failed": False},
        )
        for number in range(12)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = figures(path)
    assert [found["docweave_documents_total", "added", source] for source in ("s0", "s1")] == [6, 6]


async def test_a_run_that_fails_writes_its_figures_too(load: Load, tmp_path: Path) -> None:
    settings = load(f"telemetry: {{metrics_file: docweave.prom}}\n{SOURCES}")
    with pytest.raises(SourceUnavailable):
        async with observed(settings, "docs", Teller()):
            raise SourceUnavailable("it does not answer")
    assert figures(tmp_path / "docweave.prom")["docweave_runs_total", "failed", "docs"] == 1


async def test_figures_that_cannot_be_written_do_not_fail_a_run(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    settings = load(f"telemetry: {{metrics_file: file/docweave.prom}}\n{SOURCES}")
    async with observed(settings, "docs", Teller()):
        pass
    assert "docweave.prom cannot be written" in caplog.text
