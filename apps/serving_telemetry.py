"""What the search API tells of itself: `/metrics` for Prometheus, and a span for each request."""

from __future__ import annotations

import platform
import re
import time
from importlib import metadata
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from pipeline import telemetry

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATH: Final = "/metrics"
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Seconds."""
UNKNOWN: Final = "other"
"""The route of a path that is none: paths are whatever somebody asks for, and would be as many metrics."""


def observe_requests(app: FastAPI) -> None:
    """Count and time every request of the application, and answer `/metrics`."""
    figures = _Figures()
    app.add_middleware(_Observing, figures=figures)

    async def metrics() -> Response:
        return Response(generate_latest(figures.registry), media_type=CONTENT_TYPE_LATEST)

    app.add_api_route(PATH, metrics, methods=["GET"], include_in_schema=False)


class _Figures:
    """One server's: several may live in a process, in tests for instance."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        info = Info("docweave", "What answers.", registry=registry)
        info.info({"version": metadata.version("docweave"), "python": platform.python_version()})
        self.requests = Counter(
            "docweave_http_requests",
            "Requests that were answered.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "docweave_http_request_seconds",
            "How long answers took.",
            ["method", "route"],
            buckets=BUCKETS,
            registry=registry,
        )
        self.open = Gauge("docweave_http_requests_open", "Requests being answered.", registry=registry)


class _Observing:
    """Stands in front of all else."""

    def __init__(self, app: ASGIApp, figures: _Figures) -> None:
        self._app = app
        self._figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == PATH:
            await self._app(scope, receive, send)
            return
        status, began = 500, time.perf_counter()

        async def heard(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        figures, method = self._figures, _method(scope)
        with telemetry.span("request", method=method) as notes, figures.open.track_inprogress():
            try:
                await self._app(scope, receive, heard)
            finally:
                route = _route(scope)
                notes.set(route=route, status=status)
                figures.requests.labels(method, route, str(status)).inc()
                figures.seconds.labels(method, route).observe(time.perf_counter() - began)


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else UNKNOWN


def _route(scope: Scope) -> str:
    """The route's own path, without what stands in its place in the request.

    A route knows its path below the prefix that its router was included with, or with it: FastAPI's versions
    differ. The prefix is what stands before that in the request.
    """
    route = scope.get("route")
    path, regex = getattr(route, "path", None), getattr(route, "path_regex", None)
    if not isinstance(path, str) or not isinstance(regex, re.Pattern):
        return UNKNOWN
    found = re.search(regex.pattern.removeprefix("^"), str(scope["path"]))
    return str(scope["path"])[: found.start()] + path if found else path
