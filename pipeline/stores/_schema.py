"""The tables' columns, and what is pinned to them. docs/tables.md describes them for whoever opens them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import get_args

import pyarrow as pa

from pipeline.errors import StoreRefused
from pipeline.records import EmbeddingSpace, Encoding

VERSION = 3
"""Of the tables' form. Tables of a later one are refused. Those of form 2 lack the columns of `LATER`, those
of form 1 the turn too; the first write gives them these."""
ACCESS = "access"
VERSION_KEY = b"docweave.schema"
SPACE_KEY = b"docweave.space"
LATER: Mapping[str, Mapping[str, pa.DataType]] = {
    "chunks": {
        ACCESS: pa.list_(pa.string()),
        "line": pa.int32(),
        "last_line": pa.int32(),
        "anchor": pa.string(),
    },
    "documents": {ACCESS: pa.list_(pa.string())},
}
"""Columns that came with form 3. NULL where there is nothing to say: so are rows that were there before."""
PRIMARY_KEY = {b"lance-schema:unenforced-primary-key:position": b"1"}
"""Tells Lance that two writers must not both insert the same id. Set as the table is made: one commit."""
TEXT_COLUMNS = ("text", "headings")
"""What a search by words looks at, each with its index; a chunk's scores in them are added."""


@dataclass(frozen=True, slots=True)
class Names:
    """The two tables of a generation: the first has plain names, which most databases never leave."""

    generation: int = 0

    @property
    def chunks(self) -> str:
        """A row a passage."""
        return f"chunks_{self.generation}" if self.generation else "chunks"

    @property
    def documents(self) -> str:
        """A row a document."""
        return f"documents_{self.generation}" if self.generation else "documents"

    @property
    def both(self) -> tuple[str, str]:
        """Chunks, then documents: the order in which they are written."""
        return self.chunks, self.documents


LIVE = "live"
"""Which generation is searched; one row."""
JOURNAL = "journal"
"""Vectors of all spaces, by group key."""
LEASE = "journal_lease"
"""There while the journal is compacted: of two who do so at once, one leaves all that it wrote behind."""
SPENDING = "spending"
"""What was paid, for all spaces."""
RUNS = "runs"
"""How the latest run over each source went."""
LEASES = "leases"
"""Who writes: one row for each of `LEASED`."""
LEASED = ("live", "staged")
"""The pairs of tables that may be written at the same time."""


def schema_of(name: str, space: EmbeddingSpace) -> pa.Schema:
    """Of any of the tables, by its name."""
    return _SCHEMAS[kind_of(name)](space)


def kind_of(name: str) -> str:
    """What a table holds, whatever its generation: chunks, documents, or another's name."""
    return name.partition("_")[0]


def stored_type(space: EmbeddingSpace) -> pa.DataType:
    """Of one of a vector's numbers. int8 cannot be searched, and float16 holds every code exactly."""
    return pa.uint8() if space.encoding == "binary" else pa.float16()


def chunks_schema(space: EmbeddingSpace) -> pa.Schema:
    """One row a chunk."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False, metadata=PRIMARY_KEY),
            pa.field("source", pa.string()),
            pa.field("key", pa.string()),
            pa.field("ordinal", pa.int32()),
            pa.field("text", pa.string()),
            pa.field("vector", pa.list_(stored_type(space), space.width)),
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
            *(pa.field(name, kind) for name, kind in LATER["chunks"].items()),
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
            *(pa.field(name, kind) for name, kind in LATER["documents"].items()),
        ],
        metadata=_pinned(space),
    )


def journal_schema(_: EmbeddingSpace) -> pa.Schema:
    """One row a group, of whatever space."""
    return pa.schema(
        [
            pa.field("group_key", pa.string()),
            pa.field("provider", pa.string()),
            pa.field("model", pa.string()),
            pa.field("dimensions", pa.int32()),
            pa.field("encoding", pa.string()),
            pa.field("chunks", pa.int32()),
            pa.field("vectors", pa.large_binary()),
            pa.field("bytes", pa.int64()),
            pa.field("kept_at", pa.timestamp("us", tz="UTC")),
        ],
        metadata=_FORM,
    )


def spending_schema(_: EmbeddingSpace) -> pa.Schema:
    """One row a run over a source."""
    return pa.schema(
        [
            pa.field("at", pa.timestamp("us", tz="UTC")),
            pa.field("source", pa.string()),
            pa.field("provider", pa.string()),
            pa.field("model", pa.string()),
            pa.field("requests", pa.int64()),
            pa.field("counted", pa.int64()),
            pa.field("tokens", pa.int64()),
            pa.field("highest_ratio", pa.float64()),
            pa.field("cost_usd", pa.float64()),
        ],
        metadata=_FORM,
    )


def runs_schema(_: EmbeddingSpace) -> pa.Schema:
    """One row a source: its latest run."""
    return pa.schema(
        [
            pa.field("source", pa.string()),
            pa.field("at", pa.timestamp("us", tz="UTC")),
            pa.field("seconds", pa.float64()),
            pa.field("error", pa.string()),
            pa.field("succeeded_at", pa.timestamp("us", tz="UTC")),
            pa.field("counts", pa.string()),
            pa.field("failed", pa.int64()),
            pa.field("failures", pa.string()),
        ],
        metadata=_FORM,
    )


def leases_schema() -> pa.Schema:
    """One row a pair of tables."""
    return pa.schema(
        [
            pa.field("tables", pa.string()),
            pa.field("beat", pa.int64()),
            pa.field("token", pa.string()),
            pa.field("host", pa.string()),
            pa.field("pid", pa.int64()),
            pa.field("process", pa.string()),
            pa.field("doing", pa.string()),
            pa.field("since", pa.timestamp("us", tz="UTC")),
        ],
        metadata=_FORM,
    )


def live_schema() -> pa.Schema:
    """One row a database."""
    return pa.schema(
        [
            pa.field("beat", pa.int64()),
            pa.field("last", pa.int64()),
            pa.field("live", pa.int64()),
            pa.field("previous", pa.int64()),
            pa.field("staged", pa.int64()),
            pa.field("switched_at", pa.timestamp("us", tz="UTC")),
        ],
        metadata=_FORM,
    )


def pinned_space(schema: pa.Schema, table: str) -> EmbeddingSpace:
    """The space of a table's vectors.

    Raises:
        StoreRefused: the table is not one of ours, or of a later form.
    """
    check_form(schema, table, SPACE_KEY)
    space = EmbeddingSpace(**json.loads(schema.metadata[SPACE_KEY]))
    if space.encoding not in get_args(Encoding):
        raise StoreRefused(
            f'the table "{table}" holds vectors as {space.encoding}, and this Docweave knows '
            f"{', '.join(get_args(Encoding))}: use the Docweave that wrote it, or a later one"
        )
    return space


def check_form(schema: pa.Schema, table: str, *pinned: bytes) -> None:
    """The table is ours, of a form that is known here, and has these keys beside.

    Raises:
        StoreRefused: it is not.
    """
    metadata = schema.metadata or {}
    if not {VERSION_KEY, *pinned} <= metadata.keys():
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


def _pinned(space: EmbeddingSpace) -> dict[bytes, bytes]:
    return {**_FORM, SPACE_KEY: json.dumps(asdict(space)).encode()}


_FORM = {VERSION_KEY: str(VERSION).encode()}
_SCHEMAS: dict[str, Callable[[EmbeddingSpace], pa.Schema]] = {
    "chunks": chunks_schema,
    "documents": documents_schema,
    JOURNAL: journal_schema,
    SPENDING: spending_schema,
    RUNS: runs_schema,
}
