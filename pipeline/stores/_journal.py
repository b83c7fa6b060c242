"""Vectors that were paid for, kept by group key, whatever becomes of their documents: see docs/adr/0005."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from pipeline.records import EmbeddingSpace, Vectors
from pipeline.stores._schema import journal_schema

log = logging.getLogger(__name__)

BESIDE = 64
"""Bytes that are counted for what a row holds beside its vectors: its key, its index in the file."""
LEFT = 0.9
"""The share of its size that a journal has after it was over it: making room costs a compaction."""
FOUND_COLUMNS = ["group_key", "provider", "model", "dimensions", "encoding", "chunks", "vectors"]
AGE_COLUMNS = ["bytes", "kept_at"]


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
