"""How fast a service is asked: as much at a time as it bears, and no more a minute than is allowed."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Flag

import anyio

from pipeline.embedders._breaker import Breaker
from pipeline.embedders._slots import FIRST, Slots
from pipeline.embedders._window import Spent, Window
from pipeline.errors import EmbedError, ServiceUnavailable

_logger = logging.getLogger(__name__)

LEAST_FAILURES = 10
"""The breaker opens after twice as many failures in a row as there are slots, and not before these."""


class Trouble(Flag):
    """What an attempt that failed says of the service, beside that it may be asked again."""

    NONE = 0
    CROWD = 1
    """More is asked at a time than it bears."""
    OUTAGE = 2
    """It may not be there at all."""
    OVERLOAD = CROWD | OUTAGE


@dataclass(slots=True, kw_only=True, eq=False)
class Turn:
    """Leave to ask once. What becomes clear in the meantime is written into it."""

    tokens: int
    """As counted before; to be set right where the reply tells."""
    until: float
    """By the clock, when it is too late for the call. No pause that the service asks for is kept longer."""
    trouble: Trouble = Trouble.OUTAGE
    """What it means if the attempt ends with ServiceUnavailable."""
    number: int = 0
    crowd: int = 0
    """How many were in flight when it began, itself among them."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Place:
    """In the queue."""

    turn: Turn
    patient: bool
    woken: anyio.Event | None = None

    def wake(self) -> None:
        if self.woken:
            self.woken.set()


class Pace:
    """Gives each attempt its turn, in the order in which they come; those with a deadline before the others.

    One for all calls to a service, within one event loop. An attempt waits while no slot is free (`Slots`),
    while a minute's requests or tokens are used up (`Window`), while the service wants a pause, and while it
    does not answer (`Breaker`).
    """

    def __init__(
        self,
        most_in_flight: int,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        """Nothing is in flight yet.

        Args:
            most_in_flight: So many attempts at a time, if the service bears them.
            requests_per_minute: Attempts in any 60 seconds, as the service counts them; None for no ceiling.
            tokens_per_minute: Their tokens in any 60 seconds; None for no ceiling. An attempt of more tokens
                has the minute to itself.
            clock: Tells the seconds, for calls and their paces the same.
            sleep: Waits by that clock.

        Raises:
            ValueError: a number is less than 1.
        """
        for number in (most_in_flight, requests_per_minute, tokens_per_minute):
            if number is not None and number < 1:
                raise ValueError(f"a pace is made of numbers from 1 on, not {number}")
        self._clock = clock
        self._sleep = sleep
        self._slots = Slots(most=most_in_flight, allowed=min(FIRST, most_in_flight))
        self._tokens_per_minute = tokens_per_minute
        self._window = Window(requests_per_minute, tokens_per_minute)
        self._breaker = Breaker()
        self._queue: deque[_Place] = deque()
        self._pause_ends = -math.inf
        self._pause_reason = ""

    @property
    def allowed(self) -> int:
        """How many attempts may be in flight at present."""
        return self._slots.allowed

    @property
    def tokens_per_minute(self) -> int | None:
        """The ceiling; None where there is none."""
        return self._tokens_per_minute

    @property
    def in_flight(self) -> int:
        """How many are."""
        return self._slots.in_flight

    @asynccontextmanager
    async def turn(
        self, tokens: int = 0, *, until: float = math.inf, patient: bool = True
    ) -> AsyncIterator[Turn]:
        """Wait for leave to ask once, and learn from how the block ends.

        ServiceUnavailable is a failure, any other EmbedError an answer. Of an attempt that is cancelled
        nothing is learned.

        Args:
            tokens: What will be sent, as counted.
            until: By the clock, when it is too late.
            patient: Wait while the service does not answer. Otherwise that ends the wait at once.

        Raises:
            ServiceUnavailable: no turn comes in time. Nothing was asked.
        """
        turn = Turn(tokens=tokens, until=until)
        spent = await self._begin(turn, patient=patient)
        try:
            yield turn
        except ServiceUnavailable as error:
            self._failed(turn, error)
            raise
        except EmbedError:
            self._answered(turn)
            raise
        else:
            self._answered(turn)
        finally:
            self._slots.end()
            self._window.end(self._clock(), spent, turn.tokens)
            self._breaker.ended(turn.number, self._clock())
            self._wake_first()

    async def _begin(self, turn: Turn, *, patient: bool) -> Spent:
        place = _Place(turn=turn, patient=patient)
        # Retries and questions, whose time runs, go before the rest: behind a ceiling that may take hours.
        hurried = sum(math.isfinite(other.turn.until) for other in self._queue)
        self._queue.insert(hurried if math.isfinite(turn.until) else len(self._queue), place)
        try:
            while seconds := self._seconds_to_wait(place):
                place.woken = anyio.Event()
                await self._rest(place.woken, seconds)
            # Nothing is awaited between here and the caller's block: who is cancelled has taken nothing.
            turn.number, turn.crowd = self._slots.begin(), self._slots.in_flight
            self._breaker.begins(turn.number)
            return self._window.begin(turn.tokens)
        finally:
            self._queue.remove(place)
            self._wake_first()

    def _seconds_to_wait(self, place: _Place) -> float:
        """0 when its turn has come; infinite when somebody will wake it."""
        now, turn = self._clock(), place.turn
        outage = self._breaker.seconds_to_wait(now)
        if place is not self._queue[0] or self._slots.in_flight >= self._slots.allowed:
            seconds = math.inf
        else:
            full = self._window.seconds_to_wait(now, turn.tokens)
            seconds = max(0.0, outage, self._pause_ends - now, full)
        if not seconds:
            return 0.0
        left = turn.until - now
        if left <= 0 or left <= seconds < math.inf or (outage and not place.patient):
            pause = self._pause_ends - now
            raise ServiceUnavailable(self._tell(now), retry_after=pause if pause > 0 else None)
        return min(seconds, left)

    async def _rest(self, woken: anyio.Event, seconds: float) -> None:
        """Until it is woken, or the time is over."""
        if math.isinf(seconds):
            await woken.wait()
            return

        async def ring() -> None:
            await self._sleep(seconds)
            woken.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ring)
            await woken.wait()
            tasks.cancel_scope.cancel()

    def _wake_first(self) -> None:
        if self._queue:
            self._queue[0].wake()

    def _answered(self, turn: Turn) -> None:
        opened_at, reason = self._breaker.opened_at, self._breaker.reason
        self._breaker.succeeded()
        if opened_at is None:
            self._slots.answered(turn.number)
        else:
            self._slots.start_over()
            _logger.info(
                "an answer, %.0f s after the service was left alone: %s", self._clock() - opened_at, reason
            )

    def _failed(self, turn: Turn, error: ServiceUnavailable) -> None:
        now, before = self._clock(), self._slots.allowed
        if Trouble.CROWD in turn.trouble:
            self._slots.troubled(turn.number, turn.crowd)
            if self._slots.allowed < before:
                _logger.warning("%s; %d at a time from now on, not %d", error, self._slots.allowed, before)
        if Trouble.OUTAGE in turn.trouble:
            most = max(LEAST_FAILURES, 2 * before)
            if self._breaker.failed(turn.number, now, str(error), most=most):
                _logger.warning("the service is left alone: %s", self._breaker.tell(now))
                for place in self._queue:  # not all of them are patient
                    place.wake()
        pause_ends = min(now + (error.retry_after or 0.0), turn.until)
        if pause_ends > max(now, self._pause_ends):
            self._pause_ends, self._pause_reason = pause_ends, str(error)

    def _tell(self, now: float) -> str:
        """Why there is no turn."""
        if self._breaker.is_open:
            return self._breaker.tell(now)
        if self._pause_ends > now:
            return f"there is a pause of {self._pause_ends - now:.0f} s more: {self._pause_reason}"
        if self._slots.in_flight >= self._slots.allowed:
            return f"{self._slots.in_flight} of {self._slots.allowed} slots are in use"
        return f"what may be sent in a minute is used up ({self._window.tell()})"
