"""What a run did: counts, tokens, money, failures by key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from pipeline.errors import EmbedError
from pipeline.records import EmbedReply, Failure, JsonValue, LatestRun

Stage: TypeAlias = Literal["listing", "reading", "parsing", "embedding", "writing"]


@dataclass(slots=True, kw_only=True)
class SourceReport:
    """The tally of one source, filled as the run goes. Documents unless it says otherwise."""

    source: str
    listed: int = 0
    stored: int = 0
    """What the store had of the source when the run began."""
    unchanged: int = 0
    """Neither read nor written: the listing told all."""
    owed: int = 0
    """To be looked at in this run."""
    touched: int = 0
    """Read and found as they were: only their marks moved."""
    added: int = 0
    changed: int = 0
    """Embedded anew, whole."""
    renamed: int = 0
    """New keys whose vectors were there already, and whose old key is gone."""
    rewritten: int = 0
    """Rows written with the vectors kept."""
    copies: int = 0
    """Stored without rows: another document has those of the same text, for the same people."""
    removed: int = 0
    withheld: int = 0
    """No longer listed, and so many that their removal waits for approval: they are still served."""
    withheld_keys: list[str] = field(default_factory=list)
    """Theirs."""
    moved: dict[str, str] = field(default_factory=dict)
    """Documents that are no longer as the plan has them, and were not touched: how, by key."""
    failures: list[Failure] = field(default_factory=list)
    chunks: int = 0
    """Chunks written."""
    tokens: int = 0
    """Tokens paid for, as the service counted them."""
    cost_usd: float = 0.0
    counted: int = 0
    """The same tokens as we counted them."""
    requests: int = 0
    retries: int = 0
    left: int = 0
    """Documents that a budget left for another run."""
    left_tokens: int = 0
    """What they would have cost, as we count tokens."""
    stopped_by: str | None = None
    """The budget that was spent."""
    skipped: str | None = None
    """Why nothing was done: another run is at it."""
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds during which each stage had something to do. They go on side by side."""
    _going: dict[str, tuple[int, float]] = field(default_factory=dict, repr=False, compare=False)
    """How many are in a stage now, and since when there has been one."""

    @property
    def done(self) -> int:
        """How many of the owed documents have been dealt with."""
        written = self.added + self.changed + self.renamed + self.rewritten + self.copies
        return self.touched + written + self.left + len(self.failures) + len(self.moved)

    @property
    def written(self) -> int:
        """How many documents' rows this run wrote or removed."""
        return self.added + self.changed + self.renamed + self.rewritten + self.copies + self.removed

    def wasted(self, error: EmbedError) -> None:
        """Count what was charged for replies that could not be used, though no other came."""
        self.tokens += error.wasted_tokens
        self.cost_usd += error.wasted_usd

    @property
    def complete(self) -> bool:
        """Whether nothing failed, was left by a budget, waits for approval, or moved."""
        return not (self.failures or self.left or self.withheld or self.moved)

    def count(self, change: str) -> None:
        """Count one document, by what happened to it: the name of one of the fields above."""
        setattr(self, change, getattr(self, change) + 1)

    def withhold(self, keys: Sequence[str]) -> None:
        """Report documents that are no longer listed, and stay until somebody says that they may go."""
        self.withheld += len(keys)
        self.withheld_keys.extend(keys)

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Count the seconds as the stage's; those that several spend in it at the same time, once."""
        count, since = self._going.get(stage, (0, 0.0))
        self._going[stage] = (count + 1, since if count else time.monotonic())
        try:
            yield
        finally:
            count, since = self._going[stage]
            self._going[stage] = (count - 1, since)
            if count == 1:
                self.stages[stage] = self.stages.get(stage, 0.0) + time.monotonic() - since

    def fail(self, key: str, error: Exception, url: str | None = None) -> None:
        """Report a document that could not be brought up to date."""
        key = key.encode("utf-8", "backslashreplace").decode()  # so that it can be shown, whatever it is
        self.failures.append(Failure(key=key, error=type(error).__name__, reason=str(error), url=url))

    def paid(self, counted: int, reply: EmbedReply) -> None:
        """Count a request that was answered. `counted` is its tokens as we count them."""
        self.requests += 1
        self.retries += reply.retries
        self.counted += counted
        self.tokens += reply.tokens + reply.wasted_tokens
        self.cost_usd += reply.cost_usd + reply.wasted_usd

    def after(self, earlier: SourceReport) -> SourceReport:
        """The report of both, where the source was given up at first and then tried again.

        What was done in the first try stands among the unchanged of the second.
        """
        done = earlier.done - len(earlier.failures) - earlier.left - len(earlier.moved)
        sums = {name: getattr(self, name) + getattr(earlier, name) for name in _ADDED_UP}
        names = dict.fromkeys((*earlier.stages, *self.stages))
        stages = {name: earlier.stages.get(name, 0.0) + self.stages.get(name, 0.0) for name in names}
        whole = replace(self, **sums, unchanged=max(0, self.unchanged - done), owed=self.owed + done)
        whole.stages = stages
        return whole

    def latest(self, error: str | None) -> LatestRun:
        """What is kept of the run, which ends now; `error` is what ended it before its time.

        One for which a budget left documents has not succeeded: the source is not up to date.
        """
        now = datetime.now(UTC)
        return LatestRun(
            source=self.source,
            at=now,
            seconds=self.seconds,
            error=error,
            succeeded_at=None if error or self.left else now,
            counts={name: getattr(self, name) for name in _COUNTS},
            failed=len(self.failures),
            failures=tuple(self.failures[:FAILURES_KEPT]),
        )

    def as_json(self) -> dict[str, JsonValue]:
        """All of it, for a program to read."""
        value = asdict(self)
        del value["_going"]
        return value


FAILURES_KEPT = 100
"""Of those of the latest run over a source: the store keeps no more."""
_COUNTS = (
    *("listed", "unchanged", "touched", "added", "changed", "renamed", "rewritten", "copies", "removed"),
    *("withheld", "left", "chunks", "requests", "retries"),
)
_ADDED_UP = (
    *("touched", "added", "changed", "renamed", "rewritten", "copies", "removed", "chunks"),
    *("tokens", "counted", "cost_usd", "requests", "retries", "seconds"),
)


Observer: TypeAlias = Callable[[SourceReport], None]
"""Called as a source's report grows. Must return at once."""


def ignore(_report: SourceReport) -> None:
    """The observer that looks away."""
