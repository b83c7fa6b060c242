"""The flow `ingest`, run in this process: for a command line, which no worker stands behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, cast

from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL

from flows.addresses import without_credentials
from flows.ingest import ingest
from pipeline.errors import DocweaveError


async def run_here(
    config: str,
    sources: list[str] | None,
    *,
    rebuild: bool,
    approve_removals: int | None = None,
    plan: str | None = None,
) -> str | None:
    """Run the flow.

    Returns:
        Why it failed; None if it did not.

    Raises:
        DocweaveError: the scheduler's server does not answer, or did not start.
        asyncio.CancelledError: it was stopped.
    """
    begun = ingest(config, sources, rebuild, approve_removals, plan, return_state=True)
    run = cast("Awaitable[State[Any]]", begun)
    try:
        state = await run
    except Exception as error:  # the flow's own errors are in its state: this is Prefect's
        server = PREFECT_API_URL.value() or "the server that is started for the time of a run"
        reason = f"at {server}: {error}".partition("\n")[0]
        raise DocweaveError(f"Prefect could not run the flow {without_credentials(reason)}") from error
    if state.is_cancelled():
        raise asyncio.CancelledError(state.message)
    return None if state.is_completed() else str(state.message)
