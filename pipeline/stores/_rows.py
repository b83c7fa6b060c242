"""Documents to rows, and rows to records. Column by column: no Python object stands for a vector's number."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from pipeline.records import (
    Column,
    DocumentState,
    Embedded,
    EmbeddingSpace,
    Failure,
    Hit,
    JsonValue,
    LatestRun,
    Metadata,
    Prepared,
    Spending,
    Vectors,
)
from pipeline.stored import address
from pipeline.stores._column_fields import with_columns
from pipeline.stores._columns import Value, value
from pipeline.stores._schema import chunks_schema, documents_schema, runs_schema, spending_schema, stored_type
from pipeline.stores._text import well_formed as _well_formed

VECTOR = "vector"
HIT_COLUMNS = [
    "source",
    "key",
    "ordinal",
    "text",
    "title",
    "heading_path",
    "page",
    "start",
    "end",
    "url",
    "metadata",
    "media_type",
    "tokens",
    "line",
    "last_line",
    "anchor",
]
STATE_COLUMNS = ["source", "key", "version", "recipe", "content_key", "group_keys", "row_key"]
SPENDING_COLUMNS = [field.name for field in fields(Spending)]
RUN_COLUMNS = [field.name for field in fields(LatestRun)]
VECTOR_COLUMNS = ["source", "key", "ordinal", "group_key", "group_ordinal", "vector"]


def chunk_rows(
    documents: Sequence[Embedded], space: EmbeddingSpace, declared: Sequence[Column] = ()
) -> pa.Table:
    """A row for each chunk of these documents; `declared` are the columns that the table has of metadata."""
    chunks = [
        (document.prepared, chunk, key, number)
        for document in documents
        for number, (group, key) in enumerate(
            zip(document.prepared.groups, document.prepared.owed_keys, strict=True)
        )
        for chunk in group.chunks
    ]
    metadata = {id(document): _json(document.prepared.metadata) for document in documents}
    of_chunk = [metadata[id(d)] for d in documents for group in d.prepared.groups for _ in group.chunks]
    schema = with_columns(chunks_schema(space), declared)
    columns: dict[str, Sequence[object] | pa.Array] = {
        "id": [f"{_id(d.state)}#{c.ordinal}" for d, c, _, _ in chunks],
        "source": [d.state.source for d, _, _, _ in chunks],
        "key": [d.state.key for d, _, _, _ in chunks],
        "ordinal": [c.ordinal for _, c, _, _ in chunks],
        "text": [_well_formed(c.text) for _, c, _, _ in chunks],
        "vector": _vector_column(documents, space),
        "title": [_well_formed(d.title) for d, _, _, _ in chunks],
        "heading_path": [[_well_formed(h) for h in c.heading_path] for _, c, _, _ in chunks],
        "headings": [_well_formed(_headings(d.title, c.heading_path)) for d, c, _, _ in chunks],
        "page": [c.page for _, c, _, _ in chunks],
        "start": [c.start for _, c, _, _ in chunks],
        "end": [c.end for _, c, _, _ in chunks],
        "tokens": [c.tokens for _, c, _, _ in chunks],
        "url": [d.url and _well_formed(d.url) for d, _, _, _ in chunks],
        "media_type": [d.media_type for d, _, _, _ in chunks],
        "metadata": of_chunk,
        "group_key": [key for _, _, key, _ in chunks],
        "group_ordinal": [number for _, _, _, number in chunks],
        "access": [_labels(d) for d, _, _, _ in chunks],
        "line": [c.line for _, c, _, _ in chunks],
        "last_line": [c.last_line for _, c, _, _ in chunks],
        "anchor": [c.anchor and _well_formed(c.anchor) for _, c, _, _ in chunks],
        **_declared(declared, of_chunk),
    }
    return _table(columns, schema)


def document_rows(
    documents: Sequence[Prepared], space: EmbeddingSpace, declared: Sequence[Column] = ()
) -> pa.Table:
    """A row for each of these documents; `declared` as in `chunk_rows`."""
    schema = with_columns(documents_schema(space), declared)
    now = datetime.now(UTC)
    metadata = [_json(d.metadata) for d in documents]
    columns: dict[str, Sequence[object] | pa.Array] = {
        **_marks([d.state for d in documents]),
        "title": [_well_formed(d.title) for d in documents],
        "url": [d.url and _well_formed(d.url) for d in documents],
        "media_type": [d.media_type for d in documents],
        "metadata": metadata,
        "chunk_count": [sum(len(group.chunks) for group in d.groups) for d in documents],
        "tokens": [sum(group.tokens for group in d.groups) for d in documents],
        "updated_at": [now for _ in documents],
        "access": [_labels(d) for d in documents],
        **_declared(declared, metadata),
    }
    return _table(columns, schema)


def state_rows(states: Sequence[DocumentState], space: EmbeddingSpace) -> pa.Table:
    """The columns of the documents table that hold the marks, and no other."""
    columns = _marks(states)
    whole = documents_schema(space)
    return _table(columns, pa.schema([whole.field(name) for name in columns]))


def spending_row(spending: Spending, space: EmbeddingSpace) -> pa.Table:
    """The one row that tells of it."""
    columns = asdict(spending) | {"source": _well_formed(spending.source)}
    return pa.Table.from_pylist([columns], schema=spending_schema(space))


def run_row(run: LatestRun, space: EmbeddingSpace) -> pa.Table:
    """The row, its counts and its failures as JSON."""
    failures = [asdict(failure) for failure in run.failures]
    columns = asdict(run) | {
        "source": _well_formed(run.source),
        "error": run.error and _well_formed(run.error),
        "counts": json.dumps(dict(run.counts)),
        "failures": _well_formed(json.dumps(failures, ensure_ascii=False)),
    }
    return pa.Table.from_pylist([columns], schema=runs_schema(space))


def runs(rows: pa.Table) -> list[LatestRun]:
    """Of the rows of the table, by source."""
    return [
        LatestRun(
            **row
            | {
                "counts": json.loads(row["counts"]),
                "failures": tuple(Failure(**failure) for failure in json.loads(row["failures"])),
            }
        )
        for row in rows.sort_by("source").to_pylist()
    ]


def hits(rows: pa.Table, scores: Iterable[float]) -> list[Hit]:
    """A hit for each row of `HIT_COLUMNS`, or those that there are, with its vector where that is there."""
    vectors = _as_stored(rows[VECTOR]) if VECTOR in rows.column_names else [None] * len(rows)
    there = [name for name in HIT_COLUMNS if name in rows.column_names]
    return [
        Hit(
            score=score,
            url=address(row.pop("url"), row.pop("anchor", None)),
            heading_path=tuple(row.pop("heading_path") or ()),
            metadata=json.loads(row.pop("metadata") or "{}"),
            media_type=row.pop("media_type") or "",
            tokens=row.pop("tokens") or 0,
            vector=vector,
            **row,
        )
        for row, score, vector in zip(rows.select(there).to_pylist(), scores, vectors, strict=True)
    ]


def _as_stored(column: pa.ChunkedArray) -> Vectors:
    """Shape (rows, width), of the numbers as they are stored. None of the rows has NULL for a vector."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    numbers: Vectors = flat.reshape(len(column), column.type.list_size)
    return numbers


def states(rows: pa.Table) -> Iterator[DocumentState]:
    """A state for each row of `STATE_COLUMNS`."""
    for row in rows.to_pylist():
        yield DocumentState(group_keys=tuple(row.pop("group_keys") or ()), **row)


def vectors(rows: pa.Table, space: EmbeddingSpace) -> dict[str, Vectors]:
    """The vectors of each group among rows of `VECTOR_COLUMNS`, in the order of their chunks.

    A group may stand in several documents, and several times in one: the longest that has no gap is taken.
    """
    places = zip(*(rows[name].to_pylist() for name in VECTOR_COLUMNS[:5]), strict=True)
    groups: dict[tuple[str, str, str, int], list[tuple[int, int]]] = {}
    for row, (source, key, ordinal, group_key, number) in enumerate(places):
        groups.setdefault((group_key, source, key, number), []).append((ordinal, row))
    whole: dict[str, list[tuple[int, int]]] = {}
    for (group_key, *_), chunks in groups.items():
        chunks.sort()
        gapless = chunks[-1][0] - chunks[0][0] + 1 == len(chunks)
        if gapless and len(chunks) > len(whole.get(group_key, ())):
            whole[group_key] = chunks
    stored = _numbers(rows["vector"], space)
    return {group_key: stored[[row for _, row in chunks]] for group_key, chunks in whole.items()}


def _numbers(column: pa.ChunkedArray, space: EmbeddingSpace) -> Vectors:
    """Exactly what was stored: float16 holds every int8."""
    parts = [part.flatten().to_numpy(zero_copy_only=False) for part in column.chunks]
    flat = np.concatenate(parts) if parts else np.empty(0)
    return flat.astype(space.dtype, copy=False).reshape(-1, space.width)


def _vector_column(documents: Sequence[Embedded], space: EmbeddingSpace) -> pa.Array:
    kind = stored_type(space)
    arrays = [vectors for document in documents for vectors in document.vectors]
    numbers = np.concatenate(arrays) if arrays else np.empty((0, space.width))
    flat = pa.array(numbers.astype(kind.to_pandas_dtype(), copy=False).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, space.width)


def _declared(columns: Sequence[Column], texts: Sequence[str]) -> dict[str, list[Value | None]]:
    """The values of declared columns, from the metadata as it is stored."""
    read: dict[str, Metadata] = {text: json.loads(text) for text in set(texts)} if columns else {}
    values = {column.name: {text: value(column, read[text]) for text in read} for column in columns}
    return {name: [of[text] for text in texts] for name, of in values.items()}


def _marks(states: Sequence[DocumentState]) -> dict[str, Sequence[object] | pa.Array]:
    return {
        "id": [_id(state) for state in states],
        "source": [state.source for state in states],
        "key": [state.key for state in states],
        "version": [state.version for state in states],
        "recipe": [state.recipe for state in states],
        "content_key": [state.content_key for state in states],
        "group_keys": [list(state.group_keys) for state in states],
        "row_key": [state.row_key for state in states],
    }


def _labels(document: Prepared) -> list[str] | None:
    return [*document.access] or None


def _id(state: DocumentState) -> str:
    return f"{state.source}/{state.key}"


def _headings(title: str, path: tuple[str, ...]) -> str:
    """What stands above a chunk, for full-text search: each line once."""
    return "\n".join(dict.fromkeys([title, *path]))


def _table(columns: dict[str, Sequence[object] | pa.Array], schema: pa.Schema) -> pa.Table:
    arrays = [_array(columns[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: Sequence[object] | pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    return pa.array(values, kind)


def _json(metadata: Metadata) -> str:
    try:
        text = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False)
    except ValueError:  # JSON knows no NaN and no infinity
        text = json.dumps(_finite(dict(metadata)), ensure_ascii=False)
    return _well_formed(text)


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list) else value
