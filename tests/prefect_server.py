"""A real Prefect server and real workers, in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from flows.environment import PREFERRED

STARTS_WITHIN = 120.0
"""Seconds. It takes five on an idle machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefectServer:
    """A server that runs, with a home of its own."""

    url: str
    """Of its API: `http://127.0.0.1:4217/api`. Its pages are at the same without `/api`."""
    home: Path
    """`PREFECT_HOME`."""
    env: Mapping[str, str]
    """For processes that are to use it: this machine's environment, without its own settings of Prefect."""

    @property
    def database(self) -> Path:
        """The file in which it keeps all that it is told; beside it, under `-wal`, what is not yet in it."""
        return self.home / "prefect.db"


@contextmanager
def prefect_serving(home: Path, **settings: str) -> Iterator[PrefectServer]:
    """A server with all its services, until the block ends.

    Args:
        home: An empty folder.
        settings: More environment variables, for the server and for those who use it.
    """
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        **PREFERRED,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"{address}/api",
        "PREFECT_SERVER_UI_API_URL": f"{address}/api",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.5",
        **settings,
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for(f"{address}/api/health", process, home / "server.log")
            yield PrefectServer(url=f"{address}/api", home=home, env=env)
        finally:
            end(process)


@contextmanager
def worker(
    server: PrefectServer, pool: str, log: Path, *, limit: int | None = None, **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of a process pool, which is made if need be, until the block ends.

    Args:
        server: Whose runs it takes.
        pool: The pool's name.
        log: Where what it says goes, and what its runs say.
        limit: How many runs it has at a time, at the most.
        settings: More environment variables.
    """
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
    command += ["--limit", str(limit)] if limit else []
    with log.open("a") as out:
        process = subprocess.Popen(
            command, env={**server.env, **settings}, stdout=out, stderr=out, start_new_session=True
        )
        try:
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group of its own, and whatever it has started there."""
    for sent, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, sent)
        except ProcessLookupError:
            break
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _wait_for(health: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(health, trust_env=False, timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"the Prefect server did not start: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
