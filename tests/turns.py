"""Attempts that take their turns at a `Pace`, and how they end."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence

import anyio
import pytest

from pipeline.embedders._pace import Pace, Trouble
from pipeline.errors import ServiceUnavailable
from tests.virtual_time import now


async def together(tasks: Sequence[Callable[[], Awaitable[None]]]) -> None:
    async with anyio.create_task_group() as group:
        for task in tasks:
            group.start_soon(task)


async def fail(
    pace: Pace,
    trouble: Trouble,
    seconds: float = 1.0,
    *,
    error: str = "no",
    retry_after: float | None = None,
    until: float = math.inf,
) -> float:
    """Gives the moment when it began."""
    began = math.nan

    async def attempt() -> None:
        nonlocal began
        async with pace.turn(until=until) as turn:
            began = now()
            turn.trouble = trouble
            await anyio.sleep(seconds)
            raise ServiceUnavailable(error, retry_after=retry_after)

    with pytest.raises(ServiceUnavailable, match=error):
        await attempt()
    return began


async def succeed(pace: Pace, seconds: float = 1.0) -> None:
    async with pace.turn():
        await anyio.sleep(seconds)


async def refusal(pace: Pace, *, until: float = math.inf, patient: bool = False) -> ServiceUnavailable:
    """Why there is no turn, told at once."""
    asked_at = now()
    with pytest.raises(ServiceUnavailable) as caught:
        async with pace.turn(until=until, patient=patient):
            raise AssertionError("there was a turn")
    assert now() == asked_at
    return caught.value
