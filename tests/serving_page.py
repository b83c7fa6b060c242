"""The page over a small index, served on this machine by a thread of this process."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio

from apps.desk import desk_of
from apps.http.app import create_app
from apps.http.server import _also
from config.build import build_pipeline
from config.load import load_settings
from config.settings import Settings
from pipeline.records import Failure, LatestRun, Spending
from tests.ingested import ingest_now, written
from tests.serving import served

HOSTILE = '<script>window.hacked = 1</script> <img src=x onerror="window.hacked = 1">'
DOCUMENTS = {
    "docs/people/parental-leave.md": "# Parental leave\n\nA parent has twenty weeks of leave on full pay.\n\n"
    "## Telling us\n\nSay so fifteen weeks before the leave begins.\n\n"
    "## Coming back\n\nThe first four weeks are worked at four fifths of the hours.\n\n"
    "## Exceptions\n\nAfter a stay in hospital the leave of a parent grows by as much.\n",
    "docs/people/annual-leave.md": "# Annual leave\n\nEverybody has 28 days of annual leave a year.\n\n"
    "## Carrying over\n\nUp to five days of leave are carried over to the next year.\n",
    "docs/people/home.md": "# Working from home\n\nTwo days a week are worked from home.\n",
    "docs/devices/fern.md": "# Fern\n\nA sensor for the soil of pots.\n\n"
    "## Resetting it\n\nHold the button for ten seconds, until the lamp is green.\n",
    "docs/devices/clover.md": "# Clover\n\nA weather station.\n\n## Cells\n\nIts cells last two years.\n",
    "docs/devices/hostile.md": f"# Notes on hostility\n\nA hostile text: {HOSTILE}\n\n"
    f'## "><svg onload=alert(1)>\n\nMore of the hostile text, {HOSTILE}\n',
    "docs/board/merger.md": "# Merger\n\nThe merger with Oak comes after the leave of the chair.\n",
}
SETTINGS = """
chunking: {max_tokens: 40}
columns: {year: integer}
sources:
  people: {type: files, path: docs/people, metadata: {year: 2024}}
  devices: {type: files, path: docs/devices, metadata: {year: 2025}}
  board: {type: files, path: docs/board, access: [board]}
"""
RAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def indexed(folder: Path) -> Settings:
    """Settings over three sources, one of them labelled; what runs paid, and what the last one left."""
    settings = made(folder, SETTINGS, DOCUMENTS)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(anyio.run, _spend, settings).result()
    return settings


def made(folder: Path, settings: str, files: Mapping[str, str]) -> Settings:
    """These settings, with all that they name ingested."""
    config = written(folder, settings, files)
    with ThreadPoolExecutor(1) as pool:  # a browser's tests have an event loop here already
        pool.submit(ingest_now, config).result()
    return load_settings(config)


async def _spend(settings: Settings) -> None:
    async with build_pipeline(settings) as pipeline:
        failures = (
            Failure(key="a.pdf", error="ParseFailed", reason=HOSTILE, url="https://example.com/a.pdf"),
        )
        await pipeline.store.ran(
            LatestRun(
                source="devices",
                at=RAN,
                seconds=1.5,
                error=None,
                succeeded_at=RAN,
                counts={"listed": 4, "left": 0, "withheld": 1},
                failed=2,
                failures=failures,
            )
        )
        for days, source, cost in ((9, "people", 0.5), (2, "people", 0.125), (2, "devices", 0.25)):
            await pipeline.store.spent(
                Spending(
                    at=datetime.now(UTC) - timedelta(days=days),
                    source=source,
                    provider="perplexity",
                    model="pplx-embed-context-v1-4b",
                    requests=2,
                    counted=90_000,
                    tokens=100_000,
                    highest_ratio=1.1,
                    cost_usd=cost,
                )
            )


def page_at(settings: Settings) -> AbstractContextManager[str]:
    """Its address."""
    return served(create_app(desk_of(settings), settings.serve, is_open=True, also=_also()))
