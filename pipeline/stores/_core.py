"""LanceDB's compiled core by itself, without the Python package around it.

`import lancedb` takes seconds, for much that nothing here has a use for (its cloud client, pydantic models,
embedding functions). The package's own extension module does all that is needed in a tenth of that. What is
used of it is written down here as protocols, and looked for when it is loaded; what is handed to it in
writing is in `_core_writing`. See docs/adr/0002.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, TypedDict

import pyarrow as pa

from pipeline.errors import StoreRefused

if TYPE_CHECKING:
    from lancedb import Session

PACKAGE = "lancedb"
CORE = "lancedb._lancedb"
M_ARENA_MAX = -8
"""From glibc's malloc.h."""
ROWS_A_BATCH = 1_024
"""That are read and computed on together."""
WORDS_BUFFER_MB = 256
"""That each who indexes words holds of them before it writes: what some 200,000 chunks come to."""


class CoreRows(Protocol):
    """What a query gives, a batch at a time."""

    schema: pa.Schema

    def __aiter__(self) -> AsyncIterator[pa.RecordBatch]: ...


class CoreQuery(Protocol):
    """A query as it is put together; each call but the last changes it in place."""

    def where(self, predicate: str) -> object:
        """Keep the rows for which this SQL holds, before anything is ranked."""

    def limit(self, limit: int) -> object:
        """Give at most so many rows."""

    def select_columns(self, columns: list[str]) -> object:
        """Give these columns."""

    def select(self, columns: list[tuple[str, str]]) -> object:
        """Give columns of these names, each with the value of its SQL."""

    def with_row_id(self) -> object:
        """Give each row's number, too, as `_rowid`: it holds for the version that is seen."""

    async def execute(self) -> CoreRows:
        """The rows."""


class CoreTake(Protocol):
    """Rows by their numbers, in no order."""

    def select(self, columns: list[tuple[str, str]]) -> object:
        """Give columns of these names, each with the value of its SQL."""

    def with_row_id(self) -> object:
        """As `CoreQuery.with_row_id`."""

    async def execute(self) -> CoreRows:
        """The rows."""


class CoreVectorQuery(CoreQuery, Protocol):
    """A query whose rows are ranked by distance."""

    def distance_type(self, distance_type: str) -> object:
        """Rank by this distance."""

    def nprobes(self, nprobes: int) -> object:
        """Look into so many partitions of an index."""

    def refine_factor(self, refine_factor: int) -> object:
        """Compare so many times as many candidates of an index by their whole vectors."""


class CorePlainQuery(CoreQuery, Protocol):
    """A query whose rows come in no order, unless one is asked for."""

    def order_by(self, ordering: list[dict[str, str | bool]]) -> object:
        """Give the rows in the order of these columns."""

    def nearest_to(self, vector: pa.Array) -> CoreVectorQuery:
        """Rank by the distance from this vector."""

    def nearest_to_text(self, query: dict[str, object]) -> CoreQuery:
        """Rank by BM25."""


class CoreIndex(Protocol):
    """An index, as a table lists it."""

    name: str
    columns: list[str]
    num_indexed_rows: int | None
    num_unindexed_rows: int | None
    num_segments: int | None


class CoreLengths(TypedDict):
    """How many rows the fragments of a table have."""

    max: int


class CoreFragments(TypedDict):
    """How a table's rows are spread over files."""

    num_fragments: int
    num_small_fragments: int
    lengths: CoreLengths


class CoreStats(TypedDict):
    """How a table is doing."""

    num_rows: int
    fragment_stats: CoreFragments


class CoreVersion(TypedDict):
    """A commit of a table."""

    version: int
    timestamp: int
    """In nanoseconds since 1970, UTC."""
    metadata: Mapping[str, str]


class CoreTag(TypedDict):
    """A version that somebody gave a name, and wants kept."""

    version: int


class CoreTags(Protocol):
    """The tags of a table."""

    async def list(self) -> Mapping[str, CoreTag]:
        """All of them, by name."""


class CoreCompaction(Protocol):
    """What putting small files together came to."""

    fragments_removed: int


class CorePrune(Protocol):
    """What clearing away came to."""

    old_versions_removed: int


class CoreOptimized(Protocol):
    """What tending a table came to."""

    compaction: CoreCompaction
    prune: CorePrune


class CoreUpdate(Protocol):
    """What an update came to."""

    rows_updated: int


class CoreListing(TypedDict):
    """Some of a database's tables."""

    tables: list[str]
    page_token: str | None
    """What gives the next of them; None where these are the last."""


class CoreTable(Protocol):
    """An open table."""

    def name(self) -> str:
        """That it was opened by."""

    async def schema(self) -> pa.Schema:
        """Its columns, and the metadata that is pinned to them."""

    async def version(self) -> int:
        """Of the newest commit that it sees."""

    async def checkout(self, version: int) -> None:
        """See this version from now on, and no later one."""

    async def list_versions(self) -> list[CoreVersion]:
        """The versions that are kept."""

    def query(self) -> CorePlainQuery:
        """A new query of all rows."""

    def take_row_ids(self, row_ids: list[int]) -> CoreTake:
        """The rows of these numbers."""

    async def stats(self) -> CoreStats:
        """How its files are doing."""

    async def count_rows(self, where: str | None, /) -> int:
        """How many rows there are for which this SQL holds."""

    async def add(self, data: object, mode: str) -> object:
        """Add rows, in the mode "append"; one commit. They come as `_core_writing.Rows`."""

    async def execute_merge_insert(
        self, data: pa.RecordBatchReader, parameters: dict[str, object], /
    ) -> object:
        """Put rows in place of others, and beside them; one commit. `_core_writing.Merge` has the parameters.

        Nothing is converted: rows must have the types that the table has, and JSON may come as text.
        """

    async def delete(self, where: str, /) -> object:
        """Delete the rows for which this SQL holds; one commit."""

    async def update(self, updates: dict[str, str], where: str) -> CoreUpdate:
        """Set columns to SQL values where this SQL holds. What others commit meanwhile is looked at anew."""

    async def optimize(self, *, cleanup_since_ms: int, delete_unverified: bool) -> CoreOptimized:
        """Compact, extend the indexes, and clear away what is older than so many milliseconds."""

    async def create_index(self, column: str, index: object, *, replace: bool, train: bool) -> object:
        """Index a column. What `index` is, the core knows by the name of its class: see `_core_writing`.

        Args:
            column: Which.
            index: What kind of index, and how it is made.
            replace: In place of one that is there; otherwise that is a RuntimeError.
            train: Of the rows that are there.
        """

    async def drop_index(self, name: str) -> None:
        """Have this index no longer."""

    async def list_indices(self) -> list[CoreIndex]:
        """Its indexes."""

    async def index_stats(self, name: str) -> Mapping[str, int] | None:
        """How an index is doing; None where there is none."""

    @property
    def tags(self) -> CoreTags:
        """Its tags."""

    async def add_columns(self, columns: list[tuple[str, str]]) -> object:
        """Add columns of these names, each filled with the value of its SQL; one commit."""

    async def add_columns_with_schema(self, schema: pa.Schema) -> object:
        """Add these columns, NULL in each row; one commit."""

    async def drop_columns(self, columns: list[str]) -> object:
        """Drop these columns; one commit."""

    async def update_field_metadata(self, updates: list[dict[str, object]]) -> object:
        """Change the metadata of columns, each by `path` and `metadata`; one commit."""


class CoreConnection(Protocol):
    """A database."""

    async def open_table(self, name: str) -> CoreTable:
        """A table that is there; ValueError where it is not."""

    async def create_table(self, name: str, mode: str, data: pa.RecordBatchReader) -> CoreTable:
        """A new table with these rows, in one commit.

        Where it is there, that is a ValueError in the mode "create". In the mode "exist_ok" it is opened.
        """

    async def drop_table(self, name: str) -> None:
        """Drop a table; ValueError where it is not there."""

    async def list_tables(self, *, page_token: str | None) -> CoreListing:
        """The tables, by their names; a page of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiMatchQuery:
    """Words to be found in some columns: a row scores what it does in the column where that is the most.

    The core reads it by the names of its class and attributes.
    """

    query: str
    columns: list[str]
    boosts: None = None
    operator: str = "OR"


async def collected(query: CoreQuery | CoreTake, most: int | None = None) -> pa.Table:
    """All rows of a query, which has at most so many: to ask whether there are more takes time."""
    stream = await query.execute()
    batches, rows = [], 0
    async for batch in stream:
        batches.append(batch)
        rows += batch.num_rows
        if rows == most:
            break
    return pa.Table.from_batches(batches, schema=stream.schema)


async def selected(table: CoreTable, columns: list[str], where: str | None = None) -> pa.Table:
    """These columns of the rows for which `where` holds."""
    query = table.query()
    query.select_columns(columns)
    if where:
        query.where(where)
    return await collected(query)


async def find(connection: CoreConnection, name: str) -> CoreTable | None:
    """A fresh handle of a table; None where there is none."""
    try:
        return await connection.open_table(name)
    except ValueError as error:
        if "was not found" not in str(error):
            raise
        return None


async def drop(connection: CoreConnection, name: str) -> None:
    """Drop a table, if it is there."""
    try:
        await connection.drop_table(name)
    except ValueError as error:
        if "was not found" not in str(error):
            raise


async def names(connection: CoreConnection) -> list[str]:
    """Of all tables."""
    there: list[str] = []
    page, more = None, True
    while more:
        listed = await connection.list_tables(page_token=page)
        there += listed["tables"]
        page, more = listed["page_token"], bool(listed["page_token"])
    return there


async def connect(
    uri: str, options: Mapping[str, str], session: Session | None = None, *, follows: bool = True
) -> CoreConnection:
    """Open a database.

    Args:
        uri: Its address.
        options: Open it.
        session: The core's own: the caches that connections share.
        follows: Whether every read of an open table sees the last commit; otherwise those that it was opened
            after.

    Raises:
        StoreRefused: the installed lancedb is not built as this module expects.
    """
    connection: CoreConnection = await load_core().connect(
        uri,
        read_consistency_interval=0.0 if follows else None,  # seconds until it looks for a newer version
        storage_options=dict(options),
        session=session,
    )
    return connection


def session(index_bytes: int, metadata_bytes: int) -> Session:
    """Caches of so many bytes, for connections to share.

    Raises:
        StoreRefused: as `connect`.
    """
    caches: Session = load_core().Session(index_bytes, metadata_bytes)
    return caches


def load_core() -> ModuleType:
    """The extension module, loaded once. A later `import lancedb` finds and shares it.

    Raises:
        StoreRefused: the installed lancedb is not built as this module expects.
    """
    if loaded := sys.modules.get(CORE):
        return loaded
    _share_heaps()
    _use_all_processors()
    package = PathFinder.find_spec(PACKAGE)
    if package is None:
        raise StoreRefused("the package lancedb is not installed: run ./scripts/setup")
    spec = PathFinder.find_spec(CORE, package.submodule_search_locations)
    if spec is None or spec.loader is None:
        raise _other_shape(f"it has no module {CORE}")
    core = importlib.util.module_from_spec(spec)
    sys.modules[CORE] = core
    try:
        spec.loader.exec_module(core)
    except ImportError as error:
        del sys.modules[CORE]
        raise _other_shape(str(error)) from error
    if missing := _missing(core):
        del sys.modules[CORE]
        raise _other_shape(f"{CORE} lacks {', '.join(missing)}")
    return core


def _share_heaps() -> None:
    """Have glibc keep two heaps for all threads, where it would keep up to eight a processor.

    Lance has many threads, and what each of them frees stays in its heap: a first ingest of 38,000 documents
    peaked at 676 MB with heaps of their own, and at 506 MB with two.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # musl has no such setting, and no need of it
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


def _use_all_processors() -> None:
    """Have Lance compute on all processors of a small machine; what the environment says stays.

    It keeps two of them for reading, which leaves one of two, and splits the rows to be indexed among half of
    them, in batches of 8,192. On two processors an exact search of 100,000 vectors took 54 ms and takes
    32 ms, and ten thousand new chunks were compacted and indexed in 0.92 s and are in 0.63 s. Each of those
    that index words would hold 2 GiB of them.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("LANCE_IO_CORE_RESERVATION", "0")
    os.environ.setdefault("LANCE_FTS_NUM_SHARDS", str(min(processors, max(2, processors // 2))))
    os.environ.setdefault("LANCE_FTS_PARTITION_SIZE", str(WORDS_BUFFER_MB))
    os.environ.setdefault("LANCE_DEFAULT_BATCH_SIZE", str(ROWS_A_BATCH))


def _missing(core: ModuleType) -> list[str]:
    """What is used and not there: a change shows here, and not in the middle of a search."""
    wanted = {
        "Connection": ("open_table", "create_table", "drop_table", "list_tables"),
        "Table": (
            *("schema", "version", "checkout", "list_versions", "query", "stats", "name", "count_rows"),
            *("update", "optimize", "list_indices", "index_stats", "tags", "create_index", "drop_index"),
            *("add", "execute_merge_insert", "delete", "take_row_ids"),
            *("add_columns", "add_columns_with_schema", "drop_columns", "update_field_metadata"),
        ),
        "Query": (
            *("where", "limit", "select_columns", "select", "order_by", "execute"),
            *("nearest_to", "nearest_to_text", "with_row_id"),
        ),
        "VectorQuery": (
            *("where", "limit", "select_columns", "execute", "distance_type"),
            *("nprobes", "refine_factor", "with_row_id"),
        ),
        "FTSQuery": ("where", "limit", "select_columns", "with_row_id", "execute"),
    }
    parts = [(name, part) for name, parts in wanted.items() for part in parts]
    missing = [f"{name}.{part}" for name, part in parts if not hasattr(getattr(core, name, None), part)]
    return [*(name for name in ("connect", "Session") if not hasattr(core, name)), *missing]


def _other_shape(what: str) -> StoreRefused:
    return StoreRefused(
        f"the installed lancedb is not built as Docweave expects: {what}. "
        "Install the version that requirements.lock names (lancedb>=0.40,<0.41)"
    )
