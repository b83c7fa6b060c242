"""Declared columns as the tables have them: their types, what is pinned to them, and how one is added later.

See docs/adr/0009. A column is added by SQL over the stored `metadata`, in one commit that writes a small file
beside each of the table's, and touches nothing else: no vector, no index.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.records import Column, ColumnType
from pipeline.stores._columns import DATE
from pipeline.stores._predicates import json_path, literal
from pipeline.stores._schema import ACCESS, LATER, kind_of

if TYPE_CHECKING:
    from pipeline.stores._core import CoreTable

PIN = "docweave.column"
"""The key of a column's own metadata under which it says what it holds."""
TYPES: Mapping[ColumnType, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "date": pa.date32(),
    "boolean": pa.bool_(),
    "list": pa.list_(pa.string()),
}
_SHORT = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
"""The escapes of JSON that are not of the form \\u0000."""
_BACKSLASH, _QUOTE = "\\u005c", "\\u0022"


def with_columns(schema: pa.Schema, columns: Iterable[Column]) -> pa.Schema:
    """A table's own columns, and these after them."""
    declared = [pa.field(c.name, TYPES[c.type], metadata={PIN: _pin(c)}) for c in columns]
    return pa.schema([*schema, *declared], metadata=schema.metadata)


def pinned_columns(schema: pa.Schema) -> tuple[Column, ...]:
    """The declared columns of a table, in its order."""
    pinned = [(field.name, (field.metadata or {}).get(PIN.encode())) for field in schema]
    known = [(name, json.loads(pin)) for name, pin in pinned if pin]
    return tuple(
        Column(name=name, type=pin["type"], path=tuple(pin["path"]), indexed=pin["index"])
        for name, pin in known
        if pin["type"] in TYPES
    )


def has_access(schema: pa.Schema) -> bool:
    """Whether the table has access labels."""
    return _has(ACCESS, schema)


def known(columns: Iterable[str], schema: pa.Schema) -> list[str]:
    """These columns, without those that came later where the table has not got them yet."""
    return [name for name in columns if name not in LATER["chunks"] or _has(name, schema)]


def lacking(name: str, schema: pa.Schema) -> list[pa.Field]:
    """The columns that a table of an earlier form is to get."""
    return [pa.field(*later) for later in LATER[kind_of(name)].items() if not _has(later[0], schema)]


async def grow_later(table: CoreTable, fields: Sequence[pa.Field]) -> None:
    """Add these columns, NULL in each row: no data is written. Metadata under their names gives way."""
    schema = await table.schema()
    if there := [field.name for field in fields if field.name in schema.names]:
        await table.drop_columns(there)
    await table.add_columns_with_schema(pa.schema(fields))


def _has(name: str, schema: pa.Schema) -> bool:
    """Whether it is a column of ours. A table of form 1 or 2 may hold metadata under the name of a later."""
    return name in schema.names and PIN.encode() not in (schema.field(name).metadata or {})


def owed(schema: pa.Schema, columns: Iterable[Column]) -> list[Column]:
    """Those of the columns that the table has not, or has otherwise."""
    there = set(pinned_columns(schema))
    return [column for column in columns if column not in there]


async def grow(table: CoreTable, columns: Iterable[Column]) -> None:
    """Add the columns that the table has not, filled from the metadata that is stored.

    One that it has with another type, or from another place, is dropped first; so is one that is not pinned,
    because who added it was killed before the end. To do it again completes it. Indexes are left to upkeep.
    """
    schema = await table.schema()
    changed = owed(schema, columns)
    holds = {(column.name, column.type, column.path) for column in pinned_columns(schema)}
    new = [column for column in changed if (column.name, column.type, column.path) not in holds]
    if wrong := [column.name for column in new if column.name in schema.names]:
        await table.drop_columns(wrong)
    if new:
        await table.add_columns([(column.name, fill(column)) for column in new])
    if changed:
        await table.update_field_metadata(
            [{"path": column.name, "metadata": {PIN: _pin(column)}} for column in changed]
        )


async def drop(table: CoreTable, names: Iterable[str]) -> None:
    """Drop those of these columns that the table has of metadata, and no other."""
    if there := [column.name for column in pinned_columns(await table.schema()) if column.name in names]:
        await table.drop_columns(there)


def fill(column: Column) -> str:
    """SQL for the column's value: what `_columns.value` says, of the JSON text that stands in `metadata`.

    Lance has no CASE here, and its `json_get_…` fail where they cannot convert: an expression must give NULL
    by itself for what does not fit.
    """
    there = f"json_extract(metadata, {literal(json_path(column.path))})"
    match column.type:
        case "text":
            return _unescaped(_matched(_quotes_marked(there), '"([^"]*)"'))
        case "integer":
            return f"TRY_CAST(regexp_replace({there}, '^(-?[0-9]+)[.]0$', '$1') AS BIGINT)"
        case "number":
            return f"TRY_CAST({there} AS DOUBLE)"
        case "date":
            day = _matched(there, f'"{DATE}"')
            return f"TRY_CAST({day} AS DATE)"
        case "boolean":
            return f"({there} = 'true') = nullif({there} IN ('true', 'false'), false)"
        case "list":
            return _texts(there)


def _texts(there: str) -> str:
    """The texts of a list, or a single one as a list of it.

    They are parted by a word that nobody can know. It stands before the first one too, so that a list of one
    empty text is not taken for an empty list.
    """
    parted = secrets.token_hex(16)
    as_list = f"""regexp_replace({_quotes_marked(there)}, '^("[^"]*")$', '[$1]')"""
    inside = _matched(as_list, r"""\[(("[^"]*"(,"[^"]*")*)?)\]""")
    begun = f"""regexp_replace(replace({inside}, '","', '{parted}'), '^"', '{parted}')"""
    texts = _unescaped(f"""replace({begun}, '"', '')""")
    return f"array_pop_front(string_to_array({texts}, '{parted}'))"


def _matched(text: str, pattern: str) -> str:
    """The first group of a pattern that the whole text must match."""
    return f"array_element(regexp_match({text}, {literal(f'^{pattern}$')}), 1)"


def _quotes_marked(text: str) -> str:
    """JSON text in which every quote begins or ends a text, and every backslash begins an escape."""
    for escape, mark in (("\\\\", _BACKSLASH), ('\\"', _QUOTE)):
        text = f"replace({text}, {literal(escape)}, '{mark}')"
    return text


def _unescaped(text: str) -> str:
    """What the text of `_quotes_marked` says. The backslash comes last: until then, none of them is meant."""
    for code in range(32):
        escape = _SHORT.get(chr(code), f"\\u{code:04x}")
        text = f"replace({text}, '{escape}', {literal(chr(code))})"
    return f"replace(replace({text}, '{_QUOTE}', '\"'), '{_BACKSLASH}', '\\')"


def _pin(column: Column) -> str:
    return json.dumps({"type": column.type, "path": column.path, "index": column.indexed})
