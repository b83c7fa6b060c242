"""Vectors that were paid for, kept by group key, whatever becomes of their documents: see docs/adr/0005."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pyarrow as pa

from pipeline.errors import StoreUnavailable
from pipeline.records import EmbeddingSpace, Vectors
from pipeline.stores import _core
from pipeline.stores._opened import Opened
from pipeline.stores._predicates import among
from pipeline.stores._schema import JOURNAL, LEASE, journal_schema
from pipeline.stores._tables import Tables, repeated
from pipeline.stores._upkeep import SMALL_FRAGMENTS, optimize

log = logging.getLogger(__name__)

BESIDE = 64
"""Bytes that are counted for what a row holds beside its vectors: its key, its index in the file."""
LEFT = 0.9
"""The share of its size that a journal has after it was over it: making room costs a compaction."""
LOOK_AFTER = 50
"""Writes between two looks at how large it has become."""
SCATTERED_SHARE = 1 / 4
"""Compacting writes all of it anew. It waits until so large a share is new, …"""
SCATTERED_FRAGMENTS = 400
"""… or there are so many files: each adds half a millisecond to a look-up."""
KEEP_JOURNAL = timedelta(milliseconds=1)
"""Its earlier versions serve nobody, and hold the space of what was evicted. A look-up or a write that one is
taken from under is repeated."""
FOUND_COLUMNS = ["group_key", "provider", "model", "dimensions", "encoding", "chunks", "vectors"]
AGE_COLUMNS = ["bytes", "kept_at"]


@dataclass(frozen=True, slots=True)
class Due:
    """What makes room in the journal: some of it goes, or none, and the rest is compacted."""

    evicted: datetime | None
    """Up to when what was kept goes; None where all of it stays."""


class Journal:
    """The journal of one database, as a store of one space keeps it."""

    def __init__(self, opened: Opened, space: EmbeddingSpace, most: int) -> None:
        """`most` is the bytes that it may have; at 0 it is left alone, and nothing is looked up there."""
        self._opened = opened
        self._space = space
        self._most = most
        self._writes = 0

    @property
    def is_kept(self) -> bool:
        """Whether it is kept at all."""
        return self._most > 0

    @property
    def wants_a_look(self) -> bool:
        """Whether so much was written since the last look that it is time for another."""
        return self._writes % LOOK_AFTER == 0

    async def find(self, group_keys: Sequence[str]) -> dict[str, Vectors]:
        """The vectors of those of these groups that it has."""
        if not (group_keys and self.is_kept):
            return {}
        return await repeated(partial(self._found, group_keys))

    async def add(self, tables: Tables, vectors: Mapping[str, Vectors]) -> None:
        """Keep vectors by group key: one commit."""
        rows = journal_rows(vectors, self._space)
        await repeated(lambda: tables.append(JOURNAL, rows))
        self._writes += 1

    async def due(self) -> Due | None:
        """What is to be done where it is over its size, or where compacting it pays; None where neither."""
        journal = await self._opened.beside(JOURNAL)
        if journal is None or not self.is_kept:
            return None
        evicted = to_evict(await self._opened.select(JOURNAL, AGE_COLUMNS), self._most)
        return Due(evicted) if evicted or await is_scattered(journal) else None

    async def _found(self, group_keys: Sequence[str]) -> dict[str, Vectors]:
        try:
            if await self._opened.beside(JOURNAL) is None:
                return {}
            rows = await self._opened.select(JOURNAL, FOUND_COLUMNS, among("group_key", group_keys))
        except StoreUnavailable:
            self._opened.forget(JOURNAL)  # somebody may have dropped it
            raise
        return journalled(rows, self._space)


async def make_room(tables: Tables, due: Due) -> None:
    """Do what is due in the journal, unless somebody else is at it."""
    async with tables.lease(LEASE) as ours:
        table = await tables.find(JOURNAL)
        if ours and table:
            if due.evicted:
                await table.delete(f"kept_at <= timestamp '{due.evicted.isoformat()}'")
            await optimize(table, KEEP_JOURNAL)


async def is_scattered(journal: _core.CoreTable) -> bool:
    """Looking up suffers, more than compacting costs."""
    stats = await journal.stats()
    fragments = stats["fragment_stats"]
    new = stats["num_rows"] - fragments["lengths"]["max"]
    return fragments["num_fragments"] >= SCATTERED_FRAGMENTS or (
        fragments["num_fragments"] >= SMALL_FRAGMENTS and new >= stats["num_rows"] * SCATTERED_SHARE
    )


def journal_rows(vectors: Mapping[str, Vectors], space: EmbeddingSpace) -> pa.Table:
    """A row for each group."""
    count = len(vectors)
    data = [array.tobytes() for array in vectors.values()]
    columns: dict[str, list[object]] = {
        "group_key": list(vectors),
        **{name: [value] * count for name, value in asdict(space).items()},
        "chunks": [len(array) for array in vectors.values()],
        "vectors": list(data),
        "bytes": [len(one) + BESIDE for one in data],
        "kept_at": [datetime.now(UTC)] * count,
    }
    return pa.Table.from_pydict(columns, schema=journal_schema(space))


def journalled(rows: pa.Table, space: EmbeddingSpace) -> dict[str, Vectors]:
    """The vectors of each group among rows of `FOUND_COLUMNS`; one that stands there twice is given once.

    A row that is not of the space, or whose bytes do not add up, is as good as none.
    """
    found: dict[str, Vectors] = {}
    for row in rows.to_pylist():
        group_key, chunks, data = row.pop("group_key"), row.pop("chunks"), row.pop("vectors")
        if EmbeddingSpace(**row) != space or len(data) != chunks * space.width * space.dtype.itemsize:
            log.warning("the journal's row of group %s is not of %s: left out", group_key, space)
            continue
        found[group_key] = np.frombuffer(data, space.dtype).reshape(chunks, space.width).copy()
    return found


def to_evict(rows: pa.Table, most: int) -> datetime | None:
    """Up to when what was kept has to go, for the rest to be of `most` bytes with room for more.

    `rows` are of `AGE_COLUMNS`. None where nothing has to.
    """
    sizes = rows["bytes"].to_numpy()
    excess = int(sizes.sum()) - most
    if excess <= 0:
        return None
    ages = rows["kept_at"].cast(pa.int64()).to_numpy()
    oldest_first = np.argsort(ages, kind="stable")
    gone = int(np.searchsorted(np.cumsum(sizes[oldest_first]), excess + most * (1 - LEFT)))
    last = oldest_first[min(gone, len(sizes) - 1)]
    moment: datetime = rows["kept_at"][int(last)].as_py()
    return moment
