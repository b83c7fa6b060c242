"""The journal and the spending of the LanceDB store: what was paid for outlives crashes and rebuilds."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import anyio
import lancedb
import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import StoreRefused
from pipeline.records import EmbeddingSpace
from pipeline.stores import _journal, _tables
from pipeline.stores._journal import LOOK_AFTER, journal_rows
from pipeline.stores._schema import LEASE
from pipeline.stores._upkeep import SMALL_FRAGMENTS
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_reader import LanceReader
from tests.contract.store_contract import SPACE, codes, drawn, embedded, numbered, run_at, spent_at

OTHER = EmbeddingSpace(provider="test", model="another", dimensions=64, encoding="binary")


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "db")


async def tables_in(uri: str) -> set[str]:
    return set((await (await lancedb.connect_async(uri)).list_tables()).tables)


async def journal_of(uri: str) -> lancedb.AsyncTable:
    return await (await lancedb.connect_async(uri)).open_table("journal")


async def fragments(uri: str) -> int:
    stats = cast("dict[str, dict[str, int]]", await (await journal_of(uri)).stats())
    return stats["fragment_stats"]["num_fragments"]


def on_disk(uri: str) -> int:
    """Bytes of all that the journal has ever written and that is still there."""
    return sum(path.stat().st_size for path in Path(uri, "journal.lance").rglob("*") if path.is_file())


PAY_AND_DIE = """
import asyncio, os, sys
from pipeline.stores.lance import LanceStore
from tests.contract.store_contract import SPACE, codes

async def main():
    store = await LanceStore.open(sys.argv[1], space=SPACE)
    await store.journal({"paid": codes(5, seed="paid")})
    os._exit(9)

asyncio.run(main())
"""


async def test_a_crash_between_the_journal_and_the_commit_costs_nothing(uri: str) -> None:
    died = subprocess.run([sys.executable, "-c", PAY_AND_DIE, uri], check=False)  # noqa: ASYNC221 - nothing else runs
    assert died.returncode == 9
    after = await LanceStore.open(uri, space=SPACE)
    assert await after.counts() == {}
    found = await after.vectors(["paid", "not paid"])
    assert {key: vectors.tobytes() for key, vectors in found.items()} == {
        "paid": codes(5, seed="paid").tobytes()
    }


async def test_settings_that_are_switched_back_find_all_that_was_paid_for(uri: str) -> None:
    before = await LanceStore.open(uri, space=SPACE)
    documents = [embedded(key, "one", "two", group_key=f"old {key}") for key in numbered(20)]
    await before.journal({d.prepared.state.group_keys[0]: d.vectors[0] for d in documents})
    await before.replace(documents)

    other = await LanceStore.open(uri, space=OTHER, rebuild=True)
    new = drawn(OTHER, 2)
    await other.journal({"new": new})
    assert np.array_equal((await other.vectors(["new"]))["new"], new), "staged or not, it is one journal"
    await other.replace([embedded("000", "one", "two", vectors=new, group_key="new")])
    await other.publish()
    both = {"chunks", "documents", "chunks_1", "documents_1"}
    assert await tables_in(uri) == {*both, "live", "journal"}
    assert (await other.vectors(["old 000", "new"])).keys() == {"new"}, "vectors of another space are none"

    back = await LanceStore.open(uri, space=SPACE, rebuild=True)
    found = await back.vectors([f"old {key}" for key in numbered(20)])
    assert len(found) == 20
    for document in documents:
        assert np.array_equal(found[document.prepared.state.group_keys[0]], document.vectors[0])


async def test_tables_without_a_journal_work_and_get_one_with_the_first_vectors_paid(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    document = embedded("a.md", "word")
    await store.replace([document])
    await store.upkeep()
    assert await tables_in(uri) == {"chunks", "documents"}
    again = await LanceStore.open(uri, space=SPACE)
    keys = [*document.prepared.state.group_keys, "later"]
    assert len(await again.vectors(keys)) == 1
    assert await again.spending() == await (await LanceReader.open(uri)).spending() == []
    await store.journal({"later": codes(1)})
    await store.spent(spent_at(datetime.now(UTC)))
    assert await tables_in(uri) == {"chunks", "documents", "journal", "spending"}
    assert len(await again.vectors(keys)) == 2


async def test_to_keep_how_a_run_went_makes_no_other_table(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    await store.ran(run_at(datetime.now(UTC), "attic", error="no such folder"))
    assert await tables_in(uri) == {"runs"}
    assert await (await LanceReader.open(uri)).runs() == await store.runs() != []
    other = await LanceStore.open(uri, space=replace(SPACE, model="another"))
    await other.replace([embedded("a.md", "word")])  # no space is pinned yet
    assert [run.source for run in await other.runs()] == ["attic"]


async def test_looking_things_up_writes_nothing(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    await store.journal({"a": codes(1)})
    version = await (await journal_of(uri)).version()
    again = await LanceStore.open(uri, space=SPACE)
    assert len(await again.vectors(["a", "b"])) == 1
    await again.upkeep()
    assert await (await journal_of(uri)).version() == version


async def test_a_reader_tells_what_was_spent_as_soon_as_it_is_kept(uri: str) -> None:
    reader = await LanceReader.open(uri)
    assert await reader.spending() == []
    store = await LanceStore.open(uri, space=SPACE)
    paid = spent_at(datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC), tokens=7)
    await store.spent(paid)
    [told] = await reader.spending()
    assert told == paid
    assert told.at.utcoffset() == timedelta(0)
    for day in range(1, SMALL_FRAGMENTS + 5):
        await store.spent(spent_at(paid.at + timedelta(days=day)))
    await store.upkeep()
    table = await (await lancedb.connect_async(uri)).open_table("spending")
    stats = cast("dict[str, dict[str, int]]", await table.stats())
    assert stats["fragment_stats"]["num_fragments"] == 1
    assert len(await reader.spending()) == SMALL_FRAGMENTS + 5


async def test_a_table_that_bears_the_name_of_the_lease_is_left_alone(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE, journal_bytes=1)
    await store.journal({"a": codes(1)})
    database = await lancedb.connect_async(uri)
    await database.create_table(LEASE, schema=pa.schema([("id", pa.string())]))
    await store.upkeep()
    assert LEASE in await tables_in(uri)
    assert len(await store.vectors(["a"])) == 1


async def test_tables_of_somebody_else_are_refused_by_name(uri: str) -> None:
    database = await lancedb.connect_async(uri)
    for name in ("journal", "spending"):
        await database.create_table(name, schema=pa.schema([("id", pa.string())]))
    store = await LanceStore.open(uri, space=SPACE)
    for refused in (store.journal({"a": codes(1)}), store.vectors(["a"]), store.upkeep()):
        with pytest.raises(StoreRefused, match='/journal" was not made by Docweave'):
            await refused
    with pytest.raises(StoreRefused, match='/spending" was not made by Docweave'):
        await store.spent(spent_at(datetime.now(UTC)))
    with pytest.raises(StoreRefused, match='/spending" was not made by Docweave'):
        await (await LanceReader.open(uri)).spending()


async def test_rows_that_do_not_add_up_are_as_good_as_none(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    await store.journal({"whole": codes(3)})
    table = await journal_of(uri)
    [row] = (await table.query().to_arrow()).to_pylist()
    await table.add(
        pa.Table.from_pylist(
            [
                row | {"group_key": "short", "vectors": row["vectors"][:-1]},
                row | {"group_key": "many", "chunks": 4},
                row | {"group_key": "bits", "encoding": "binary"},
                row | {"group_key": "elsewhere", "model": "another"},
            ],
            schema=await table.schema(),
        )
    )
    assert (await store.vectors(["short", "many", "bits", "elsewhere", "whole"])).keys() == {"whole"}


async def test_a_journal_of_no_size_leaves_what_others_keep_alone(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    await store.journal({"a": codes(1)})
    without = await LanceStore.open(uri, space=SPACE, journal_bytes=0)
    await without.journal({"b": codes(1)})
    assert await without.vectors(["a", "b"]) == {}
    await without.upkeep()
    assert (await store.vectors(["a", "b"])).keys() == {"a"}


async def test_upkeep_compacts_the_journal_when_much_is_new_and_keeps_no_copies(uri: str) -> None:
    store = await LanceStore.open(uri, space=SPACE)
    for key in numbered(SMALL_FRAGMENTS - 1):
        await store.journal({key: codes(600, seed=key)})  # 9,600 bytes
    await store.upkeep()
    assert await fragments(uri) == SMALL_FRAGMENTS - 1
    await store.journal({"last": codes(600)})
    await store.upkeep()
    assert await fragments(uri) == 1
    assert on_disk(uri) < 1.3 * SMALL_FRAGMENTS * 9_600
    assert len(await store.vectors([*numbered(SMALL_FRAGMENTS - 1), "last"])) == SMALL_FRAGMENTS
    assert LEASE not in await tables_in(uri)

    await store.journal({f"{n}": codes(1) for n in range(500)})
    for key in numbered(SMALL_FRAGMENTS):
        await store.journal({f"later {key}": codes(1)})
    await store.upkeep()
    assert await fragments(uri) == SMALL_FRAGMENTS + 2, "little is new: not worth writing all of it"
    await store.journal({f"new {n}": codes(1) for n in range(200)})
    await store.upkeep()
    assert await fragments(uri) == 1


async def test_what_is_evicted_gives_its_space_back_within_a_run_too(uri: str) -> None:
    limit = 100_000
    store = await LanceStore.open(uri, space=SPACE, journal_bytes=limit)
    names = numbered(2 * LOOK_AFTER)
    for name in names[:LOOK_AFTER]:
        await store.journal({name: codes(600, seed=name)})
    assert on_disk(uri) < 1.3 * limit
    found = await store.vectors(names)
    assert 5 < len(found) <= 10
    assert list(found) == names[LOOK_AFTER - len(found) : LOOK_AFTER]
    for name in names[LOOK_AFTER:]:
        await store.journal({name: codes(600, seed=name)})
    assert on_disk(uri) < 1.3 * limit
    assert names[-1] in await store.vectors(names)


async def test_stores_that_write_look_up_and_compact_at_once_lose_nothing(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_journal, "LOOK_AFTER", 5)
    stores = [await LanceStore.open(uri, space=SPACE, journal_bytes=150_000) for _ in range(4)]

    async def pay(number: int) -> None:
        for turn in range(40):
            paid = {f"{number}/{turn}": codes(60, seed=f"{number}/{turn}"), f"shared {turn}": codes(2)}
            await stores[number].journal(paid)
            found = await stores[(number + 1) % 4].vectors(list(paid))
            assert {k: v.tobytes() for k, v in found.items()} == {k: v.tobytes() for k, v in paid.items()}

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(pay, number)
    await stores[0].upkeep()
    assert len(await stores[0].vectors([f"{n}/{turn}" for n in range(4) for turn in range(35, 40)])) == 20
    assert on_disk(uri) < 3 * 150_000
    assert LEASE not in await tables_in(uri)


async def test_a_lease_is_had_by_one_and_ends_with_whoever_dies(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = [await LanceStore.open(uri, space=SPACE) for _ in range(2)]
    first, second = [await store._tenure.tables() for store in stores]
    async with first.lease(LEASE) as mine:
        async with second.lease(LEASE) as theirs:
            assert (mine, theirs) == (True, False)
        async with second.lease(LEASE) as again:
            assert not again
    async with second.lease(LEASE) as free:
        assert free
        monkeypatch.setattr(_tables, "LEASE_ENDS", timedelta(0))
        async with first.lease(LEASE) as old:
            assert not old, "an old one is cleared away first"
        async with first.lease(LEASE) as next_time:
            assert next_time


async def test_a_row_says_what_it_counts_and_when_it_was_kept() -> None:
    space = replace(SPACE, encoding="float16")
    before = datetime.now(UTC)
    [row] = journal_rows({"a": drawn(space, 3)}, space).to_pylist()
    assert {name: row[name] for name in asdict(space)} == asdict(space)
    assert (row["group_key"], row["chunks"], len(row["vectors"])) == ("a", 3, 96)
    assert row["bytes"] == 96 + 64
    assert before <= row["kept_at"] <= datetime.now(UTC)
