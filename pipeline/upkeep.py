"""What upkeep is to keep to, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta

from pipeline.records import JsonValue

VECTOR_ROWS = 100_000
"""Chunks from which on an index of the vectors pays: comparing them all takes a third of a second then."""
LOOKUP_ROWS = 100_000
"""Chunks from which on an index finds a key sooner than reading all keys does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What upkeep keeps to."""

    keep_versions: timedelta = timedelta(days=1)
    """Earlier versions of a table stay for so long: readers may still be at one."""
    keep_previous: timedelta = timedelta(days=30)
    """The tables from before a rebuild stay for so long, to go back to."""
    vector_rows: int | None = VECTOR_ROWS
    """Chunks from which on the vectors have an index; None: they have none."""
    lookup_rows: int = LOOKUP_ROWS
    """Chunks from which on keys have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tended:
    """What was done for one table, or is due."""

    table: str
    rows: int
    """Without tombs."""
    swept: int = 0
    """Tombs: what replaced rows leave behind."""
    compacted: bool = False
    """Small files were put together, or rows that were deleted left out."""
    extended: int = 0
    """Rows that indexes did not cover."""
    indexed: tuple[str, ...] = ()
    """Columns whose indexes were made, or made anew."""
    unindexed: tuple[str, ...] = ()
    """Columns whose indexes were dropped."""
    versions: int = 0
    """Earlier versions that went."""
    orphans: int = 0
    """Files that no version has, left by writers that were killed. Counted where just one version is left."""
    dropped: bool = False
    """The table went, as a whole."""
    bytes_before: int | None = None
    """All that it takes up; None where the storage does not tell."""
    bytes_after: int | None = None
    kept: str = ""
    """What was left as it is, and why."""
    seconds: float = 0.0

    @property
    def idle(self) -> bool:
        """There was nothing to do."""
        done = (self.swept, self.compacted, self.extended, self.indexed, self.unindexed, self.versions)
        return not (any(done) or self.orphans or self.dropped)

    def as_json(self) -> Mapping[str, JsonValue]:
        """All of it, for a program to read."""
        lists: dict[str, JsonValue] = {"indexed": [*self.indexed], "unindexed": [*self.unindexed]}
        return {**asdict(self), **lists}
