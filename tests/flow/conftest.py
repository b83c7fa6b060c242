"""A real Prefect server, once for all tests that need one."""

# ruff: noqa: PLC0415 - prefect reads its environment when it is imported

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prefect_server import PrefectServer, prefect_serving


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """Its address, its home, and the environment for processes that use it. Runs in this process do, too."""
    home = tmp_path_factory.mktemp("prefect")
    with prefect_serving(home) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.env.items():
            if name.startswith("PREFECT_"):
                patch.setenv(name, value)
        from prefect.context import _temporary_global_settings_context, get_settings_context
        from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

        # As Prefect's own harness for tests does: event loops that began before are to use it, too.
        with (
            temporary_settings({PREFECT_API_URL: server.url, PREFECT_HOME: home}),
            _temporary_global_settings_context(get_settings_context()),
        ):
            yield server
            _say_the_rest()


def _say_the_rest() -> None:
    """Wait for what this process has still to tell the server, as Prefect's own harness does."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all()
    EventsWorker.drain_all()


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    """Settings over two sources of real files: `handbook` with three documents, `wiki` with one."""
    folder = tmp_path / "documents"
    for name, text in {
        "handbook/leave.md": "# Leave\n\nIt is 25 days a year.\n\n## Carrying over\n\nUp to five days.",
        "handbook/fern.md": "# Fern\n\nA soil sensor.\n\n## Resetting it\n\nHold the button for ten seconds.",
        "handbook/notes.txt": "The workshop opens at nine.",
        "wiki/start.md": "# Start\n\nWelcome to the wiki.",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    settings = tmp_path / "docweave.yaml"
    settings.write_text(
        "store: {uri: db}\n"
        "sources:\n"
        "  handbook: {type: files, path: documents/handbook, metadata: {team: people}}\n"
        "  wiki: {type: files, path: documents/wiki}\n"
    )
    return settings
