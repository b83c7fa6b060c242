"""An ingest as the command line runs it: the flow, watched by bars on a terminal or by lines in a log."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from apps.exits import INTERRUPTED, ExitCode
from apps.suggested import copyable
from config.logging_lines import is_json
from flows import summary
from flows.environment import prefer_quiet
from flows.progress import watcher
from flows.stopping import Stop, stop
from flows.temporary_server import server_for_a_run
from pipeline.errors import DocweaveError
from pipeline.report import SourceReport

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_SECONDS = 10.0
"""How often a source's progress is told where there is no terminal."""
GRACE_SECONDS = 10.0
"""How long an interrupted run may wait for what it has paid for, and take to tell its scheduler."""


@dataclass(slots=True, kw_only=True)
class Watch(ABC):
    """Keeps what each source came to, and shows how far it is."""

    reports: dict[str, SourceReport] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    """Why sources were given up."""

    def progressed(self, report: SourceReport) -> None:
        """Show how far the source is."""
        self.reports[report.source] = report
        self.show(report)

    def ended(self, report: SourceReport) -> None:
        """Keep the report."""
        self.reports[report.source] = report

    def failed(self, source: str, error: Exception, *, again_in: float | None) -> None:
        """Keep the error, or say that it will be tried again."""
        if again_in is None:
            self.errors[source] = error
        else:
            self.say(f"{source}: {error}; trying again in {again_in:.0f} s")

    def waiting(self, source: str, reason: str) -> None:
        """Say why nothing is done yet."""
        self.say(f"{source}: {reason}")

    @abstractmethod
    def show(self, report: SourceReport) -> None:
        """Show how far a source is."""

    @abstractmethod
    def say(self, line: str) -> None:
        """Show a line that stays."""


@dataclass(slots=True, kw_only=True)
class Lines(Watch):
    """Plain lines on standard error, for logs."""

    _told: dict[str, float] = field(default_factory=dict)

    def show(self, report: SourceReport) -> None:
        """Print a line when the source has been listed, and every now and then."""
        told = self._told.get(report.source)
        if told is not None and time.monotonic() - told < LINE_SECONDS:
            return
        self._told[report.source] = time.monotonic()
        listed = summary.number(report.listed, "document")
        what = f"{listed} listed, {report.owed:,} to read" if told is None else summary.progress(report)
        self.say(f"{report.source}: {what}")

    def say(self, line: str) -> None:
        """Print it."""
        typer.echo(line, err=True)


@dataclass(slots=True, kw_only=True)
class Silent(Watch):
    """Says nothing: the run's own log lines do."""

    def show(self, report: SourceReport) -> None:
        """See `Watch`."""

    def say(self, line: str) -> None:
        """See `Watch`."""


@dataclass(slots=True, kw_only=True)
class Bars(Watch):
    """A bar for each source that has begun."""

    progress: Progress
    _bars: dict[str, TaskID] = field(default_factory=dict)
    _waiting: TaskID | None = None

    def wait(self, what: str) -> None:
        """Show that something happens before the first source has been listed: it may take seconds."""
        self._waiting = self.progress.add_task(what, total=None, said="")

    def show(self, report: SourceReport) -> None:
        """Move the source's bar."""
        if self._waiting is not None:
            self.progress.remove_task(self._waiting)
            self._waiting = None
        if report.source not in self._bars:
            self._bars[report.source] = self.progress.add_task(report.source, said="")
        self.progress.update(
            self._bars[report.source],
            total=report.owed,
            completed=report.done,
            said=summary.progress(report) if report.owed else "nothing to read",
        )

    def say(self, line: str) -> None:
        """Print it above the bars."""
        self.progress.console.print(line, markup=False, highlight=False)


def run_ingest(
    config: Path,
    sources: list[str],
    *,
    rebuild: bool,
    approve_removals: int | None = None,
    plan: Path | None = None,
) -> Watch:
    """Run the flow over the named sources or all, and give what each came to.

    Raises:
        DocweaveError: the run as a whole failed; a source that failed stands in the result.
        KeyboardInterrupt: it was interrupted.
    """
    prefer_quiet()
    with watching("starting Prefect") as watch:
        token = watcher.set(watch)
        asked = partial(
            _flow,
            str(config.absolute()),
            sources or None,
            rebuild=rebuild,
            approve_removals=approve_removals,
            plan=str(plan.absolute()) if plan else None,
        )
        try:
            with server_for_a_run(lambda line: watch.say(copyable(line, config))):
                failure = asyncio.run(_run(asked, watch))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            watcher.reset(token)
    if failure and not watch.errors:
        raise DocweaveError(failure)
    return watch


async def _run(asked: Callable[[], Awaitable[str | None]], watch: Watch) -> str | None:
    """Why the flow failed; None if it did not."""
    with _interruptible(watch, asked_to_stop := Stop()):
        stop.set(asked_to_stop)
        return await asked()


async def _flow(
    config: str,
    sources: list[str] | None,
    *,
    rebuild: bool,
    approve_removals: int | None,
    plan: str | None,
) -> str | None:
    from flows.here import run_here  # noqa: PLC0415 - imports prefect, which takes more than a second

    return await run_here(config, sources, rebuild=rebuild, approve_removals=approve_removals, plan=plan)


@contextmanager
def _interruptible(watch: Watch, run: Stop) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM stop the run: at once before it has begun, with some seconds' grace after.

    No handler of the event loop's own, which Prefect blocks while it starts a server.
    """

    def interrupt(_signal: int, _frame: object) -> None:
        if run.reason:
            _leave()
        if not run.ask("interrupted where it was started"):
            raise KeyboardInterrupt
        watch.say("Stopping …")
        grace.start()

    # The scheduler's server may have been interrupted as well, and never answer.
    grace = threading.Timer(GRACE_SECONDS, _leave)
    grace.daemon = True
    run.on_sigterm = interrupt
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        grace.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave() -> None:
    """End the process at once."""
    typer.echo(INTERRUPTED, err=True)
    os._exit(ExitCode.INTERRUPTED)


@contextmanager
def watching(waiting: str) -> Iterator[Watch]:
    """Bars if standard error is a terminal, lines if not. `waiting` says what the first source waits for."""
    if is_json():
        yield Silent()
        return
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console  # noqa: PLC0415 - only where there is something to draw on
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    shown = [
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[said]}", markup=False),
        TimeElapsedColumn(),
    ]
    console = Console(stderr=True)
    with Progress(*shown, console=console, transient=True) as progress:
        bars = Bars(progress=progress)
        bars.wait(waiting)
        yield bars
