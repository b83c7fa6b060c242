"""What the runs of this process may spend and have done, over all sources and the retries of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from config.settings import Settings
from pipeline.budget import Budget
from pipeline.report import SourceReport

if TYPE_CHECKING:
    from flows.telling import Teller


@dataclass(slots=True, kw_only=True)
class Budgets:
    """The budgets of one run."""

    run: Budget
    sources: dict[str, Budget] = field(default_factory=dict)
    tries: dict[str, SourceReport] = field(default_factory=dict)
    """What was done for a source, and paid, before it was given up for a while."""

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

    @contextmanager
    def trying(self, teller: Teller) -> Iterator[None]:
        """Have the report of a try that ends well tell of those before it; keep that of one that fails."""
        try:
            yield
        except Exception:
            self.tries[teller.report.source] = self._whole(teller.report)
            raise
        teller.observe(self._whole(teller.report))

    def _whole(self, report: SourceReport) -> SourceReport:
        earlier = self.tries.get(report.source)
        return report.after(earlier) if earlier else report

    def for_source(self, name: str) -> Sequence[Budget]:
        """Those that the source has to keep to."""
        return [self.run, self.sources[name]]


budgets: ContextVar[Budgets | None] = ContextVar("budgets", default=None)
"""Of the run that goes on here. No parameter of a task: what was spent outlives its retries."""
