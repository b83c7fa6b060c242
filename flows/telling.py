"""What the scheduler shows of a source while it is ingested, and when it has ended."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar
from uuid import UUID

import anyio
from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_progress_artifact,
    aupdate_progress_artifact,
)

from config.settings import Settings
from flows import approval, assets, events, naming, summary
from flows.artifacts import keep_trend
from flows.progress import Watcher
from pipeline.errors import StoreBusy
from pipeline.protocols import Store
from pipeline.report import SourceReport

Logger: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"
Value = TypeVar("Value")

TICK_SECONDS = 1.0
"""How often the progress artifact may be updated, at first."""
LOG_SECONDS = 10.0
"""How often progress is logged, at first."""
SLOWING = 60
"""Both come less often with time: at most once in such a part of what the run has taken. The scheduler keeps
all that it is told, and a run of hours would tell it much the same thousands of times."""
PATIENCE = 15.0
"""Seconds that something which is only shown may take."""


def artifact_key(source: str) -> str:
    """The key of the source's artifacts: Prefect allows lowercase letters, digits and dashes."""
    return f"ingest-{source.replace('_', '-')}"


@asynccontextmanager
async def telling(source: str, logger: Logger, watcher: Watcher) -> AsyncIterator[Teller]:
    """Tell the scheduler and the watcher of all that the teller observes, until the block ends.

    What the block raises is told too, and raised again as it was.
    """
    teller = Teller(report=SourceReport(source=source), logger=logger, watcher=watcher)
    heard, pipeline = _Heard(teller), logging.getLogger("pipeline")
    pipeline.addHandler(heard)
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(teller.keep_up)
        try:
            yield teller
        except Exception as error:  # noqa: BLE001 - carried past the task group, which would wrap it
            failure = error
        finally:
            pipeline.removeHandler(heard)
        tasks.cancel_scope.cancel()
    await teller.conclude(failure)
    if failure:
        raise failure


@asynccontextmanager
async def busy_skips(settings: Settings, teller: Teller) -> AsyncIterator[None]:
    """Have a source that another run is at be skipped, where the settings want it so."""
    try:
        yield
    except StoreBusy as error:
        if settings.store.when_busy != "skip":
            raise
        teller.observe(replace(teller.report, skipped=str(error)))


class _Heard(logging.Handler):
    """Passes on what the pipeline warns of while it works: that a service does not answer, for instance."""

    def __init__(self, teller: Teller) -> None:
        super().__init__(logging.WARNING)
        self._teller = teller

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it where people look."""
        self._teller.waiting(record.getMessage())


@dataclass(slots=True, kw_only=True)
class Teller:
    """Keeps the latest report of one source, and says from time to time what is in it."""

    report: SourceReport
    logger: Logger
    watcher: Watcher
    _settings: Settings | None = None
    _holds: assets.Stored | None = None
    _artifact: UUID | None = None
    _warned: int = 0
    """Failed documents that have been logged."""
    _began: float = field(default_factory=time.monotonic)
    _logged: float = field(default_factory=time.monotonic)

    def about(self, settings: Settings) -> None:
        """Know the settings of what is told: the task that goes on here makes their table of the source."""
        self._settings = settings
        with self._only_shown():
            assets.materializes(settings, self.report.source)

    async def stored(self, store: Store, generation: int | None = None) -> None:
        """Know what the store holds, now that the source was ingested; `generation` is that of a rebuild."""
        self._holds = await assets.stored(store, generation)

    def observe(self, report: SourceReport) -> None:
        """Take the source's report as it grows."""
        self.report = report
        self.watcher.progressed(report)

    def waiting(self, reason: str) -> None:
        """Say why nothing is done yet."""
        self.logger.info("%s: %s", self.report.source, reason)
        self.watcher.waiting(self.report.source, reason)

    async def keep_up(self) -> None:
        """Bring the progress artifact and the logs up to date, again and again."""
        told, shown = -1, -math.inf
        while True:
            if told != self.report.done and self._due(shown, TICK_SECONDS):
                told, shown = self.report.done, time.monotonic()
                await self._show_progress()
            self._warn()
            if self._due(self._logged, LOG_SECONDS):
                self._logged = time.monotonic()
                self.logger.info("%s: %s", self.report.source, summary.progress(self.report))
            await anyio.sleep(TICK_SECONDS)

    def _due(self, last: float, seconds: float) -> bool:
        """Whether what was told last at that time, and is told every so many seconds at first, is due."""
        now = time.monotonic()
        return now - last >= max(seconds, (now - self._began) / SLOWING)

    async def conclude(self, failure: Exception | None) -> None:
        """Say how it ended: in the logs, and in an artifact that stays."""
        report = self.report
        self._warn()
        if (more := len(report.failures) - summary.SHOWN_FAILURES) > 0:
            self.logger.warning("%s: %s more documents failed", report.source, f"{more:,}")
        if failure:
            self.logger.error("%s: %s: %s", report.source, type(failure).__name__, failure)
        else:
            self.logger.info("   ".join(summary.columns(report)))
        for said in (summary.left(report), summary.withheld(report)):
            if said:
                self.logger.warning("%s: %s", report.source, said)
        approval.note(report)
        with self._only_shown():
            naming.name_task(None if failure else summary.counts(report), report.source)
            self._tell_automations(failure)
        await self._show_progress(whole=failure is None)
        await self._kept(
            acreate_markdown_artifact(
                markdown=summary.markdown(report, failure),
                key=artifact_key(report.source),
                description=f"{type(failure).__name__}" if failure else summary.outcome(report),
            )
        )
        if not report.skipped:
            await self._kept(keep_trend(f"{artifact_key(report.source)}-trend", report, failure))

    def _tell_automations(self, failure: Exception | None) -> None:
        """Send events, and say what the table holds. A source that failed is told of by Prefect's own."""
        settings, report = self._settings, self.report
        if settings is None or failure:
            return
        if report.skipped:
            assets.leaves_alone()
            return
        assets.describe(settings, report.source, self._holds)
        events.source_ended(report, table=assets.table(settings).key, asked=approval.resumed())

    async def _show_progress(self, *, whole: bool = False) -> None:
        report = self.report
        percent = 100.0 if whole else 100 * report.done / max(1, report.owed)
        description = f"{report.source}: {summary.progress(report)}"
        if self._artifact is None:
            key = f"{artifact_key(report.source)}-progress"
            self._artifact = await self._kept(acreate_progress_artifact(percent, key, description))
        else:
            await self._kept(aupdate_progress_artifact(self._artifact, percent, description))

    def _warn(self) -> None:
        """Log the documents that have failed since the last time."""
        failures = self.report.failures[self._warned : summary.SHOWN_FAILURES]
        for failure in failures:
            self.logger.warning(
                "%s: %s: %s: %s",
                self.report.source,
                failure.key,
                failure.error,
                failure.reason,
                extra={"key": failure.key},
            )
        self._warned += len(failures)

    @contextmanager
    def _only_shown(self) -> Iterator[None]:
        """Go on, whatever becomes of what is done in the block."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever Prefect's client raises
            self.logger.warning("the scheduler could not be told: %s", type(error).__name__)

    async def _kept(self, showing: Awaitable[Value]) -> Value | None:
        """Wait for what is only shown: an ingest does not end because its server will not show it."""
        try:
            with anyio.fail_after(PATIENCE):
                return await showing
        except Exception as error:  # noqa: BLE001 - whatever Prefect's client raises
            self.logger.warning("an artifact could not be written: %s", type(error).__name__)
            return None
