"""What stands on a board of shards: what holds for all of them, the items of each, and what became of it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pipeline import errors
from pipeline.budget import Budget
from pipeline.errors import DocweaveError
from pipeline.records import Failure, ItemRef
from pipeline.report import SourceReport

BYTES_A_TOKEN = 4
"""Of an item as it is listed, roughly: for the size of a shard only."""
ITEM_BYTES = 2_000
"""What an item weighs beside its bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What holds for every shard of a source."""

    source: str
    recipe: str
    lease: str
    """Under which the tables are written."""
    stored: int
    gone: Mapping[tuple[str, ...], str]
    """As `vanished` gives it."""
    listed: Sequence[str]
    """As `Containers.listed`."""
    budgets: Sequence[Budget]
    """What each worker may spend."""

    def encoded(self) -> bytes:
        """As a board keeps it."""
        return _encoded(
            {
                "source": self.source,
                "recipe": self.recipe,
                "lease": self.lease,
                "stored": self.stored,
                "gone": [[list(group_keys), key] for group_keys, key in self.gone.items()],
                "listed": list(self.listed),
                "budgets": [[budget.name, budget.usd, budget.tokens] for budget in self.budgets],
            }
        )

    @classmethod
    def of(cls, body: bytes) -> Shared:
        """What was encoded."""
        value = _decoded(body)
        return cls(
            source=value["source"],
            recipe=value["recipe"],
            lease=value["lease"],
            stored=value["stored"],
            gone={tuple(group_keys): key for group_keys, key in value["gone"]},
            listed=value["listed"],
            budgets=[Budget(name=name, usd=usd, tokens=tokens) for name, usd, tokens in value["budgets"]],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Items that one worker works off."""

    refs: Sequence[ItemRef]
    held: Mapping[str, Sequence[str]]
    """As `Survey.held`, of these items."""

    def encoded(self) -> bytes:
        """As a board keeps it."""
        refs = [[ref.key, ref.version, ref.size] for ref in self.refs]
        return _encoded({"refs": refs, "held": {key: list(keys) for key, keys in self.held.items()}})

    @classmethod
    def of(cls, body: bytes, source: str) -> Shard:
        """What was encoded."""
        value = _decoded(body)
        refs = [
            ItemRef(source=source, key=key, version=version, size=size)
            for key, version, size in value["refs"]
        ]
        return cls(refs=refs, held=value["held"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What became of a shard."""

    report: SourceReport
    claimed: Sequence[str] = ()
    """Old keys that documents of it go on from: of several shards, one may."""
    opened: Sequence[tuple[str, str, Mapping[str, str], Collection[str]]] = ()
    """Containers: key, version, content keys of what they hold, and what of it was refused."""
    highest_ratio: float = 0.0

    def encoded(self) -> bytes:
        """As a board keeps it."""
        return _encoded(
            {
                "report": self.report.as_json(),
                "claimed": list(self.claimed),
                "opened": [[key, version, dict(keys), sorted(no)] for key, version, keys, no in self.opened],
                "highest_ratio": self.highest_ratio,
            }
        )

    @classmethod
    def of(cls, body: bytes) -> Told:
        """What was encoded."""
        value = _decoded(body)
        value["report"]["failures"] = [Failure(**failure) for failure in value["report"]["failures"]]
        return cls(**{**value, "report": SourceReport(**value["report"])})


def cut(refs: Sequence[ItemRef], tokens: int, workers: int) -> list[Sequence[ItemRef]]:
    """The items in shards of about so many tokens and of about the same size, in their order.

    As many shards as every worker can have its part of, or one where all of it is no more than one shard.
    An item of unknown size counts as the others do on average. The same items are always cut alike.
    """
    known = [ref.size for ref in refs if ref.size is not None]
    usual = sum(known) / len(known) if known else BYTES_A_TOKEN * 1_000
    weights = [ITEM_BYTES + (usual if ref.size is None else ref.size) for ref in refs]
    whole = sum(weights)
    count = -(-int(whole) // (tokens * BYTES_A_TOKEN))
    if count < 2 or len(refs) < 2:
        return [refs] if refs else []
    count = min(-(-count // workers) * workers, len(refs))
    shards: list[Sequence[ItemRef]] = []
    start, weighed = 0, 0.0
    for end, weight in enumerate(weights, 1):
        weighed += weight
        if weighed * count >= whole * (len(shards) + 1) and len(shards) < count - 1:
            shards.append(refs[start:end])
            start = end
    if start < len(refs):
        shards.append(refs[start:])
    return shards


_NOT_ADDED = frozenset({"listed", "stored", "unchanged", "owed", "removed", "withheld", "seconds"})
"""What the whole source is counted by, and no shard."""


def add_up(report: SourceReport, more: SourceReport) -> None:
    """Put what was done for some of the items into the report of all."""
    for one in fields(report):
        value = getattr(more, one.name)
        if isinstance(value, int | float) and one.name not in _NOT_ADDED:
            setattr(report, one.name, getattr(report, one.name) + value)
    report.failures += more.failures
    for stage, seconds in more.stages.items():
        report.stages[stage] = report.stages.get(stage, 0.0) + seconds


def failure(error: Exception) -> bytes:
    """Why a worker gives up, as a board keeps it."""
    return _encoded({"error": type(error).__name__, "reason": str(error)})


def error_of(told: bytes) -> DocweaveError:
    """The error that made a worker give up."""
    value = _decoded(told)
    kind = getattr(errors, value["error"], DocweaveError)
    known = isinstance(kind, type) and issubclass(kind, DocweaveError)
    return kind(value["reason"]) if known else DocweaveError(f"{value['error']}: {value['reason']}")


def share(budget: Budget, workers: int) -> Budget:
    """What each of so many workers may spend of what is left."""
    usd = None if budget.usd is None else max(0.0, budget.usd - budget.spent_usd) / workers
    tokens = None if budget.tokens is None else max(0, budget.tokens - budget.spent_tokens) // workers
    return Budget(name=budget.name, usd=usd, tokens=tokens)


def _encoded(value: Mapping[str, object]) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 1)


def _decoded(body: bytes) -> Any:
    return json.loads(zlib.decompress(body))
