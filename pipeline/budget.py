"""What a run may spend, and how a service's token counts compare with ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from pipeline.records import EmbeddingSpace, EmbedLimits, Spending

CAREFUL_RATIO = 1.2
"""What a service may count for one token of ours, whatever it counted before: its own samples differ by up to
a fifth, and short requests from long ones. For what is held back from a budget only: packing relies on the
headroom of the limits."""
RECENT = 50
"""Runs that a calibration looks back on."""
TELLING = 1_000
"""Tokens from which on a request tells how high a ratio or a price may be: in smaller ones few weigh much."""
SHRINK = 0.9
"""What is left of a request's size after one of that size was refused as too large."""


@dataclass(slots=True, kw_only=True)
class Budget:
    """A ceiling in dollars, in tokens as the service counts them, or in both. Not passed by any request."""

    name: str
    """Whose: "this run", or a source."""
    usd: float | None = None
    tokens: int | None = None
    spent_usd: float = 0.0
    spent_tokens: int = 0
    _held_usd: float = 0.0
    _held_tokens: int = 0

    def holds(self, tokens: int, usd: float) -> bool:
        """Whether so much more could be spent, beside what is held back for the requests in flight."""
        within_usd = self.usd is None or self.spent_usd + self._held_usd + usd <= self.usd
        within_tokens = self.tokens is None or self.spent_tokens + self._held_tokens + tokens <= self.tokens
        return within_usd and within_tokens

    def hold(self, tokens: int, usd: float) -> None:
        """Hold back what a request may cost; a negative amount gives it free."""
        self._held_tokens += tokens
        self._held_usd += usd

    def spend(self, tokens: int, usd: float) -> None:
        """Note what was paid."""
        self.spent_tokens += tokens
        self.spent_usd += usd

    def __str__(self) -> str:
        ceilings = [f"${self.usd:g}"] if self.usd is not None else []
        ceilings += [f"{self.tokens:,} tokens"] if self.tokens is not None else []
        return f"the budget of {' and '.join(ceilings)} for {self.name}"


@dataclass(slots=True, kw_only=True)
class Calibration:
    """How many tokens the service counts for one of ours: by what it said before, and says as a run goes."""

    counted: int = 0
    billed: int = 0
    highest: float = 0.0
    """Over a whole request, in this run and the last ones. 0 while the service has told nothing."""
    highest_now: float = 0.0
    """In this run."""
    largest: float = field(default=float("inf"), repr=False)
    """Tokens as we count them that a request may have, since a larger one was refused."""

    @classmethod
    def of(cls, spending: Iterable[Spending], space: EmbeddingSpace) -> Calibration:
        """What the last runs with this model tell."""
        rows = [row for row in spending if (row.provider, row.model) == (space.provider, space.model)]
        recent = rows[-RECENT:]
        return cls(
            counted=sum(row.counted for row in recent),
            billed=sum(row.tokens for row in recent),
            highest=max((row.highest_ratio for row in recent), default=0.0),
        )

    @property
    def ratio(self) -> float:
        """On average; 1 while nothing is known."""
        return self.billed / self.counted if self.counted and self.billed else 1.0

    def learn(self, counted: int, billed: int) -> None:
        """Take in one reply."""
        self.counted += counted
        self.billed += billed
        if counted >= TELLING:
            self.highest_now = max(self.highest_now, billed / counted)
            self.highest = max(self.highest, self.highest_now)

    def refused(self, counted: int, limits: EmbedLimits) -> None:
        """A request of so many tokens was too large: later ones are made smaller, down to a full group."""
        self.largest = max(limits.group_tokens, min(self.largest, counted * SHRINK))

    def is_too_large(self, counted: int) -> bool:
        """Whether a request of this size would be refused again."""
        return counted > self.largest

    def tightened(self, limits: EmbedLimits) -> EmbedLimits:
        """The limits, smaller where the service counts more than we do. Never so small that no group fits."""
        most = min(limits.request_tokens / max(1.0, self.highest), self.largest)
        return replace(limits, request_tokens=max(min(limits.group_tokens, limits.request_tokens), int(most)))

    def at_most(self, counted: int) -> int:
        """What the service may count for so many tokens of ours."""
        return math.ceil(counted * max(self.highest, self.ratio, CAREFUL_RATIO))


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What is held back for a request in flight."""

    tokens: int
    usd: float


@dataclass(slots=True, kw_only=True)
class Purse:
    """Every budget that a request has to fit in, and the price."""

    budgets: Sequence[Budget]
    usd_per_million_tokens: float
    """By the list, until a reply costs more."""
    calibration: Calibration
    empty: Budget | None = None
    """The budget that the first request did not fit in. Nothing is sent after it."""

    def holds_less_than(self, counted: int) -> bool:
        """Whether a request of so many tokens would pass a budget that may still hold a smaller one."""
        return self.empty is None and self._passed_by(self._at_most(counted)) is not None

    def take(self, counted: int) -> Held | None:
        """Hold back what a request of so many tokens may cost; None where a budget would be passed."""
        held = self._at_most(counted)
        self.empty = self.empty or self._passed_by(held)
        if self.empty:
            return None
        for budget in self.budgets:
            budget.hold(held.tokens, held.usd)
        return held

    def give_back(self, held: Held) -> None:
        """Nothing more will be paid for the request."""
        for budget in self.budgets:
            budget.hold(-held.tokens, -held.usd)

    def spend(self, tokens: int, usd: float) -> None:
        """Something was paid, for whatever."""
        for budget in self.budgets:
            budget.spend(tokens, usd)

    def pay(self, held: Held, tokens: int, usd: float) -> None:
        """The request cost this."""
        self.give_back(held)
        self.spend(tokens, usd)
        if tokens >= TELLING:
            self.usd_per_million_tokens = max(self.usd_per_million_tokens, usd / tokens * 1e6)

    def _at_most(self, counted: int) -> Held:
        tokens = self.calibration.at_most(counted)
        return Held(tokens=tokens, usd=tokens * self.usd_per_million_tokens / 1e6)

    def _passed_by(self, held: Held) -> Budget | None:
        return next((budget for budget in self.budgets if not budget.holds(held.tokens, held.usd)), None)
