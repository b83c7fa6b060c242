"""A real Prefect server, once for all tests that need one."""

# ruff: noqa: PLC0415 - prefect reads its environment when it is imported

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.environment import PREFERRED


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its API's address. Runs in this process use it too."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in PREFERRED.items():
            patch.setenv(name, value)
        patch.setenv("PREFECT_HOME", str(home))
        from prefect.settings import PREFECT_API_URL
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=120):
            yield str(PREFECT_API_URL.value())


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
