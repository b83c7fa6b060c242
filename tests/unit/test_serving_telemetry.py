"""`/metrics` and the spans of requests, on an application of one's own."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from apps.serving_telemetry import observe_requests
from pipeline import telemetry


@pytest.fixture
async def client() -> Iterator[httpx.AsyncClient]:
    app, router = FastAPI(), APIRouter()

    @router.get("/documents/{key}")
    async def document(key: str) -> dict[str, str]:
        if key == "broken":
            raise RuntimeError("broken")
        return {"key": key}

    app.include_router(router, prefix="/v1")
    observe_requests(app)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


async def test_requests_are_counted_by_route_and_status(client: httpx.AsyncClient) -> None:
    for path in ("/v1/documents/a", "/v1/documents/b", "/v1/documents/broken", "/no/such?question=secret"):
        await client.get(path)
    await client.request("BREW", "/v1/documents/a")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    route = "/v1/documents/{key}"
    assert f'docweave_http_requests_total{{method="GET",route="{route}",status="200"}} 2.0' in answer.text
    assert f'docweave_http_requests_total{{method="GET",route="{route}",status="500"}} 1.0' in answer.text
    assert 'docweave_http_requests_total{method="GET",route="other",status="404"} 1.0' in answer.text
    assert 'method="BREW"' not in answer.text
    assert f'docweave_http_request_seconds_count{{method="GET",route="{route}"}} 3.0' in answer.text
    assert "docweave_info{" in answer.text
    assert "docweave_http_requests_open 0.0" in answer.text
    assert "secret" not in answer.text


async def test_a_request_is_a_span_without_what_was_asked(client: httpx.AsyncClient) -> None:
    exporter = InMemorySpanExporter()
    telemetry.start_with(exporter)
    try:
        await client.get("/v1/documents/a?question=secret")
        telemetry.flush()
    finally:
        telemetry.stop()
    [span] = exporter.get_finished_spans()
    assert span.name == "request"
    assert span.attributes is not None
    assert span.attributes["docweave.route"] == "/v1/documents/{key}"
    assert span.attributes["docweave.status"] == 200
    assert "secret" not in span.to_json()
