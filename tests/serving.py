"""The search API over a small index, asked in process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx

from apps.http.app import create_app
from apps.http.server import desk_of
from config.build import build_pipeline, connectors
from config.keys import create
from config.load import load_settings
from config.settings import Settings
from pipeline.ingest import ingest_source

DOCUMENTS = {
    "handbook/leave.md": "# Parental leave\n\nParents take 25 days of leave a year.\n\n"
    "## Carrying over\n\nUp to five days of leave may be carried over.\n\n"
    "## Notice\n\nTell your lead two weeks before the leave begins.\n",
    "handbook/fern.md": "# Fern\n\nA soil sensor.\n\n## Resetting it\n\nHold the button for ten seconds.\n",
    "handbook/copy.md": "# Fern\n\nA soil sensor.\n\n## Resetting it\n\nHold the button for ten seconds.\n",
    "staff/pay.md": "---\ngrade: B\nyear: 2024\n---\n"
    "# Pay of parents on leave\n\nThe secret salary is 100.\n\n"
    "## Bonus\n\nThe secret bonus for leave is 7.\n",
    "board/merger.md": "# Merger\n\nThe secret merger with Oak comes after the leave of the chair.\n",
}
SETTINGS = """
chunking: {max_tokens: 24}
columns: {year: integer, team: text}
sources:
  handbook: {type: files, path: docs/handbook, metadata: {team: people, year: 2023}}
  staff: {type: files, path: docs/staff, access: [staff]}
  board: {type: files, path: docs/board, access: [board, "chair's"]}
"""


def ingested(folder: Path, more: str = "") -> Settings:
    """Settings over three sources of real files, all of them ingested."""
    for name, text in DOCUMENTS.items():
        path = folder / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "docweave.yaml").write_text(SETTINGS + more, encoding="utf-8")
    settings = load_settings(folder / "docweave.yaml")

    async def run() -> None:
        async with build_pipeline(settings) as pipeline:
            for connector, metadata in connectors(settings):
                report = await ingest_source(connector, pipeline, metadata=metadata)
                assert report.complete

    anyio.run(run)
    return settings


def new_key(settings: Settings, name: str, *access: str, everything: bool = False) -> dict[str, str]:
    """The header that a new key makes."""
    secret, _ = create(Path(settings.serve.keys), name, None if everything else access)
    return {"Authorization": f"Bearer {secret}"}


@asynccontextmanager
async def asking(
    settings: Settings, headers: dict[str, str] | None = None, *, is_open: bool = True
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API, in process."""
    desk = desk_of(settings)
    app = create_app(desk, settings.serve, is_open=is_open)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    base_url = "http://127.0.0.1:8321"
    try:
        async with httpx.AsyncClient(transport=transport, base_url=base_url, headers=headers) as client:
            yield client
    finally:
        await desk.aclose()
