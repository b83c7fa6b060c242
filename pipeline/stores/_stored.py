"""Reading documents as they are stored, both tables beside each other, in memory that does not grow."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from pipeline.records import Chunk, DocumentState, Metadata, Vectors
from pipeline.stored import ABSENT, About, Moment, Stored, StoredChunk, StoredMarks
from pipeline.stores import _core
from pipeline.stores._column_fields import known
from pipeline.stores._predicates import among, literal

TOGETHER = 1_024
"""Rows that are read at a time, of either table; more only where one document has more."""
NAMED = 100
"""Documents that are read at a time when they are asked for by name."""
LOOKS = 200
"""Versions of the documents table that are looked at for a document's history, at most; where it changed more
often than that, not each change is told."""
IS_COPY = "row_key LIKE '% copy of %'"
"""As `digest.as_copy` has it."""
IS_CHUNK = "key IS NOT NULL"
"""The chunks table has rows that are none, see `_replacing`."""
CHUNK_COLUMNS = [
    *("key", "ordinal", "text", "start", "end", "tokens", "heading_path", "page"),
    *("title", "url", "media_type", "metadata", "access", "group_key", "group_ordinal", "vector"),
    *("line", "last_line", "anchor"),
]
MARKS_COLUMNS = [
    *("source", "key", "version", "recipe", "content_key", "group_keys", "row_key"),
    *("title", "url", "media_type", "metadata", "access", "chunk_count", "tokens", "updated_at"),
]

Value: TypeAlias = str | int | float | list[str] | datetime | None
Row: TypeAlias = dict[str, Value]


async def sources(tables: Iterable[_core.CoreTable]) -> list[str]:
    """Every source that has a row in one of these tables."""
    found: set[str] = set()
    for table in tables:
        query = table.query()
        query.where(f"{IS_CHUNK} AND source IS NOT NULL")
        query.select_columns(["source"])
        async for batch in await query.execute():
            found |= set(batch["source"].unique().to_pylist())
    return sorted(found)


async def ranges(tables: Iterable[_core.CoreTable], source: str) -> list[str]:
    """Predicates that cover the source's keys, each about as many rows as are read at a time.

    The keys are read in their order, which LanceDB brings them into, and none but the cuts are kept: one in
    `TOGETHER`. To read whole rows in that order would have it sort the vectors, too.
    """
    cuts: set[str] = set()
    for table in tables:
        query = table.query()
        query.where(f"source = {literal(source)} AND {IS_CHUNK}")
        query.select_columns(["key"])
        query.order_by([{"column_name": "key", "ascending": True, "nulls_first": False}])
        seen, last = 0, ""
        async for batch in await query.execute():
            for key in batch["key"].to_pylist():
                if seen >= TOGETHER and key != last:
                    cuts.add(last)
                    seen = 0
                seen, last = seen + 1, key
    ends = ["", *sorted(cuts)]
    inner = [f"key > {literal(a)} AND key <= {literal(b)}" for a, b in pairwise(ends)]
    rest = f"key > {literal(ends[-1])}" if len(ends) > 1 else IS_CHUNK
    if inner:
        inner[0] = f"key <= {literal(ends[1])}"  # the empty key, too
    return [f"source = {literal(source)} AND {part}" for part in [*inner, rest]]


def some(source: str, keys: Sequence[str]) -> list[str]:
    """Predicates that name these keys, not too many each."""
    parts = (keys[start : start + NAMED] for start in range(0, len(keys), NAMED))
    return [f"source = {literal(source)} AND {among('key', part)}" for part in parts]


async def rows_of(table: _core.CoreTable, columns: list[str], where: str) -> pa.Table:
    """These columns of the rows for which `where` holds, as far as the table has them."""
    return await _core.selected(table, known(columns, await table.schema()), where)


async def marks(table: _core.CoreTable, where: str | None) -> AsyncIterator[StoredMarks]:
    """The rows of a documents table."""
    query = table.query()
    query.select_columns(known(MARKS_COLUMNS, await table.schema()))
    if where:
        query.where(where)
    said: dict[str, Metadata] = {}
    async for batch in await query.execute():
        for row in batch.to_pylist():
            yield _marks(row, said)
        said.clear()


def put_together(source: str, chunks: pa.Table, documents: pa.Table) -> Iterator[Stored]:
    """The documents of one source that these rows are of, in the order of their keys.

    Args:
        source: That they are all of.
        chunks: `CHUNK_COLUMNS`.
        documents: `MARKS_COLUMNS`.
    """
    vectors, missing = _vectors(chunks["vector"])
    said: dict[str, Metadata] = {}
    marked: dict[str, list[StoredMarks]] = {}
    for row in documents.to_pylist():
        marked.setdefault(row["key"], []).append(_marks(row, said))
    places: dict[str, list[tuple[int, int, StoredChunk]]] = {}
    for place, row in enumerate(chunks.drop_columns("vector").to_pylist()):
        chunk = _chunk(row, said)
        places.setdefault(row["key"], []).append((chunk.chunk.ordinal, place, chunk))
    for key in sorted({*marked, *places}):
        found = sorted(places.get(key, ()), key=lambda one: one[:2])
        at = [place for _, place, _ in found]
        yield Stored(
            source=source,
            key=key,
            marks=tuple(marked.get(key, ())),
            chunks=tuple(chunk for _, _, chunk in found),
            vectors=vectors[at],
            without_vector=frozenset(n for n, place in enumerate(at) if missing[place]),
        )


async def history(table: _core.CoreTable, source: str, key: str) -> list[Moment]:
    """What the table's kept versions held of a document, oldest first: only where it became another.

    Looks at few of the versions: between two that held the same, it takes the document to have been so all
    the time. (A row that is written again has another moment of writing.)

    Args:
        table: A handle of its own: it is moved through the versions.
        source: Of the document.
        key: Of the document.
    """
    where = f"source = {literal(source)} AND key = {literal(key)}"
    versions = sorted((one["version"], one["timestamp"]) for one in await table.list_versions())
    held: dict[int, StoredMarks | None] = {}

    async def look(place: int) -> StoredMarks | None:
        if place not in held:
            await table.checkout(versions[place][0])
            rows = (await rows_of(table, MARKS_COLUMNS, where)).to_pylist()
            held[place] = _marks(rows[0], {}) if rows else None
        return held[place]

    changed = [0] if await look(0) else []
    spans = [(0, len(versions) - 1)]
    while spans:
        first, last = spans.pop()
        if await look(first) == await look(last):
            continue
        if last - first == 1 or len(held) >= LOOKS:
            changed.append(last)
            continue
        middle = (first + last) // 2
        spans += [(first, middle), (middle, last)]
    return [
        Moment(
            version=versions[place][0],
            at=datetime.fromtimestamp(versions[place][1] / 1e9, UTC),
            marks=held[place],
            is_change=place > 0,
        )
        for place in sorted(changed)
    ]


def _vectors(column: pa.ChunkedArray) -> tuple[Vectors, list[bool]]:
    """As they are stored, one row each, and which of them are NULL."""
    width = column.type.list_size
    parts = [
        part.values.slice(part.offset * width, len(part) * width).to_numpy(zero_copy_only=False)
        for part in column.chunks
    ]
    flat = np.concatenate(parts) if parts else np.empty(0, column.type.value_type.to_pandas_dtype())
    return flat.reshape(-1, width), column.is_null().to_pylist()


def _chunk(row: Mapping[str, Value], said: dict[str, Metadata]) -> StoredChunk:
    return StoredChunk(
        chunk=Chunk(
            ordinal=_number(row["ordinal"]),
            start=_number(row["start"]),
            end=_number(row["end"]),
            text=_text(row["text"]),
            tokens=_number(row["tokens"]),
            heading_path=_texts(row["heading_path"]),
            page=_counted(row["page"]),
            line=_counted(row.get("line")),
            last_line=_counted(row.get("last_line")),
            anchor=_text(row.get("anchor")) or None,
        ),
        about=_about(row, said),
        group_key=_text(row["group_key"]),
        group_ordinal=_number(row["group_ordinal"]),
    )


def _marks(row: Mapping[str, Value], said: dict[str, Metadata]) -> StoredMarks:
    written = row["updated_at"]
    return StoredMarks(
        state=DocumentState(
            source=_text(row["source"]),
            key=_text(row["key"]),
            version=_text(row["version"]),
            recipe=_text(row["recipe"]),
            content_key=_text(row["content_key"]),
            group_keys=_texts(row["group_keys"]),
            row_key=_text(row["row_key"]),
        ),
        about=_about(row, said),
        chunk_count=_number(row["chunk_count"]),
        tokens=_number(row["tokens"]),
        updated_at=written if isinstance(written, datetime) else None,
    )


def _about(row: Mapping[str, Value], said: dict[str, Metadata]) -> About:
    """Metadata that repeats is read once."""
    metadata = _text(row["metadata"])
    if metadata not in said:
        said[metadata] = json.loads(metadata or "{}")
    return About(
        title=_text(row["title"]),
        url=row["url"] if isinstance(row["url"], str) else None,
        media_type=_text(row["media_type"]),
        metadata=said[metadata],
        access=_texts(row.get("access")),
    )


def _text(value: Value) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Value) -> int:
    return value if isinstance(value, int) else ABSENT


def _counted(value: Value) -> int | None:
    return value if isinstance(value, int) else None


def _texts(value: Value) -> tuple[str, ...]:
    return tuple(map(_text, value)) if isinstance(value, list) else ()
