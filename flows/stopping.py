"""How a run is stopped before its end: on the scheduler's page, or by a signal to the process that runs it.

A worker is told of it by its scheduler, and sends its run a SIGTERM, of which Prefect makes an exception
wherever the process happens to be. A run that a command line started has no worker: it looks for itself
whether it is to stop. So does one whose exception was lost, in somebody else's callback.
"""

# ruff: noqa: PLC0415 - prefect takes more than a second to import, and who starts a run sets `stop` before

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FrameType
from typing import TypeAlias

import anyio

LOOK_SECONDS = 5.0
"""How often a run asks its scheduler whether it is to stop."""

Handler: TypeAlias = Callable[[int, FrameType | None], None]


@dataclass(slots=True, kw_only=True)
class Stop:
    """Stops the run of this context, once it has begun."""

    on_sigterm: Handler | None = None
    """What a SIGTERM does. Prefect puts its own in its place when a flow begins."""
    reason: str = ""
    """Why the run was stopped; empty if it was not."""
    _begun: tuple[asyncio.AbstractEventLoop, anyio.CancelScope] | None = field(default=None, init=False)

    def ask(self, reason: str) -> bool:
        """Stop the run. May be called by a signal's handler, and from any thread.

        Returns:
            Whether there is one to be stopped.
        """
        if self._begun is None:
            return False
        loop, scope = self._begun
        self.reason = self.reason or reason
        loop.call_soon_threadsafe(scope.cancel)
        return True

    @contextmanager
    def watched(self, scope: anyio.CancelScope) -> Iterator[None]:
        """From here to the end of the block there is a run."""
        self._begun = asyncio.get_running_loop(), scope
        try:
            with _handling(self.on_sigterm):
                yield
        finally:
            self._begun = None


stop: ContextVar[Stop | None] = ContextVar("stop", default=None)
"""Of whoever started the run in this process; None for a worker's run."""


@asynccontextmanager
async def stoppable() -> AsyncIterator[Stop]:
    """Let what is done in the block be stopped.

    Where it was, the block is left at its end without an error, and `reason` says why. What is paid for and
    under way is waited for before: see `pipeline.in_flight`.
    """
    asked = stop.get() or Stop()
    looking = None
    try:
        with anyio.CancelScope() as scope, asked.watched(scope):
            looking = asyncio.create_task(_look(asked))
            yield asked
    except BaseExceptionGroup as group:
        # Groups of tasks wrap what a signal had raised: Prefect would not know it.
        raise next(_ends(group), group) from group
    finally:
        if looking:
            looking.cancel()


def _ends(error: BaseException) -> Iterator[BaseException]:
    """What in it is to end the process."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _ends(inner)
    elif not isinstance(error, Exception | asyncio.CancelledError):
        yield error


async def _look(asked: Stop) -> None:
    """Stop the run as soon as its scheduler wants it so."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    if not flow_run.id:
        return
    async with get_client() as client:
        while True:
            await anyio.sleep(LOOK_SECONDS)
            try:
                run = await client.read_flow_run(flow_run.id)
            except Exception:  # noqa: BLE001, S112 - whatever Prefect's client raises: it is asked again
                continue
            if run.state and (run.state.is_cancelling() or run.state.is_final()):
                asked.ask("stopped on the scheduler's side")
                return


@contextmanager
def _handling(handler: Handler | None) -> Iterator[None]:
    """Have a SIGTERM do this, where there is anything to do and signals may be handled."""
    if handler is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
