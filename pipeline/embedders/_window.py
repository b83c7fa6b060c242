"""What may begin in a minute. Pure: the time is told."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

SECONDS = 60.0


@dataclass(slots=True, kw_only=True, eq=False)
class Spent:
    """One attempt that began."""

    at: float
    tokens: int
    past: bool = False


class Window:
    """The attempts of the last minute and their tokens: in any 60 seconds no more than is allowed."""

    # aiolimiter's bucket lets twice the rate through in the first minute; pyrate-limiter and limits keep an
    # entry for each token; and none of the three ever lets through what is larger than the ceiling.

    def __init__(self, requests: int | None, tokens: int | None) -> None:
        """Empty. None is no ceiling."""
        self._most_requests = requests or math.inf
        self._most_tokens = tokens or math.inf
        self._kept = requests is not None or tokens is not None
        self._spent: deque[Spent] = deque()
        self._tokens = 0

    def seconds_to_wait(self, now: float, tokens: int) -> float:
        """Until one more attempt fits. One of more tokens than ever fit does where no others are."""
        self._forget(now)
        fits_at = now
        if len(self._spent) >= self._most_requests:
            fits_at = self._spent[0].at + SECONDS
        left = self._tokens
        for spent in self._spent:
            if not tokens or not left or left + tokens <= self._most_tokens:
                break
            left -= spent.tokens
            fits_at = max(fits_at, spent.at + SECONDS)
        return fits_at - now

    def spend(self, now: float, tokens: int) -> Spent:
        """An attempt begins."""
        spent = Spent(at=now, tokens=tokens)
        if self._kept:
            self._spent.append(spent)
            self._tokens += tokens
        return spent

    def correct(self, spent: Spent, tokens: int) -> None:
        """It had so many tokens."""
        if self._kept and not spent.past:
            self._tokens += tokens - spent.tokens
            spent.tokens = tokens

    def tell(self) -> str:
        """What is allowed."""
        named = (("requests_per_minute", self._most_requests), ("tokens_per_minute", self._most_tokens))
        return ", ".join(f"{name} {most:,}" for name, most in named if math.isfinite(most))

    def _forget(self, now: float) -> None:
        # The same sum as in `fits_at`: whoever waits until then finds it done, whatever the rounding.
        while self._spent and self._spent[0].at + SECONDS <= now:
            oldest = self._spent.popleft()
            oldest.past = True
            self._tokens -= oldest.tokens
