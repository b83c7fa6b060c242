"""What LanceDB's core is handed in writing is what the package around it hands over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pytest
from lancedb import AsyncTable, scannable
from lancedb import index as package

from pipeline.stores import _core
from pipeline.stores._core_writing import (
    FTS,
    Bitmap,
    BTree,
    IvfFlat,
    IvfRq,
    IvfSq,
    LabelList,
    Merge,
    Rows,
    fitted,
    merge,
)

if TYPE_CHECKING:
    from lancedb._lancedb import Table

STORED = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("vector", pa.list_(pa.float16(), 2)),
        pa.field("metadata", pa.large_binary(), metadata={b"ARROW:extension:name": b"lance.json"}),
    ],
    metadata={b"pinned": b"here"},
)


class Told:
    """Stands for the core's table, and keeps what a merge is asked for."""

    def __init__(self) -> None:
        self.parameters: Mapping[str, object] = {}
        self.schema_of_rows = pa.schema([])

    async def schema(self) -> pa.Schema:
        return STORED

    async def execute_merge_insert(
        self, data: pa.RecordBatchReader, parameters: Mapping[str, object]
    ) -> None:
        self.parameters, self.schema_of_rows = parameters, data.schema


def rows() -> pa.Table:
    json = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"team": "people"}', None]))
    vectors = pa.array([None, [1.0, 2.0]], pa.list_(pa.float16(), 2))
    names = pa.field("id", pa.string(), nullable=False)
    schema = pa.schema([names, pa.field("vector", vectors.type), pa.field("metadata", json.type)])
    return pa.Table.from_arrays([pa.array(["a", "b"]), vectors, json], schema=schema)


async def test_a_merge_is_asked_for_as_the_package_asks() -> None:
    by_package, by_us = Told(), Told()
    builder = AsyncTable(cast("Table", by_package)).merge_insert("id")
    builder = builder.when_matched_update_all(where="target.id <> 'x'").when_not_matched_insert_all()
    await builder.use_index(use_index=False).execute(rows(), on_bad_vectors="null")
    how = Merge(
        when_matched_update_all=True,
        when_matched_update_all_condition="target.id <> 'x'",
        when_not_matched_insert_all=True,
    )
    await merge(cast("_core.CoreTable", by_us), rows(), how)
    assert by_us.parameters == by_package.parameters
    assert by_us.schema_of_rows.equals(by_package.schema_of_rows, check_metadata=True)


def test_indexes_and_rows_have_the_names_and_values_that_the_package_gives_them() -> None:
    theirs = package.FTS(base_tokenizer="icu/split", remove_stop_words=False)
    ours = FTS(base_tokenizer="icu/split", remove_stop_words=False)
    assert asdict(ours) == asdict(theirs)
    assert FTS.__name__ == package.FTS.__name__
    for plain in (BTree, Bitmap, LabelList):
        kind = getattr(package, plain.__name__)
        assert asdict(plain()) == asdict(kind())
    few = {"distance_type": "cosine", "num_partitions": 3}
    for mine in (IvfFlat(**few), IvfSq(**few), IvfRq(**few, num_bits=1)):
        assert asdict(mine) == asdict(getattr(package, type(mine).__name__)(**few))
    table = rows()
    given = scannable.to_scannable(table)
    handed = Rows(schema=table.schema, num_rows=len(table), reader=table.to_reader)
    assert {field.name for field in fields(Rows)} == {field.name for field in fields(scannable.Scannable)}
    assert (handed.num_rows, handed.rescannable) == (given.num_rows, given.rescannable)


def test_rows_are_given_the_tables_types_and_keep_what_is_null() -> None:
    fit = fitted(rows().select(["metadata", "vector", "id"]), STORED)
    assert fit.schema.metadata == STORED.metadata
    assert fit["vector"].to_pylist() == [None, [1.0, 2.0]]
    assert fit.schema.field("id").nullable is False
    assert isinstance(fit.schema.field("metadata").type, pa.JsonType)
    with pytest.raises(ValueError, match="no column later"):
        fitted(rows().append_column("later", pa.array([1, 2])), STORED)
