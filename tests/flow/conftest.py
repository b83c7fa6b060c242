"""A real Prefect server and a real S3 server, each once for all tests that need one."""

# ruff: noqa: PLC0415 - prefect reads its environment when it is imported

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.environment import PREFERRED
from tests.s3 import Bucket, new_bucket, serving


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


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Its address."""
    with serving() as address:
        yield address


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty one; nothing of the machine's own settings opens it."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return new_bucket(s3_server, f"bucket-{uuid.uuid4().hex[:12]}")


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
