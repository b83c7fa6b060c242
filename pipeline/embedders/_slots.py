"""How many attempts may be in flight. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

FIRST = 8
"""Where it begins: twenty full requests are a whole corpus, and should not queue for one another."""
PROBE_ROUNDS = 20
"""So long it stays one below the number that was too many, before it tries that number again."""


@dataclass(slots=True, kw_only=True)
class Slots:
    """More while the service is well, half on trouble.

    Up to the first trouble the number doubles with each round of answers. Later it goes half of the way back
    with each round, stays one below what was too many, and tries that and what lies beyond now and then, one
    more at a time. (To add one a round from the half on leaves a service that allows a fixed number a quarter
    idle. The way back is that of BIC: Xu, Harfoush and Rhee, INFOCOM 2004.)
    """

    most: int
    allowed: int
    in_flight: int = 0
    begun: int = 0
    """Attempts ever: the number of the latest, from 1 on."""
    _too_many: int = 0
    """What was in flight at the last trouble; 0 before the first."""
    _answers: int = 0
    """Since `allowed` changed."""
    _filled_at: int = 0
    """The latest attempt when all slots were last seen in use."""
    _lowered_at: int = 0
    """The latest attempt when `allowed` was last lowered."""

    def begin(self) -> int:
        """Take a slot; give the attempt's number."""
        self.begun += 1
        self.in_flight += 1
        self._look()
        return self.begun

    def end(self) -> None:
        """Give a slot back."""
        self.in_flight -= 1

    def answered(self, number: int) -> None:
        """An attempt was. That tells something of `allowed` where all of it was in use in the meantime."""
        self._look()
        if not self._lowered_at < number <= self._filled_at:
            return
        self._answers += 1
        more, rounds = self._step()
        if self._answers >= rounds * self.allowed:
            self.allowed, self._answers = min(self.most, self.allowed + more), 0

    def troubled(self, number: int, crowd: int) -> None:
        """An attempt was, that began as one of `crowd`. Halves once for all that were in flight together."""
        if number > self._lowered_at:
            self._too_many = min(self.allowed, max(crowd, self.in_flight))
            self._lower(max(1, self._too_many // 2))

    def start_over(self) -> None:
        """Begin from one, as with a service of which nothing is known."""
        self._too_many = 0
        self._lower(1)

    def _lower(self, allowed: int) -> None:
        self.allowed, self._answers, self._lowered_at = allowed, 0, self.begun

    def _step(self) -> tuple[int, int]:
        """How many more, after how many rounds of answers."""
        if not self._too_many:
            return 1, 0  # with each answer
        short = self._too_many - 1 - self.allowed
        if short > 0:
            return math.ceil(short / 2), 1
        return 1, (1 if short else PROBE_ROUNDS)

    def _look(self) -> None:
        if self.in_flight >= self.allowed:
            self._filled_at = self.begun
