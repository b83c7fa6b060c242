"""When to leave a service alone, and when to try it again. Pure: the time is told."""

from __future__ import annotations

import math
from dataclasses import dataclass

FIRST_COOL_SECONDS = 5.0
LONGEST_COOL_SECONDS = 60.0


@dataclass(slots=True, kw_only=True)
class Breaker:
    """Opens after so many failures in a row; then lets one probe through at a time, until there is a success.

    Attempts are told apart by a number from 1 on.
    """

    failures: int = 0
    """In a row."""
    opened_at: float | None = None
    """None while it is closed."""
    reason: str = ""
    """Of the last failure."""
    _cool_seconds: float = FIRST_COOL_SECONDS
    _next_probe: float = 0.0
    _probe: int = 0
    """The attempt that is trying it now; 0 for none."""

    @property
    def is_open(self) -> bool:
        """Is the service left alone, but for a probe?"""
        return self.opened_at is not None

    def seconds_to_wait(self, now: float) -> float:
        """Until an attempt may begin; infinite while a probe is under way, for nobody knows how long."""
        if not self.is_open:
            return 0.0
        return math.inf if self._probe else max(0.0, self._next_probe - now)

    def begins(self, attempt: int) -> None:
        """An attempt begins that need not wait."""
        if self.is_open:
            self._probe = attempt

    def succeeded(self) -> None:
        """Any attempt did, probe or straggler."""
        self.failures, self.opened_at, self._probe = 0, None, 0

    def failed(self, attempt: int, now: float, reason: str, *, most: int) -> bool:
        """An attempt did: is it the one too many, where fewer than `most` in a row are borne?

        While it is open, only the probe's failure makes the next wait longer: the others began before.
        """
        self.failures += 1
        self.reason = reason
        if self.is_open:
            if attempt == self._probe:
                self._cool_seconds = min(LONGEST_COOL_SECONDS, 2 * self._cool_seconds)
            return False
        if self.failures < most:
            return False
        self.opened_at, self._cool_seconds = now, FIRST_COOL_SECONDS
        self._next_probe = now + self._cool_seconds
        return True

    def ended(self, attempt: int, now: float) -> None:
        """An attempt is over, whatever came of it. Without a success, the next probe has to wait."""
        if attempt == self._probe:
            self._probe, self._next_probe = 0, now + self._cool_seconds

    def tell(self, now: float) -> str:
        """Why it is open, and until when."""
        seconds = self.seconds_to_wait(now)
        again = (
            "it is being tried again now" if math.isinf(seconds) else f"it is tried again in {seconds:.0f} s"
        )
        return f"{self.failures} attempts in a row failed, and {again}; the last: {self.reason}"
