"""What a run has to do. Pure.

Two decisions, because they are paid in different coin: `survey` before anything is read, from the listing
alone; `decide` after a document was read and grouped, before anything is paid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, field, replace
from enum import Enum

from pipeline.contained import by_container
from pipeline.digest import copy_of, own_row_key
from pipeline.errors import SettingsError, SourceError
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
    held: Mapping[str, Collection[str]]
    """The stored keys of what owed items hold, by their keys."""
    withheld: bool = False
    """Whether their removal waits for approval."""


def survey(
    refs: Iterable[ItemRef],
    marks: Mapping[str, tuple[str, str]],
    recipe: str,
    guard: RemovalGuard,
    *,
    keep: bool = False,
) -> Survey:
    """Compare a complete listing with the stored (version, recipe) of each key.

    With `keep`, what is listed no more stays.

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
    versions = {key: version for key, (version, _) in marks.items() if key not in seen}
    inside = {key for keys in by_container(versions, seen).values() for key in keys}
    removed = () if keep else tuple(key for key in versions if key not in inside)
    return Survey(
        owed=tuple(owed),
        unchanged=len(seen) - len(owed),
        stored=len(marks),
        removed=removed,
        held=by_container(versions, {ref.key for ref in owed}),
        withheld=guard.keeps(removed, 0, len(marks)),
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
    keys: frozenset[str] | None = None
    """Which documents they were asked about; None: about a number alone."""

    def withholds(self, removed: int, stored: int) -> bool:
        """Whether so many removals, of so many stored documents, wait for approval."""
        suspicious = removed > self.documents and removed * 100 > self.percent * stored
        return suspicious and (self.approved is None or removed > self.approved)

    def keeps(self, removed: Collection[str], others: int, stored: int) -> bool:
        """Whether the removal of these keys waits for approval, where `others` go with them."""
        asked = self.keys is None or self.keys.issuperset(removed)
        return self.withholds(len(removed) + others, stored) or not asked


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
    COPY = "copies"
    """Stored without rows: another document has those of the same text."""


def decide(prepared: Prepared, state: DocumentState | None, gone: Mapping[tuple[str, ...], str]) -> Change:
    """What a prepared document needs, from its stored state and the group keys of vanished documents."""
    new = prepared.state
    if state is None and new.group_keys in gone:
        return Change.RENAMED
    if state and (state.group_keys, state.row_key) == (new.group_keys, new.row_key):
        return Change.TOUCHED
    if copy_of(new.row_key):
        return Change.COPY
    if state is None:
        return Change.ADDED
    return Change.CHANGED if state.group_keys != new.group_keys else Change.REWRITTEN


def reason(change: Change, now: DocumentState, before: DocumentState | None) -> str:
    """Why a document is dealt with, in a few words."""
    if change is Change.COPY:
        return f"the same text as {'/'.join(copy_of(now.row_key) or ())}"
    if before and copy_of(before.row_key) and not copy_of(now.row_key):
        return "no copy any more"
    if before is None:
        return "the content of a key that is gone" if change is Change.RENAMED else "new"
    if before.content_key == now.content_key and before.recipe != now.recipe:
        return "other settings or versions"
    if change is Change.CHANGED:
        return "new content"
    return "other metadata, the same text" if change is Change.REWRITTEN else "the same text"


def check_recipe(source: str, planned: str, today: str) -> None:
    """Refuse a plan that was made when documents were treated differently.

    Raises:
        SettingsError: it was.
    """
    if planned != today:
        raise SettingsError(
            f"the plan of {source} was made with other settings of chunking, embedding or metadata, or by "
            "another version: go back to these, or make a new plan"
        )


def marks_of(state: DocumentState) -> str:
    """All that is known of a document, as 32 hex digits: by these a plan knows it again."""
    # Of which document it is a copy, may change with who comes first.
    state = replace(state, row_key=own_row_key(state.row_key))
    known = json.dumps(astuple(state), ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(known.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDocument:
    """What a run would do to one document."""

    key: str
    change: str
    tokens: int
    """To be paid for; 0 where all its vectors are there."""
    reason: str = ""
    renamed_from: str | None = None
    container: str | None = None
    """The item that holds it, where it is not listed itself."""
    before: str | None = None
    """The `marks_of` what is stored of it; None where nothing is."""
    after: str = ""
    """The `marks_of` what would be stored of it."""


@dataclass(slots=True, kw_only=True)
class Owing:
    """Tokens to be paid, where what several documents share is paid once."""

    counted: set[str] = field(default_factory=set)
    """Group keys that were put down already."""

    def by(self, prepared: Prepared, known: Known) -> dict[str, int]:
        """Tokens by group key, of the document's groups that are neither known nor put down for another."""
        groups = zip(prepared.owed_keys, prepared.groups, strict=True)
        return {key: group.tokens for key, group in groups if key not in known and key not in self.counted}


@dataclass(slots=True, kw_only=True)
class SourcePlan:
    """What a run over one source would do, with nothing paid and nothing written."""

    source: str
    recipe: str = ""
    """How documents were treated when it was made."""
    unchanged: int = 0
    documents: list[PlannedDocument] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)
    """No longer listed, and so many that their removal waits for approval."""
    stored: dict[str, str] = field(default_factory=dict)
    """The `marks_of` what is stored under each key that would go, or would be withheld or renamed."""
    failures: dict[str, str] = field(default_factory=dict)
    """Why, by key."""
    tokens: int = 0
    cost_usd: float = 0.0

    def count(self, change: Change) -> int:
        """How many documents would go this way."""
        return sum(document.change == change.value for document in self.documents)

    def as_json(self) -> dict[str, JsonValue]:
        """All of it, for a program to read, but for the marks."""
        plain = asdict(self)
        del plain["stored"]
        for document in plain["documents"]:
            del document["before"], document["after"]
        return plain
