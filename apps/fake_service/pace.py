"""How much the stand-in takes at once, and in a minute."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Literal

from apps.fake_service.refusals import Refusal

RetryAfter = Literal["none", "seconds", "date"]

_MINUTE = 60.0


def retry_after(form: RetryAfter, seconds: float) -> dict[str, str]:
    """The header that asks to wait at least so long, in whole seconds, in either form of RFC 9110."""
    whole = math.ceil(seconds)
    if form == "seconds":
        return {"Retry-After": str(whole)}
    if form == "date":
        return {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=whole), usegmt=True)}
    return {}


class Window:
    """At most so much in any minute. Not thread-safe."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._taken: deque[tuple[float, int]] = deque()
        self._sum = 0

    def take(self, amount: int) -> float:
        """Take it and give 0, or leave it and give the seconds after which there is room.

        What is more than the window holds is taken when the window is empty: it would never have its turn.
        """
        now = self._clock()
        while self._taken and self._taken[0][0] <= now - _MINUTE:
            self._sum -= self._taken.popleft()[1]
        if not self._taken or self._sum + amount <= self._most:
            self._taken.append((now, amount))
            self._sum += amount
            return 0.0
        left = self._sum
        for moment, taken in self._taken:
            left -= taken
            if left + amount <= self._most:
                return moment + _MINUTE - now
        return self._taken[-1][0] + _MINUTE - now


class Pace:
    """The limits on how fast a client may ask. None where there is none. Thread-safe."""

    def __init__(
        self,
        *,
        max_in_flight: int | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        retry_after: RetryAfter = "none",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: `retry_after` is the form in which a refusal says how long to wait, if it does."""
        self._max_in_flight = max_in_flight
        self._requests = Window(requests_per_minute, clock) if requests_per_minute else None
        self._tokens = Window(tokens_per_minute, clock) if tokens_per_minute else None
        self._form = retry_after
        self._lock = threading.Lock()

    def admit(self, in_flight: int) -> None:
        """A request has come, and is one of so many.

        Raises:
            Refusal: 429.
        """
        if self._max_in_flight is not None and in_flight > self._max_in_flight:
            raise self._refusal(f"Rate limit: more than {self._max_in_flight} requests at a time", 1.0)
        self._take(self._requests, 1, "requests")

    def admit_tokens(self, tokens: int) -> None:
        """A request holds so many tokens.

        Raises:
            Refusal: 429.
        """
        self._take(self._tokens, tokens, "tokens")

    def _take(self, window: Window | None, amount: int, what: str) -> None:
        if window is None:
            return
        with self._lock:
            seconds = window.take(amount)
        if seconds:
            raise self._refusal(f"Rate limit: too many {what} per minute", seconds)

    def _refusal(self, said: str, seconds: float) -> Refusal:
        return Refusal(429, said, headers=retry_after(self._form, seconds))
