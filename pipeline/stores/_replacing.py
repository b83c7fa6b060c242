"""Putting documents in place of others: one commit, at a cost that follows the batch and not the table.

A batch is one merge of its rows, of a tomb for each row that is to go, and of the turn. See docs/adr/0007.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

from pipeline.errors import StoreUnavailable
from pipeline.stores import _core
from pipeline.stores._core_writing import Merge, merge
from pipeline.stores._predicates import with_keys_of

if TYPE_CHECKING:
    from pipeline.stores._core import CoreTable

TURN = ".turn"
"""The id of the row that every merge rewrites. No chunk is called so: their ids hold "/" and "#"."""
TURN_COLUMN = "start"
"""Where that row keeps its number, which grows with every merge."""
ABOUT_COLUMN = "url"
"""Where it keeps what the last batch was about: a run that was stopped may have left it half done."""
IS_TURN = f"id = '{TURN}'"
IS_TOMB = f"key IS NULL AND id <> '{TURN}'"
ID_INDEX = "id_idx"
"""As LanceDB names it."""
UNINDEXED_ROWS = 2_000
"""A merge through the index also reads all rows that the index does not cover, with their vectors: 11 MB for
a thousand of 1,024 dimensions. With more of them, or than it covers, the ids of all rows are read instead."""
ATTEMPTS = 20
"""How often a merge is begun again because somebody else has merged in the meantime, …"""
LONGEST_PAUSE = 2.0
"""… and the longest of the random pauses before it, in seconds; the first are up to a tenth of one."""
STORED_JSON = {b"ARROW:extension:name": b"lance.json"}


TableOf: TypeAlias = "Callable[[], Awaitable[CoreTable]]"
"""Opens the chunks table."""
About: TypeAlias = Callable[[str | None], str]
"""What `announced` gives from a commit on, made of what it gives before it."""
StillOurs: TypeAlias = Callable[[], Awaitable[None]]
"""Is called before each attempt to commit, after the turn was read; what it raises ends it."""


async def put(
    rows: pa.Table,
    documents: Collection[tuple[str, str]],
    about: About,
    table_of: TableOf,
    still_ours: StillOurs,
) -> None:
    """Store chunks in place of all that are stored under their documents.

    The merge fails, and is begun again, if any other was committed since the stored ids were read: they are
    never older than the commit that they are for.

    Args:
        rows: Of `chunks_schema`; none, where the documents have no text any more.
        documents: All that are stored, also those without rows: each by source and key.
        about: What `announced` gives from this commit on; called anew for each attempt.
        table_of: See there.
        still_ours: See there.

    Raises:
        StoreUnavailable: others have come between too often.
    """

    async def merged(table: CoreTable, turn: int, told: str | None) -> bool:
        stale = sorted(await _ids(table, documents) - set(rows["id"].to_pylist()))
        if not (stale or len(rows)):
            return True
        bare = [_bare_rows(stale, rows.schema), _turn_row(turn + 1, about(told), rows.schema)]
        return await _merged(table, pa.concat_tables([rows, *bare]), turn, still_ours)

    await _in_turn(table_of, merged)


async def announce(about: About, schema: pa.Schema, table_of: TableOf, still_ours: StillOurs) -> None:
    """Have `announced` give this from now on: before what is done by other commits than `put`'s.

    Raises:
        StoreUnavailable: as `put`.
    """

    async def merged(table: CoreTable, turn: int, told: str | None) -> bool:
        return await _merged(table, _turn_row(turn + 1, about(told), schema), turn, still_ours)

    await _in_turn(table_of, merged)


async def announced(table: CoreTable) -> str | None:
    """What the last batch was about; None before the first."""
    turns = await _turns(table)
    return turns[0][1] if turns else None


async def _in_turn(
    table_of: TableOf, attempt: Callable[[CoreTable, int, str | None], Awaitable[bool]]
) -> None:
    """Try until nobody else came between the turn that was read and the commit."""
    for number in range(ATTEMPTS):
        if number:
            await asyncio.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.05 * 2**number)))  # noqa: S311 - no secret
        table = await table_of()
        if await attempt(table, *await _turn(table)):
            return
    raise StoreUnavailable(
        f"{table.name()}: others have stored documents in between {ATTEMPTS} times; storing again is safe"
    )


def first_turn(schema: pa.Schema) -> pa.Table:
    """The rows of a chunks table that has no chunks."""
    return _turn_row(0, None, schema)


async def ensure_turn(table: CoreTable) -> None:
    """Give a chunks table its turn, where it has none or somebody doubled it.

    Tables of form 1 come without. Without an index, the primary key sees to it that of several writers who
    do this at once just one inserts the row.
    """
    turns = await _turns(table)
    if len(turns) > 1:
        await table.delete(IS_TURN)
    if len(turns) != 1:
        await merge(table, first_turn(await table.schema()), Merge(when_not_matched_insert_all=True))


async def sweep(table: CoreTable) -> int:
    """Delete the tombs of a chunks table: before it is compacted, for Lance cannot index tombs alone.

    Returns:
        How many there were; without any, nothing is committed.
    """
    tombs = await table.count_rows(IS_TOMB)
    if tombs:
        await table.delete(IS_TOMB)
    return tombs


async def _merged(table: CoreTable, rows: pa.Table, turn: int, still_ours: StillOurs) -> bool:
    """One commit, if the turn is still this one; otherwise none, and False."""
    # Lance evaluates this over the version that it commits onto, and nothing but an error ends the commit.
    unless_others_came = f"1 / CAST((target.id <> '{TURN}' OR target.{TURN_COLUMN} = {turn}) AS INT) = 1"
    how = Merge(
        when_matched_update_all=True,
        when_matched_update_all_condition=unless_others_came,
        when_not_matched_insert_all=True,
        use_index=await _is_covered(table),
    )
    if how.use_index:
        rows = await _in_stored_form(rows)
    await still_ours()
    try:
        await merge(table, rows, how)
    except RuntimeError as error:
        if "Divide by zero" not in str(error):
            raise
        return False
    return True


async def _is_covered(table: CoreTable) -> bool:
    """Whether a merge through the index on the id reads less than one that reads all ids."""
    stats = await table.index_stats(ID_INDEX)
    if stats is None:
        return False
    return stats["num_unindexed_rows"] <= min(UNINDEXED_ROWS, stats["num_indexed_rows"])


async def _turn(table: CoreTable) -> tuple[int, str | None]:
    """Its number, and what the last batch was about."""
    turns = await _turns(table)
    if len(turns) != 1:
        await ensure_turn(table)
        turns = await _turns(table)
    return turns[0]


async def _turns(table: CoreTable) -> list[tuple[int, str | None]]:
    rows = (await _core.selected(table, [TURN_COLUMN, ABOUT_COLUMN], IS_TURN)).to_pylist()
    return [(row[TURN_COLUMN], row[ABOUT_COLUMN]) for row in rows]


async def _ids(table: CoreTable, documents: Collection[tuple[str, str]]) -> set[str]:
    """The stored ids of these documents' chunks."""
    found = (await _core.selected(table, ["id", "source", "key"], with_keys_of(documents))).to_pylist()
    wanted = set(documents)
    return {row["id"] for row in found if (row["source"], row["key"]) in wanted}


def _turn_row(turn: int, about: str | None, schema: pa.Schema) -> pa.Table:
    return _bare_rows([TURN], schema, {TURN_COLUMN: [turn], ABOUT_COLUMN: [about]})


def _bare_rows(
    ids: Sequence[str], schema: pa.Schema, values: Mapping[str, Sequence[object]] = MappingProxyType({})
) -> pa.Table:
    """Rows that are NULL but for their ids and these values: no search and no filter finds them."""
    columns = {"id": ids, **values}
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(len(ids), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


async def _in_stored_form(rows: pa.Table) -> pa.Table:
    """The same rows, with JSON as Lance stores it: through an index, it does not convert it in merging."""
    for number, field in enumerate(rows.schema):
        if isinstance(field.type, pa.JsonType):
            texts = rows[field.name].to_pylist()
            distinct = list(dict.fromkeys(text for text in texts if text is not None))
            encoded = dict(zip(distinct, await _encoded(distinct), strict=True)) if distinct else {}
            column = pa.array([encoded.get(text) for text in texts], pa.large_binary())
            rows = rows.set_column(
                number, pa.field(field.name, pa.large_binary(), metadata=STORED_JSON), column
            )
    return rows


async def _encoded(texts: Sequence[str]) -> list[bytes]:
    """What Lance stores for these JSON texts.

    It has no function for that: they are stored in a table in memory, each as a part of another value, and
    a part is given as it is stored. 3 ms for fifty texts.
    """
    whole = pa.array([f'{{"part": {text}}}' for text in texts], pa.string())
    columns = {
        "number": pa.array(range(len(texts)), pa.int64()),
        "whole": pa.ExtensionArray.from_storage(pa.json_(), whole),
    }
    memory = await _core.connect("memory://", {})  # its own: two such connections share nothing
    query = (await memory.create_table("scratch", "create", pa.table(columns).to_reader())).query()
    query.select([("number", "number"), ("part", "json_get(whole, 'part')")])
    parts: list[bytes] = (await _core.collected(query)).sort_by("number")["part"].to_pylist()
    return parts
