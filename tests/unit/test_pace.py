"""How `pipeline.embedders._pace` lets attempts through, in virtual time."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.embedders._pace import Pace, Trouble
from pipeline.embedders._slots import FIRST
from pipeline.errors import ServiceUnavailable
from tests.turns import fail, refusal, succeed, together
from tests.virtual_time import in_virtual_time, now


@dataclass(kw_only=True)
class Service:
    """Bears so many at a time, and takes about a second for each."""

    bears: int
    pace: Pace
    asked: int = 0
    refused: int = 0
    busy: int = 0
    busiest: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    async def ask(self) -> None:
        async with self.pace.turn() as turn:
            self.asked += 1
            self.busiest = max(self.busiest, self.busy + 1)
            if self.busy >= self.bears:
                self.refused += 1
                turn.trouble = Trouble.CROWD
                await anyio.sleep(0.02)
                raise ServiceUnavailable("429")
            self.busy += 1
            try:
                await anyio.sleep(self.chance.uniform(0.7, 1.3))
            finally:
                self.busy -= 1

    async def answer(self, requests: int, workers: int) -> None:
        """Have so many answered; who is refused comes again."""
        todo = iter(range(requests))

        async def work() -> None:
            for _ in todo:
                wait = 1.0
                while True:
                    try:
                        await self.ask()
                        break
                    except ServiceUnavailable:
                        await anyio.sleep(self.chance.uniform(0, wait))
                        wait *= 2

        await together([work] * workers)


@pytest.mark.parametrize(
    ("bears", "requests", "share", "refused"),
    [(1, 300, 0.9, 0.15), (4, 1000, 0.92, 0.03), (16, 1000, 0.9, 0.01), (40, 3000, 0.9, 0.002)],
)
@in_virtual_time
async def test_a_service_is_used_to_nearly_what_it_bears_and_hardly_more(
    bears: int, requests: int, share: float, refused: float
) -> None:
    service = Service(bears=bears, pace=Pace(64, clock=now))
    await service.answer(requests, workers=64)
    seconds_at_best = requests / bears  # one second each, so many at a time
    assert seconds_at_best / now() >= share
    assert service.refused <= refused * requests + FIRST


@in_virtual_time
async def test_when_a_service_comes_to_bear_less_or_more_the_pace_follows() -> None:
    service = Service(bears=32, pace=Pace(64, clock=now))
    for bears, seconds in ((32, 60), (6, 60), (32, 300)):
        service.bears, service.refused, asked = bears, 0, service.asked
        with anyio.move_on_after(seconds):
            await service.answer(10**6, workers=64)
        assert bears * 0.7 <= service.pace.allowed <= bears + 1
        assert service.refused < 0.15 * (service.asked - asked)


@in_virtual_time
async def test_no_more_are_in_flight_than_the_settings_allow() -> None:
    for most in (1, 3, 12):
        service = Service(bears=1000, pace=Pace(most, clock=now))
        await service.answer(200, workers=50)
        assert service.busiest == most == service.pace.allowed
        assert service.pace.in_flight == 0


@in_virtual_time
async def test_slots_that_are_not_used_do_not_become_more() -> None:
    service = Service(bears=1000, pace=Pace(64, clock=now))
    await service.answer(200, workers=FIRST - 1)
    assert service.pace.allowed == FIRST


@in_virtual_time
async def test_answers_double_the_slots_each_round_until_the_first_trouble() -> None:
    pace = Pace(64, clock=now)
    allowed = []
    for _ in range(4):
        await together([lambda: succeed(pace)] * pace.allowed)
        allowed.append(pace.allowed)
    assert allowed == [2 * FIRST, 4 * FIRST, 8 * FIRST, 64]


@in_virtual_time
async def test_many_refusals_of_one_wave_halve_once() -> None:
    pace = Pace(64, clock=now)
    await together([lambda: succeed(pace)] * FIRST)  # 16 now
    await together([lambda: fail(pace, Trouble.CROWD)] * 9 + [lambda: succeed(pace, 2)] * 7)
    assert pace.allowed == FIRST
    await together([lambda: fail(pace, Trouble.CROWD)] * FIRST)
    assert pace.allowed == FIRST / 2
    for _ in range(9):
        await fail(pace, Trouble.CROWD)
    assert pace.allowed == 1


@in_virtual_time
async def test_only_what_speaks_of_a_crowd_halves() -> None:
    pace = Pace(8, clock=now)
    for trouble in (Trouble.NONE, Trouble.OUTAGE):
        await together([lambda trouble=trouble: fail(pace, trouble)] * 4)
        assert pace.allowed == 8
    await together([lambda: fail(pace, Trouble.OVERLOAD)] * 8)
    assert pace.allowed == 4


@in_virtual_time
async def test_the_way_back_halves_its_distance_and_stays_below_what_was_too_many() -> None:
    pace = Pace(64, clock=now)
    await together([lambda: succeed(pace)] * FIRST)
    await together([lambda: fail(pace, Trouble.CROWD)] * 16)
    rounds = []
    for _ in range(26):
        rounds.append(pace.allowed)
        await together([lambda: succeed(pace)] * pace.allowed)
    assert rounds == [8, 12, 14, *[15] * 20, 16, 17, 18]


@in_virtual_time
async def test_nothing_is_learned_of_an_attempt_that_is_cancelled() -> None:
    pace = Pace(8, clock=now)
    with anyio.move_on_after(0.5) as scope:
        await together([lambda: succeed(pace)] * 20)
    assert scope.cancelled_caught
    assert (pace.allowed, pace.in_flight) == (8, 0)
    await together([lambda: succeed(pace)] * 8)
    assert now() == 1.5


@in_virtual_time
async def test_turns_come_in_the_order_in_which_they_were_asked_for() -> None:
    pace = Pace(2, tokens_per_minute=100, clock=now)
    order: list[int] = []

    async def ask(place: int) -> None:
        async with pace.turn(90 if place % 3 == 0 else 5):  # a small one does not slip past a large one
            order.append(place)
            await anyio.sleep(0.1 * (place % 4))

    await together([lambda place=place: ask(place) for place in range(12)])
    assert order == list(range(12))


@in_virtual_time
async def test_those_whose_time_runs_go_before_the_others() -> None:
    pace = Pace(1, requests_per_minute=1, clock=now)
    order: list[str] = []

    async def ask(name: str, until: float) -> None:
        async with pace.turn(until=until):
            order.append(name)

    async with anyio.create_task_group() as group:
        for name in ("first", "second", "third"):
            group.start_soon(ask, name, math.inf)
            await anyio.sleep(1)
        for name in ("retry", "question"):  # while the second's sleep for the ceiling is under way
            group.start_soon(ask, name, 200)
            await anyio.sleep(1)
    assert order == ["first", "retry", "question", "second", "third"]
    assert now() == 240


@pytest.mark.parametrize("quitters", [{1}, {2}, {1, 2}, {3}, {1, 3}, {2, 4}])
@in_virtual_time
async def test_who_stops_waiting_takes_nothing_and_holds_nobody_up(quitters: set[int]) -> None:
    pace = Pace(1, requests_per_minute=3, clock=now)
    order: list[int] = []

    async def ask(place: int) -> None:
        with anyio.move_on_after(0.5 if place in quitters else math.inf):
            async with pace.turn():
                order.append(place)
                await anyio.sleep(1)

    await together([lambda place=place: ask(place) for place in range(5)])
    assert order == [place for place in range(5) if place not in quitters]
    assert pace.in_flight == 0
    assert now() == (3 if len(order) == 3 else 62)


@in_virtual_time
async def test_who_is_cancelled_in_the_moment_of_its_turn_gives_it_back() -> None:
    pace = Pace(1, clock=now)
    with anyio.CancelScope() as scope:

        async def first() -> None:
            await succeed(pace)
            scope.cancel()  # the next has been woken, and does not know it yet

        await together([first, lambda: succeed(pace)])
    await succeed(pace)
    assert (now(), pace.in_flight) == (2, 0)


LOADS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.1, 1.0, 7.0, 29.9, 60.0, 61.3]),  # seconds after the one before
        st.integers(0, 130),  # tokens
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(
    load=LOADS,
    requests=st.none() | st.integers(1, 8),
    tokens=st.none() | st.integers(1, 100),
    most=st.just(99),
)
def test_in_any_minute_the_ceilings_hold_and_nobody_waits_longer_than_they_ask(
    load: list[tuple[float, int]], requests: int | None, tokens: int | None, most: int
) -> None:
    began: list[tuple[float, int]] = []
    came: list[float] = []

    @in_virtual_time
    async def story() -> None:
        pace = Pace(most, requests, tokens, clock=now)

        async def ask(count: int) -> None:
            async with pace.turn(count):
                began.append((now(), count))

        async with anyio.create_task_group() as group:
            for seconds, count in load:
                await anyio.sleep(seconds)
                came.append(now())
                group.start_soon(ask, count)

    story()
    assert [count for _, count in began] == [count for _, count in load]
    for start, _ in began:
        minute = [count for at, count in began if start <= at < start + 60]
        assert requests is None or len(minute) <= requests
        if tokens is not None and sum(minute) > tokens:
            assert len([count for count in minute if count]) == 1  # larger than the ceiling: alone
    assert [at for at, _ in began] == pytest.approx(earliest(load, came, requests, tokens), abs=1e-6)


def earliest(
    load: list[tuple[float, int]], came: list[float], requests: int | None, tokens: int | None
) -> list[float]:
    """When each could begin at the soonest, after the one before it: tried moment by moment."""
    began: list[float] = []
    for place, (_, count) in enumerate(load):
        soonest = max([came[place], *began[-1:]])
        moments = sorted([soonest, *(at + 60 for at in began if at + 60 > soonest)])
        for moment in moments:
            minute = [load[i][1] for i, at in enumerate(began) if at + 60 > moment + 1e-9]
            crowd = requests is not None and len(minute) >= requests
            much = tokens is not None and count and any(minute) and sum(minute) + count > tokens
            if not crowd and not much:
                began.append(moment)
                break
    return began


@settings(max_examples=60, deadline=None)
@given(
    load=LOADS,
    requests=st.integers(1, 8),
    tokens=st.integers(30, 100),
    most=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_in_any_minute_the_ceilings_hold_through_failures_cancellations_and_corrections(
    load: list[tuple[float, int]], requests: int, tokens: int, most: int, seed: int
) -> None:
    """By the tokens as they were known when the attempt began."""
    chance = random.Random(seed)
    began: list[list[float]] = []
    done: list[int] = []

    def refuse_perhaps() -> None:
        if chance.random() < 0.2:
            raise ServiceUnavailable("no", retry_after=chance.choice([None, 2]))

    @in_virtual_time
    async def story() -> None:
        pace = Pace(most, requests, tokens, clock=now)

        async def ask(place: int, count: int) -> None:
            with anyio.move_on_after(chance.choice([math.inf, math.inf, 0.5, 30])):
                try:
                    async with pace.turn(count) as turn:
                        entry = [now(), count]
                        known = [had for at, had in began if at + 60 > now()]
                        assert len(known) < requests
                        held = sum(known)
                        assert not count or not held or held + count <= tokens
                        began.append(entry)
                        await anyio.sleep(chance.choice([0, 0.2, 3, 70]))
                        turn.trouble = chance.choice(list(Trouble))
                        refuse_perhaps()
                        entry[1] = turn.tokens = max(0, count + chance.randint(-10, 10))
                except ServiceUnavailable:
                    pass
            done.append(place)

        async with anyio.create_task_group() as group:
            for place, (seconds, count) in enumerate(load):
                await anyio.sleep(seconds)
                group.start_soon(ask, place, count)
        assert pace.in_flight == 0

    story()
    assert sorted(done) == list(range(len(load)))


@in_virtual_time
async def test_what_is_larger_than_the_ceiling_has_the_minute_to_itself() -> None:
    pace = Pace(9, tokens_per_minute=100, clock=now)
    began = []
    for count in (60, 500, 60, 0, 40):
        async with pace.turn(count):
            began.append(now())
    assert began == [0, 60, 120, 120, 120]


@in_virtual_time
async def test_the_count_is_set_right_by_the_reply() -> None:
    pace = Pace(9, tokens_per_minute=100, clock=now)
    async with pace.turn(90) as turn:
        turn.tokens = 40
    async with pace.turn(50) as turn:
        turn.tokens = 70
        assert now() == 0
    async with pace.turn(1):
        assert now() == 60


@in_virtual_time
async def test_a_correction_lets_who_waits_go_on() -> None:
    pace = Pace(9, tokens_per_minute=100, clock=now)

    async def first() -> None:
        async with pace.turn(90) as turn:
            await anyio.sleep(1)
            turn.tokens = 10

    async def second() -> None:
        async with pace.turn(90):
            assert now() == 1

    await together([first, second])


@in_virtual_time
async def test_an_attempt_counts_until_a_minute_after_its_end_with_the_tokens_that_it_had() -> None:
    pace = Pace(9, tokens_per_minute=100, clock=now)
    began = []

    async def slow() -> None:
        async with pace.turn(90) as turn:
            await anyio.sleep(70)
            turn.tokens = 80

    async def ask(tokens: int) -> None:
        await anyio.sleep(1)
        async with pace.turn(tokens):
            began.append(now())

    await together([slow, lambda: ask(10), lambda: ask(20), lambda: ask(1)])
    assert began == [1, 70, 130]


@settings(max_examples=60, deadline=None)
@given(load=LOADS, requests=st.integers(1, 8), tokens=st.integers(30, 100), seed=st.integers(0, 1000))
def test_in_any_minute_of_the_service_the_ceilings_hold_however_long_requests_are_on_their_way(
    load: list[tuple[float, int]], requests: int, tokens: int, seed: int
) -> None:
    chance = random.Random(seed)
    came: list[tuple[float, int]] = []

    @in_virtual_time
    async def story() -> None:
        pace = Pace(99, requests, tokens, clock=now)

        async def ask(count: int) -> None:
            async with pace.turn(count):
                await anyio.sleep(chance.choice([0, 0.1, 5, 100]))
                came.append((now(), count))
                await anyio.sleep(chance.choice([0, 0.1, 5, 100]))

        async with anyio.create_task_group() as group:
            for seconds, count in load:
                await anyio.sleep(seconds)
                group.start_soon(ask, count)

    story()
    assert len(came) == len(load)
    for start, _ in came:
        minute = [count for at, count in came if start <= at < start + 60]
        assert len(minute) <= requests
        assert sum(minute) <= tokens or len([count for count in minute if count]) == 1


@in_virtual_time
async def test_a_pause_that_the_service_asks_for_holds_everybody() -> None:
    pace = Pace(9, clock=now)

    async def refuse(seconds: float) -> float:
        return await fail(pace, Trouble.NONE, seconds=1, error="slow", retry_after=seconds, until=now() + 100)

    assert await refuse(17) == 0
    assert await refuse(20) == 18
    async with anyio.create_task_group() as group:  # both in flight at once
        await anyio.sleep(20)
        group.start_soon(refuse, 9)
        group.start_soon(refuse, 2)  # does not make it shorter
    assert now() == 40
    told = await refusal(pace, until=48)
    assert str(told) == "there is a pause of 9 s more: slow"
    assert told.retry_after == 9
    await succeed(pace, 0)
    assert now() == 49


@in_virtual_time
async def test_a_pause_is_no_longer_than_the_call_that_was_asked_for_it_could_wait() -> None:
    pace = Pace(9, clock=now)
    await fail(pace, Trouble.CROWD, seconds=1, retry_after=3600, until=300)
    await succeed(pace, 0)
    assert now() == 300


@in_virtual_time
async def test_who_cannot_have_a_turn_in_time_is_told_why() -> None:
    pace = Pace(1, requests_per_minute=1, tokens_per_minute=90_000, clock=now)
    async with pace.turn():
        await anyio.sleep(1)
        with pytest.raises(ServiceUnavailable, match=r"^1 of 1 slots are in use$"):
            async with pace.turn(until=5):
                pass
        assert now() == 5
    error = await refusal(pace, until=64.5)
    assert str(error) == (
        "what may be sent in a minute is used up (requests_per_minute 1, tokens_per_minute 90,000)"
    )
    async with pace.turn(until=65.5):
        assert now() == 65


@pytest.mark.parametrize("numbers", [(0,), (-1,), (1, 0), (1, None, 0)])
def test_a_pace_of_nothing_is_none(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="from 1 on"):
        Pace(*numbers)
