"""How the scheduler is, for `docweave doctor`."""

from __future__ import annotations

import re

from config.doctor import Diagnosis, clock_at
from flows.addresses import bare
from flows.environment import prefer_quiet

PATIENCE_SECONDS = 10.0


async def scheduler() -> list[Diagnosis]:
    """Whether the Prefect server that is set answers, and is of this client's kind."""
    prefer_quiet()
    # Prefect reads the environment when it is imported.
    import prefect  # noqa: PLC0415
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.settings import PREFECT_API_URL  # noqa: PLC0415

    address = PREFECT_API_URL.value()
    if not address:
        said = f"no server is set: one is started for the time of each run (prefect {prefect.__version__})"
        return [Diagnosis(what="prefect", state="ok", message=said)]
    shown = bare(address)
    try:
        async with get_client(httpx_settings={"timeout": PATIENCE_SECONDS}) as client:
            theirs = await client.api_version()
    except Exception as error:  # noqa: BLE001 - whatever Prefect's client raises
        todo = "start it (prefect server start), or set PREFECT_API_URL, and its key, if it asks for one"
        said = f"{shown} does not answer: {type(error).__name__}"
        return [Diagnosis(what="prefect", state="fail", message=said, todo=todo)]
    return [
        _versions(shown, theirs, prefect.__version__),
        await clock_at("clock (prefect)", f"{address}/health"),
    ]


def _versions(shown: str, theirs: str, ours: str) -> Diagnosis:
    """A server may be newer than its clients, and not older."""
    said = f"{shown} answers: prefect {theirs}, and {ours} here"
    if _numbers(theirs) < _numbers(ours):
        todo = "update the server first: an older one may not know what this client asks"
        return Diagnosis(what="prefect", state="warn", message=said, todo=todo)
    return Diagnosis(what="prefect", state="ok", message=said)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
