"""What may begin in a minute. Pure: the time is told."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import chain

SECONDS = 60.0


@dataclass(slots=True, kw_only=True, eq=False)
class Spent:
    """One attempt that began."""

    tokens: int
    until: float = math.inf
    """When it counts no more: a minute after it ended."""


class Window:
    """The attempts of the last minute and their tokens: in any 60 seconds no more than is allowed.

    So it is for who is asked, whose minutes are those in which requests come in: after they were sent and
    before they are answered, however long either takes. An attempt counts from its begin to a minute after
    its end: of any two that come in within a minute, the later one saw the other.
    """

    # aiolimiter's bucket lets twice the rate through in the first minute; pyrate-limiter and limits keep an
    # entry for each token; and none of the three ever lets through what is larger than the ceiling.

    def __init__(self, requests: int | None, tokens: int | None) -> None:
        """Empty. None is no ceiling."""
        self._most_requests = requests or math.inf
        self._most_tokens = tokens or math.inf
        self._kept = requests is not None or tokens is not None
        self._in_flight: set[Spent] = set()
        self._ended: deque[Spent] = deque()
        """By when they ended."""
        self._tokens = 0

    def seconds_to_wait(self, now: float, tokens: int) -> float:
        """Until one more attempt fits; infinite where another must end first.

        One of more tokens than ever fit does where no others are.
        """
        self._forget(now)
        left, crowd = self._tokens, len(self._ended) + len(self._in_flight)
        fits_at = now
        for spent in chain(self._ended, self._in_flight):
            if crowd < self._most_requests and (not tokens or not left or left + tokens <= self._most_tokens):
                break
            left, crowd = left - spent.tokens, crowd - 1
            fits_at = max(fits_at, spent.until)
        return fits_at - now

    def begin(self, tokens: int) -> Spent:
        """An attempt begins."""
        spent = Spent(tokens=tokens)
        if self._kept:
            self._in_flight.add(spent)
            self._tokens += tokens
        return spent

    def end(self, now: float, spent: Spent, tokens: int) -> None:
        """It has ended, and had so many tokens."""
        if self._kept:
            self._in_flight.remove(spent)
            self._tokens += tokens - spent.tokens
            spent.tokens, spent.until = tokens, now + SECONDS
            self._ended.append(spent)

    def tell(self) -> str:
        """What is allowed."""
        named = (("requests_per_minute", self._most_requests), ("tokens_per_minute", self._most_tokens))
        return ", ".join(f"{name} {most:,}" for name, most in named if math.isfinite(most))

    def _forget(self, now: float) -> None:
        while self._ended and self._ended[0].until <= now:
            self._tokens -= self._ended.popleft().tokens
