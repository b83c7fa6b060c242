"""When a table has become slow enough for tending it to pay, and how that is done."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipeline.errors import StoreUnavailable
from pipeline.stores import _core, _indexes
from pipeline.stores._place import Place
from pipeline.stores._replacing import sweep
from pipeline.upkeep import Policy

log = logging.getLogger(__name__)

SMALL_FRAGMENTS = 20
"""Upkeep waits until so many commits have left a small file each, …"""
UNINDEXED_ROWS = 1_000
"""… or so many rows are found by reading them, not by the index: a search by words takes 46 ms longer, …"""
UNINDEXED_SHARE = 200
"""… and they are one in so many or more: of a large table, compacting rewrites much."""
MOST_SEGMENTS = 16
"""Each time that an index of vectors is extended, it gets another segment, and the rows in it stay a file of
their own. With so many, upkeep makes it anew; `docweave maintain` does so earlier."""

ALWAYS = timedelta(days=36_500)
"""Keeps every version."""
MEANWHILE = timedelta(hours=1)
"""Longer than compacting takes. LanceDB counts the age of versions from when that is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of a table."""

    number: int
    written: datetime
    metadata: Mapping[str, str]


async def is_slow(table: _core.CoreTable) -> bool:
    """Searching it suffers."""
    rows, indexes = await table.count_rows(None), await table.list_indices()
    most = max(UNINDEXED_ROWS, rows // UNINDEXED_SHARE)
    if any((index.num_unindexed_rows or 0) >= most for index in indexes):
        return True
    return segments(indexes) >= MOST_SEGMENTS or await is_split(table, indexes)


async def is_split(table: _core.CoreTable, indexes: Iterable[_core.CoreIndex]) -> bool:
    """Its rows are in many small files, beside those that each segment of the index of vectors must have."""
    small = (await table.stats())["fragment_stats"]["num_small_fragments"]
    return small - segments(indexes) + 1 >= SMALL_FRAGMENTS


@contextmanager
def may_wait(place: Place, what: str) -> Iterator[None]:
    """What is not done now is done by a later run: that others are in the way, or the storage, is logged."""
    try:
        with place.during(what):
            yield
    except StoreUnavailable as error:
        log.warning("left for the next run: %s", error)


async def tend(table: _core.CoreTable, policy: Policy, *, chunks: bool) -> None:
    """Compact, and extend the indexes; of chunks, sweep tombs first, and make the indexes that keys need."""
    if not chunks:
        await _compact(table, policy)
        return
    await sweep(table)
    rows, indexes = await table.count_rows(None), await table.list_indices()
    if is_bare(indexes):
        return
    if segments(indexes) >= MOST_SEGMENTS:
        await _indexes.build(table, _indexes.VECTOR, rows)
    if any(index.num_indexed_rows for index in indexes) or await is_split(table, indexes):
        await _compact(table, policy)
    else:  # After a first ingest. To compact all of it too takes half as long again, and helps nobody yet.
        await _indexes.build_first(table)
    indexed = {column for index in await table.list_indices() for column in index.columns}
    for column in _indexes.missing(rows, await table.schema(), indexed, policy, vectors=False):
        await _indexes.build(table, column, rows)


async def _compact(table: _core.CoreTable, policy: Policy) -> None:
    keep, _ = await spared(table, policy.keep_versions, MEANWHILE)
    await optimize(table, keep)


def segments(indexes: Iterable[_core.CoreIndex]) -> int:
    """Of the index of vectors; 1 where there is none."""
    return max(
        (index.num_segments or 1 for index in indexes if index.name == _indexes.VECTOR_INDEX), default=1
    )


async def optimize(
    table: _core.CoreTable, keep: timedelta, *, delete_unverified: bool = False
) -> _core.CoreOptimized:
    """Compact, extend the indexes, and clear away the versions that are older than this."""
    keep_ms = round(keep / timedelta(milliseconds=1))
    return await table.optimize(cleanup_since_ms=keep_ms, delete_unverified=delete_unverified)


async def versions(table: _core.CoreTable) -> list[Version]:
    """Those that are kept, oldest first."""
    return [
        Version(
            number=one["version"],
            written=datetime.fromtimestamp(one["timestamp"] / 1e9, UTC),
            metadata=one["metadata"],
        )
        for one in await table.list_versions()
    ]


def is_bare(indexes: Iterable[_core.CoreIndex]) -> bool:
    """Nothing but the turn, which has no vector, is new to the index of vectors.

    Then Lance cannot extend it, and extends none of the others. (LanceDB 0.40: "Not found: …/ivf_0.lance")
    """
    return any(index.num_unindexed_rows == 1 for index in indexes if index.name == _indexes.VECTOR_INDEX)


async def spared(table: _core.CoreTable, keep: timedelta, margin: timedelta) -> tuple[timedelta, str]:
    """How old versions may become, for no tagged one to be older; and why that is more than `keep`, if it is.

    LanceDB clears nothing away, and extends no index, where a version that is tagged would have to go; and it
    cannot leave that one out.

    Args:
        table: Whose versions these are.
        keep: How old they may become as it is.
        margin: How long it may take until LanceDB looks at their ages.
    """
    tags = await table.tags.list()
    if not tags:
        return keep, ""
    written = {version.number: version.written for version in await versions(table)}
    now = datetime.now(UTC)
    ages = {name: now - written[tag["version"]] for name, tag in tags.items() if tag["version"] in written}
    name, age = max(ages.items(), key=lambda one: one[1], default=("", timedelta()))
    if age + margin <= keep:
        return keep, ""
    version = tags[name]["version"]
    return age + margin, f"version {version} has the tag {name!r}: it and all that came after it are kept"
