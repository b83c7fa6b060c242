"""When a table has become slow enough for compacting it to pay, and what may still read its past."""

from __future__ import annotations

from datetime import timedelta

from pipeline.stores import _core

SMALL_FRAGMENTS = 20
"""Upkeep waits until so many commits have left a small file each, …"""
UNINDEXED_ROWS = 1_000
"""… or so many rows are found by reading them, not by the index: a search by words takes 46 ms longer, …"""
UNINDEXED_SHARE = 200
"""… and they are one in so many or more: of a large table, compacting rewrites much."""
KEEP_VERSIONS = timedelta(days=1)
"""Readers may still be at an older version."""

SCATTERED_SHARE = 1 / 4
"""Compacting the journal writes all of it anew. It waits until so large a share is new, …"""
SCATTERED_FRAGMENTS = 400
"""… or there are so many files: each adds half a millisecond to a look-up."""
KEEP_JOURNAL = timedelta(milliseconds=1)
"""Its earlier versions serve nobody, and hold the space of what was evicted. A look-up or a write that one is
taken from under is repeated."""


async def is_slow(table: _core.CoreTable) -> bool:
    """Searching it suffers."""
    stats = await table.stats()
    if stats["fragment_stats"]["num_small_fragments"] >= SMALL_FRAGMENTS:
        return True
    indexes = [await table.index_stats(index.name) for index in await table.list_indices()]
    most = max(UNINDEXED_ROWS, stats["num_rows"] // UNINDEXED_SHARE)
    return any(index["num_unindexed_rows"] >= most for index in indexes if index)


async def is_scattered(journal: _core.CoreTable) -> bool:
    """Looking up suffers, more than compacting costs."""
    stats = await journal.stats()
    fragments = stats["fragment_stats"]
    new = stats["num_rows"] - fragments["lengths"]["max"]
    return fragments["num_fragments"] >= SCATTERED_FRAGMENTS or (
        fragments["num_fragments"] >= SMALL_FRAGMENTS and new >= stats["num_rows"] * SCATTERED_SHARE
    )
