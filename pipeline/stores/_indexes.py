"""The indexes of a chunks table, from the start and when it is large enough: see docs/upkeep.md.

`benchmarks/vector_index.py` measures that of vectors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pyarrow as pa

from pipeline.stores import _core
from pipeline.stores._column_fields import pinned_columns
from pipeline.stores._columns import wanted_indexes
from pipeline.stores._core_writing import FTS, Bitmap, BTree, IvfFlat, IvfRq, IvfSq, LabelList
from pipeline.stores._schema import TEXT_COLUMNS
from pipeline.upkeep import Policy

_WORDS = FTS(base_tokenizer="icu/split", remove_stop_words=False)
FIRST: Mapping[str, FTS | BTree] = {**dict.fromkeys(TEXT_COLUMNS, _WORDS), "id": BTree()}
"""Those that it has from the start, by column.

Words: ICU finds those of every script, Chinese, Japanese and Korean among them; stems are English, and do no
harm elsewhere; stop words stay, for they are words in some other language. Ids: to replace rows without
reading the ids of all others.
"""
VECTOR = "vector"
VECTOR_INDEX = "vector_idx"
"""As LanceDB names it."""
LOOKUPS = ("source", "key", "group_key")
"""What a run looks rows up by, beside their ids, and a search by its source."""
OF_FEW_VALUES = frozenset({"source"})
"""Of these, an index is a bitmap."""
ROWS_A_PARTITION = 8_192
REFINE = 20
"""How many times as many candidates as are asked for are compared by their whole vectors: of the best ten."""
REFINE_MANY, MANY = 4, 40
"""The same, where so many are asked for: the best of them are found among the candidates anyway."""
EVERY_PARTITION = 1_000_000
"""More than there are. To leave some out would be quicker, and lose hits: the nearest vectors of a question
are not all in the same few partitions."""


def looks_everywhere(query: _core.CoreVectorQuery, limit: int) -> None:
    """Have a search by vector use the index, if there is one, as to find what an exact search finds.

    The index names candidates, from all partitions; distances are those of the whole vectors, and candidates
    are ranked by them. Rows that are not in it yet are compared one by one. Without an index nothing changes.
    """
    query.nprobes(EVERY_PARTITION)
    query.refine_factor(REFINE if limit < MANY else REFINE_MANY)


def missing(
    rows: int, schema: pa.Schema, indexed: set[str], policy: Policy, *, vectors: bool
) -> tuple[str, ...]:
    """The columns that are to have an index at this size, and have none.

    Args:
        rows: Of the table.
        schema: Of the table.
        indexed: The columns that have one.
        policy: Says what the sizes are.
        vectors: Whether to look at that of the vectors, which takes long to make, too.
    """
    wanted = [*LOOKUPS, *wanted_indexes(pinned_columns(schema))] if rows >= policy.lookup_rows else []
    if vectors and wants_vectors(rows, policy):
        wanted.append(VECTOR)
    return tuple(column for column in wanted if column not in indexed)


def wants_vectors(rows: int, policy: Policy) -> bool:
    """Whether an index of the vectors pays."""
    return policy.vector_rows is not None and rows >= policy.vector_rows


async def build_first(table: _core.CoreTable) -> None:
    """Make those that a table has from the start, all at the same time."""
    await asyncio.gather(
        *(table.create_index(column, index, replace=True, train=True) for column, index in FIRST.items())
    )


async def build(table: _core.CoreTable, column: str, rows: int) -> None:
    """Make the index of a column, in place of the one that it has."""
    schema = await table.schema()
    if column == VECTOR:
        config: Bitmap | BTree | IvfFlat | IvfRq | IvfSq | LabelList = _of_vectors(schema, rows)
    else:
        kind = "BITMAP" if column in OF_FEW_VALUES else wanted_indexes(pinned_columns(schema)).get(column)
        config = _of_values(kind)
    await table.create_index(column, config, replace=True, train=True)


def _of_vectors(schema: pa.Schema, rows: int) -> IvfFlat | IvfRq | IvfSq:
    partitions = max(1, rows // ROWS_A_PARTITION)
    if pa.types.is_uint8(schema.field(VECTOR).type.value_type):  # bits: the index holds them as they are
        return IvfFlat(distance_type="hamming", num_partitions=partitions)
    if schema.field(VECTOR).type.list_size % 8:  # a bit for each dimension, and whole bytes
        return IvfSq(distance_type="cosine", num_partitions=partitions)
    return IvfRq(distance_type="cosine", num_bits=1, num_partitions=partitions)


def _of_values(kind: str | None) -> Bitmap | BTree | LabelList:
    if kind == "BITMAP":
        return Bitmap()
    return LabelList() if kind == "LABEL_LIST" else BTree()
