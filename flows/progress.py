"""How a run is watched from the process that started it: a command line draws its bars by this."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from pipeline.report import SourceReport


class Watcher(Protocol):
    """Is told of each source as it goes. Every call must return at once."""

    def progressed(self, report: SourceReport) -> None:
        """The source's report has grown."""

    def ended(self, report: SourceReport) -> None:
        """The source was ingested, but for the documents that the report names."""

    def failed(self, source: str, error: Exception, *, again_in: float | None) -> None:
        """The source was given up; or, where `again_in` is given, will be tried again in so many seconds."""

    def waiting(self, source: str, reason: str) -> None:
        """Nothing is done yet."""


class _Nobody:
    """Looks away."""

    def progressed(self, report: SourceReport) -> None:
        """See `Watcher`."""

    def ended(self, report: SourceReport) -> None:
        """See `Watcher`."""

    def failed(self, source: str, error: Exception, *, again_in: float | None) -> None:
        """See `Watcher`."""

    def waiting(self, source: str, reason: str) -> None:
        """See `Watcher`."""


watcher: ContextVar[Watcher] = ContextVar("watcher", default=_Nobody())  # noqa: B039 - it holds nothing
"""Who watches the runs of this context, and of the threads and tasks that are started in it.

No parameter of the flow, because parameters are stored with the run and must be plain values.
"""
