"""The tables' columns, and what is pinned to them. docs/tables.md describes them for whoever opens them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import pyarrow as pa

from pipeline.errors import StoreRefused
from pipeline.records import EmbeddingSpace

VERSION = 1
"""Of the tables' form. Tables of a later one are refused."""
VERSION_KEY = b"docweave.schema"
SPACE_KEY = b"docweave.space"
PRIMARY_KEY = {b"lance-schema:unenforced-primary-key:position": b"1"}
"""Tells Lance that two writers must not both insert the same id. Set as the table is made: one commit."""
TEXT_COLUMNS = ("text", "headings")
"""What a search by words looks at, each with its index; a chunk's scores in them are added."""


@dataclass(frozen=True, slots=True)
class Names:
    """Which two tables are meant."""

    chunks: str
    documents: str

    @property
    def both(self) -> tuple[str, str]:
        """Chunks, then documents: the order in which they are written."""
        return self.chunks, self.documents


LIVE = Names("chunks", "documents")
STAGED = Names("chunks_next", "documents_next")
"""Where a rebuild is written until it is published."""


def schema_of(name: str, space: EmbeddingSpace) -> pa.Schema:
    """Of any of the tables, by its name."""
    return (chunks_schema if name in (LIVE.chunks, STAGED.chunks) else documents_schema)(space)


def chunks_schema(space: EmbeddingSpace) -> pa.Schema:
    """One row a chunk."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False, metadata=PRIMARY_KEY),
            pa.field("source", pa.string()),
            pa.field("key", pa.string()),
            pa.field("ordinal", pa.int32()),
            pa.field("text", pa.string()),
            pa.field("vector", pa.list_(pa.float16(), space.dimensions)),
            pa.field("title", pa.string()),
            pa.field("heading_path", pa.list_(pa.string())),
            pa.field("headings", pa.string()),
            pa.field("page", pa.int32()),
            pa.field("start", pa.int64()),
            pa.field("end", pa.int64()),
            pa.field("tokens", pa.int32()),
            pa.field("url", pa.string()),
            pa.field("media_type", pa.string()),
            pa.field("metadata", pa.json_()),
            pa.field("group_key", pa.string()),
            pa.field("group_ordinal", pa.int32()),
        ],
        metadata=_pinned(space),
    )


def documents_schema(space: EmbeddingSpace) -> pa.Schema:
    """One row a document."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False, metadata=PRIMARY_KEY),
            pa.field("source", pa.string()),
            pa.field("key", pa.string()),
            pa.field("version", pa.string()),
            pa.field("recipe", pa.string()),
            pa.field("content_key", pa.string()),
            pa.field("group_keys", pa.list_(pa.string())),
            pa.field("row_key", pa.string()),
            pa.field("title", pa.string()),
            pa.field("url", pa.string()),
            pa.field("media_type", pa.string()),
            pa.field("metadata", pa.json_()),
            pa.field("chunk_count", pa.int32()),
            pa.field("tokens", pa.int64()),
            pa.field("updated_at", pa.timestamp("us", tz="UTC")),
        ],
        metadata=_pinned(space),
    )


def pinned_space(schema: pa.Schema, table: str) -> EmbeddingSpace:
    """The space of a table's vectors.

    Raises:
        StoreRefused: the table is not one of ours, or of a later form.
    """
    metadata = schema.metadata or {}
    if VERSION_KEY not in metadata or SPACE_KEY not in metadata:
        raise StoreRefused(
            f'the table "{table}" was not made by Docweave: nothing is pinned to its schema. '
            "Choose another store.uri, or move that table away"
        )
    version = int(metadata[VERSION_KEY])
    if version > VERSION:
        raise StoreRefused(
            f'the table "{table}" has form {version}, and this Docweave knows forms up to {VERSION}: '
            "use the Docweave that wrote it, or a later one"
        )
    return EmbeddingSpace(**json.loads(metadata[SPACE_KEY]))


def _pinned(space: EmbeddingSpace) -> dict[bytes, bytes]:
    return {VERSION_KEY: str(VERSION).encode(), SPACE_KEY: json.dumps(asdict(space)).encode()}
