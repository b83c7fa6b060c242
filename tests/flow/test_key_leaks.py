"""A key is looked for in everything that a run leaves behind."""

# ruff: noqa: PLC0415 - prefect reads its environment when it is imported, after conftest.py has set it

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from apps.fake_service.faults import USUAL, Faults
from apps.fake_service.server import serving
from apps.fake_service.service import EmbeddingService
from tests.prefect_server import PrefectServer

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # Prefect's clients, at the end of a loop
]

RIGHT, WRONG = "pplx-right-5d1c7e9b2f", "pplx-wrong-8a3e6f0c4d"


async def run(config: Path) -> Any:
    from flows.ingest import ingest

    return await ingest(str(config), return_state=True)


async def told(state: Any) -> str:
    """What the server shows of a run: its state, its logs and its artifacts."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterFlowRunId,
        LogFilter,
        LogFilterFlowRunId,
    )
    from prefect.logging.handlers import APILogHandler

    await APILogHandler.aflush()
    run_id = state.state_details.flow_run_id
    async with get_client() as client:
        logs = await client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id])))
        artifacts = await client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        )
    return f"{state!r} {state.message} {[log.message for log in logs]} {[a.model_dump() for a in artifacts]}"


def ask(config: Path, base_url: str) -> None:
    """Have the settings embed with a service."""
    chosen = (
        f"provider: perplexity, dimensions: 128, base_url: '{base_url}', api_key: '${{KEY_OF_THE_SERVICE}}'"
    )
    config.write_text(f"{config.read_text('utf-8')}embedding: {{{chosen}}}\n", encoding="utf-8")


def files_that_hold(key: str, database: Path, *folders: Path) -> list[str]:
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert database in files
    return [str(path) for path in files if key.encode() in path.read_bytes()]


@pytest.mark.parametrize("key", [RIGHT, WRONG])
async def test_no_key_is_in_a_log_an_error_an_artifact_a_table_or_the_schedulers_database(
    handbook: Path,
    key: str,
    prefect_server: PrefectServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("KEY_OF_THE_SERVICE", key)
    kinds = [name for name in USUAL if name not in {"slow", "trickled", "400-other"}]
    service = EmbeddingService(
        api_key=RIGHT, faults=Faults(rate=0.5, kinds=kinds, most=4, retry_after_seconds=0)
    )
    with serving(service) as base_url:
        ask(handbook, base_url)
        state = await run(handbook)
    if key == RIGHT:
        assert state.is_completed()
        assert service.faults is not None
        assert service.faults.total > 0
    else:
        assert state.is_failed()
        assert "ServiceRefused" in state.message
    assert key not in await told(state)
    assert key not in caplog.text
    holding = await anyio.to_thread.run_sync(
        files_that_hold, key, prefect_server.database, handbook.parent, prefect_server.home
    )
    assert holding == []
