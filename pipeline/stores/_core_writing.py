"""What LanceDB's core is handed in writing: rows as it wants them, and the forms of what it is to do.

The package around it would convert rows to a table's types, look for vectors of other lengths and for NaN,
and make NULL of those. Here vectors are checked before (`_shape`), and NULL goes through as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from pipeline.stores._core import CoreTable


@dataclass(frozen=True, slots=True, kw_only=True)
class BTree:
    """An index of values that are mostly distinct. The core knows it by the name of its class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bitmap:
    """An index of few values. The core knows it by the name of its class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelList:
    """An index of lists of values. The core knows it by the name of its class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Partitioned:
    """An index of vectors in partitions. The core reads it by the names of its class and attributes.

    What is not said here is as in `lancedb.index`.
    """

    distance_type: str
    num_partitions: int
    max_iterations: int = 50
    sample_rate: int = 256
    target_partition_size: None = None
    accelerator: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IvfFlat(_Partitioned):
    """One that holds the vectors as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IvfSq(_Partitioned):
    """One that holds a byte for each dimension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IvfRq(_Partitioned):
    """One that holds bits for each dimension."""

    num_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FTS:
    """An index of words. The core reads it by the names of its class and attributes.

    What is not said here is as in `lancedb.index.FTS`.
    """

    base_tokenizer: str
    remove_stop_words: bool
    with_position: bool = False
    language: str = "English"
    max_token_length: int | None = 40
    lower_case: bool = True
    stem: bool = True
    ascii_folding: bool = True
    ngram_min_length: int = 3
    ngram_max_length: int = 3
    prefix_only: bool = False
    block_size: int = 128
    custom_stop_words: None = None
    memory_limit: None = None
    num_workers: None = None
    document_granularity: str = "row"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """How rows are put in place of those with the same id, and beside them.

    The core reads it as a dictionary, and wants every name.
    """

    when_matched_update_all: bool = False
    when_matched_update_all_condition: str | None = None
    """SQL over `target` and `source`: a matched row for which it does not hold stays as it is."""
    when_not_matched_insert_all: bool = False
    use_index: bool = False
    """Through an index on the id, a merge passes by the primary key's protection: see docs/adr/0007."""
    on: tuple[str, ...] = ("id",)
    when_not_matched_by_source_delete: bool = False
    when_not_matched_by_source_condition: None = None
    when_not_matched_by_source_condition_expr: None = None
    timeout: None = None
    use_lsm: None = None
    validate_single_shard: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows to be added. The core reads it by the names of its attributes."""

    schema: pa.Schema
    num_rows: int
    reader: Callable[[], pa.RecordBatchReader]
    rescannable: bool = True


async def merge(table: CoreTable, rows: pa.Table, how: Merge) -> None:
    """One commit. `rows` may lack columns of the table.

    Raises:
        ValueError: the table has not all their columns, or has them in types that they do not fit.
        RuntimeError: a commit of others was in the way too often, or the storage does not answer.
    """
    fitting = fitted(rows, await table.schema())
    await table.execute_merge_insert(fitting.to_reader(), asdict(how) | {"on": list(how.on)})


async def add(table: CoreTable, rows: pa.Table) -> None:
    """One commit.

    Raises:
        ValueError: as `merge`.
        RuntimeError: as `merge`.
    """
    await table.add(Rows(schema=rows.schema, num_rows=len(rows), reader=rows.to_reader), "append")


def fitted(rows: pa.Table, stored: pa.Schema) -> pa.Table:
    """The same rows, with their columns as the table has them, and JSON as it is: Lance encodes that itself.

    Raises:
        ValueError: the table has not all their columns, or has them in types that they do not fit.
    """
    if gone := set(rows.schema.names).difference(stored.names):
        raise ValueError(f"the table has no column {', '.join(sorted(gone))}")
    fields = [
        field if isinstance(field.type, pa.BaseExtensionType) else stored.field(field.name)
        for field in rows.schema
    ]
    return rows.cast(pa.schema(fields, metadata=stored.metadata))
