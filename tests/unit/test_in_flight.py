"""Requests that are under way when a run is stopped."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from pipeline import in_flight
from pipeline.in_flight import seen_through, sending


async def reply(seconds: float, *, sent: bool = True) -> str:
    if not sent:
        await anyio.sleep(seconds)
        return "never sent"
    with sending():
        await anyio.sleep(seconds)
        return "paid"


async def test_a_reply_that_comes_soon_after_the_run_was_stopped_is_kept() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        assert await seen_through(reply(0.2)) == ("paid", True)
        await anyio.sleep(1)
    assert scope.cancelled_caught


def test_it_is_kept_too_where_all_tasks_are_cancelled_as_after_a_signal() -> None:
    kept: list[tuple[str, bool]] = []

    async def main() -> None:
        async def asking() -> None:
            kept.append(await seen_through(reply(0.2)))

        asyncio.get_running_loop().create_task(asking())
        await asyncio.sleep(0.05)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert kept == [("paid", True)]


@pytest.mark.parametrize("sent", [True, False])
async def test_what_takes_too_long_or_was_not_sent_yet_is_given_up(
    sent: bool,  # noqa: FBT001 - a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_flight, "GRACE_SECONDS", 0.2)
    began = anyio.current_time()
    with anyio.move_on_after(0.05) as scope:
        await seen_through(reply(30, sent=sent))
    assert scope.cancelled_caught
    assert anyio.current_time() - began < 5


async def test_an_error_is_raised_as_it_is() -> None:
    async def failing() -> str:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await seen_through(failing())
