"""What a run over one source tells the outside, beside the scheduler: log lines, traces and figures."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.to_thread

from config.logging_lines import lines_about, set_up
from config.settings import Settings
from config.telemetry_settings import TelemetrySettings
from pipeline import telemetry
from pipeline.report import Observer, SourceReport

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)


def begin(settings: Settings) -> None:
    """Write log lines, and trace, as the settings say, whoever reads them. To do it twice is to do it once.

    Raises:
        SettingsError: the environment says what cannot be meant, or what traces need is not installed.
    """
    set_up(settings.logging)
    start_traces(settings.telemetry)
    _outlive_the_reader()


def start_traces(chosen: TelemetrySettings) -> None:
    """Trace, where the settings ask for it.

    Raises:
        SettingsError: what traces need is not installed.
    """
    if endpoint := chosen.traces_endpoint:
        headers = {name: value.get_secret_value() for name, value in chosen.headers.items()}
        telemetry.start(endpoint, headers=headers, service=chosen.service)


def _outlive_the_reader() -> None:
    """Have the run go on when nobody reads what it prints any more, because its worker was killed.

    Prefect's console would raise SystemExit, in whatever callback had something to log: the event loop would
    be left as it is, and the process never end for the threads that wait for it.
    """
    for handler in logging.getLogger().handlers:
        if console := getattr(handler, "console", None):  # Prefect's, and one of rich
            console.on_broken_pipe = partial(_fall_silent, console)


def _fall_silent(console: Console) -> None:
    console.quiet = True
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, console.file.fileno())  # what could not be written yet is tried again at the end
    os.close(nowhere)


class Tells(Protocol):
    """Who has the latest report of a source."""

    report: SourceReport


@asynccontextmanager
async def observed(settings: Settings, source: str, teller: Tells) -> AsyncIterator[None]:
    """Tell of the source for as long as the block lasts: in log lines, in a span, and in figures at its end.

    What it tells is what the teller has by then. Nothing of it can make a run fail.

    Raises:
        SettingsError: as `begin`.
    """
    begin(settings)
    began, failed = time.monotonic(), True
    try:
        with lines_about(source=source), telemetry.span("ingest", source=source) as notes:
            try:
                yield
                failed = False
            finally:
                notes.set(**_figures(teller.report))
    finally:
        report = teller.report
        if not report.seconds:  # it did not come to its end
            report = replace(report, seconds=time.monotonic() - began)
        note = partial(_note, settings.telemetry, report, failed=failed)
        with anyio.move_on_after(2 * telemetry.FLUSH_SECONDS, shield=True):
            await anyio.to_thread.run_sync(note, abandon_on_cancel=True)


@asynccontextmanager
async def helping(settings: Settings, source: str) -> AsyncIterator[None]:
    """Tell, as `observed` does, of a worker that does a part of a source; figures are the run's own.

    Raises:
        SettingsError: as `begin`.
    """
    begin(settings)
    try:
        with lines_about(source=source), telemetry.span("work off shards", source=source):
            yield
    finally:
        with anyio.move_on_after(2 * telemetry.FLUSH_SECONDS, shield=True):
            await anyio.to_thread.run_sync(telemetry.flush, abandon_on_cancel=True)


def listing(observe: Observer) -> Observer:
    """The same observer, with a span from now until it hears that the source was listed."""
    began, listed = time.time_ns(), False

    def heard(report: SourceReport) -> None:
        nonlocal listed
        if not listed:
            listed = True
            telemetry.past("list", began, listed=report.listed, owed=report.owed)
        observe(report)

    return heard if telemetry.is_on() else observe


def _note(chosen: TelemetrySettings, report: SourceReport, *, failed: bool) -> None:
    telemetry.flush()
    if chosen.metrics_file is None:
        return
    from pipeline.telemetry_metrics import note_run  # noqa: PLC0415 - only where it is asked for

    try:
        note_run(chosen.metrics_file, report, failed=failed)
    except OSError as error:
        log.warning("telemetry.metrics_file: %s cannot be written: %s", chosen.metrics_file, error.strerror)


def _figures(report: SourceReport) -> Mapping[str, int | float]:
    names = ("listed", "owed", "unchanged", "touched", "added", "changed", "renamed", "rewritten", "removed")
    more = ("withheld", "left", "chunks", "requests", "retries", "tokens", "cost_usd")
    return {name: getattr(report, name) for name in names + more} | {"failed": len(report.failures)}
