"""When `pipeline.embedders._breaker` has a service left alone, and what becomes of those who wait."""

from __future__ import annotations

import logging
import re

import anyio
import pytest

from pipeline.embedders._breaker import Breaker
from pipeline.embedders._pace import Pace, Trouble
from pipeline.errors import InputRefused, ServiceUnavailable
from tests.turns import fail, refusal, succeed, together
from tests.virtual_time import in_virtual_time, now


def opened() -> Breaker:
    """At 100 seconds."""
    breaker = Breaker()
    assert [breaker.failed(attempt, 100.0, "down", most=3) for attempt in (1, 2, 3)] == [False, False, True]
    return breaker


def test_it_is_closed_until_there_are_too_many_failures_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(5):
        breaker.failed(1, 100.0, "down", most=3)
        breaker.failed(2, 100.0, "down", most=3)
        breaker.succeeded()
    assert not breaker.is_open
    assert breaker.seconds_to_wait(100.0) == 0
    assert opened().is_open


def test_while_it_is_open_there_is_one_probe_at_a_time() -> None:
    breaker = opened()
    assert [breaker.seconds_to_wait(now) for now in (100, 104, 105, 200)] == [5, 1, 0, 0]
    breaker.begins(7)
    assert breaker.seconds_to_wait(200) == float("inf")
    breaker.ended(7, 210)
    assert breaker.seconds_to_wait(210) == 5


def test_the_wait_between_probes_that_fail_doubles_up_to_a_minute() -> None:
    breaker, now, waits = opened(), 100.0, []
    for attempt in range(10, 16):
        now += breaker.seconds_to_wait(now)
        breaker.begins(attempt)
        breaker.failed(attempt, now, "down", most=3)
        breaker.ended(attempt, now)
        waits.append(breaker.seconds_to_wait(now))
    assert waits == [10, 20, 40, 60, 60, 60]


def test_a_success_closes_it_and_the_next_outage_begins_anew() -> None:
    breaker = opened()
    breaker.begins(7)
    breaker.failed(7, 105.0, "down", most=3)
    breaker.ended(7, 105.0)
    breaker.succeeded()
    assert breaker.seconds_to_wait(105.0) == 0
    for attempt in (8, 9, 10):
        breaker.failed(attempt, 106.0, "down", most=3)
    assert breaker.seconds_to_wait(106.0) == 5


def test_the_end_of_a_probe_of_an_earlier_outage_means_nothing_for_this_one() -> None:
    breaker = opened()
    breaker.begins(7)
    breaker.succeeded()  # a straggler's
    for attempt in (8, 9, 10):
        breaker.failed(attempt, 106.0, "down", most=3)
    breaker.begins(11)
    breaker.failed(7, 112.0, "down", most=3)
    breaker.ended(7, 112.0)
    assert breaker.seconds_to_wait(112.0) == float("inf")


async def outage(pace: Pace) -> None:
    """Fails until the breaker opens."""
    for _ in range(max(10, 2 * pace.allowed)):
        await fail(pace, Trouble.OUTAGE, seconds=0, error="down")


@in_virtual_time
async def test_after_an_outage_one_probe_at_a_time_is_let_through_at_growing_distances() -> None:
    pace = Pace(8, clock=now)
    await outage(pace)
    probes: list[float] = []

    async def probe() -> None:
        probes.append(await fail(pace, Trouble.OUTAGE))

    await together([probe] * 7)
    gaps = [later - sooner for sooner, later in zip([0.0, *probes], probes, strict=False)]
    assert gaps == [5, 11, 21, 41, 61, 61, 61]


@in_virtual_time
async def test_the_first_answer_ends_it_and_the_slots_grow_from_one() -> None:
    pace = Pace(8, clock=now)
    await outage(pace)
    ended: list[float] = []

    async def ask() -> None:
        await succeed(pace)
        ended.append(now())

    await together([ask] * 15)
    assert ended == [6, 7, *[8] * 2, *[9] * 4, *[10] * 7]
    assert pace.allowed == 8


@in_virtual_time
async def test_a_refusal_of_what_was_sent_is_an_answer_too() -> None:
    pace = Pace(8, clock=now)
    await outage(pace)
    with pytest.raises(InputRefused):
        async with pace.turn():
            raise InputRefused("not this text")
    await succeed(pace, 0)
    assert now() == 5


@in_virtual_time
async def test_answers_in_between_keep_it_closed() -> None:
    pace = Pace(4, clock=now)
    for _ in range(5):
        for _ in range(9):
            await fail(pace, Trouble.OUTAGE, seconds=0)
        await succeed(pace, 0)
    for _ in range(50):
        await fail(pace, Trouble.CROWD, seconds=0)  # refused, but there
    await succeed(pace, 0)
    assert now() == 0


@in_virtual_time
async def test_who_has_no_patience_is_told_at_once_while_it_is_open() -> None:
    pace = Pace(4, clock=now)
    await outage(pace)
    await anyio.sleep(1)
    told = await refusal(pace, until=20)
    assert str(told) == "10 attempts in a row failed, and it is tried again in 4 s; the last: down"
    await anyio.sleep(4)
    async with pace.turn(until=20, patient=False):  # a probe itself
        assert "it is being tried again now" in str(await refusal(pace, until=20))
    await succeed(pace, 0)


@in_virtual_time
async def test_who_has_no_patience_is_told_in_the_queue_when_it_opens() -> None:
    pace = Pace(1, clock=now)
    for _ in range(9):
        await fail(pace, Trouble.OUTAGE, seconds=0)

    async def question() -> None:
        with pytest.raises(ServiceUnavailable, match="10 attempts in a row failed"):
            async with pace.turn(until=100, patient=False):
                pass
        assert now() == 1

    await together([lambda: fail(pace, Trouble.OUTAGE), lambda: succeed(pace), question])
    assert now() == 7  # the patient one was the probe


@in_virtual_time
async def test_who_waits_for_the_end_of_an_outage_is_told_when_that_is_too_late() -> None:
    pace = Pace(4, clock=now)
    await outage(pace)
    assert "failed" in str(await refusal(pace, until=4, patient=True))

    async def hang() -> None:
        async with pace.turn():  # the probe
            await anyio.sleep(100)

    async def wait() -> None:
        await anyio.sleep(6)
        with pytest.raises(ServiceUnavailable, match="being tried again now"):
            async with pace.turn(until=50):
                pass
        assert now() == 50

    await together([hang, wait])


@in_virtual_time
async def test_a_probe_that_is_given_up_or_refused_makes_room_for_the_next() -> None:
    pace = Pace(4, clock=now)
    await outage(pace)
    with anyio.move_on_after(7):
        await succeed(pace, 100)
    assert now() == 7
    await fail(pace, Trouble.CROWD, seconds=1)
    assert now() == 13
    await succeed(pace, 0)
    assert now() == 18


@in_virtual_time
async def test_stragglers_count_but_do_not_make_the_wait_longer() -> None:
    pace = Pace(4, clock=now)

    async def answered_late() -> None:
        await succeed(pace, 9)

    async def story() -> None:
        await outage(pace)
        await anyio.sleep(2)
        await fail(pace, Trouble.OUTAGE, seconds=0)  # at 5
        assert now() == 5
        await succeed(pace, 0)  # would have to wait until 15
        assert now() == 9

    await together([answered_late, lambda: fail(pace, Trouble.OUTAGE, seconds=4), story])


@in_virtual_time
async def test_what_concerns_everybody_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    pace = Pace(8, clock=now)
    await together([lambda: fail(pace, Trouble.CROWD, error="too fast")] * 8)
    for _ in range(3):
        await succeed(pace)
    for _ in range(30):
        with anyio.move_on_after(10):
            await fail(pace, Trouble.OUTAGE, seconds=0, error="down")
    await succeed(pace)
    told = "10 attempts in a row failed, and it is tried again in N s; the last: down"
    assert [
        (record.levelname, re.sub(r"\d+ s", "N s", record.getMessage())) for record in caplog.records
    ] == [
        ("WARNING", "too fast; 4 at a time from now on, not 8"),
        (
            "WARNING",
            f"the service is left alone: {told}",
        ),
        ("INFO", "an answer, N s after the service was left alone: down"),
    ]
