"""Requests that are under way when a run is stopped: they are paid for, and their replies are waited for.

A run is stopped by a cancellation: one of anyio's, because something else failed, or asyncio's own of every
task there is, as after Ctrl-C or a signal of the scheduler's. Neither reaches a request that has been sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio

GRACE_SECONDS = 6.0
"""How long replies are waited for after a run was stopped."""
_LOOK_SECONDS = 0.05

T = TypeVar("T")


@dataclass(slots=True)
class _Flight:
    sent: bool = False
    """Something was sent that may be paid for, and did not fail."""


_flight: ContextVar[_Flight | None] = ContextVar("flight", default=None)


class _Steadfast(asyncio.Task[T], Generic[T]):
    """A task that goes on when all others are cancelled."""

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002 - the signature is asyncio's
        """Do nothing: see `give_up`."""
        return False

    def give_up(self) -> None:
        """Cancel it after all."""
        super().cancel()


@contextmanager
def sending() -> Iterator[None]:
    """Around each attempt of a request: unless it fails, its reply is worth waiting for from here on."""
    flight = _flight.get() or _Flight()
    flight.sent = True
    try:
        yield
    except BaseException:
        flight.sent = False
        raise


async def seen_through(asked: Coroutine[Any, Any, T]) -> tuple[T, bool]:
    """Await a request; if the run is stopped meanwhile and the request was sent, await it a moment longer.

    Returns:
        The reply, and whether the run was stopped: then the caller keeps the reply, and raises the
        cancellation.
    """
    flight, context = _Flight(), copy_context()
    context.run(_flight.set, flight)
    task = _Steadfast(asked, loop=asyncio.get_running_loop(), context=context)
    try:
        await asyncio.wait([task])
    except BaseException:
        with anyio.CancelScope(shield=True):
            until = anyio.current_time() + GRACE_SECONDS
            while flight.sent and not task.done() and anyio.current_time() < until:
                await asyncio.wait([task], timeout=_LOOK_SECONDS)
            if not task.done():
                task.give_up()
                await asyncio.wait([task])
        if task.cancelled() or task.exception():
            raise
        return task.result(), True
    return task.result(), False
