"""Putting documents in place of others: one commit, at a cost that follows the batch and not the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lancedb import AsyncTable

TURN = ".turn"
"""The id of the row that every merge rewrites. No chunk is called so: theirs hold "/" and "#"."""
TOMBS = f"key IS NULL AND id <> '{TURN}'"


async def sweep(table: AsyncTable) -> int:
    """Delete the tombs of a chunks table: before it is compacted, for Lance cannot index tombs alone.

    Returns:
        How many there were; without any, nothing is committed.
    """
    tombs = await table.count_rows(TOMBS)
    if tombs:
        await table.delete(TOMBS)
    return tombs
