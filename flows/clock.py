"""How long the run of this process may take, over all its sources and for each of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import anyio

from config.settings import Settings
from pipeline.errors import OutOfTime


@dataclass(slots=True, kw_only=True)
class Clock:
    """The limits of one run, and when each of them is reached."""

    minutes: float | None
    """Of the run; None for no limit."""
    source_minutes: Mapping[str, float | None]
    run_until: float
    """By the event loop's clock."""
    _until: dict[str, float] = field(default_factory=dict)
    """When a source's time is over, from its first try on."""

    @classmethod
    def of(cls, settings: Settings) -> Clock:
        """As the settings say. The run begins now."""
        return cls(
            minutes=settings.timeout_minutes,
            source_minutes={name: source.timeout_minutes for name, source in settings.sources.items()},
            run_until=_in(settings.timeout_minutes),
        )

    @contextmanager
    def run(self) -> Iterator[None]:
        """Stop what is done for a source when the run's time is over, the wait for its turn included.

        Raises:
            OutOfTime: it was over.
        """
        with _until(self.run_until, self.minutes, "timeout_minutes", "the run"):
            yield

    @contextmanager
    def source(self, source: str) -> Iterator[None]:
        """Stop what is done for a source when its own time is over, its earlier tries included.

        Raises:
            OutOfTime: it was over.
        """
        minutes = self.source_minutes[source]
        until = self._until.setdefault(source, _in(minutes))
        with _until(until, minutes, f"sources.{source}.timeout_minutes", "it"):
            yield


clock: ContextVar[Clock | None] = ContextVar("clock", default=None)
"""Of the run that goes on here. No parameter of a task: time goes on over its retries."""


def _in(minutes: float | None) -> float:
    return math.inf if minutes is None else anyio.current_time() + minutes * 60


@contextmanager
def _until(moment: float, minutes: float | None, setting: str, what: str) -> Iterator[None]:
    with anyio.CancelScope(deadline=moment) as scope:
        yield
    if scope.cancelled_caught:
        raise OutOfTime(
            f"stopped: {what} may take {minutes:g} min ({setting}). What was committed stays; the next run "
            "goes on from there"
        )
