"""The same for several things at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

from pipeline.errors import SourceError

T = TypeVar("T")
R = TypeVar("R")


async def each(function: Callable[[T], Awaitable[R]], things: Sequence[T]) -> list[R]:
    """What the function gives for each thing, in their order.

    Raises:
        SourceError: the first that it raises; what is still under way is cancelled.
    """
    found: dict[int, R] = {}
    errors: list[SourceError] = []

    async def one(place: int, thing: T) -> None:
        try:
            found[place] = await function(thing)
        except SourceError as error:
            errors.append(error)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for place, thing in enumerate(things):
            tasks.start_soon(one, place, thing)
    if errors:
        raise errors[0]
    return [found[place] for place in range(len(things))]
