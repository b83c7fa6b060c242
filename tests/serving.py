"""The search API over a small index, asked in process or served on this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from apps.desk import desk_of
from apps.http.app import AddTo, create_app
from config.keys import create
from config.load import load_settings
from config.settings import Settings
from tests.ingested import ingest_now, written

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
    config = written(folder, SETTINGS + more, {f"docs/{name}": text for name, text in DOCUMENTS.items()})
    for report in ingest_now(config):
        assert report.complete
    return load_settings(config)


def new_key(settings: Settings, name: str, *access: str, everything: bool = False) -> dict[str, str]:
    """The header that a new key makes."""
    secret, _ = create(Path(settings.serve.keys), name, None if everything else access)
    return {"Authorization": f"Bearer {secret}"}


@asynccontextmanager
async def asking(
    settings: Settings,
    headers: dict[str, str] | None = None,
    *,
    is_open: bool = True,
    also: Iterable[AddTo] = (),
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API, in process."""
    desk = desk_of(settings)
    app = create_app(desk, settings.serve, is_open=is_open, also=also)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    base_url = "http://127.0.0.1:8321"
    try:
        async with httpx.AsyncClient(transport=transport, base_url=base_url, headers=headers) as client:
            yield client
    finally:
        await desk.aclose()


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address of this app, while a thread of this process answers there."""
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
