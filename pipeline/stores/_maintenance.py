"""Tending one table thoroughly: what is due, and doing it. Whoever does it has the tables' lease."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.stores import _indexes
from pipeline.stores._core import CoreTable
from pipeline.stores._replacing import IS_TOMB, sweep
from pipeline.stores._upkeep import ALWAYS, Version, optimize, segments, spared, versions
from pipeline.upkeep import Policy, Tended

SPARE_FRAGMENTS = 4
"""Files of rows beyond those that must be: from so many on, they are put together."""
FULL_FRAGMENT = 1_048_576
"""Rows of a file that LanceDB adds none to."""
DELETED_SHARE = 10
"""Rows that were deleted are still read past, until they are one in so many of a file."""
UNINDEXED_ROWS = 100
"""So many may be found by reading them."""
MOST_SEGMENTS = 4
"""Each time that an index of vectors is extended, it gets another segment, and the rows in it stay a file of
their own. With so many it is made anew."""
PROMPTLY = timedelta(minutes=5)
"""Longer than it takes from looking at versions to clearing them away, when all is compacted."""
ORPHANS_AFTER = timedelta(hours=1)
"""A file is left alone for so long: a run that is suspended, and has lost its lease, may still commit it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A table, and how it is to be tended."""

    table: CoreTable
    name: str
    folder: Path | None
    """Where its files are; None on object storage."""
    policy: Policy
    chunks: bool
    alone: bool = False
    """No other run can be writing it."""

    @property
    def bytes(self) -> int | None:
        """All that it takes up."""
        return sum(path.stat().st_size for path in _files(self.folder)) if self.folder else None

    @property
    def quiet(self) -> bool:
        """Nobody can be about to commit a file that no version has yet.

        LanceDB itself waits seven days; on object storage it is left at that.
        """
        if not (self.alone and self.folder):
            return False
        newest = max((path.stat().st_mtime for path in _files(self.folder)), default=0.0)
        return time.time() - newest >= ORPHANS_AFTER.total_seconds()


async def look(subject: Subject) -> Tended:
    """What is due. Writes nothing."""
    table, policy = subject.table, subject.policy
    rows, fragments = await _size(table)
    schema, indexes = await table.schema(), await table.list_indices()
    tombs = await table.count_rows(IS_TOMB) if subject.chunks else 0
    compacted = await _is_scattered(table, rows, fragments, segments(indexes))
    fresh = max((max(0, (index.num_unindexed_rows or 0) - tombs) for index in indexes), default=0)
    extended = fresh if fresh >= UNINDEXED_ROWS else 0
    indexed: tuple[str, ...] = ()
    unindexed: tuple[str, ...] = ()
    if subject.chunks:
        there = {column for index in indexes for column in index.columns}
        indexed = _indexes.missing(rows, schema, there, policy, vectors=True)
        if _indexes.VECTOR in there:
            # What has no vector cannot extend the index: made anew, it covers all there is.
            only_the_turn = fresh == 1 and compacted
            if not _indexes.wants_vectors(rows, policy):
                unindexed = (_indexes.VECTOR,)
            elif segments(indexes) >= MOST_SEGMENTS or only_the_turn:
                indexed = (*indexed, _indexes.VECTOR)
    keep, kept = await spared(table, policy.keep_versions, PROMPTLY)
    kept_versions = await versions(table)
    before = datetime.now(UTC) - keep
    return Tended(
        table=subject.name,
        rows=await table.count_rows("key IS NOT NULL") if subject.chunks else rows,
        swept=tombs,
        compacted=compacted,
        extended=extended,
        indexed=indexed,
        unindexed=unindexed,
        versions=sum(one.written < before for one in kept_versions[:-1]),
        orphans=_strays(subject, kept_versions[0]) if len(kept_versions) == 1 and subject.quiet else 0,
        bytes_before=subject.bytes,
        kept=kept,
    )


async def work(subject: Subject) -> Tended:
    """Do what is due."""
    began, quiet, due = time.monotonic(), subject.quiet, await look(subject)
    if due.idle:
        return replace(due, bytes_after=due.bytes_before, seconds=time.monotonic() - began)
    table = subject.table
    if due.swept:
        await sweep(table)
    await _index(table, due)
    removed, compacted = 0, due.compacted
    if due.versions or due.orphans:
        keep, _ = await spared(table, subject.policy.keep_versions, PROMPTLY)
        stats = await optimize(table, keep, delete_unverified=quiet)
        removed = stats.prune.old_versions_removed
        compacted = compacted or stats.compaction.fragments_removed > 0
    seconds = time.monotonic() - began
    return replace(due, versions=removed, compacted=compacted, bytes_after=subject.bytes, seconds=seconds)


async def _index(table: CoreTable, due: Tended) -> None:
    """Put small files together, and make or extend the indexes that are due."""
    there = {column for index in await table.list_indices() for column in index.columns}
    rows = await table.count_rows(None)
    for column in due.unindexed:
        await table.drop_index(f"{column}_idx")
    for column in (column for column in due.indexed if column in there):
        await _indexes.build(table, column, rows)
    if due.compacted or due.extended:
        await optimize(table, ALWAYS)
    if due.compacted:  # rows that are indexed, and those that were not, could not share a file before
        await optimize(table, ALWAYS)
    for column in (column for column in due.indexed if column not in there):
        await _indexes.build(table, column, rows)


async def _size(table: CoreTable) -> tuple[int, int]:
    """Rows, and the files that they are in."""
    stats = await table.stats()
    return stats["num_rows"], stats["fragment_stats"]["num_fragments"]


async def _is_scattered(table: CoreTable, rows: int, fragments: int, segments: int) -> bool:
    """There are many small files, or many rows in them that were deleted."""
    needed = max(1, -(-rows // FULL_FRAGMENT)) + segments - 1
    newest = (await versions(table))[-1].metadata
    deleted = int(newest.get("total_deletion_file_rows", 0))
    return fragments - needed >= SPARE_FRAGMENTS or deleted * DELETED_SHARE > rows + deleted


def _strays(subject: Subject, version: Version) -> int:
    """Files of rows that the only version has not."""
    if subject.folder is None:
        return 0
    there = sum(path.suffix == ".lance" for path in (subject.folder / "data").rglob("*"))
    return max(0, there - int(version.metadata.get("total_data_files", there)))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
