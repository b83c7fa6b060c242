"""Prefect's server for the time of a run, where none is configured.

Prefect would start one by itself. Of this one, it is said that it is waited for, and the flow is imported
meanwhile; Ctrl-C does not reach it, so that a run that is stopped can be told to it; what the run has still
to tell it is waited for; and it ends with the process that started it, were that killed.
"""

# ruff: noqa: PLC0415 - prefect takes more than a second to import

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from flows import tied
from flows.environment import prefer_quiet
from pipeline.errors import DocweaveError

TOLD_AFTER = 1.0
"""Seconds after which it is said what is waited for."""
SAYS_WITHIN = 5.0
"""Seconds for logs, and for events, that are on their way to it."""
STOPS_WITHIN = 10.0
"""Seconds, before it is killed."""
SERVER = "prefect.server.api.server:create_app"
SETTINGS = {
    # As Prefect's own: no page, and only the services that record what it is told.
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_UI_ENABLED": "false",
}


@contextmanager
def server_for_a_run(tell: Callable[[str], None]) -> Iterator[None]:
    """Have a server until the block ends: the one that is configured, or one of our own.

    `tell` is told what is waited for.

    Raises:
        DocweaveError: it does not start.
    """
    prefer_quiet()
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE, temporary_settings

    if PREFECT_API_URL.value() or not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        yield
        return
    port = _free_port()
    address = f"http://127.0.0.1:{port}/api"
    process = _start(port)
    try:
        import flows.here  # noqa: F401 - takes seconds, while the server does

        with temporary_settings({PREFECT_API_URL: address}):
            _wait_for(f"{address}/health", process, tell)
            try:
                yield
            finally:  # also of a run that was stopped: Prefect would try for long to tell it when it is gone
                _say_the_rest()
    finally:
        _end(process)


def _start(port: int) -> subprocess.Popen[bytes]:
    from prefect.settings import get_current_settings

    told = get_current_settings().to_environment_variables(exclude_unset=True)
    uvicorn = ["uvicorn", "--factory", SERVER, "--host", "127.0.0.1", "--port", str(port)]
    quiet = ["--log-level", "error", "--lifespan", "on"]
    here = Path(__file__).parents[1]
    return subprocess.Popen(  # noqa: S603 - our own interpreter
        tied.command([*uvicorn, *quiet]),
        env={**os.environ, **told, **SETTINGS},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        cwd=here,
    )


def _wait_for(health: str, process: subprocess.Popen[bytes], tell: Callable[[str], None]) -> None:
    from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS

    patience = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    began, told = time.monotonic(), False
    while process.poll() is None and (waited := time.monotonic() - began) < patience:
        if not told and waited > TOLD_AFTER:
            told = True
            tell("starting Prefect for the time of the run: `docweave up` keeps one running")
        try:
            if httpx.get(health, trust_env=False, timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    if process.poll() is None:
        raise DocweaveError(f"Prefect's server did not start within {patience} s; is the machine that busy?")
    said = process.stderr.read().decode(errors="replace").strip() if process.stderr else ""
    raise DocweaveError(f"Prefect's server did not start: {said.rpartition(chr(10))[2] or 'it says nothing'}")


def _say_the_rest() -> None:
    """Wait for logs and events that are on their way."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(SAYS_WITHIN)
    EventsWorker.drain_all(SAYS_WITHIN)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOPS_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stderr:
        process.stderr.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
