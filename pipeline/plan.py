"""What a run has to do. Pure.

Two decisions, because they are paid in different coin: `survey` before anything is read, from the listing
alone; `decide` after a document was read and grouped, before anything is paid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum

from pipeline.errors import SourceError
from pipeline.records import DocumentState, ItemRef, JsonValue, Known, Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the listing tells."""

    owed: tuple[ItemRef, ...]
    """Items that must be read: new, of another version, or made by another recipe."""
    unchanged: int
    stored: int
    """Documents that the store has of the source."""
    removed: tuple[str, ...]
    """Keys that are stored and no longer listed."""
    withheld: bool = False
    """Whether their removal waits for approval."""


def survey(
    refs: Iterable[ItemRef],
    marks: Mapping[str, tuple[str, str]],
    recipe: str,
    guard: RemovalGuard,
) -> Survey:
    """Compare a complete listing with the stored (version, recipe) of each key.

    Raises:
        SourceError: a key was listed twice.
    """
    owed: list[ItemRef] = []
    seen: set[str] = set()
    for ref in refs:
        if ref.key in seen:
            raise SourceError(f"source {ref.source!r} lists the key {ref.key!r} twice; keys must be unique")
        seen.add(ref.key)
        if marks.get(ref.key) != (ref.version, recipe):
            owed.append(ref)
    removed = tuple(key for key in marks if key not in seen)
    return Survey(
        owed=tuple(owed),
        unchanged=len(seen) - len(owed),
        stored=len(marks),
        removed=removed,
        withheld=guard.withholds(len(removed), len(marks)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalGuard:
    """How much a run may remove without being asked: a source that suddenly lists little is seldom meant.

    What counts is how many of the stored keys survive. New keys are no excuse: that every key has become
    another one is as suspicious as that all are gone.
    """

    documents: int = 10
    """So many may always go."""
    percent: float = 10.0
    """So many of a hundred stored documents may always go."""
    approved: int | None = None
    """What a person has approved of, at most; None where nobody was asked."""

    def withholds(self, removed: int, stored: int) -> bool:
        """Whether so many removals, of so many stored documents, wait for approval."""
        suspicious = removed > self.documents and removed * 100 > self.percent * stored
        return suspicious and (self.approved is None or removed > self.approved)


USUAL_GUARD = RemovalGuard()


class Change(Enum):
    """What happens to a document."""

    ADDED = "added"
    CHANGED = "changed"
    """Embedded anew."""
    RENAMED = "renamed"
    """A new key for what another, vanished key held: vectors kept."""
    REWRITTEN = "rewritten"
    """Rows written, vectors kept."""
    TOUCHED = "touched"
    """Only its marks moved."""


def decide(prepared: Prepared, state: DocumentState | None, gone: Mapping[tuple[str, ...], str]) -> Change:
    """What a prepared document needs, from its stored state and the group keys of vanished documents."""
    new = prepared.state
    if state is None:
        return Change.RENAMED if new.group_keys in gone else Change.ADDED
    if state.group_keys != new.group_keys:
        return Change.CHANGED
    return Change.TOUCHED if state.row_key == new.row_key else Change.REWRITTEN


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDocument:
    """What a run would do to one document."""

    key: str
    change: str
    tokens: int
    """To be paid for; 0 where all its vectors are there."""
    renamed_from: str | None = None


@dataclass(slots=True, kw_only=True)
class SourcePlan:
    """What a run over one source would do, with nothing paid and nothing written."""

    source: str
    unchanged: int = 0
    documents: list[PlannedDocument] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)
    """No longer listed, and so many that their removal waits for approval."""
    failures: dict[str, str] = field(default_factory=dict)
    """Why, by key."""
    tokens: int = 0
    cost_usd: float = 0.0
    _counted: set[str] = field(default_factory=set, repr=False)
    """Group keys that were put down already."""

    def owed_by(self, prepared: Prepared, known: Known) -> int:
        """Tokens of the document's groups that are neither known nor put down for another document."""
        owed = 0
        for key, group in zip(prepared.state.group_keys, prepared.groups, strict=True):
            if key not in known and key not in self._counted:
                self._counted.add(key)
                owed += group.tokens
        return owed

    def count(self, change: Change) -> int:
        """How many documents would go this way."""
        return sum(document.change == change.value for document in self.documents)

    def as_json(self) -> dict[str, JsonValue]:
        """All of it, for a program to read."""
        plain = asdict(self)
        del plain["_counted"]
        return plain
