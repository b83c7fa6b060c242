"""Everything on one machine: a Prefect server if none is configured, a worker, and the search API."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

from config.settings import Settings
from flows.addresses import without_credentials
from flows.children import Child, Tell, end, start
from flows.deploying import Deployed, deploy, drop_overdue
from pipeline.errors import DocweaveError, SettingsError

_LEASES_IN_FILES = "prefect.server.concurrency.lease_storage.filesystem"
START_SECONDS = 300.0
"""How long the server may take: it makes its database first, in seconds, or in minutes on a busy machine."""
AT_ONCE = 2
"""Runs that go on at a time. One at a time writes the tables; another may be waiting for somebody."""
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be brought up."""

    config: Path
    """Absolute."""
    settings: Settings
    prefect_port: int
    api: tuple[str, ...] | None
    """The module that serves the search API, with its arguments; None: it is not wanted."""
    deployed: Callable[[Deployed], None]
    """Is told what was deployed."""
    tell: Tell


@dataclass(slots=True, kw_only=True)
class _Up:
    wanted: Wanted
    children: list[Child] = field(default_factory=list)

    async def run(self) -> None:
        """Bring all up, and wait for the first program to end."""
        wanted, tell = self.wanted, self.wanted.tell
        async with self._server() as address:
            done = await deploy(wanted.config, wanted.settings, prune=True)
            wanted.deployed(done)
            if not any(step.deployment.schedules for step in done.steps):
                tell("nothing is scheduled: see `schedule` in the settings")
            if dropped := await drop_overdue(done.steps):
                tell(f"{dropped} runs were missed; the latest of each schedule is made up")
            env = {"PREFECT_API_URL": address, "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO"}
            options = ["--pool", done.pool, "--type", "process", "--limit", str(AT_ONCE)]
            worker = [
                "prefect",
                "worker",
                "start",
                *options,
                "--name",
                f"docweave up on {socket.gethostname()}",
            ]
            self.children.append(await start("worker", worker, env=env))
            if wanted.api:
                self.children.append(await start("search", wanted.api, env={}))
            tell("Up. Ctrl-C stops it.")
            await self._first_end()

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[str]:
        """The address of the API of the server that is configured, or of one that is started."""
        configured = PREFECT_API_URL.value()
        if configured:
            self.wanted.tell(f"Prefect: {without_credentials(PREFECT_UI_URL.value() or configured)}")
            yield configured
            return
        port = self.wanted.prefect_port
        if not _free(port):
            raise SettingsError(
                f"port {port} is taken. If that is a Prefect server, set PREFECT_API_URL=http://{HOST}:{port}"
                "/api; if not, name another with --prefect-port"
            )
        address = f"http://{HOST}:{port}/api"
        home = Path(os.environ.get("PREFECT_HOME") or self.wanted.config.parent / ".docweave" / "prefect")
        home.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing else goes on yet
        log = home / "server.log"
        self.wanted.tell(f"starting a Prefect server; its database and its log are in {home}")
        env = {
            "PREFECT_HOME": str(home),
            "PREFECT_SERVER_UI_API_URL": address,
            "PREFECT_UI_URL": f"http://{HOST}:{port}",  # what links in messages begin with
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
            # In memory, a run that is cut off together with the server would hold its place for good.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": _LEASES_IN_FILES,
        }
        with log.open("wb") as file:
            command = ["prefect", "server", "start", "--host", HOST, "--port", str(port)]
            self.children.append(await start("server", command, env=env, log=file))
        await self._answers(address, log)
        self.wanted.tell(f"Prefect: http://{HOST}:{port}")
        with temporary_settings({PREFECT_API_URL: address}):
            yield address

    async def _answers(self, address: str, log: Path) -> None:
        """Wait until the server does."""
        server = self.children[-1].process
        async with httpx.AsyncClient(trust_env=False) as client:
            with anyio.move_on_after(START_SECONDS):
                while server.returncode is None:
                    try:
                        if (await client.get(f"{address}/health")).is_success:
                            return
                    except httpx.HTTPError:
                        pass
                    await anyio.sleep(0.2)
        why = f"did not answer within {START_SECONDS:.0f} s" if server.returncode is None else "ended at once"
        raise DocweaveError(f"the Prefect server {why}: see {log}")

    async def _first_end(self) -> None:
        """Pass on what the programs say, until one of them ends.

        Raises:
            DocweaveError: always: none of them is meant to.
        """
        ended: list[Child] = []

        async def watch(child: Child, scope: anyio.CancelScope) -> None:
            await child.listen(self.wanted.tell)
            await child.process.wait()
            ended.append(child)
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            for child in self.children:
                tasks.start_soon(watch, child, tasks.cancel_scope)
        raise DocweaveError(f"the {ended[0].name} ended by itself, with code {ended[0].process.returncode}")


async def up(wanted: Wanted) -> None:
    """Bring all up, until SIGTERM or Ctrl-C; then end all of it.

    Raises:
        SettingsError: the Prefect server's port is taken, or a deployment's name is.
        DocweaveError: a program ended by itself, or could not be started.
    """
    running, failure = _Up(wanted=wanted), None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_on_signal, tasks.cancel_scope, wanted.tell)
        try:
            await running.run()
        except DocweaveError as error:
            failure = error
        finally:
            with anyio.CancelScope(shield=True):
                await end(running.children)
        tasks.cancel_scope.cancel()
    if failure:
        raise failure


async def _stop_on_signal(scope: anyio.CancelScope, tell: Tell) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            tell("Stopping …")
            scope.cancel()
            return


def _free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError:
            return False
    return True
