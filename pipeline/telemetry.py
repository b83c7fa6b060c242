"""Traces of runs and questions, as OpenTelemetry has them.

Off until `start` is called, and free until then: a span is a shared object that does nothing, and nothing of
OpenTelemetry is imported. Spans carry counts, names of models and of sources, and never a text, a question,
an address or a key.
"""

# ruff: noqa: PLC0415 - what is off is not imported

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)

Value: TypeAlias = str | int | float | bool

PREFIX = "docweave."
"""Before the name of each attribute."""
FLUSH_SECONDS = 5.0
"""How long a run waits, at the end of each source, for its spans to have been sent."""


class Notes(Protocol):
    """What a span can be told while it goes."""

    def set(self, **attributes: Value) -> None:
        """Add attributes: counts and names, never a text."""


class _Nothing:
    """The span that is none."""

    def set(self, **attributes: Value) -> None:
        """See `Notes`."""


_NOTHING: Final[AbstractContextManager[Notes]] = nullcontext(_Nothing())


@dataclass(slots=True)
class _Tracing:
    """What is on, if anything."""

    endpoint: str | None = None
    provider: TracerProvider | None = None
    tracer: Tracer | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)


_tracing = _Tracing()


def is_on() -> bool:
    """Whether spans go anywhere."""
    return _tracing.tracer is not None


def start(endpoint: str, *, headers: Mapping[str, str] | None = None, service: str = "docweave") -> None:
    """Send spans to a collector, from now on. Called again with the same address, does nothing.

    Args:
        endpoint: Where to post them, with the path: http://localhost:4318/v1/traces.
        headers: Sent along.
        service: What the spans call this program.

    Raises:
        SettingsError: the extra `telemetry` is not installed.
    """
    if _tracing.endpoint == endpoint:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise SettingsError(
            "traces are asked for (telemetry.otlp or OTEL_EXPORTER_OTLP_ENDPOINT), and the extra `telemetry` "
            f"is not installed ({error.name} is missing): pip install 'docweave[telemetry]'"
        ) from error
    exporter = OTLPSpanExporter(endpoint, headers=dict(headers) if headers else None, timeout=FLUSH_SECONDS)
    start_with(exporter, service=service, endpoint=endpoint)


def start_with(exporter: SpanExporter, *, service: str = "docweave", endpoint: str = "") -> None:
    """Hand spans to an exporter, from now on."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    stop()
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    with _tracing.turn:
        _tracing.endpoint, _tracing.provider = endpoint, provider
        _tracing.tracer = provider.get_tracer("docweave")


def flush() -> None:
    """Have what has ended be sent, within `FLUSH_SECONDS`. What cannot be sent is lost, and said so."""
    if (provider := _tracing.provider) and not provider.force_flush(round(FLUSH_SECONDS * 1000)):
        log.warning("traces could not be sent within %g s", FLUSH_SECONDS)


def stop() -> None:
    """Send what is left, and trace no more."""
    with _tracing.turn:
        provider, _tracing.provider, _tracing.tracer, _tracing.endpoint = _tracing.provider, None, None, None
    if provider:
        provider.shutdown()


def span(name: str, **attributes: Value) -> AbstractContextManager[Notes]:
    """A span for the block, within the context's own. An error in the block marks it, by its class."""
    tracer = _tracing.tracer
    return _NOTHING if tracer is None else _spanning(tracer, name, attributes)


def past(name: str, began: int, **attributes: Value) -> None:
    """A span for what ends now and began at `began`, in nanoseconds since the epoch."""
    if tracer := _tracing.tracer:
        tracer.start_span(name, start_time=began, attributes=_named(attributes)).end()


@dataclass(slots=True)
class Stage:
    """One span for many calls that run side by side: parsing, for instance. Ends with the last of them."""

    name: str
    _calls: int = 0
    _failed: int = 0
    _busy: float = 0.0
    _began: int = 0
    _ended: int = 0
    _context: Context | None = None

    @contextmanager
    def call(self) -> Iterator[None]:
        """One of the calls."""
        if not is_on():
            yield
            return
        from opentelemetry import context

        if not self._began:
            self._began, self._context = time.time_ns(), context.get_current()
        began = time.perf_counter()
        try:
            yield
        except BaseException:
            self._failed += 1
            raise
        finally:
            self._calls += 1
            self._busy += time.perf_counter() - began
            self._ended = time.time_ns()

    def end(self) -> None:
        """Tell of all calls so far."""
        tracer = _tracing.tracer
        if tracer is None or not self._calls:
            return
        told = tracer.start_span(self.name, context=self._context, start_time=self._began)
        told.set_attributes(
            _named({"calls": self._calls, "failed": self._failed, "busy_seconds": round(self._busy, 6)})
        )
        told.end(self._ended)
        self._calls = self._failed = self._began = 0
        self._busy = 0.0


@dataclass(frozen=True, slots=True)
class _Live:
    span: Span

    def set(self, **attributes: Value) -> None:
        """See `Notes`."""
        self.span.set_attributes(_named(attributes))


@contextmanager
def _spanning(tracer: Tracer, name: str, attributes: Mapping[str, Value]) -> Iterator[Notes]:
    from opentelemetry.trace import Status, StatusCode

    # What an exception says may name documents: its class alone is told.
    with tracer.start_as_current_span(
        name, attributes=_named(attributes), record_exception=False, set_status_on_exception=False
    ) as live:
        try:
            yield _Live(live)  # type: ignore[arg-type]
        except BaseException as error:
            live.set_attribute("error.type", type(error).__name__)
            live.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def _named(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {PREFIX + name: value for name, value in attributes.items()}
