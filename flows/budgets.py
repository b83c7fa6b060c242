"""What the runs of this process may spend: kept over all sources of a run, and over the retries of each."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from config.settings import Settings
from pipeline.budget import Budget


@dataclass(slots=True, kw_only=True)
class Budgets:
    """The budgets of one run."""

    run: Budget
    sources: dict[str, Budget] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> Budgets:
        """As the settings say; nothing is spent yet."""
        return cls(
            run=Budget(name="this run", usd=settings.budget.usd, tokens=settings.budget.tokens),
            sources={
                name: Budget(name=name, usd=source.budget.usd, tokens=source.budget.tokens)
                for name, source in settings.sources.items()
            },
        )

    def for_source(self, name: str) -> Sequence[Budget]:
        """Those that the source has to keep to."""
        return [self.run, self.sources[name]]


budgets: ContextVar[Budgets | None] = ContextVar("budgets", default=None)
"""Of the run that goes on here. No parameter of a task: what was spent outlives its retries."""
